//! Rows that nothing owns, or that disagree with what they stand for. A commit writes and removes such rows together, so
//! there are none in a store that works; reads never miss them, but nothing would ever take them away.
//!
//! | row | is owned by |
//! |---|---|
//! | `parts` | its row in `uploads`, or in `ended` until it is swept |
//! | `manifests` | the record of its blob (visible or older), its garbage, the upload that lays it, or one that ended |
//! | `inline` | the record of its version |
//! | `nulls` | the row of `versions` that it names, which is null while the visible one is not |
//! | a null one of `versions` | the row of `nulls` that names it |

use crate::fetch::{corrupt, first_rows};
use crate::read::Source;
use crate::rows::{Range, Row, RowRef, after, decode};
use bytes::Bytes;
use std::collections::BTreeMap;
use store::{Snapshot, StoreError};
use types::limits::SCAN_ROWS_MAX;
use types::{BlobId, BucketId, UploadId, VersionId};
use wire::records::object_record::Data;
use wire::records::{EndedUpload, GarbageRecord, ObjectRecord, UploadRecord};

/// Blobs of one key's versions that are remembered, with how many pages each has.
const BLOBS_KNOWN_MAX: usize = 1 << 16;

/// What is known of the newest blob whose pages were met, and of the versions of its key: pages of one blob stand together, and so do the
/// blobs of a key.
#[derive(Default)]
pub(crate) struct Owners {
    blob: Option<((BucketId, String, BlobId), u32)>,
    versions: Option<((BucketId, String), Blobs)>,
}

/// Pages of the blobs that a key's versions name; all of them unless there are too many.
struct Blobs {
    pages: BTreeMap<BlobId, u32>,
    is_all: bool,
}

/// A row's place, as messages name it.
type Name<'a> = (BucketId, &'a str);

impl Owners {
    /// What is wrong with a row, if anything.
    pub(crate) async fn stray(
        &mut self,
        (source, snapshot): (&Source<'_>, &dyn Snapshot),
        row: &Bytes,
        value: &Bytes,
    ) -> Result<Option<String>, StoreError> {
        let parsed = Row::parse(row).map_err(|e| corrupt(&e))?;
        let wrong = match &parsed {
            Row::Part(b, k, upload, _) => no_upload(source, (*b, k), *upload).await?,
            Row::Manifest(b, k, blob, page) => {
                let pages = self.pages(source, snapshot, (*b, k), *blob).await?;
                (*page >= pages).then_some("nothing names this page")
            }
            Row::Inline(b, k, version) => no_inline(source, (*b, k), *version).await?,
            Row::Null(b, k) => no_null(source, (*b, k), value).await?,
            Row::Version(b, k, version) => {
                let record: ObjectRecord = decode(row, value).map_err(|e| corrupt(&e))?;
                match record.null_version {
                    true => not_told_null(source, (*b, k), *version).await?,
                    false => None,
                }
            }
            _ => None,
        };
        Ok(wrong.map(|wrong| format!("{parsed:?}: {wrong}")))
    }

    /// How many pages of a blob something names.
    async fn pages(
        &mut self,
        source: &Source<'_>,
        snapshot: &dyn Snapshot,
        (bucket, key): Name<'_>,
        blob: BlobId,
    ) -> Result<u32, StoreError> {
        if let Some(((b, k, known), pages)) = &self.blob
            && (*b, k.as_str(), *known) == (bucket, key, blob)
        {
            return Ok(*pages);
        }
        let current: Option<ObjectRecord> = source.get(RowRef::Current(bucket, key)).await?;
        let mut pages = current.map_or(0, |record| pages_of(&record, blob));
        let garbage: Option<GarbageRecord> = source.get(RowRef::Garbage(bucket, key, blob)).await?;
        pages = pages.max(garbage.and_then(|g| g.manifest).map_or(0, |m| m.pages));
        let upload = UploadId(blob.0);
        let begun: Option<UploadRecord> = source.get(RowRef::Upload(bucket, key, upload)).await?;
        pages = pages.max(begun.and_then(|u| u.laying).map_or(0, |laying| laying.pages));
        let ended: Option<EndedUpload> = source.get(RowRef::Ended(bucket, key, upload)).await?;
        if ended.is_some() {
            pages = u32::MAX;
        }
        if pages == 0 {
            pages = self.pages_of_versions(snapshot, (bucket, key), blob).await?;
        }
        self.blob = Some(((bucket, key.to_owned(), blob), pages));
        Ok(pages)
    }

    /// How many pages of a blob versions of its key name. They are read once for all its blobs.
    async fn pages_of_versions(
        &mut self,
        snapshot: &dyn Snapshot,
        (bucket, key): Name<'_>,
        blob: BlobId,
    ) -> Result<u32, StoreError> {
        if let Some(((b, k), blobs)) = &self.versions
            && (*b, k.as_str()) == (bucket, key)
            && let Some(pages) = blobs.pages.get(&blob).copied().or(blobs.is_all.then_some(0))
        {
            return Ok(pages);
        }
        let mut found = 0;
        let mut blobs = Blobs {
            pages: BTreeMap::new(),
            is_all: true,
        };
        let mut rest = Range::versions(bucket, key);
        loop {
            let rows = first_rows(snapshot, &rest, SCAN_ROWS_MAX).await?;
            let Some((last, _)) = rows.last() else { break };
            rest.start = after(last);
            for (row, value) in &rows {
                let record: ObjectRecord = decode(row, value).map_err(|e| corrupt(&e))?;
                found = found.max(pages_of(&record, blob));
                let Some((named, pages)) = named_pages(&record) else {
                    continue;
                };
                blobs.is_all &= blobs.pages.len() < BLOBS_KNOWN_MAX;
                if blobs.is_all {
                    blobs.pages.insert(named, pages);
                }
            }
        }
        self.versions = Some(((bucket, key.to_owned()), blobs));
        Ok(found)
    }
}

/// The blob that a record names by pages, and how many they are.
pub(crate) fn named_pages(record: &ObjectRecord) -> Option<(BlobId, u32)> {
    match &record.data {
        Some(Data::Manifest(manifest)) => Some((BlobId::from_slice(&record.blob)?, manifest.pages)),
        _ => None,
    }
}

fn pages_of(record: &ObjectRecord, blob: BlobId) -> u32 {
    named_pages(record).map_or(0, |(named, pages)| if named == blob { pages } else { 0 })
}

async fn no_upload(
    source: &Source<'_>,
    (bucket, key): Name<'_>,
    upload: UploadId,
) -> Result<Option<&'static str>, StoreError> {
    let begun: Option<UploadRecord> = source.get(RowRef::Upload(bucket, key, upload)).await?;
    let ended: Option<EndedUpload> = source.get(RowRef::Ended(bucket, key, upload)).await?;
    let owned = begun.is_some() || ended.is_some();
    Ok((!owned).then_some("a part of an upload that is not there"))
}

async fn no_inline(
    source: &Source<'_>,
    (bucket, key): Name<'_>,
    version: VersionId,
) -> Result<Option<&'static str>, StoreError> {
    let current: Option<ObjectRecord> = source.get(RowRef::Current(bucket, key)).await?;
    let current = current.filter(|c| c.version == version.to_bytes());
    let record = match current {
        Some(record) => Some(record),
        None => source.get(RowRef::Version(bucket, key, version)).await?,
    };
    Ok(match record.map(|r| r.data) {
        Some(Some(Data::Inline(_))) => None,
        Some(_) => Some("bytes of a version that has others"),
        None => Some("bytes of a version that is not there"),
    })
}

async fn no_null(
    source: &Source<'_>,
    (bucket, key): Name<'_>,
    value: &Bytes,
) -> Result<Option<&'static str>, StoreError> {
    let Some(id) = VersionId::from_slice(value) else {
        return Ok(Some("names no version"));
    };
    let named: Option<ObjectRecord> = source.get(RowRef::Version(bucket, key, id)).await?;
    let current: Option<ObjectRecord> = source.get(RowRef::Current(bucket, key)).await?;
    Ok(match named {
        None => Some("names a version that is not there"),
        Some(named) if !named.null_version => Some("names a version that is not null"),
        Some(_) if current.is_some_and(|c| c.null_version) => Some("the visible version is null too"),
        Some(_) => None,
    })
}

async fn not_told_null(
    source: &Source<'_>,
    (bucket, key): Name<'_>,
    version: VersionId,
) -> Result<Option<&'static str>, StoreError> {
    let row = RowRef::Null(bucket, key).key();
    let named = source.rows(std::slice::from_ref(&row)).await?.pop().flatten();
    let told = named.is_some_and(|id| VersionId::from_slice(&id) == Some(version));
    Ok((!told).then_some("a null version that `nulls` does not name"))
}
