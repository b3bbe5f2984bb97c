//! A get: the blocks of a range, each checked before it is handed out, a few frames read ahead.

use crate::blob::Blob;
use crate::frames::{combine, crc32c};
use crate::memory::{Hold, Memory, busy, get_least};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, RETRIES_MAX};
use types::{BlobId, ByteRange, ErrorKind, ExtentId, Generation, NeedleId};
use wire::Fault;
use wire::node::{Checked, ReadNeedle};
use wire::records::Chunk;
use world::{Claim, Share, held};

/// Frames read from memory before others on the thread have their turn.
const IN_A_ROW_MAX: u32 = 8;

/// A run of blocks of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    chunk: usize,
    first_block: u32,
    block_count: u32,
    /// Bytes of the blocks before and after which nothing is asked.
    from: usize,
    to: usize,
    /// It begins at the chunk's first byte; it ends at its last.
    at_start: bool,
    at_end: bool,
}

/// A piece, and the memory that it is in.
type Read = (Piece, Checked, Hold);
type Reading = Pin<Box<dyn Future<Output = Result<Read, Fault>> + Send>>;

/// Reads a range of a blob in order.
pub struct Reader {
    blob: Arc<Blob>,
    of: BlobId,
    /// Those that the range is in.
    chunks: Arc<[Chunk]>,
    /// How many bytes the blob has.
    size: u64,
    /// What is still to be asked for.
    next: ByteRange,
    /// The chunk that `next.start` is in, and where that chunk begins.
    chunk: usize,
    chunk_start: u64,
    reading: FuturesOrdered<Reading>,
    /// What was taken for it before it began.
    taken: Option<Share>,
    /// `None`: not begun.
    memory: Option<Memory>,
    /// Whether its least stands in that of whoever reads.
    is_within: bool,
    /// Nothing was missing in memory so far: what comes next is looked for there first.
    is_warm: bool,
    /// Frames from memory since others had their turn.
    in_a_row: u32,
    /// crc32c of the chunk's bytes so far, while all of it has been read from its first byte on.
    sum: Option<u32>,
    failed: bool,
}

impl Blob {
    /// Memory for a read, with what its record takes: for [`Reader::in_share`].
    ///
    /// # Errors
    /// `Busy` when it is not to be had.
    pub async fn memory_to_read(&self, bytes: u64) -> Result<Share, Fault> {
        self.budget.take(Claim::Read, bytes).await.map_err(busy)
    }
}

impl Reader {
    pub(crate) fn new(blob: Arc<Blob>, (of, chunks): (BlobId, Vec<Chunk>), range: ByteRange) -> Self {
        let size: u64 = chunks.iter().map(|c| c.length).sum();
        assert!(
            range.start <= range.end && range.end <= size,
            "a range is inside its blob"
        );
        let (chunks, chunk_start) = only(chunks, range);
        Self {
            blob,
            of,
            chunks: chunks.into(),
            size,
            next: range,
            chunk: 0,
            chunk_start,
            reading: FuturesOrdered::new(),
            taken: None,
            memory: None,
            is_within: false,
            is_warm: true,
            in_a_row: 0,
            sum: None,
            failed: false,
        }
    }

    /// Its least memory is taken with its caller's ([`Reader::holds`]), who may hold on to pieces while it asks for the next.
    #[must_use]
    pub fn within(mut self) -> Self {
        self.is_within = true;
        self
    }

    /// In memory taken before, no less than its least, which goes on as that.
    #[must_use]
    pub fn in_share(mut self, taken: Option<Share>) -> Self {
        self.taken = taken;
        self
    }

    /// The least memory that it is done in.
    pub fn holds(&self) -> u64 {
        get_least(self.size, self.chunks.len())
    }

    /// The next bytes, never empty; `None` at the end of the range. After an error the reader is spent.
    ///
    /// # Errors
    /// `Corrupt` when a checksum failed on every replica; otherwise why no replica answered.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        assert!(!self.failed, "a failed reader is not asked again");
        self.begin().await?;
        let read = match self.cached().await {
            Some(read) => Some(Ok(read)),
            None => {
                self.read_ahead().await;
                self.reading.next().await
            }
        };
        let answer = match read {
            None => return Ok(None),
            Some(Ok((piece, checked, hold))) => {
                let bytes = self.take(piece, checked);
                bytes.map(|bytes| Some(self.hand_out(bytes, hold)))
            }
            Some(Err(fault)) => Err(fault),
        };
        self.failed = answer.is_err();
        if let Err(fault) = &answer
            && fault.kind == ErrorKind::Corrupt
        {
            world::rot::found(world::rot::Rot::Needle, &fault.what);
        }
        answer
    }

    /// Takes its least memory, once.
    async fn begin(&mut self) -> Result<(), Fault> {
        if self.memory.is_some() {
            return Ok(());
        }
        let holds = self.holds();
        let least = match (self.is_within, self.taken.take()) {
            (true, _) => None,
            (false, Some(mut taken)) => {
                // What it was opened with took more.
                taken.settle(holds.min(taken.bytes()));
                Some(taken)
            }
            (false, None) => Some(self.blob.memory_to_read(holds).await?),
        };
        self.memory = Some(Memory::of_get(&self.blob.budget, least));
        Ok(())
    }

    /// What comes next, where it is in memory and right: nobody is woken for it. Where it is not,
    /// nothing has happened, and from here on frames are read ahead.
    async fn cached(&mut self) -> Option<Read> {
        if !self.is_warm || self.next.is_empty() {
            return None;
        }
        if self.in_a_row == IN_A_ROW_MAX {
            self.in_a_row = 0;
            tokio::task::yield_now().await;
        }
        let (bytes, hold) = self.room().await?;
        let before = (self.next, self.chunk, self.chunk_start);
        let piece = self.plan(bytes / BLOCK_BYTES)?;
        // Whoever drops this while it looks has been given nothing.
        let after = (self.next, self.chunk, self.chunk_start);
        (self.next, self.chunk, self.chunk_start) = before;
        let checked = look(&self.blob, (self.of, &self.chunks[piece.chunk]), piece).await;
        self.is_warm = checked.is_some();
        let checked = checked?;
        (self.next, self.chunk, self.chunk_start) = after;
        self.in_a_row += 1;
        Some((piece, checked, hold))
    }

    /// Memory for the next bytes, a frame's at most: without room for so much a block's, and only once whoever reads has let the last one go.
    async fn room(&mut self) -> Option<(usize, Hold)> {
        let memory = self.memory.as_ref().expect("a reader has begun");
        // Of the first and last block the read may want a part: they are read whole.
        let wanted = (self.next.len() as usize).saturating_add(2 * BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
        let more = match self.next.len() <= BLOCK_BYTES as u64 && self.reading.is_empty() {
            true => None,
            false => memory.more(wanted.min(self.blob.config.frame_bytes_max)),
        };
        match more {
            Some(more) => Some(more),
            None if self.reading.is_empty() => Some((BLOCK_BYTES, memory.slot().await)),
            None => None,
        }
    }

    /// Asks for the frame that is needed next, and for more while there is room for them.
    async fn read_ahead(&mut self) {
        while self.reading.len() < self.blob.config.read_ahead_frames && !self.next.is_empty() {
            let Some((bytes, hold)) = self.room().await else {
                return;
            };
            let Some(piece) = self.plan(bytes / BLOCK_BYTES) else {
                return;
            };
            let (blob, of, chunks) = (Arc::clone(&self.blob), self.of, Arc::clone(&self.chunks));
            self.reading.push_back(Box::pin(async move {
                let checked = read_piece(&blob, (of, &chunks[piece.chunk]), piece).await?;
                Ok((piece, checked, hold))
            }));
        }
    }

    /// The next run of blocks, so many at most.
    fn plan(&mut self, blocks_max: usize) -> Option<Piece> {
        if self.next.is_empty() {
            return None;
        }
        while self.next.start >= self.chunk_start + self.chunks[self.chunk].length {
            self.chunk_start += self.chunks[self.chunk].length;
            self.chunk += 1;
        }
        let length = self.chunks[self.chunk].length;
        let block = BLOCK_BYTES as u64;
        let start = self.next.start - self.chunk_start;
        let end = (self.next.end - self.chunk_start).min(length);
        let first_block = start / block;
        let blocks_wanted = end.div_ceil(block) - first_block;
        let block_count = blocks_wanted.min(blocks_max as u64);
        let base = first_block * block;
        let end = end.min(base + block_count * block);
        self.next.start = self.chunk_start + end;
        Some(Piece {
            chunk: self.chunk,
            first_block: first_block as u32,
            block_count: block_count as u32,
            from: (start - base) as usize,
            to: (end - base) as usize,
            at_start: start == 0,
            at_end: end == length,
        })
    }

    /// The bytes, in the memory they are read in. A caller that this stands in its memory of may keep them for as long as it likes while the
    /// next are read in the same slot: it gets a copy of what is in that, a block at most, which it has counted.
    fn hand_out(&self, bytes: Bytes, hold: Hold) -> Bytes {
        match hold {
            Hold::Slot(..) if self.is_within => Bytes::copy_from_slice(&bytes),
            hold => held(bytes, hold),
        }
    }

    /// Takes a piece in. Where a chunk is read whole, its blocks together must also be what its record says: blocks
    /// that fit their own crcs may still be another needle's.
    fn take(&mut self, piece: Piece, checked: Checked) -> Result<Bytes, Fault> {
        if piece.at_start {
            self.sum = Some(0);
        }
        let sum = self
            .sum
            .map(|before| combine(before, &checked.crcs, checked.bytes.len()));
        self.sum = sum;
        let chunk = &self.chunks[piece.chunk];
        if piece.at_end {
            self.sum = None;
            if sum.is_some_and(|sum| sum != chunk.crc32c) {
                return Err(corrupt(chunk, "its bytes are not those its record names"));
            }
        }
        Ok(checked.bytes.slice(piece.from..piece.to))
    }
}

/// The chunks that a range is in, and where the first of them begins.
fn only(mut chunks: Vec<Chunk>, range: ByteRange) -> (Vec<Chunk>, u64) {
    let (mut start, mut before, mut to) = (0, 0, 0);
    for chunk in &chunks {
        if start >= range.end {
            break;
        }
        to += 1;
        start += chunk.length;
        if start <= range.start {
            before = to;
        }
    }
    chunks.truncate(to);
    let skipped = chunks.drain(..before.min(to)).map(|c| c.length).sum();
    (chunks, skipped)
}

/// A piece that is in memory here, checked.
async fn look(blob: &Blob, (of, chunk): (BlobId, &Chunk), piece: Piece) -> Option<Checked> {
    let location = blob.locate(ExtentId(chunk.place)).await.ok()?;
    let asked = asked(of, chunk, piece);
    let mut nodes = location
        .replicas
        .iter()
        .filter_map(|(node, _)| blob.node(*node).ok());
    let checked = nodes.find_map(|node| node.read_cached(&asked))?;
    check(chunk, piece, checked).ok()
}

/// Reads and checks a piece from the first replica that has it whole.
async fn read_piece(blob: &Blob, (of, chunk): (BlobId, &Chunk), piece: Piece) -> Result<Checked, Fault> {
    let mut attempt = 0;
    loop {
        let fault = match read_replicas(blob, (of, chunk), piece).await {
            Ok(checked) => return Ok(checked),
            Err(fault) => fault,
        };
        let passing = matches!(
            fault.kind,
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Unknown
        );
        // The extent may have moved since it was located; damage is told at once.
        blob.forget(ExtentId(chunk.place));
        if attempt >= RETRIES_MAX || !(passing || (fault.kind == ErrorKind::NotFound && attempt == 0)) {
            return Err(match fault.kind {
                // A record names it and it is not there: that is damage, not absence.
                ErrorKind::NotFound => corrupt(chunk, &format!("it is missing: {}", fault.what)),
                _ => fault,
            });
        }
        blob.back_off(attempt).await;
        attempt += 1;
    }
}

async fn read_replicas(blob: &Blob, (of, chunk): (BlobId, &Chunk), piece: Piece) -> Result<Checked, Fault> {
    let extent = ExtentId(chunk.place);
    let location = blob.locate(extent).await?;
    let mut worst: Option<Fault> = None;
    for (node, disk) in &location.replicas {
        let call = async { blob.node(*node)?.read(asked(of, chunk, piece)).await };
        match blob
            .in_time("read", call)
            .await
            .and_then(|c| check(chunk, piece, c))
        {
            Ok(checked) => return Ok(checked),
            Err(fault) => {
                tracing::warn!(%extent, needle = chunk.needle, %node, %disk, %fault, "replica not read");
                if worst.as_ref().is_none_or(|w| w.kind != ErrorKind::Corrupt) {
                    worst = Some(fault);
                }
            }
        }
    }
    Err(worst
        .unwrap_or_else(|| Fault::new(ErrorKind::Unavailable, format!("extent {extent} has no replica"))))
}

fn asked(of: BlobId, chunk: &Chunk, piece: Piece) -> ReadNeedle {
    ReadNeedle {
        extent: ExtentId(chunk.place),
        needle: NeedleId(chunk.needle),
        blob: of,
        hint: (Generation(chunk.hint_generation), chunk.hint_offset),
        length: chunk.length,
        first_block: piece.first_block,
        block_count: piece.block_count,
    }
}

/// Whether the bytes are as many as was asked and every block fits its crc.
fn check(chunk: &Chunk, piece: Piece, checked: Checked) -> Result<Checked, Fault> {
    let base = u64::from(piece.first_block) * BLOCK_BYTES as u64;
    let expected = (chunk.length - base).min(u64::from(piece.block_count) * BLOCK_BYTES as u64);
    if checked.bytes.len() as u64 != expected || checked.crcs.len() != piece.block_count as usize {
        return Err(corrupt(
            chunk,
            &format!("{} bytes came where {expected} were asked", checked.bytes.len()),
        ));
    }
    for (i, (block, crc)) in checked.bytes.chunks(BLOCK_BYTES).zip(&checked.crcs).enumerate() {
        if crc32c(block) != *crc {
            return Err(corrupt(
                chunk,
                &format!("block {} fails its crc", u64::from(piece.first_block) + i as u64),
            ));
        }
    }
    Ok(checked)
}

fn corrupt(chunk: &Chunk, what: &str) -> Fault {
    let place = format!("extent {:016x}, needle {}", chunk.place, chunk.needle);
    Fault::new(ErrorKind::Corrupt, format!("{place}: {what}"))
}
