//! Every role of one process on one machine, with the index in either engine; and how the machine's lives end.

use crate::face::Face;
use blob::Blob;
use control::ControlPlane;
use extent::{DataDir, DataDirConfig};
use index::IndexRole;
use node::LocalNode;
use objects::{Caller, Objects};
use sim::{SimClock, SimDisk, SimRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::{Embedded, Memory, Store};
use types::limits::BLOCK_BYTES;
use types::{AccountId, NodeId, StampId};
use wire::control::Control;
use wire::index::Index;
use wire::node::Node;
use world::{Disk, Exec, World};

const NODE: NodeId = NodeId(1);
pub(crate) const CALLER: Caller = Caller {
    account: AccountId::ROOT,
};

/// Which engine the index is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Memory,
    Embedded,
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// In order: everything is written behind.
    Stop,
    /// The power goes while nothing is under way: everything that was answered is there when it comes back.
    Crash,
    /// It is not needed any more.
    Over,
}

/// What lasts from life to life.
pub(crate) struct Machine {
    engine: Engine,
    disk: SimDisk,
    memory: Arc<Memory>,
    pub clock: Arc<SimClock>,
    world: World,
}

/// An open machine.
pub(crate) struct Stack {
    pub objects: Arc<Objects>,
    pub index: Arc<IndexRole>,
    pub face: Face,
    pub clock: Arc<SimClock>,
    node: Arc<LocalNode>,
    embedded: Option<Arc<Embedded>>,
}

impl Machine {
    pub(crate) fn new(engine: Engine, seed: u64) -> Self {
        let clock = Arc::new(SimClock::new(1_700_000_000_000));
        Self {
            engine,
            disk: SimDisk::new(seed, 4 << 30),
            memory: Arc::default(),
            world: World {
                clock: clock.clone(),
                rng: Arc::new(SimRng::new(seed)),
                exec: Exec::Inline,
            },
            clock,
        }
    }

    /// Runs one life, in a runtime of its own: what it leaves behind dies with it.
    pub(crate) fn live(&mut self, life: impl AsyncFnOnce(&mut Stack) -> Ending) -> Ending {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let ending = runtime.block_on(async {
            self.clock.boot();
            let mut stack = self.open().await;
            let ending = life(&mut stack).await;
            if ending == Ending::Stop {
                stack.stop().await;
            }
            self.clock.halt();
            ending
        });
        drop(runtime);
        match ending {
            Ending::Crash => drop(self.disk.crash()),
            Ending::Stop | Ending::Over => self.disk.kill(),
        }
        self.memory = Arc::new(self.memory.crash());
        ending
    }

    async fn open(&self) -> Stack {
        let world = &self.world;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let config = DataDirConfig {
            journal_bytes: Some(4 << 20),
            extent_bytes: Some(64 << 20),
            extent_step_bytes: Some(1 << 20),
            ballast_bytes: Some(64 << 10),
            ..DataDirConfig::default()
        };
        let opened = DataDir::open(world, disk.clone(), config).expect("the directory opens");
        let dir = opened.dir;
        assert!(
            opened.report.lost.is_empty(),
            "nothing is lost: {:?}",
            opened.report
        );
        let embedded = (self.engine == Engine::Embedded).then(|| {
            let lost = &opened.report.lost;
            let store = Embedded::open(world, disk, dir.journal().clone(), opened.batches, lost);
            Arc::new(store.expect("the index opens"))
        });
        let engine: Arc<dyn Store> = match &embedded {
            Some(embedded) => embedded.clone(),
            None => self.memory.clone(),
        };
        let node = Arc::new(LocalNode::new(world.clone(), NODE, vec![dir]));
        let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NODE, node.clone())];
        let control = ControlPlane::open(world.clone(), engine.clone(), nodes.clone()).await;
        let control = Arc::new(control.expect("the control plane opens"));
        let index = IndexRole::open(world.clone(), engine, StampId::FIRST).await;
        let index = Arc::new(index.expect("the index role opens"));
        let session = control.begin_session("gateway").await.expect("a session");
        index
            .end_sessions_below(session)
            .await
            .expect("older sessions end");
        let config = blob::Config {
            frame_bytes_max: 4 * BLOCK_BYTES,
            small_bytes_max: BLOCK_BYTES,
            chunk_bytes_max: 1 << 20,
            // Only the embedded engine's log is in the journal that small needles go to.
            ordered_disks: embedded.is_none().then(BTreeSet::new),
            ..blob::Config::default()
        };
        let nodes: BTreeMap<NodeId, Arc<dyn Node>> = nodes.into_iter().collect();
        let blob = Arc::new(Blob::with_config(world.clone(), control, nodes, session, config));
        let named: Arc<dyn Index> = index.clone();
        let objects = Arc::new(Objects::new(world.clone(), blob, named, session));
        Stack {
            face: Face::new(world, objects.clone()),
            objects,
            index,
            clock: self.clock.clone(),
            node,
            embedded,
        }
    }
}

impl Stack {
    async fn stop(&mut self) {
        self.objects.shutdown().await;
        self.index.shutdown().await;
        if let Some(embedded) = &self.embedded {
            embedded.shutdown().await.expect("everything is written behind");
        }
        self.node.shutdown().await;
    }
}
