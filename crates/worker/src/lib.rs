//! Background work on a store that goes on serving. Each job is a plan (a pure function of what was seen, in `plan.rs`) and a run
//! (idempotent steps with deadlines, in `run.rs`); it speaks to the roles through `wire` only.
//!
//! Built: [`gc`], which reclaims, and [`scrub`], which reads everything again. Not here: repair, rebalancing, lifecycle.

mod commands;
pub mod gc;
mod pace;
pub mod scrub;
mod work;
