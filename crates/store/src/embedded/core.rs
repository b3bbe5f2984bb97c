//! What the engine's calls and its write-behind loop share: the disk, the log, the partitions.

use super::batch::BatchRows;
use super::catalogue::Catalogue;
use super::files::{Files, Whose, path_of};
use super::form::{Mark, Reader};
use super::log::Log;
use super::pages::{Retired, StartClock, Unusable};
use super::partition::{Generation, Partition, Work};
use crate::{Batch, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use types::limits::INDEX_FILES_MAX;
use types::{JournalSeq, LogSeq, PartitionId};
use world::rot::{self, Rot};
use world::{Disk, Loop};

/// Directory of index files in a data directory.
pub(super) const DIR: &str = "index";

/// The engine's shared part.
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log: Box<dyn Log>,
    pub(super) catalogue: Catalogue,
    pub(super) partitions: Mutex<BTreeMap<PartitionId, Arc<Partition>>>,
    pub(super) retired: Retired,
    /// Bytes of pages that one file keeps in memory.
    pub(super) cache_bytes: usize,
    pub(super) clock: StartClock,
    /// Rows written behind in one transaction; tests make it small.
    pub(super) step_bytes: AtomicUsize,
    /// The next writing behind begins a file over those that there are; tests ask for it.
    pub(super) begin_over: AtomicBool,
    /// The journal wanted room since it was last given some.
    pub(super) pressed: AtomicBool,
    /// The write-behind loop's queue; `None` once the engine is closing.
    pub(super) jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

/// What the write-behind loop is asked.
pub(super) enum Job {
    /// To look at a partition.
    Look(PartitionId),
    /// To write everything behind.
    Press,
    /// To keep nothing of a partition's files in memory, where it is more than so many bytes.
    Rest(PartitionId, u64),
}

impl Core {
    /// Puts a job before the write-behind loop; `false` where it cannot now. Never waits.
    pub(super) fn send(&self, job: Job) -> bool {
        let jobs = self.jobs.lock().expect("no panic under this lock");
        jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// All partitions.
    pub(super) fn all(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.lock().expect("no panic under this lock");
        partitions.values().cloned().collect()
    }

    /// A partition, if there is one.
    pub(super) fn find(&self, id: PartitionId) -> Option<Arc<Partition>> {
        let partitions = self.partitions.lock().expect("no panic under this lock");
        partitions.get(&id).cloned()
    }

    /// Whose a partition's files are.
    pub(super) fn whose(&self, partition: PartitionId) -> Whose {
        Whose {
            disk: self.log.disk(),
            partition,
            retired: self.retired.clone(),
            cache_bytes: self.cache_bytes,
            clock: self.clock.clone(),
        }
    }

    /// Why the disk's index is written no more, if so.
    pub(super) fn retired(&self) -> Option<StoreError> {
        self.retired.get().map(|why| StoreError::Failed(why.clone()))
    }

    /// Why the disk's index is written no more, if so; then its log is not released any more either, and what would
    /// wait for room in the journal must hear that none comes.
    fn out_of_service(&self) -> Option<StoreError> {
        let why = self.retired.get()?;
        self.log.out_of_service(why);
        self.retired()
    }

    /// Asks for everything to be written behind, and does not wait: the journal wants room.
    pub(super) fn press(&self) {
        self.pressed.store(true, Ordering::Relaxed);
        self.settle();
    }

    /// The same, where there is room, so that nobody is refused for want of it: rows need not be in memory any longer.
    pub(super) fn settle(&self) {
        // A full queue has others before it that release as much.
        let _full = self.send(Job::Press);
    }

    /// Whether the journal still wants room.
    pub(super) fn pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Why the journal gets no room, where it wants some: what a partition has in it cannot be written behind, and that does not pass by
    /// itself. What is queued now, of whatever partition, would wait in the journal for as long. The partition is tried again.
    ///
    /// No lock of a partition is held by who asks.
    pub(super) fn held_up(&self) -> Option<StoreError> {
        let (partition, why) = self.stuck().filter(|_| self.pressed())?;
        partition.retry(self);
        let id = partition.id;
        Some(StoreError::Failed(format!(
            "the journal has no room: partition {id} is not written behind: {why}"
        )))
    }

    fn stuck(&self) -> Option<(Arc<Partition>, StoreError)> {
        let all = self.all();
        all.into_iter()
            .find_map(|partition| partition.stuck().map(|why| (partition, why)))
    }

    /// Tells the journal what is no longer needed of it, once something was written behind.
    pub(super) fn release(&self) {
        // What one holds keeps it from all that others let go.
        self.pressed.fetch_and(self.stuck().is_some(), Ordering::Relaxed);
        self.release_unheld();
    }

    fn release_unheld(&self) {
        // Read first: what is queued after this is not below it, and what was queued before is seen by `oldest`.
        let next = self.log.next();
        let oldest: Option<JournalSeq> = self.all().iter().filter_map(|p| p.oldest()).min();
        self.log.release(oldest.map_or(next, |oldest| oldest.min(next)));
    }

    /// The files of a partition, if it has any that were finished.
    fn open_files(&self, partition: &Partition) -> Result<Option<Files>, StoreError> {
        let whose = self.whose(partition.id);
        let written = partition.in_files();
        let (files, mark) = match Files::open(self.disk.as_ref(), &whose) {
            Ok(Some(opened)) => opened,
            // Made and never finished: the log has everything. Not where others lie over it: they took what the log has forgotten.
            Ok(None) | Err((_, Unusable::NoHead))
                if written == LogSeq::default() && self.catalogue.files(partition.id) <= 1 =>
            {
                return Ok(None);
            }
            Ok(None) => {
                return Err(StoreError::Corrupt(format!(
                    "{}: the file is missing",
                    path_of(partition.id, 0)
                )));
            }
            Err((path, e)) => return Err(e.store_error(&path)),
        };
        let first = Some(LogSeq(written.0 + 1));
        let count = self.catalogue.files(partition.id);
        let (files, _, bad) = files.open_over(self.disk.as_ref(), &whose, (mark, count, first))?;
        bad.map_or(Ok(()), Err)?;
        Ok(Some(files))
    }
}

impl Unusable {
    /// As a caller hears it.
    pub(super) fn store_error(self, path: &str) -> StoreError {
        match self {
            Self::NoHead => StoreError::Corrupt(format!("{path}: both heads are bad")),
            Self::Corrupt(text) | Self::Unread(text) => StoreError::Corrupt(text),
            Self::Newer(format) => StoreError::Newer(format!(
                "{path}: its format {format} is of a newer build; nothing was changed"
            )),
            Self::Io(e) => StoreError::io(path, &e),
            Self::Refused(e) => e,
        }
    }
}

/// The write-behind loop: moves frozen generations into their forms, and then lets the journal forget them.
pub(super) struct WriteBehind(pub(super) Arc<Core>);

impl Loop<Job> for WriteBehind {
    fn apply(&mut self, jobs: &mut Vec<Job>) {
        for job in jobs.drain(..) {
            match job {
                Job::Look(id) => {
                    if let Some(partition) = self.0.find(id) {
                        self.look(&partition);
                    }
                }
                Job::Rest(id, more_than) => {
                    if let Some(partition) = self.0.find(id) {
                        self.rest(&partition, more_than);
                    }
                }
                Job::Press => {
                    self.0.all().iter().for_each(|partition| partition.press(&self.0));
                    // Where nothing is to be written behind, what others have put into the journal since is not held.
                    self.0.release_unheld();
                    if self.0.all().iter().all(|partition| partition.oldest().is_none()) {
                        self.0.pressed.store(false, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

impl WriteBehind {
    fn look(&self, partition: &Partition) {
        if let Some(e) = self.0.out_of_service() {
            partition.work();
            return partition.not_written(e, Ok(None));
        }
        let work = partition.work();
        if !self.open_again(partition) {
            return;
        }
        let (rows, mark) = match work {
            Work::Idle => return,
            Work::Write(rows, mark) => (rows, mark),
        };
        let written = {
            let mut files = partition.files.lock().expect("no panic under this lock");
            if let Some(files) = files.as_mut().filter(|f| f.count() < INDEX_FILES_MAX)
                && self.0.begin_over.swap(false, Ordering::Relaxed)
                && let Err(error) = self.add_file(partition, files)
            {
                tracing::error!(%error, "no file is begun though it was asked for");
            }
            match self.write(partition, &mut files, (&rows, mark)) {
                // A page that has to be written anew cannot be read. The rows go into a file over this one.
                Err(e @ StoreError::Corrupt(_)) => self
                    .lay_over(partition, &mut files, e)
                    .and_then(|()| self.write(partition, &mut files, (&rows, mark))),
                other => other,
            }
        };
        match written {
            Ok(reader) => {
                partition.written(Arc::new(reader), mark);
                self.0.release();
            }
            Err(e) => {
                tracing::error!(partition = %partition.id, error = %e, "the index is not written behind");
                self.reopen(partition, e);
            }
        }
    }

    /// Writes a generation in steps. Between them nothing is held that a reader of it waits for, nor a commit whose rows are still put into it.
    fn write(
        &self,
        partition: &Partition,
        files: &mut Option<Files>,
        (rows, mark): (&Generation, Mark),
    ) -> Result<Reader, StoreError> {
        let files = self.files_of(partition, files)?;
        let mut from = Some(Bytes::new());
        while let Some(start) = from.take() {
            let bytes_max = self.0.step_bytes.load(Ordering::Relaxed);
            let (step, next) = step_of(rows, (mark.sequence, &start), bytes_max);
            let moved = next.is_none().then_some(mark);
            let step = step.iter().map(|(key, value)| (key, value.as_ref()));
            files.newest().write(step, moved)?;
            from = next;
            if from.is_some() {
                partition.stepped(Arc::new(files.reader()?));
            }
        }
        files.reader()
    }

    fn files_of<'a>(
        &self,
        partition: &Partition,
        files: &'a mut Option<Files>,
    ) -> Result<&'a Files, StoreError> {
        if files.is_none() {
            *files = Some(match self.0.open_files(partition)? {
                Some(files) => files,
                None => {
                    self.0.catalogue.add(partition.id, 1)?;
                    Files::create(self.0.disk.as_ref(), &self.0.whose(partition.id))?
                }
            });
        }
        Ok(files.as_ref().expect("just put there"))
    }

    /// Begins a file over those that there are, one of which is bad: `why`.
    fn lay_over(
        &self,
        partition: &Partition,
        files: &mut Option<Files>,
        why: StoreError,
    ) -> Result<(), StoreError> {
        if let Some(e) = self.0.out_of_service() {
            return Err(e);
        }
        // After its failure redb answers nothing: opened anew, it is read from here on, and not written.
        *files = None;
        let Some(mut opened) = self.0.open_files(partition)? else {
            return Err(why);
        };
        if opened.count() >= INDEX_FILES_MAX {
            return Err(why);
        }
        self.add_file(partition, &mut opened)?;
        if let StoreError::Corrupt(place) = &why {
            rot::found(Rot::IndexPage, place);
        }
        tracing::error!(
            partition = %partition.id, error = %why, files = opened.count(),
            "the index goes on in another file; rows that only the bad page had are lost until they are written again"
        );
        partition.stepped(Arc::new(opened.reader()?));
        *files = Some(opened);
        Ok(())
    }

    fn add_file(&self, partition: &Partition, files: &mut Files) -> Result<(), StoreError> {
        self.0.catalogue.add(partition.id, files.count() + 1)?;
        files.add(self.0.disk.as_ref(), &self.0.whose(partition.id))
    }

    /// redb answers nothing after its storage failed: the files are opened anew, on their last whole turn.
    fn reopen(&self, partition: &Partition, why: StoreError) {
        let mut files = partition.files.lock().expect("no panic under this lock");
        *files = None;
        if let Some(e) = self.0.out_of_service() {
            return partition.not_written(e, Ok(None));
        }
        partition.close();
        partition.not_written(why, self.open_to_read(partition, &mut files));
    }

    /// Opens files that could not be opened anew, if there are such. Before that goes well nothing can be written to them.
    fn open_again(&self, partition: &Partition) -> bool {
        let mut files = partition.files.lock().expect("no panic under this lock");
        if !partition.is_closed() {
            return true;
        }
        match self.open_to_read(partition, &mut files) {
            Ok(reader) => {
                partition.opened(reader);
                true
            }
            Err(e) => {
                partition.not_written(e.clone(), Err(e));
                false
            }
        }
    }

    /// Lets go of the pages that redb has in memory: it has no other way than to be closed. Nobody reads meanwhile, and what is committed waits
    /// for its turn as while rows are written behind.
    fn rest(&self, partition: &Partition, more_than: u64) {
        let mut files = partition.files.lock().expect("no panic under this lock");
        // Closing writes; where files lie over one that is bad, that one is written no more.
        let is_one = files.as_ref().is_some_and(|files| files.count() == 1);
        if self.0.out_of_service().is_some() || !is_one || !partition.rest(more_than) {
            return;
        }
        let anew = |files: Files| {
            let files = files.anew()?;
            let reader = files.reader()?;
            Ok((files, Arc::new(reader)))
        };
        match files.take().map(anew) {
            Some(Ok((opened, reader))) => {
                *files = Some(opened);
                partition.rested(reader);
            }
            Some(Err(e)) => {
                let e: StoreError = e;
                tracing::error!(partition = %partition.id, error = %e, "the index is not as it was before it rested");
                if let Some(e) = self.0.out_of_service() {
                    return partition.not_written(e, Ok(None));
                }
                partition.close();
                partition.not_written(e, self.open_to_read(partition, &mut files));
            }
            None => {}
        }
    }

    /// A reader of the files opened anew; `None` where there are none that were ever finished.
    fn open_to_read(
        &self,
        partition: &Partition,
        files: &mut Option<Files>,
    ) -> Result<Option<Arc<Reader>>, StoreError> {
        let Some(opened) = self.0.open_files(partition)? else {
            return Ok(None);
        };
        let reader = opened.reader()?;
        *files = Some(opened);
        Ok(Some(Arc::new(reader)))
    }
}

/// The rows to write in one transaction, as of `at` and from `start` on; and where the next one begins, if there is one.
fn step_of(
    generation: &Generation,
    (at, start): (LogSeq, &Bytes),
    bytes_max: usize,
) -> (BatchRows, Option<Bytes>) {
    let rows = generation.rows.read().expect("no panic under this lock");
    let mut rows = rows.from(at, start).peekable();
    let mut step = BatchRows::new();
    let mut bytes = 0;
    while bytes < bytes_max
        && let Some((key, value)) = rows.next()
    {
        bytes += Batch::row_bytes(key, value);
        step.push((key.clone(), value.cloned()));
    }
    (step, rows.peek().map(|(key, _)| (*key).clone()))
}
