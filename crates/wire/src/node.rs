//! The storage-node service: extents on disks.
//!
//! ```text
//!   small needle   append ───────────────▶ journal (one record) ──▶ ordered | durable
//!   large needle   begin ▶ frame … frame ▶ finish: extent synced, then a small record names it ──▶ ordered | durable
//! ```
//! An append is idempotent by (blob, chunk ordinal): sent again to the same extent it gets the same needle.
//!
//! A sealed extent is written anew without its dropped needles by `compact`, and an empty one goes by `remove`: what is dropped was
//! decided by the control plane, and nobody can name it or is reading it any more (I3).

use crate::Fault;
use crate::scrub::Reread;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use types::{
    BlobId, BucketId, DiskId, Epoch, ExtentId, Generation, JournalSeq, NeedleId, SessionId, UploadId,
};

/// Who a needle belongs to: lets an index be rebuilt from extents, and gc ask the right owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// Home bucket.
    pub bucket: BucketId,
    /// Object key, UTF-8.
    pub key: String,
    /// The upload it was sent in, with its part number; `None` for a plain put.
    pub upload: Option<(UploadId, u32)>,
}

/// What the header of a needle says of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedleHead {
    /// The object's (or part's) bytes.
    pub blob: BlobId,
    /// Who it belongs to.
    pub owner: OwnerRef,
    /// Which chunk of the blob, from 0.
    pub ordinal: u32,
    /// Where the chunk begins in the blob.
    pub logical_offset: u64,
    /// Whether it is the blob's last chunk.
    pub last: bool,
    /// Bytes of the chunk, at most `limits::CHUNK_BYTES_MAX`.
    pub length: u64,
    /// Hybrid time of the append, as the writer gave it.
    pub append_hlc: u64,
    /// The writing gateway's session.
    pub session: SessionId,
}

/// A place in one disk's journal: what is written behind it in the same journal is synced no earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Whose journal.
    pub disk: DiskId,
    /// Which record.
    pub sequence: JournalSeq,
}

/// When an append is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Once it stands in the journal's queue; the caller waits for a later record of the same journal instead.
    Ordered,
    /// Once it is on stable storage.
    Durable,
}

/// A needle, appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number in the extent.
    pub needle: NeedleId,
    /// Where its header begins in the extent.
    pub offset: u64,
    /// The extent's generation.
    pub generation: Generation,
    /// Whole needle as stored.
    pub stored_length: u64,
    /// `None`: on stable storage. Else it will be, no later than the next synced record behind this one.
    pub ordered: Option<Ordered>,
}

impl NeedleHead {
    /// Whether these are bytes of `blob`, or of the upload that has its id.
    pub fn is_of(&self, blob: BlobId) -> bool {
        self.blob == blob || self.owner.upload.is_some_and(|(upload, _)| upload.0 == blob.0)
    }
}

/// Bytes with the crc32c of each 64 KiB block, the first block beginning at the first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whole blocks, but for the needle's last.
    pub bytes: Bytes,
    /// One a block.
    pub crcs: Vec<u32>,
}

/// A read of part of a needle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadNeedle {
    /// Which extent.
    pub extent: ExtentId,
    /// Which needle.
    pub needle: NeedleId,
    /// Whose bytes they must be: the blob that the needle's header names, or the upload that it was sent in, whose id an object made of
    /// parts has for its blob's (the two never meet).
    pub blob: BlobId,
    /// Where it was when the record was written.
    pub hint: (Generation, u64),
    /// Bytes of the chunk: what the header must say too.
    pub length: u64,
    /// First block wanted.
    pub first_block: u32,
    /// How many blocks; at most `limits::FRAME_BYTES_MAX / limits::BLOCK_BYTES`.
    pub block_count: u32,
}

/// What a node says of one needle when everything is walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Its number.
    pub needle: NeedleId,
    /// Where it begins.
    pub offset: u64,
    /// Whole length as stored.
    pub stored_length: u64,
    /// Its header; `None` when the header itself is bad.
    pub head: Option<NeedleHead>,
    /// The crc32c of all its bytes; `None` where something is wrong.
    pub crc32c: Option<u32>,
    /// What is wrong with it, in a sentence; `None` when every checksum held.
    pub damage: Option<String>,
}

/// Where a walk of an extent goes on. Needles keep their numbers when an extent is compacted and move, so it holds both: the place is
/// good in its own generation, in a later one the walk goes on behind the needle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCursor {
    /// The generation that `offset` is of.
    pub generation: Generation,
    /// Where the next needle begins there; 0: at the extent's beginning.
    pub offset: u64,
    /// The last needle walked, 0: none.
    pub needle: NeedleId,
}

/// What a walk reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkDepth {
    /// Headers only: `crc32c` is `None` everywhere, and `damage` tells of headers alone.
    Heads,
    /// Every byte.
    Bytes,
}

/// One page of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkPage {
    /// What was found, in order of needle numbers.
    pub found: Vec<Walked>,
    /// Where to go on; `None` at the extent's end. A page may be empty and have a next.
    pub next: Option<WalkCursor>,
}

/// An extent as a node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentStatus {
    /// Which.
    pub extent: ExtentId,
    /// Its writer's epoch.
    pub epoch: Epoch,
    /// Whether it refuses appends for ever.
    pub sealed: bool,
    /// Where the next needle would begin.
    pub end: u64,
    /// Needles in it, voids apart.
    pub needles: u64,
    /// Which compaction.
    pub generation: Generation,
    /// What the checksums of its needles' headers begin with; random, so that bytes of clients cannot pass for a header.
    pub salt: u64,
}

/// A disk as a node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskStatus {
    /// Which.
    pub disk: DiskId,
    /// All its bytes.
    pub total: u64,
    /// What may still be written, the ballast apart.
    pub free: u64,
    /// Size a new extent should have on it.
    pub extent_bytes: u64,
    /// Why it takes no writes now; `None` when it does.
    pub refusing: Option<Fault>,
    /// How many extents it has, and how many bytes they take.
    pub extents: (u64, u64),
    /// What became of compactions since the node was started.
    pub compacted: Compacted,
}

/// What became of compactions, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Extents compacted.
    pub done: u64,
    /// Compactions that stopped: a bad needle, no room, a failed disk.
    pub failed: u64,
    /// Extents removed.
    pub removed: u64,
    /// Bytes that all this gave back.
    pub reclaimed_bytes: u64,
}

/// How a compaction goes on: whoever asked for it says how fast, also while it lasts, and sees that it does. One that is slow is not
/// lost, whatever its extent's length; one that stands still is.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Going>);

#[derive(Debug)]
struct Going {
    share_percent: AtomicU32,
    pieces: AtomicU64,
}

impl Pace {
    /// Of the disk's time it takes `share_percent`; 100: it never pauses.
    pub fn of(share_percent: u32) -> Self {
        let pace = Self(Arc::new(Going {
            share_percent: AtomicU32::new(100),
            pieces: AtomicU64::new(0),
        }));
        pace.set_share(share_percent);
        pace
    }

    /// Its share from its next piece on.
    pub fn set_share(&self, percent: u32) {
        self.0
            .share_percent
            .store(percent.clamp(1, 100), Ordering::Relaxed);
    }

    /// Share of the disk's time, in percent: 1 to 100.
    pub fn share_percent(&self) -> u32 {
        self.0.share_percent.load(Ordering::Relaxed)
    }

    /// The node has done a piece.
    pub fn went_on(&self) {
        self.0.pieces.fetch_add(1, Ordering::Relaxed);
    }

    /// Pieces done. Where that stays the same for long nothing goes on any more.
    pub fn pieces(&self) -> u64 {
        self.0.pieces.load(Ordering::Relaxed)
    }
}

/// A large needle under way. Dropped before `finish` it is given up and its region closed with a void.
#[async_trait::async_trait]
pub trait Appending: Send {
    /// The next frame, at most `limits::FRAME_BYTES_MAX`, whole blocks but for the last.
    async fn frame(&mut self, frame: Checked) -> Result<(), Fault>;
    /// Every byte has been sent: makes it durable and named.
    async fn finish(self: Box<Self>, ack: Ack) -> Result<Appended, Fault>;
}

/// What a storage node does.
#[async_trait::async_trait]
pub trait Node: Send + Sync {
    /// Makes an extent of at most `bytes_max` on `disk`, for appends of `epoch`; there already at that epoch is fine.
    async fn open_extent(
        &self,
        disk: DiskId,
        extent: ExtentId,
        epoch: Epoch,
        bytes_max: u64,
    ) -> Result<ExtentStatus, Fault>;
    /// Appends a needle of at most `limits::SMALL_APPEND_BYTES_MAX`. `Conflict`: stale epoch, sealed, or no room left.
    async fn append(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
        body: Checked,
        ack: Ack,
    ) -> Result<Appended, Fault>;
    /// Begins a larger needle.
    async fn begin(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
    ) -> Result<Box<dyn Appending>, Fault>;
    /// Reads blocks of a needle with the crcs they were written with. The caller checks them: end to end. A needle whose header names
    /// another blob is `Corrupt`: its bytes are not given.
    async fn read(&self, read: ReadNeedle) -> Result<Checked, Fault>;
    /// The same where nothing has to be waited for: in this process, in memory. Short of that, or of a
    /// needle that is right, nothing: [`Node::read`] has it, or says what is wrong.
    fn read_cached(&self, _read: &ReadNeedle) -> Option<Checked> {
        None
    }
    /// Raises the epoch and refuses appends for ever; answers what is in it.
    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<ExtentStatus, Fault>;
    /// One extent. `NotFound`, here and where it is to be sealed, is proof that the node has nothing of it: a file of which it knows nothing is
    /// a `Conflict`.
    async fn extent(&self, extent: ExtentId) -> Result<ExtentStatus, Fault>;
    /// All extents, by id.
    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault>;
    /// Walks up to `count_max` needles of an extent from `from` on, fewer where they are large: a page reads a bounded number of bytes.
    async fn walk(
        &self,
        extent: ExtentId,
        from: WalkCursor,
        depth: WalkDepth,
        count_max: usize,
    ) -> Result<WalkPage, Fault>;
    /// Writes a sealed extent anew as generation `to`, without `dropped`; needle numbers stay. At or past `to` already: nothing happens.
    /// Numbers in `dropped` that are not there are fine. It takes as long as `pace` lets it: no call's deadline is for it but
    /// one on the pace's pieces, and when its caller goes it stops and has changed nothing. Answers once the new generation is durable and read from.
    ///
    /// `Conflict`: the extent is not sealed. `Corrupt`: a needle that is to be kept is damaged; nothing was changed, and `what` names
    /// extent, needle and offset. `Full`: no room for what is kept, in the ballast either. `Busy`: the disk compacts another extent.
    async fn compact(
        &self,
        extent: ExtentId,
        to: Generation,
        dropped: Vec<NeedleId>,
        pace: &Pace,
    ) -> Result<ExtentStatus, Fault>;
    /// Removes a sealed extent in which no needle is left. One that is not there is fine. `Conflict`: not sealed, or needles are left.
    async fn remove(&self, extent: ExtentId) -> Result<(), Fault>;
    /// Reads what a disk has beside its extents: superblock, table of extents, journal. A double has none.
    async fn verify_frame(&self, _disk: DiskId) -> Result<Reread, Fault> {
        Ok(Reread::default())
    }
    /// The node's disks.
    async fn disks(&self) -> Result<Vec<DiskStatus>, Fault>;
}
