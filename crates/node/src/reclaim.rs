//! Compaction and removal of extents, on a disk's own loop for them: piece by piece, with pauses, so that appends and reads have the disk.
//!
//! Dropped at any point by its caller, or cut off by a stop, a compaction leaves at most a file that the next sweep or opening removes.

use crate::disk::{DiskService, Job, run};
use crate::translate::{Synced, fault, status};
use extent::{Compaction, DataDir};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use types::limits::COMPACT_STEP_BYTES;
use types::{ErrorKind, ExtentId, Generation, NeedleId};
use wire::Fault;
use wire::node::{Compacted, ExtentStatus, Pace};
use wire::scrub::{Damage, Reread};
use world::{Clock, JobSender};

/// Longest pause between two pieces.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A disk's loop for compactions, and what became of them.
pub(crate) struct Reclaimer {
    jobs: JobSender<Job>,
    clock: Arc<dyn Clock>,
    stopping: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    removed: AtomicU64,
    reclaimed_bytes: AtomicU64,
}

impl Reclaimer {
    pub(crate) fn new(jobs: JobSender<Job>, clock: Arc<dyn Clock>) -> Self {
        Self {
            jobs,
            clock,
            stopping: AtomicBool::new(false),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            reclaimed_bytes: AtomicU64::new(0),
        }
    }

    /// Hands its loop something else to do; `false` where there is too much already.
    pub(crate) fn try_do(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// No compaction goes on, and none begins.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<(), Fault> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Fault::new(ErrorKind::Unavailable, "the node is stopping"));
        }
        Ok(())
    }

    pub(crate) fn compacted(&self) -> Compacted {
        Compacted {
            done: self.done.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            removed: self.removed.load(Ordering::Relaxed),
            reclaimed_bytes: self.reclaimed_bytes.load(Ordering::Relaxed),
        }
    }

    /// Lets others have the disk after a piece that took so long.
    async fn pause(&self, pace: &Pace, took: Duration) {
        let pause = pause_after(took, pace.share_percent());
        if !pause.is_zero() {
            self.clock.sleep(pause).await;
        }
    }
}

/// How long to leave the disk to others, so that of its time `share` percent are taken.
fn pause_after(took: Duration, share: u32) -> Duration {
    (took * (100 - share) / share).min(PAUSE_MAX)
}

impl DiskService {
    /// Compacts an extent; see [`wire::node::Node::compact`].
    pub(crate) async fn compact(
        &self,
        extent: ExtentId,
        to: Generation,
        mut dropped: Vec<NeedleId>,
        pace: &Pace,
    ) -> Result<ExtentStatus, Fault> {
        self.reclaimer.check()?;
        dropped.sort_unstable();
        dropped.dedup();
        let dir = self.dir.clone();
        let begun = run(&self.reclaimer.jobs, move || {
            dir.begin_compaction(extent, to, &dropped)
        });
        let result = match begun.await? {
            Ok(Some(compaction)) => self.carry_out(compaction, pace).await,
            Ok(None) => return self.dir.status(extent).map(status).map_err(|e| fault(&e)),
            Err(e) => Err(fault(&e)),
        };
        if let Err(e) = &result {
            self.count_failure(extent, e);
            // What it left goes, and the ballast that it was given comes back, before a writer finds either.
            self.give_back(0).await;
        }
        result
    }

    fn count_failure(&self, extent: ExtentId, e: &Fault) {
        let disk = self.dir.disk_id();
        match e.kind {
            // Refused, to be asked again.
            ErrorKind::Busy | ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Unavailable => return,
            ErrorKind::Full => tracing::warn!(%disk, %extent, error = %e, "no room to compact an extent"),
            // Asked for again for as long as it is damaged: whoever asks tells it, once.
            ErrorKind::Corrupt => {
                tracing::warn!(%disk, %extent, error = %e, "a damaged extent was not compacted")
            }
            _ => tracing::error!(%disk, %extent, error = %e, "an extent was not compacted"),
        }
        self.reclaimer.failed.fetch_add(1, Ordering::Relaxed);
    }

    async fn carry_out(&self, mut compaction: Compaction, pace: &Pace) -> Result<ExtentStatus, Fault> {
        let reclaimer = &self.reclaimer;
        loop {
            reclaimer.check()?;
            let started = reclaimer.clock.mono();
            let (back, stepped) = run(&reclaimer.jobs, move || {
                let stepped = compaction.step(COMPACT_STEP_BYTES);
                (compaction, stepped)
            })
            .await?;
            compaction = back;
            pace.went_on();
            if stepped.map_err(|e| fault(&e))? {
                break;
            }
            let took = reclaimer.clock.mono().saturating_sub(started);
            reclaimer.pause(pace, took).await;
        }
        let (done, synced) = Synced::durable();
        let (compacted, reclaimed) = compaction.finish(done).map_err(|e| fault(&e))?;
        synced.wait().await?;
        reclaimer.done.fetch_add(1, Ordering::Relaxed);
        self.give_back(reclaimed).await;
        Ok(status(compacted))
    }

    /// Removes an extent; see [`wire::node::Node::remove`].
    pub(crate) async fn remove(&self, extent: ExtentId) -> Result<(), Fault> {
        self.reclaimer.check()?;
        let end = self.dir.status(extent).map_or(0, |status| status.end);
        let (done, synced) = Synced::durable();
        let queued = self.tending(move |dir| dir.remove(extent, done)).await?;
        queued.map_err(|e| fault(&e))?;
        synced.wait().await?;
        self.reclaimer.removed.fetch_add(1, Ordering::Relaxed);
        self.give_back(end).await;
        Ok(())
    }

    /// Runs `f` on the loop for compactions, where no client waits.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        f: impl FnOnce(&DataDir) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let dir = self.dir.clone();
        run(&self.reclaimer.jobs, move || f(&dir)).await
    }

    /// Reads what is beside the extents: a whole journal, too.
    pub(crate) async fn verify_frame(&self) -> Result<Reread, Fault> {
        let read = self.aside(DataDir::verify_frame).await?;
        let (bytes, damage) = read.map_err(|e| fault(&e))?;
        let damage = damage.into_iter().map(|(rot, what)| Damage {
            rot,
            what: format!("disk {}: {what}", self.dir.disk_id()),
        });
        Ok(Reread {
            bytes,
            of_bytes: bytes,
            damage: damage.collect(),
            ..Reread::default()
        })
    }

    /// Takes the files away that nothing needs any more, and the ballast back first of all. Not on the loop for compactions: there a scrub may
    /// be reading a whole journal, and writers wait for this room.
    async fn give_back(&self, bytes: u64) {
        let swept = self.tending(|dir| dir.sweep().and_then(|()| dir.regrow_ballast()));
        match swept.await {
            Ok(Ok(())) => {
                self.reclaimer.reclaimed_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            // What was compacted is compacted: the next checkpoint sweeps.
            Ok(Err(e)) => tracing::warn!(disk = %self.dir.disk_id(), error = %e, "files were not removed"),
            Err(e) => tracing::warn!(disk = %self.dir.disk_id(), error = %e, "files were not removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_what_it_says() {
        let took = Duration::from_millis(20);
        assert_eq!(pause_after(took, 25), 3 * took);
        assert_eq!(pause_after(took, 50), took);
        assert_eq!(pause_after(took, 100), Duration::ZERO);
        assert_eq!(pause_after(Duration::from_secs(9), 1), PAUSE_MAX);
    }
}
