//! How large journal, extents and ballast are on a disk of a given size.

use types::limits::{CHUNK_BYTES_MAX, JOURNAL_BLOCK_BYTES, JOURNAL_BYTES_MIN};

const MIB: u64 = 1 << 20;

/// Sizes of a new data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) journal: u64,
    pub(crate) extent: u64,
    pub(crate) extent_step: u64,
    pub(crate) ballast: u64,
}

impl Sizes {
    /// For a disk of `total` bytes. An extent always has room for the largest chunk; it takes room only as it grows.
    pub(crate) fn for_disk(total: u64) -> Self {
        let whole = |n: u64| n / MIB * MIB;
        let sizes = Self {
            journal: whole(total / 16).clamp(JOURNAL_BYTES_MIN, 256 * MIB),
            extent: whole(total / 64).clamp(2 * CHUNK_BYTES_MAX, 1024 * MIB),
            extent_step: whole(total / 1024).clamp(MIB, 16 * MIB),
            ballast: whole(total / 64).clamp(4 * MIB, 256 * MIB),
        };
        assert!(sizes.journal.is_multiple_of(JOURNAL_BLOCK_BYTES as u64));
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_gets_small_files() {
        let small = Sizes::for_disk(256 * MIB);
        assert!(small.journal + small.ballast <= 32 * MIB);
        let large = Sizes::for_disk(4 << 40);
        assert_eq!((large.journal, large.extent), (256 * MIB, 1024 * MIB));
    }
}
