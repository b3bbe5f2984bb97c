//! Blobs in commits: named once, booked as garbage when their name goes, never named again after that.

use super::act::Act;
use super::end;
use crate::rows::RowRef;
use crate::view::{Stop, refuse};
use bytes::Bytes;
use types::limits::{CHUNKS_INLINE_MAX, MANIFEST_PAGE_ENTRIES};
use types::{BlobId, BucketId, ExtentId, NeedleId, VersionId};
use wire::index::{Reason, StoredChunks};
use wire::records::{
    Chunk, Chunks, GarbageRecord, Manifest, ManifestPage, ObjectRecord, Part, PartRecord, object_record::Data,
};

/// The rows whose being there means that the blob is gone.
pub(super) fn gone_rows((bucket, key): (BucketId, &str), stored: &StoredChunks, out: &mut Vec<Bytes>) {
    out.push(RowRef::Garbage(bucket, key, stored.blob).key());
    for chunk in &stored.chunks {
        let needle = NeedleId(chunk.needle);
        out.push(RowRef::Condemned(bucket, key, ExtentId(chunk.place), needle).key());
    }
}

impl Act<'_> {
    /// Refuses a blob that was booked or of which a needle was condemned: its bytes may be gone already. So may be those of
    /// a session that has ended: gc takes them for orphans without a word (condemn.rs).
    pub(super) fn check_not_gone(&self, stored: &StoredChunks) -> Result<(), Stop> {
        if stored.blob.session() < self.now.ended_below {
            return refuse(
                Reason::BlobGone,
                format!("blob {} of an ended session", stored.blob),
            );
        }
        let mut rows = Vec::new();
        gone_rows((self.bucket, self.key), stored, &mut rows);
        self.view.want(rows.iter().cloned())?;
        for key in &rows {
            if self.view.row(key)?.is_some() {
                return refuse(Reason::BlobGone, format!("blob {}", stored.blob));
            }
        }
        Ok(())
    }

    /// Books what an object's record names, unless `kept` is that same blob; its inline row goes at once.
    pub(super) fn unname(&mut self, object: &ObjectRecord, kept: Option<BlobId>) {
        let (chunks, manifest) = match &object.data {
            Some(Data::Inline(_)) => {
                if let Some(version) = VersionId::from_slice(&object.version) {
                    self.change.remove(&self.inline(version));
                }
                return;
            }
            Some(Data::Chunks(c)) => (c.chunks.clone(), None),
            Some(Data::Manifest(m)) => (Vec::new(), Some(*m)),
            // Reserved: a shared blob is booked when its last reference goes.
            Some(Data::Shared(_)) | None => return,
        };
        if let Some(blob) = BlobId::from_slice(&object.blob).filter(|b| Some(*b) != kept) {
            let garbage = GarbageRecord {
                blob: object.blob.clone(),
                booked_hlc: self.now.hlc.0,
                bytes: object.size,
                chunks,
                manifest,
            };
            self.change.put(&self.garbage(blob), &garbage);
        }
    }

    /// Books a part's bytes, unless `kept` is that same blob.
    pub(super) fn unname_part(&mut self, part: &PartRecord, kept: Option<BlobId>) {
        if kept.is_none() || BlobId::from_slice(&part.blob) != kept {
            end::book_part((self.bucket, self.key), part, self.now, self.change);
        }
    }

    /// Puts a chunk list (and part table) where the record's size allows: in it, or in pages of `manifests` under `blob`.
    pub(super) fn lay_out(
        &mut self,
        blob: BlobId,
        chunks: Vec<Chunk>,
        parts: Vec<Part>,
        record: &mut ObjectRecord,
    ) {
        for (page, message) in point(blob, chunks, parts, record).iter().enumerate() {
            let row = RowRef::Manifest(self.bucket, self.key, blob, page as u32);
            self.change.put(&row, message);
        }
    }
}

/// Points a record at a chunk list (and part table): both in it where its size allows, else in the pages returned.
pub(crate) fn point(
    blob: BlobId,
    chunks: Vec<Chunk>,
    parts: Vec<Part>,
    record: &mut ObjectRecord,
) -> Vec<ManifestPage> {
    record.blob = blob.to_bytes().to_vec();
    if chunks.len() <= CHUNKS_INLINE_MAX && parts.len() <= CHUNKS_INLINE_MAX {
        record.parts = parts;
        record.data = (!chunks.is_empty()).then_some(Data::Chunks(Chunks { chunks }));
        return Vec::new();
    }
    let pages = chunks.len().max(parts.len()).div_ceil(MANIFEST_PAGE_ENTRIES);
    record.data = Some(Data::Manifest(Manifest {
        pages: pages as u32,
        chunks: chunks.len() as u64,
        parts: parts.len() as u64,
    }));
    let froms = (0..pages).map(|page| page * MANIFEST_PAGE_ENTRIES);
    let page = |from| ManifestPage {
        chunks: window(&chunks, from),
        parts: window(&parts, from),
    };
    froms.map(page).collect()
}

fn window<T: Clone>(all: &[T], from: usize) -> Vec<T> {
    let to = (from + MANIFEST_PAGE_ENTRIES).min(all.len());
    all.get(from..to).map(<[T]>::to_vec).unwrap_or_default()
}
