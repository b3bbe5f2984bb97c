//! Roles that answer badly: an index whose answers get lost, a store whose commits end unknown.

use crate::SimRng;
use crate::record::Recorder;
use crate::watch::bucket_step;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Batch, Committed, Fence, Snapshot, Store, StoreError};
use types::{BucketId, BucketName, CommandId, ErrorKind, ObjectKey, PartitionId, UploadId};
use wire::Fault;
use wire::index::{
    Answered, Booked, BucketsQuery, Call, Doubt, Found, IdleUpload, Index, ListPage, ListQuery, Named,
    PartsPage, Reach, Reached, ReadAnswer, Reclaim, SettingKind, UploadsPage, UploadsQuery, VersionRef,
    VersionsPage, VersionsQuery,
};
use wire::records::answer::Kind;
use wire::records::{Answer, BucketRecord, BucketSetting, UsageRecord};
use world::Clock;

/// Lost commands that are kept for later, at most.
const LATE_MAX: usize = 8;

/// An index at the far end of a bad line.
pub struct FlakyIndex {
    far: Arc<dyn Reclaim>,
    rng: SimRng,
    recorder: Recorder,
    /// Calls in a hundred whose answer is lost.
    percent: u64,
    clock: Arc<dyn Clock>,
    /// What each command was answered: it must not be answered otherwise (I11).
    answered: Mutex<BTreeMap<CommandId, Answer>>,
}

impl FlakyIndex {
    /// A line to `far` that loses `percent` of the answers.
    pub fn new(
        far: Arc<dyn Reclaim>,
        rng: SimRng,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        percent: u64,
    ) -> Self {
        Self {
            far,
            rng,
            recorder,
            clock,
            percent,
            answered: Mutex::default(),
        }
    }

    fn compare(&self, id: CommandId, answer: &Answer) {
        let mut answered = self.answered.lock().expect("no panic under this lock");
        match answered.get(&id) {
            Some(before) if before == answer => self.recorder.count("retry.answered_from_done"),
            Some(before) => {
                let what = format!("command {id} was answered {before:?} and then {answer:?}");
                self.recorder.violation(what);
            }
            None => {
                answered.insert(id, answer.clone());
            }
        }
    }
}

fn count_condemned(recorder: &Recorder, answer: &Answer) {
    if let Some(Kind::Condemn(answer)) = &answer.kind {
        let condemned = |reach: &&u8| Reach::from_number(**reach) == Some(Reach::Condemned);
        let condemned = answer.reach.iter().filter(condemned).count();
        recorder.get().counts.add("gc.condemned", condemned as u64);
    }
}

fn unknown(what: &str) -> Fault {
    Fault::new(ErrorKind::Unknown, format!("simulated: {what}"))
}

#[async_trait::async_trait]
impl Index for FlakyIndex {
    async fn call(&self, call: Call) -> Answered {
        let dice = self.rng.below(200);
        if self.rng.percent(25) {
            self.clock
                .sleep(Duration::from_millis(self.rng.between(1, 20)))
                .await;
        }
        if dice < self.percent {
            self.recorder.count("fault.call_lost");
            let record = &mut *self.recorder.get();
            if record.late.len() < LATE_MAX {
                record.late.push(call);
            }
            return Err(unknown("the call was lost"));
        }
        let (id, command) = (call.id, call.command.clone());
        let answer = self.far.call(call).await;
        if let Ok(answer) = &answer {
            self.compare(id, answer);
            count_condemned(&self.recorder, answer);
            if let Some(step) = bucket_step(&command, answer) {
                self.recorder.count(step);
            }
        }
        if dice < 2 * self.percent {
            self.recorder.count("fault.answer_lost");
            return Err(unknown("the answer was lost"));
        }
        answer
    }

    async fn bucket(&self, name: &BucketName) -> ReadAnswer<BucketRecord> {
        self.far.bucket(name).await
    }

    async fn buckets(&self, query: BucketsQuery) -> Result<Vec<BucketRecord>, Fault> {
        self.far.buckets(query).await
    }

    async fn bucket_setting(
        &self,
        bucket: BucketId,
        kind: SettingKind,
    ) -> Result<Option<BucketSetting>, Fault> {
        self.far.bucket_setting(bucket, kind).await
    }

    async fn get(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        version: VersionRef,
        with_manifest: bool,
    ) -> ReadAnswer<Found> {
        self.far.get(bucket, key, version, with_manifest).await
    }

    async fn list(&self, query: ListQuery) -> ReadAnswer<ListPage> {
        self.far.list(query).await
    }

    async fn list_versions(&self, query: VersionsQuery) -> ReadAnswer<VersionsPage> {
        self.far.list_versions(query).await
    }

    async fn uploads(&self, query: UploadsQuery) -> ReadAnswer<UploadsPage> {
        self.far.uploads(query).await
    }

    async fn parts(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        upload: UploadId,
        after: u32,
        max: u32,
    ) -> ReadAnswer<PartsPage> {
        self.far.parts(bucket, key, upload, after, max).await
    }

    async fn usage(&self, bucket: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault> {
        self.far.usage(bucket).await
    }

    async fn walk(&self, cursor: Bytes) -> Result<(Vec<Named>, Bytes), Fault> {
        self.far.walk(cursor).await
    }
}

#[async_trait::async_trait]
impl Reclaim for FlakyIndex {
    async fn garbage(&self, cursor: Bytes, count_max: usize) -> Result<(Vec<Booked>, Bytes), Fault> {
        self.far.garbage(cursor, count_max).await
    }

    async fn reached(&self, doubts: Vec<Doubt>) -> Result<Reached, Fault> {
        let reached = self.far.reached(doubts).await;
        // What was told of needles may be old when it is acted on.
        if self.rng.percent(25) {
            let pause = Duration::from_millis(self.rng.between(1, 20));
            self.clock.sleep(pause).await;
        }
        reached
    }

    async fn uploads_idle(&self, cursor: Bytes, before_ms: u64) -> Result<(Vec<IdleUpload>, Bytes), Fault> {
        self.far.uploads_idle(cursor, before_ms).await
    }
}

/// A store whose commits end unknown now and then, done or not.
pub struct FlakyStore {
    far: Arc<dyn Store>,
    rng: SimRng,
    recorder: Recorder,
    /// Commits in a hundred.
    percent: u64,
}

impl FlakyStore {
    /// `far`, with `percent` of the commits ending unknown.
    pub fn new(far: Arc<dyn Store>, rng: SimRng, recorder: Recorder, percent: u64) -> Self {
        Self {
            far,
            rng,
            recorder,
            percent,
        }
    }
}

#[async_trait::async_trait]
impl Store for FlakyStore {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        self.recorder.count("partition.taken");
        self.far.take(partition).await
    }

    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.far.snapshot(partition).await
    }

    async fn commit(&self, fence: Fence, batch: Batch) -> Committed {
        let dice = self.rng.below(200);
        let unknown = || Committed::Unknown(StoreError::Failed("simulated: nobody knows".into()));
        if dice < self.percent {
            self.recorder.count("fault.commit_unknown_not_done");
            return unknown();
        }
        let committed = self.far.commit(fence, batch).await;
        self.recorder.count(match committed {
            Committed::Done(_) => "commit.done",
            Committed::Refused => "commit.refused",
            Committed::NotDone(_) => "commit.not_done",
            Committed::Unknown(_) => "commit.unknown",
        });
        if dice < 2 * self.percent && matches!(committed, Committed::Done(_)) {
            self.recorder.count("fault.commit_unknown_done");
            return unknown();
        }
        committed
    }
}
