//! The index of a disk as its files and its log say: all partitions judged, and nothing written to the log yet.
//!
//! A store that cannot serve without a partition looks here before it takes any: a take is a record in the journal, and whoever starts a
//! refusing store again and again would fill it.

use super::catalogue::Catalogue;
use super::core::DIR;
use super::files::{Whose, file_of};
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
use types::{DiskId, JournalSeq, PartitionId};
use world::Disk;
use world::rot::{self, Rot};

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
        let failed = |e: std::io::Error| StoreError::io(DIR, &e);
        if !disk.exists(DIR).map_err(failed)? {
            disk.create_dir(DIR).map_err(failed)?;
            disk.sync_dir("").map_err(failed)?;
        }
        // What a failed sync left in doubt of names.
        disk.sync_dir(DIR).map_err(failed)?;
        // A restore may have been cut off.
        lay::finish(&disk, owner)?;
        let mut logs: BTreeMap<PartitionId, LogTail> = BTreeMap::new();
        for (place, batch) in batches {
            logs.entry(batch.partition).or_default().push((place, batch));
        }
        let names = disk.list(DIR).map_err(failed)?;
        let found = names.iter().filter_map(|name| file_of(name));
        let retired = Retired::default();
        let catalogue = Catalogue::open(disk.clone(), owner, retired.clone(), found)?;
        for id in catalogue.partitions() {
            logs.entry(id).or_default();
        }
        let mut prepared = Self {
            disk,
            catalogue,
            retired,
            cache_bytes,
            clock: StartClock::default(),
            partitions: BTreeMap::new(),
        };
        for (id, log) in logs {
            let partition = prepared.open(owner, id, log, lost)?;
            prepared.partitions.insert(id, Arc::new(partition));
        }
        prepared.catalogue.mend()?;
        Ok(prepared)
    }

    fn open(
        &self,
        disk: DiskId,
        partition: PartitionId,
        log: LogTail,
        lost: &[Lost],
    ) -> Result<Partition, StoreError> {
        let first = log.first().map(|(place, _)| *place);
        let files = self.catalogue.files(partition);
        let retired = self.retired.clone();
        let whose = Whose {
            disk,
            partition,
            retired,
            cache_bytes: self.cache_bytes,
            clock: self.clock.clone(),
        };
        match recover::open(self.disk.as_ref(), (&whose, files), log, lost) {
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
