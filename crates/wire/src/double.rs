//! An honest node in memory: what a node promises, kept without a disk. For the tests of those who call nodes.
//!
//! It keeps the contract of [`Node`] and asserts its callers' side of it (one large append in flight per extent, whole
//! blocks, crcs that fit). What goes wrong is planned: the next calls of a kind fail before or after their effect.

mod reclaim;

use crate::Fault;
use crate::node::{
    Ack, Appended, Appending, Checked, Compacted, DiskStatus, ExtentStatus, NeedleHead, Node, Ordered, Pace,
    ReadNeedle, WalkCursor, WalkDepth, WalkPage,
};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{BlobId, DiskId, Epoch, ErrorKind, ExtentId, Generation, JournalSeq, NeedleId};

/// Bytes that a needle takes beside its own.
const HEAD_BYTES: u64 = 256;

/// Which call a planned failure is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// [`Node::open_extent`].
    Open,
    /// [`Node::append`].
    Append,
    /// [`Node::begin`].
    Begin,
    /// [`Appending::frame`].
    Frame,
    /// [`Appending::finish`].
    Finish,
    /// [`Node::read`].
    Read,
    /// [`Node::seal`].
    Seal,
    /// [`Node::compact`].
    Compact,
    /// [`Node::remove`].
    Remove,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It has no effect.
    Before(ErrorKind),
    /// It has its effect; the answer is lost.
    After(ErrorKind),
}

struct Needle {
    head: NeedleHead,
    bytes: Bytes,
    crcs: Vec<u32>,
    offset: u64,
    stored: u64,
}

struct Extent {
    disk: DiskId,
    epoch: Epoch,
    sealed: bool,
    bytes_max: u64,
    end: u64,
    needles: BTreeMap<NeedleId, Needle>,
    /// Needle numbers given out.
    numbered: u64,
    generation: Generation,
    /// A large append is under way: until it ends no other begins.
    writing: bool,
}

#[derive(Default)]
struct State {
    extents: BTreeMap<ExtentId, Extent>,
    planned: BTreeMap<On, VecDeque<Failure>>,
    journal: u64,
    calls: BTreeMap<On, u64>,
    refusing: Option<Fault>,
    /// Frames that the disk is behind with; `None`: it is not.
    behind: Option<Vec<Checked>>,
    compacted: Compacted,
    /// So many blocks of each needle are in memory, and whether a bit of their last is not what was written.
    warm: (usize, bool),
}

impl State {
    fn read(&self, read: &ReadNeedle) -> Result<Checked, Fault> {
        let needle = self
            .extents
            .get(&read.extent)
            .and_then(|e| e.needles.get(&read.needle));
        let needle = needle.ok_or_else(|| Fault::new(ErrorKind::NotFound, "no such needle"))?;
        if !needle.head.is_of(read.blob) {
            return Err(Fault::new(ErrorKind::Corrupt, "the needle is another blob's"));
        }
        let (first, count) = (read.first_block as usize, read.block_count as usize);
        assert!(
            count <= FRAME_BYTES_MAX / BLOCK_BYTES && count > 0,
            "a read has a bound"
        );
        let last = (first + count).min(needle.crcs.len());
        Ok(Checked {
            bytes: needle
                .bytes
                .slice(first * BLOCK_BYTES..(last * BLOCK_BYTES).min(needle.bytes.len())),
            crcs: needle.crcs[first..last].to_vec(),
        })
    }
}

/// A node with one disk, in memory.
#[derive(Clone)]
pub struct MemoryNode {
    disk: DiskId,
    extent_bytes: u64,
    state: Arc<Mutex<State>>,
}

/// Lets others run, as a disk does.
async fn yield_once() {
    let mut yielded = false;
    let yielding = std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    });
    yielding.await;
}

fn conflict(what: &str) -> Fault {
    Fault::new(ErrorKind::Conflict, what)
}

impl MemoryNode {
    /// A node whose disk gives extents of `extent_bytes`.
    #[must_use]
    pub fn new(disk: DiskId, extent_bytes: u64) -> Self {
        Self {
            disk,
            extent_bytes,
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// The next calls of a kind fail so, one each.
    pub fn plan(&self, on: On, failures: impl IntoIterator<Item = Failure>) {
        self.state().planned.entry(on).or_default().extend(failures);
    }

    /// How many calls of a kind came.
    pub fn calls(&self, on: On) -> u64 {
        self.state().calls.get(&on).copied().unwrap_or(0)
    }

    /// The disk takes no writes from here on, or again.
    pub fn refuse(&self, fault: Option<Fault>) {
        self.state().refusing = fault;
    }

    /// From here on the disk is behind: frames that were taken stay in memory until this is called again.
    pub fn fall_behind(&self) {
        let written = self.state().behind.replace(Vec::new());
        drop(written);
    }

    /// From here on so many blocks of each needle are in memory, and maybe a bit of the last byte that is asked for there is wrong.
    pub fn warm(&self, blocks: usize, is_bad: bool) {
        self.state().warm = (blocks, is_bad);
    }

    /// Flips a bit of a needle's bytes.
    ///
    /// # Panics
    /// When the needle has no such byte.
    pub fn damage(&self, extent: ExtentId, needle: NeedleId, byte: usize) {
        let mut state = self.state();
        let needle = state
            .extents
            .get_mut(&extent)
            .and_then(|e| e.needles.get_mut(&needle))
            .expect("a needle");
        let mut bytes = needle.bytes.to_vec();
        bytes[byte] ^= 1;
        needle.bytes = bytes.into();
    }

    /// Gives a needle the bytes (and their crcs) of another.
    ///
    /// # Panics
    /// When one of them is not there.
    pub fn confuse(&self, extent: ExtentId, needle: NeedleId, with: NeedleId) {
        let mut state = self.state();
        let needles = &mut state.extents.get_mut(&extent).expect("an extent").needles;
        let (bytes, crcs) = (needles[&with].bytes.clone(), needles[&with].crcs.clone());
        let needle = needles.get_mut(&needle).expect("a needle");
        (needle.bytes, needle.crcs) = (bytes, crcs);
    }

    /// The needles of a blob: extent, needle, chunk ordinal.
    pub fn needles_of(&self, blob: BlobId) -> Vec<(ExtentId, NeedleId, u32)> {
        let state = self.state();
        let mut found = Vec::new();
        for (extent, e) in &state.extents {
            let of = e.needles.iter().filter(|(_, n)| n.head.blob == blob);
            found.extend(of.map(|(id, n)| (*extent, *id, n.head.ordinal)));
        }
        found
    }

    /// Whether each needle of a blob says that it is the blob's last, in their order.
    pub fn last_flags(&self, blob: BlobId) -> Vec<bool> {
        let state = self.state();
        let needles = state.extents.values().flat_map(|e| e.needles.values());
        let of: BTreeMap<u32, bool> = needles
            .filter(|n| n.head.blob == blob)
            .map(|n| (n.head.ordinal, n.head.last))
            .collect();
        of.into_values().collect()
    }

    /// Counts a call and takes its planned failure: `Err` before its effect, `Ok(Some)` to be answered after it.
    fn enter(&self, on: On) -> Result<Option<Fault>, Fault> {
        let mut state = self.state();
        *state.calls.entry(on).or_default() += 1;
        match state.planned.get_mut(&on).and_then(VecDeque::pop_front) {
            None => Ok(None),
            Some(Failure::Before(kind)) => Err(Fault::new(kind, format!("planned before {on:?}"))),
            Some(Failure::After(kind)) => Ok(Some(Fault::new(kind, format!("planned after {on:?}")))),
        }
    }

    fn store(&self, extent: ExtentId, head: NeedleHead, body: Checked, ack: Ack) -> Result<Appended, Fault> {
        check(&body);
        assert_eq!(
            head.length,
            body.bytes.len() as u64,
            "the head says how long the needle is"
        );
        let mut state = self.state();
        let disk = self.disk;
        state.journal += 1;
        let sequence = JournalSeq(state.journal);
        let e = state
            .extents
            .get_mut(&extent)
            .ok_or_else(|| conflict("no such extent"))?;
        let ordered = (ack == Ack::Ordered).then_some(Ordered { disk, sequence });
        let same = |(_, n): &(&NeedleId, &Needle)| (n.head.blob, n.head.ordinal) == (head.blob, head.ordinal);
        if let Some((id, n)) = e.needles.iter().find(same) {
            assert_eq!(n.bytes, body.bytes, "a chunk sent again is the same");
            return Ok(appended(*id, n, ordered, e.generation));
        }
        let stored = HEAD_BYTES + head.length + 4 * body.crcs.len() as u64;
        if e.end + stored > e.bytes_max {
            return Err(conflict("the extent is full"));
        }
        e.numbered += 1;
        let id = NeedleId(e.numbered);
        let needle = Needle {
            head,
            bytes: body.bytes,
            crcs: body.crcs,
            offset: e.end,
            stored,
        };
        let answer = appended(id, &needle, ordered, e.generation);
        e.end += stored;
        e.needles.insert(id, needle);
        Ok(answer)
    }

    /// The extent, if it takes appends of `epoch`.
    fn writable(&self, extent: ExtentId, epoch: Epoch) -> Result<MutexGuard<'_, State>, Fault> {
        let state = self.state();
        if let Some(fault) = &state.refusing {
            return Err(fault.clone());
        }
        match state.extents.get(&extent) {
            Some(e) if !e.sealed && e.epoch == epoch => Ok(state),
            Some(_) => Err(conflict("sealed, or of another epoch")),
            None => Err(conflict("no such extent")),
        }
    }
}

fn appended(needle: NeedleId, n: &Needle, ordered: Option<Ordered>, generation: Generation) -> Appended {
    Appended {
        needle,
        offset: n.offset,
        generation,
        stored_length: n.stored,
        ordered,
    }
}

fn check(body: &Checked) {
    assert!(
        body.bytes.len() <= FRAME_BYTES_MAX || body.crcs.len() > FRAME_BYTES_MAX / BLOCK_BYTES,
        "a frame has a bound"
    );
    assert_eq!(
        body.crcs.len(),
        body.bytes.len().div_ceil(BLOCK_BYTES),
        "a crc a block"
    );
}

fn status(id: ExtentId, e: &Extent) -> ExtentStatus {
    ExtentStatus {
        extent: id,
        epoch: e.epoch,
        sealed: e.sealed,
        end: e.end,
        needles: e.needles.len() as u64,
        generation: e.generation,
        salt: 0,
    }
}

/// A large append under way.
struct MemoryAppending {
    node: MemoryNode,
    extent: ExtentId,
    epoch: Epoch,
    head: NeedleHead,
    bytes: BytesMut,
    crcs: Vec<u32>,
}

impl Drop for MemoryAppending {
    fn drop(&mut self) {
        if let Some(e) = self.node.state().extents.get_mut(&self.extent) {
            e.writing = false;
        }
    }
}

#[async_trait::async_trait]
impl Appending for MemoryAppending {
    async fn frame(&mut self, frame: Checked) -> Result<(), Fault> {
        let lost = self.node.enter(On::Frame)?;
        drop(self.node.writable(self.extent, self.epoch)?);
        check(&frame);
        assert!(
            self.bytes.len().is_multiple_of(BLOCK_BYTES),
            "only the last frame ends inside a block"
        );
        self.bytes.extend_from_slice(&frame.bytes);
        self.crcs.extend_from_slice(&frame.crcs);
        if let Some(behind) = &mut self.node.state().behind {
            behind.push(frame);
        }
        lost.map_or(Ok(()), Err)
    }

    async fn finish(mut self: Box<Self>, ack: Ack) -> Result<Appended, Fault> {
        let lost = self.node.enter(On::Finish)?;
        drop(self.node.writable(self.extent, self.epoch)?);
        let body = Checked {
            bytes: self.bytes.split().freeze(),
            crcs: std::mem::take(&mut self.crcs),
        };
        let answer = self.node.store(self.extent, self.head.clone(), body, ack)?;
        lost.map_or(Ok(answer), Err)
    }
}

#[async_trait::async_trait]
impl Node for MemoryNode {
    async fn open_extent(
        &self,
        disk: DiskId,
        extent: ExtentId,
        epoch: Epoch,
        bytes_max: u64,
    ) -> Result<ExtentStatus, Fault> {
        let lost = self.enter(On::Open)?;
        assert_eq!(disk, self.disk, "the disk is this node's");
        let mut state = self.state();
        if let Some(fault) = &state.refusing {
            return Err(fault.clone());
        }
        let e = state.extents.entry(extent).or_insert(Extent {
            disk,
            epoch,
            sealed: false,
            bytes_max,
            end: 0,
            needles: BTreeMap::new(),
            numbered: 0,
            generation: Generation(0),
            writing: false,
        });
        if e.sealed || e.epoch > epoch {
            return Err(conflict("sealed, or of a higher epoch"));
        }
        e.epoch = epoch;
        lost.map_or(Ok(status(extent, e)), Err)
    }

    async fn append(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
        body: Checked,
        ack: Ack,
    ) -> Result<Appended, Fault> {
        let lost = self.enter(On::Append)?;
        drop(self.writable(extent, epoch)?);
        // As on a disk: what it keeps is not the caller's memory.
        let bytes = Bytes::copy_from_slice(&body.bytes);
        let answer = self.store(extent, head, Checked { bytes, ..body }, ack)?;
        lost.map_or(Ok(answer), Err)
    }

    async fn begin(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
    ) -> Result<Box<dyn Appending>, Fault> {
        let lost = self.enter(On::Begin)?;
        let mut state = self.writable(extent, epoch)?;
        let e = state
            .extents
            .get_mut(&extent)
            .ok_or_else(|| conflict("no such extent"))?;
        assert!(!e.writing, "one large append in flight");
        if e.end + HEAD_BYTES + head.length + 4 * head.length.div_ceil(BLOCK_BYTES as u64) > e.bytes_max {
            return Err(conflict("the extent is full"));
        }
        if let Some(fault) = lost {
            return Err(fault);
        }
        e.writing = true;
        drop(state);
        Ok(Box::new(MemoryAppending {
            node: self.clone(),
            extent,
            epoch,
            head,
            bytes: BytesMut::new(),
            crcs: Vec::new(),
        }))
    }

    async fn read(&self, read: ReadNeedle) -> Result<Checked, Fault> {
        self.enter(On::Read)?;
        yield_once().await;
        self.state().read(&read)
    }

    fn read_cached(&self, read: &ReadNeedle) -> Option<Checked> {
        let state = self.state();
        let (blocks, is_bad) = state.warm;
        if (read.first_block + read.block_count) as usize > blocks {
            return None;
        }
        let mut checked = state.read(read).ok()?;
        if is_bad {
            let mut bytes = checked.bytes.to_vec();
            *bytes.last_mut()? ^= 1;
            checked.bytes = bytes.into();
        }
        Some(checked)
    }

    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<ExtentStatus, Fault> {
        let lost = self.enter(On::Seal)?;
        let mut state = self.state();
        let e = state
            .extents
            .get_mut(&extent)
            .ok_or_else(|| Fault::new(ErrorKind::NotFound, "no such extent"))?;
        if e.epoch > epoch {
            return Err(conflict("of a higher epoch"));
        }
        (e.epoch, e.sealed) = (epoch, true);
        lost.map_or(Ok(status(extent, e)), Err)
    }

    async fn extent(&self, extent: ExtentId) -> Result<ExtentStatus, Fault> {
        let state = self.state();
        let found = state.extents.get(&extent).map(|e| status(extent, e));
        found.ok_or_else(|| Fault::new(ErrorKind::NotFound, "no such extent"))
    }

    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        Ok(self
            .state()
            .extents
            .iter()
            .map(|(id, e)| status(*id, e))
            .collect())
    }

    async fn walk(
        &self,
        extent: ExtentId,
        from: WalkCursor,
        depth: WalkDepth,
        count_max: usize,
    ) -> Result<WalkPage, Fault> {
        self.walk_page(extent, from, depth, count_max)
    }

    async fn compact(
        &self,
        extent: ExtentId,
        to: Generation,
        dropped: Vec<NeedleId>,
        pace: &Pace,
    ) -> Result<ExtentStatus, Fault> {
        let lost = self.enter(On::Compact)?;
        yield_once().await;
        pace.went_on();
        let compacted = self.compact_extent(extent, to, &dropped)?;
        lost.map_or(Ok(compacted), Err)
    }

    async fn remove(&self, extent: ExtentId) -> Result<(), Fault> {
        let lost = self.enter(On::Remove)?;
        yield_once().await;
        self.remove_extent(extent)?;
        lost.map_or(Ok(()), Err)
    }

    async fn disks(&self) -> Result<Vec<DiskStatus>, Fault> {
        let state = self.state();
        let used: u64 = state
            .extents
            .values()
            .filter(|e| e.disk == self.disk)
            .map(|e| e.end)
            .sum();
        Ok(vec![DiskStatus {
            disk: self.disk,
            total: 1 << 40,
            free: (1 << 40) - used,
            extent_bytes: self.extent_bytes,
            refusing: state.refusing.clone(),
            extents: (state.extents.len() as u64, used),
            compacted: state.compacted,
        }])
    }
}
