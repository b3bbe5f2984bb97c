//! The disk: a data directory with its journal and its extents of needles; append, read, seal, recover, walk, compact.
//!
//! Not here: placement, replication, who may write (the node and the control plane know), the index (it writes its log's
//! batches through [`Journal`]). No async: what runs in the background runs in `world::Exec` loops.
//!
//! ```text
//!   append (small) ─▶ extent file, page cache ─┐
//!        (large) ──▶ extent file, synced ──────┼─▶ journal: one write + one fdatasync for all that wait
//!   index batch ───────────────────────────────┘        │
//!   checkpoint: extents synced, table written ──────────┴─▶ released: the ring goes round
//! ```
//! docs/formats/{superblock,journal,extent,needle}.md are the bytes.

mod adopt;
mod append;
mod ballast;
mod buffers;
mod checkpoint;
mod compact;
mod copying;
mod create;
mod dir;
mod error;
mod extent;
mod fields;
mod footer;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod generations;
mod identity;
mod journal;
mod keeping;
mod last;
mod leaving;
mod mapping;
mod needle;
mod open;
mod places;
mod read;
mod replay;
mod room;
mod run;
mod sizes;
mod superblock;
mod survey;
mod table;
mod verify;
mod walk;

pub use adopt::{Examined, Said, examine, extent_path};
pub use append::{Body, LargeAppend};
pub use compact::Compaction;
pub use create::DataDirConfig;
pub use dir::DataDir;
pub use error::ExtentError;
pub use extent::{Appended, Status};
pub use identity::{Identity, identify, is_copy_of};
pub use journal::{Consumer, Done, Journal, JournalStats, LogBatch, Lost, RecordType};
pub use needle::Head;
pub use open::{Found, Judge, Opened, RecoveryReport};
pub use read::Read;
pub use superblock::{FORMAT, Superblock, write_whole};
pub use survey::Survey;
pub use walk::{Cursor, Walked};
