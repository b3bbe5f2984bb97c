//! The control-plane service: sessions, extents to write to, and what becomes of extents that hold garbage.

use crate::Fault;
use crate::node::ExtentStatus;
use std::any::Any;
use types::{DiskId, Epoch, ExtentId, Generation, NeedleId, NodeId, SessionId};

/// Who holds reclaim after an index was laid, until an operator lets it go.
pub const HELD_BY_RESTORE: &str = "restore";
/// What the reason of such a hold says where the index was laid without rows that could not be read.
pub const LAID_WITHOUT_ROWS: &str = "rows are missing";

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

/// A needle that may go: nothing names it, nothing ever will, and no reader is on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// In which extent.
    pub extent: ExtentId,
    /// Which.
    pub needle: NeedleId,
    /// What it takes of the extent.
    pub stored_length: u64,
}

/// How far an extent's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Takes appends.
    Open,
    /// Takes none, but not every member was heard of it.
    Sealing,
    /// Takes none, for ever.
    Sealed,
    /// Nothing is in it and nobody is told of it any more; its file may still be there.
    Gone,
}

/// An extent as reclaim sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentUse {
    /// Which extent.
    pub extent: ExtentId,
    /// How far its life has come.
    pub stage: Stage,
    /// Its writer's epoch.
    pub epoch: Epoch,
    /// Its last generation that is on every copy.
    pub generation: Generation,
    /// Its bytes when it was sealed or last compacted; 0 while it is open.
    pub bytes: u64,
    /// How large it may grow.
    pub bytes_max: u64,
    /// Bytes of needles that may go, those of `deciding` apart.
    pub dropped_bytes: u64,
    /// How many they are.
    pub dropped_needles: u64,
    /// A generation that is decided and not done.
    pub deciding: Option<Generation>,
    /// Bytes of needles that go with it.
    pub deciding_bytes: u64,
    /// No orphan can be in it: sealed, and each needle was named, dropped or condemned when it was looked at.
    pub swept: bool,
    /// Where its copies are, in chain order.
    pub replicas: Vec<(NodeId, DiskId)>,
}

/// A generation as the control plane has decided it. Its number stands for exactly these needles; one that follows drops them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Of which extent.
    pub extent: ExtentId,
    /// Its number.
    pub generation: Generation,
    /// Exactly the needles that it drops, ascending.
    pub needles: Vec<NeedleId>,
}

/// Who holds reclaim, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Who: `operator`, `restore`, `backup`. Each holds and lets go for itself.
    pub by: String,
    /// For the operator.
    pub why: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
}

/// Reclaim is held as long as this is there, and no longer than the process that has it.
#[must_use = "reclaim goes on when it is dropped"]
pub struct Holding {
    _until_dropped: Box<dyn Any + Send + Sync>,
}

impl Holding {
    /// Until `ends` is dropped.
    pub fn new(ends: impl Any + Send + Sync) -> Self {
        Self {
            _until_dropped: Box::new(ends),
        }
    }
}

/// What the control plane decides about garbage. Each call may come twice, and after a crash at any point.
///
/// ```text
///   drop_needles ─▶ dropped ──decide──▶ dropping ──node compacts──▶ generation_done
///                                                                       │ no needle left
///                                            gone ──node removes──▶ forget
/// ```
/// Bytes go last: a list is durable before a node is asked to drop what is on it, and an extent is told to nobody before its file goes.
#[async_trait::async_trait]
pub trait Reclaim: Control {
    /// All extents that have a row, gone ones too, by id.
    async fn uses(&self) -> Result<Vec<ExtentUse>, Fault>;
    /// Books needles as such that may go; at most `limits::DROP_NEEDLES_MAX`. Durable when answered. A needle that is booked already, or
    /// whose extent is gone, is fine.
    async fn drop_needles(&self, needles: &[Dropped]) -> Result<(), Fault>;
    /// Every needle of an extent that is booked, decided or not, ascending.
    async fn dropped(&self, extent: ExtentId) -> Result<Vec<NeedleId>, Fault>;
    /// The generation that is to be made of a sealed extent: the one that is decided already, or a new one that drops that and what was
    /// booked since (up to `limits::GENERATION_NEEDLES_MAX`, the rest goes with the next); `None` where nothing is. `Conflict`: it is
    /// not sealed.
    async fn decide(&self, extent: ExtentId) -> Result<Option<Decision>, Fault>;
    /// Every copy of the extent is of `generation` and is `status` now. A generation that was done before is fine.
    async fn generation_done(
        &self,
        extent: ExtentId,
        generation: Generation,
        status: &ExtentStatus,
    ) -> Result<(), Fault>;
    /// No orphan can be in the extent any more. `Conflict`: it is not sealed.
    async fn swept(&self, extent: ExtentId) -> Result<(), Fault>;
    /// The extent is sealed and no needle is left on any copy: from here on [`Control::locate`] says `NotFound`. `Conflict`: it is not
    /// sealed, or a generation of it is not done.
    async fn gone(&self, extent: ExtentId) -> Result<(), Fault>;
    /// Its files are removed: so are its rows. `Conflict`: it is not gone.
    async fn forget(&self, extent: ExtentId) -> Result<(), Fault>;
    /// Holds reclaim in somebody's name until that name lets it go. Durable when answered, and nothing that was being decided is under
    /// way any more. Held by that name already: the reason is the new one. `Invalid`: a name or reason that is empty or too long.
    async fn hold(&self, by: &str, why: &str) -> Result<(), Fault>;
    /// Lets go what [`Reclaim::hold`] holds in this name; whether it did. Reclaim goes on once nobody holds it.
    async fn release(&self, by: &str) -> Result<bool, Fault>;
    /// Holds reclaim until the answer is dropped; not durable: a process that dies holds nothing. When answered, nothing that was being
    /// decided is under way any more. Several may hold by one name.
    async fn hold_while(&self, by: &str, why: &str) -> Result<Holding, Fault>;
    /// Who holds reclaim, durable holds first; empty: nobody does.
    async fn held(&self) -> Result<Vec<Hold>, Fault>;
}
