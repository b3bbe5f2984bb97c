//! The storage-node role: serves the extents of its disks over [`wire::node::Node`].
//!
//! Not here: bytes on disk (the `extent` room), who may append (the control plane), redundancy (blob).
//!
//! ```text
//!   small append, small read ── on the caller: page cache and a queue
//!   large append, large read, open, seal, walk ── on the disk's I/O loops (several, so none waits for another's sync)
//!   compact, remove ── on the disk's loop for that, piece by piece
//!   checkpoint, ballast ── on the disk's upkeep loop, by the ticker, by the journal's pressure, at shutdown
//! ```
//! Every queue is bounded; a caller waits where one is full. There are no deadlines in here: callers have them.

mod appending;
mod disk;
mod local;
mod reclaim;
mod ticker;
mod translate;

pub use local::LocalNode;
