//! The engine trait.

use bytes::Bytes;
use std::sync::Arc;
use types::limits::{BATCH_BYTES_MAX, ROW_KEY_BYTES_MAX};
use types::{DiskId, Epoch, ErrorKind, JournalSeq, Kind, LogSeq, PartitionId, Rot};

/// Bytes of a row in a batch beside its key and value (docs/formats/log-batch.md).
pub(crate) const ROW_HEAD_BYTES: usize = 8;

/// The right to commit to a partition: spent by a later [`Store::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Which partition.
    pub partition: PartitionId,
    /// Which owner.
    pub epoch: Epoch,
    /// The last batch committed under it, or before it; the next batch is one more.
    pub sequence: LogSeq,
}

/// Rows to write at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Row key to value, or to `None` to remove it. Each key once; removing what is not there is fine.
    /// Keys are 1 to `limits::ROW_KEY_BYTES_MAX` bytes, the whole batch up to `limits::BATCH_BYTES_MAX` by [`Batch::bytes`].
    pub rows: Vec<(Bytes, Option<Bytes>)>,
    /// Journal records this batch must be written behind: it is durable no earlier than they are.
    pub behind: Vec<(DiskId, JournalSeq)>,
}

impl Batch {
    /// What one row costs by itself.
    pub fn row_bytes(key: &Bytes, value: Option<&Bytes>) -> usize {
        ROW_HEAD_BYTES + key.len() + value.map_or(0, Bytes::len)
    }

    /// What rows in this order cost of `limits::BATCH_BYTES_MAX`: of a key only what the one before does not begin with, so ascending keys
    /// cost least, and rows that stand among others in ascending order cost no more than by themselves.
    pub fn rows_bytes<'a>(rows: impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)>) -> usize {
        let mut before: &[u8] = &[];
        rows.map(|(key, value)| {
            let shared = shared_bytes(before, key);
            before = key;
            Self::row_bytes(key, value) - shared
        })
        .sum()
    }

    /// What the batch costs of `limits::BATCH_BYTES_MAX`.
    pub fn bytes(&self) -> usize {
        Self::rows_bytes(self.rows.iter().map(|(k, v)| (k, v.as_ref())))
    }

    /// Why no engine would take it, if so: a bug of the caller, answered rather than asserted because keys come from clients.
    pub(crate) fn refusal(&self) -> Option<StoreError> {
        let bytes = self.bytes();
        if bytes > BATCH_BYTES_MAX {
            return Some(StoreError::TooLarge(format!("a batch of {bytes} bytes")));
        }
        let bad = self
            .rows
            .iter()
            .find(|(k, _)| k.is_empty() || k.len() > ROW_KEY_BYTES_MAX)?;
        Some(StoreError::TooLarge(format!(
            "a row key of {} bytes",
            bad.0.len()
        )))
    }
}

/// How many bytes `key` begins with that `before` begins with too.
pub(crate) fn shared_bytes(before: &[u8], key: &[u8]) -> usize {
    before.iter().zip(key).take_while(|(a, b)| a == b).count()
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// On stable storage, and visible to snapshots taken from now on. The fence for the next batch.
    Done(Fence),
    /// The fence is stale: nothing was written, nothing ever will be.
    Refused,
    /// Nothing was written and nothing will be; the fence stands and may be used again (no room, or too much waiting).
    NotDone(StoreError),
    /// It may or may not survive. The owner takes the partition again and reads.
    Unknown(StoreError),
}

/// A range of row keys, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// First key.
    pub start: Bytes,
    /// One past the last key.
    pub end: Bytes,
    /// Rows at most, up to `limits::SCAN_ROWS_MAX`.
    pub max: usize,
}

/// Rows of a scan.
pub type Rows = Vec<(Bytes, Bytes)>;

/// Where a scan goes on behind a row: `Some(key)` passes over all rows before that key, which is greater than the row's.
pub type Skips<'a> = &'a (dyn Fn(&[u8]) -> Option<Bytes> + Send + Sync);

/// A durable, consistent state of one partition. Holds resources: drop it soon.
#[async_trait::async_trait]
pub trait Snapshot: Send + Sync {
    /// Values of `keys`, in their order; `None` is proven absence.
    async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError>;
    /// The first rows of a range; fewer than `max` only at the range's end.
    async fn scan(&self, scan: &Scan) -> Result<Rows, StoreError>;
    /// The first rows of a range of which `skips` passes over some; fewer than `max` only at the range's end. What is passed over is not read
    /// where there is much of it.
    async fn leap(&self, scan: &Scan, skips: Skips<'_>) -> Result<Rows, StoreError> {
        leap_by_scans(self, scan, skips).await
    }
    /// The same without what lies lowest: what it has is there, and what it has not may be below. `None`: there is nothing below.
    fn upper(&self) -> Option<Arc<dyn Snapshot>> {
        None
    }
}

/// Rows of the first scan of [`leap_by_scans`].
const WINDOW_MIN: usize = 32;

/// [`Snapshot::leap`] for engines that can only scan: by windows, which are as long as what is passed over lets them be.
async fn leap_by_scans<S: Snapshot + ?Sized>(
    snapshot: &S,
    scan: &Scan,
    skips: Skips<'_>,
) -> Result<Rows, StoreError> {
    let (mut out, mut start) = (Rows::new(), scan.start.clone());
    let mut window = scan.max.min(WINDOW_MIN);
    while out.len() < scan.max && start < scan.end {
        let rows = snapshot
            .scan(&Scan {
                start: start.clone(),
                end: scan.end.clone(),
                max: window,
            })
            .await?;
        let (is_last, mut passed) = (rows.len() < window, 0);
        for (key, value) in rows {
            if key < start {
                passed += 1;
                continue;
            }
            if out.len() == scan.max {
                return Ok(out);
            }
            start = skips(&key).unwrap_or_else(|| [&key, &b"\0"[..]].concat().into());
            out.push((key, value));
        }
        if is_last {
            break;
        }
        window = if passed * 2 >= window {
            (window / 4).max(1)
        } else {
            (window * 2).min(scan.max)
        };
    }
    Ok(out)
}

/// An engine.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Takes a partition (made when it is new): the epoch rises, durably, and every older fence commits nothing from here on.
    /// After an `Unknown` commit the state it answers from is settled: that batch is in or it is not.
    async fn take(&self, partition: PartitionId) -> Result<Fence, StoreError>;
    /// The durable state now.
    async fn snapshot(&self, partition: PartitionId) -> Result<Arc<dyn Snapshot>, StoreError>;
    /// Writes a batch as `fence.sequence + 1`.
    async fn commit(&self, fence: Fence, batch: Batch) -> Committed;
    /// Reads a piece of the engine's own files as they are on the disk, whether or not anything asks for what is in it: from an opaque
    /// cursor (empty: the start). An engine without files has none.
    async fn verify(&self, _cursor: &[u8]) -> Result<Reread, StoreError> {
        Ok(Reread::default())
    }
}

/// A piece of an engine's files, read from the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// How many bytes were read.
    pub bytes: u64,
    /// Of how many that there are in all.
    pub of_bytes: u64,
    /// What is not what was written, a sentence with its place each.
    pub damage: Vec<(Rot, String)>,
    /// Where it goes on; empty at the end.
    pub next: Bytes,
}

/// An engine's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Bytes on disk are not what was written; names the place. Never answered as absence. Of two places the sentences differ, and keys that
    /// lead to one place lie side by side: [`crate::next_rows`] finds by that where it ends.
    #[error("corrupt index: {0}")]
    Corrupt(String),
    /// No room: the commit did not happen.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Too much is waiting to be written behind, or in the journal's queue: the commit did not happen, later it may.
    #[error("the index engine is behind: {0}")]
    Busy(String),
    /// Over `limits::ROW_KEY_BYTES_MAX` or `limits::BATCH_BYTES_MAX`: the commit did not happen and will not.
    #[error("too large for the index engine: {0}")]
    TooLarge(String),
    /// A newer build wrote it: nothing was changed, and nothing is to be put in its place.
    #[error("index engine out of service: {0}")]
    Newer(String),
    /// The disk or engine is out of service.
    #[error("index engine out of service: {0}")]
    Failed(String),
}

impl StoreError {
    /// Of an I/O error at `what`.
    pub(crate) fn io(what: &str, e: &std::io::Error) -> Self {
        let text = format!("{what}: {e}");
        match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full(text),
            // No descriptor or no memory is free: nothing happened.
            _ if world::is_scarce(e) => Self::Busy(text),
            _ => Self::Failed(text),
        }
    }
}

impl Kind for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt(_) => ErrorKind::Corrupt,
            Self::Full(_) => ErrorKind::Full,
            Self::Busy(_) => ErrorKind::Busy,
            Self::TooLarge(_) => ErrorKind::Invalid,
            Self::Newer(_) | Self::Failed(_) => ErrorKind::Fault,
        }
    }
}
