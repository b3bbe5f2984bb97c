//! A journal in memory: what was synced survives, in order.

use extent::LogBatch;
use std::sync::{Arc, Mutex};
use store::StoreError;
use store::embedded::{Done, Log};
use tokio::sync::mpsc;
use types::{DiskId, JournalSeq};
use world::{Loop, World};

#[derive(Default)]
struct Kept {
    synced: Vec<(JournalSeq, LogBatch)>,
    next: u64,
    released: JournalSeq,
    fail_next: bool,
    failed: bool,
}

pub(crate) struct TestJournal {
    disk: DiskId,
    kept: Arc<Mutex<Kept>>,
    queue: mpsc::Sender<Job>,
}

struct Job(JournalSeq, LogBatch, Done);
struct Body(Arc<Mutex<Kept>>);

impl Loop<Job> for Body {
    fn apply(&mut self, jobs: &mut Vec<Job>) {
        for Job(place, batch, done) in jobs.drain(..) {
            let mut kept = self.0.lock().unwrap();
            let result = if kept.failed || std::mem::take(&mut kept.fail_next) {
                // The record is on the disk or not; here the first one is.
                if !kept.failed {
                    kept.synced.push((place, batch));
                }
                kept.failed = true;
                Err(StoreError::Failed("the sync failed".into()))
            } else {
                kept.synced.push((place, batch));
                Ok(())
            };
            drop(kept);
            done(result);
        }
    }
}

struct Handle {
    disk: DiskId,
    kept: Arc<Mutex<Kept>>,
    queue: mpsc::Sender<Job>,
}

impl Log for Handle {
    fn disk(&self) -> DiskId {
        self.disk
    }
    fn submit(&self, batch: LogBatch, done: Done) -> Result<JournalSeq, StoreError> {
        let mut kept = self.kept.lock().unwrap();
        kept.next += 1;
        let place = JournalSeq(kept.next);
        self.queue
            .try_send(Job(place, batch, done))
            .map_err(|_| StoreError::Busy("the queue is full".into()))?;
        Ok(place)
    }
    fn next(&self) -> JournalSeq {
        JournalSeq(self.kept.lock().unwrap().next + 1)
    }
    fn out_of_service(&self, _why: &str) {}
    fn release(&self, below: JournalSeq) {
        let mut kept = self.kept.lock().unwrap();
        assert!(
            below >= kept.released && below.0 <= kept.next + 1,
            "released once, and not ahead"
        );
        kept.released = below;
        kept.synced.retain(|(place, _)| *place >= below);
    }
}

impl TestJournal {
    pub(crate) fn new(disk: DiskId, world: &World) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let (queue, _end) = world.exec.run_loop("test-journal", 100, 8, Body(kept.clone()));
        Self { disk, kept, queue }
    }

    pub(crate) fn log(&self) -> Box<dyn Log> {
        Box::new(Handle {
            disk: self.disk,
            kept: self.kept.clone(),
            queue: self.queue.clone(),
        })
    }

    /// The batches that are not released.
    pub(crate) fn kept(&self) -> Vec<(JournalSeq, LogBatch)> {
        self.kept.lock().unwrap().synced.clone()
    }

    pub(crate) fn fail_next(&self) {
        self.kept.lock().unwrap().fail_next = true;
    }

    /// What is queued is lost with the queue; a new one takes its place.
    pub(crate) fn crash(&mut self, world: &World) {
        let mut kept = self.kept.lock().unwrap();
        let survivors = Kept {
            synced: kept.synced.clone(),
            next: kept.next,
            released: kept.released,
            fail_next: false,
            failed: false,
        };
        kept.failed = true;
        drop(kept);
        self.kept = Arc::new(Mutex::new(survivors));
        let (queue, _end) = world
            .exec
            .run_loop("test-journal", 100, 8, Body(self.kept.clone()));
        self.queue = queue;
    }
}
