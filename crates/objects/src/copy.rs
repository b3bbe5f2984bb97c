//! Copies: an opened object's bytes put under another name, or as a part.
//!
//! The bytes are read, checked and written again. No needle is ever shared: garbage is booked by the one record that
//! names a needle, and until blobs are counted (`shared` in the formats) a second name would lose its bytes with the first.
//! What the source's record says of its bytes is held against them on the way, so a copy is never of other bytes.

use crate::get::GetReader;
use crate::service::Objects;
use crate::{Body, BodyError, Caller, Expect, ObjectsError, Opened, PutObject, PutPart};
use blob::Blob;
use bytes::Bytes;
use types::{
    BucketName, ByteRange, Checksum, ChecksumAlgorithm, ChecksumKind, ETag, ErrorKind, ObjectKey, UploadId,
};
use wire::Fault;
use wire::index::Precondition;
use wire::records::{ContentHeaders, ObjectRecord, Pair, PartRecord, PutAnswer};
use world::Share;

/// Where a copy goes, and what it is to be besides the bytes.
pub struct CopyObject {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Content headers to keep.
    pub headers: ContentHeaders,
    /// User metadata, names in lower case.
    pub metadata: Vec<Pair>,
    /// Tags.
    pub tags: Vec<Pair>,
    /// The checksum to keep; of the source's algorithm unless given.
    pub checksum: Option<ChecksumAlgorithm>,
    /// On what the key names now; decided in the commit.
    pub precondition: Precondition,
}

/// Which part a copy becomes.
pub struct CopyPart {
    /// Where.
    pub bucket: BucketName,
    /// Under which key.
    pub key: ObjectKey,
    /// Which upload.
    pub upload: UploadId,
    /// 1 to 10,000.
    pub number: u32,
    /// Which of the source's bytes; all of them unless given.
    pub range: Option<ByteRange>,
}

/// An object's bytes on their way back in. The put's memory has what reading takes, so that neither waits while the other holds some.
struct Reread {
    reader: GetReader,
    /// The put's memory.
    taken: Option<Share>,
}

impl Reread {
    fn new(reader: GetReader) -> Box<Self> {
        let (reader, taken) = reader.within();
        // Too little is no use: it is given back before the put waits for enough.
        let least = Blob::memory_of(reader.range().len(), reader.holds());
        let mut taken = taken.filter(|share| share.bytes() >= least);
        if let Some(share) = &mut taken {
            share.settle(least);
        }
        Box::new(Self { reader, taken })
    }
}

#[async_trait::async_trait]
impl Body for Reread {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let piece = self.reader.next().await.map_err(|error| match error {
            ObjectsError::Fault(fault) => fault,
            other => Fault::new(ErrorKind::Fault, other.to_string()),
        })?;
        Ok(piece)
    }

    fn holds(&self) -> u64 {
        self.reader.holds()
    }

    fn taken(&mut self) -> Option<Share> {
        self.taken.take()
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn trailer(&mut self) -> Vec<Checksum> {
        Vec::new()
    }
}

impl Objects {
    /// Puts an opened object's bytes under a name, its own too.
    ///
    /// # Errors
    /// As [`Objects::put`]; a fault of kind `Corrupt` when the bytes are not what the source's record says of them.
    pub async fn copy(
        &self,
        caller: &Caller,
        source: Opened,
        copy: CopyObject,
    ) -> Result<PutAnswer, ObjectsError> {
        let put = PutObject {
            bucket: copy.bucket,
            key: copy.key,
            length: source.record.size,
            expect: expect(&source.record),
            checksum: Some(copy.checksum.unwrap_or_else(|| algorithm(&source.record))),
            body: {
                drop(source.parts);
                Reread::new(source.reader)
            },
            headers: copy.headers,
            metadata: copy.metadata,
            tags: copy.tags,
            precondition: copy.precondition,
        };
        self.put(caller, put).await.map_err(blame_the_source)
    }

    /// Puts an opened object's bytes, or some of them, as a part.
    ///
    /// # Errors
    /// As [`Objects::put_part`] and [`Objects::copy`]; [`ObjectsError::BadRange`].
    pub async fn copy_part(
        &self,
        caller: &Caller,
        source: Opened,
        copy: CopyPart,
    ) -> Result<(ETag, PartRecord), ObjectsError> {
        let Opened {
            record,
            mut reader,
            parts,
            ..
        } = source;
        drop(parts);
        let expect = match copy.range {
            // Its checksums would become the part's own; the upload says which that has.
            None => Expect {
                checksums: Vec::new(),
                ..expect(&record)
            },
            Some(range) => {
                reader.select(range)?;
                Expect::default()
            }
        };
        let put = PutPart {
            bucket: copy.bucket,
            key: copy.key,
            upload: copy.upload,
            number: copy.number,
            length: reader.range().len(),
            body: Reread::new(reader),
            expect,
        };
        self.put_part(caller, put).await.map_err(blame_the_source)
    }
}

/// What a record says of all its bytes.
fn expect(source: &ObjectRecord) -> Expect {
    let whole = source.checksum_kind != ChecksumKind::Composite as u32;
    let checksum = |c: &wire::records::Checksum| {
        let algorithm = ChecksumAlgorithm::from_number(c.algorithm)?;
        Some(Checksum {
            algorithm,
            value: c.value.clone(),
        })
    };
    Expect {
        md5: source
            .etag_md5
            .as_slice()
            .try_into()
            .ok()
            .filter(|_| source.etag_parts == 0),
        checksums: source
            .checksums
            .iter()
            .filter(|_| whole)
            .filter_map(checksum)
            .collect(),
        trailing: Vec::new(),
    }
}

/// A composite checksum tells its algorithm too: the copy, which is one body, gets one of all its bytes.
fn algorithm(source: &ObjectRecord) -> ChecksumAlgorithm {
    let first = source.checksums.first();
    first
        .and_then(|c| ChecksumAlgorithm::from_number(c.algorithm))
        .unwrap_or(ChecksumAlgorithm::Crc64Nvme)
}

/// No client sent these bytes: where they are not what they should be, or do not come, the store is at fault.
fn blame_the_source(error: ObjectsError) -> ObjectsError {
    match error {
        ObjectsError::Body(BodyError::TimedOut) => {
            let what = "the source of a copy is read slowly, and others wait";
            Fault::new(ErrorKind::Busy, what).into()
        }
        ObjectsError::BadDigest | ObjectsError::BadChecksum(_) => {
            tracing::error!(%error, "a source's bytes are not what its record says");
            Fault::new(ErrorKind::Corrupt, format!("the source of a copy: {error}")).into()
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Kind as _;

    #[test]
    fn no_client_is_blamed_for_the_source() {
        for (error, kind) in [
            (BodyError::TimedOut.into(), ErrorKind::Busy),
            (ObjectsError::BadDigest, ErrorKind::Corrupt),
        ] {
            let blamed = blame_the_source(error);
            assert!(
                matches!(&blamed, ObjectsError::Fault(fault) if fault.kind == kind),
                "{blamed:?}"
            );
            assert_eq!(blamed.kind(), kind);
        }
    }
}
