//! What a scrub asks of the roles: to read what no reader reads, and to keep how far it has come.

use crate::Fault;
use crate::records::ScrubState;
use bytes::Bytes;
use types::Rot;

/// Stored bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What they were.
    pub rot: Rot,
    /// File and place, in a sentence.
    pub what: String,
}

/// A piece of files, read from the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// How many bytes were read.
    pub bytes: u64,
    /// Of how many that there are in all.
    pub of_bytes: u64,
    /// What is wrong.
    pub damage: Vec<Damage>,
    /// Where it goes on; empty at the end.
    pub next: Bytes,
}

/// Where a scrub keeps how far it has come; the control plane does.
#[async_trait::async_trait]
pub trait Scrubbing: Send + Sync {
    /// What was kept last.
    async fn scrub_state(&self) -> Result<ScrubState, Fault>;
    /// Keeps it; durable when answered.
    async fn keep_scrub_state(&self, state: &ScrubState) -> Result<(), Fault>;
}
