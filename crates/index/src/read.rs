//! Reads by key, beside the owner's loop: an object, a bucket, usage, an account's buckets.
//!
//! I2: they see only what is durable, and nothing older than what anyone was answered before they began.

use crate::fetch::{corrupt, first_rows};
use crate::handle::Handle;
use crate::owner::{Shared, fault};
use crate::rows::{Range, Row, RowRef, after, decode};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use store::{Snapshot, StoreError};
use types::limits::SCAN_ROWS_MAX;
use types::{BlobId, BucketId, BucketName, VersionId};
use wire::Fault;
use wire::index::{BucketsQuery, Found, ReadAnswer, Reason, SettingKind, VersionRef};
use wire::records::{
    BucketCopy, BucketRecord, BucketSetting, Manifest, ManifestPage, ObjectRecord, UsageRecord,
    object_record::Data,
};

/// Where rows of one read come from.
pub(crate) enum Source<'a> {
    /// Memory where it knows them, else the newest snapshot: each call its own moment.
    Newest(&'a Shared),
    /// One moment for all.
    Snapshot(Arc<dyn Snapshot>),
}

/// What a key names that has no visible object.
enum Newest {
    /// Nothing.
    None,
    /// A delete marker.
    Marker(Box<ObjectRecord>),
    /// It takes a snapshot to tell.
    Unknown,
}

impl Source<'_> {
    pub(crate) async fn rows(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        match self {
            Self::Newest(shared) => shared.rows(keys).await,
            Self::Snapshot(snapshot) => snapshot.get(keys).await,
        }
    }

    pub(crate) async fn get<M: Message + Default>(&self, row: RowRef<'_>) -> Result<Option<M>, StoreError> {
        let key = row.key();
        let value = self.rows(std::slice::from_ref(&key)).await?.pop().flatten();
        value
            .map(|v| decode(&key, &v))
            .transpose()
            .map_err(|e| corrupt(&e))
    }

    /// What a key without `current` row names: nothing, or the delete marker that stands first among its versions.
    async fn newest_marker(&self, (bucket, key): (BucketId, &str)) -> Result<Newest, StoreError> {
        let copy: Option<BucketCopy> = self.get(RowRef::Bucket(bucket)).await?;
        if copy.is_none_or(|c| c.versioning == 0) {
            return Ok(Newest::None);
        }
        let Self::Snapshot(snapshot) = self else {
            return Ok(Newest::Unknown);
        };
        let rows = first_rows(&**snapshot, &Range::versions(bucket, key), 1).await?;
        let Some((row, value)) = rows.first() else {
            return Ok(Newest::None);
        };
        let newest: ObjectRecord = decode(row, value).map_err(|e| corrupt(&e))?;
        if !newest.delete_marker {
            let what = format!("the newest version of {key:?} in bucket {bucket} is not visible");
            return Err(StoreError::Corrupt(what));
        }
        Ok(Newest::Marker(Box::new(newest)))
    }

    /// The null version that is not the current one.
    pub(crate) async fn older_null(
        &self,
        (bucket, key): (BucketId, &str),
    ) -> Result<Option<ObjectRecord>, StoreError> {
        let row = RowRef::Null(bucket, key).key();
        let Some(id) = self.rows(std::slice::from_ref(&row)).await?.pop().flatten() else {
            return Ok(None);
        };
        let id = VersionId::from_slice(&id)
            .ok_or_else(|| StoreError::Corrupt(format!("which version of {key:?} is null")))?;
        self.get(RowRef::Version(bucket, key, id)).await
    }

    /// The bytes or pages that a record says are in other rows; `None` when one is not there, or where the two are of different moments.
    pub(crate) async fn complete(
        &self,
        (bucket, key): (BucketId, &str),
        record: ObjectRecord,
        with_manifest: bool,
    ) -> Result<Option<Found>, StoreError> {
        let mut found = Found {
            record,
            inline: None,
            manifest: Vec::new(),
        };
        match &found.record.data {
            Some(Data::Inline(inline)) => {
                let row = RowRef::Inline(bucket, key, version_of(&found.record)?).key();
                let Some(bytes) = self.rows(std::slice::from_ref(&row)).await?.pop().flatten() else {
                    return Ok(None);
                };
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32;
                if bytes.len() != inline.length as usize || crc != inline.crc32c {
                    return Err(StoreError::Corrupt(format!(
                        "inline bytes of {key:?} in bucket {bucket}"
                    )));
                }
                found.inline = Some(bytes);
            }
            Some(Data::Manifest(manifest)) if with_manifest => {
                let blob = BlobId::from_slice(&found.record.blob)
                    .ok_or_else(|| StoreError::Corrupt(format!("no blob id in the record of {key:?}")))?;
                let pages = self.manifest((bucket, key), blob, manifest.pages).await?;
                // An append writes on in the last page: read after the record, that one may hold more than the record knows of.
                let is_newer = |pages: &Vec<ManifestPage>| {
                    matches!(self, Self::Newest(_)) && !holds_as_many(manifest, pages)
                };
                let Some(pages) = pages.filter(|pages| !is_newer(pages)) else {
                    return Ok(None);
                };
                found.manifest = pages;
            }
            _ => {}
        }
        Ok(Some(found))
    }

    /// A manifest's pages; `None` when one is not there.
    pub(crate) async fn manifest(
        &self,
        (bucket, key): (BucketId, &str),
        blob: BlobId,
        pages: u32,
    ) -> Result<Option<Vec<ManifestPage>>, StoreError> {
        let keys: Vec<Bytes> = (0..pages)
            .map(|page| RowRef::Manifest(bucket, key, blob, page).key())
            .collect();
        let values = self.rows(&keys).await?;
        let pages = keys
            .iter()
            .zip(values)
            .map(|(k, v)| v.map(|v| decode(k, &v)).transpose());
        let pages: Result<Option<Vec<ManifestPage>>, _> = pages.collect();
        pages.map_err(|e| corrupt(&e))
    }
}

fn holds_as_many(manifest: &Manifest, pages: &[ManifestPage]) -> bool {
    let chunks: usize = pages.iter().map(|p| p.chunks.len()).sum();
    let parts: usize = pages.iter().map(|p| p.parts.len()).sum();
    (chunks as u64, parts as u64) == (manifest.chunks, manifest.parts)
}

pub(crate) fn version_of(record: &ObjectRecord) -> Result<VersionId, StoreError> {
    VersionId::from_slice(&record.version)
        .ok_or_else(|| StoreError::Corrupt("a record without version id".into()))
}

impl Handle {
    /// Reads of one consistent moment, which may be done more than once.
    pub(crate) async fn at_one_moment<T, R>(
        &self,
        read: impl Fn(Arc<dyn Snapshot>) -> R + Send + Sync,
    ) -> Result<T, Fault>
    where
        R: Future<Output = Result<T, StoreError>> + Send,
    {
        self.ready().await?;
        self.shared.read(read).await.map_err(|e| fault(&e))
    }

    /// An object, visible or of a given version.
    pub(crate) async fn get(
        &self,
        name: (BucketId, &str),
        version: VersionRef,
        with_manifest: bool,
    ) -> ReadAnswer<Found> {
        self.ready().await?;
        let newest = Source::Newest(&self.shared);
        let found = self.try_get(&newest, name, (version, with_manifest)).await;
        match found.map_err(|e| fault(&e))? {
            Ok(Some(found)) => return Ok(Ok(found)),
            Err(reason) => return Ok(Err(reason)),
            Ok(None) => {}
        }
        // It was replaced or moved between its rows, or only a scan can tell. In one moment it is there or it is not.
        let found = self.at_one_moment(|snapshot| async move {
            let source = Source::Snapshot(snapshot);
            self.try_get(&source, name, (version, with_manifest)).await
        });
        match found.await? {
            Ok(Some(found)) => Ok(Ok(found)),
            Err(reason) => Ok(Err(reason)),
            Ok(None) => {
                let what = format!("{:?} in bucket {} names rows that are not there", name.1, name.0);
                Err(fault(&StoreError::Corrupt(what)))
            }
        }
    }

    /// `None`: not to be told from this source, which only a snapshot never says of what is there.
    async fn try_get(
        &self,
        source: &Source<'_>,
        (bucket, key): (BucketId, &str),
        (version, with_manifest): (VersionRef, bool),
    ) -> Result<Result<Option<Found>, Reason>, StoreError> {
        let current: Option<ObjectRecord> = source.get(RowRef::Current(bucket, key)).await?;
        let record = match (current, version) {
            (Some(current), VersionRef::Current) => Some(current),
            (Some(current), VersionRef::Null) if current.null_version => Some(current),
            (Some(current), VersionRef::Id(id)) if version_of(&current)? == id => Some(current),
            (None, VersionRef::Current) => match source.newest_marker((bucket, key)).await? {
                Newest::Unknown => return Ok(Ok(None)),
                Newest::Marker(marker) => Some(*marker),
                Newest::None => None,
            },
            (_, VersionRef::Null) => source.older_null((bucket, key)).await?,
            (_, VersionRef::Id(id)) => source.get(RowRef::Version(bucket, key, id)).await?,
        };
        match (record, version, source) {
            (Some(record), ..) => source
                .complete((bucket, key), record, with_manifest)
                .await
                .map(Ok),
            (None, VersionRef::Current, _) => Ok(Err(Reason::NoSuchKey)),
            // It may have moved between the two rows.
            (None, _, Source::Newest(_)) => Ok(Ok(None)),
            (None, _, Source::Snapshot(_)) => Ok(Err(Reason::NoSuchVersion)),
        }
    }

    /// A bucket by name, whatever its state: whoever finds it opening or deleting can finish that.
    pub(crate) async fn bucket(&self, name: &BucketName) -> ReadAnswer<BucketRecord> {
        self.ready().await?;
        let source = Source::Newest(&self.shared);
        let record: Option<BucketRecord> = source
            .get(RowRef::BucketName(name.as_str()))
            .await
            .map_err(|e| fault(&e))?;
        Ok(record.ok_or(Reason::NoSuchBucket))
    }

    /// What a bucket was told.
    pub(crate) async fn bucket_setting(
        &self,
        bucket: BucketId,
        kind: SettingKind,
    ) -> Result<Option<BucketSetting>, Fault> {
        self.ready().await?;
        let source = Source::Newest(&self.shared);
        let setting: Option<BucketSetting> = source
            .get(RowRef::BucketSetting(bucket, kind as u32))
            .await
            .map_err(|e| fault(&e))?;
        match setting {
            Some(setting) if SettingKind::of(&setting) != Some(kind) => {
                let what = format!("setting {kind:?} of bucket {bucket} is of another kind");
                Err(fault(&StoreError::Corrupt(what)))
            }
            setting => Ok(setting),
        }
    }

    /// A page of an account's buckets, by name.
    pub(crate) async fn buckets(&self, query: &BucketsQuery) -> Result<Vec<BucketRecord>, Fault> {
        let mut range = Range::account_buckets(query.owner, &query.prefix);
        if !query.after.is_empty() {
            let last = RowRef::AccountBucket(query.owner, &query.after).key();
            range.start = range.start.max(after(&last));
        }
        let range = &range;
        let listed = self.at_one_moment(|snapshot| async move {
            let names = first_rows(&*snapshot, range, query.max as usize).await?;
            let mut keys = Vec::with_capacity(names.len());
            for (key, _) in &names {
                if let Row::AccountBucket(_, name) = Row::parse(key).map_err(|e| corrupt(&e))? {
                    keys.push(RowRef::BucketName(&name).key());
                }
            }
            let values = snapshot.get(&keys).await?;
            let records = keys.iter().zip(values).filter_map(|(k, v)| Some(decode(k, &v?)));
            records
                .collect::<Result<Vec<BucketRecord>, _>>()
                .map_err(|e| corrupt(&e))
        });
        listed.await
    }

    /// What the bucket of an id is called. It looks at all of them: nobody asks who is in a hurry.
    pub(crate) async fn bucket_name(&self, bucket: BucketId) -> Result<Option<String>, Fault> {
        let mut range = Range::bucket_names();
        loop {
            let all = &range;
            let rows = self
                .at_one_moment(|snapshot| async move { first_rows(&*snapshot, all, SCAN_ROWS_MAX).await })
                .await?;
            for (key, value) in &rows {
                let record = decode::<BucketRecord>(key, value).map_err(|e| fault(&corrupt(&e)))?;
                if record.bucket == bucket.0 {
                    return Ok(Some(record.name));
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS_MAX => range.start = after(last),
                _ => return Ok(None),
            }
        }
    }

    /// A bucket's usage by storage class.
    pub(crate) async fn usage(&self, bucket: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault> {
        let range = &Range::usage(bucket);
        let rows = self
            .at_one_moment(|snapshot| async move { first_rows(&*snapshot, range, usize::MAX).await })
            .await?;
        let classes = rows.iter().map(|(key, value)| match Row::parse(key)? {
            Row::Usage(_, class) => Ok((class, decode(key, value)?)),
            _ => Err(crate::rows::BadRow::new("a row that is not usage among usage")),
        });
        classes.collect::<Result<_, _>>().map_err(|e| fault(&corrupt(&e)))
    }
}
