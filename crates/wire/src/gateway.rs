//! What gc asks a gateway: which readers may still be on bytes that a record no longer names.
//!
//! ```text
//!   reader   register ── reads the record ── reads its needles ── drop
//!   gc                                 mark ── … ── ended(mark)?  every reader registered before the mark is gone
//! ```
//! A reader registers *before* it reads a record. So once a booking is durable and a mark was taken after that, whoever could
//! have read the record as it was before is registered below the mark: when `readers_ended` says so, nobody will ask for
//! its needles any more (I3).

/// What a gateway does for gc. Synchronous: it is memory.
pub trait Gateway: Send + Sync {
    /// A mark that every reader registered so far is below, and every later one above.
    fn readers_mark(&self) -> u64;
    /// Whether all readers below the mark are gone.
    fn readers_ended(&self, mark: u64) -> bool;
}
