//! The operator face: health, metrics, the socket that a running store is told things through, and `check`, which verifies a
//! stopped directory.
//!
//! Speaks to the roles through `wire` only. Knows no S3.

mod ask;
mod backup;
pub mod check;
mod face;
mod operator;
pub mod rebuild;
mod reread;
mod scrubbed;
mod socket;
mod unnamed;
mod upkeep;

pub use ask::{Answer, AskError, ask};

pub use backup::{BackupRequest, BackupSource, Begun, ExtentLine, SnapshotBytes};
pub use face::{Admin, Readiness};
pub use operator::{
    Held, HoldRequest, Operator, ReclaimStatus, SOCKET, hold_reclaim, reclaim_status, release_reclaim,
};
pub use socket::serve_operator;
pub use upkeep::upkeep;
