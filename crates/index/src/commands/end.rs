//! The end of an upload, by completion or abortion, and the sweep of what it left.
//!
//! ```text
//!                         fits one commit
//!   upload, parts, pages ─────────────────▶ nothing left
//!            └── else ──▶ ended, parts, pages ── sweep ──▶ ended, fewer ── … ──▶ nothing left
//! ```
//! The deciding commit removes the upload's row: from there on nobody finds the upload, and its usage is gone. What is too much
//! for that commit is named in `ended`: which parts the object took, and how many manifest pages. The owner sweeps a step with
//! each of its commits until no such row is left; it begins again where a crash stopped it, since the row is removed with the last step.

use super::act::Act;
use crate::rows::{BadRow, Range, Row, RowRef, after, decode};
use crate::view::{Change, Now, Stop, View, Writes};
use bytes::Bytes;
use types::limits::{SCAN_ROWS_MAX, STEP_BYTES_MAX};
use types::{BlobId, BucketId, UploadId};
use wire::records::{EndedUpload, GarbageRecord, PartRecord, UploadRecord};

/// What a completion keeps of an upload; of an aborted one nothing is kept.
#[derive(Default)]
pub(super) struct Kept {
    /// Numbers of the parts that the object took.
    pub(super) parts: Vec<u32>,
    /// Manifest pages of the object.
    pub(super) pages: u32,
}

/// Whether the object took that part.
pub(crate) fn is_taken(ended: &EndedUpload, number: u32) -> bool {
    let Some(bit) = number.checked_sub(1) else {
        return false;
    };
    let byte = ended.taken.get(bit as usize / 8).copied().unwrap_or(0);
    byte >> (bit % 8) & 1 == 1
}

fn ended(kept: &Kept) -> EndedUpload {
    let last = kept.parts.last().copied().unwrap_or(0);
    let mut taken = vec![0; (last as usize).div_ceil(8)];
    for bit in kept.parts.iter().filter_map(|n| n.checked_sub(1)) {
        taken[bit as usize / 8] |= 1 << (bit % 8);
    }
    EndedUpload {
        taken,
        pages_kept: kept.pages,
    }
}

impl Act<'_> {
    /// Removes the upload, all its parts and the pages that are not kept; books the parts that are not. What is too much
    /// goes in steps, later.
    pub(super) fn end_upload(
        &mut self,
        (upload, begun): (UploadId, &UploadRecord),
        there: &[PartRecord],
        kept: &Kept,
    ) {
        self.usage.upload(begun.storage_class, -1);
        for part in there {
            self.usage.part(begun.storage_class, part, -1);
        }
        self.change.remove(&self.upload(upload));
        let ended = ended(kept);
        let laid = begun.laying.as_ref().map_or(0, |laying| laying.pages);
        let mut step = Step::new((self.bucket, self.key), upload, self.now);
        let has_room = there.iter().all(|part| step.part(part, &ended))
            && (kept.pages..laid)
                .all(|page| step.remove(&RowRef::Manifest(self.bucket, self.key, BlobId(upload.0), page)));
        if has_room {
            self.change.writes.extend(step.change.writes);
        } else {
            let row = RowRef::Ended(self.bucket, self.key, upload);
            self.change.put(&row, &ended);
        }
    }
}

impl Act<'_> {
    /// Tells the sweep of the upload that an object was made of, if it is still under way, how many pages the object has now.
    pub(super) fn keep_pages(&mut self, blob: BlobId, pages: u32) -> Result<(), Stop> {
        let row = RowRef::Ended(self.bucket, self.key, UploadId(blob.0));
        let ended: Option<EndedUpload> = self.get(&row)?;
        if let Some(ended) = ended.filter(|ended| ended.pages_kept < pages) {
            let ended = EndedUpload {
                pages_kept: pages,
                ..ended
            };
            self.change.put(&row, &ended);
        }
        Ok(())
    }
}

/// Decides a step of the sweep, from a row on; where it goes on, if there may be more to sweep after it. What cannot be read stays: the
/// sweep goes past it, and comes back when the partition is taken the next time.
pub(crate) fn sweep(
    from: &Bytes,
    view: &View,
    now: &Now,
    change: &mut Change,
) -> Result<Option<Bytes>, Stop> {
    let mut range = Range::ended();
    range.start = range.start.max(from.clone());
    if range.start >= range.end {
        return Ok(None);
    }
    let found = view.readable(&range, 2)?;
    let behind = |from: Bytes| Some(from).filter(|from| *from < range.end);
    let Some((row, value)) = found.rows.first() else {
        return Ok(behind(found.next));
    };
    let is_last = match sweep_upload((row, value), view, now) {
        Ok((step, is_last)) => {
            change.writes.extend(step);
            is_last
        }
        Err(Stop::Bad(bad)) => {
            tracing::warn!(%bad, "what an ended upload left stays");
            true
        }
        Err(stop) => return Err(stop),
    };
    match is_last {
        false => Ok(Some(row.clone())),
        true if found.rows.len() > 1 => Ok(behind(after(row))),
        true => Ok(behind(found.next)),
    }
}

/// What a step of an ended upload's sweep writes, and whether nothing is left of it then.
fn sweep_upload((row, value): (&Bytes, &Bytes), view: &View, now: &Now) -> Result<(Writes, bool), Stop> {
    let Row::Ended(bucket, key, upload) = Row::parse(row)? else {
        return Err(BadRow::new("a row that is no ended upload among them").into());
    };
    let name = (bucket, key.as_str());
    let ended: EndedUpload = decode(row, value)?;
    let parts = view.scan(&Range::parts(bucket, &key, upload), SCAN_ROWS_MAX)?;
    let pages = Range::pages(name, BlobId(upload.0), ended.pages_kept);
    let pages = view.scan(&pages, SCAN_ROWS_MAX)?;
    let mut step = Step::new(name, upload, now);
    let mut is_last = parts.len() < SCAN_ROWS_MAX && pages.len() < SCAN_ROWS_MAX;
    for (row, value) in &parts {
        is_last &= step.part(&decode(row, value)?, &ended);
    }
    for (row, _) in &pages {
        is_last &= step.remove(&Row::parse(row)?);
    }
    if is_last {
        step.change.remove(&RowRef::Ended(bucket, &key, upload));
    }
    Ok((step.change.writes, is_last))
}

/// Removals of one commit.
struct Step<'a> {
    name: (BucketId, &'a str),
    upload: UploadId,
    now: &'a Now,
    change: Change,
    bytes: usize,
}

impl<'a> Step<'a> {
    fn new(name: (BucketId, &'a str), upload: UploadId, now: &'a Now) -> Self {
        Self {
            name,
            upload,
            now,
            change: Change::default(),
            bytes: 0,
        }
    }

    /// Removes a part, and books it unless the object took it; `false` when there is no room for that.
    fn part(&mut self, part: &PartRecord, ended: &EndedUpload) -> bool {
        let (bucket, key) = self.name;
        let mut change = Change::default();
        change.remove(&RowRef::Part(bucket, key, self.upload, part.number));
        if !is_taken(ended, part.number) {
            book_part(self.name, part, self.now, &mut change);
        }
        self.take(change)
    }

    fn remove(&mut self, row: &crate::rows::RowOf<impl AsRef<str>>) -> bool {
        let mut change = Change::default();
        change.remove(row);
        self.take(change)
    }

    fn take(&mut self, change: Change) -> bool {
        let bytes = change.len_bytes();
        // The first always has room: a step must be one ahead.
        if self.bytes > 0 && self.bytes + bytes > STEP_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.change.writes.extend(change.writes);
        true
    }
}

/// Books a part's bytes.
pub(super) fn book_part((bucket, key): (BucketId, &str), part: &PartRecord, now: &Now, change: &mut Change) {
    let blob = BlobId::from_slice(&part.blob).filter(|_| !part.chunks.is_empty());
    if let Some(blob) = blob {
        let garbage = GarbageRecord {
            blob: part.blob.clone(),
            booked_hlc: now.hlc.0,
            bytes: part.size,
            chunks: part.chunks.clone(),
            manifest: None,
        };
        change.put(&RowRef::Garbage(bucket, key, blob), &garbage);
    }
}
