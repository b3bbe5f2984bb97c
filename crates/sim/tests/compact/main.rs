//! Compaction and removal of extents: power cuts at every operation, failed writes and syncs, full disks, flipped bits; and the node's
//! side of it: one at a time, paced, stopped in the middle, next to reads and appends.
//!
//! The oracle: a needle that was kept reads right by every hint it ever had; a dropped one reads right or is absent; an extent is what the
//! last answer said or what was asked for next; no file is left over, and nothing of this is damage.

mod ballast;
mod crash;
mod damage;
mod maps;
#[path = "../needles/mod.rs"]
mod needles;
mod node;
mod room;
mod stage;
mod superblock;
mod watched;
