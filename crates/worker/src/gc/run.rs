//! The life of gc: looks at the disks, makes passes, rests, stops when told.
//!
//! One task, one thing at a time: what one phase has made durable the next one sees. It waits in three places, each ended by the stop:
//! for an answer (with a deadline), between pieces of work (a share of time), between passes.

use crate::commands::Commands;
use crate::gc::Settings;
use crate::gc::garbage::{Pass, Ripeness};
use crate::gc::idle::Watch;
use crate::gc::metrics::{self, Tally};
use crate::gc::plan::{self, Level};
use crate::pace;
pub(crate) use crate::work::End;
use crate::work::Work;
use bytes::Bytes;
use futures_util::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use types::limits::{DROP_NEEDLES_MAX, FORGET_ROWS_MAX, GC_PAGE_ROWS};
use types::{BlobId, DiskId, ErrorKind, ExtentId, NodeId, SessionId};
use wire::Fault;
use wire::control;
use wire::gateway::Gateway;
use wire::index::{self, Command};
use wire::node::{DiskStatus, Node};
use world::World;

/// Longest time between two passes of a store that is short of room and in which the last one found nothing.
const SHORT_PASS_MS_MAX: u64 = 10_000;
/// How long a disk that was short of room is collected as if it were: whoever empties it has not deleted everything at the moment when there
/// is room again.
const STAYS_SHORT: Duration = Duration::from_secs(60);
/// How soon a pass follows one that left something begun, in looks.
const UNFINISHED_LOOKS: u32 = 3;
/// How often it is asked whether readers are gone.
const READERS_POLL_MS: u64 = 10;
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
    /// The disks as they were looked at last.
    pub(crate) disks: Vec<DiskStatus>,
    /// Extents that something failed with: until when (of monotonic time) they are let be, and what.
    pub(crate) resting: BTreeMap<ExtentId, (Duration, ErrorKind)>,
    /// Something was begun that only a later pass can end.
    pub(crate) unfinished: bool,
    /// Uploads that may be idle.
    pub(crate) idle_uploads: Watch,
    /// Extents that were walked, and when (of wall time) to walk them again.
    pub(crate) again_ms: BTreeMap<ExtentId, u64>,
    work: Work,
    held: bool,
    /// When (of monotonic time) the next pass is due, and what is done seldom.
    next_pass: Duration,
    next_seldom: Duration,
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
            resting: BTreeMap::new(),
            unfinished: false,
            idle_uploads: Watch::default(),
            again_ms: BTreeMap::new(),
            held: false,
            next_pass: Duration::ZERO,
            next_seldom: Duration::ZERO,
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
            if self.sleep(self.settings.look).await.is_err() {
                return;
            }
        }
    }

    /// Looks, does what cannot wait, and makes a pass when one is due.
    async fn turn(&mut self) -> Result<(), End> {
        let before = self.level();
        self.look().await?;
        if self.is_held().await? {
            return Ok(());
        }
        self.take_abandoned().await?;
        let now = self.world.clock.mono();
        if now >= self.next_pass || self.level() > before {
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
        Ok(())
    }

    async fn is_held(&mut self) -> Result<bool, End> {
        let control = self.roles.control.clone();
        let holds = self.call("held", control.held()).await?;
        let held = !holds.is_empty();
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
        let next = now + self.until_next(did.moved(), oldest_ms, now_ms);
        let rested = self.resting.values().map(|(until, _)| *until).min();
        self.next_pass = rested.map_or(next, |rested| next.min(rested));
        if std::mem::take(&mut self.unfinished) {
            self.next_pass = self.next_pass.min(now + UNFINISHED_LOOKS * self.settings.look);
        }
        Ok(())
    }

    fn until_next(&mut self, moved: bool, oldest_ms: Option<u64>, now_ms: u64) -> Duration {
        let s = &self.settings;
        if self.level() == Level::Calm {
            self.idle = Duration::ZERO;
            return plan::next_pass(oldest_ms, now_ms, s.grace, s.pass_max, s.look);
        }
        self.idle = match moved {
            true => Duration::ZERO,
            false => (2 * self.idle).max(s.look),
        };
        self.idle.min(Duration::from_millis(SHORT_PASS_MS_MAX))
    }

    /// One pass; when the oldest booking that stays was made. A phase that fails, at a row that is damaged say, does not keep the others
    /// from what they can do: a disk could not be emptied else.
    async fn phases(&mut self) -> Result<Option<u64>, End> {
        let garbage = self.collect_garbage().await;
        let oldest_ms = self.went_on(garbage, "bookings")?.flatten();
        let extents = self.collect_extents().await;
        self.went_on(extents, "extents")?;
        let swept = self.sweep().await;
        self.went_on(swept, "orphans")?;
        let now = self.world.clock.mono();
        if now >= self.next_seldom {
            let aborted = self.abort_uploads().await;
            self.went_on(aborted, "uploads")?;
            let forgotten = self.forget_condemned().await;
            self.went_on(forgotten, "condemned")?;
            self.next_seldom = now + SELDOM.min(self.settings.uploads_watched);
        }
        Ok(oldest_ms)
    }

    /// What a phase answered; `None` where it failed, which is told.
    fn went_on<T>(&mut self, ended: Result<T, End>, phase: &'static str) -> Result<Option<T>, End> {
        match ended {
            Ok(answer) => Ok(Some(answer)),
            Err(End::Failed(fault)) => {
                self.failed(phase, &fault);
                Ok(None)
            }
            Err(End::Stopped) => Err(End::Stopped),
        }
    }

    /// Every booking that may go, handed over and forgotten.
    async fn collect_garbage(&mut self) -> Result<Option<u64>, End> {
        let (mut pass, mut cursor) = (Pass::default(), Bytes::new());
        let control = self.roles.control.clone();
        let uses = self.call("uses", control.uses()).await?;
        loop {
            let begun = self.world.clock.mono();
            let index = self.roles.index.clone();
            let (page, next) = self.call("garbage", index.garbage(cursor, GC_PAGE_ROWS)).await?;
            self.tally.rows += page.len() as u64;
            let read = self.readers().await?;
            let levels = plan::extent_levels(&uses, &self.levels);
            let handing = match &read {
                None => {
                    pass.leave(&page);
                    None
                }
                Some(read) => Some(pass.hand_over(
                    page,
                    &Ripeness {
                        now_ms: self.world.clock.wall_ms(),
                        grace: self.settings.grace,
                        levels: &levels,
                        read,
                    },
                )),
            };
            if let Some(handing) = handing {
                self.drop_needles(&handing.needles).await?;
                for rows in handing.rows.chunks(FORGET_ROWS_MAX) {
                    let forget = Command::ForgetGarbage { rows: rows.to_vec() };
                    self.commands.send(forget).await?;
                }
            }
            if next.is_empty() {
                return Ok(pass.oldest_ms);
            }
            cursor = next;
            self.rest(begun).await?;
        }
    }

    /// The blobs that readers who began before now are on; `None` when some have not said after a while.
    async fn readers(&self) -> Result<Option<BTreeSet<BlobId>>, End> {
        let mut on = BTreeSet::new();
        let begun = self.world.clock.mono();
        for gateway in &self.roles.gateways {
            let mark = gateway.readers_mark();
            loop {
                let readers = gateway.readers_below(mark);
                if readers.anywhere == 0 {
                    on.extend(readers.on);
                    break;
                }
                if self.world.clock.mono().saturating_sub(begun) >= self.settings.readers_wait {
                    return Ok(None);
                }
                self.sleep(Duration::from_millis(READERS_POLL_MS)).await?;
            }
        }
        Ok(Some(on))
    }

    /// Books needles with the control plane as such that may go.
    pub(crate) async fn drop_needles(&mut self, needles: &[control::Dropped]) -> Result<(), End> {
        let control = self.roles.control.clone();
        for some in needles.chunks(DROP_NEEDLES_MAX) {
            self.call("drop_needles", control.drop_needles(some)).await?;
            self.tally.needles += some.len() as u64;
            self.tally.dropped_bytes += some.iter().map(|d| d.stored_length).sum::<u64>();
        }
        Ok(())
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
        let mut left = pace::rest(worked, self.level().share_percent());
        while !left.is_zero() {
            let some = left.min(self.settings.look);
            self.sleep(some).await?;
            left -= some;
            if left.is_zero() {
                break;
            }
            self.look().await?;
            if self.level() > Level::Calm {
                break;
            }
        }
        Ok(())
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
