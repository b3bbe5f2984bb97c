//! The fuzz targets of all rooms, each a plain function that panics where a property does not hold; what they are given, and where it comes
//! from. The functions stand beside the parsers, in the rooms' modules `fuzz`.
//!
//! - fuzz/ (a workspace of its own) gives them to libFuzzer: `cargo xtask fuzz`;
//! - tests/replay.rs gives them every seed, what stands in fuzz/corpus, and mutations of both, the same ones every time.

mod corpus;
mod mutate;
mod target;

pub use corpus::{corpus, write_seeds};
pub use mutate::Mutations;
pub use target::{TARGETS, Target, run};
