//! One disk of a node: its directory and the loops that block for it.

use crate::reclaim::Reclaimer;
use crate::translate::fault;
use extent::{DataDir, ExtentError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::oneshot;
use types::limits::{DISK_LOOP_QUEUE_MAX, MAP_STEP_BYTES};
use types::{ErrorKind, JournalSeq};
use wire::Fault;
use world::{JobSender, Loop, World};

/// Loops that write and sync large needles of one disk.
const WRITE_LOOPS: usize = 4;
/// Loops that read from one disk.
const READ_LOOPS: usize = 4;

/// Ticks for which needle maps are let be that found no room.
const MAP_REST_TICKS: u64 = 1200;
/// Where no map is missing, or one is being made.
const NEVER: u64 = u64::MAX;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A loop that does what it is handed. It has no state: a job that panics fails alone, and whoever waits for it hears that it
/// is not known what it did.
struct Hands;

impl Loop<Job> for Hands {
    fn apply(&mut self, jobs: &mut Vec<Job>) {
        for job in jobs.drain(..) {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job on a disk panicked");
            }
        }
    }
}

/// A disk and its loops.
pub(crate) struct DiskService {
    pub(crate) dir: DataDir,
    writers: Vec<JobSender<Job>>,
    readers: Vec<JobSender<Job>>,
    upkeep: JobSender<Job>,
    pub(crate) reclaimer: Reclaimer,
    turn: AtomicUsize,
    /// A checkpoint waits for the upkeep loop.
    checkpoint_due: Arc<AtomicBool>,
    /// Journal sequence at the last checkpoint.
    checkpointed: AtomicU64,
    /// The tick from which on needle maps are gone on with.
    map_tick: AtomicU64,
}

impl DiskService {
    pub(crate) fn new(world: &World, dir: DataDir) -> Arc<Self> {
        let start = |name: &str| {
            let (jobs, _end) = world.exec.run_loop(name, DISK_LOOP_QUEUE_MAX, 1, Hands);
            jobs
        };
        let service = Arc::new(Self {
            dir,
            writers: (0..WRITE_LOOPS)
                .map(|i| start(&format!("disk-write-{i}")))
                .collect(),
            readers: (0..READ_LOOPS)
                .map(|i| start(&format!("disk-read-{i}")))
                .collect(),
            upkeep: start("disk-upkeep"),
            reclaimer: Reclaimer::new(start("disk-compact"), world.clock.clone()),
            turn: AtomicUsize::new(0),
            checkpoint_due: Arc::default(),
            checkpointed: AtomicU64::new(0),
            map_tick: AtomicU64::new(0),
        });
        let pressed = Arc::downgrade(&service);
        service.dir.journal().on_pressure(Box::new(move || {
            if let Some(service) = pressed.upgrade() {
                service.want_checkpoint();
            }
        }));
        service
    }

    /// One of the loops for large appends: all frames of an append go to the same one, in order.
    pub(crate) fn writer(&self) -> JobSender<Job> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.writers[turn % self.writers.len()].clone()
    }

    /// Runs `f` on a loop for reads.
    pub(crate) async fn reading<T: Send + 'static>(
        &self,
        f: impl FnOnce(&DataDir) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.clone();
        run(&self.readers[turn % self.readers.len()], move || f(&dir)).await
    }

    /// Runs `f` on a loop for writes.
    pub(crate) async fn writing<T: Send + 'static>(
        &self,
        f: impl FnOnce(&DataDir) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let dir = self.dir.clone();
        run(&self.writer(), move || f(&dir)).await
    }

    /// Runs `f`, which is short, on the upkeep loop.
    pub(crate) async fn tending<T: Send + 'static>(
        &self,
        f: impl FnOnce(&DataDir) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let dir = self.dir.clone();
        run(&self.upkeep, move || f(&dir)).await
    }

    /// Asks the upkeep loop for a checkpoint, unless one waits already.
    pub(crate) fn want_checkpoint(self: &Arc<Self>) {
        if self.checkpoint_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let service = self.clone();
        let job: Job = Box::new(move || {
            service.checkpoint_due.store(false, Ordering::Release);
            if let Err(e) = service.checkpoint() {
                tracing::warn!(disk = %service.dir.disk_id(), error = %e, "no checkpoint");
            }
        });
        if self.upkeep.try_send(job).is_err() {
            self.checkpoint_due.store(false, Ordering::Release);
        }
    }

    fn checkpoint(&self) -> Result<(), ExtentError> {
        let next = self.dir.journal().next();
        self.dir.checkpoint()?;
        self.checkpointed.store(next.0, Ordering::Release);
        // Something may have been sealed since.
        let _was = (self.map_tick).compare_exchange(NEVER, 0, Ordering::AcqRel, Ordering::Acquire);
        Ok(())
    }

    /// Does a piece of the needle maps that sealed extents lack, on the loop for compactions: one a tick, so that it is no load.
    pub(crate) fn tend_maps(self: &Arc<Self>, tick: u64) {
        if tick < self.map_tick.load(Ordering::Acquire) {
            return;
        }
        self.map_tick.store(NEVER, Ordering::Release);
        let service = self.clone();
        let job: Job = Box::new(move || {
            let again = match service.dir.map_extents(MAP_STEP_BYTES) {
                Ok(true) => tick + 1,
                Ok(false) => return,
                Err(e) => {
                    tracing::warn!(disk = %service.dir.disk_id(), error = %e, "an extent's needle map waits");
                    tick + MAP_REST_TICKS
                }
            };
            service.map_tick.store(again, Ordering::Release);
        });
        if !self.reclaimer.try_do(job) {
            self.map_tick.store(tick + 1, Ordering::Release);
        }
    }

    /// How many extents it has, and their bytes.
    pub(crate) fn extents(&self) -> (u64, u64) {
        let all = self.dir.extents();
        (all.len() as u64, all.iter().map(|extent| extent.end).sum())
    }

    /// Whether there is anything that the last checkpoint does not say.
    pub(crate) fn is_checkpoint_old(&self) -> bool {
        self.dir.journal().next() > JournalSeq(self.checkpointed.load(Ordering::Acquire))
            || self.dir.is_map_unsaid()
    }

    /// Gives ballast back or takes it again, on the upkeep loop.
    pub(crate) fn tend_ballast(&self) {
        let dir = self.dir.clone();
        let job: Job = Box::new(move || {
            if let Err(e) = dir.tend_ballast() {
                tracing::warn!(disk = %dir.disk_id(), error = %e, "ballast");
            }
        });
        // A full queue has work that matters more; there is a next time.
        drop(self.upkeep.try_send(job));
    }

    /// The last checkpoint, then the journal's last mark: also where a full disk has no room for the checkpoint.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<(), Fault> {
        let service = self.clone();
        let checkpoint = run(&self.upkeep, move || service.checkpoint()).await;
        let (done, synced) = crate::translate::Synced::durable();
        self.dir.close(done);
        synced.wait().await?;
        checkpoint?.map_err(|e| fault(&e))
    }
}

/// Runs `f` on a loop and waits for what it answers.
pub(crate) async fn run<T: Send + 'static>(
    jobs: &JobSender<Job>,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (tx, rx) = oneshot::channel();
    // A caller that went away drops what was done for it.
    let job: Job = Box::new(move || drop(tx.send(f())));
    let gone = || Fault::new(ErrorKind::Unknown, "the disk's loop did not end it");
    jobs.send(job).await.map_err(|_closed| gone())?;
    rx.await.map_err(|_dropped| gone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use world::Exec;

    #[tokio::test]
    async fn a_job_that_panics_fails_alone() {
        let (jobs, _end) = Exec::Threads.run_loop("test", 4, 1, Hands);
        let panicked = run(&jobs, || panic!("on purpose")).await;
        let unknown: Result<(), Fault> = panicked;
        assert_eq!(unknown.unwrap_err().kind, ErrorKind::Unknown);
        assert_eq!(run(&jobs, || 7).await.unwrap(), 7);
    }
}
