//! The life of gc: looks at the disks, makes passes, rests, stops when told.
//!
//! One task, one thing at a time: what one phase has made durable the next one sees. It waits in three places, each ended by the stop:
//! for an answer (with a deadline), between pieces of work (a share of time), between passes.

use crate::commands::Commands;
use crate::gc::Settings;
use crate::gc::bell::Bell;
use crate::gc::clocks::Clocks;
use crate::gc::idle::Watch;
use crate::gc::metrics::{self, Tally};
use crate::gc::plan::{self, Level};
use crate::gc::resting::Resting;
use crate::pace;
pub(crate) use crate::work::End;
use crate::work::Work;
use futures_util::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use types::{BlobId, DiskId, ExtentId, NodeId, SessionId};
use wire::Fault;
use wire::control;
use wire::gateway::Gateway;
use wire::index;
use wire::node::{DiskStatus, Node};
use world::World;
use world::plant::{Plant, is_planted};

/// Longest time between two passes of a store that is short of room and in which the last one found nothing.
const SHORT_PASS_MS_MAX: u64 = 10_000;
/// And no longer than so many lengths of the last pass.
const IDLE_SHARE: u32 = 50;
/// How long a disk that was short of room is collected as if it were: whoever empties it has not deleted everything at the moment when there
/// is room again.
const STAYS_SHORT: Duration = Duration::from_secs(60);
/// How soon a pass follows one that left something begun, in looks.
const UNFINISHED_LOOKS: u32 = 3;
/// How soon gc hears of a writer that met a full disk after it heard of another.
const HEARD_MS_MIN: u64 = 50;
/// How long it lets be, in lengths of the last pass, before it makes one for such a writer.
const HEARD_SHARE: u32 = 4;
/// How often the sessions of promises are looked at, and uploads for whether anyone works on them.
const SELDOM: Duration = Duration::from_secs(3600);

/// Whom gc speaks to.
#[derive(Clone)]
pub struct Roles {
    /// What is garbage, and what has a name.
    pub index: Arc<dyn index::Reclaim>,
    /// Which needles go.
    pub control: Arc<dyn control::Reclaim>,
    /// Where they are.
    pub nodes: BTreeMap<NodeId, Arc<dyn Node>>,
    /// Who reads and writes them: all of them.
    pub gateways: Vec<Arc<dyn Gateway>>,
}

/// The job.
pub struct Gc {
    pub(crate) world: World,
    pub(crate) settings: Settings,
    pub(crate) roles: Roles,
    pub(crate) commands: Commands,
    pub(crate) tally: Tally,
    pub(crate) levels: BTreeMap<DiskId, Level>,
    /// When (of monotonic time) a disk was last seen to be short of room.
    short: BTreeMap<DiskId, Duration>,
    /// The disks as they were looked at last, and when (of monotonic time) that was.
    pub(crate) disks: Vec<DiskStatus>,
    looked: Duration,
    /// The level that this pass began at.
    pub(crate) pass_level: Level,
    pub(crate) clocks: Clocks,
    /// Extents that something failed with.
    pub(crate) resting: Resting,
    /// Extents whose dropped lists could not be read, and bookings that broke off.
    pub(crate) lists_resting: Resting,
    pub(crate) bookings_resting: Resting<BlobId>,
    /// Extents that writers were asked to let go: they get no append, whatever the level is by now.
    pub(crate) released: BTreeSet<ExtentId>,
    /// Something was begun that only a later pass can end.
    pub(crate) unfinished: bool,
    /// Uploads that may be idle.
    pub(crate) idle_uploads: Watch,
    /// Extents that were walked, and when (of monotonic time) to walk them again.
    pub(crate) again: BTreeMap<ExtentId, Duration>,
    bell: Bell,
    work: Work,
    held: bool,
    /// When (of monotonic time) the next pass is due, and what is done seldom.
    next_pass: Duration,
    next_seldom: Duration,
    /// No pass for a writer that met a full disk before, so that those who do cannot keep gc at passes that find nothing.
    next_heard: Duration,
    /// How long the last passes of a store short of room found nothing.
    idle: Duration,
}

impl Gc {
    /// gc that sends its commands as `session`, which is nobody else's, and ends soon after `stop` says so.
    pub fn new(
        world: World,
        settings: Settings,
        roles: Roles,
        session: SessionId,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            commands: Commands::new(roles.index.clone(), world.clock.clone(), session),
            tally: Tally::default(),
            levels: BTreeMap::new(),
            short: BTreeMap::new(),
            disks: Vec::new(),
            looked: Duration::ZERO,
            pass_level: Level::default(),
            clocks: Clocks::default(),
            resting: Resting::default(),
            lists_resting: Resting::default(),
            bookings_resting: Resting::default(),
            released: BTreeSet::new(),
            unfinished: false,
            idle_uploads: Watch::default(),
            again: BTreeMap::new(),
            bell: Bell::of(&roles.gateways),
            held: false,
            next_pass: Duration::ZERO,
            next_seldom: Duration::ZERO,
            next_heard: Duration::ZERO,
            idle: Duration::ZERO,
            work: Work::new(world.clone(), stop),
            world,
            settings,
            roles,
        }
    }

    /// Collects until it is stopped.
    pub async fn run(mut self) {
        loop {
            let before = self.tally;
            let ended = AssertUnwindSafe(self.turn()).catch_unwind().await;
            self.tally.count_since(&before);
            match ended {
                Ok(Err(End::Stopped)) => return,
                Ok(Err(End::Failed(fault))) => self.failed("look", &fault),
                Ok(Ok(())) => {}
                // Every step may be done again, so the next turn can be trusted with what this one left.
                Err(_) => tracing::error!("gc panicked; it goes on with its next turn"),
            }
            if self.doze(self.settings.look).await.is_err() {
                return;
            }
        }
    }

    /// Looks, does what cannot wait, and makes a pass when one is due: by time, because room got short, or because a writer found none.
    async fn turn(&mut self) -> Result<(), End> {
        let before = self.level();
        self.look().await?;
        let held = self.is_held().await?;
        self.bell.attend(!held);
        if held {
            return Ok(());
        }
        self.take_abandoned().await?;
        let now = self.world.clock.mono();
        let heard = self.bell.rings() && now >= self.next_heard;
        if now >= self.next_pass || self.level() > before || heard {
            self.pass().await?;
        }
        Ok(())
    }

    /// The level of the shortest disk.
    pub(crate) fn level(&self) -> Level {
        self.levels.values().max().copied().unwrap_or_default()
    }

    /// How much room the disks have. A node that does not answer leaves its disks as they were.
    pub(crate) async fn look(&mut self) -> Result<(), End> {
        let mut disks: Vec<DiskStatus> = Vec::new();
        for node in self.roles.nodes.clone().into_values() {
            disks.extend(self.call("disks", node.disks()).await?);
        }
        let mut levels = plan::levels(&disks, &self.levels);
        let now = self.world.clock.mono();
        for (disk, level) in &mut levels {
            if *level > Level::Calm {
                self.short.insert(*disk, now);
            } else if self
                .short
                .get(disk)
                .is_some_and(|was| now.saturating_sub(*was) < STAYS_SHORT)
            {
                *level = Level::Short;
            }
        }
        for (disk, level) in &levels {
            if self.levels.get(disk) != Some(level) {
                tracing::info!(%disk, ?level, "how short of room the disk is for gc");
            }
            metrics::level(*disk, *level);
        }
        self.levels.extend(levels);
        self.disks = disks;
        self.looked = now;
        if self.clocks.look(self.world.clock.wall_ms(), now) {
            tracing::warn!(
                "the wall clock was set: nothing is old by it until gc has seen it go on for as long"
            );
        }
        Ok(())
    }

    /// What cannot wait for a long piece of work to end: looks where the last look is old, and takes what writers gave up.
    pub(crate) async fn keep_up(&mut self) -> Result<(), End> {
        if self.world.clock.mono().saturating_sub(self.looked) < self.settings.look {
            return Ok(());
        }
        self.look().await?;
        if !self.is_held().await? {
            self.take_abandoned().await?;
        }
        Ok(())
    }

    /// Whether what this pass planned is out of date: room has got shorter since it began, or an operator holds it. What clients delete to make
    /// room is what goes first then, in a pass made anew.
    pub(crate) fn is_outdated(&self) -> bool {
        self.held || self.level() > self.pass_level
    }

    pub(crate) async fn is_held(&mut self) -> Result<bool, End> {
        let control = self.roles.control.clone();
        let holds = self.call("held", control.held()).await?;
        let held = !holds.is_empty() && !is_planted(Plant::ReclaimWhileHeld);
        match (holds.first(), self.held) {
            (Some(hold), false) => {
                tracing::warn!(by = hold.by, why = hold.why, "reclaim is held until it is let go")
            }
            (None, true) => tracing::info!("reclaim goes on"),
            _ => {}
        }
        metrics::held(held);
        self.held = held;
        Ok(held)
    }

    async fn pass(&mut self) -> Result<(), End> {
        let (begun, before) = (self.world.clock.mono(), self.tally);
        self.pass_level = self.level();
        let rung = self.bell.heard();
        let ended = self.phases().await;
        let oldest_ms = match ended {
            Ok(oldest_ms) => oldest_ms,
            Err(End::Stopped) => return Err(End::Stopped),
            Err(End::Failed(fault)) => {
                self.failed("pass", &fault);
                None
            }
        };
        let (now, now_ms) = (self.world.clock.mono(), self.world.clock.wall_ms());
        let did = self.tally.since(&before);
        let age_ms = oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
        metrics::passed(now_ms, (now - begun).as_secs_f64(), age_ms as f64 / 1000.0);
        if did.moved() {
            tracing::info!(?did, level = ?self.level(), took = ?(now - begun), "gc pass");
        }
        let next = now + self.until_next(did.moved(), oldest_ms, now - begun);
        self.next_pass = self.resting.next(now).map_or(next, |rested| next.min(rested));
        metrics::failing(self.resting.count());
        let unfinished = std::mem::take(&mut self.unfinished);
        if unfinished {
            self.next_pass = self.next_pass.min(now + UNFINISHED_LOOKS * self.settings.look);
        }
        if self.is_outdated() {
            self.next_pass = now;
        } else if !did.moved() && !unfinished {
            // Nothing more comes for those who met a full disk before this pass.
            self.bell.answer(rung);
        }
        self.next_heard = now + HEARD_SHARE * (now - begun);
        Ok(())
    }

    fn until_next(&mut self, moved: bool, oldest_ms: Option<u64>, took: Duration) -> Duration {
        let now_ms = self.world.clock.wall_ms();
        let s = &self.settings;
        if self.level() == Level::Calm {
            self.idle = Duration::ZERO;
            return plan::next_pass(oldest_ms, now_ms, s.grace, s.pass_max, s.look);
        }
        self.idle = match moved {
            true => Duration::ZERO,
            false => (2 * self.idle).max(s.look),
        };
        // A pass over little costs little, and whoever deletes to make room waits for the next.
        let longest = (IDLE_SHARE * took).max(s.look);
        self.idle = self
            .idle
            .min(longest)
            .min(Duration::from_millis(SHORT_PASS_MS_MAX));
        self.idle
    }

    /// One pass; when the oldest booking that stays was made. A phase that fails, at a row that is damaged say, does not keep the others
    /// from what they can do: a disk could not be emptied else.
    async fn phases(&mut self) -> Result<Option<u64>, End> {
        let garbage = self.collect_garbage().await;
        let oldest_ms = self.went_on(garbage, "bookings")?.flatten();
        let extents = self.collect_extents().await;
        self.went_on(extents, "extents")?;
        if self.is_outdated() {
            return Ok(oldest_ms);
        }
        let swept = self.sweep().await;
        self.went_on(swept, "orphans")?;
        let now = self.world.clock.mono();
        if now >= self.next_seldom && !self.is_outdated() {
            let aborted = self.abort_uploads().await;
            self.went_on(aborted, "uploads")?;
            let forgotten = self.forget_condemned().await;
            self.went_on(forgotten, "condemned")?;
            self.next_seldom = now + SELDOM.min(self.settings.uploads_watched);
        }
        Ok(oldest_ms)
    }

    /// What a phase answered; `None` where it failed, which is told.
    pub(crate) fn went_on<T>(
        &mut self,
        ended: Result<T, End>,
        phase: &'static str,
    ) -> Result<Option<T>, End> {
        match ended {
            Ok(answer) => Ok(Some(answer)),
            Err(End::Failed(fault)) => {
                self.failed(phase, &fault);
                Ok(None)
            }
            Err(End::Stopped) => Err(End::Stopped),
        }
    }

    /// Waits for an answer of a role: until its deadline, or until gc is to stop.
    pub(crate) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, End> {
        self.work.call(what, call).await
    }

    /// Rests after a piece of work, unless room is short.
    pub(crate) async fn rest(&mut self, begun: Duration) -> Result<(), End> {
        let worked = self.world.clock.mono().saturating_sub(begun);
        let until = self.world.clock.mono() + pace::rest(worked, self.level().share_percent());
        loop {
            self.keep_up().await?;
            let left = until.saturating_sub(self.world.clock.mono());
            if left.is_zero() || self.level() > Level::Calm {
                return Ok(());
            }
            self.doze(left.min(self.settings.look)).await?;
        }
    }

    /// Sleeps until a writer meets a full disk; then the disks are to be looked at.
    pub(crate) async fn doze(&mut self, time: Duration) -> Result<(), End> {
        let at_once = time.min(Duration::from_millis(HEARD_MS_MIN));
        self.sleep(at_once).await?;
        let slept = tokio::select! {
            biased;
            () = self.work.stopped() => return Err(End::Stopped),
            () = self.bell.rung() => false,
            () = self.world.clock.sleep(time - at_once) => true,
        };
        if !slept {
            self.looked = Duration::ZERO;
        }
        Ok(())
    }

    /// There is more room than there was.
    pub(crate) fn room_made(&mut self) {
        self.resting.room_made();
        self.bell.made();
    }

    pub(crate) async fn sleep(&self, time: Duration) -> Result<(), End> {
        self.work.sleep(time).await
    }

    /// Something failed that a later pass tries again.
    pub(crate) fn failed(&mut self, what: &str, fault: &Fault) {
        self.tally.errors += 1;
        tracing::warn!(%fault, what, "gc: a step failed; it is tried again later");
    }
}
