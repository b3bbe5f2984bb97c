//! What the engine's calls and its write-behind loop share: the disk, the log, the partitions.

use super::catalogue::Catalogue;
use super::form::{Form, Reader};
use super::log::Log;
use super::pages::{Owner, Place, Retired, Unusable};
use super::partition::{Partition, Work};
use crate::{Batch, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use types::{JournalSeq, PartitionId};
use world::{Disk, Loop};

/// Directory of index files in a data directory.
pub(super) const DIR: &str = "index";

/// Where a partition's index file is.
pub(super) fn path_of(partition: PartitionId) -> String {
    format!("{DIR}/{partition}.redb")
}

/// The partition whose index file has this name, if it is one.
pub(super) fn partition_of(name: &str) -> Option<PartitionId> {
    let id = u64::from_str_radix(name.strip_suffix(".redb")?, 16).ok()?;
    Some(PartitionId(id)).filter(|id| path_of(*id) == format!("{DIR}/{name}"))
}

/// The engine's shared part.
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log: Box<dyn Log>,
    pub(super) catalogue: Catalogue,
    pub(super) partitions: Mutex<BTreeMap<PartitionId, Arc<Partition>>>,
    pub(super) retired: Retired,
    /// Rows written behind in one transaction; tests make it small.
    pub(super) step_bytes: AtomicUsize,
    /// The journal wanted room since it was last given some.
    pub(super) pressed: AtomicBool,
    /// The write-behind loop's queue; `None` once the engine is closing.
    pub(super) jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

/// What the write-behind loop is asked.
pub(super) enum Job {
    /// To look at a partition.
    Look(PartitionId),
    /// To write everything behind: the journal wants room.
    Press,
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

    /// Where a partition's index file is.
    pub(super) fn place(&self, partition: PartitionId) -> Place {
        let owner = Owner {
            disk: self.log.disk(),
            partition,
        };
        Place {
            owner,
            path: path_of(partition),
            retired: self.retired.clone(),
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
        // A full queue has others before it that release as much.
        let _full = self.send(Job::Press);
    }

    /// Whether the journal still wants room.
    pub(super) fn pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Tells the journal what is no longer needed of it, once something was written behind.
    pub(super) fn release(&self) {
        self.pressed.store(false, Ordering::Relaxed);
        self.release_unheld();
    }

    fn release_unheld(&self) {
        // Read first: what is queued after this is not below it, and what was queued before is seen by `oldest`.
        let next = self.log.next();
        let oldest: Option<JournalSeq> = self.all().iter().filter_map(|p| p.oldest()).min();
        self.log.release(oldest.map_or(next, |oldest| oldest.min(next)));
    }

    fn open_form(&self, partition: PartitionId) -> Result<Option<(Form, Arc<Reader>)>, StoreError> {
        let place = self.place(partition);
        let path = place.path.as_str();
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::Failed(format!("{path}: {e}"))),
        };
        match Form::open(file, &place) {
            Ok((form, _)) => {
                let reader = Arc::new(form.reader()?);
                Ok(Some((form, reader)))
            }
            // Made and never finished: the log has everything.
            Err(Unusable::NoHead) => Ok(None),
            Err(e) => Err(e.store_error(path)),
        }
    }
}

impl Unusable {
    /// As a caller hears it.
    pub(super) fn store_error(self, path: &str) -> StoreError {
        match self {
            Self::NoHead => StoreError::Corrupt(format!("{path}: both heads are bad")),
            Self::Corrupt(text) => StoreError::Corrupt(text),
            Self::Newer(format) => StoreError::Failed(format!(
                "{path}: its format {format} is of a newer build; nothing was changed"
            )),
            Self::Io(e) => StoreError::Failed(format!("{path}: {e}")),
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
                Job::Press => {
                    self.0.all().iter().for_each(|partition| partition.press(&self.0));
                    // Where nothing is to be written behind, what others have put into the journal since is not held.
                    self.0.release_unheld();
                }
            }
        }
    }
}

impl WriteBehind {
    fn look(&self, partition: &Partition) {
        if let Some(e) = self.0.out_of_service() {
            partition.work();
            return partition.not_written(Some(e), None);
        }
        let (rows, mark) = match partition.work() {
            Work::Idle => return,
            Work::Reopen => return self.reopen(partition, None),
            Work::Write(rows, mark) => (rows, mark),
        };
        let written = {
            let mut form = partition.form.lock().expect("no panic under this lock");
            self.form_of(partition, &mut form).and_then(|form| {
                let rows = rows.rows.read().expect("no panic under this lock");
                let mut rows = rows.all(mark.sequence).peekable();
                loop {
                    let step = step_of(&mut rows, self.0.step_bytes.load(Ordering::Relaxed));
                    let last = rows.peek().is_none();
                    form.write(step.into_iter(), last.then_some(mark))?;
                    let reader = form.reader()?;
                    if last {
                        return Ok(reader);
                    }
                    partition.stepped(Arc::new(reader));
                }
            })
        };
        match written {
            Ok(reader) => {
                partition.written(Arc::new(reader));
                self.0.release();
            }
            Err(e) => {
                tracing::error!(partition = %partition.id, error = %e, "the index is not written behind");
                self.reopen(partition, Some(e));
            }
        }
    }

    fn form_of<'a>(&self, partition: &Partition, form: &'a mut Option<Form>) -> Result<&'a Form, StoreError> {
        if form.is_none() {
            let opened = self.0.open_form(partition.id)?.map(|(form, _)| form);
            *form = Some(match opened {
                Some(form) => form,
                None => {
                    self.0.catalogue.add(partition.id)?;
                    Form::create(self.0.disk.as_ref(), &self.0.place(partition.id))?
                }
            });
        }
        Ok(form.as_ref().expect("just put there"))
    }

    /// redb answers nothing after its storage failed: the file is opened anew, on its last whole turn.
    fn reopen(&self, partition: &Partition, why: Option<StoreError>) {
        let mut form = partition.form.lock().expect("no panic under this lock");
        *form = None;
        if let Some(e) = self.0.out_of_service() {
            return partition.not_written(Some(e), None);
        }
        match self.0.open_form(partition.id) {
            Ok(Some((opened, reader))) => {
                *form = Some(opened);
                partition.not_written(why, Some(reader));
            }
            Ok(None) => partition.not_written(why, None),
            Err(e) => partition.not_written(Some(why.unwrap_or(e)), None),
        }
    }
}

/// The next rows to write in one transaction.
fn step_of<'a>(
    rows: &mut Peekable<impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)>>,
    bytes_max: usize,
) -> Vec<(&'a Bytes, Option<&'a Bytes>)> {
    let mut step = Vec::new();
    let mut bytes = 0;
    while bytes < bytes_max
        && let Some((key, value)) = rows.next()
    {
        bytes += Batch::row_bytes(key, value);
        step.push((key, value));
    }
    step
}
