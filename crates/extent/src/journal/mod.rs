//! The journal of one disk: what is queued together is written together and synced once (docs/formats/journal.md).
//!
//! ```text
//!   submit ─▶ queue (bounded) ─▶ loop: group ─ one write ─ one fdatasync ─▶ done, done, done
//!   lazy records wait in the queue for one that wants the sync: a needle for the batch that names it, also where a sync ends meanwhile
//! ```
//! The loop is a thread of its own; where syncs are short, whoever queued a batch does a group in its stead ([`Journal::drive`]).
//! Invariants: the order of sequences is the order of `submit`, on disk and in completions. `done` is called once, after the
//! sync that covers the record, or with an error. A failed write or sync ends the journal until it is opened again.

pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod ring;
pub(crate) mod scan;
#[cfg(test)]
mod tests;
pub(crate) mod writer;
pub(crate) mod zeroes;

use self::writer::SharedWriter;
use self::zeroes::Closes;
use crate::ExtentError;
use bytes::Bytes;
pub use record::{LogBatch, Lost, RecordType};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use types::limits::{
    DISK_QUEUE_MAX, JOURNAL_DRIVE_US_MAX, JOURNAL_LAZY_BYTES_MAX, JOURNAL_QUEUE_BYTES_MAX, SYNC_MARK_MS,
};
use types::{DiskId, JournalSeq};
use world::{Clock, JobSender};

/// Called on the journal's loop once a record is on stable storage, or has failed.
pub type Done = Box<dyn FnOnce(Result<(), ExtentError>) + Send>;

/// What has happened since the journal was opened.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// fdatasyncs of the journal file.
    pub flushes: AtomicU64,
    /// Records written.
    pub records: AtomicU64,
    /// Bytes written, padding and zeroing included.
    pub bytes: AtomicU64,
    /// Times it went round to its file's start.
    pub laps: AtomicU64,
    /// Times the loop found no room and had to wait for a release.
    pub stalls: AtomicU64,
}

/// A record waiting to be written.
pub(crate) struct Pending {
    pub(crate) sequence: u64,
    pub(crate) kind: RecordType,
    /// The payload, in pieces.
    pub(crate) pieces: [Bytes; 3],
    pub(crate) done: Option<Done>,
}

impl Pending {
    pub(crate) fn payload_bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

struct Queue {
    next: u64,
    waiting: VecDeque<Pending>,
    bytes: usize,
    lazy_bytes: usize,
    /// Somebody waits for a sync of what is queued, or it is too much to wait any longer.
    wanted: bool,
    /// A mark is to be written when nothing else is.
    mark: bool,
    /// Sends its answer once everything queued before is synced and marked; nothing is taken after it.
    stop: Option<Done>,
    closed: bool,
}

struct Hold {
    name: &'static str,
    below: u64,
}

pub(crate) struct Shared {
    pub(crate) disk: DiskId,
    pub(crate) record_bytes_max: usize,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    holds: Mutex<Vec<Hold>>,
    pressure: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    failed: OnceLock<String>,
    synced: AtomicU64,
    /// The last synced record is named by no synced record yet.
    unnamed: AtomicBool,
    last_sync: Mutex<Duration>,
    /// What a group takes to be written and synced, of late.
    pub(crate) pace_us: AtomicU64,
    /// Groups that were begun on a caller's thread.
    drives: AtomicU64,
    /// The last of them is through.
    driven: AtomicU64,
    pub(crate) stats: JournalStats,
}

/// A disk's journal. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    wake: JobSender<()>,
    /// `None`: only its loop writes.
    writer: Option<SharedWriter>,
    zeroes: Arc<Closes>,
}

/// Whether a record may wait for a later one's sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Lazy,
    Now,
    /// As `Now`, and who queues it calls [`Journal::drive`] next.
    Driven,
}

impl Shared {
    pub(crate) fn new(disk: DiskId, clock: Arc<dyn Clock>, record_bytes_max: usize, next: u64) -> Self {
        let last_sync = Mutex::new(clock.mono());
        Self {
            disk,
            record_bytes_max,
            clock,
            queue: Mutex::new(Queue {
                next,
                waiting: VecDeque::new(),
                bytes: 0,
                lazy_bytes: 0,
                wanted: false,
                mark: false,
                stop: None,
                closed: false,
            }),
            holds: Mutex::default(),
            pressure: Mutex::default(),
            failed: OnceLock::new(),
            synced: AtomicU64::new(0),
            unnamed: AtomicBool::new(false),
            last_sync,
            pace_us: AtomicU64::new(0),
            drives: AtomicU64::new(0),
            driven: AtomicU64::new(0),
            stats: JournalStats::default(),
        }
    }

    /// Takes the disk out of service for ever. The first reason stays.
    pub(crate) fn fail(&self, why: &str) {
        if self.failed.set(why.to_owned()).is_ok() {
            tracing::error!(disk = %self.disk, why, "disk out of service");
        }
    }

    /// A group took so long.
    pub(crate) fn took(&self, long: Duration) {
        let long_us = u64::try_from(long.as_micros()).unwrap_or(u64::MAX);
        let before = self.pace_us.load(Ordering::Relaxed);
        let now = before - before / 8 + long_us / 8;
        self.pace_us.store(now, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), ExtentError> {
        match self.failed.get() {
            Some(why) => Err(ExtentError::OutOfService(why.clone())),
            None => Ok(()),
        }
    }

    /// Notes a hold. One without a name is claimed by the next new consumer: what recovery found must outlive the wait
    /// for it.
    pub(crate) fn hold(&self, name: &'static str, below: u64) {
        self.holds
            .lock()
            .expect("no panic under this lock")
            .push(Hold { name, below });
    }

    fn low_water(&self, next: u64) -> u64 {
        let holds = self.holds.lock().expect("no panic under this lock");
        holds.iter().map(|h| h.below).min().unwrap_or(next).min(next)
    }
}

impl Journal {
    pub(crate) fn new(
        shared: Arc<Shared>,
        wake: JobSender<()>,
        writer: Option<SharedWriter>,
        zeroes: Closes,
    ) -> Self {
        Self {
            shared,
            wake,
            writer,
            zeroes: Arc::new(zeroes),
        }
    }

    /// No zeroes are written any more.
    pub(crate) fn end_zeroes(&self) {
        self.zeroes.0.close();
    }

    /// Whose journal it is.
    pub fn disk(&self) -> DiskId {
        self.shared.disk
    }

    /// Queues a log batch. `done` runs on the journal's loop once it is on stable storage or has failed; a record queued
    /// later is durable no earlier.
    ///
    /// # Errors
    /// Nothing happened: the disk is out of service, the queue is over its bound, or the batch is too large.
    pub fn submit_batch(&self, batch: LogBatch, done: Done) -> Result<JournalSeq, ExtentError> {
        let pieces = [batch.head().into(), batch.payload, Bytes::new()];
        self.submit(RecordType::Batch, pieces, Urgency::Now, Some(done))
    }

    /// As [`Journal::submit_batch`], but nothing is begun before the caller's [`Journal::drive`], which must come next.
    ///
    /// # Errors
    /// As [`Journal::submit_batch`].
    pub fn submit_batch_to_drive(&self, batch: LogBatch, done: Done) -> Result<JournalSeq, ExtentError> {
        let pieces = [batch.head().into(), batch.payload, Bytes::new()];
        self.submit(RecordType::Batch, pieces, Urgency::Driven, Some(done))
    }

    /// Sees to it that what is wanted is synced. Where syncs are so short that waking the loop and being woken by it would take as long, one
    /// group is written and synced here, on the caller's thread, which must hold no lock that a `done` takes; else the loop is woken.
    pub fn drive(&self) {
        let is_short = self.shared.pace_us.load(Ordering::Relaxed) <= JOURNAL_DRIVE_US_MAX;
        let more = match &self.writer {
            Some(writer) if is_short => writer.drive(&self.shared),
            _ => true,
        };
        if more {
            self.wake();
        }
    }

    /// How many groups were begun on callers' threads, and whether the last of them is under way: what to look at for whoever must not let a
    /// thread that waits for a disk keep others from running.
    pub fn drives(&self) -> (u64, bool) {
        let through = self.shared.driven.load(Ordering::Acquire);
        let begun = self.shared.drives.load(Ordering::Acquire);
        (begun, begun != through)
    }

    /// Largest `LogBatch` payload that this journal takes.
    pub fn batch_bytes_max(&self) -> usize {
        // Room for the head with as many members as there will ever be.
        self.shared.record_bytes_max - 4096
    }

    pub(crate) fn submit(
        &self,
        kind: RecordType,
        pieces: [Bytes; 3],
        urgency: Urgency,
        done: Option<Done>,
    ) -> Result<JournalSeq, ExtentError> {
        self.shared.check()?;
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        if bytes > self.shared.record_bytes_max {
            return Err(ExtentError::Invalid(format!(
                "a journal record of {bytes} bytes is over this disk's {}",
                self.shared.record_bytes_max
            )));
        }
        let wake;
        let sequence;
        {
            let mut q = self.shared.queue.lock().expect("no panic under this lock");
            if q.closed {
                return Err(ExtentError::OutOfService("it was shut down".into()));
            }
            let factor = if kind == RecordType::Needle { 1 } else { 2 };
            if q.waiting.len() >= factor * DISK_QUEUE_MAX
                || (q.bytes > 0 && q.bytes + bytes > factor * JOURNAL_QUEUE_BYTES_MAX)
            {
                return Err(ExtentError::Busy("the journal's queue is full"));
            }
            sequence = q.next;
            q.next += 1;
            q.bytes += bytes;
            q.lazy_bytes += bytes;
            wake = urgency == Urgency::Now
                || q.lazy_bytes > JOURNAL_LAZY_BYTES_MAX
                || q.waiting.len() >= DISK_QUEUE_MAX / 2;
            q.wanted |= wake || urgency == Urgency::Driven;
            q.waiting.push_back(Pending {
                sequence,
                kind,
                pieces,
                done,
            });
        }
        if wake {
            self.wake();
        }
        Ok(JournalSeq(sequence))
    }

    /// Calls `done` once everything queued so far is on stable storage.
    pub(crate) fn barrier(&self, done: Done) -> Result<(), ExtentError> {
        self.shared.check()?;
        {
            let mut q = self.shared.queue.lock().expect("no panic under this lock");
            if q.closed {
                return Err(ExtentError::OutOfService("it was shut down".into()));
            }
            if q.waiting.len() >= 2 * DISK_QUEUE_MAX {
                return Err(ExtentError::Busy("the journal's queue is full"));
            }
            let sequence = q.next - 1;
            if sequence > self.synced().0 || !q.waiting.is_empty() {
                q.waiting.push_back(Pending {
                    sequence,
                    kind: RecordType::Mark,
                    pieces: [Bytes::new(), Bytes::new(), Bytes::new()],
                    done: Some(done),
                });
                q.wanted = true;
                drop(q);
                self.wake();
                return Ok(());
            }
        }
        done(Ok(()));
        Ok(())
    }

    /// Wakes the loop. A full channel means that it is awake already; a closed one, that the runtime has ended.
    fn wake(&self) {
        let _awake = self.wake.try_send(());
    }

    /// The next sequence to be queued.
    pub fn next(&self) -> JournalSeq {
        JournalSeq(self.shared.queue.lock().expect("no panic under this lock").next)
    }

    /// The lowest sequence that anyone needs: nothing is written over it or what follows.
    pub(crate) fn low_water(&self) -> JournalSeq {
        JournalSeq(self.shared.low_water(self.next().0))
    }

    /// The highest sequence known to be on stable storage.
    pub fn synced(&self) -> JournalSeq {
        JournalSeq(self.shared.synced.load(Ordering::Acquire))
    }

    /// Claims the right to keep records alive until they are released. The first claim of a name unknown so far inherits
    /// the batches that recovery found; another holds what is queued from now on.
    pub fn consumer(&self, name: &'static str) -> Consumer {
        let next = self.next().0;
        let mut holds = self.shared.holds.lock().expect("no panic under this lock");
        if !holds.iter().any(|h| h.name == name) {
            match holds.iter_mut().find(|h| h.name.is_empty()) {
                Some(unclaimed) => unclaimed.name = name,
                None => holds.push(Hold { name, below: next }),
            }
        }
        drop(holds);
        Consumer {
            journal: self.clone(),
            name,
        }
    }

    /// `f` is called on the journal's loop while more than half of the ring is held: checkpoint and release, elsewhere.
    pub fn on_pressure(&self, f: Box<dyn Fn() + Send + Sync>) {
        self.shared
            .pressure
            .lock()
            .expect("no panic under this lock")
            .push(f);
    }

    /// To be called every few tens of milliseconds: writes what waits lazily, and marks a sync that nothing followed.
    pub fn tick(&self) {
        let idle = {
            let last = *self.shared.last_sync.lock().expect("no panic under this lock");
            self.shared.clock.mono().saturating_sub(last)
        };
        let mut q = self.shared.queue.lock().expect("no panic under this lock");
        if q.waiting.is_empty() {
            if !self.shared.unnamed.load(Ordering::Acquire) || idle < Duration::from_millis(SYNC_MARK_MS) {
                return;
            }
            q.mark = true;
        }
        q.wanted = true;
        drop(q);
        self.wake();
    }

    /// Syncs and marks what is queued, then takes nothing more. `done` runs once that is so.
    pub fn stop(&self, done: Done) {
        {
            let mut q = self.shared.queue.lock().expect("no panic under this lock");
            if !q.closed && self.shared.failed.get().is_none() {
                q.closed = true;
                q.mark = true;
                q.wanted = true;
                q.stop = Some(done);
                drop(q);
                self.wake();
                return;
            }
        }
        done(self.shared.check());
    }

    /// Takes the disk out of service, for ever: after a failed write or sync of any of its files.
    pub fn fail(&self, why: &str) {
        self.shared.fail(why);
        self.wake();
    }

    /// Refuses when the disk is out of service.
    ///
    /// # Errors
    /// Why it is.
    pub fn check(&self) -> Result<(), ExtentError> {
        self.shared.check()
    }

    /// Counters.
    pub fn stats(&self) -> &JournalStats {
        &self.shared.stats
    }
}

/// Keeps journal records alive, all of them from the first it has not released, whosever they are: a consumer that needs
/// nothing of the journal releases up to [`Journal::next`] when it is pressed.
pub struct Consumer {
    journal: Journal,
    name: &'static str,
}

impl Consumer {
    /// Of a hold that is noted already.
    pub(crate) fn of(journal: Journal, name: &'static str) -> Self {
        Self { journal, name }
    }

    /// Everything below is in the consumer's own synced files, or is none of its business.
    pub fn release(&self, below: JournalSeq) {
        let mut holds = self
            .journal
            .shared
            .holds
            .lock()
            .expect("no panic under this lock");
        let hold = holds
            .iter_mut()
            .find(|h| h.name == self.name)
            .expect("a consumer's hold is never dropped");
        if below.0 <= hold.below {
            // Nothing new is free: waking a journal that waits for room would only have it ask again, for ever.
            return;
        }
        hold.below = below.0;
        drop(holds);
        self.journal.wake();
    }
}
