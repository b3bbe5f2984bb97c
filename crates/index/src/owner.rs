//! The one writer of a partition: waits in one place, applies in another.
//!
//! ```text
//!   queue ──▶ decide ──▶ commit ──▶ answer        while a commit is in flight the queue collects the next batch
//!                          │ refused: another owner was here; nothing was written
//!                          │ unknown: it is or is not there
//!                          ▼
//!                 take again (higher epoch), reload, decide anew: those that did take effect get their answer
//!                 from `done`
//! ```
//! Limits: `OWNER_QUEUE_MAX` calls wait, `BATCH_COMMANDS_MAX` and `BATCH_FILL_BYTES` bound a batch, `RETRIES_MAX` the tries
//! of one. Readers ask [`Shared`], never the loop, and wait while the partition is not taken.

use crate::cache::Cache;
use crate::commands;
use crate::partition::{Draft, Partition, Verdict};
use crate::rows::{Range, Row, RowRef, after, decode, is_condemned};
use crate::view::Needs;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Committed, Snapshot, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use types::limits::{BATCH_COMMANDS_MAX, DONE_ROWS_MAX, RETRIES_MAX, SCAN_ROWS_MAX};
use types::{ErrorKind, Kind, PartitionId, SessionId, StampId};
use wire::Fault;
use wire::index::{Answered, Call};
use wire::records::{Answer, DoneRecord, PartitionState, SessionFloor};
use world::World;

/// Times a command may ask for rows. Each asks for what the last could not name; none needs more than four.
const NEEDS_MAX: usize = 16;

/// What comes through the queue.
pub(crate) enum Job {
    /// A command.
    Call(Box<Call>, oneshot::Sender<Answered>),
    /// No command of a lower session takes effect from here on.
    EndSessions(SessionId, oneshot::Sender<Result<(), Fault>>),
    /// A reader found the partition not taken.
    Serve(oneshot::Sender<Result<(), Fault>>),
}

impl Job {
    fn fail(self, fault: Fault) {
        // Whoever no longer listens has given the call up.
        match self {
            Self::Call(_, to) => drop(to.send(Err(fault))),
            Self::EndSessions(_, to) | Self::Serve(to) => drop(to.send(Err(fault))),
        }
    }

    fn succeed(self, answer: Option<Answer>) {
        match self {
            Self::Call(_, to) => drop(to.send(Ok(answer.expect("a decided call has an answer")))),
            Self::EndSessions(_, to) | Self::Serve(to) => drop(to.send(Ok(()))),
        }
    }
}

/// What readers and the owner share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id: PartitionId,
    cache: Mutex<Cache>,
    serving: watch::Sender<bool>,
}

impl Shared {
    /// For a partition not taken yet.
    pub(crate) fn new(store: Arc<dyn Store>, id: PartitionId, cache_bytes_max: usize) -> Self {
        Self {
            store,
            id,
            cache: Mutex::new(Cache::new(cache_bytes_max)),
            serving: watch::Sender::new(false),
        }
    }

    /// The point rows in memory.
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("no panic under this lock")
    }

    /// Whether reads may be answered.
    pub(crate) fn is_serving(&self) -> bool {
        *self.serving.borrow()
    }

    /// Durable values of rows, all of one moment: from memory, or else from one snapshot.
    pub(crate) async fn rows(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let seen = {
            let mut cache = self.cache();
            let known: Option<Vec<_>> = keys.iter().map(|k| cache.get(k)).collect();
            match known {
                Some(values) => return Ok(values),
                None => cache.seen(),
            }
        };
        let values = self.store.snapshot(self.id).await?.get(keys).await?;
        let mut cache = self.cache();
        for (key, value) in keys.iter().zip(&values) {
            cache.fill(seen, key, value);
        }
        Ok(values)
    }
}

/// How a batch ended.
enum Outcome {
    /// Durable.
    Done,
    /// Nothing was written, and the partition is still ours.
    NotDone(Fault),
    /// The partition is to be taken again. `Unknown` unless nothing was written.
    Lost(Fault),
}

/// The owner's loop.
pub(crate) struct Owner {
    pub(crate) world: World,
    pub(crate) stamp: StampId,
    pub(crate) shared: Arc<Shared>,
    partition: Option<Partition>,
    backlog: VecDeque<Job>,
}

/// A fault from the store.
pub(crate) fn fault(e: &StoreError) -> Fault {
    Fault::new(e.kind(), e.to_string())
}

fn unavailable(e: &StoreError) -> Fault {
    // Nothing was sent to the store on this caller's behalf, whatever ails the store.
    let kind = if e.kind() == ErrorKind::Unknown {
        ErrorKind::Unavailable
    } else {
        e.kind()
    };
    Fault::new(kind, format!("the partition cannot be taken: {e}"))
}

impl Owner {
    /// An owner that has not taken its partition yet.
    pub(crate) fn new(world: World, stamp: StampId, shared: Arc<Shared>) -> Self {
        Self {
            world,
            stamp,
            shared,
            partition: None,
            backlog: VecDeque::new(),
        }
    }

    /// Waits for jobs until every sender is gone.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        loop {
            if self.backlog.is_empty() {
                if queue.recv_many(&mut jobs, BATCH_COMMANDS_MAX).await == 0 {
                    return;
                }
                self.backlog.extend(jobs.drain(..));
            }
            while self.backlog.len() < BATCH_COMMANDS_MAX
                && let Ok(job) = queue.try_recv()
            {
                self.backlog.push_back(job);
            }
            self.turn().await;
        }
    }

    /// Takes a batch of the backlog through to its answers.
    async fn turn(&mut self) {
        let mut jobs: Vec<Job> = self.backlog.drain(..).collect();
        let mut last = Fault::new(
            ErrorKind::Unavailable,
            "the partition was taken by others again and again",
        );
        for attempt in 0..RETRIES_MAX {
            if attempt > 1 {
                self.world.clock.sleep(Duration::from_millis(10 << attempt)).await;
            }
            if let Err(e) = self.serve().await {
                let told = if last.kind == ErrorKind::Unknown {
                    last
                } else {
                    unavailable(&e)
                };
                return fail_all(jobs, &told);
            }
            let (draft, decided) = self.decide(jobs).await;
            match self.commit(draft).await {
                Outcome::Done => {
                    decided.into_iter().for_each(|(job, answer)| job.succeed(answer));
                    return;
                }
                Outcome::NotDone(fault) => {
                    decided.into_iter().for_each(|(job, _)| job.fail(fault.clone()));
                    return;
                }
                Outcome::Lost(fault) => last = fault,
            }
            self.stop_serving();
            jobs = decided.into_iter().map(|(job, _)| job).collect();
        }
        // After an unknown commit only a reload can tell; without one the callers must ask again.
        fail_all(jobs, &last);
    }

    /// Commits a draft.
    async fn commit(&mut self, mut draft: Draft) -> Outcome {
        let partition = self.partition.as_mut().expect("serving");
        let Some(batch) = partition.seal(&mut draft) else {
            return Outcome::Done;
        };
        let label = self.shared.id.to_string();
        metrics::histogram!("cairn_index_batch_rows", "partition" => label.clone())
            .record(batch.rows.len() as f64);
        self.shared.cache().begin(draft.writes());
        match self.shared.store.commit(partition.fence, batch).await {
            Committed::Done(fence) => {
                let writes = partition.committed(draft, fence);
                self.shared.cache().finish(writes);
                metrics::counter!("cairn_index_commits_total", "partition" => label).increment(1);
                Outcome::Done
            }
            Committed::NotDone(e) => {
                self.shared.cache().finish(BTreeMap::new());
                Outcome::NotDone(fault(&e))
            }
            Committed::Refused => Outcome::Lost(Fault::new(
                ErrorKind::Unavailable,
                "another owner took the partition",
            )),
            Committed::Unknown(e) => Outcome::Lost(Fault::new(ErrorKind::Unknown, e.to_string())),
        }
    }

    fn stop_serving(&mut self) {
        self.partition = None;
        self.shared.serving.send_replace(false);
        self.shared.cache().clear();
    }

    /// Takes and loads the partition unless it is already.
    async fn serve(&mut self) -> Result<(), StoreError> {
        if self.partition.is_none() {
            self.partition = Some(self.load().await?);
            self.shared.cache().clear();
            self.shared.serving.send_replace(true);
        }
        Ok(())
    }

    async fn load(&self) -> Result<Partition, StoreError> {
        let fence = self.shared.store.take(self.shared.id).await?;
        let snapshot = self.shared.store.snapshot(self.shared.id).await?;
        let key = RowRef::State.key();
        let state: PartitionState = match snapshot.get(std::slice::from_ref(&key)).await?.pop().flatten() {
            Some(value) => decode(&key, &value).map_err(|e| corrupt(&e))?,
            None => PartitionState::default(),
        };
        if state.epoch >= fence.epoch.0 || state.sequence > fence.sequence.0 {
            let what = format!(
                "the partition says epoch {}, batch {}; the store {fence:?}",
                state.epoch, state.sequence
            );
            return Err(StoreError::Corrupt(what));
        }
        let mut partition = Partition {
            fence,
            stamp: self.stamp,
            state,
            done: BTreeMap::new(),
            floors: BTreeMap::new(),
            done_rows_max: DONE_ROWS_MAX,
            forget_below: SessionId::default(),
            none_condemned: first_rows(&*snapshot, &Range::condemned(), 1).await?.is_empty(),
        };
        for (key, value) in all_rows(&*snapshot, Range::done()).await? {
            let record: DoneRecord = decode(&key, &value).map_err(|e| corrupt(&e))?;
            let answer = prost::Message::encode_to_vec(&record.answer.unwrap_or_default());
            if let Row::Done(id) = Row::parse(&key).map_err(|e| corrupt(&e))? {
                partition.done.insert(id, answer.into());
            }
        }
        for (key, value) in all_rows(&*snapshot, Range::sessions()).await? {
            let record: SessionFloor = decode(&key, &value).map_err(|e| corrupt(&e))?;
            if let Row::Session(session) = Row::parse(&key).map_err(|e| corrupt(&e))? {
                partition.floors.insert(session, record.done_below);
            }
        }
        Ok(partition)
    }

    /// Decides what fits one batch, in order; the rest goes back to the backlog. Calls that cannot be decided are
    /// answered at once: nothing of them will be written.
    async fn decide(&mut self, jobs: Vec<Job>) -> (Draft, Vec<(Job, Option<Answer>)>) {
        let partition = self.partition.as_ref().expect("serving");
        let mut draft = partition.begin();
        self.prefetch(&mut draft, &jobs).await;
        let mut decided = Vec::with_capacity(jobs.len());
        let mut rest = jobs.into_iter();
        while !draft.is_full()
            && let Some(job) = rest.next()
        {
            match &job {
                Job::Call(call, _) => match self.decide_call(&mut draft, call).await {
                    Ok(answer) => decided.push((job, Some(answer))),
                    Err(fault) => job.fail(fault),
                },
                Job::EndSessions(mark, _) => {
                    partition.end_sessions_below(&mut draft, *mark);
                    decided.push((job, None));
                }
                Job::Serve(_) => decided.push((job, None)),
            }
        }
        for job in rest.rev() {
            self.backlog.push_front(job);
        }
        metrics::histogram!("cairn_index_batch_commands", "partition" => self.shared.id.to_string())
            .record(decided.len() as f64);
        (draft, decided)
    }

    async fn decide_call(&self, draft: &mut Draft, call: &Call) -> Result<Answer, Fault> {
        let partition = self.partition.as_ref().expect("serving");
        for _ in 0..NEEDS_MAX {
            match partition.decide(draft, call, self.world.clock.wall_ms()) {
                Verdict::Decided(answer) => return Ok(answer),
                Verdict::Failed(fault) => return Err(fault),
                Verdict::Needs(needs) => self.fetch(draft, needs).await.map_err(|e| fault(&e))?,
            }
        }
        Err(Fault::new(
            ErrorKind::Fault,
            "a command that never has the rows it needs",
        ))
    }

    /// Fetches what the commands themselves tell, for the whole batch at once. An error here is found again, by the one
    /// command that it belongs to.
    async fn prefetch(&self, draft: &mut Draft, jobs: &[Job]) {
        let mut rows = Vec::new();
        for job in jobs {
            if let Job::Call(call, _) = job {
                commands::first_rows(&call.command, &mut rows);
            }
        }
        rows.sort();
        rows.dedup();
        let needs = Needs {
            rows,
            ranges: Vec::new(),
        };
        if let Err(e) = self.fetch(draft, needs).await {
            tracing::debug!(partition = %self.shared.id, error = %e, "rows of a batch could not be fetched at once");
        }
    }

    async fn fetch(&self, draft: &mut Draft, needs: Needs) -> Result<(), StoreError> {
        let none_condemned = self.partition.as_ref().is_some_and(|p| p.none_condemned);
        let seen = {
            let mut cache = self.shared.cache();
            for key in &needs.rows {
                let known = if none_condemned && is_condemned(key) {
                    Some(None)
                } else {
                    cache.get(key)
                };
                if let Some(value) = known {
                    draft.known.rows.insert(key.clone(), value);
                }
            }
            cache.seen()
        };
        let missing: Vec<Bytes> = needs
            .rows
            .into_iter()
            .filter(|k| !draft.known.rows.contains_key(k))
            .collect();
        if missing.is_empty() && needs.ranges.is_empty() {
            return Ok(());
        }
        let snapshot = self.shared.store.snapshot(self.shared.id).await?;
        if !missing.is_empty() {
            let values = snapshot.get(&missing).await?;
            let mut cache = self.shared.cache();
            for (key, value) in missing.into_iter().zip(values) {
                cache.fill(seen, &key, &value);
                draft.known.rows.insert(key, value);
            }
        }
        for (range, max) in needs.ranges {
            let rows = first_rows(&*snapshot, &range, max).await?;
            draft.known.ranges.insert((range, max), rows);
        }
        Ok(())
    }
}

fn fail_all(jobs: Vec<Job>, fault: &Fault) {
    jobs.into_iter().for_each(|job| job.fail(fault.clone()));
}

/// A row of the partition's own that is not what this build writes.
pub(crate) fn corrupt(e: &crate::rows::BadRow) -> StoreError {
    StoreError::Corrupt(e.to_string())
}

/// The first `max` rows of a range.
pub(crate) async fn first_rows(
    snapshot: &dyn Snapshot,
    range: &Range,
    max: usize,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut rows = Vec::new();
    let mut start = range.start.clone();
    while rows.len() < max && start < range.end {
        let scan = store::Scan {
            start,
            end: range.end.clone(),
            max: (max - rows.len()).min(SCAN_ROWS_MAX),
        };
        let page = snapshot.scan(&scan).await?;
        let Some((last, _)) = page.last().filter(|_| page.len() == scan.max) else {
            rows.extend(page);
            break;
        };
        start = after(last);
        rows.extend(page);
    }
    Ok(rows)
}

async fn all_rows(snapshot: &dyn Snapshot, range: Range) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    first_rows(snapshot, &range, usize::MAX).await
}
