//! The only door between roles: one trait a service, with the messages it speaks.
//!
//! In one process a role is called through its trait directly; the network form implements the same trait. gRPC codes
//! appear in this room alone. A call that fails says whether it took effect: [`Fault`] with kind `Unknown` means ask
//! again with the same command id; every other kind means it did not.

pub mod control;
#[cfg(feature = "double")]
pub mod double;

mod fault;
pub mod gateway;
pub mod index;
mod listed;
pub mod node;
mod reclaim;
pub mod scrub;
mod versions;

/// What the index stores, from `proto/records.proto`.
#[allow(missing_docs, reason = "the .proto file documents them")]
pub mod records {
    include!(concat!(env!("OUT_DIR"), "/cairn.records.v1.rs"));
}

pub use fault::Fault;
