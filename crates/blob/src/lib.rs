//! The byte path: a blob (an object's bytes) as needles in extents across nodes.
//!
//! ```text
//!   put:  pieces ─▶ Frames (crc32c a block, as bytes enter) ─▶ chunk ─▶ Pool (an open extent) ─▶ Node
//!   get:  chunks ─▶ blocks of the range ─▶ Node ─▶ every crc checked ─▶ bytes, a few frames read ahead
//! ```
//! Invariants:
//! - A byte is covered by a crc32c computed as it entered; no byte leaves without that crc checked again (I5).
//! - A stored chunk is answered only once its needle is durable, or ordered in a journal that its name will be written
//!   behind (I1, I3). Bytes of a put that fails are orphans: nothing names them.
//! - Memory comes from a budget (`world::Budget`): a few blocks for each put and get before it begins, whole frames, what
//!   [`Config::resend_bytes_max`] keeps, and frames read ahead only while there is more.
//! - An extent is held only while whole frames come: a client's pace never holds one for longer than
//!   [`Config::frame_wait_ms`].
//!
//! Not here: what the bytes mean, their names, their S3 checksums (`objects`), which disk an extent is on (`control`).

mod append;
mod blob;
mod config;
mod frames;
mod memory;
mod pool;
mod read;
mod room;
mod source;
mod unnamed;

pub use blob::Blob;
pub use config::Config;
pub use read::Reader;
pub use source::{PutError, Source};
pub use unnamed::Unnamed;
