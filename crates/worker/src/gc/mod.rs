//! gc: takes back the room of bytes that nothing names any more, while the store serves.
//!
//! ```text
//!   garbage rows ──ripe, no reader on them──▶ dropped lists (control) ──▶ rows forgotten        `garbage.rs`, `handover.rs`
//!   orphans      ──condemned──▶ dropped lists                                                   `orphans.rs`
//!   extents      ──enough dropped──▶ sealed ▶ generation decided ▶ compacted ▶ (empty) removed  `run.rs`
//!   uploads that nobody works on ──seen to be idle──▶ aborted ──▶ garbage rows                  `idle.rs`
//! ```
//! What to do is decided by pure functions of what was seen (`plan.rs`); each step may be done twice and may end anywhere: the row that
//! names a needle for gc goes after the dropped list has it durably, the list after the needle's bytes are gone. So what dies in
//! between is done again, never lost, and nothing goes before whatever could lead to it is gone (I3).
//!
//! **When.** A booking is ripe after the grace, or at once where its disk is short of room ([`plan::Level`]); in both cases no reader
//! that began before the booking was read may still be on it. **How much.** A calm store is collected at a share of time; one that is
//! short of room as fast as it goes. **Not here:** which bytes a compaction keeps (the node decides nothing), and what a booking is
//! (the index decides that in the commit).

mod bell;
mod clocks;
mod garbage;
mod handover;
mod idle;
mod metrics;
mod orphans;
pub mod plan;
mod resting;
mod run;
mod steps;
mod sweep;

pub use run::{Gc, Roles};

use std::time::Duration;
use types::limits;

/// What an operator may set, and sizes and times that the simulation shrinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long bytes stay after they lost their name, on a disk with room.
    pub grace: Duration,
    /// How long after it was written a needle without a name is an orphan while its session lives.
    pub horizon: Duration,
    /// Uploads that nobody worked on for so long by the wall clock are aborted; `None`: never, as S3 does unless a bucket is told.
    pub uploads_abandoned: Option<Duration>,
    /// For so long this process must have seen them so, with the wall clock going on as it should, before it believes that.
    pub uploads_watched: Duration,
    /// How often the disks are looked at, and whatever cannot wait for a pass.
    pub look: Duration,
    /// Longest time between two passes; with a short grace they are closer.
    pub pass_max: Duration,
    /// How long a booking waits for readers that have not said yet what they read, before it is left to the next pass.
    pub readers_wait: Duration,
    /// How long a compaction may stand still.
    pub compaction_stall: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            grace: DAY,
            horizon: DAY,
            uploads_abandoned: None,
            uploads_watched: Duration::from_secs(3600),
            look: Duration::from_millis(limits::GC_LOOK_MS),
            pass_max: Duration::from_secs(3600),
            readers_wait: Duration::from_millis(limits::GC_READERS_WAIT_MS),
            compaction_stall: Duration::from_millis(limits::GC_COMPACTION_STALL_MS_MAX),
        }
    }
}
