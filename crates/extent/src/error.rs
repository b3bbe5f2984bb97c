//! What can go wrong on one disk.

use std::io;
use types::{Epoch, ErrorKind, ExtentId, Kind};

const SCARCE: &str = "no descriptor or no memory is free";

/// A disk's failure or refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// Another process has the data directory.
    #[error("another process has this data directory open: {0}")]
    Locked(String),
    /// A newer build wrote it.
    #[error(
        "{what} has format version {found}; this build knows up to {known}. Nothing was changed: use a newer build"
    )]
    Newer {
        /// Which file.
        what: String,
        /// Its version.
        found: u32,
        /// The highest this build reads.
        known: u32,
    },
    /// Bytes are not what was written.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// The extent is not on this disk.
    #[error("no extent {0} here")]
    NoExtent(ExtentId),
    /// Another writer has the extent.
    #[error("epoch {asked} is not the extent's epoch {now}")]
    StaleEpoch {
        /// The caller's.
        asked: Epoch,
        /// The extent's.
        now: Epoch,
    },
    /// The extent refuses appends for ever.
    #[error("the extent is sealed")]
    Sealed,
    /// The extent still takes appends: it is neither compacted nor removed.
    #[error("the extent is not sealed")]
    NotSealed,
    /// Needles are left in it: it is not removed.
    #[error("{0} needles are left in the extent")]
    NotEmpty(u64),
    /// A file of the extent with needles is there, of which nothing is known: no other is made in its place.
    #[error("extent {0} is not known, but a file of it holds needles")]
    Taken(ExtentId),
    /// The needle does not fit into what is left of the extent.
    #[error("the extent has no room for it")]
    NoRoom,
    /// The disk has no room for new data.
    #[error("the disk is full: {0}")]
    Full(String),
    /// A queue is over its bound, or another append is under way.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The caller broke the rules of the call.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Refused, nothing happened: a write or sync of this disk failed earlier.
    #[error("the disk is out of service: {0}")]
    OutOfService(String),
    /// The write or sync failed: whether it survives is not known.
    #[error("the disk failed: {0}")]
    Unknown(String),
}

impl ExtentError {
    /// Of an I/O error at `what`.
    pub(crate) fn io(what: &str, e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(format!("{what}: {e}")),
            _ if world::is_scarce(e) => Self::Busy(SCARCE),
            _ => Self::OutOfService(format!("{what}: {e}")),
        }
    }

    /// Of a file, or bytes of it, that should be there and cannot be had: `what`.
    pub(crate) fn unread(what: String, e: &io::Error) -> Self {
        if world::is_scarce(e) {
            Self::Busy(SCARCE)
        } else {
            Self::Corrupt(format!("{what}: {e}"))
        }
    }
}

impl Kind for ExtentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked(_) => ErrorKind::Unavailable,
            Self::Newer { .. } | Self::Invalid(_) => ErrorKind::Invalid,
            Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::NoExtent(_) => ErrorKind::NotFound,
            Self::StaleEpoch { .. }
            | Self::Sealed
            | Self::NotSealed
            | Self::NotEmpty(_)
            | Self::Taken(_)
            | Self::NoRoom => ErrorKind::Conflict,
            Self::Full(_) => ErrorKind::Full,
            Self::Busy(_) => ErrorKind::Busy,
            Self::OutOfService(_) => ErrorKind::Fault,
            Self::Unknown(_) => ErrorKind::Unknown,
        }
    }
}
