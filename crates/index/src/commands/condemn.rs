//! Condemn: a promise that nothing will ever name a needle, in the commit that makes sure that nothing does.
//!
//! ```text
//!   moment:   as_of ───────────────────────── this command ─────────────────▶
//!   known by: `reach.rs`, exactly,            what came since: newer records   `condemned` refuses (blob.rs)
//!             on a snapshot
//! ```
//! What named the needle at `as_of` was found without a commit. What could name it since is a part (one row), or an object whose
//! version is newer than that moment, for every commit's time is; however many versions a key has, only those are looked at. Of
//! one with a manifest it is enough that it is of the same blob: such a needle counts as named, and the next pass, with a later
//! moment, tells exactly. So with `as_of` zero more counts as named than is, and nothing less.
//!
//! A needle of a session that has ended gets no row: no command that names it is decided any more.

use crate::rows::{Range, RowRef, decode};
use crate::view::{Change, Now, Stop, View};
use bytes::Bytes;
use std::collections::BTreeSet;
use types::{BlobId, Hlc, UploadId, VersionId};
use wire::index::{Doubt, Reach, Unnamed};
use wire::records::{
    BucketCopy, Chunk, CondemnAnswer, CondemnedRecord, GarbageRecord, ObjectRecord, PartRecord, answer,
    object_record::Data,
};

/// More versions of a key than come in between: past it its needles count as named.
const NEWER_MAX: usize = 64;

/// Where a doubt's rows are.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a>(pub(crate) &'a Doubt);

impl<'a> Rows<'a> {
    fn key(self) -> &'a str {
        &self.0.owner.key
    }

    pub(crate) fn bucket(self) -> RowRef<'a> {
        RowRef::Bucket(self.0.owner.bucket)
    }

    pub(crate) fn current(self) -> RowRef<'a> {
        RowRef::Current(self.0.owner.bucket, self.key())
    }

    pub(crate) fn condemned(self) -> RowRef<'a> {
        RowRef::Condemned(self.0.owner.bucket, self.key(), self.0.extent, self.0.needle)
    }

    /// The part that it was sent as.
    pub(crate) fn part(self) -> Option<RowRef<'a>> {
        let (upload, number) = self.0.owner.upload?;
        Some(RowRef::Part(self.0.owner.bucket, self.key(), upload, number))
    }

    /// The blobs that a record which names the needle can say it has: its own; or, where it is of a part or was appended, what
    /// that belongs to.
    pub(crate) fn blobs(self) -> impl Iterator<Item = BlobId> {
        let of = self.0.owner.upload.map(|(UploadId(id), _)| BlobId(id));
        std::iter::once(self.0.blob).chain(of)
    }

    pub(crate) fn garbage(self) -> impl Iterator<Item = RowRef<'a>> {
        let (bucket, key) = (self.0.owner.bucket, self.key());
        self.blobs().map(move |blob| RowRef::Garbage(bucket, key, blob))
    }

    /// All of them.
    pub(crate) fn keys(self) -> impl Iterator<Item = Bytes> {
        [self.bucket(), self.current(), self.condemned()]
            .into_iter()
            .chain(self.part())
            .chain(self.garbage())
            .map(|row| row.key())
    }

    /// Whether one of these is the needle.
    pub(crate) fn is_among(self, chunks: &[Chunk]) -> bool {
        let is_it = |c: &Chunk| c.place == self.0.extent.0 && c.needle == self.0.needle.0;
        chunks.iter().any(is_it)
    }

    /// Whether a blob id of a record is one of [`Rows::blobs`].
    pub(crate) fn is_blob(self, id: &[u8]) -> bool {
        self.blobs().any(|blob| blob.to_bytes() == *id)
    }
}

/// Decides a Condemn.
pub(super) fn condemn(
    unnamed: &Unnamed,
    view: &View,
    now: &Now,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let (doubts, as_of) = (unnamed.doubts(), unnamed.as_of());
    view.want(doubts.iter().flat_map(|d| Rows(d).keys()))?;
    // A moment that has not come yet tells nothing.
    let as_of = if as_of < now.hlc { as_of } else { Hlc(0) };
    let since = Since { as_of, view };
    let mut ranges = BTreeSet::new();
    for doubt in doubts {
        ranges.extend(since.newer_versions(Rows(doubt))?);
    }
    view.want_scans(ranges.into_iter().map(|range| (range, NEWER_MAX)))?;
    let mut reach = Vec::with_capacity(doubts.len());
    for doubt in doubts {
        let found = since.reach(Rows(doubt))?;
        reach.push(found as u8);
        if found == Reach::Condemned && doubt.blob.session() >= now.ended_below {
            let row = CondemnedRecord {
                extent: doubt.extent.0,
                needle: doubt.needle.0,
                condemned_hlc: now.hlc.0,
                session: doubt.blob.session().0,
            };
            change.put(&Rows(doubt).condemned(), &row);
        }
    }
    Ok(answer::Kind::Condemn(CondemnAnswer { reach }))
}

/// What came after a moment.
struct Since<'a> {
    as_of: Hlc,
    view: &'a View<'a>,
}

impl Since<'_> {
    /// The older versions of the needle's key that are newer than the moment, where there can be any.
    fn newer_versions(&self, doubt: Rows) -> Result<Option<Range>, Stop> {
        let copy: Option<BucketCopy> = self.view.get(&doubt.bucket())?;
        let kept = copy.is_none_or(|c| c.versioning != 0);
        Ok(kept.then(|| Range::versions_since(doubt.0.owner.bucket, &doubt.0.owner.key, self.as_of)))
    }

    /// `Condemned` where nothing names the needle.
    fn reach(&self, doubt: Rows) -> Result<Reach, Stop> {
        if let Some(row) = doubt.part()
            && let Some(part) = self.view.get::<PartRecord>(&row)?
            && doubt.is_among(&part.chunks)
        {
            return Ok(Reach::Named);
        }
        for row in doubt.garbage() {
            if let Some(garbage) = self.view.get::<GarbageRecord>(&row)?
                && (doubt.is_among(&garbage.chunks)
                    || garbage.manifest.is_some() && Hlc(garbage.booked_hlc) > self.as_of)
            {
                return Ok(Reach::Booked);
            }
        }
        if let Some(current) = self.view.get::<ObjectRecord>(&doubt.current())?
            && self.may_name(&current, doubt)
        {
            return Ok(Reach::Named);
        }
        if let Some(range) = self.newer_versions(doubt)? {
            let rows = self.view.scan(&range, NEWER_MAX)?;
            if rows.len() == NEWER_MAX {
                return Ok(Reach::Named);
            }
            for (key, value) in &rows {
                if self.may_name(&decode(key, value)?, doubt) {
                    return Ok(Reach::Named);
                }
            }
        }
        Ok(Reach::Condemned)
    }

    /// Whether a record names the needle; or could, in pages that are newer than the moment.
    fn may_name(&self, record: &ObjectRecord, doubt: Rows) -> bool {
        match &record.data {
            Some(Data::Chunks(c)) => doubt.is_among(&c.chunks),
            Some(Data::Manifest(_)) => {
                let made = VersionId::from_slice(&record.version).map(VersionId::time);
                made.is_none_or(|made| made > self.as_of) && doubt.is_blob(&record.blob)
            }
            _ => false,
        }
    }
}
