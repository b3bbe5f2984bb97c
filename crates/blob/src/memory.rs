//! The memory of one put or get: its least, taken before it begins, and what more it gets while there is any.
//!
//! With its least alone it goes on block by block, each in one of its slots. A slot comes back when the bytes in it have been
//! written, to the disk or to the client, which is all that is ever waited for here: never another request's memory.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::limits::{BLOCK_BYTES, CHUNKS_INLINE_MAX, CONNECTION_READ_BYTES_MAX, SMALL_APPEND_BYTES_MAX};
use wire::Fault;
use wire::records::Chunk;
use world::{Budget, Claim, OverBudget, Share};

/// Blocks that a put has in any case: one comes in while the one before is written.
const PUT_BLOCKS: usize = 2;
/// Blocks that a get has in any case.
const GET_BLOCKS: usize = 1;
/// Times a small body is in memory at once: as it came, and as the journal's record.
const SMALL_COPIES: u64 = 2;

/// A put's or get's memory.
pub(crate) struct Memory {
    budget: Arc<Budget>,
    claim: Claim,
    least: Arc<Option<Share>>,
    slots: Arc<Semaphore>,
    slot_bytes: usize,
}

/// What some bytes are held under; goes with them.
pub(crate) enum Hold {
    /// Beyond the least.
    More(#[allow(dead_code, reason = "given back when dropped")] Share),
    /// A slot of it.
    Slot(
        #[allow(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit,
        #[allow(dead_code, reason = "the least is held as long as anything in it")] Arc<Option<Share>>,
    ),
}

/// The least that a put of so many bytes is done in: what its connection reads into, and what it is stored from.
pub(crate) fn put_least(length: u64) -> u64 {
    let stored_from = if length <= SMALL_APPEND_BYTES_MAX as u64 {
        SMALL_COPIES * length
    } else {
        // The last block of a large one may go through the journal, too.
        ((PUT_BLOCKS + 1) * BLOCK_BYTES) as u64
    };
    stored_from + length.min(CONNECTION_READ_BYTES_MAX as u64)
}

/// The least that any bytes are read in of a blob of so many, which so many chunks stand in memory for: blocks are read whole.
pub(crate) fn get_least(size: u64, chunks: usize) -> u64 {
    size.min((GET_BLOCKS * BLOCK_BYTES) as u64) + chunks_bytes(chunks)
}

/// What the places of so many chunks take; those of few stand in the record, which is small.
fn chunks_bytes(chunks: usize) -> u64 {
    match chunks {
        0..=CHUNKS_INLINE_MAX => 0,
        _ => (chunks * size_of::<Chunk>()) as u64,
    }
}

/// As its caller hears it.
pub(crate) fn busy(over: OverBudget) -> Fault {
    Fault::new(types::ErrorKind::Busy, over.to_string())
}

impl Memory {
    /// Of a put of so many bytes that has its least.
    pub(crate) fn of_put(budget: &Arc<Budget>, least: Share, length: u64) -> Self {
        let memory = Self::new(budget, Claim::Write, Some(least), PUT_BLOCKS);
        let slot_bytes = if length <= SMALL_APPEND_BYTES_MAX as u64 {
            (length as usize).max(1)
        } else {
            BLOCK_BYTES
        };
        Self { slot_bytes, ..memory }
    }

    /// Of a get that has its least; `None`: it stands in that of the put that reads.
    pub(crate) fn of_get(budget: &Arc<Budget>, least: Option<Share>) -> Self {
        Self::new(budget, Claim::Read, least, GET_BLOCKS)
    }

    fn new(budget: &Arc<Budget>, claim: Claim, least: Option<Share>, blocks: usize) -> Self {
        Self {
            budget: budget.clone(),
            claim,
            least: Arc::new(least),
            slots: Arc::new(Semaphore::new(blocks)),
            slot_bytes: BLOCK_BYTES,
        }
    }

    /// How many bytes fit a slot.
    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Memory for up to `wanted` bytes, if there is any beyond the least, and for how many.
    pub(crate) fn more(&self, wanted: usize) -> Option<(usize, Hold)> {
        let steps = [wanted, wanted / 4 / BLOCK_BYTES * BLOCK_BYTES];
        steps.into_iter().filter(|bytes| *bytes > 0).find_map(|bytes| {
            let share = self.budget.try_take(self.claim, bytes as u64)?;
            Some((bytes, Hold::More(share)))
        })
    }

    /// A slot of the least, once there is one.
    pub(crate) async fn slot(&self) -> Hold {
        let permit = self.slots.clone().acquire_owned().await;
        Hold::Slot(permit.expect("slots are never closed"), self.least.clone())
    }
}
