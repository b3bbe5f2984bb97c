//! An index of an earlier moment laid over the extents of a stopped directory: in which order, and above which numbers.
//!
//! ```text
//!   sealed ─▶ what needles tell ─┐
//!   given_before ─▶ what the index tells that goes ─┼─▶ numbers that nobody had ─▶ lay_index: rows raised, control rows made anew
//!   Index::read ─▶ what the snapshot's rows tell ───┘
//! ```
//! Rows are of an earlier moment than the numbers that were given since: extents, sessions, buckets and versions get higher ones, and every
//! session that was has ended. Here is no word for an operator: the command line has those, and the simulation, which runs these very steps
//! and cuts the power between them, needs none.

mod lay;
mod snapshot;
mod under;

pub use lay::lay_index;
pub use snapshot::{Index, PartitionRow};
pub use under::{Seen, Under, given_before, sealed};

use store::StoreError;
use types::{Kind, PartitionId};
use wire::Fault;

/// Partitions that number what they make by a row of their own.
pub const WITH_STATE: [PartitionId; 2] = [PartitionId::DIRECTORY, PartitionId::FIRST_DATA];

/// Why an index is not laid.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot, or the index, cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node does not say what it has, or does not seal it.
    #[error(transparent)]
    Node(#[from] Fault),
}

impl Kind for RestoreError {
    fn kind(&self) -> types::ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Node(fault) => fault.kind,
        }
    }
}
