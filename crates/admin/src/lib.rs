//! The operator face: health, metrics, and `check`, which verifies a stopped directory.
//!
//! Speaks to the roles through `wire` only. Knows no S3.

pub mod check;
mod face;
mod upkeep;

pub use face::{Admin, Readiness};
pub use upkeep::upkeep;
