//! The checksums S3 clients may send with a body and ask back.

/// Which checksum. The numbers are stored (docs/formats/records.md).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes.
    Crc32 = 1,
    /// CRC-32C (Castagnoli), 4 bytes.
    Crc32c = 2,
    /// CRC-64/NVME, 8 bytes.
    Crc64Nvme = 3,
    /// SHA-1, 20 bytes.
    Sha1 = 4,
    /// SHA-256, 32 bytes.
    Sha256 = 5,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// Length of the raw value.
    pub fn len_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The stored number back; `None` for a number this build does not know.
    pub fn from_number(n: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|a| *a as u32 == n)
    }

    /// Its S3 name: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Whether part checksums can be combined into the whole object's.
    pub fn combines(self) -> bool {
        matches!(self, Self::Crc32 | Self::Crc32c | Self::Crc64Nvme)
    }
}

/// How a multipart object's checksum is made. The numbers are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ChecksumKind {
    /// Of all the bytes.
    FullObject = 1,
    /// Of the parts' checksums.
    Composite = 2,
}

/// A checksum's algorithm and raw value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Checksum {
    /// Which.
    pub algorithm: ChecksumAlgorithm,
    /// [`ChecksumAlgorithm::len_bytes`] bytes, big-endian for the CRCs.
    pub value: Vec<u8>,
}
