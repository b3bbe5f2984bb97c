//! Put: names an object's bytes.
//!
//! Writes `current`; `inline` or `manifests` where the bytes need them; `usage`; and for what the key named before `versions`
//! (and `nulls`) where the bucket keeps versions, else `garbage`.

use super::act::Act;
use super::{copy, precondition};
use crate::view::{Stop, refuse};
use crc_fast::CrcAlgorithm;
use types::BlobId;
use types::limits::INLINE_BYTES_MAX;
use wire::index::{Precondition, Reason, StoredData, Versioning};
use wire::records::{Inline, ObjectRecord, PutAnswer, answer, object_record::Data};

/// Decides a put.
pub(super) fn put(
    mut act: Act,
    record: &ObjectRecord,
    data: &StoredData,
    precondition: &Precondition,
) -> Result<answer::Kind, Stop> {
    copy::check_open(act.bucket, act.view)?;
    let current: Option<ObjectRecord> = act.get(&act.current())?;
    precondition::check(precondition, current.as_ref())?;
    if let StoredData::Chunks(stored) = data {
        act.check_not_gone(stored)?;
    }
    let mut record = act.settle(record.clone())?;
    let mut kept = None;
    match data {
        StoredData::Empty => {}
        StoredData::Inline(bytes) if bytes.len() > INLINE_BYTES_MAX => {
            return refuse(Reason::EntityTooLarge, "too many inline bytes");
        }
        StoredData::Inline(bytes) => {
            record.data = Some(Data::Inline(Inline {
                length: bytes.len() as u32,
                crc32c: crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32,
            }));
            act.change
                .put_bytes(&act.inline(act.now.version()), bytes.clone());
        }
        StoredData::Chunks(stored) => {
            kept = Some(stored.blob);
            act.change.behind.extend(&stored.ordered);
            act.lay_out(stored.blob, stored.chunks.clone(), Vec::new(), &mut record);
        }
    }
    act.replace(current.as_ref(), &record, kept)?;
    let versioning = act.versioning()?;
    act.finish()?;
    Ok(answer::Kind::Put(answer_of(&record, versioning)))
}

impl Act<'_> {
    /// The record with what the commit gives, and no data yet.
    pub(super) fn settle(&self, record: ObjectRecord) -> Result<ObjectRecord, Stop> {
        Ok(ObjectRecord {
            version: self.now.version().to_bytes().to_vec(),
            null_version: self.versioning()? != Versioning::Enabled,
            delete_marker: false,
            modified_ms: self.now.wall_ms,
            data: None,
            ..record
        })
    }

    /// Makes `record` what the key names, over or in place of `current`.
    pub(super) fn replace(
        &mut self,
        current: Option<&ObjectRecord>,
        record: &ObjectRecord,
        kept: Option<BlobId>,
    ) -> Result<(), Stop> {
        self.make_room(current, record.null_version, kept)?;
        self.usage.visible(record, 1);
        self.usage.version(record, 1);
        self.change.put(&self.current(), record);
        Ok(())
    }
}

/// What the caller hears of a new object.
pub(super) fn answer_of(record: &ObjectRecord, versioning: Versioning) -> PutAnswer {
    PutAnswer {
        version: record.version.clone(),
        null_version: record.null_version,
        modified_ms: record.modified_ms,
        etag_md5: record.etag_md5.clone(),
        etag_parts: record.etag_parts,
        size: record.size,
        checksums: record.checksums.clone(),
        checksum_kind: record.checksum_kind,
        versioning: versioning as u32,
    }
}
