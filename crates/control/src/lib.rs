//! The control plane: which sessions live, which extents there are, on which disks, who may write to them.
//!
//! All of it is rows of the control partition (`rows`); the role itself holds only a copy of them, read again whenever a
//! commit's outcome is not known. What to write is decided by pure functions (`decide`); one owner at a time commits and
//! talks to nodes (`plane`).
//!
//! Invariants: session and extent numbers are never given twice; an extent is granted to one session at an epoch, and
//! its row says so durably before a node hears of it (I6); a sealed extent stays sealed, and only a sealed one is compacted or goes.

mod decide;
mod fresh;
mod grant;
mod hold;
mod kept;
mod load;
mod page;
mod plane;
mod reclaim;
mod rows;
mod scrub;

pub use fresh::{Given, Ground, first_session, fresh_rows};
pub use kept::{gone_needles, kept};
pub use plane::ControlPlane;
