//! A store whose commits take their time: before they are durable, and again after that, before the owner hears of it.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Batch, Committed, Fence, Memory, Rows, Scan, Snapshot, Store, StoreError};
use tokio::sync::Semaphore;
use types::PartitionId;

/// A store that cannot be taken.
pub const TAKE_FAILS: u64 = 1;
/// A bug that ends the owner.
pub const COMMIT_PANICS: u64 = 2;

pub struct Slow {
    memory: Memory,
    dice: AtomicU64,
    pub commits: AtomicU64,
    pub scanned: Arc<AtomicU64>,
    /// So many reads to come find that their snapshot can no longer be read.
    pub stale: Arc<AtomicU64>,
    /// What goes wrong from here on.
    pub wrong: AtomicU64,
    /// Each commit takes a permit and keeps it.
    pub gate: Semaphore,
}

impl Slow {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(),
            dice: AtomicU64::new(seed),
            commits: AtomicU64::new(0),
            scanned: Arc::default(),
            stale: Arc::default(),
            wrong: AtomicU64::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// Lets others run for a while.
    pub async fn pause(&self) {
        for _ in 0..self.roll(6) {
            tokio::task::yield_now().await;
        }
    }

    pub fn roll(&self, sides: u64) -> u64 {
        let seed = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[async_trait::async_trait]
impl Store for Slow {
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError> {
        if self.wrong.load(Ordering::Relaxed) == TAKE_FAILS {
            return Err(StoreError::Corrupt("a bad page".into()));
        }
        self.memory.take(partition).await
    }
    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError> {
        self.pause().await;
        let snapshot = self.memory.snapshot(partition).await?;
        self.pause().await;
        Ok(Arc::new(Counting {
            snapshot,
            scanned: self.scanned.clone(),
            stale: self.stale.clone(),
        }))
    }
    async fn commit(&self, fence: Fence, batch: Batch) -> Committed {
        assert!(self.wrong.load(Ordering::Relaxed) != COMMIT_PANICS, "a bug");
        self.gate.acquire().await.unwrap().forget();
        self.pause().await;
        let committed = self.memory.commit(fence, batch).await;
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.pause().await;
        committed
    }
}

struct Counting {
    snapshot: Arc<dyn Snapshot>,
    scanned: Arc<AtomicU64>,
    stale: Arc<AtomicU64>,
}

impl Counting {
    fn check(&self) -> Result<(), StoreError> {
        let less = |n: u64| n.checked_sub(1);
        match self
            .stale
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        {
            Ok(_) => Err(StoreError::Busy("take a new snapshot".into())),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Snapshot for Counting {
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.check()?;
        self.snapshot.get(keys).await
    }
    async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError> {
        self.check()?;
        let rows = self.snapshot.scan(scan).await?;
        self.scanned.fetch_add(rows.len() as u64, Ordering::Relaxed);
        Ok(rows)
    }
}
