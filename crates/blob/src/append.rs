//! A put: chunks, each a needle in an extent; what to do when an append fails.

use crate::blob::Blob;
use crate::frames::{Frame, Frames, combine};
use crate::memory::{Memory, busy, put_least};
use crate::pool::{Held, Purpose};
use crate::room::Waiting;
use crate::{PutError, Source, Unnamed};
use futures_util::future::join;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::time::Duration;
use types::limits::{FRAME_BYTES_MAX, RETRIES_MAX};
use types::{BlobId, DiskId, ErrorKind, Hlc, JournalSeq};
use wire::Fault;
use wire::control::Grant;
use wire::index::StoredChunks;
use wire::node::{Ack, Appended, Checked, NeedleHead, Ordered, OwnerRef};
use wire::records::Chunk;
use world::plant::{Plant, is_planted};
use world::{Claim, Share};

/// What a needle's header, block crcs and padding may take of an extent, beside 1/1024 of its bytes.
const NEEDLE_OVERHEAD_BYTES: u64 = 8 << 10;

/// Frames of the chunk under way, kept so that it can be sent again.
struct Kept {
    frames: Vec<Checked>,
    bytes: usize,
    bytes_max: usize,
    whole: bool,
    /// How long the extent waited for frames of it.
    waited: Duration,
}

impl Kept {
    fn new(first: Frame, bytes_max: usize) -> Self {
        let bytes = first.checked.bytes.len();
        let bytes_max = if first.keeps { bytes_max } else { bytes };
        Self {
            frames: vec![first.checked],
            bytes,
            bytes_max: bytes_max.max(bytes),
            whole: true,
            waited: Duration::ZERO,
        }
    }

    /// Keeps a frame; past the bound, or where memory is short, all are let go and the chunk can no longer be sent again.
    fn push(&mut self, frame: &Frame) {
        self.bytes += frame.checked.bytes.len();
        self.whole &= self.bytes <= self.bytes_max && frame.keeps;
        if self.whole {
            self.frames.push(frame.checked.clone());
        } else {
            self.frames.clear();
        }
    }
}

/// What became of one needle's tries so far.
struct Tries {
    /// How many failed, those apart that met a full disk.
    failed: u32,
    room: Waiting,
}

/// A blob on its way down. Dropped before it is stored, what is down of it is gc's.
struct Writing {
    blob: BlobId,
    chunks: Vec<Chunk>,
    unnamed: Unnamed,
    ordered: BTreeMap<DiskId, JournalSeq>,
    /// What a whole frame's worth of the last large chunk took on average: its first may have been waiting for us.
    pace_ms: Option<u64>,
}

impl Writing {
    fn stored(self) -> StoredChunks {
        // From here on it is the caller who names them, or gives them up.
        self.unnamed.named();
        let ordered = self.ordered.into_iter();
        StoredChunks {
            blob: self.blob,
            chunks: self.chunks,
            ordered: ordered
                .map(|(disk, sequence)| Ordered { disk, sequence })
                .collect(),
        }
    }
}

impl Blob {
    /// Stores the `length` bytes of `source`: in chunks, each a needle that says it is `owner`'s.
    ///
    /// Dropped midway, or after an error, what was written stays unnamed and is gc's. What is answered is the caller's to name: see
    /// [`Blob::unnamed`].
    ///
    /// # Errors
    /// [`PutError`]; a full disk is a fault of kind `Full`, memory that is not to be had one of kind `Busy`.
    pub async fn put<S: Source>(
        &self,
        owner: &OwnerRef,
        length: u64,
        source: &mut S,
    ) -> Result<StoredChunks, PutError<S::Error>> {
        let memory = self.memory(length, source.holds()).await?;
        self.put_in(memory, owner, length, source).await
    }

    /// The least memory of a put of so many bytes, and `also` for what its source holds: before anything is asked of that.
    ///
    /// # Errors
    /// `Busy` when it is not to be had.
    pub async fn memory(&self, length: u64, also: u64) -> Result<Share, Fault> {
        let least = Self::memory_of(length, also);
        self.budget.take(Claim::Write, least).await.map_err(busy)
    }

    /// How much that is.
    pub fn memory_of(length: u64, also: u64) -> u64 {
        put_least(length) + also
    }

    /// As [`Blob::put`], in memory taken before.
    ///
    /// # Errors
    /// As [`Blob::put`].
    pub async fn put_in<S: Source>(
        &self,
        memory: Share,
        owner: &OwnerRef,
        length: u64,
        source: &mut S,
    ) -> Result<StoredChunks, PutError<S::Error>> {
        let mut writing = self.writing(owner);
        let memory = Memory::of_put(&self.budget, memory, length);
        let mut frames = Frames::new(source, length, memory);
        if length == 0 {
            frames.end().await?;
        }
        if let Err(error) = self.put_frames(owner, &mut frames, &mut writing).await {
            if is_planted(Plant::KeepMemory) {
                std::mem::forget(frames);
            }
            return Err(error);
        }
        Ok(writing.stored())
    }

    /// Stores all that `source` gives, of which only its end tells how much it is: `sure` bytes, and at most a frame's
    /// worth after them. Answers how much it was.
    ///
    /// # Errors
    /// As [`Blob::put`].
    pub async fn put_to_end<S: Source>(
        &self,
        owner: &OwnerRef,
        sure: u64,
        source: &mut S,
    ) -> Result<(StoredChunks, u64), PutError<S::Error>> {
        // What follows the sure ones is read whole before it is stored.
        let end_bytes = self.config.frame_bytes_max as u64;
        let memory = self.memory(sure + end_bytes, end_bytes + source.holds()).await?;
        let memory = Memory::of_put(&self.budget, memory, sure + end_bytes);
        let mut writing = self.writing(owner);
        // One byte is left for the needle that says it is the last: whether another would follow is not known before.
        let mut frames = Frames::beginning(source, sure.saturating_sub(1), memory);
        self.put_frames(owner, &mut frames, &mut writing).await?;
        frames.go_on(self.config.frame_bytes_max).await?;
        self.put_frames(owner, &mut frames, &mut writing).await?;
        Ok((writing.stored(), frames.length()))
    }

    fn writing(&self, owner: &OwnerRef) -> Writing {
        let blob = self.new_blob_id();
        Writing {
            blob,
            chunks: Vec::new(),
            unnamed: Unnamed::new(self.abandoned.clone(), owner.clone(), blob),
            ordered: BTreeMap::new(),
            pace_ms: None,
        }
    }

    async fn put_frames<S: Source>(
        &self,
        owner: &OwnerRef,
        frames: &mut Frames<'_, S>,
        writing: &mut Writing,
    ) -> Result<(), PutError<S::Error>> {
        while frames.left() > 0 {
            self.put_chunk(owner, frames.length(), frames, writing).await?;
        }
        Ok(())
    }

    async fn put_chunk<S: Source>(
        &self,
        owner: &OwnerRef,
        length: u64,
        frames: &mut Frames<'_, S>,
        writing: &mut Writing,
    ) -> Result<(), PutError<S::Error>> {
        let left = frames.left();
        let goes_on = !frames.ends_with(left);
        let begun = self.world.clock.mono();
        let first = frames.next(self.frame_bytes(left)).await?;
        let took = self.world.clock.mono() - begun;
        // What is done with the frame before is not the client's pace.
        frames.show(&first).await?;
        let first_bytes = first.checked.bytes.len() as u64;
        let frame_bytes = self.frame_bytes(left) as u64;
        let pace_ms = took.as_millis() as u64 * frame_bytes / first_bytes;
        let mut head = NeedleHead {
            blob: writing.blob,
            owner: owner.clone(),
            ordinal: writing.chunks.len() as u32,
            logical_offset: length - left,
            last: false,
            length: left.min(self.chunk_at(pace_ms, writing.pace_ms).max(first_bytes)),
            append_hlc: Hlc::at(self.world.clock.wall_ms()).0,
            session: self.session,
        };
        if head.length <= self.config.small_bytes_max as u64 {
            // It goes whole, or as much of it as there was memory for.
            head.length = head.length.min(first_bytes);
        }
        head.last = head.length == left && !goes_on;
        let (appended, chunk) = if head.length <= self.config.small_bytes_max as u64 {
            self.append_small(head, first.checked).await?
        } else {
            let (appended, chunk, waited) = self.append_large(head, (left, goes_on), first, frames).await?;
            let after_first = chunk.length.saturating_sub(first_bytes);
            let frames_after_first = after_first.div_ceil(self.config.frame_bytes_max as u64).max(1);
            writing.pace_ms = Some(waited.as_millis() as u64 / frames_after_first);
            (appended, chunk)
        };
        if let Some(o) = appended.ordered {
            let newest = writing.ordered.entry(o.disk).or_insert(o.sequence);
            *newest = o.sequence.max(*newest);
        }
        writing.unnamed.push(&chunk);
        writing.chunks.push(chunk);
        Ok(())
    }

    /// The largest chunk, in whole frames, that a client is trusted to send in time when it took `first_ms` for a frame, and for those of the
    /// chunk before what that says. None at all, and the chunk is what there is of it already.
    ///
    /// A first frame that came at once may have been waiting for us, beside those of a hundred others on one slow line. Where extents
    /// are few such a client shows its pace with a short chunk, which can be sent again, and is not told that it dawdles over a long one.
    fn chunk_at(&self, first_ms: u64, before_ms: Option<u64>) -> u64 {
        let frames = self.config.chunk_hold_ms / first_ms.max(before_ms.unwrap_or(0)).max(1);
        let frame = self.config.frame_bytes_max as u64;
        let trusted = frames.saturating_mul(frame).min(self.config.chunk_bytes_max);
        match before_ms.is_none() && self.pool.is_contended() {
            true => trusted.min(self.config.resend_bytes_max as u64 / frame * frame),
            false => trusted,
        }
    }

    fn frame_bytes(&self, left: u64) -> usize {
        (self.config.frame_bytes_max as u64).min(left) as usize
    }

    fn tries(&self) -> Tries {
        Tries {
            failed: 0,
            room: self.room.waiting(),
        }
    }

    /// An extent to append to. Where no disk has room for one, gc may be about to make some.
    async fn acquire(&self, purpose: Purpose, tries: &mut Tries) -> Result<Held, Fault> {
        loop {
            match self.pool.acquire(purpose).await {
                Err(fault) if fault.kind == ErrorKind::Full && self.room.wait(&mut tries.room).await => {}
                done => return done,
            }
        }
    }

    /// A needle sent whole.
    async fn append_small(&self, head: NeedleHead, body: Checked) -> Result<(Appended, Chunk), Fault> {
        let crc = combine(0, &body.crcs, body.bytes.len());
        let mut tries = self.tries();
        loop {
            let held = self.acquire(Purpose::Small, &mut tries).await?;
            let grant = held.grant.clone();
            let node = self.node(head_of_chain(&grant)?.0)?;
            let call = node.append(
                grant.extent,
                grant.epoch,
                head.clone(),
                body.clone(),
                self.ack(&grant),
            );
            match self.in_time("append", call).await {
                Ok(appended) => {
                    let chunk = chunk_of(&grant, &appended, head.length, crc);
                    return Ok((appended, chunk));
                }
                Err(fault) => self.failed(held, fault, &mut tries).await?,
            }
        }
    }

    /// A needle sent in frames: again from its first frame after a failure, as long as its frames were kept.
    async fn append_large<S: Source>(
        &self,
        mut head: NeedleHead,
        (left, goes_on): (u64, bool),
        first: Frame,
        frames: &mut Frames<'_, S>,
    ) -> Result<(Appended, Chunk, Duration), PutError<S::Error>> {
        let mut kept = Kept::new(first, self.config.resend_bytes_max);
        let mut tries = self.tries();
        loop {
            let held = self.acquire(Purpose::Large, &mut tries).await?;
            let grant = held.grant.clone();
            if kept.whole && kept.frames.len() == 1 {
                // Nothing but the first frame has come: the chunk can still be cut to fit the extent.
                head.length = head
                    .length
                    .min(self.chunk_that_fits(grant.bytes_max))
                    .max(kept.bytes as u64);
                head.last = head.length == left && !goes_on;
            }
            match self.stream(&grant, &head, &mut kept, frames).await {
                Ok((appended, crc)) => {
                    let chunk = chunk_of(&grant, &appended, head.length, crc);
                    return Ok((appended, chunk, kept.waited));
                }
                Err(PutError::Fault(fault)) if kept.whole => {
                    assert_eq!(
                        frames.given(),
                        head.logical_offset + kept.bytes as u64,
                        "what is sent again is all that the source gave"
                    );
                    self.failed(held, fault, &mut tries).await?;
                }
                Err(PutError::Fault(fault)) => {
                    // Its bytes are gone: the client must send them again. The extent still has to go.
                    let told = Fault::new(told_kind(fault.kind), fault.what.clone());
                    self.let_go(held, &fault).await;
                    return Err(PutError::Fault(told));
                }
                Err(other) => {
                    if is_planted(Plant::KeepSlot) {
                        std::mem::forget(held);
                    }
                    return Err(other);
                }
            }
        }
    }

    /// Sends a chunk: what is kept of it, then what comes, the next frame received while the last is written.
    async fn stream<S: Source>(
        &self,
        grant: &Grant,
        head: &NeedleHead,
        kept: &mut Kept,
        frames: &mut Frames<'_, S>,
    ) -> Result<(Appended, u32), PutError<S::Error>> {
        let node = self.node(head_of_chain(grant)?.0)?;
        let mut appending = self
            .in_time("begin", node.begin(grant.extent, grant.epoch, head.clone()))
            .await?;
        let mut queue: VecDeque<Checked> = kept.frames.iter().cloned().collect();
        let mut received: u64 = queue.iter().map(|f| f.bytes.len() as u64).sum();
        let mut crc = 0;
        while let Some(frame) = queue.pop_front() {
            crc = combine(crc, &frame.crcs, frame.bytes.len());
            let send = self.in_time("frame", appending.frame(frame));
            if queue.is_empty() && received < head.length {
                let want = self.frame_bytes(head.length - received);
                let (sent, next) = join(send, self.next_in_time(frames, want, &mut kept.waited)).await;
                let next = next?;
                received += next.checked.bytes.len() as u64;
                kept.push(&next);
                queue.push_back(next.checked);
                sent?;
            } else {
                send.await?;
            }
        }
        let appended = self.in_time("finish", appending.finish(self.ack(grant))).await?;
        Ok((appended, crc))
    }

    /// The next frame. The client answers for the time that its bytes take to come, not for that in which the disk takes those before. Bytes
    /// that come from a disk of ours are waited for until reading them has an answer, another replica's too, or what is wrong with them.
    async fn next_in_time<S: Source>(
        &self,
        frames: &mut Frames<'_, S>,
        bytes: usize,
        waited: &mut Duration,
    ) -> Result<Frame, PutError<S::Error>> {
        let mut left = match frames.are_ours() {
            true => Duration::MAX,
            false => Duration::from_millis(self.config.frame_wait_ms),
        };
        self.come_in_time(frames.come(), &mut left, waited).await?;
        let room = async { Ok(frames.room(bytes).await) };
        let room = self.in_time("memory of a frame", room).await?;
        let frame = self.come_in_time(frames.fill(room), &mut left, waited).await?;
        // Nor for what is done with the frames before.
        frames.show(&frame).await?;
        Ok(frame)
    }

    /// What waits for the client: for `left` at most, for less where it let the extent wait before and others wait for one.
    async fn come_in_time<T, E>(
        &self,
        come: impl Future<Output = Result<T, PutError<E>>>,
        left: &mut Duration,
        waited: &mut Duration,
    ) -> Result<T, PutError<E>> {
        let begun = self.world.clock.mono();
        let dawdle = Duration::from_millis(self.config.dawdle_ms_max).saturating_sub(*waited);
        let others_wait = async {
            self.world.clock.sleep(dawdle).await;
            self.pool.wanted().await;
        };
        let came = tokio::select! {
            biased;
            came = come => came,
            () = self.world.clock.sleep(*left) => Err(PutError::Stalled),
            () = others_wait => Err(PutError::Stalled),
        };
        let took = self.world.clock.mono().saturating_sub(begun);
        *waited += took;
        *left = left.saturating_sub(took);
        came
    }

    /// The largest chunk, in whole frames, that an empty extent of `bytes_max` takes.
    fn chunk_that_fits(&self, bytes_max: u64) -> u64 {
        let room = bytes_max.saturating_sub(NEEDLE_OVERHEAD_BYTES + bytes_max / 1024);
        let frame = self.config.frame_bytes_max as u64;
        (room / frame * frame).min(self.config.chunk_bytes_max)
    }

    /// An append failed: answers `Ok` when it is to be tried again. After anything but a busy node the extent is
    /// retired and sealed, so that the next try is in a fresh one.
    async fn failed(&self, held: Held, fault: Fault, tries: &mut Tries) -> Result<(), Fault> {
        self.let_go(held, &fault).await;
        match fault.kind {
            // The caller's mistake: another extent would answer the same.
            ErrorKind::Invalid | ErrorKind::Denied => return Err(fault),
            // The disk's state, which gc may be about to change.
            ErrorKind::Full if self.room.wait(&mut tries.room).await => return Ok(()),
            ErrorKind::Full => return Err(fault),
            _ => {}
        }
        if tries.failed >= RETRIES_MAX {
            return Err(Fault::new(told_kind(fault.kind), fault.what));
        }
        self.back_off(tries.failed).await;
        tries.failed += 1;
        Ok(())
    }

    /// Gives an extent back after an append that failed: for good, unless that says nothing of the extent.
    async fn let_go(&self, held: Held, fault: &Fault) {
        let grant = held.grant.clone();
        drop(held);
        match fault.kind {
            ErrorKind::Full | ErrorKind::Invalid | ErrorKind::Denied | ErrorKind::Busy => {}
            _ => self.retire(&grant, fault).await,
        }
    }

    async fn retire(&self, grant: &Grant, why: &Fault) {
        if !self.pool.retire(grant.extent) {
            return;
        }
        tracing::info!(extent = %grant.extent, %why, "extent retired");
        if let Err(fault) = self
            .in_time("seal", self.control.seal(grant.extent, grant.epoch))
            .await
        {
            // Nobody appends to it any more; the control plane seals it when it meets it.
            tracing::warn!(extent = %grant.extent, %fault, "extent not sealed yet");
        }
    }

    fn ack(&self, grant: &Grant) -> Ack {
        let ordered = |disk| {
            self.config
                .ordered_disks
                .as_ref()
                .is_none_or(|disks| disks.contains(disk))
        };
        if grant.replicas.iter().all(|(_, disk)| ordered(disk)) {
            Ack::Ordered
        } else {
            Ack::Durable
        }
    }
}

/// What the caller is told: bytes that were written without a name have had no effect, whatever became of them.
fn told_kind(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Unknown | ErrorKind::Conflict | ErrorKind::NotFound => ErrorKind::Unavailable,
        other => other,
    }
}

/// Appends go to the head of the chain, which passes them on.
fn head_of_chain(grant: &Grant) -> Result<(types::NodeId, DiskId), Fault> {
    let head = grant.replicas.first().copied();
    head.ok_or_else(|| {
        Fault::new(
            ErrorKind::Fault,
            format!("extent {} has no replica", grant.extent),
        )
    })
}

fn chunk_of(grant: &Grant, appended: &Appended, length: u64, crc32c: u32) -> Chunk {
    Chunk {
        place: grant.extent.0,
        coded: false,
        needle: appended.needle.0,
        stored_length: appended.stored_length,
        length,
        crc32c,
        hint_generation: appended.generation.0,
        hint_offset: appended.offset,
    }
}

const _: () = assert!(
    FRAME_BYTES_MAX as u64 > NEEDLE_OVERHEAD_BYTES,
    "a needle is mostly its bytes"
);
