//! Append: new bytes join an object, in one commit.
//!
//! ```text
//!   what is there      the new bytes come      what is written
//!   nothing, empty     inline, needles         as a put does
//!   inline             inline                  one new `inline` row: old bytes and new
//!   inline             needles, `whole`        the needles: they begin with the old bytes, re-put by the gateway
//!   needles            needles                 the chunk list grows; in pages, only the page it ends on is written again
//! ```
//! No needle is named twice: the object keeps the ones it has. So a bucket that keeps versions takes no appends: the older
//! version and the newer would share them. The blob whose id stays in the record is the first; pages and garbage are its.
//!
//! Writes `current`, `inline`, `manifests`, `usage`, and `ended` while the upload that the object came of is swept. The ETag is explained in docs/design/0014-appends.md.

use super::act::Act;
use super::{checksum, copy, precondition, put};
use crate::rows::{BadRow, RowRef};
use crate::view::{Stop, refuse};
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use types::limits::{INLINE_BYTES_MAX, MANIFEST_PAGE_ENTRIES, OBJECT_BYTES_MAX, PART_NUMBER_MAX};
use types::{BlobId, VersionId};
use wire::index::{AppendData, Precondition, Reason, StoredData, Versioning};
use wire::records::{Chunk, Inline, Manifest, ManifestPage, ObjectRecord, Part, answer, object_record::Data};

/// Decides an append of `piece`, which is the new bytes' record, and the object's where there is none yet.
pub(super) fn append(
    mut act: Act,
    piece: &ObjectRecord,
    data: &AppendData,
    precondition: &Precondition,
) -> Result<answer::Kind, Stop> {
    let bucket = copy::check_open(act.bucket, act.view)?;
    if bucket.versioning != 0 {
        return refuse(Reason::AppendVersioned, "the bucket keeps versions");
    }
    let current: Option<ObjectRecord> = act.get(&act.current())?;
    precondition::check(precondition, current.as_ref())?;
    let size = current.as_ref().map_or(0, |o| o.size);
    if size != data.offset {
        return refuse(Reason::InvalidWriteOffset, size.to_string());
    }
    let there = current
        .as_ref()
        .map(|o| VersionId::from_slice(&o.version).unwrap_or_default());
    if there != data.seen {
        return refuse(Reason::AppendRaced, "the object was written meanwhile");
    }
    let old = match current {
        Some(old) if old.size > 0 => old,
        // The first bytes of an object are a put of them, under what it is already.
        Some(empty) => return put::put(act, &first_of(empty, piece), &data.data, precondition),
        None => return put::put(act, piece, &data.data, precondition),
    };
    check_room(&old, piece)?;
    let mut parts = Parts::of(&old);
    parts.push(&old, piece)?;
    let mut record = ObjectRecord {
        size: old.size + piece.size,
        etag_md5: checksum::etag_of([&old.etag_md5[..], &piece.etag_md5[..]].into_iter()),
        etag_parts: old.etag_parts.max(1) + 1,
        version: act.now.version().to_bytes().to_vec(),
        modified_ms: act.now.wall_ms,
        parts: Vec::new(),
        data: None,
        ..old.clone()
    };
    (record.checksums, record.checksum_kind) = checksum::of_appended(&old, piece);
    join(&mut act, &old, data, &mut record, parts)?;
    act.supersede(&old, &record)?;
    act.finish()?;
    Ok(answer::Kind::Put(put::answer_of(&record, Versioning::Never)))
}

/// An empty object with its first bytes.
fn first_of(empty: ObjectRecord, piece: &ObjectRecord) -> ObjectRecord {
    ObjectRecord {
        size: piece.size,
        etag_md5: piece.etag_md5.clone(),
        etag_parts: 0,
        checksums: piece.checksums.clone(),
        checksum_kind: piece.checksum_kind,
        parts: Vec::new(),
        blob: Vec::new(),
        data: None,
        ..empty
    }
}

/// Parts and bytes that an object may still take.
fn check_room(old: &ObjectRecord, piece: &ObjectRecord) -> Result<(), Stop> {
    if old.etag_parts.max(1) >= PART_NUMBER_MAX {
        return refuse(Reason::TooManyParts, old.etag_parts.to_string());
    }
    if old.size.saturating_add(piece.size) > OBJECT_BYTES_MAX {
        return refuse(Reason::EntityTooLarge, "the object would be too large");
    }
    Ok(())
}

/// The part table of what is there, as far as it stands in the record, and what joins it.
struct Parts {
    there: Vec<Part>,
    new: Vec<Part>,
}

impl Parts {
    fn of(old: &ObjectRecord) -> Self {
        Self {
            there: old.parts.clone(),
            new: Vec::new(),
        }
    }

    /// Each append is a part; what was one body is the first.
    fn push(&mut self, old: &ObjectRecord, piece: &ObjectRecord) -> Result<(), Stop> {
        let paged = matches!(&old.data, Some(Data::Manifest(m)) if m.parts > 0);
        if self.there.is_empty() && !paged {
            self.new.push(part_of(1, old));
        }
        // Numbers may have gaps, so the last part's may be higher than the count; pages tell it (join).
        let last = self.new.last().or(self.there.last()).map_or(0, |p| p.number);
        self.new.push(part_of(last + 1, piece));
        Ok(())
    }
}

fn part_of(number: u32, record: &ObjectRecord) -> Part {
    Part {
        number,
        size: record.size,
        etag_md5: record.etag_md5.clone(),
        checksums: record.checksums.clone(),
    }
}

/// Puts the new bytes behind the old ones.
fn join(
    act: &mut Act,
    old: &ObjectRecord,
    data: &AppendData,
    record: &mut ObjectRecord,
    parts: Parts,
) -> Result<(), Stop> {
    if let StoredData::Chunks(stored) = &data.data {
        act.check_not_gone(stored)?;
        act.change.behind.extend(&stored.ordered);
    }
    let all_parts = || [parts.there.clone(), parts.new.clone()].concat();
    match (&old.data, &data.data) {
        (Some(Data::Inline(_)), StoredData::Inline(more)) => {
            record.parts = checked(all_parts())?;
            let bytes = [&act.inline_bytes(old)?[..], &more[..]].concat();
            if bytes.len() > INLINE_BYTES_MAX {
                return refuse(Reason::EntityTooLarge, "too many inline bytes");
            }
            record.data = Some(Data::Inline(Inline {
                length: bytes.len() as u32,
                crc32c: crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &bytes) as u32,
            }));
            act.change.put_bytes(&act.inline(act.now.version()), bytes.into());
            act.unname(old, None);
        }
        (Some(Data::Inline(_)), StoredData::Chunks(stored)) if data.whole => {
            act.lay_out(stored.blob, stored.chunks.clone(), checked(all_parts())?, record);
            act.unname(old, None);
        }
        (Some(Data::Chunks(there)), StoredData::Chunks(stored)) if !data.whole => {
            let chunks = [&there.chunks[..], &stored.chunks[..]].concat();
            act.lay_out(blob_of(old)?, chunks, checked(all_parts())?, record);
            if let Some(Data::Manifest(laid)) = &record.data {
                act.keep_pages(blob_of(old)?, laid.pages)?;
            }
        }
        (Some(Data::Manifest(there)), StoredData::Chunks(stored)) if !data.whole => {
            let grown = act.grow(blob_of(old)?, there, &stored.chunks, parts.new)?;
            if grown.pages > there.pages {
                act.keep_pages(blob_of(old)?, grown.pages)?;
            }
            record.data = Some(Data::Manifest(grown));
        }
        // What was seen was another form of it, though of the same version: not a gateway of ours.
        _ => return refuse(Reason::AppendRaced, "the bytes do not fit what is there"),
    }
    Ok(())
}

fn blob_of(record: &ObjectRecord) -> Result<BlobId, Stop> {
    let blob = BlobId::from_slice(&record.blob);
    Ok(blob.ok_or_else(|| BadRow::new("an object of needles without blob id"))?)
}

/// Part numbers end where S3's do, gaps and all.
fn checked(parts: Vec<Part>) -> Result<Vec<Part>, Stop> {
    match parts.last() {
        Some(last) if last.number > PART_NUMBER_MAX => refuse(Reason::TooManyParts, last.number.to_string()),
        _ => Ok(parts),
    }
}

impl Act<'_> {
    /// The bytes of an object that the index keeps itself.
    fn inline_bytes(&self, object: &ObjectRecord) -> Result<Bytes, Stop> {
        let version = VersionId::from_slice(&object.version).unwrap_or_default();
        let row = self.view.row(&self.inline(version).key())?;
        let bytes = row.ok_or_else(|| BadRow::new("an inline object without its bytes"))?;
        let whole = matches!(&object.data, Some(Data::Inline(i)) if i.length as usize == bytes.len()
            && crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &bytes) as u32 == i.crc32c);
        if !whole {
            return Err(BadRow::new("inline bytes that fail their crc").into());
        }
        Ok(bytes)
    }

    /// Makes `record` what the key names; `old` stays named in it.
    fn supersede(&mut self, old: &ObjectRecord, record: &ObjectRecord) -> Result<(), Stop> {
        let (was, is) = (VersionId::from_slice(&old.version), self.now.version());
        if was.is_none_or(|was| was <= is) {
            return Err(BadRow::new(format!("{was:?} is not older than the later {is:?}")).into());
        }
        self.usage.version(old, -1);
        self.usage.version(record, 1);
        self.change.put(&self.current(), record);
        Ok(())
    }

    /// A manifest with more chunks and parts behind: pages that are full stay as they are.
    fn grow(
        &mut self,
        blob: BlobId,
        there: &Manifest,
        chunks: &[Chunk],
        mut parts: Vec<Part>,
    ) -> Result<Manifest, Stop> {
        if let (Some(last), Some(first)) = (self.last_paged_part(blob, there)?, parts.first_mut()) {
            first.number = last.number + 1;
        }
        let parts = checked(parts)?;
        let (all_chunks, all_parts) = (
            there.chunks + chunks.len() as u64,
            there.parts + parts.len() as u64,
        );
        let entries = MANIFEST_PAGE_ENTRIES as u64;
        let pages = all_chunks.max(all_parts).div_ceil(entries);
        let first = (there.chunks / entries).min(there.parts / entries);
        for page in first..pages {
            let from = page * entries;
            let more = (rest(chunks, there.chunks, from), rest(&parts, there.parts, from));
            if more.0.is_empty() && more.1.is_empty() {
                continue;
            }
            let mut message = self.page(blob, there, page as u32)?;
            message.chunks.extend_from_slice(more.0);
            message.parts.extend_from_slice(more.1);
            let row = RowRef::Manifest(self.bucket, self.key, blob, page as u32);
            self.change.put(&row, &message);
        }
        Ok(Manifest {
            pages: pages as u32,
            chunks: all_chunks,
            parts: all_parts,
        })
    }

    /// A page as it is, empty past the last; it must hold what its manifest says.
    fn page(&self, blob: BlobId, manifest: &Manifest, page: u32) -> Result<ManifestPage, Stop> {
        if page >= manifest.pages {
            return Ok(ManifestPage::default());
        }
        let row = RowRef::Manifest(self.bucket, self.key, blob, page);
        let found: Option<ManifestPage> = self.get(&row)?;
        let from = u64::from(page) * MANIFEST_PAGE_ENTRIES as u64;
        let holds = |count: u64| (count.saturating_sub(from) as usize).min(MANIFEST_PAGE_ENTRIES);
        match found {
            Some(p) if p.chunks.len() == holds(manifest.chunks) && p.parts.len() == holds(manifest.parts) => {
                Ok(p)
            }
            _ => Err(BadRow::new("a manifest's page is not as its record says").into()),
        }
    }

    fn last_paged_part(&self, blob: BlobId, manifest: &Manifest) -> Result<Option<Part>, Stop> {
        let Some(last) = manifest.parts.checked_sub(1) else {
            return Ok(None);
        };
        let page = last / MANIFEST_PAGE_ENTRIES as u64;
        Ok(self.page(blob, manifest, page as u32)?.parts.pop())
    }
}

/// Of entries that begin at `count`, those that belong on the page that begins at `from`.
fn rest<T>(entries: &[T], count: u64, from: u64) -> &[T] {
    let place = |at: u64| (at.saturating_sub(count) as usize).min(entries.len());
    &entries[place(from)..place(from + MANIFEST_PAGE_ENTRIES as u64)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_to_their_pages() {
        let entries: Vec<u64> = (510..1600).collect();
        let page = |from| rest(&entries, 510, from);
        assert_eq!(page(0), [510, 511]);
        assert_eq!((page(512).first(), page(512).len()), (Some(&512), 512));
        assert_eq!((page(1536).first(), page(1536).len()), (Some(&1536), 64));
        assert!(page(2048).is_empty());
        assert!(rest(&entries[..1], 600, 0).is_empty());
    }
}
