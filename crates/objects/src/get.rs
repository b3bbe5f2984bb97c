//! The get of an object: the name, then the bytes.

use crate::readers::Reading;
use crate::service::Objects;
use crate::{Caller, Headed, ObjectsError, Opened};
use blob::{Blob, Reader};
use bytes::Bytes;
use std::sync::Arc;
use types::limits::BLOCK_BYTES;
use types::{BlobId, BucketId, BucketName, ByteRange, ErrorKind, ObjectKey};
use wire::Fault;
use wire::index::{Found, VersionRef};
use wire::records::object_record::Data;
use wire::records::{BucketRecord, Chunk, ObjectRecord, Part};
use world::Share;

/// Where an object's bytes are.
enum Place {
    /// In the record's own partition: they came with it.
    Inline(Bytes),
    /// In needles of a blob.
    Chunks(BlobId, Vec<Chunk>),
}

/// What a chunk takes while its object is opened: as its row has it, decoded, and in the list that is read by.
const CHUNK_OPENING_BYTES: u64 = 200;
/// The same of a part, with checksums.
const PART_OPENING_BYTES: u64 = 500;

/// Reads an opened object's bytes. Every byte it gives was checked.
pub struct GetReader {
    blob: Arc<Blob>,
    size: u64,
    range: ByteRange,
    place: Place,
    reader: Option<Reader>,
    /// What its opening took, where its chunks are many: the reader goes on in that.
    taken: Option<Share>,
    /// Until nothing more is read of the needles.
    reading: Option<Reading>,
    done: bool,
}

impl GetReader {
    /// Only these bytes; all of them unless called. Before the first [`GetReader::next`].
    ///
    /// # Errors
    /// [`ObjectsError::BadRange`] when it is not inside the object.
    ///
    /// # Panics
    /// When bytes have been read already.
    pub fn select(&mut self, range: ByteRange) -> Result<(), ObjectsError> {
        assert!(
            self.reader.is_none() && !self.done,
            "the range is set before bytes are read"
        );
        if range.start > range.end || range.end > self.size {
            return Err(ObjectsError::BadRange(self.size));
        }
        self.range = range;
        Ok(())
    }

    /// Its memory is its caller's ([`GetReader::holds`]), who has what its opening took: in that, or in what is taken once it is given back.
    pub(crate) fn within(mut self) -> (Self, Option<Share>) {
        self.begin();
        self.reader = self.reader.map(Reader::within);
        let taken = self.taken.take();
        (self, taken)
    }

    /// How much memory reading takes at least, once it is known what is read.
    pub(crate) fn holds(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::holds)
    }

    /// The range that is read.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Makes the reader of needles, where there are any: it keeps the places of those alone that are read.
    fn begin(&mut self) {
        if let (Place::Chunks(of, chunks), None) = (&mut self.place, &self.reader) {
            self.reader = Some(self.blob.get(*of, std::mem::take(chunks), self.range));
        }
    }

    /// The next bytes of the range asked for, never empty; `None` at its end. An error after bytes have been sent can
    /// only be told by closing the connection. After an error there is nothing more.
    ///
    /// # Errors
    /// Corrupt or unreadable blocks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        if self.done || self.range.is_empty() {
            return Ok(None);
        }
        if let Place::Inline(bytes) = &self.place {
            self.done = true;
            let (start, end) = (self.range.start as usize, self.range.end as usize);
            return Ok(Some(bytes.slice(start..end)));
        }
        self.begin();
        if self.taken.is_some() {
            let taken = self.taken.take();
            self.reader = self.reader.take().map(|reader| reader.in_share(taken));
        }
        let answer = match &mut self.reader {
            Some(reader) => reader.next().await,
            None => Ok(None),
        };
        self.done = !matches!(answer, Ok(Some(_)));
        if self.done {
            self.reader = None;
            self.reading = None;
        }
        Ok(answer?)
    }
}

impl Objects {
    /// Opens the current object of a key, or a version of it. Its bytes are not touched yet.
    ///
    /// # Errors
    /// `NoSuchKey`, `NoSuchVersion`, `NoSuchBucket`; [`ObjectsError::Deleted`] for a delete marker; a fault of kind `Corrupt` when the record cannot be true.
    pub async fn get(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        version: VersionRef,
    ) -> Result<Opened, ObjectsError> {
        self.open(caller, name, (key, version), false).await
    }

    /// The same to copy it: with the memory that the put of its bytes takes, at once and before its list of chunks is read; without its parts.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn get_to_copy(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        version: VersionRef,
    ) -> Result<Opened, ObjectsError> {
        self.open(caller, name, (key, version), true).await
    }

    async fn open(
        &self,
        caller: &Caller,
        name: &BucketName,
        (key, version): (&ObjectKey, VersionRef),
        to_copy: bool,
    ) -> Result<Opened, ObjectsError> {
        let reading = self.readers.begin();
        let (bucket, mut found) = self.find(caller, name, (key, version)).await?;
        let (bucket, versioned) = (BucketId(bucket.bucket), bucket.versioning != 0);
        let opening = opening_bytes(&found.record);
        let taken = match opening {
            Some(bytes) if to_copy => Some(self.blob.memory(found.record.size, bytes).await?),
            Some(bytes) if has_pages(&found.record) => Some(self.blob.memory_to_read(bytes).await?),
            _ => None,
        };
        if has_pages(&found.record) {
            // They come with the record: another than before they might be a newer object's.
            found = self.found(bucket, (key, version), true).await?;
        }
        let parts = match to_copy {
            true => Vec::new(),
            false => parts(&mut found),
        };
        let place = place(&mut found).map_err(|what| {
            tracing::error!(%bucket, ?key, what, "a record is damaged");
            Fault::new(
                ErrorKind::Corrupt,
                format!("record of {key:?} in bucket {bucket}: {what}"),
            )
        })?;
        let size = found.record.size;
        reading.on(BlobId::from_slice(&found.record.blob));
        // Who has no needle to read keeps none back: an empty object's blob is none that could be told.
        let reads = matches!(&place, Place::Chunks(_, chunks) if !chunks.is_empty());
        let reading = reads.then_some(reading);
        Ok(Opened {
            parts,
            record: found.record,
            versioned,
            reader: GetReader {
                blob: Arc::clone(&self.blob),
                size,
                range: ByteRange { start: 0, end: size },
                place,
                reader: None,
                taken,
                reading,
                done: false,
            },
        })
    }

    /// The record of the current object of a key, or of a version of it.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub async fn head(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        version: VersionRef,
    ) -> Result<Headed, ObjectsError> {
        let (bucket, found) = self.find(caller, name, (key, version)).await?;
        Ok(Headed {
            record: found.record,
            versioned: bucket.versioning != 0,
        })
    }

    /// The version that is meant, with its bucket, without the pages that it may have. A delete marker is an error: it has nothing to read.
    pub(crate) async fn find(
        &self,
        caller: &Caller,
        name: &BucketName,
        (key, version): (&ObjectKey, VersionRef),
    ) -> Result<(BucketRecord, Found), ObjectsError> {
        let bucket = self.bucket_to_read(caller, name).await?;
        let found = self.found(BucketId(bucket.bucket), (key, version), false);
        let found = found.await?;
        Ok((bucket, found))
    }

    async fn found(
        &self,
        bucket: BucketId,
        (key, version): (&ObjectKey, VersionRef),
        with_manifest: bool,
    ) -> Result<Found, ObjectsError> {
        let found = self.index.get(bucket, key, version, with_manifest).await??;
        if found.record.delete_marker {
            return Err(ObjectsError::Deleted {
                marker: Box::new(found.record),
                is_current: version == VersionRef::Current,
            });
        }
        Ok(found)
    }
}

/// Whether its places stand beside its record, in as many pages as there is memory.
fn has_pages(record: &ObjectRecord) -> bool {
    matches!(record.data, Some(Data::Manifest(_)))
}

/// What an object that is in needles takes to be opened, with its reader's least: that is no more than a block beside the places.
fn opening_bytes(record: &ObjectRecord) -> Option<u64> {
    let pages = match &record.data {
        Some(Data::Manifest(manifest)) => {
            let chunks = manifest.chunks.saturating_mul(CHUNK_OPENING_BYTES);
            chunks.saturating_add(manifest.parts.saturating_mul(PART_OPENING_BYTES))
        }
        Some(Data::Chunks(_)) => 0,
        _ => return None,
    };
    Some((BLOCK_BYTES as u64).saturating_add(pages))
}

/// The part table, wherever it stands.
fn parts(found: &mut Found) -> Vec<Part> {
    match &found.record.data {
        Some(Data::Manifest(_)) => {
            let pages = found.manifest.iter_mut();
            pages.flat_map(|p| std::mem::take(&mut p.parts)).collect()
        }
        _ => found.record.parts.clone(),
    }
}

/// Where the bytes are, once the record agrees with itself: as many as it says, none of them unchecked (I5).
fn place(found: &mut Found) -> Result<Place, &'static str> {
    let size = found.record.size;
    let chunks = match &found.record.data {
        None if size == 0 => Vec::new(),
        None => return Err("it has a size but no bytes"),
        Some(Data::Inline(inline)) => {
            let bytes = found.inline.clone().ok_or("its inline bytes are missing")?;
            if bytes.len() as u64 != size || inline.length as usize != bytes.len() {
                return Err("its inline bytes are not as many as it says");
            }
            if crc_fast::crc32_iscsi(&bytes) != inline.crc32c {
                return Err("its inline bytes fail their crc");
            }
            return Ok(Place::Inline(bytes));
        }
        Some(Data::Chunks(chunks)) => chunks.chunks.clone(),
        Some(Data::Manifest(manifest)) => {
            let pages = std::mem::take(&mut found.manifest);
            let chunks: Vec<Chunk> = pages.into_iter().flat_map(|p| p.chunks).collect();
            if chunks.len() as u64 != manifest.chunks {
                return Err("its manifest is not whole");
            }
            chunks
        }
        Some(Data::Shared(_)) => return Err("it is shared, which this build does not read"),
    };
    let total = chunks.iter().try_fold(0u64, |sum, c| sum.checked_add(c.length));
    if total != Some(size) {
        return Err("its chunks are not as long as it says");
    }
    if chunks.iter().any(|c| c.coded) {
        return Err("it is coded, which this build does not read");
    }
    let of = BlobId::from_slice(&found.record.blob);
    if of.is_none() && !chunks.is_empty() {
        return Err("it has bytes but names no blob");
    }
    Ok(Place::Chunks(of.unwrap_or_default(), chunks))
}
