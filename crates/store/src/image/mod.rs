//! An index snapshot: every row of every partition as of one moment, in one file that says itself whether it is whole
//! (docs/formats/index-snapshot.md).
//!
//! ```text
//!   0  magic "CAIRNSNP" · 8 format u16 = 1 · 10 zero u16 · 12 partitions u32 · 16 disk, 16 bytes big-endian
//!  32  taken at, ms since 1970, u64 · 40 zeroes · 60 crc32c of the 60 bytes before
//!  64  blocks, each: 0 kind u32 · 4 length of its body u32 · 8 number u64, from 0 · 16 partition u64
//!                   24 crc field of the block before (of the head: its crc) u32 · 28 crc32c of the 28 bytes before and the body u32
//!                   body
//!      kind 1 rows, as in a batch of the log: key length u16 · bytes shared with the key before u16 · value length u32 · rest of the key · value
//!      kind 2 the partition's end: its rows u64
//!      kind 3 the end of all: rows u64. Nothing follows
//! ```
//! Each block names the one before, so none can be missing, and none be another snapshot's. All numbers little-endian.

mod rows;
mod stream;

pub use rows::{SnapshotHead, SnapshotRows};
pub use stream::SnapshotStream;

use crc_fast::{CrcAlgorithm, Digest, checksum};
use types::limits::BATCH_BYTES_MAX;

const MAGIC: &[u8; 8] = b"CAIRNSNP";
const FORMAT: u16 = 1;
const HEAD_BYTES: usize = 64;
const BLOCK_HEAD_BYTES: usize = 32;
const ROW_HEAD_BYTES: usize = 8;
/// A block is closed once its body has so many bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// What a block's body can be at most: one row may be as large as a batch.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + BATCH_BYTES_MAX;

const ROWS: u32 = 1;
const PARTITION_END: u32 = 2;
const END: u32 = 3;

fn head_crc(head: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, &head[..60]) as u32
}

fn block_crc(head: &[u8], body: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&head[..28]);
    digest.update(body);
    digest.finalize() as u32
}
