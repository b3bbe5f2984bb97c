//! Copies of an extent: what each run says of one, and which bytes stay.
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

mod rig;
mod rot;
mod same;
