//! Appends: new bytes behind an object's, named in one commit.
//!
//! What is there is looked at first, so that the bytes are stored in the form that joins it (crates/index, append.rs). The
//! commit looks again: an object that changed meanwhile takes nothing, and its client asks anew.

use crate::commands::unexpected;
use crate::intake::Intake;
use crate::put::{from_blob, named};
use crate::service::Objects;
use crate::{Caller, Expect, ObjectsError, PutObject};
use blob::Source;
use bytes::Bytes;
use types::limits::{INLINE_BYTES_MAX, PART_NUMBER_MAX, PUT_BYTES_MAX};
use types::{BlobId, BucketId, ChecksumAlgorithm, ChecksumKind, UploadId, VersionId};
use wire::index::{AppendData, Command, Found, Reason, StoredData, VersionRef};
use wire::node::OwnerRef;
use wire::records::answer::Kind as AnswerKind;
use wire::records::{self, ObjectRecord, PutAnswer, object_record::Data};

/// The object's own bytes, then a client's.
struct Prefixed<'a> {
    head: Option<Bytes>,
    /// How many of the object's own bytes are still to be stored; their MD5 is known.
    own: usize,
    intake: &'a mut Intake,
}

impl Source for Prefixed<'_> {
    type Error = ObjectsError;

    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        match self.head.take() {
            Some(head) => Ok(Some(head)),
            None => self.intake.next().await,
        }
    }

    fn holds(&self) -> u64 {
        self.intake.holds()
    }

    fn is_ours(&self) -> bool {
        self.intake.is_ours()
    }

    async fn frame(&mut self, frame: &Bytes) -> Result<(), ObjectsError> {
        let own = self.own.min(frame.len());
        self.own -= own;
        self.intake.frame(&frame.slice(own..)).await
    }
}

impl Objects {
    /// Puts a body behind the object's bytes, of which there must be `offset`; an object that is not there is made. Of an
    /// object that is there everything else stays as it is.
    ///
    /// # Errors
    /// As [`Objects::put`]; `InvalidWriteOffset`, `TooManyParts`, `AppendRaced`, `AppendVersioned`,
    /// [`ObjectsError::OtherChecksum`], [`ObjectsError::MetadataOfAppend`].
    pub async fn append(
        &self,
        caller: &Caller,
        put: PutObject,
        offset: u64,
    ) -> Result<PutAnswer, ObjectsError> {
        if put.length > PUT_BYTES_MAX {
            return Err(Reason::EntityTooLarge.into());
        }
        let record = self.bucket(caller, &put.bucket).await?;
        if record.versioning != 0 {
            return Err(Reason::AppendVersioned.into());
        }
        let bucket = BucketId(record.bucket);
        let seen = match self
            .index
            .get(bucket, &put.key, VersionRef::Current, false)
            .await?
        {
            Ok(found) => Some(found),
            Err(Reason::NoSuchKey) => None,
            Err(reason) => return Err(reason.into()),
        };
        check_seen(seen.as_ref(), &put, offset)?;
        let wanted = seen.as_ref().and_then(|f| continued(&f.record));
        check_algorithm(&put.expect, wanted)?;
        let mut intake = self.intake(put.body, put.length, put.expect, wanted);
        let owner = OwnerRef {
            bucket,
            key: put.key.as_str().to_owned(),
            upload: seen.as_ref().and_then(|f| joined(&f.record)),
        };
        let (data, whole) = self
            .store_behind(seen.as_ref(), &owner, put.length, &mut intake)
            .await?;
        let unnamed = self.unnamed(&owner, &data);
        let piece = ObjectRecord {
            headers: put.headers.unless_none(),
            metadata: put.metadata,
            tags: put.tags,
            ..intake.finish().await?.record(put.length, wanted, caller.account)
        };
        let data = AppendData {
            offset,
            seen: seen.and_then(|f| VersionId::from_slice(&f.record.version)),
            data,
            whole,
        };
        let command = || Command::Append {
            bucket,
            key: put.key.clone(),
            piece: Box::new(piece.clone()),
            data: Box::new(data.clone()),
            precondition: put.precondition.clone(),
        };
        match self.send_in(caller, &put.bucket, bucket, command).await? {
            AnswerKind::Put(answer) => {
                named(unnamed);
                Ok(answer)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Stores the new bytes in the form that joins what was seen; whether they begin with the object's own.
    async fn store_behind(
        &self,
        seen: Option<&Found>,
        owner: &OwnerRef,
        length: u64,
        intake: &mut Intake,
    ) -> Result<(StoredData, bool), ObjectsError> {
        let inline = match seen.map(|f| (&f.record.data, &f.inline)) {
            Some((Some(Data::Inline(_)), Some(bytes))) => Some(bytes.clone()),
            // There are no bytes yet.
            None | Some((None, _)) => Some(Bytes::new()),
            Some(_) => None,
        };
        let there = inline.as_ref().map_or(0, |b| b.len() as u64);
        if inline.is_some() && there + length <= INLINE_BYTES_MAX as u64 {
            return Ok((StoredData::Inline(intake.whole().await?), false));
        }
        let mut source = Prefixed {
            own: there as usize,
            head: inline.filter(|b| !b.is_empty()),
            intake,
        };
        let stored = self.blob.put(owner, there + length, &mut source).await;
        Ok((StoredData::Chunks(stored.map_err(from_blob)?), there > 0))
    }
}

/// What the commit would refuse anyway is refused before a byte is read.
fn check_seen(seen: Option<&Found>, put: &PutObject, offset: u64) -> Result<(), ObjectsError> {
    let size = seen.map_or(0, |f| f.record.size);
    if size != offset {
        return Err(ObjectsError::Refused {
            reason: Reason::InvalidWriteOffset,
            detail: size.to_string(),
            part_number: 0,
            size,
        });
    }
    let Some(found) = seen else { return Ok(()) };
    if found.record.etag_parts.max(1) >= PART_NUMBER_MAX {
        return Err(Reason::TooManyParts.into());
    }
    if !put.metadata.is_empty() || !put.tags.is_empty() {
        return Err(ObjectsError::MetadataOfAppend);
    }
    Ok(())
}

/// Whose bytes the new needles become: the object's first blob, which its record goes on to name, as which part. A reader
/// holds needles to that, as it does those of an upload's parts. Where the old bytes move too, the blob is a new one.
///
/// Behind an upload's parts the numbers go on above all that a part may have: theirs have gaps, and where the index is lost, needles of
/// one upload are put in order by them (admin, rebuild). What is over the highest tells how many parts there were.
fn joined(record: &ObjectRecord) -> Option<(UploadId, u32)> {
    let blob = BlobId::from_slice(&record.blob).filter(|_| record.size > 0)?;
    let parts = record.etag_parts.max(1);
    let number = if blob.is_upload() {
        PART_NUMBER_MAX + parts
    } else {
        parts + 1
    };
    Some((UploadId(blob.0), number))
}

/// The algorithm that an object's checksum goes on in.
fn continued(record: &ObjectRecord) -> Option<ChecksumAlgorithm> {
    let whole = record.size > 0 && record.checksum_kind != ChecksumKind::Composite as u32;
    let named = |c: &records::Checksum| ChecksumAlgorithm::from_number(c.algorithm);
    let mut algorithms = record.checksums.iter().filter(|_| whole).filter_map(named);
    algorithms.find(|a| a.combines())
}

/// A checksum of another algorithm than the object's could be checked, but not kept.
pub(crate) fn check_algorithm(
    expect: &Expect,
    wanted: Option<ChecksumAlgorithm>,
) -> Result<(), ObjectsError> {
    let given = expect.checksums.iter().map(|c| c.algorithm);
    let other = given
        .chain(expect.trailing.iter().copied())
        .find(|a| wanted.is_some_and(|w| w != *a));
    match (wanted, other) {
        (Some(expected), Some(actual)) => Err(ObjectsError::OtherChecksum { expected, actual }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_to_parts_is_numbered_above_all_parts() {
        let of = |blob: u128, etag_parts| ObjectRecord {
            size: 1,
            blob: BlobId(blob).to_bytes().to_vec(),
            etag_parts,
            ..ObjectRecord::default()
        };
        let number = |blob, parts| joined(&of(blob, parts)).map(|(_, number)| number);
        let upload = 1 << 110;
        assert_eq!(number(upload, 3), Some(PART_NUMBER_MAX + 3));
        assert_eq!(number(upload, 4), Some(PART_NUMBER_MAX + 4));
        let blob = 7 << 64 | 1;
        assert_eq!((number(blob, 0), number(blob, 2)), (Some(2), Some(3)));
    }
}
