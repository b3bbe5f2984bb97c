//! gc at work on a machine, and the roles as it meets them: slow, and now and then without an answer.
//!
//! What it does is counted as it passes by; whether it took what it may and left what it must is for `quiet`, the oracle and the
//! bytes that readers get.

use crate::SimRng;
use crate::flaky::FlakyIndex;
use crate::machine::{Machine, NODE};
use crate::record::Recorder;
use crate::scenario::Collecting;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::{DiskId, Epoch, ErrorKind, ExtentId, Generation, NeedleId, SessionId};
use wire::Fault;
use wire::control::{Control, Decision, Dropped, ExtentUse, Grant, Hold, Holding, Location, Reclaim};
use wire::gateway::Gateway;
use wire::node::{
    Ack, Appended, Appending, Checked, DiskStatus, ExtentStatus, NeedleHead, Node, Pace, ReadNeedle,
    WalkCursor, WalkDepth, WalkPage,
};
use wire::scrub::Reread;
use worker::gc::{Gc, Roles, Settings};
use world::{Clock, World};

/// gc at work; dropped, it is killed.
pub struct Collector {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Begins to collect on `machine`, under a session of its own, as the server does.
    ///
    /// # Errors
    /// There is no session to be had.
    pub async fn begin(
        machine: &Machine,
        world: &World,
        line: Line,
        collecting: Collecting,
    ) -> Result<Self, Fault> {
        let session = machine.control.begin_session("gc").await?;
        let index = FlakyIndex::new(
            machine.index.clone(),
            line.rng.fork(),
            line.recorder.clone(),
            line.clock.clone(),
            line.percent,
        );
        let gateways = machine.gateways.iter();
        let roles = Roles {
            index: Arc::new(index),
            control: Arc::new(FarControl {
                far: machine.control.clone(),
                line: line.clone(),
            }),
            nodes: BTreeMap::from([(NODE, machine.far_node(line))]),
            gateways: gateways
                .map(|g| Arc::clone(&g.objects) as Arc<dyn Gateway>)
                .collect(),
        };
        let (stop, stopping) = watch::channel(false);
        let gc = Gc::new(world.clone(), collecting.settings(), roles, session, stopping);
        Ok(Self {
            stop,
            task: tokio::spawn(gc.run()),
        })
    }

    /// Stops it, and waits until it has.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A panic of its own is told by the run's hook.
        drop(self.task.await);
    }
}

impl Collecting {
    fn settings(self) -> Settings {
        let ms = Duration::from_millis;
        Settings {
            grace: ms(self.grace_ms),
            horizon: ms(self.horizon_ms),
            look: ms(self.look_ms),
            pass_max: ms(20 * self.look_ms),
            readers_wait: ms(self.readers_wait_ms),
            ..Settings::default()
        }
    }
}

/// A line that is slow, and loses answers.
#[derive(Clone)]
pub struct Line {
    /// Its dice.
    pub rng: Arc<SimRng>,
    /// What it did.
    pub recorder: Recorder,
    /// How long it takes.
    pub clock: Arc<dyn Clock>,
    /// Answers in a hundred that are lost.
    pub percent: u64,
}

impl Line {
    /// What came back of an answer. One in four comes late: much happens between a step and its caller's next.
    async fn bring<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        if self.rng.percent(25) {
            let pause = Duration::from_millis(self.rng.between(1, 20));
            self.clock.sleep(pause).await;
        }
        if self.rng.percent(self.percent) {
            self.recorder.count("fault.gc_answer_lost");
            return Err(Fault::new(ErrorKind::Unknown, "simulated: the answer was lost"));
        }
        answer
    }
}

/// The control plane, as gc meets it.
struct FarControl {
    far: Arc<control::ControlPlane>,
    line: Line,
}

impl FarControl {
    /// Whether reclaim is held now: then nothing that is asked from here on is to be done (I3).
    async fn is_held(&self) -> bool {
        self.far.held().await.is_ok_and(|holds| !holds.is_empty())
    }

    fn check_held<T>(&self, held: bool, what: &str, done: &Result<T, Fault>) {
        if held && done.is_ok() {
            self.line
                .recorder
                .violation(format!("I3: {what} while reclaim is held"));
        }
    }
}

#[async_trait::async_trait]
impl Control for FarControl {
    async fn begin_session(&self, host: &str) -> Result<SessionId, Fault> {
        self.far.begin_session(host).await
    }

    async fn end_session(&self, session: SessionId) -> Result<(), Fault> {
        self.far.end_session(session).await
    }

    async fn grant(&self, session: SessionId) -> Result<Grant, Fault> {
        self.far.grant(session).await
    }

    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<(), Fault> {
        let sealed = self.far.seal(extent, epoch).await;
        if sealed.is_ok() {
            self.line.recorder.count("gc.sealed");
        }
        self.line.bring(sealed).await
    }

    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault> {
        self.far.locate(extent).await
    }

    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        self.far.locations().await
    }
}

#[async_trait::async_trait]
impl Reclaim for FarControl {
    async fn uses(&self) -> Result<Vec<ExtentUse>, Fault> {
        self.far.uses().await
    }

    async fn drop_needles(&self, needles: &[Dropped]) -> Result<(), Fault> {
        let held = self.is_held().await;
        let dropped = self.far.drop_needles(needles).await;
        self.check_held(held, "needles are dropped", &dropped);
        if dropped.is_ok() {
            let needles = needles.len() as u64;
            self.line.recorder.get().counts.add("gc.dropped", needles);
        }
        self.line.bring(dropped).await
    }

    async fn dropped(&self, extent: ExtentId) -> Result<Vec<NeedleId>, Fault> {
        self.far.dropped(extent).await
    }

    async fn decide(&self, extent: ExtentId) -> Result<Option<Decision>, Fault> {
        let held = self.is_held().await;
        let decided = self.far.decide(extent).await;
        self.check_held(held, "a generation is decided", &decided);
        if let Ok(Some(decision)) = &decided {
            self.line.recorder.count("gc.decided");
            self.line.recorder.note(format_args!("{decision:?}"));
        }
        self.line.bring(decided).await
    }

    async fn generation_done(
        &self,
        extent: ExtentId,
        generation: Generation,
        status: &ExtentStatus,
    ) -> Result<(), Fault> {
        let done = self.far.generation_done(extent, generation, status).await;
        if done.is_ok() {
            self.line.recorder.count("gc.generation_done");
        }
        self.line.bring(done).await
    }

    async fn swept(&self, extent: ExtentId) -> Result<(), Fault> {
        let swept = self.far.swept(extent).await;
        if swept.is_ok() {
            self.line.recorder.count("gc.swept");
        }
        self.line.bring(swept).await
    }

    async fn gone(&self, extent: ExtentId) -> Result<(), Fault> {
        let held = self.is_held().await;
        let gone = self.far.gone(extent).await;
        self.check_held(held, "an extent goes", &gone);
        self.line.bring(gone).await
    }

    async fn forget(&self, extent: ExtentId) -> Result<(), Fault> {
        let forgotten = self.far.forget(extent).await;
        if forgotten.is_ok() {
            self.line.recorder.count("gc.forgotten");
        }
        self.line.bring(forgotten).await
    }

    async fn hold(&self, by: &str, why: &str) -> Result<(), Fault> {
        self.far.hold(by, why).await
    }

    async fn release(&self, by: &str) -> Result<bool, Fault> {
        self.far.release(by).await
    }

    async fn hold_while(&self, by: &str, why: &str) -> Result<Holding, Fault> {
        self.far.hold_while(by, why).await
    }

    async fn held(&self) -> Result<Vec<Hold>, Fault> {
        self.far.held().await
    }
}

/// A node, as gc and gateways meet it: what is read of it is read late, and what is compacted is answered late.
pub struct FarNode {
    /// The node.
    pub far: Arc<node::LocalNode>,
    /// The way to it.
    pub line: Line,
}

#[async_trait::async_trait]
impl Node for FarNode {
    async fn open_extent(
        &self,
        disk: DiskId,
        extent: ExtentId,
        epoch: Epoch,
        bytes_max: u64,
    ) -> Result<ExtentStatus, Fault> {
        self.far.open_extent(disk, extent, epoch, bytes_max).await
    }

    async fn append(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
        body: Checked,
        ack: Ack,
    ) -> Result<Appended, Fault> {
        self.far.append(extent, epoch, head, body, ack).await
    }

    async fn begin(
        &self,
        extent: ExtentId,
        epoch: Epoch,
        head: NeedleHead,
    ) -> Result<Box<dyn Appending>, Fault> {
        self.far.begin(extent, epoch, head).await
    }

    async fn read(&self, read: ReadNeedle) -> Result<Checked, Fault> {
        let now = self.far.extent(read.extent).await;
        if now.is_ok_and(|status| status.generation > read.hint.0) {
            self.line.recorder.count("read.across_a_generation");
        }
        self.far.read(read).await
    }

    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<ExtentStatus, Fault> {
        self.far.seal(extent, epoch).await
    }

    async fn extent(&self, extent: ExtentId) -> Result<ExtentStatus, Fault> {
        self.far.extent(extent).await
    }

    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        self.far.extents().await
    }

    async fn walk(
        &self,
        extent: ExtentId,
        from: WalkCursor,
        depth: WalkDepth,
        count_max: usize,
    ) -> Result<WalkPage, Fault> {
        let page = self.far.walk(extent, from, depth, count_max).await;
        self.line.bring(page).await
    }

    async fn compact(
        &self,
        extent: ExtentId,
        to: Generation,
        dropped: Vec<NeedleId>,
        pace: &Pace,
    ) -> Result<ExtentStatus, Fault> {
        let compacted = self.far.compact(extent, to, dropped, pace).await;
        match &compacted {
            Ok(status) if status.needles == 0 => self.line.recorder.count("gc.compacted_to_nothing"),
            Ok(_) => self.line.recorder.count("gc.compacted"),
            Err(fault) => {
                let count = format!("gc.compaction_failed_{:?}", fault.kind);
                self.line.recorder.count(&count);
            }
        }
        self.line.bring(compacted).await
    }

    async fn remove(&self, extent: ExtentId) -> Result<(), Fault> {
        let removed = self.far.remove(extent).await;
        if removed.is_ok() {
            self.line.recorder.count("gc.removed");
        }
        self.line.bring(removed).await
    }

    async fn verify_frame(&self, disk: DiskId) -> Result<Reread, Fault> {
        let read = self.far.verify_frame(disk).await;
        self.line.bring(read).await
    }

    async fn disks(&self) -> Result<Vec<DiskStatus>, Fault> {
        self.far.disks().await
    }
}
