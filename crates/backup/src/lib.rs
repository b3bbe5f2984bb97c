//! Copies of a store: what is in one (docs/formats/backup.md), how it is made beside a server, how a directory is made of it.
//!
//! ```text
//!   DEST/cairn-backup                     says that this is one
//!   DEST/lock                             held while something is copied into it
//!   DEST/extents/<disk>/<extent>.<generation>.<epoch>.<end>.<salt>.<last>[.<map>]     an extent's bytes below its end
//!   DEST/snapshots/<taken>.snapshot       every row of the index as of one moment
//!   DEST/snapshots/<taken>.root-key       the root key's file
//!   DEST/snapshots/<taken>.manifest       names all of them; written last, by rename
//! ```
//! Invariants: a manifest names only what is whole and synced; a file that a manifest names is never written again, but for a
//! damaged copy by one that was proven whole before; so a copy that was broken off
//! is none, and the next one takes up what it left. Blocking: the command that copies does nothing else.
//!
//! Not here: where rows come from, and who keeps extents from going while they are copied (the server's commands), the bytes of
//! extents (crate `extent`).

mod copy;
mod dest;
mod known;
mod manifest;
mod target;

pub use copy::{Copied, Pace, copy_extent, copy_of_missing};
pub use dest::{Dest, Pruned};
pub use known::Known;
pub use manifest::{ExtentCopy, Kept, Manifest, Mark, Wanted};
pub use target::Target;

use types::{ErrorKind, Kind};

/// Why a copy is not made, or not used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or directory.
    #[error("{0}: {1}")]
    Io(String, #[source] std::io::Error),
    /// It is not what was written, with its place.
    #[error("damaged backup: {0}")]
    Corrupt(String),
    /// It is not what was asked for.
    #[error("{0}")]
    Refused(String),
    /// An extent of the store cannot be read.
    #[error(transparent)]
    Extent(#[from] extent::ExtentError),
}

impl Kind for BackupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_, e) if e.kind() == std::io::ErrorKind::StorageFull => ErrorKind::Full,
            Self::Io(..) => ErrorKind::Fault,
            Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::Refused(_) => ErrorKind::Invalid,
            Self::Extent(e) => e.kind(),
        }
    }
}

pub(crate) fn io(what: &str) -> impl FnOnce(std::io::Error) -> BackupError + '_ {
    move |e| BackupError::Io(what.to_owned(), e)
}
