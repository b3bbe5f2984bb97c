//! Everything in a partition that names bytes, page by page: what `check` holds against the extents. And what stands where
//! nothing owns it.

use crate::commands::is_taken;
use crate::fetch::{corrupt, first_rows};
use crate::handle::Handle;
use crate::read::Source;
use crate::rows::{Range, Row, RowRef, after, decode, names_bytes};
use crate::strays::Owners;
use bytes::Bytes;
use std::sync::Arc;
use store::{Snapshot, StoreError};
use types::{BlobId, BucketId, UploadId};
use wire::Fault;
use wire::index::Named;
use wire::records::{EndedUpload, GarbageRecord, ObjectRecord};

/// Rows of one page.
const PAGE_ROWS: usize = 256;

impl Handle {
    /// A page from `cursor` (a row key; empty: the start), and the next cursor (empty at the end).
    pub(crate) async fn walk(&self, cursor: Bytes) -> Result<(Vec<Named>, Bytes), Fault> {
        self.at_one_moment(|snapshot| walk_page(snapshot, cursor.clone(), PAGE_ROWS))
            .await
    }
}

/// A page of at most `rows_max` rows from `cursor`.
pub(crate) async fn walk_page(
    snapshot: Arc<dyn Snapshot>,
    cursor: Bytes,
    rows_max: usize,
) -> Result<(Vec<Named>, Bytes), StoreError> {
    let source = Source::Snapshot(snapshot.clone());
    for mut range in Range::walked() {
        if cursor >= range.end {
            continue;
        }
        range.start = range.start.max(cursor.clone());
        let rows = first_rows(&*snapshot, &range, rows_max).await?;
        let Some((last, _)) = rows.last() else { continue };
        let next = after(last);
        let mut named = Vec::with_capacity(rows.len());
        let (mut ended, mut owners) = (Ended::default(), Owners::default());
        for (key, value) in rows {
            if let Some(what) = owners.stray((&source, &*snapshot), &key, &value).await? {
                named.push(Named::Stray { what });
            }
            if names_bytes(&key) && !ended.has_taken(&source, &key).await? {
                named.push(name(&source, &key, &value).await?);
            }
        }
        return Ok((named, next));
    }
    Ok((Vec::new(), Bytes::new()))
}

/// What is known of the newest upload that a part was met of: a part that an object took is not swept yet, but the object
/// names its bytes.
#[derive(Default)]
struct Ended(Option<(UploadId, Option<EndedUpload>)>);

impl Ended {
    async fn has_taken(&mut self, source: &Source<'_>, row: &Bytes) -> Result<bool, StoreError> {
        let Ok(Row::Part(bucket, key, upload, number)) = Row::parse(row) else {
            return Ok(false);
        };
        if self.0.as_ref().is_none_or(|(known, _)| *known != upload) {
            let ended = source.get(RowRef::Ended(bucket, &key, upload)).await?;
            self.0 = Some((upload, ended));
        }
        let ended = self.0.as_ref().and_then(|(_, ended)| ended.as_ref());
        Ok(ended.is_some_and(|ended| is_taken(ended, number)))
    }
}

async fn name(source: &Source<'_>, row: &Bytes, value: &Bytes) -> Result<Named, StoreError> {
    match Row::parse(row).map_err(|e| corrupt(&e))? {
        Row::Current(bucket, key) | Row::Version(bucket, key, _) => {
            let record: ObjectRecord = decode(row, value).map_err(|e| corrupt(&e))?;
            let found = source.complete((bucket, &key), record, true).await?;
            let found = Box::new(found.ok_or_else(|| missing(&key, bucket))?);
            Ok(Named::Object { bucket, key, found })
        }
        Row::Part(bucket, key, upload, _) => Ok(Named::Part {
            bucket,
            key,
            upload,
            part: decode(row, value).map_err(|e| corrupt(&e))?,
        }),
        Row::Garbage(bucket, key, blob) => {
            let mut garbage: GarbageRecord = decode(row, value).map_err(|e| corrupt(&e))?;
            expand(source, (bucket, &key), blob, &mut garbage).await?;
            Ok(Named::Garbage { bucket, key, garbage })
        }
        other => Err(StoreError::Corrupt(format!(
            "{other:?} among rows that name bytes"
        ))),
    }
}

/// Brings the chunks that are still in manifest pages.
async fn expand(
    source: &Source<'_>,
    name: (BucketId, &str),
    blob: BlobId,
    garbage: &mut GarbageRecord,
) -> Result<(), StoreError> {
    if let Some(manifest) = &garbage.manifest {
        let pages = source.manifest(name, blob, manifest.pages).await?;
        let pages = pages.ok_or_else(|| missing(name.1, name.0))?;
        garbage.chunks = pages.into_iter().flat_map(|p| p.chunks).collect();
    }
    Ok(())
}

fn missing(key: &str, bucket: BucketId) -> StoreError {
    StoreError::Corrupt(format!(
        "{key:?} in bucket {bucket} names rows that are not there"
    ))
}
