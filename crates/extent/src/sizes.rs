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
        let extent = whole(total / 64).clamp(2 * CHUNK_BYTES_MAX, 1024 * MIB);
        let sizes = Self {
            journal: whole(total / 16).clamp(JOURNAL_BYTES_MIN, 256 * MIB),
            extent,
            extent_step: whole(total / 1024).clamp(MIB, 16 * MIB),
            // With the half of it that stays free (`room`) it has room for three quarters of an extent written anew.
            ballast: whole(total / 16).min(whole(extent / 8 * 5)).max(4 * MIB),
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
        assert!(small.journal + small.ballast <= 40 * MIB);
        let large = Sizes::for_disk(4 << 40);
        assert_eq!((large.journal, large.extent), (256 * MIB, 1024 * MIB));
    }

    /// On a full disk half the ballast is free; of that and the ballast itself a compaction leaves a quarter.
    #[test]
    fn a_full_disk_has_room_to_compact_an_extent_worth_it() {
        for total in [2 << 30, 16 << 30, 100 << 30, 4 << 40] {
            let sizes = Sizes::for_disk(total);
            let needed = sizes.extent / 4 * 3 + sizes.extent / 64;
            assert!(sizes.ballast / 4 * 5 >= needed, "{sizes:?}");
        }
    }
}
