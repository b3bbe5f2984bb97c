//! The role: which partition a command or read belongs to.

use crate::cache::Half;
use crate::commands::is_directory;
use crate::handle::Handle;
use bytes::Bytes;
use std::sync::Arc;
use store::Store;
use types::limits::ROW_CACHE_BYTES_MAX;
use types::{BucketId, BucketName, ObjectKey, PartitionId, SessionId, StampId, UploadId};
use wire::Fault;
use wire::index::{
    Answered, Booked, BucketsQuery, Call, Doubt, Found, IdleUpload, Index, ListPage, ListQuery, Named,
    PartsPage, Reached, ReadAnswer, Reclaim, SettingKind, UploadsPage, UploadsQuery, Verified, VersionRef,
    VersionsPage, VersionsQuery,
};
use wire::records::{BucketRecord, BucketSetting, UsageRecord};
use wire::scrub::Reread;
use world::{Clock, World};

/// Rows that were in memory and that nobody asks for.
pub struct Rested(#[allow(dead_code, reason = "to be dropped")] Vec<Half>);

/// The index of one process: the directory and, until partitions split, one partition of objects.
pub struct IndexRole {
    directory: Handle,
    data: Handle,
    clock: Arc<dyn Clock>,
}

impl IndexRole {
    /// Takes its partitions of `store` and serves them.
    ///
    /// # Errors
    /// When a partition cannot be taken or its own rows are corrupt.
    pub async fn open(world: World, store: Arc<dyn Store>, stamp: StampId) -> Result<Self, Fault> {
        Self::open_within(world, store, stamp, ROW_CACHE_BYTES_MAX).await
    }

    /// The same with so many bytes of rows in memory for each partition.
    ///
    /// # Errors
    /// As [`IndexRole::open`].
    pub async fn open_within(
        world: World,
        store: Arc<dyn Store>,
        stamp: StampId,
        row_cache_bytes: usize,
    ) -> Result<Self, Fault> {
        let clock = world.clock.clone();
        let open = |id| Handle::open(world.clone(), store.clone(), id, (stamp, row_cache_bytes));
        Ok(Self {
            clock,
            directory: open(PartitionId::DIRECTORY).await?,
            data: open(PartitionId::FIRST_DATA).await?,
        })
    }

    /// No command of a session below `mark` takes effect once this is answered, whatever becomes of this process.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub async fn end_sessions_below(&self, mark: SessionId) -> Result<(), Fault> {
        self.directory.end_sessions_below(mark).await?;
        self.data.end_sessions_below(mark).await
    }

    /// Gives up rows in memory that nobody has asked for since this was last called. They may be hundreds of thousands: to be dropped where
    /// nobody waits for that.
    pub fn rest(&self) -> Option<Rested> {
        let directory = self.directory.shared.cache().rest();
        let data = self.data.shared.cache().rest();
        let rested = directory.into_iter().chain(data).flatten().collect::<Vec<_>>();
        (!rested.is_empty()).then_some(Rested(rested))
    }

    /// Answers what it was sent, then stops. Calls and reads from here on are refused.
    pub async fn shutdown(&self) {
        self.directory.shutdown().await;
        self.data.shutdown().await;
    }
}

#[async_trait::async_trait]
impl Index for IndexRole {
    async fn serving(&self) -> Result<(), Fault> {
        self.directory.serving(&*self.clock).await?;
        self.data.serving(&*self.clock).await
    }

    async fn call(&self, call: Call) -> Answered {
        if is_directory(&call.command) {
            self.directory.call(call).await
        } else {
            self.data.call(call).await
        }
    }

    async fn bucket(&self, name: &BucketName) -> ReadAnswer<BucketRecord> {
        self.directory.bucket(name).await
    }

    async fn buckets(&self, query: BucketsQuery) -> Result<Vec<BucketRecord>, Fault> {
        self.directory.buckets(&query).await
    }

    async fn bucket_setting(
        &self,
        bucket: BucketId,
        kind: SettingKind,
    ) -> Result<Option<BucketSetting>, Fault> {
        self.directory.bucket_setting(bucket, kind).await
    }

    async fn get(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        version: VersionRef,
        with_manifest: bool,
    ) -> ReadAnswer<Found> {
        self.data
            .get((bucket, key.as_str()), version, with_manifest)
            .await
    }

    async fn list(&self, query: ListQuery) -> ReadAnswer<ListPage> {
        self.data.list(&query).await.map(Ok)
    }

    async fn list_versions(&self, query: VersionsQuery) -> ReadAnswer<VersionsPage> {
        self.data.list_versions(&query).await.map(Ok)
    }

    async fn uploads(&self, query: UploadsQuery) -> ReadAnswer<UploadsPage> {
        self.data.uploads(&query).await.map(Ok)
    }

    async fn parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after: u32,
        max: u32,
    ) -> ReadAnswer<PartsPage> {
        self.data.parts((bucket, key.as_str()), upload, after, max).await
    }

    async fn usage(&self, bucket: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault> {
        self.data.usage(bucket).await
    }

    async fn walk(&self, cursor: Bytes) -> Result<(Vec<Named>, Bytes), Fault> {
        self.data.walk(cursor).await
    }

    async fn walk_on(&self, cursor: Bytes) -> Result<(Vec<Named>, Vec<String>, Bytes), Fault> {
        self.data.walk_on(cursor).await
    }

    /// Both partitions are of one engine, and the control plane's is, too.
    async fn verify_files(&self, cursor: Bytes) -> Result<Reread, Fault> {
        self.data.verify_files(&cursor).await
    }

    async fn bucket_name(&self, bucket: BucketId) -> Result<Option<String>, Fault> {
        self.directory.bucket_name(bucket).await
    }

    /// A cursor is the partition's place among those here, then a row key.
    async fn verify(&self, cursor: Bytes) -> Result<Verified, Fault> {
        let parts = [&self.directory, &self.data];
        let (at, row) = match cursor.split_first() {
            Some((at, row)) => (usize::from(*at), Bytes::copy_from_slice(row)),
            None => (0, Bytes::new()),
        };
        let Some(handle) = parts.get(at) else {
            return Ok(Verified::default());
        };
        let mut found = handle.verify(row).await?;
        let next = if found.next.is_empty() { at + 1 } else { at };
        found.next = match parts.get(next) {
            Some(_) => [&[next as u8], &found.next[..]].concat().into(),
            None => Bytes::new(),
        };
        Ok(found)
    }
}

#[async_trait::async_trait]
impl Reclaim for IndexRole {
    async fn garbage(&self, cursor: Bytes, count_max: usize) -> Result<(Vec<Booked>, Bytes), Fault> {
        self.data.garbage(&cursor, count_max).await
    }

    async fn reached(&self, doubts: Vec<Doubt>) -> Result<Reached, Fault> {
        self.data.reached(&doubts).await
    }

    async fn uploads_idle(&self, cursor: Bytes, before_ms: u64) -> Result<(Vec<IdleUpload>, Bytes), Fault> {
        self.data.uploads_idle(&cursor, before_ms).await
    }
}
