//! The one list of error kinds. Each room has its own `thiserror` enum and maps it here by [`Kind::kind`].

/// What sort of failure it is, for whoever must decide what to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// It is proven not to be there. An error is never absence.
    NotFound,
    /// The state refuses it: a precondition, a name taken, a stale epoch.
    Conflict,
    /// The caller's input is wrong and will stay wrong.
    Invalid,
    /// The caller may not.
    Denied,
    /// Bytes on stable storage are not what was written.
    Corrupt,
    /// The disk has no room; deletes and reads go on.
    Full,
    /// Over a limit now; later it may pass.
    Busy,
    /// A peer, disk or owner is not there now; whether the act took effect is known to be no.
    Unavailable,
    /// It may or may not have taken effect: ask again with the same command id.
    Unknown,
    /// The disk failed, or a bug; a person must look.
    Fault,
}

/// Errors that know their kind.
pub trait Kind {
    /// The kind of this error.
    fn kind(&self) -> ErrorKind;
}
