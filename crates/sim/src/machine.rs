//! One machine: every role of the store on one simulated disk, in the caller's runtime.

use crate::client::Client;
use crate::flaky::{FlakyIndex, FlakyStore};
use crate::gc::{FarNode, Line};
use crate::memory;
use crate::record::Recorder;
use crate::scenario::Shape;
use crate::watch::WatchedControl;
use crate::{SimDisk, SimRng};
use blob::Blob;
use control::ControlPlane;
use extent::DataDir;
use index::IndexRole;
use node::LocalNode;
use objects::Objects;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Embedded, Store};
use types::{DiskId, ErrorKind, Kind, NodeId, StampId};
use wire::Fault;
use wire::control::Control;
use wire::index::{Call, Index as _, Reason};
use wire::node::Node;
use wire::records::answer::Kind as AnswerKind;
use world::World;

pub(crate) const NODE: NodeId = NodeId(1);

/// Gateways: each a session of its own, so that two work on one bucket at once.
const GATEWAYS: usize = 2;

/// An open machine.
pub struct Machine {
    /// A client a gateway.
    pub gateways: Vec<Client>,
    /// Serves extents.
    pub node: Arc<LocalNode>,
    /// Decides commands.
    pub index: Arc<IndexRole>,
    /// Decides what becomes of extents.
    pub control: Arc<ControlPlane>,
    /// Keeps the index.
    pub store: Arc<Embedded>,
    /// The disk's id.
    pub disk_id: DiskId,
}

impl Machine {
    /// Opens what is on `disk`, recovering what a crash left.
    ///
    /// # Errors
    /// Why it does not open.
    pub async fn open(
        world: &World,
        disk: &SimDisk,
        shape: &Shape,
        rng: &SimRng,
        recorder: &Recorder,
    ) -> Result<Self, Fault> {
        let disk: Arc<dyn world::Disk> = Arc::new(disk.clone());
        let failed = |what: &str, kind: ErrorKind, e: String| Fault::new(kind, format!("{what}: {e}"));
        let opened = DataDir::open(world, disk.clone(), shape.dir_config())
            .map_err(|e| failed("data directory", e.kind(), e.to_string()))?;
        note_recovery(recorder, &opened.report);
        let journal = opened.dir.journal().clone();
        recorder.get().journal = Some(journal.clone());
        let disk_id = opened.dir.disk_id();
        let store = Embedded::open(world, disk, journal, opened.batches, &opened.report.lost)
            .map_err(|e| failed("index", e.kind(), e.to_string()))?;
        let store = Arc::new(store);
        let node = Arc::new(LocalNode::new(world.clone(), NODE, vec![opened.dir]));
        let engine: Arc<dyn Store> = Arc::new(FlakyStore::new(
            store.clone(),
            rng.fork(),
            recorder.clone(),
            shape.flaky_percent,
        ));
        let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NODE, node.clone())];
        let control = Arc::new(ControlPlane::open(world.clone(), engine.clone(), nodes).await?);
        let index = Arc::new(IndexRole::open(world.clone(), engine, StampId::FIRST).await?);
        let mut sessions = Vec::new();
        for n in 0..GATEWAYS {
            sessions.push(control.begin_session(&format!("gateway-{n}")).await?);
        }
        index.end_sessions_below(sessions[0]).await?;
        let budget = memory::budget(shape.memory_bytes, world.clock.clone());
        let gateways = sessions
            .into_iter()
            .map(|session| {
                let far = far_node(&node, line(world, shape, rng, recorder));
                let blob = Blob::with_config(
                    world.clone(),
                    Arc::new(WatchedControl::new(control.clone(), recorder.clone())),
                    BTreeMap::from([(NODE, far)]),
                    session,
                    shape.blob_config(),
                );
                let blob = Arc::new(blob.with_budget(budget.clone()));
                let line = FlakyIndex::new(
                    index.clone(),
                    rng.fork(),
                    recorder.clone(),
                    world.clock.clone(),
                    shape.flaky_percent,
                );
                Client {
                    objects: Arc::new(Objects::new(world.clone(), blob, Arc::new(line), session)),
                    recorder: recorder.clone(),
                    clock: world.clock.clone(),
                }
            })
            .collect();
        Ok(Self {
            gateways,
            node,
            index,
            control,
            store,
            disk_id,
        })
    }

    /// Its node, at the end of a line.
    pub fn far_node(&self, line: Line) -> Arc<dyn Node> {
        far_node(&self.node, line)
    }

    /// Commands of ended sessions arrive at last: they are refused, or get the answer that they got then. Whether one took
    /// effect all the same is for what is read later to show.
    pub async fn hear_the_late(&self, late: Vec<Call>, recorder: &Recorder) {
        for call in late {
            let id = call.id;
            match self.index.call(call).await.map(|answer| answer.kind) {
                Ok(Some(AnswerKind::Refused(refused))) if refused.reason == Reason::SessionEnded as u32 => {
                    recorder.count("session.ended_refused");
                }
                Ok(answer) => recorder.note(format_args!("late {id} was answered {answer:?}")),
                Err(fault) => recorder.note(format_args!("late {id}: {fault}")),
            }
        }
    }

    /// Stops in order: everything is written behind.
    pub async fn shutdown(self) {
        for gateway in &self.gateways {
            gateway.objects.shutdown().await;
        }
        self.index.shutdown().await;
        if let Err(e) = self.store.shutdown().await {
            tracing::debug!(error = %e, "the index could not write everything behind");
        }
        self.node.shutdown().await;
    }
}

fn line(world: &World, shape: &Shape, rng: &SimRng, recorder: &Recorder) -> Line {
    Line {
        rng: Arc::new(rng.fork()),
        recorder: recorder.clone(),
        clock: world.clock.clone(),
        percent: shape.flaky_percent,
    }
}

fn far_node(node: &Arc<LocalNode>, line: Line) -> Arc<dyn Node> {
    Arc::new(FarNode {
        far: Arc::clone(node),
        line,
    })
}

fn note_recovery(recorder: &Recorder, report: &extent::RecoveryReport) {
    recorder.note(format_args!("recovered {report:?}"));
    let record = &mut *recorder.get();
    record.counts.add("recovery.created", u64::from(report.created));
    record
        .counts
        .add("recovery.torn_tail", u64::from(report.torn > 0));
    record.counts.add("recovery.needles_replayed", report.replayed);
    record
        .counts
        .add("recovery.lost_records", report.lost.len() as u64);
    record.counts.add("recovery.damage", report.damage.len() as u64);
}
