//! Counts the store's changes of state as they pass by, so that a simulation which never makes one is found out.

use crate::SimDisk;
use crate::disk::Counts;
use crate::record::Recorder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{Epoch, ExtentId, SessionId};
use wire::Fault;
use wire::control::{Control, Grant, Location};
use wire::index::{Command, Reason};
use wire::records::Answer;
use wire::records::answer::Kind;

/// The step of a bucket's life that an answer says was taken.
pub fn bucket_step(command: &Command, answer: &Answer) -> Option<&'static str> {
    let kind = answer.kind.as_ref()?;
    match (command, kind) {
        (_, Kind::Refused(refused)) => match (command, Reason::from_number(refused.reason)) {
            (Command::BeginDeleteBucket { .. }, Some(Reason::BucketBusy)) => Some("bucket.turn_lost"),
            (Command::BeginDeleteBucket { .. }, Some(Reason::NoSuchBucket)) => Some("bucket.another_by_now"),
            (Command::FinishDeleteBucket { .. }, _) => Some("bucket.finish_refused"),
            _ => None,
        },
        (Command::CreateBucket { .. }, Kind::Bucket(answer)) if !answer.existed => Some("bucket.opening"),
        (Command::BucketOpened { .. }, _) => Some("bucket.opened"),
        (Command::BeginDeleteBucket { stale: false, .. }, _) => Some("bucket.deleting"),
        (Command::BeginDeleteBucket { stale: true, .. }, _) => Some("bucket.taken_over"),
        (Command::CloseBucket { .. }, Kind::Close(answer)) if answer.empty => Some("bucket.closed_empty"),
        (Command::CloseBucket { .. }, Kind::Close(answer)) if answer.only_uploads => {
            Some("bucket.closed_uploads")
        }
        (Command::CloseBucket { .. }, _) => Some("bucket.closed_full"),
        (Command::CancelDeleteBucket { .. }, _) => Some("bucket.reopened"),
        (Command::FinishDeleteBucket { .. }, _) => Some("bucket.removed"),
        _ => None,
    }
}

/// A control plane, watched by one gateway.
pub struct WatchedControl {
    far: Arc<dyn Control>,
    recorder: Recorder,
    sealed: AtomicU64,
}

impl WatchedControl {
    /// `far`, counted.
    pub fn new(far: Arc<dyn Control>, recorder: Recorder) -> Self {
        Self {
            far,
            recorder,
            sealed: AtomicU64::new(0),
        }
    }
}

#[async_trait::async_trait]
impl Control for WatchedControl {
    async fn begin_session(&self, host: &str) -> Result<SessionId, Fault> {
        self.far.begin_session(host).await
    }

    async fn end_session(&self, session: SessionId) -> Result<(), Fault> {
        self.far.end_session(session).await
    }

    async fn grant(&self, session: SessionId) -> Result<Grant, Fault> {
        let grant = self.far.grant(session).await?;
        self.recorder.count("extent.granted");
        if grant.epoch > Epoch(1) {
            self.recorder.count("extent.granted_again");
        }
        if self.sealed.load(Ordering::Relaxed) > 0 {
            self.recorder.count("extent.rolled");
        }
        Ok(grant)
    }

    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<(), Fault> {
        self.far.seal(extent, epoch).await?;
        self.recorder.count("extent.sealed_by_writer");
        self.sealed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault> {
        self.far.locate(extent).await
    }

    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        self.far.locations().await
    }
}

/// Syncs of a life's beginning: opening makes checkpoints of its own.
#[derive(Clone, Debug, Default)]
pub struct Opened(Counts);

impl Opened {
    /// Now.
    pub fn now(disk: &SimDisk) -> Self {
        Self(disk.counts())
    }

    /// Counts the checkpoints since, and the laps of the journal.
    pub fn count(&self, disk: &SimDisk, recorder: &Recorder) {
        let now = disk.counts();
        let record = &mut *recorder.get();
        for (syncs, checkpoints) in [
            ("syncs.extent_table", "checkpoint.extents"),
            ("syncs.index", "checkpoint.index"),
        ] {
            record.counts.add(checkpoints, now.get(syncs) - self.0.get(syncs));
        }
        if let Some(journal) = record.journal.clone() {
            let stats = journal.stats();
            let laps = stats.laps.load(Ordering::Relaxed);
            let stalls = stats.stalls.load(Ordering::Relaxed);
            record.counts.add("journal.lapped", laps);
            record.counts.add("journal.stalled", stalls);
        }
    }
}
