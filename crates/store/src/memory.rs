//! The engine for simulation and tests: rows in memory, with the promises of a disk.
//!
//! What survives lives in a [`MemoryDisk`] that outlasts the engine: [`Memory::crash`] kills an engine and opens the next on what its
//! disk holds. A commit is on that disk before it is `Done` and is nowhere if its future was dropped before. [`Memory::fail_next`]
//! makes the next commit end unknown, with its batch on the disk or not.

use crate::versions::Versions;
use crate::{Batch, Committed, Fence, Rows, Scan, Snapshot, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use types::limits::SCAN_ROWS_MAX;
use types::{Epoch, LogSeq, PartitionId};

/// What a crash leaves.
#[derive(Default)]
struct MemoryDisk {
    partitions: BTreeMap<PartitionId, Partition>,
    /// Which engine may use it: the one opened last.
    life: u64,
    fault: Option<Fault>,
}

#[derive(Default)]
struct Partition {
    epoch: Epoch,
    sequence: LogSeq,
    rows: Versions,
    /// Sequences that snapshots read at, and how many do.
    readers: BTreeMap<LogSeq, usize>,
}

/// What happens to the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends unknown and is on the disk.
    UnknownKept,
    /// It ends unknown and is not on the disk.
    UnknownLost,
    /// There is no room: nothing happens.
    Full,
}

/// An engine in memory.
pub struct Memory {
    disk: Arc<Mutex<MemoryDisk>>,
    life: u64,
}

impl Memory {
    /// An engine on an empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self {
            disk: Arc::default(),
            life: 0,
        }
    }

    /// Kills this engine (its calls fail from here on) and opens the next one on its disk.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut disk = self.lock();
        disk.life += 1;
        Self {
            disk: self.disk.clone(),
            life: disk.life,
        }
    }

    /// What happens to the next commit.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    fn lock(&self) -> MutexGuard<'_, MemoryDisk> {
        self.disk.lock().expect("no panic under this lock")
    }

    fn alive(&self) -> Result<MutexGuard<'_, MemoryDisk>, StoreError> {
        let disk = self.lock();
        if disk.life == self.life {
            Ok(disk)
        } else {
            Err(StoreError::Failed("this engine crashed".into()))
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Partition {
    fn write(&mut self, batch: Batch) {
        self.sequence = LogSeq(self.sequence.0 + 1);
        let floor = self.readers.keys().next().copied().unwrap_or(self.sequence);
        for (key, value) in batch.rows {
            self.rows.insert(self.sequence, key.clone(), value);
            self.rows.prune(floor, &key);
        }
    }
}

#[async_trait::async_trait]
impl Store for Memory {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        let mut disk = self.alive()?;
        let p = disk.partitions.entry(partition).or_default();
        p.epoch = p.epoch.next();
        p.write(Batch::default());
        Ok(Fence {
            partition,
            epoch: p.epoch,
            sequence: p.sequence,
        })
    }

    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        let mut disk = self.alive()?;
        let p = disk.partitions.entry(partition).or_default();
        let at = p.sequence;
        *p.readers.entry(at).or_default() += 1;
        Ok(Arc::new(MemorySnapshot {
            disk: self.disk.clone(),
            partition,
            at,
        }))
    }

    async fn commit(&self, fence: Fence, batch: Batch) -> Committed {
        // A real commit takes time: others run meanwhile, and whoever drops the future here has committed nothing.
        tokio::task::yield_now().await;
        if let Some(e) = batch.refusal() {
            return Committed::NotDone(e);
        }
        let mut disk = match self.alive() {
            Ok(disk) => disk,
            Err(e) => return Committed::Unknown(e),
        };
        let fault = disk.fault.take();
        let Some(p) = disk.partitions.get_mut(&fence.partition) else {
            return Committed::Refused;
        };
        if (p.epoch, p.sequence) != (fence.epoch, fence.sequence) {
            return Committed::Refused;
        }
        let unknown = || Committed::Unknown(StoreError::Failed("asked to fail".into()));
        match fault {
            Some(Fault::Full) => return Committed::NotDone(StoreError::Full("asked to be full".into())),
            Some(Fault::UnknownLost) => return unknown(),
            Some(Fault::UnknownKept) | None => p.write(batch),
        }
        if fault.is_some() {
            return unknown();
        }
        Committed::Done(Fence {
            sequence: p.sequence,
            ..fence
        })
    }
}

struct MemorySnapshot {
    disk: Arc<Mutex<MemoryDisk>>,
    partition: PartitionId,
    at: LogSeq,
}

impl MemorySnapshot {
    fn read<T>(&self, f: impl FnOnce(&Versions) -> T) -> T {
        let disk = self.disk.lock().expect("no panic under this lock");
        f(&disk.partitions[&self.partition].rows)
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().expect("no panic under this lock");
        let partition = disk
            .partitions
            .get_mut(&self.partition)
            .expect("partitions are never removed");
        let left = partition
            .readers
            .get_mut(&self.at)
            .expect("this reader is counted");
        *left -= 1;
        if *left == 0 {
            partition.readers.remove(&self.at);
        }
    }
}

#[async_trait::async_trait]
impl Snapshot for MemorySnapshot {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        Ok(self.read(|rows| {
            keys.iter()
                .map(|k| rows.get(self.at, k).flatten().cloned())
                .collect()
        }))
    }

    async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
        assert!(scan.max <= SCAN_ROWS_MAX, "a scan asks for a page");
        Ok(self.read(|rows| {
            rows.range(self.at, &scan.start, &scan.end)
                .filter_map(|(k, v)| Some((k.clone(), v?.clone())))
                .take(scan.max)
                .collect()
        }))
    }
}
