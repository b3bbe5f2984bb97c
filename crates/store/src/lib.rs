//! The index's engines behind one small trait.
//!
//! A store keeps rows (bytes to bytes, ordered) in partitions. It knows nothing of buckets or objects: the `index` and
//! `control` rooms give the rows their meaning.

mod api;
pub mod embedded;
mod image;
pub mod memory;
mod past;
pub mod suite;
mod versions;

pub use api::{Batch, Committed, Fence, Reread, Rows, Scan, Skips, Snapshot, Store, StoreError};
pub use embedded::{Embedded, LaidRows, OldLog, Prepared, lay};
pub use image::{SnapshotHead, SnapshotRows, SnapshotStream};
pub use memory::Memory;
pub use past::{NextRows, Places, ReadableRows, next_rows, readable_rows};
