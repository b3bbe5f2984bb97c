//! What gc asks a gateway: which readers may still be on bytes that a record no longer names, to let go of an extent, which needles it
//! gave up, which uploads somebody is working on, and whether writers need room.
//!
//! ```text
//!   reader   register ── reads the record ── says whose bytes ── reads its needles ── drop
//!   gc                                 mark ── … ── below(mark)?  every reader registered before the mark that is not gone
//! ```
//! A reader registers *before* it reads a record. So once a booking is durable and a mark was taken after that, whoever could
//! have read the record as it was before is registered below the mark: when none of those is on the booking's blob, nobody will ask for
//! its needles any more (I3). One that has not said yet whose bytes it reads may be on any.

use crate::index::Doubt;
use std::collections::BTreeSet;
use types::{BlobId, ExtentId, UploadId};

/// Readers that registered below a mark and are not gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// How many have not said yet what they read.
    pub anywhere: usize,
    /// What the others read: the blob of the record that they found.
    pub on: BTreeSet<BlobId>,
}

/// A needle that its gateway gave up: no command of it will name it any more, but for one that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Which, and whose it says it is.
    pub doubt: Doubt,
    /// What it takes of its extent.
    pub stored_length: u64,
}

/// What gc says of room to a gateway whose writers met a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// gc is there, and makes room when it hears of such writers.
    Attended,
    /// There is more than there was: whoever waits may try again.
    Made,
    /// What could be done is done for the writers up to this number ([`Gateway::room_wanted`]).
    Answered(u64),
    /// Nobody makes room: gc is held or stops.
    Unattended,
}

/// What a gateway does for gc. It is memory: no call fails.
#[async_trait::async_trait]
pub trait Gateway: Send + Sync {
    /// A mark that every reader registered so far is below, and every later one above.
    fn readers_mark(&self) -> u64;
    /// The readers below the mark that are not gone.
    fn readers_below(&self, mark: u64) -> Readers;
    /// Asks that an extent be written no more: no append begins on it from here on. Whether none is under way either.
    fn release(&self, extent: ExtentId) -> bool;
    /// Takes up to `max` of the needles that were given up; they are told once.
    fn abandoned(&self, max: usize) -> Vec<Abandoned>;
    /// Uploads of which a part, or a completion, is under way.
    fn uploads_under_way(&self) -> BTreeSet<UploadId>;
    /// Waits until more than `after` writers have met a full disk; how many by now.
    async fn room_wanted(&self, after: u64) -> u64;
    /// Tells writers that met a full disk what becomes of room.
    fn room(&self, told: Room);
}
