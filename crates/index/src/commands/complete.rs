//! CompleteUpload: makes the object of its parts.
//!
//! Writes `current` and, past 16 chunks or parts, `manifests`; ends the upload (end.rs); does with what the key named before
//! as a put does; moves `usage`. The object's blob is the upload's id: that is the trace by
//! which the same completion under another command id gets the same answer.
//!
//! Manifest pages past what one commit takes are written in steps before the one that decides. Nothing names them until then,
//! and each step compares them with what the parts say now: a part that is replaced in between is no harm. Two completions
//! at once would write over each other's pages for ever, so the one with the lower command id is refused.

use super::act::Act;
use super::end::Kept;
use super::{blob, checksum, copy, nothing, precondition, put};
use crate::rows::{RowRef, encode};
use crate::view::{Stop, refuse, refuse_part};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::limits::{LAYING_MS_MAX, OBJECT_BYTES_MAX, PART_BYTES_MIN, STEP_BYTES_MAX};
use types::{BlobId, ChecksumAlgorithm, CommandId, Hlc, UploadId};
use wire::index::{Expected, NamedPart, Precondition, Reason};
use wire::records::{Chunk, Laying, ManifestPage, ObjectRecord, Part, PartRecord, UploadRecord, answer};

/// Decides a CompleteUpload.
pub(super) fn complete(
    mut act: Act,
    upload: UploadId,
    named: &[NamedPart],
    precondition: &Precondition,
    expected: &Expected,
) -> Result<answer::Kind, Stop> {
    copy::check_open(act.bucket, act.view)?;
    let current: Option<ObjectRecord> = act.get(&act.current())?;
    let begun = match act.find_upload(upload) {
        Ok(begun) => begun,
        Err(Stop::Refused(_)) if is_made_of(current.as_ref(), upload, named) => {
            let versioning = act.versioning()?;
            let made = current.as_ref().map(|made| put::answer_of(made, versioning));
            return Ok(answer::Kind::Put(made.unwrap_or_default()));
        }
        Err(stop) => return Err(stop),
    };
    let there = act.parts(upload)?;
    let taken = take_named(named, &there)?;
    precondition::check(precondition, current.as_ref())?;
    let size = check_sizes(&taken, expected.size)?;
    let checksum = checksum::of_object(&begun, &taken, expected)?;

    let mut record = act.settle(record_of(&begun))?;
    record.size = size;
    record.etag_md5 = checksum::etag_of(taken.iter().map(|p| p.etag_md5.as_slice()));
    record.etag_parts = taken.len() as u32;
    if let Some((checksum, kind)) = checksum {
        record.checksums = vec![checksum];
        record.checksum_kind = kind;
    }
    let mut kept = Kept {
        parts: taken.iter().map(|p| p.number).collect(),
        pages: 0,
    };
    let chunks: Vec<Chunk> = taken.iter().flat_map(|p| p.chunks.iter().copied()).collect();
    let table: Vec<Part> = taken.into_iter().map(table_entry).collect();
    let pages = blob::point(BlobId(upload.0), chunks, table, &mut record);
    if act.lay((upload, &begun), &pages)? {
        return Ok(nothing());
    }
    kept.pages = pages.len() as u32;
    act.end_upload((upload, &begun), &there, &kept);
    act.replace(current.as_ref(), &record, None)?;
    let versioning = act.versioning()?;
    act.finish()?;
    Ok(answer::Kind::Put(put::answer_of(&record, versioning)))
}

/// Whether the visible object came of that upload, of those very parts.
fn is_made_of(current: Option<&ObjectRecord>, upload: UploadId, named: &[NamedPart]) -> bool {
    current.is_some_and(|object| {
        BlobId::from_slice(&object.blob) == Some(BlobId(upload.0))
            && object.etag_parts as usize == named.len()
            && object.etag_md5 == checksum::etag_of(named.iter().map(|p| &p.etag_md5[..]))
    })
}

/// The parts that are named, in the order named, which must ascend.
fn take_named(named: &[NamedPart], there: &[PartRecord]) -> Result<Vec<PartRecord>, Stop> {
    if named.is_empty() {
        return refuse(Reason::InvalidPart, "no parts");
    }
    if let Some(pair) = named.windows(2).find(|p| p[0].number >= p[1].number) {
        return refuse_part(Reason::InvalidPartOrder, pair[1].number, 0);
    }
    let by_number: BTreeMap<u32, &PartRecord> = there.iter().map(|p| (p.number, p)).collect();
    named
        .iter()
        .map(|n| match by_number.get(&n.number) {
            Some(part) if part.etag_md5 == n.etag_md5 && checksums_hold(n, part) => Ok((*part).clone()),
            _ => refuse_part(Reason::InvalidPart, n.number, 0),
        })
        .collect()
}

fn checksums_hold(named: &NamedPart, part: &PartRecord) -> bool {
    named.checksums.iter().all(|c| {
        ChecksumAlgorithm::from_number(c.algorithm)
            .and_then(|a| checksum::value_of(&part.checksums, a))
            .is_some_and(|v| v == c.value)
    })
}

/// The object's size, if the parts' sizes are allowed.
fn check_sizes(taken: &[PartRecord], expected: Option<u64>) -> Result<u64, Stop> {
    let all_but_last = &taken[..taken.len() - 1];
    if let Some(small) = all_but_last.iter().find(|p| p.size < PART_BYTES_MIN) {
        return refuse_part(Reason::EntityTooSmall, small.number, small.size);
    }
    let size: u64 = taken.iter().map(|p| p.size).sum();
    if size > OBJECT_BYTES_MAX {
        return refuse(Reason::EntityTooLarge, size.to_string());
    }
    if let Some(said) = expected.filter(|e| *e != size) {
        let what = format!("The object's size was said to be {said} bytes; its parts make {size}.");
        return refuse(Reason::OtherThanSaid, what);
    }
    Ok(size)
}

fn record_of(begun: &UploadRecord) -> ObjectRecord {
    ObjectRecord {
        owner: begun.owner,
        storage_class: begun.storage_class,
        headers: begun.headers.clone(),
        metadata: begun.metadata.clone(),
        tags: begun.tags.clone(),
        lock: begun.lock,
        encryption: begun.encryption.clone(),
        ..ObjectRecord::default()
    }
}

fn table_entry(part: PartRecord) -> Part {
    Part {
        number: part.number,
        size: part.size,
        etag_md5: part.etag_md5,
        checksums: part.checksums,
    }
}

impl Act<'_> {
    /// Writes the pages that are not there yet; `true` when they are too many for the commit that decides, and some were
    /// written as a step of their own.
    fn lay(
        &mut self,
        (upload, begun): (UploadId, &UploadRecord),
        pages: &[ManifestPage],
    ) -> Result<bool, Stop> {
        let laying = begun.laying.clone().unwrap_or_default();
        let row = |page| RowRef::Manifest(self.bucket, self.key, BlobId(upload.0), page as u32).key();
        let rows: Vec<Bytes> = (0..pages.len()).map(row).collect();
        let laid = rows.len().min(laying.pages as usize);
        self.view.want(rows[..laid].iter().cloned())?;
        let mut bytes = 0;
        for (page, row) in rows.iter().enumerate() {
            let value = Some(encode(&pages[page]));
            if page < laid && self.view.row(row)? == value {
                continue;
            }
            let more = store::Batch::row_bytes(row, value.as_ref());
            if bytes > 0 && bytes + more > STEP_BYTES_MAX {
                self.claim(&laying)?;
                let laying = Laying {
                    command: self.now.command.to_bytes().to_vec(),
                    hlc: self.now.hlc.0,
                    pages: laying.pages.max(page as u32),
                };
                let begun = UploadRecord {
                    laying: Some(laying),
                    ..begun.clone()
                };
                self.change.put(&self.upload(upload), &begun);
                self.change.is_step = true;
                return Ok(true);
            }
            bytes += more;
            self.change.writes.insert(row.clone(), value);
        }
        Ok(false)
    }

    /// Refuses while a completion of a higher command id is at work.
    fn claim(&self, laying: &Laying) -> Result<(), Stop> {
        let other = CommandId::from_slice(&laying.command);
        let is_stale = self.now.hlc.wall_ms() >= Hlc(laying.hlc).wall_ms() + LAYING_MS_MAX;
        if !is_stale && other.is_some_and(|other| other > self.now.command) {
            return refuse(Reason::UploadBusy, "another completion is under way");
        }
        Ok(())
    }
}
