//! The index of a disk as its files and its log say: all partitions judged, and nothing written to the log yet.
//!
//! A store that cannot serve without a partition looks here before it takes any: a take is a record in the journal, and whoever starts a
//! refusing store again and again would fill it. Who only reads may go past damage: what there is of each partition, and what is lost, is told.

use super::catalogue::Catalogue;
use super::core::DIR;
use super::files::{Files, Whose, file_of};
use super::lay;
use super::pages::{Retired, StartClock};
use super::partition::Partition;
use super::recover::{self, LogTail};
use super::snapshot::EmbeddedSnapshot;
use crate::{Snapshot, StoreError};
use extent::{LogBatch, Lost};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::limits::INDEX_CACHE_BYTES_MAX;
use types::{DiskId, JournalSeq, LogSeq, PartitionId};
use world::rot::{self, Rot};
use world::{Disk, Overlay};

/// A disk's index before it is started.
pub struct Prepared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) catalogue: Catalogue,
    pub(super) retired: Retired,
    /// Bytes of pages that each partition's index file keeps in memory.
    pub(super) cache_bytes: usize,
    /// There is none before the index is started.
    pub(super) clock: StartClock,
    pub(super) partitions: BTreeMap<PartitionId, Arc<Partition>>,
    /// What is missing of them, and of which; `None`: it may be of any.
    lost: Vec<(Option<PartitionId>, StoreError)>,
}

/// What there is of an index's files and of its log.
struct Ground<'a> {
    owner: DiskId,
    batches: BTreeMap<PartitionId, LogTail>,
    lost: &'a [Lost],
    /// Whether a partition that lacks something is taken as it is.
    past_damage: bool,
}

impl Prepared {
    /// Opens the files and lays over them the batches that the journal still has. `lost`: what the journal knows that it lost. A
    /// partition that is not as it was written is refused when it is asked for; the others serve.
    ///
    /// # Errors
    /// When the directory cannot be read, or a newer build wrote in it.
    pub fn new(
        disk: Arc<dyn Disk>,
        owner: DiskId,
        batches: impl IntoIterator<Item = (JournalSeq, LogBatch)>,
        lost: &[Lost],
    ) -> Result<Self, StoreError> {
        Self::within(disk, owner, batches, lost, INDEX_CACHE_BYTES_MAX)
    }

    /// The same with so many bytes of pages in memory for each partition.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn within(
        disk: Arc<dyn Disk>,
        owner: DiskId,
        batches: impl IntoIterator<Item = (JournalSeq, LogBatch)>,
        lost: &[Lost],
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        has_dir(&*disk)?;
        // A restore may have been cut off.
        lay::finish(&disk, owner)?;
        let found = found(&*disk)?;
        let catalogue = Catalogue::open(disk.clone(), owner, Retired::default(), found.iter().copied())?;
        let ground = Ground::of(owner, batches, lost, false);
        let prepared = Self::of(disk, (catalogue, cache_bytes), ground)?;
        prepared.catalogue.mend()?;
        Ok(prepared)
    }

    /// For those who only read and go past damage: of each partition what there is, also behind batches that are missing, and
    /// of a catalogue that says nothing what lies in its directory. [`Prepared::lost`] says what is missing by that. Nothing on the disk is
    /// changed; what an engine that is started on it writes is dropped with it.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn past_damage(
        disk: &Arc<dyn Disk>,
        owner: DiskId,
        batches: impl IntoIterator<Item = (JournalSeq, LogBatch)>,
        lost: &[Lost],
    ) -> Result<Self, StoreError> {
        let disk = Arc::new(Overlay::new(disk.clone()));
        has_dir(&*disk)?;
        let unlaid = lay::finish_past_damage(&disk, owner)?;
        let (catalogue, unlisted) = Catalogue::past_damage(&disk, owner, &found(&*disk)?)?;
        let ground = Ground::of(owner, batches, lost, true);
        let mut prepared = Self::of(disk, (catalogue, INDEX_CACHE_BYTES_MAX), ground)?;
        let of_all = unlaid.into_iter().chain(unlisted);
        prepared.lost.extend(of_all.map(|why| (None, why)));
        Ok(prepared)
    }

    fn of(
        disk: Arc<dyn Disk>,
        (catalogue, cache_bytes): (Catalogue, usize),
        mut ground: Ground<'_>,
    ) -> Result<Self, StoreError> {
        for id in catalogue.partitions() {
            ground.batches.entry(id).or_default();
        }
        let mut prepared = Self {
            disk,
            retired: catalogue.retired(),
            catalogue,
            cache_bytes,
            clock: StartClock::default(),
            partitions: BTreeMap::new(),
            lost: Vec::new(),
        };
        for (id, log) in std::mem::take(&mut ground.batches) {
            let partition = prepared.open(&ground, id, log)?;
            prepared.partitions.insert(id, Arc::new(partition));
        }
        Ok(prepared)
    }

    fn open(
        &mut self,
        ground: &Ground<'_>,
        partition: PartitionId,
        log: LogTail,
    ) -> Result<Partition, StoreError> {
        let first = log.first().map(|(place, _)| *place);
        let files = self.catalogue.files(partition);
        let whose = Whose {
            disk: ground.owner,
            partition,
            retired: self.retired.clone(),
            cache_bytes: self.cache_bytes,
            clock: self.clock.clone(),
        };
        let lost = (ground.lost, ground.past_damage);
        let mut opened = recover::open(self.disk.as_ref(), (&whose, files), log, lost);
        if let Ok(found) = &mut opened {
            let lost = std::mem::take(&mut found.lost);
            if ground.past_damage {
                let last = found.tail.sequence;
                let lost = lost.into_iter().map(|why| as_of(why, partition, last));
                self.lost.extend(lost.map(|why| (Some(partition), why)));
            } else if let Some(why) = lost.into_iter().next() {
                opened = Err(why);
            }
        }
        match opened {
            Ok(found) => {
                let damage = found.files.iter().flat_map(|(files, _)| files.damage());
                for place in damage {
                    rot::found(Rot::IndexPage, place);
                }
                Ok(Partition::recovered(partition, found))
            }
            Err(e @ StoreError::Corrupt(_)) => {
                rot::found(Rot::IndexFile, &e.to_string());
                Ok(Partition::broken(partition, e, first))
            }
            Err(e) => Err(e),
        }
    }

    /// What a partition has.
    ///
    /// # Errors
    /// It is not as it was written.
    pub fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        let known = self.partitions.get(&partition).cloned();
        let partition = known.unwrap_or_else(|| Arc::new(Partition::new(partition)));
        let (view, at) = partition.durable()?;
        Ok(Arc::new(EmbeddedSnapshot { partition, view, at }))
    }

    /// What was gone past: what a partition lacks, or, with `None`, any of them may.
    pub fn lost(&self) -> &[(Option<PartitionId>, StoreError)] {
        &self.lost
    }

    /// Has the device asked again for pages that it did not give to a reader, and says whether there are any. Before an index is started nobody
    /// else does: a reader is told from memory.
    pub fn ask_again(&self) -> bool {
        let asked = |partition: &Arc<Partition>| {
            let files = partition.files.lock().expect("no panic under this lock");
            files.as_ref().is_some_and(Files::ask_again)
        };
        // All of them, whichever has some.
        self.partitions.values().filter(|one| asked(one)).count() > 0
    }

    /// Why partitions will not be served, where any are not.
    pub fn broken(&self) -> Vec<(PartitionId, StoreError)> {
        let broken =
            |(id, partition): (&PartitionId, &Arc<Partition>)| Some((*id, partition.durable().err()?));
        self.partitions.iter().filter_map(broken).collect()
    }

    /// What is damaged of files that can be read all the same.
    pub fn damage(&self) -> Vec<String> {
        let mut told = Vec::new();
        for partition in self.partitions.values() {
            let files = partition.files.lock().expect("no panic under this lock");
            told.extend(files.iter().flat_map(|files| files.damage().map(str::to_owned)));
        }
        told
    }
}

impl<'a> Ground<'a> {
    fn of(
        owner: DiskId,
        batches: impl IntoIterator<Item = (JournalSeq, LogBatch)>,
        lost: &'a [Lost],
        past_damage: bool,
    ) -> Self {
        let mut logs: BTreeMap<PartitionId, LogTail> = BTreeMap::new();
        for (place, batch) in batches {
            logs.entry(batch.partition).or_default().push((place, batch));
        }
        Self {
            owner,
            batches: logs,
            lost,
            past_damage,
        }
    }
}

/// Why a partition is one of an earlier moment.
fn as_of(why: StoreError, partition: PartitionId, last: LogSeq) -> StoreError {
    match why {
        StoreError::Corrupt(why) => StoreError::Corrupt(format!(
            "{why}. Taken is partition {partition} as of batch {}",
            last.0
        )),
        other => other,
    }
}

fn has_dir(disk: &dyn Disk) -> Result<(), StoreError> {
    let failed = |e: std::io::Error| StoreError::io(DIR, &e);
    if !disk.exists(DIR).map_err(failed)? {
        disk.create_dir(DIR).map_err(failed)?;
        disk.sync_dir("").map_err(failed)?;
    }
    // What a failed sync left in doubt of names.
    disk.sync_dir(DIR).map_err(failed)
}

/// The index files that are there.
fn found(disk: &dyn Disk) -> Result<Vec<(PartitionId, u16)>, StoreError> {
    let names = disk.list(DIR).map_err(|e| StoreError::io(DIR, &e))?;
    Ok(names.iter().filter_map(|name| file_of(name)).collect())
}
