//! Fixed little-endian fields, as every format of this room has them.

/// crc32c of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// crc32c of bytes whose is `a` and then `b_bytes` more whose is `b`.
pub(crate) fn joined(a: u32, b: u32, b_bytes: u64) -> u32 {
    let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
    crc_fast::checksum_combine(algorithm, u64::from(a), u64::from(b), b_bytes) as u32
}

/// crc32c of `salt` and then `bytes`.
pub(crate) fn salted_crc32c(salt: u64, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&salt.to_le_bytes());
    digest.update(bytes);
    digest.finalize() as u32
}

/// Reads and writes numbers of a fixed layout. Out of bounds is a bug: callers check the length once.
pub(crate) trait Fields {
    fn u16_at(&self, at: usize) -> u16;
    fn u32_at(&self, at: usize) -> u32;
    fn u64_at(&self, at: usize) -> u64;
    fn u128_at(&self, at: usize) -> u128;
}

impl Fields for [u8] {
    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes(self[at..at + 2].try_into().expect("two bytes"))
    }
    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self[at..at + 4].try_into().expect("four bytes"))
    }
    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self[at..at + 8].try_into().expect("eight bytes"))
    }
    fn u128_at(&self, at: usize) -> u128 {
        u128::from_le_bytes(self[at..at + 16].try_into().expect("sixteen bytes"))
    }
}

/// Puts the bytes of a field at its place.
pub(crate) fn put(into: &mut [u8], at: usize, field: &[u8]) {
    into[at..at + field.len()].copy_from_slice(field);
}

/// `n` rounded up to a multiple of `unit`.
pub(crate) fn round_up(n: u64, unit: u64) -> u64 {
    n.div_ceil(unit) * unit
}
