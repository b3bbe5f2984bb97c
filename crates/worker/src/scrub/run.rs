//! The life of the scrub: begins passes, waits until a piece is due, rests, keeps its place, stops when told.

use crate::pace;
use crate::scrub::plan::{self, Place};
use crate::scrub::{Settings, metrics};
use crate::work::{End, Work};
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use types::limits::CALL_MS_MAX;
use types::{BucketId, ErrorKind, ExtentId, NodeId};
use wire::Fault;
use wire::index::Index;
use wire::node::Node;
use wire::records::{ScrubPass, ScrubState, ScrubTally};
use wire::scrub::Scrubbing;
use world::World;

/// Longest time that it sleeps without looking how things are.
const LOOK: Duration = Duration::from_secs(10);
/// How often a piece that cannot be read is tried before the pass goes past it.
const TRIES_MAX: u32 = 3;
/// How long after a failed piece it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whom the scrub speaks to.
#[derive(Clone)]
pub struct Roles {
    /// Whose pages and rows are read.
    pub index: Arc<dyn Index>,
    /// Who keeps how far it has come.
    pub control: Arc<dyn Scrubbing>,
    /// Whose disks and extents are read.
    pub nodes: BTreeMap<NodeId, Arc<dyn Node>>,
}

/// The job.
pub struct Scrub {
    pub(crate) work: Work,
    pub(crate) settings: Settings,
    pub(crate) roles: Roles,
    /// What is kept, the place apart; `None` until it was read.
    pub(crate) state: Option<ScrubState>,
    pub(crate) place: Place,
    /// Bytes there are to read in all, as far as is known.
    pub(crate) total: u64,
    /// Every copy of every extent, as they were told last.
    pub(crate) copies: Vec<(ExtentId, NodeId)>,
    /// What buckets are called in which something was found.
    pub(crate) names: BTreeMap<BucketId, Option<String>>,
    /// How often the piece at hand has failed.
    tries: u32,
    /// When (of monotonic time) the place was kept last.
    kept: Duration,
    told_late: bool,
}

impl Scrub {
    /// A scrub that ends soon after `stop` says so.
    pub fn new(world: World, settings: Settings, roles: Roles, stop: watch::Receiver<bool>) -> Self {
        Self {
            work: Work::new(world, stop),
            settings,
            roles,
            state: None,
            place: Place::Disks(None),
            total: 0,
            copies: Vec::new(),
            names: BTreeMap::new(),
            tries: 0,
            kept: Duration::ZERO,
            told_late: false,
        }
    }

    /// Reads until it is stopped.
    pub async fn run(mut self) {
        loop {
            let ended = AssertUnwindSafe(self.turn()).catch_unwind().await;
            let rested = match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(End::Stopped)) => Err(End::Stopped),
                Ok(Err(End::Failed(fault))) => {
                    tracing::warn!(%fault, "scrub: a step failed; it is tried again");
                    self.work.sleep(AGAIN).await
                }
                Err(_) => {
                    tracing::error!("the scrub panicked; it goes past what it read");
                    self.tries = TRIES_MAX;
                    self.work.sleep(AGAIN).await
                }
            };
            if rested.is_err() {
                return self.keep_at_stop().await;
            }
        }
    }

    /// Waits for the next piece and reads it.
    async fn turn(&mut self) -> Result<(), End> {
        self.load().await?;
        let now_ms = self.work.world.clock.wall_ms();
        let stretch = plan::stretch(self.settings.period);
        let Some(state) = &mut self.state else {
            return Ok(());
        };
        if state.begun_ms == 0 {
            let wait = plan::until_next(state.last.as_ref(), now_ms, stretch);
            return match wait.is_zero() {
                true => self.begin(now_ms).await,
                false => self.work.sleep(wait.min(LOOK)).await,
            };
        }
        // A clock that went back: the pass is spread over what is left from now on.
        state.begun_ms = state.begun_ms.min(now_ms);
        let tally = state.tally.clone().unwrap_or_default();
        let done = tally.bytes.saturating_sub(tally.frame_bytes);
        let times = (state.begun_ms, now_ms);
        self.tell_progress(times, done, &tally);
        let wait = plan::until_due(times, stretch, (done, self.total));
        if !wait.is_zero() {
            return self.work.sleep(wait.min(LOOK)).await;
        }
        self.work_on().await
    }

    async fn work_on(&mut self) -> Result<(), End> {
        let begun = self.work.world.clock.mono();
        match self.piece().await {
            Ok(true) => return self.end().await,
            Ok(false) => self.tries = 0,
            Err(End::Failed(fault)) if self.tries + 1 >= TRIES_MAX => {
                tracing::warn!(%fault, place = ?self.place, "scrub: this cannot be read now; the pass goes on behind it");
                self.tries = 0;
                self.tally().skipped += 1;
                self.skip();
            }
            Err(End::Failed(fault)) => {
                self.tries += 1;
                return Err(End::Failed(fault));
            }
            Err(End::Stopped) => return Err(End::Stopped),
        }
        let now = self.work.world.clock.mono();
        if now.saturating_sub(self.kept) >= self.settings.keep {
            self.keep().await?;
        }
        let worked = now.saturating_sub(begun);
        self.work
            .sleep(pace::rest(worked, self.settings.share_percent))
            .await
    }

    /// Reads how far it had come, once.
    async fn load(&mut self) -> Result<(), End> {
        if self.state.is_some() {
            return Ok(());
        }
        let control = self.roles.control.clone();
        let state = match self.work.call("scrub_state", control.scrub_state()).await {
            Err(End::Failed(fault)) if fault.kind == ErrorKind::Corrupt => {
                tracing::error!(%fault, "how far the scrub had come cannot be read: it begins anew");
                ScrubState::default()
            }
            other => other?,
        };
        if let Some(last) = &state.last {
            metrics::passed(last);
        }
        if state.begun_ms != 0 {
            self.place = Place::of(&state);
            self.survey().await?;
            tracing::info!(place = ?self.place, "the scrub goes on");
        }
        self.state = Some(state);
        Ok(())
    }

    async fn begin(&mut self, now_ms: u64) -> Result<(), End> {
        self.survey().await?;
        self.place = Place::Disks(None);
        self.names.clear();
        self.told_late = false;
        let newest = self.copies.iter().map(|(extent, _)| extent.0).max();
        if let Some(state) = &mut self.state {
            // 0 means that no pass is under way.
            state.begun_ms = now_ms.max(1);
            state.tally = Some(ScrubTally::default());
            state.last_extent = newest.unwrap_or(0);
        }
        self.keep().await
    }

    /// The pass has read everything. It counts once that is kept.
    async fn end(&mut self) -> Result<(), End> {
        let now_ms = self.work.world.clock.wall_ms();
        let Some(state) = self.state.clone() else {
            return Ok(());
        };
        let last = ScrubPass {
            begun_ms: state.begun_ms,
            ended_ms: now_ms,
            tally: state.tally,
        };
        let ended = ScrubState {
            last: Some(last.clone()),
            ..ScrubState::default()
        };
        let control = self.roles.control.clone();
        self.work
            .call("keep_scrub_state", control.keep_scrub_state(&ended))
            .await?;
        self.state = Some(ended);
        metrics::passed(&last);
        let tally = last.tally.unwrap_or_default();
        let took_ms = now_ms.saturating_sub(last.begun_ms);
        tracing::info!(
            bytes = tally.bytes,
            needles = tally.needles,
            rows = tally.rows,
            findings = tally.findings,
            skipped = tally.skipped,
            took_ms,
            "scrub pass"
        );
        Ok(())
    }

    /// What the pass under way has read.
    pub(crate) fn tally(&mut self) -> &mut ScrubTally {
        let state = self.state.get_or_insert_default();
        state.tally.get_or_insert_default()
    }

    /// Whether the pass has taken longer than it is to.
    pub(crate) fn is_late(&self) -> bool {
        let begun_ms = self.state.as_ref().map_or(0, |state| state.begun_ms);
        let passed_ms = self.work.world.clock.wall_ms().saturating_sub(begun_ms);
        Duration::from_millis(passed_ms) > plan::stretch(self.settings.period)
    }

    fn tell_progress(&mut self, (begun_ms, now_ms): (u64, u64), done: u64, tally: &ScrubTally) {
        let passed = Duration::from_millis(now_ms.saturating_sub(begun_ms));
        let late = passed.saturating_sub(self.settings.period);
        let ratio = done.min(self.total) as f64 / self.total.max(1) as f64;
        metrics::progress(ratio, tally, late.as_secs_f64());
        if !late.is_zero() && !std::mem::replace(&mut self.told_late, true) {
            tracing::warn!(period = ?self.settings.period, done, of = self.total, "the scrub does not read everything within its period");
        }
    }

    fn kept_state(&self) -> Option<ScrubState> {
        let mut state = self.state.clone()?;
        self.place.put(&mut state);
        Some(state)
    }

    async fn keep(&mut self) -> Result<(), End> {
        let Some(state) = self.kept_state() else {
            return Ok(());
        };
        let control = self.roles.control.clone();
        self.kept = self.work.world.clock.mono();
        match self
            .work
            .call("keep_scrub_state", control.keep_scrub_state(&state))
            .await
        {
            // A full disk: it is kept later, and a restart reads some of it twice.
            Err(End::Failed(Fault {
                kind: ErrorKind::Full | ErrorKind::Busy,
                ..
            })) => Ok(()),
            other => other,
        }
    }

    /// The last word, though the stop was told: a restart goes on here.
    async fn keep_at_stop(self) {
        let Some(state) = self.kept_state().filter(|state| state.begun_ms != 0) else {
            return;
        };
        let clock = self.work.world.clock.clone();
        tokio::select! {
            biased;
            kept = self.roles.control.keep_scrub_state(&state) => {
                if let Err(fault) = kept {
                    tracing::warn!(%fault, "the scrub's place was not kept");
                }
            }
            () = clock.sleep(Duration::from_millis(CALL_MS_MAX)) => {}
        }
    }
}
