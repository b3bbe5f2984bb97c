//! The scrub: reads everything that is stored within a period, whether anybody asks for it or not, and tells what is not what was written.
//!
//! ```text
//!   pass:  disks ──▶ files of the index ──▶ its rows ──▶ extents, by id, every needle of each ──▶ done, told, kept
//!          superblock, table,  every page, both    each decoded    header block, needle map, headers,
//!          journal             copies of heads                     every block of bytes
//! ```
//! **Pace.** A pass is spread over nine tenths of the period: a piece is read when it is due by the bytes done and the bytes there are, and
//! after each the scrub rests, so that it never takes more than its share of time. Late, it says so, and goes no faster: clients come first.
//!
//! **Place.** How far it has come is kept (control plane, one row) once a minute, and a restart goes on there. What is kept may be behind what
//! was read, never before it: reading twice harms nothing. A pass counts as done only when it was at the end of all, and says what it had
//! to go past.
//!
//! **Beside others.** It reads what is durable and changes nothing. An extent that is compacted under its walk goes on behind the last
//! needle, by number; one that is gone is left out. What looks bad is read a second time before it is told, on the extent as it then is.
//! What it found is told ([`world::rot`]) and counted; the first findings stand in the row, and all are found again in the next pass.
//!
//! Not here: repair. There is one copy, and what is bad stays for whoever has another.

mod metrics;
pub mod plan;
mod read;
mod run;

pub use run::{Roles, Scrub};

use std::time::Duration;
use types::limits;

/// What an operator may set, and times that tests shrink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Everything is read once in so long.
    pub period: Duration,
    /// Share of time that it takes at most.
    pub share_percent: u32,
    /// How often its place is kept.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(30 * 24 * 3600),
            share_percent: limits::SCRUB_SHARE_PERCENT,
            keep: Duration::from_millis(limits::SCRUB_KEEP_MS),
        }
    }
}
