//! The digests of a body as it passes: the MD5 of its ETag and the checksums asked for.

use crate::md5::{Ended, Lanes, Md5};
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use std::sync::Arc;
use types::{AccountId, Checksum, ChecksumAlgorithm, ChecksumKind};
use wire::records::{self, ObjectRecord};

/// Digests under way. Checksums are taken of pieces as they come; the MD5, which costs more than all else of a large body, of the frames
/// that it is stored from, beside those of other bodies.
pub(crate) struct Digests {
    md5: Md5,
    sums: Vec<(ChecksumAlgorithm, Sum)>,
}

enum Sum {
    Crc(Box<Crc>),
    Sha(Context),
}

/// What a body turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digested {
    /// MD5 of all its bytes.
    pub(crate) md5: [u8; 16],
    /// The checksums asked for, in that order.
    pub(crate) checksums: Vec<Checksum>,
}

impl Digested {
    /// The record of an object that is these bytes and `owner`'s, with all their checksums or only the `kept` one. What else
    /// was said of it is the caller's to add.
    pub(crate) fn record(
        mut self,
        size: u64,
        kept: Option<ChecksumAlgorithm>,
        owner: AccountId,
    ) -> ObjectRecord {
        self.checksums
            .retain(|c| kept.is_none_or(|kept| kept == c.algorithm));
        ObjectRecord {
            size,
            etag_md5: self.md5.to_vec(),
            owner: owner.0,
            checksum_kind: ChecksumKind::FullObject as u32,
            checksums: recorded(self.checksums),
            ..ObjectRecord::default()
        }
    }
}

/// Checksums as records keep them.
pub(crate) fn recorded(checksums: Vec<Checksum>) -> Vec<records::Checksum> {
    let record = |c: Checksum| records::Checksum {
        algorithm: c.algorithm as u32,
        value: c.value,
    };
    checksums.into_iter().map(record).collect()
}

impl Digests {
    /// MD5 and `algorithms`, each once.
    pub(crate) fn new(algorithms: &[ChecksumAlgorithm], lanes: Option<Arc<Lanes>>) -> Self {
        let mut sums: Vec<(ChecksumAlgorithm, Sum)> = Vec::with_capacity(algorithms.len());
        for &algorithm in algorithms {
            if sums.iter().all(|(a, _)| *a != algorithm) {
                sums.push((algorithm, Sum::new(algorithm)));
            }
        }
        Self {
            md5: Md5::new(lanes),
            sums,
        }
    }

    /// Takes the next bytes, of which the MD5 is still to be taken.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for (_, sum) in &mut self.sums {
            match sum {
                Sum::Crc(crc) => crc.update(bytes),
                Sum::Sha(sha) => sha.update(bytes),
            }
        }
    }

    /// Takes the next bytes' MD5, from where they stand until they are written.
    pub(crate) async fn frame(&mut self, frame: &Bytes) -> Result<(), Ended> {
        self.md5.frame(frame).await
    }

    /// How many bytes have had their MD5 taken.
    pub(crate) fn framed(&self) -> u64 {
        self.md5.length()
    }

    pub(crate) async fn finish(self) -> Result<Digested, Ended> {
        Ok(Digested {
            md5: self.md5.finish().await?,
            checksums: self
                .sums
                .into_iter()
                .map(|(algorithm, sum)| Checksum {
                    algorithm,
                    value: sum.finish(algorithm.len_bytes()),
                })
                .collect(),
        })
    }
}

impl Sum {
    fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Crc32 => Self::Crc(Box::new(Crc::new(CrcAlgorithm::Crc32IsoHdlc))),
            ChecksumAlgorithm::Crc32c => Self::Crc(Box::new(Crc::new(CrcAlgorithm::Crc32Iscsi))),
            ChecksumAlgorithm::Crc64Nvme => Self::Crc(Box::new(Crc::new(CrcAlgorithm::Crc64Nvme))),
            ChecksumAlgorithm::Sha1 => Self::Sha(Context::new(&SHA1_FOR_LEGACY_USE_ONLY)),
            ChecksumAlgorithm::Sha256 => Self::Sha(Context::new(&SHA256)),
        }
    }

    fn finish(self, len_bytes: usize) -> Vec<u8> {
        match self {
            Self::Crc(crc) => crc.finalize().to_be_bytes()[8 - len_bytes..].to_vec(),
            Self::Sha(sha) => sha.finish().as_ref().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn known_answers_of_the_check_string() {
        // The check values of the CRC catalogue and of FIPS 180 and RFC 1321 for "123456789".
        let mut digests = Digests::new(&ChecksumAlgorithm::ALL, None);
        digests.update(b"1234");
        digests.update(b"56789");
        digests.frame(&Bytes::from_static(b"123456789")).await.unwrap();
        let digested = digests.finish().await.unwrap();
        assert_eq!(hex(&digested.md5), "25f9e794323b453885f5181f1b624d0b");
        let values: Vec<String> = digested.checksums.iter().map(|c| hex(&c.value)).collect();
        assert_eq!(values[0], "cbf43926");
        assert_eq!(values[1], "e3069283");
        assert_eq!(values[2], "ae8b14860a799888");
        assert_eq!(values[3], "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert_eq!(
            values[4],
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
        );
    }

    fn hex(b: &[u8]) -> String {
        b.iter().map(|b| format!("{b:02x}")).collect()
    }
}
