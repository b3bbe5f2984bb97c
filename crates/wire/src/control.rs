//! The control-plane service: sessions, and extents to write to.

use crate::Fault;
use types::{DiskId, Epoch, ExtentId, NodeId, SessionId};

/// An extent that a session may append to until it seals it or its session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which extent.
    pub extent: ExtentId,
    /// The epoch to append with.
    pub epoch: Epoch,
    /// Its replicas, in chain order.
    pub replicas: Vec<(NodeId, DiskId)>,
    /// How large it may grow.
    pub bytes_max: u64,
}

/// Where a sealed or open extent can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Which extent.
    pub extent: ExtentId,
    /// Its replicas, in chain order.
    pub replicas: Vec<(NodeId, DiskId)>,
}

/// What the control plane does.
#[async_trait::async_trait]
pub trait Control: Send + Sync {
    /// Begins a session: its number is higher than every earlier one's. Commands of ended sessions are refused for ever.
    async fn begin_session(&self, host: &str) -> Result<SessionId, Fault>;
    /// Ends a session; its open extents may be granted again at a higher epoch.
    async fn end_session(&self, session: SessionId) -> Result<(), Fault>;
    /// Grants an open extent: one left open by an ended session at a higher epoch, else a new one.
    async fn grant(&self, session: SessionId) -> Result<Grant, Fault>;
    /// The extent is full or failed: it is sealed on its members and in the control plane's rows.
    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<(), Fault>;
    /// Where an extent is. `NotFound` is proof that it never was or is gone.
    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault>;
    /// All extents that have a row, by id.
    async fn locations(&self) -> Result<Vec<Location>, Fault>;
}
