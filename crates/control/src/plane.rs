//! The one owner of the control partition.
//!
//! ```text
//!   no fence ──take, read──▶ fence ──commit──▶ Done: applied to the copy, fence moves on
//!      ▲                       │     NotDone: nothing happened, fence stays
//!      └───────────────────────┴──── Refused, Unknown, or the caller vanished midway
//! ```

use crate::decide::{self, Told};
use crate::hold::Holdings;
use crate::load::{self, from_store};
use crate::rows::{self, Change, GONE, OPEN, Rows, SEALED, disks_of};
use layout::Policy;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use store::{Batch, Committed, Fence, Store};
use tokio::sync::{Mutex, MutexGuard};
use types::limits::{CALL_MS_MAX, RETRIES_MAX};
use types::{DiskId, Epoch, ErrorKind, ExtentId, NodeId, SessionId, StampId};
use wire::Fault;
use wire::control::{Control, Grant, Location};
use wire::node::Node;
use wire::records::ExtentRecord;
use world::World;

/// The control plane of one cluster.
pub struct ControlPlane {
    world: World,
    store: Arc<dyn Store>,
    nodes: BTreeMap<NodeId, Arc<dyn Node>>,
    pub(crate) stamp: StampId,
    pub(crate) policy: Policy,
    /// Held through a whole decision, its commit and the calls to nodes that belong to it: decisions are few (an extent
    /// is a gigabyte) and never wait for each other's outcome. Reads do not take it.
    owner: Mutex<Owner>,
    /// What [`Control::locate`] answers: only what is durable.
    locations: RwLock<BTreeMap<ExtentId, Location>>,
    pub(crate) holdings: Holdings,
}

/// What the owner knows.
#[derive(Default)]
pub(crate) struct Owner {
    fence: Option<Fence>,
    pub(crate) rows: Rows,
    /// Extents that living sessions of this life have in their hands.
    pub(crate) granted: BTreeSet<ExtentId>,
    /// The extent left half sealed that was tried last: the next are others' turn.
    pub(crate) sealing_tried: ExtentId,
}

/// The owner, held while something is decided, however often that takes: nobody else decides meanwhile.
///
/// ```text
///   ready ─▶ (look, ask) ─▶ commit ─┬─▶ done
///     ▲                             └─▶ not known: decided again, though not for ever
///     └─────────────────────────────────┘
/// ```
pub(crate) struct Turn<'a> {
    plane: &'a ControlPlane,
    owner: MutexGuard<'a, Owner>,
    again: u32,
}

impl Turn<'_> {
    /// The owner with rows that are durable.
    pub(crate) async fn ready(&mut self) -> Result<&mut Owner, Fault> {
        self.plane.ready(&mut self.owner).await?;
        Ok(&mut self.owner)
    }

    /// Commits what was decided; `false`: it is to be decided again.
    pub(crate) async fn commit(&mut self, changes: Vec<Change>) -> Result<bool, Fault> {
        match self.plane.commit(&mut self.owner, changes).await? {
            Outcome::Done => Ok(true),
            Outcome::DecideAgain(fault) if self.again >= RETRIES_MAX => Err(fault),
            Outcome::DecideAgain(_) => {
                self.again += 1;
                Ok(false)
            }
        }
    }
}

/// How a commit ended for whoever decided it.
pub(crate) enum Outcome {
    /// Durable, and applied.
    Done,
    /// Not known, or another owner's: the rows are read again, the decision is to be made anew.
    DecideAgain(Fault),
}

impl ControlPlane {
    /// Takes the control partition and registers `nodes` with their disks.
    ///
    /// # Errors
    /// When the partition cannot be taken or read.
    pub async fn open(
        world: World,
        store: Arc<dyn Store>,
        nodes: Vec<(NodeId, Arc<dyn Node>)>,
    ) -> Result<Self, Fault> {
        let plane = Self {
            world,
            store,
            nodes: nodes.into_iter().collect(),
            stamp: StampId::FIRST,
            // One copy until chains are written: DESIGN's "one disk, one copy (and it says so)".
            policy: Policy::Replicated(1),
            owner: Mutex::default(),
            locations: RwLock::default(),
            holdings: Holdings::default(),
        };
        let told = plane.disks().await;
        let nodes: Vec<NodeId> = plane.nodes.keys().copied().collect();
        plane
            .decide_on(|rows| Ok(((), decide::register(rows, &nodes, &told))))
            .await?;
        Ok(plane)
    }

    /// Decides on the durable rows and commits, again as long as the outcome is not known. A decision to write nothing is
    /// an answer too.
    pub(crate) async fn decide_on<T>(
        &self,
        decision: impl Fn(&Rows) -> Result<(T, Vec<Change>), Fault> + Send,
    ) -> Result<T, Fault> {
        let mut turn = self.turn().await;
        loop {
            let (answer, changes) = decision(&turn.ready().await?.rows)?;
            if turn.commit(changes).await? {
                return Ok(answer);
            }
        }
    }

    /// A turn to decide: for a decision that reads or asks first.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        Turn {
            plane: self,
            owner: self.owner.lock().await,
            again: 0,
        }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.world.clock.wall_ms()
    }

    pub(crate) async fn owner(&self) -> Result<MutexGuard<'_, Owner>, Fault> {
        let mut owner = self.owner.lock().await;
        self.ready(&mut owner).await?;
        Ok(owner)
    }

    /// Takes the partition unless it is held.
    pub(crate) async fn ready(&self, owner: &mut Owner) -> Result<(), Fault> {
        if owner.fence.is_none() {
            let (fence, rows) = load::take(self.store.as_ref()).await?;
            self.publish_all(&rows);
            owner.rows = rows;
            owner.fence = Some(fence);
        }
        Ok(())
    }

    /// Commits `changes`; an empty list needs none.
    pub(crate) async fn commit(&self, owner: &mut Owner, changes: Vec<Change>) -> Result<Outcome, Fault> {
        if changes.is_empty() {
            return Ok(Outcome::Done);
        }
        // Gone while the commit is under way: whoever finds it gone, because this future was dropped, reads again.
        let fence = owner
            .fence
            .take()
            .expect("the partition is held: `ready` came before");
        let mut batch = Batch {
            rows: changes.iter().map(Change::row).collect(),
            behind: Vec::new(),
        };
        batch.rows.push(rows::state(fence.epoch, fence.sequence.0 + 1));
        match self.store.commit(fence, batch).await {
            Committed::Done(next) => {
                owner.fence = Some(next);
                for change in changes {
                    let is_disk = matches!(change, Change::Disk(_));
                    self.publish(owner, &change);
                    if let Change::Extent(record) = &change
                        && record.state != OPEN
                    {
                        // Nobody writes to it any more, and it is granted to nobody again.
                        owner.granted.remove(&ExtentId(record.extent));
                    }
                    owner.rows.apply(change);
                    if is_disk {
                        // Extents may have been on it before it was told of.
                        self.publish_all(&owner.rows);
                    }
                }
                Ok(Outcome::Done)
            }
            Committed::NotDone(error) => {
                owner.fence = Some(fence);
                Err(from_store(&error))
            }
            Committed::Refused => {
                let what = "control plane: another owner took the partition";
                Ok(Outcome::DecideAgain(Fault::new(ErrorKind::Unavailable, what)))
            }
            Committed::Unknown(error) => {
                tracing::warn!(%error, "a commit of the control plane ended unknown: reading again");
                let what = format!("control plane: {error}");
                Ok(Outcome::DecideAgain(Fault::new(ErrorKind::Unknown, what)))
            }
        }
    }

    fn publish_all(&self, rows: &Rows) {
        let located = rows.extents.values().filter_map(|e| location(rows, e));
        let located = located.map(|l| (l.extent, l)).collect();
        *self.locations.write().unwrap_or_else(PoisonError::into_inner) = located;
    }

    fn publish(&self, owner: &Owner, change: &Change) {
        let Change::Extent(record) = change else { return };
        let mut locations = self.locations.write().unwrap_or_else(PoisonError::into_inner);
        match location(&owner.rows, record) {
            Some(location) => locations.insert(location.extent, location),
            None => locations.remove(&ExtentId(record.extent)),
        };
    }

    /// Every disk that its node tells of. A node that does not answer is left out.
    pub(crate) async fn disks(&self) -> Vec<Told> {
        let mut told = Vec::new();
        for (id, node) in &self.nodes {
            match self.in_time("disks", node.disks()).await {
                Ok(disks) => told.extend(disks.into_iter().map(|d| (*id, d))),
                Err(fault) => tracing::warn!(node = %id, %fault, "node does not tell its disks"),
            }
        }
        told
    }

    /// The head of an extent's chain.
    pub(crate) fn head(&self, rows: &Rows, record: &ExtentRecord) -> Result<(&Arc<dyn Node>, DiskId), Fault> {
        let away = || {
            Fault::new(
                ErrorKind::Unavailable,
                format!("no way to extent {:016x}", record.extent),
            )
        };
        let disk = disks_of(record).next().ok_or_else(away)?;
        let node = rows.disks.get(&disk).map(|d| NodeId(d.node)).ok_or_else(away)?;
        Ok((self.nodes.get(&node).ok_or_else(away)?, disk))
    }

    /// Seals an extent on its node, then in its row. A node that cannot be heard leaves the row `sealing`.
    pub(crate) async fn seal_record(&self, owner: &mut Owner, record: &ExtentRecord) -> Result<(), Fault> {
        let raised = Epoch(record.epoch).next();
        let (node, _) = self.head(&owner.rows, record)?;
        let answer = self
            .in_time("seal", node.seal(ExtentId(record.extent), raised))
            .await;
        let changes = match &answer {
            Ok(status) => decide::sealed(record, raised.max(status.epoch), status.end),
            // Proof that the node never had it: nothing was ever acknowledged in it.
            Err(fault) if fault.kind == ErrorKind::NotFound => decide::sealed(record, raised, 0),
            Err(_) => decide::sealing(record),
        };
        match self.commit(owner, changes).await? {
            // Unknown is fine: the row says open, sealing or sealed, and the node refuses appends in any case.
            Outcome::Done | Outcome::DecideAgain(_) => {}
        }
        match answer {
            Err(fault) if fault.kind != ErrorKind::NotFound => Err(fault),
            _ => Ok(()),
        }
    }

    pub(crate) async fn in_time<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.world.clock.sleep(Duration::from_millis(CALL_MS_MAX)) =>
                Err(Fault::new(ErrorKind::Unknown, format!("{what}: no answer in {CALL_MS_MAX} ms"))),
        }
    }
}

/// Where an extent can be read; `None` when it is gone.
pub(crate) fn location(rows: &Rows, record: &ExtentRecord) -> Option<Location> {
    (record.state != GONE).then(|| Location {
        extent: ExtentId(record.extent),
        replicas: replicas(rows, record),
    })
}

pub(crate) fn replicas(rows: &Rows, record: &ExtentRecord) -> Vec<(NodeId, DiskId)> {
    let of = |disk: DiskId| rows.disks.get(&disk).map(|d| (NodeId(d.node), disk));
    disks_of(record).filter_map(of).collect()
}

#[async_trait::async_trait]
impl Control for ControlPlane {
    async fn begin_session(&self, host: &str) -> Result<SessionId, Fault> {
        let now_ms = self.world.clock.wall_ms();
        self.decide_on(|rows| Ok(decide::begin_session(rows, host, now_ms)))
            .await
    }

    async fn end_session(&self, session: SessionId) -> Result<(), Fault> {
        self.decide_on(|rows| Ok(((), decide::end_session(rows, session)?)))
            .await
    }

    async fn grant(&self, session: SessionId) -> Result<Grant, Fault> {
        self.grant_extent(session).await
    }

    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<(), Fault> {
        let mut owner = self.owner().await?;
        let Some(record) = owner.rows.extents.get(&extent).cloned() else {
            return Err(Fault::new(
                ErrorKind::NotFound,
                format!("extent {extent} never was"),
            ));
        };
        if record.state == SEALED {
            return Ok(());
        }
        if Epoch(record.epoch) > epoch {
            let what = format!("extent {extent} is written at epoch {} now", record.epoch);
            return Err(Fault::new(ErrorKind::Conflict, what));
        }
        self.seal_record(&mut owner, &record).await
    }

    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault> {
        let known = self
            .locations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&extent)
            .cloned();
        known.ok_or_else(|| {
            Fault::new(
                ErrorKind::NotFound,
                format!("extent {extent} never was or is gone"),
            )
        })
    }

    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        Ok(self
            .locations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect())
    }
}
