//! The client of the stream layer: what puts and gets share.

use crate::pool::{Patience, Pool};
use crate::room::Room;
use crate::unnamed::{Queue, Unnamed};
use crate::{Config, Reader};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use types::{BlobId, ByteRange, ErrorKind, ExtentId, NodeId, SessionId, limits};
use wire::Fault;
use wire::control::{Control, Location};
use wire::gateway::{self, Abandoned};
use wire::index::StoredChunks;
use wire::node::{Node, OwnerRef};
use wire::records::Chunk;
use world::{Budget, World};

/// Locations kept; past it they are all forgotten and asked for again.
const LOCATIONS_MAX: usize = 1 << 16;

/// Puts and gets blobs.
pub struct Blob {
    pub(crate) world: World,
    pub(crate) config: Config,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) session: SessionId,
    pub(crate) pool: Arc<Pool>,
    /// Writers that met a full disk.
    pub(crate) room: Room,
    /// What puts and gets take their memory from, however slowly their clients send or take it.
    pub(crate) budget: Arc<Budget>,
    /// Needles whose name never came.
    pub(crate) abandoned: Arc<Queue>,
    nodes: BTreeMap<NodeId, Arc<dyn Node>>,
    serial: AtomicU64,
    locations: RwLock<BTreeMap<ExtentId, Arc<Location>>>,
}

impl Blob {
    /// A gateway's byte path with the default sizes.
    pub fn new(
        world: World,
        control: Arc<dyn Control>,
        nodes: BTreeMap<NodeId, Arc<dyn Node>>,
        session: SessionId,
    ) -> Self {
        Self::with_config(world, control, nodes, session, Config::default())
    }

    /// A gateway's byte path.
    ///
    /// # Panics
    /// When the sizes of `config` do not fit each other.
    pub fn with_config(
        world: World,
        control: Arc<dyn Control>,
        nodes: BTreeMap<NodeId, Arc<dyn Node>>,
        session: SessionId,
        config: Config,
    ) -> Self {
        config.assert_sound();
        Self {
            pool: Arc::new(Pool::new(
                Arc::clone(&control),
                session,
                config.extents_max,
                Patience {
                    clock: Arc::clone(&world.clock),
                    wait: Duration::from_millis(config.extent_wait_ms_max),
                },
            )),
            room: Room::new(Arc::clone(&world.clock)),
            budget: Budget::boundless(Arc::clone(&world.clock)),
            abandoned: Arc::default(),
            world,
            config,
            control,
            session,
            nodes,
            serial: AtomicU64::new(0),
            locations: RwLock::default(),
        }
    }

    /// The same with its memory taken from `budget`.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// What memory is taken from.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Reads `range` of the blob `of`, which is made of `chunks`; of an upload, where parts became an object. Nothing is read before
    /// the first [`Reader::next`].
    pub fn get(self: &Arc<Self>, of: BlobId, chunks: Vec<Chunk>, range: ByteRange) -> Reader {
        Reader::new(Arc::clone(self), (of, chunks), range)
    }

    /// How many extents are open for appends now.
    pub fn open_extents(&self) -> usize {
        self.pool.len()
    }

    /// Answers for a stored blob's needles until they have a name: dropped before, they are given up.
    pub fn unnamed(&self, owner: &OwnerRef, stored: &StoredChunks) -> Unnamed {
        let mut unnamed = Unnamed::new(self.abandoned.clone(), owner.clone(), stored.blob);
        stored.chunks.iter().for_each(|chunk| unnamed.push(chunk));
        unnamed
    }

    /// Takes up to `max` needles that were given up, for gc; each is told once.
    pub fn abandoned(&self, max: usize) -> Vec<Abandoned> {
        self.abandoned.take(max)
    }

    /// No append begins on an extent from here on; whether none is under way either, and it may be sealed.
    pub fn release(&self, extent: ExtentId) -> bool {
        self.pool.release(extent)
    }

    /// Waits until more than `after` writers have met a full disk; how many by now.
    pub async fn room_wanted(&self, after: u64) -> u64 {
        self.room.wanted(after).await
    }

    /// Tells writers that met a full disk what becomes of room.
    pub fn tell_of_room(&self, told: gateway::Room) {
        self.room.told(told);
    }

    /// A blob id that was never given before: the session is this process's own.
    pub(crate) fn new_blob_id(&self) -> BlobId {
        BlobId::new(self.session, self.serial.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn node(&self, node: NodeId) -> Result<&Arc<dyn Node>, Fault> {
        self.nodes
            .get(&node)
            .ok_or_else(|| Fault::new(ErrorKind::Unavailable, format!("no way to node {node}")))
    }

    /// Where an extent is, from memory when it was asked before.
    pub(crate) async fn locate(&self, extent: ExtentId) -> Result<Arc<Location>, Fault> {
        let known = self
            .locations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&extent)
            .cloned();
        if let Some(location) = known {
            return Ok(location);
        }
        let location = Arc::new(self.control.locate(extent).await?);
        let mut locations = self.locations.write().unwrap_or_else(PoisonError::into_inner);
        if locations.len() >= LOCATIONS_MAX {
            locations.clear();
        }
        locations.insert(extent, Arc::clone(&location));
        Ok(location)
    }

    /// The extent was not where it was said to be: it is asked for again.
    pub(crate) fn forget(&self, extent: ExtentId) {
        self.locations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&extent);
    }

    /// A call to a peer, with its deadline. Past it the act may or may not have taken effect.
    pub(crate) async fn in_time<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.world.clock.sleep(Duration::from_millis(limits::CALL_MS_MAX)) =>
                Err(Fault::new(ErrorKind::Unknown, format!("{what}: no answer in {} ms", limits::CALL_MS_MAX))),
        }
    }

    /// Waits before try `attempt + 1`.
    pub(crate) async fn back_off(&self, attempt: u32) {
        self.world
            .clock
            .sleep(Duration::from_millis(10 << attempt.min(8)))
            .await;
    }
}
