//! Sizes and times of the byte path; the defaults are `types::limits`, the simulation shrinks them.

use std::collections::BTreeSet;
use types::{DiskId, limits};

/// Sizes and times of the byte path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of one chunk at most; a multiple of `frame_bytes_max`.
    pub chunk_bytes_max: u64,
    /// Bytes of one frame at most; a multiple of `limits::BLOCK_BYTES`.
    pub frame_bytes_max: usize,
    /// Chunks up to here are sent whole through the journal.
    pub small_bytes_max: usize,
    /// Extents held open at most; one of them is kept free of large chunks.
    pub extents_max: usize,
    /// Frames of a get under way or waiting, at most.
    pub read_ahead_frames: usize,
    /// Frames of a chunk under way are kept up to here, so that it can be sent again after a failure.
    pub resend_bytes_max: usize,
    /// How long an extent is held for a frame that does not come whole.
    pub frame_wait_ms: u64,
    /// How long a chunk may hold an extent, by the pace that its first frame came at: a slower client sends smaller chunks,
    /// down to one frame, which is whole before an extent is held at all.
    pub chunk_hold_ms: u64,
    /// How long a chunk's frames may let an extent wait in all, once another put waits for an extent.
    pub dawdle_ms_max: u64,
    /// How long a put waits for an extent before it is told that the store is busy.
    pub extent_wait_ms_max: u64,
    /// Disks whose journals the index's log is written behind too, so that an append may be answered ordered.
    /// `None`: all. Elsewhere every append waits for stable storage.
    pub ordered_disks: Option<BTreeSet<DiskId>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chunk_bytes_max: limits::CHUNK_BYTES_MAX,
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            small_bytes_max: limits::SMALL_APPEND_BYTES_MAX,
            extents_max: limits::OPEN_EXTENTS_MAX,
            read_ahead_frames: 4,
            resend_bytes_max: 4 * limits::FRAME_BYTES_MAX,
            frame_wait_ms: 15_000,
            chunk_hold_ms: 10_000,
            dawdle_ms_max: 30_000,
            extent_wait_ms_max: 45_000,
            ordered_disks: None,
        }
    }
}

impl Config {
    /// # Panics
    /// When sizes do not fit each other: whoever builds a configuration has made a mistake.
    pub(crate) fn assert_sound(&self) {
        assert!(
            self.frame_bytes_max > 0 && self.frame_bytes_max.is_multiple_of(limits::BLOCK_BYTES),
            "a frame is whole blocks"
        );
        assert!(
            self.frame_bytes_max <= limits::FRAME_BYTES_MAX,
            "nodes take no larger frame"
        );
        assert!(
            self.chunk_bytes_max > 0 && self.chunk_bytes_max.is_multiple_of(self.frame_bytes_max as u64),
            "a full chunk is whole frames"
        );
        assert!(
            self.chunk_bytes_max <= limits::CHUNK_BYTES_MAX,
            "nodes take no larger chunk"
        );
        assert!(
            self.small_bytes_max <= self.frame_bytes_max,
            "a small append is one frame"
        );
        assert!(
            self.small_bytes_max <= limits::SMALL_APPEND_BYTES_MAX,
            "nodes take no larger small append"
        );
        assert!(
            self.extents_max >= 2,
            "one extent for small appends, one for large ones"
        );
        assert!(
            self.extent_wait_ms_max > self.dawdle_ms_max,
            "who waits sees those who dawdle go"
        );
        assert!(
            self.read_ahead_frames >= 1,
            "a get reads a frame at a time at least"
        );
    }
}
