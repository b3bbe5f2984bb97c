//! The gateway's object operations: what all of them share.

use crate::buckets::Turns;
use crate::commands::Commands;
use crate::in_hand::UploadsInHand;
use crate::md5::Lanes;
use crate::readers::Readers;
use crate::{Caller, ObjectsError};
use blob::Blob;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use types::limits::RETRIES_MAX;
use types::{BucketId, BucketName, ErrorKind, ExtentId, Kind, SessionId, UploadId};
use wire::gateway::{self, Abandoned, Gateway};
use wire::index::{Command, Index, Reason};
use wire::records::BucketRecord;
use wire::records::answer::Kind as AnswerKind;
use world::{Budget, World};

/// What a put, get, list, part means. One a gateway; share it in an `Arc`.
pub struct Objects {
    pub(crate) world: World,
    pub(crate) blob: Arc<Blob>,
    pub(crate) index: Arc<dyn Index>,
    pub(crate) commands: Commands,
    pub(crate) turns: Turns,
    pub(crate) readers: Readers,
    pub(crate) uploads: UploadsInHand,
    pub(crate) region: String,
    /// Where large bodies are hashed together; `None`: each on its own.
    pub(crate) lanes: Option<Arc<Lanes>>,
}

impl Objects {
    /// The operations of `session`. Called inside a runtime: abandoned commands are followed up by a task of it.
    pub fn new(world: World, blob: Arc<Blob>, index: Arc<dyn Index>, session: SessionId) -> Self {
        Self {
            commands: Commands::new(Arc::clone(&index), Arc::clone(&world.clock), session),
            lanes: Lanes::start(world.exec),
            world,
            blob,
            index,
            turns: Turns::default(),
            readers: Readers::default(),
            uploads: UploadsInHand::default(),
            region: "us-east-1".into(),
        }
    }

    /// The region that new buckets say they are in.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// What requests take their memory from.
    pub fn budget(&self) -> &Arc<Budget> {
        self.blob.budget()
    }

    /// Waits for commands whose callers have vanished. Operations under way go on; the caller has drained them before.
    pub async fn shutdown(&self) {
        self.commands.shutdown().await;
    }

    /// Sends the command that `make` makes for the bucket. Where a partition refuses it because the bucket is changing,
    /// the change is finished first and the command sent anew, as long as it is still the same bucket.
    pub(crate) async fn send_in(
        &self,
        caller: &Caller,
        name: &BucketName,
        bucket: BucketId,
        make: impl Fn() -> Command + Send,
    ) -> Result<AnswerKind, ObjectsError> {
        let mut attempt = 0;
        loop {
            let error = match self.commands.send(make()).await {
                Err(error) if changing(&error) && attempt < RETRIES_MAX => error,
                answer => return answer,
            };
            attempt += 1;
            self.pause(attempt).await;
            let now = self.settle(caller, name).await?;
            if BucketId(now.bucket) != bucket {
                return Err(error_of_gone_bucket(&error));
            }
        }
    }

    pub(crate) async fn pause(&self, attempt: u32) {
        self.world
            .clock
            .sleep(Duration::from_millis(1 << attempt.min(6)))
            .await;
    }

    /// The caller's bucket, open.
    pub(crate) async fn bucket(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<BucketRecord, ObjectsError> {
        let record = self.bucket_row(caller, name).await?;
        if crate::buckets::is_settled(&record) {
            return Ok(record);
        }
        self.settle(caller, name).await
    }

    /// The caller's bucket, to read in it what is there. One that is being deleted is read, too, where that cannot be finished because
    /// the index rotted.
    pub(crate) async fn bucket_to_read(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<BucketRecord, ObjectsError> {
        match self.bucket(caller, name).await {
            Err(e) if e.kind() == ErrorKind::Corrupt => self.bucket_row(caller, name).await,
            settled => settled,
        }
    }

    /// What was seen or refused of a bucket's uploads, if the bucket is there still. A deletion takes them away one after the
    /// other, and can not be given up once it does: nobody is to see it half done.
    pub(crate) async fn unless_deleted<T>(
        &self,
        (caller, name): (&Caller, &BucketName),
        bucket: BucketId,
        seen: Result<T, ObjectsError>,
    ) -> Result<T, ObjectsError> {
        match BucketId(self.bucket(caller, name).await?.bucket) == bucket {
            true => seen,
            false => Err(Reason::NoSuchBucket.into()),
        }
    }
}

#[async_trait::async_trait]
impl Gateway for Objects {
    fn readers_mark(&self) -> u64 {
        self.readers.mark()
    }

    fn readers_below(&self, mark: u64) -> gateway::Readers {
        self.readers.below(mark)
    }

    fn release(&self, extent: ExtentId) -> bool {
        self.blob.release(extent)
    }

    fn abandoned(&self, max: usize) -> Vec<Abandoned> {
        self.blob.abandoned(max)
    }

    async fn room_wanted(&self, after: u64) -> u64 {
        self.blob.room_wanted(after).await
    }

    fn room(&self, told: gateway::Room) {
        self.blob.tell_of_room(told);
    }

    fn uploads_under_way(&self) -> BTreeSet<UploadId> {
        self.uploads.under_way()
    }
}

/// Whether a partition refused because of the bucket's state, which may be about to change.
fn changing(error: &ObjectsError) -> bool {
    matches!(error.reason(), Some(Reason::BucketBusy | Reason::NoSuchBucket))
}

fn error_of_gone_bucket(error: &ObjectsError) -> ObjectsError {
    match error.reason() {
        Some(_) => Reason::NoSuchBucket.into(),
        None => error.clone(),
    }
}
