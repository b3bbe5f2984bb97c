//! The default engine: a partition is a log in the disk's journal first, and a redb file written behind.
//!
//! A commit is one record of the journal, synced with whatever else waits there; it is answered when the record is on stable storage.
//! Recent rows are kept in memory over the file ([`partition`]), moved into it in large transactions by one loop a disk ([`core`]), and only
//! then may the journal forget them. The file is checked page by page ([`pages`]) and row by row ([`form`]); what is not as it was written is
//! [`StoreError::Corrupt`], never absent. Opening replays the log above the file ([`recover`]).
//!
//! Not here: several member disks of one log (later), the journal itself (crate `extent`).

mod batch;
#[cfg(test)]
mod beside;
mod catalogue;
mod core;
mod files;
mod form;
mod lay;
mod leaps;
mod log;
mod pages;
mod partition;
mod prepare;
mod reading;
mod recover;
mod snapshot;
mod turn;
mod verify;

use self::batch::BatchRows;
use self::core::{Core, Job, WriteBehind};
use self::log::JournalLog;
use self::partition::{Partition, Step, Submitted};
use self::snapshot::EmbeddedSnapshot;
use crate::{Batch, Committed, Fence, Reread, Snapshot, Store, StoreError};
use extent::{Journal, LogBatch, Lost};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use types::limits::{INDEX_REST_BYTES, WRITE_BEHIND_QUEUE_MAX, WRITE_BEHIND_STEP_BYTES};
use types::{JournalSeq, PartitionId};
use world::{Clock, Disk, LoopEnd, World};

pub use self::lay::{LaidRows, OldLog, lay};
pub use self::log::{Done, Log};
pub use self::prepare::Prepared;

/// Partitions written behind before the loop looks at its queue again.
const JOBS_AT_ONCE: usize = 1;

/// The engine of one disk.
pub struct Embedded {
    core: Arc<Core>,
    clock: Arc<dyn Clock>,
    end: Mutex<Option<LoopEnd>>,
}

impl Embedded {
    /// Opens the index of a disk on the batches that its journal still has, and on what the journal knows that it lost
    /// (`extent::Opened::batches`, `extent::RecoveryReport::lost`).
    ///
    /// # Errors
    /// As [`Embedded::open_on`].
    pub fn open(
        world: &World,
        disk: Arc<dyn Disk>,
        journal: Journal,
        batches: Vec<(JournalSeq, LogBatch)>,
        lost: &[Lost],
    ) -> Result<Self, StoreError> {
        let prepared = Prepared::new(disk, journal.disk(), batches, lost)?;
        Ok(Self::resume(world, prepared, &journal))
    }

    /// Opens the index of a disk on any log. A partition that is not as it was written is refused when it is
    /// asked for; the others serve.
    ///
    /// # Errors
    /// When the directory cannot be read, or a newer build wrote in it.
    pub fn open_on(
        world: &World,
        disk: Arc<dyn Disk>,
        log: Box<dyn Log>,
        batches: Vec<(JournalSeq, LogBatch)>,
        lost: &[Lost],
    ) -> Result<Self, StoreError> {
        let prepared = Prepared::new(disk, log.disk(), batches, lost)?;
        Ok(Self::start(world, prepared, log))
    }

    /// Goes on with an index that was looked at.
    pub fn resume(world: &World, prepared: Prepared, journal: &Journal) -> Self {
        let engine = Self::start(world, prepared, Box::new(JournalLog::new(journal.clone())));
        let core = Arc::downgrade(&engine.core);
        journal.on_pressure(Box::new(move || {
            if let Some(core) = core.upgrade() {
                core.press();
            }
        }));
        engine
    }

    fn start(world: &World, prepared: Prepared, log: Box<dyn Log>) -> Self {
        prepared.clock.start(world.clock.clone());
        let core = Arc::new(Core {
            disk: prepared.disk,
            log,
            catalogue: prepared.catalogue,
            partitions: Mutex::new(prepared.partitions),
            retired: prepared.retired,
            cache_bytes: prepared.cache_bytes,
            clock: prepared.clock,
            step_bytes: AtomicUsize::new(WRITE_BEHIND_STEP_BYTES),
            begin_over: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
            jobs: Mutex::new(None),
        });
        let body = WriteBehind(core.clone());
        let (jobs, end) = world
            .exec
            .run_loop("index-behind", WRITE_BEHIND_QUEUE_MAX, JOBS_AT_ONCE, body);
        *core.jobs.lock().expect("no panic under this lock") = Some(jobs);
        core.release();
        Self {
            core,
            clock: world.clock.clone(),
            end: Mutex::new(Some(end)),
        }
    }

    /// Writes behind in transactions of about so many bytes, instead of `limits::WRITE_BEHIND_STEP_BYTES`: tests have few rows.
    pub fn set_step_bytes(&self, bytes: usize) {
        self.core.step_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The next writing behind begins a file over those of its partition, as where it comes to a bad page: for tests.
    pub fn begin_over(&self) {
        self.core.begin_over.store(true, Ordering::Relaxed);
    }

    /// Asks for everything to be written behind, and does not wait: what the journal wants under pressure.
    pub fn press(&self) {
        self.core.press();
    }

    /// Writes everything behind where nothing came into the journal since it was at `since`, so that a store at rest holds no rows in memory
    /// that its files could have. Where the journal is now.
    pub fn at_rest(&self, since: JournalSeq) -> JournalSeq {
        let next = self.core.log.next();
        if next == since && self.core.all().iter().any(|p| p.oldest().is_some()) {
            self.core.settle();
        }
        next
    }

    /// Asks for what the journal had before `opened` to be written behind, and does not wait: rows that were replayed at a start are no news,
    /// whatever comes beside them.
    pub fn settle(&self, opened: JournalSeq) {
        let is_older = |partition: &Arc<Partition>| partition.oldest().is_some_and(|first| first < opened);
        if self.core.all().iter().any(is_older) {
            self.core.settle();
        }
    }

    /// Lets go of the pages in memory of files that are hardly read: to be asked every few seconds.
    pub fn rest(&self) {
        let cold = |partition: &Arc<Partition>| partition.is_cold();
        self.let_go(INDEX_REST_BYTES, cold);
    }

    /// The same of all files, however much they are read: for tests.
    pub fn rest_now(&self) {
        self.let_go(0, |_| true);
    }

    fn let_go(&self, more_than: u64, of: impl Fn(&Arc<Partition>) -> bool) {
        for partition in self.core.all().into_iter().filter(of) {
            // A loop with much to do is asked again.
            let _full = self.core.send(Job::Rest(partition.id, more_than));
        }
    }

    /// Waits until what was committed before is in the files, and the journal need not keep it.
    ///
    /// # Errors
    /// Why it is not: the journal still has it.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        for partition in self.core.all() {
            partition.until(|w| (w.flights == 0).then_some(())).await;
            // One generation may be on its way while another collects.
            for _ in 0..3 {
                let before = partition.until(|w| Some(w.tries)).await;
                partition.press(&self.core);
                let tried = partition.until(|w| match &w.log_failed {
                    _ if !w.rows => Some(Ok(true)),
                    Some(e) => Some(Err(e.clone())),
                    None if w.tries == before => None,
                    None => Some(w.behind.clone().map_or(Ok(false), Err)),
                });
                if tried.await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends at once, as far as the files are concerned: nothing more is written behind. For tests of what a crash leaves.
    pub async fn abandon(&self) {
        self.close();
        let end = self.end.lock().expect("no panic under this lock").take();
        if let Some(end) = end {
            end.wait().await;
        }
        for partition in self.core.all() {
            *partition.files.lock().expect("no panic under this lock") = None;
        }
    }

    /// Writes everything behind, lets the journal forget it, closes the files, and ends. Calls after it fail.
    ///
    /// # Errors
    /// What could not be written behind; it is in the journal.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        let written = self.checkpoint().await;
        self.abandon().await;
        written
    }

    fn close(&self) {
        self.core.jobs.lock().expect("no panic under this lock").take();
    }

    async fn step(&self, partition: &Arc<Partition>, mut step: Step) -> Committed {
        let pause = partition.pause();
        if step.fence.is_some() && !pause.is_zero() {
            self.clock.sleep(pause).await;
        }
        loop {
            match partition.submit(&self.core, step) {
                Submitted::No(committed) => return committed,
                Submitted::Queued(fence, landed) => {
                    self.core.log.drive();
                    return match landed.await {
                        Ok(Ok(())) => Committed::Done(fence),
                        Ok(Err(e)) => Committed::Unknown(e),
                        Err(_) => Committed::Unknown(StoreError::Failed("the journal ended".into())),
                    };
                }
                Submitted::Wait(again) => {
                    step = again;
                    partition
                        .until(|w| (w.room || w.behind.is_some() || w.log_failed.is_some()).then_some(()))
                        .await;
                }
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait::async_trait]
impl Store for Embedded {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        let partition = {
            let mut all = self.core.partitions.lock().expect("no panic under this lock");
            let made = || Arc::new(Partition::new(partition));
            all.entry(partition).or_insert_with(made).clone()
        };
        let step = Step {
            fence: None,
            rows: BatchRows::new(),
            payload: batch::encode(&Batch::default()),
        };
        match self.step(&partition, step).await {
            Committed::Done(fence) => Ok(fence),
            Committed::NotDone(e) | Committed::Unknown(e) => Err(e),
            Committed::Refused => Err(StoreError::Failed("a take has no fence to be refused".into())),
        }
    }

    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        let partition = self
            .core
            .find(partition)
            .unwrap_or_else(|| Arc::new(Partition::new(partition)));
        partition.look_again(&self.core, &*self.clock);
        let (view, at) = partition.awake().await?;
        Ok(Arc::new(EmbeddedSnapshot { partition, view, at }))
    }

    async fn verify(&self, cursor: &[u8]) -> Result<Reread, StoreError> {
        verify::piece(&self.core, cursor)
    }

    async fn commit(&self, fence: Fence, batch: Batch) -> Committed {
        if let Some(e) = batch.refusal() {
            return Committed::NotDone(e);
        }
        let Some(partition) = self.core.find(fence.partition) else {
            return Committed::Refused;
        };
        let disk = self.core.log.disk();
        if let Some((other, _)) = batch.behind.iter().find(|(d, _)| *d != disk) {
            let text = format!("a batch on disk {disk} cannot stand behind a record of disk {other}");
            return Committed::NotDone(StoreError::Failed(text));
        }
        // Records of this journal that the batch must follow were queued before it: the journal is in order.
        let next = self.core.log.next();
        assert!(
            batch.behind.iter().all(|(_, seq)| *seq < next),
            "a batch stands behind records that are queued"
        );
        let step = Step {
            fence: Some(fence),
            payload: batch::encode(&batch),
            rows: batch.rows,
        };
        self.step(&partition, step).await
    }
}
