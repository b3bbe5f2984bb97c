//! Multipart uploads but for their completion: CreateUpload, PutPart, AbortUpload, AbortIdleUpload.
//!
//! A bucket that is being deleted takes uploads along if it has nothing else: until that is decided they are left as they
//! are, so but for abortions a closing bucket refuses them all (copy.rs).

use super::act::Act;
use super::end::Kept;
use super::{copy, nothing};
use crate::rows::{Range, decode};
use crate::view::{Stop, refuse};
use types::limits::PART_NUMBER_MAX;
use types::{Hlc, UploadId};
use wire::index::{Reason, StoredChunks};
use wire::records::{PartAnswer, PartRecord, UploadAnswer, UploadRecord, answer};

/// Decides a CreateUpload: writes `uploads` and `usage`.
pub(super) fn create(mut act: Act, record: &UploadRecord) -> Result<answer::Kind, Stop> {
    copy::check_open(act.bucket, act.view)?;
    let upload = act.now.upload();
    let record = UploadRecord {
        upload: upload.to_bytes().to_vec(),
        initiated_ms: act.now.wall_ms,
        ..record.clone()
    };
    act.change.put(&act.upload(upload), &record);
    act.usage.upload(record.storage_class, 1);
    act.finish()?;
    Ok(answer::Kind::Upload(UploadAnswer {
        upload: record.upload,
    }))
}

impl Act<'_> {
    /// An upload that is there.
    pub(super) fn find_upload(&self, upload: UploadId) -> Result<UploadRecord, Stop> {
        match self.get(&self.upload(upload))? {
            Some(record) => Ok(record),
            None => refuse(Reason::NoSuchUpload, upload.to_string()),
        }
    }

    /// All parts of an upload, by number.
    pub(super) fn parts(&self, upload: UploadId) -> Result<Vec<PartRecord>, Stop> {
        let range = Range::parts(self.bucket, self.key, upload);
        let rows = self.view.scan(&range, PART_NUMBER_MAX as usize)?;
        let parts: Result<_, _> = rows.iter().map(|(k, v)| decode(k, v)).collect();
        Ok(parts?)
    }
}

/// Decides a PutPart: writes `parts` and `usage`, books the part of that number that was there before.
pub(super) fn put_part(
    mut act: Act,
    upload: UploadId,
    record: &PartRecord,
    data: &StoredChunks,
) -> Result<answer::Kind, Stop> {
    if !(1..=PART_NUMBER_MAX).contains(&record.number) {
        return refuse(Reason::InvalidPart, "part numbers are 1 to 10,000");
    }
    copy::check_open(act.bucket, act.view)?;
    let class = act.find_upload(upload)?.storage_class;
    act.check_not_gone(data)?;
    let row = act.part(upload, record.number);
    if let Some(old) = act.get::<PartRecord>(&row)? {
        act.unname_part(&old, Some(data.blob));
        act.usage.part(class, &old, -1);
    }
    let record = PartRecord {
        modified_ms: act.now.wall_ms,
        blob: data.blob.to_bytes().to_vec(),
        chunks: data.chunks.clone(),
        ..record.clone()
    };
    act.usage.part(class, &record, 1);
    act.change.behind.extend(&data.ordered);
    act.change.put(&row, &record);
    act.finish()?;
    Ok(answer::Kind::Part(PartAnswer {
        modified_ms: record.modified_ms,
    }))
}

/// Decides an AbortUpload: books every part, ends the upload (end.rs). With `idle_since_ms` only if nobody worked on it since: what gc saw
/// of it may be old by now, and a part that was acknowledged meanwhile is not to go with it.
pub(super) fn abort(
    mut act: Act,
    upload: UploadId,
    idle_since_ms: Option<u64>,
) -> Result<answer::Kind, Stop> {
    let begun = act.find_upload(upload)?;
    let there = act.parts(upload)?;
    if let Some(before_ms) = idle_since_ms {
        let laying = begun.laying.as_ref().map_or(0, |l| Hlc(l.hlc).wall_ms());
        let parts = there.iter().map(|part| part.modified_ms);
        let newest = parts.fold(begun.initiated_ms.max(laying), u64::max);
        if newest >= before_ms {
            return refuse(Reason::UploadBusy, "somebody works on it");
        }
    }
    act.end_upload((upload, &begun), &there, &Kept::default());
    act.finish()?;
    Ok(nothing())
}
