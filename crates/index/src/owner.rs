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
use crate::fetch::Missed;
use crate::partition::{Draft, Partition, Verdict};
use bytes::Bytes;
use metrics::{Counter, Histogram};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Committed, Snapshot, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use types::limits::{BATCH_COMMANDS_MAX, RETRIES_MAX};
use types::{ErrorKind, Kind, PartitionId, SessionId, StampId};
use wire::Fault;
use wire::index::{Answered, Call};
use wire::records::Answer;
use world::plant::{Plant, is_planted};
use world::{Clock, World};

/// Times a command may ask for rows. Each asks for what the last could not name; none needs more than four.
const NEEDS_MAX: usize = 16;

/// Times in a row that the owner lets others run though nothing came of it.
const GATHER_YIELDS: usize = 2;

/// With so many commands about, one of so many parts of them is a batch: others come in while it is synced, and are synced while its callers send
/// their next. All in one, and everyone waits for the disk at the same time.
const PARTED_MIN: usize = 8;
/// See [`PARTED_MIN`].
const PARTS: usize = 3;

/// How long it gathers at most: on a busy machine each time that others run may take milliseconds, and who came first waits for all of them.
const GATHER_MAX: Duration = Duration::from_millis(1);

/// What comes through the queue.
pub(crate) enum Job {
    /// A command.
    Call(Box<Call>, oneshot::Sender<Answered>),
    /// No command of a lower session takes effect from here on.
    EndSessions(SessionId, oneshot::Sender<Result<(), Fault>>),
    /// A reader found the partition not taken.
    Serve(oneshot::Sender<Result<(), Fault>>),
    /// The owner's own: a step of the sweep of ended uploads.
    Sweep,
}

impl Job {
    fn fail(self, fault: Fault) {
        // Whoever no longer listens has given the call up.
        match self {
            Self::Call(_, to) => drop(to.send(Err(fault))),
            Self::EndSessions(_, to) | Self::Serve(to) => drop(to.send(Err(fault))),
            // The next batch brings the next step.
            Self::Sweep => tracing::warn!(%fault, "ended uploads are not swept now"),
        }
    }

    fn succeed(self, answer: Option<Answer>) {
        match self {
            Self::Call(_, to) => drop(to.send(Ok(answer.expect("a decided call has an answer")))),
            Self::EndSessions(_, to) | Self::Serve(to) => drop(to.send(Ok(()))),
            Self::Sweep => {}
        }
    }
}

/// What readers and the owner share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id: PartitionId,
    clock: Arc<dyn Clock>,
    cache: Mutex<Cache>,
    serving: watch::Sender<bool>,
}

impl Shared {
    /// For a partition not taken yet.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        id: PartitionId,
        clock: Arc<dyn Clock>,
        cache_bytes_max: usize,
    ) -> Self {
        Self {
            store,
            id,
            clock,
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
        let values = self
            .read(|snapshot| async move { snapshot.get(keys).await })
            .await?;
        let mut cache = self.cache();
        for (key, value) in keys.iter().zip(&values) {
            cache.fill(seen, key, value);
        }
        Ok(values)
    }
}

impl Shared {
    /// Reads of one moment. A snapshot that the engine can no longer read from, because it opened its file anew under it, is taken again
    /// and read from the start, `RETRIES_MAX` times.
    pub(crate) async fn read<T, R>(
        &self,
        read: impl Fn(Arc<dyn Snapshot>) -> R + Send + Sync,
    ) -> Result<T, StoreError>
    where
        R: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut attempt = 0;
        loop {
            let snapshot = self.store.snapshot(self.id).await?;
            match read(snapshot).await {
                Err(StoreError::Busy(why)) if attempt < RETRIES_MAX => {
                    tracing::debug!(partition = %self.id, why, "read again");
                    if attempt > 0 {
                        self.clock.sleep(Duration::from_millis(5 << attempt)).await;
                    }
                    attempt += 1;
                }
                other => return other,
            }
        }
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

/// A job of a batch.
struct Decided {
    job: Job,
    hears: Hears,
}

/// What a job hears once its batch is durable.
enum Hears {
    /// A call its answer.
    Answer(Answer),
    /// Just that.
    Done,
    /// Nothing: this was one step of it, the next is due.
    NothingYet,
}

/// Why a call is not decided.
enum NotDecided {
    /// It was decided before.
    Known(Answer),
    /// It does not fit this batch any more.
    Later,
    /// It fails, and nothing of it will be written.
    Failed(Fault),
    /// Another owner has been here: nothing that was decided since is right.
    Stale,
}

/// The owner's loop.
pub(crate) struct Owner {
    pub(crate) world: World,
    pub(crate) stamp: StampId,
    pub(crate) shared: Arc<Shared>,
    partition: Option<Partition>,
    /// It has sent commands of this life to the store.
    pub(crate) has_decided: bool,
    backlog: VecDeque<Job>,
    /// Commands that were about when a batch was answered, of late: its own, and those that had come by then.
    about: usize,
    counts: Counts,
}

/// What is counted of a partition's batches.
struct Counts {
    rows: Histogram,
    commands: Histogram,
    commits: Counter,
}

impl Counts {
    fn of(id: PartitionId) -> Self {
        let label = id.to_string();
        Self {
            rows: metrics::histogram!("cairn_index_batch_rows", "partition" => label.clone()),
            commands: metrics::histogram!("cairn_index_batch_commands", "partition" => label.clone()),
            commits: metrics::counter!("cairn_index_commits_total", "partition" => label),
        }
    }
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
            counts: Counts::of(shared.id),
            shared,
            partition: None,
            has_decided: false,
            backlog: VecDeque::new(),
            about: 0,
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
            self.gather(&mut queue).await;
            let taken = self.backlog.len();
            self.turn().await;
            // Not all are to be seen at one moment: fewer are believed slowly.
            self.about = (taken + queue.len()).max(self.about - self.about.div_ceil(8));
        }
    }

    /// With how many commands a batch begins at once.
    fn enough(&self) -> usize {
        let enough = match self.about {
            about if about < PARTED_MIN => about,
            about => about.div_ceil(PARTS),
        };
        enough.clamp(1, BATCH_COMMANDS_MAX)
    }

    /// Takes what is queued, and what is about to be: as long as more comes and it is not [`Self::enough`], whoever can run now goes first, so that those whose requests
    /// are here already share this batch's sync and do not have to wait for the next. Nobody waits for what is not here: with nothing
    /// else to run a yield is a look at the sockets and no more. Where others take long, the batch begins without those that come late.
    async fn gather(&mut self, queue: &mut mpsc::Receiver<Job>) {
        let begun = self.world.clock.mono();
        let enough = self.enough();
        let mut idle = 0;
        loop {
            let before = self.backlog.len();
            while self.backlog.len() < BATCH_COMMANDS_MAX
                && let Ok(job) = queue.try_recv()
            {
                self.backlog.push_back(job);
            }
            idle = if self.backlog.len() > before { 0 } else { idle + 1 };
            let long = self.world.clock.mono().saturating_sub(begun);
            if idle > GATHER_YIELDS || self.backlog.len() >= enough || long >= GATHER_MAX {
                return;
            }
            tokio::task::yield_now().await;
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
            let (draft, mut decided) = match self.decide(jobs).await {
                Ok(decided) => decided,
                Err(all) => {
                    // Nothing was sent to the store: what was known of the fate of these stays so.
                    jobs = all;
                    self.stop_serving();
                    continue;
                }
            };
            if is_planted(Plant::AckBeforeIndex) {
                self.answer(std::mem::take(&mut decided));
            }
            match self.commit(draft).await {
                Outcome::Done => {
                    self.answer(decided);
                    return self.sweep_next();
                }
                Outcome::NotDone(fault) => {
                    return fail_all(decided.into_iter().map(|d| d.job).collect(), &fault);
                }
                Outcome::Lost(fault) => last = fault,
            }
            self.stop_serving();
            jobs = decided.into_iter().map(|d| d.job).collect();
        }
        // After an unknown commit only a reload can tell; without one the callers must ask again.
        fail_all(jobs, &last);
    }

    /// The batch is durable.
    fn answer(&mut self, decided: Vec<Decided>) {
        let mut unfinished = Vec::new();
        for Decided { job, hears } in decided {
            match hears {
                Hears::Answer(answer) => job.succeed(Some(answer)),
                Hears::Done => job.succeed(None),
                Hears::NothingYet => unfinished.push(job),
            }
        }
        for job in unfinished.into_iter().rev() {
            self.backlog.push_front(job);
        }
    }

    /// While there is something to sweep each batch brings a step of it.
    fn sweep_next(&mut self) {
        let is_sweep = |job: &Job| matches!(job, Job::Sweep);
        if self.taken().unswept.is_some() && !self.backlog.iter().any(is_sweep) {
            self.backlog.push_back(Job::Sweep);
        }
    }

    /// A sweep that fails is not tried again until another upload ends, or the partition is taken the next time.
    fn give_up(&mut self, job: &Job) {
        if let (Job::Sweep, Some(partition)) = (job, &mut self.partition) {
            partition.unswept = None;
        }
    }

    /// Commits a draft.
    async fn commit(&mut self, mut draft: Draft) -> Outcome {
        let partition = self
            .partition
            .as_mut()
            .expect("a batch is committed only while the partition is taken");
        let Some(batch) = partition.seal(&mut draft) else {
            return Outcome::Done;
        };
        self.has_decided = true;
        self.counts.rows.record(batch.rows.len() as f64);
        self.shared.cache().begin(draft.writes());
        match self.shared.store.commit(partition.fence, batch).await {
            Committed::Done(fence) => {
                let writes = partition.committed(draft, fence);
                self.shared.cache().finish(writes);
                self.counts.commits.increment(1);
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
    }

    /// Takes and loads the partition unless it is already.
    async fn serve(&mut self) -> Result<(), StoreError> {
        if self.partition.is_none() {
            self.partition = Some(self.load().await?);
            // Only now: until the store has settled what was unknown, readers under way could fill in what no longer is.
            self.shared.cache().clear();
            self.shared.serving.send_replace(true);
        }
        Ok(())
    }

    /// Decides what fits one batch, in order; the rest goes back to the backlog. Calls that cannot be decided are
    /// answered at once: nothing of them will be written. All jobs come back when another owner has been here.
    async fn decide(&mut self, jobs: Vec<Job>) -> Result<(Draft, Vec<Decided>), Vec<Job>> {
        let mut draft = self.taken().begin();
        if let Err(Missed::Stale) = self.prefetch(&mut draft, &jobs).await {
            return Err(jobs);
        }
        let mut decided = Vec::with_capacity(jobs.len());
        let mut rest = jobs.into_iter();
        while !draft.is_full()
            && let Some(job) = rest.next()
        {
            let verdict = match &job {
                Job::Call(call, _) => {
                    self.decide_one(&mut draft, |p, draft, wall_ms| p.decide(draft, call, wall_ms))
                        .await
                }
                Job::Sweep => self.decide_one(&mut draft, Partition::sweep).await,
                Job::EndSessions(mark, _) => {
                    self.taken().end_sessions_below(&mut draft, *mark);
                    Ok(Hears::Done)
                }
                Job::Serve(_) => Ok(Hears::Done),
            };
            match verdict {
                Ok(hears) => decided.push(Decided { job, hears }),
                Err(NotDecided::Known(answer)) => job.succeed(Some(answer)),
                Err(NotDecided::Failed(fault)) => {
                    self.give_up(&job);
                    job.fail(fault);
                }
                Err(NotDecided::Stale) => {
                    let before = decided.into_iter().map(|d| d.job);
                    return Err(before.chain([job]).chain(rest).collect());
                }
                Err(NotDecided::Later) => {
                    rest = [job].into_iter().chain(rest).collect::<Vec<_>>().into_iter();
                    break;
                }
            }
        }
        for job in rest.rev() {
            self.backlog.push_front(job);
        }
        self.counts.commands.record(decided.len() as f64);
        Ok((draft, decided))
    }

    async fn decide_one(
        &self,
        draft: &mut Draft,
        decide: impl Fn(&Partition, &mut Draft, u64) -> Verdict,
    ) -> Result<Hears, NotDecided> {
        for _ in 0..NEEDS_MAX {
            match decide(self.taken(), draft, self.world.clock.wall_ms()) {
                Verdict::Decided(answer) => return Ok(Hears::Answer(answer)),
                Verdict::Step => return Ok(Hears::NothingYet),
                Verdict::Swept => return Ok(Hears::Done),
                Verdict::Known(answer) => return Err(NotDecided::Known(answer)),
                Verdict::Later => return Err(NotDecided::Later),
                Verdict::Failed(fault) => return Err(NotDecided::Failed(fault)),
                Verdict::Needs(needs) => self.fetch(draft, needs).await.map_err(|missed| match missed {
                    Missed::Failed(e) => NotDecided::Failed(fault(&e)),
                    Missed::Stale => NotDecided::Stale,
                })?,
            }
        }
        let what = "a command that never has the rows it needs";
        Err(NotDecided::Failed(Fault::new(ErrorKind::Fault, what)))
    }

    /// The partition, which is taken wherever a batch is decided.
    pub(crate) fn taken(&self) -> &Partition {
        self.partition
            .as_ref()
            .expect("a batch is decided only while the partition is taken")
    }
}

fn fail_all(jobs: Vec<Job>, fault: &Fault) {
    jobs.into_iter().for_each(|job| job.fail(fault.clone()));
}
