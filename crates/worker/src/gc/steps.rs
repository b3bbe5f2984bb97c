//! Extents: sealed, compacted, removed, as the plan says.

use crate::gc::metrics;
use crate::gc::plan::{self, Extents, Step};
use crate::gc::run::{End, Gc};
use crate::pace::Progress;
use futures_util::future::{Either, select};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;
use types::{Epoch, ErrorKind, ExtentId, NodeId};
use wire::Fault;
use wire::control::{ExtentUse, Stage};
use wire::node::{ExtentStatus, Node, Pace};

/// Plans of one pass, at most: what a seal makes possible is done in the same pass.
const ROUNDS_MAX: usize = 3;
/// How long a pass waits in all for writers to let extents go.
const RELEASE_MS_MAX: u64 = 2_000;
const RELEASE_POLL_MS: u64 = 20;
/// How long gc lets be, in lengths of the last time, before it reads bookings again while a compaction goes on.
const DRAIN_SHARE: u32 = 4;

impl Gc {
    /// Everything that is worth while with extents. Ends early where room gets shorter meanwhile: bookings are read first then.
    pub(crate) async fn collect_extents(&mut self) -> Result<(), End> {
        for _ in 0..ROUNDS_MAX {
            self.look().await?;
            let extents = self.extents().await?;
            let before = self.tally;
            let sealed = self.round(&extents).await?;
            let did = self.tally.since(&before);
            if self.is_outdated() || sealed as u64 + did.compacted + did.removed == 0 {
                break;
            }
        }
        Ok(())
    }

    /// One plan, carried out as long as it is not out of date; how many extents were sealed.
    async fn round(&mut self, extents: &Extents) -> Result<usize, End> {
        let level = self.level();
        let uses: BTreeMap<ExtentId, &ExtentUse> = extents.uses.iter().map(|u| (u.extent, u)).collect();
        let steps = plan::extent_steps(extents);
        let seals: Vec<(ExtentId, Epoch)> = steps.iter().filter_map(as_seal).collect();
        let sealed = self.seal(&seals).await?;
        for step in steps {
            self.keep_up().await?;
            if self.is_outdated() || self.level() != level {
                break;
            }
            let extent = step.extent();
            let (usage, status) = (uses[&extent], extents.statuses.get(&extent));
            let begun = self.world.clock.mono();
            match step {
                Step::Seal(..) => {}
                Step::Bury(_) => {
                    let done = self.bury(usage).await;
                    self.settled(extent, done)?;
                    self.rest(begun).await?;
                }
                Step::Compact(_) => {
                    // What the plan knew of room is as old as the plan.
                    let room = plan::room(usage, &self.disks, &self.levels);
                    if room.is_some_and(|room| plan::kept(usage, status) > room) {
                        continue;
                    }
                    // It has rested on its way.
                    let done = self.compact(usage, extents).await;
                    self.settled(extent, done)?;
                }
            }
        }
        Ok(sealed)
    }

    /// What the control plane and the nodes say of all extents. What is on a node that does not answer is let be.
    async fn extents(&mut self) -> Result<Extents, End> {
        let control = self.roles.control.clone();
        let uses = self.call("uses", control.uses()).await?;
        let mut statuses = BTreeMap::new();
        let mut heard: BTreeSet<NodeId> = BTreeSet::new();
        for (id, node) in self.roles.nodes.clone() {
            match self.call("extents", node.extents()).await {
                Ok(all) => {
                    statuses.extend(all.into_iter().map(|s| (s.extent, s)));
                    heard.insert(id);
                }
                Err(End::Stopped) => return Err(End::Stopped),
                Err(End::Failed(fault)) => self.failed("extents", &fault),
            }
        }
        let there: BTreeSet<ExtentId> = uses.iter().map(|u| u.extent).collect();
        self.resting.keep(&there);
        self.again.retain(|extent, _| there.contains(extent));
        let open = uses.iter().filter(|u| u.stage == Stage::Open);
        let open: BTreeSet<ExtentId> = open.map(|u| u.extent).collect();
        self.released.retain(|extent| open.contains(extent));
        metrics::waiting_needles(&uses);
        let now = self.world.clock.mono();
        let silent =
            |u: &&ExtentUse| u.replicas.is_empty() || u.replicas.iter().any(|(n, _)| !heard.contains(n));
        let silent = uses.iter().filter(silent).map(|u| u.extent);
        let room = |u: &ExtentUse| Some((u.extent, plan::room(u, &self.disks, &self.levels)?));
        let rooms = uses.iter().filter_map(room);
        Ok(Extents {
            resting: self.resting.now(now).chain(silent).collect(),
            levels: plan::extent_levels(&uses, &self.levels),
            rooms: rooms.collect(),
            released: self.released.clone(),
            uses,
            statuses,
        })
    }

    /// A step's end: what failed is let be for a while.
    fn settled(&mut self, extent: ExtentId, done: Result<(), End>) -> Result<(), End> {
        let fault = match done {
            Err(End::Failed(fault)) => fault,
            Err(End::Stopped) => return Err(End::Stopped),
            Ok(()) => {
                self.resting.done(extent);
                return Ok(());
            }
        };
        let now = self.world.clock.mono();
        let times = self.resting.failed(extent, fault.kind, now, self.settings.look);
        if fault.kind == ErrorKind::Corrupt && times == 1 {
            tracing::error!(%extent, %fault, "an extent with garbage is damaged and stays as it is; run `cairn check` when stopped");
            self.tally.errors += 1;
        } else {
            self.failed(
                "extent",
                &Fault::new(fault.kind, format!("{extent}: {}", fault.what)),
            );
        }
        Ok(())
    }

    /// Seals open extents once their writers have let them go; how many were. The others are asked again in the next pass.
    async fn seal(&mut self, extents: &[(ExtentId, Epoch)]) -> Result<usize, End> {
        let begun = self.world.clock.mono();
        let mut waiting = extents.to_vec();
        let mut sealed = 0;
        self.released.extend(extents.iter().map(|(extent, _)| *extent));
        loop {
            let gateways = self.roles.gateways.clone();
            // All are asked at once: no writer is to take one that is asked for next.
            let held = |extent| gateways.iter().filter(|g| !g.release(extent)).count() > 0;
            let (still, free): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(extent, _)| held(*extent));
            for (extent, epoch) in free {
                let control = self.roles.control.clone();
                let done = self.call("seal", control.seal(extent, epoch)).await;
                sealed += usize::from(done.is_ok());
                self.settled(extent, done)?;
            }
            let waited = self.world.clock.mono().saturating_sub(begun);
            if still.is_empty() || waited >= Duration::from_millis(RELEASE_MS_MAX) {
                self.unfinished |= !still.is_empty();
                return Ok(sealed);
            }
            waiting = still;
            self.sleep(Duration::from_millis(RELEASE_POLL_MS)).await?;
        }
    }

    fn nodes_of(&self, usage: &ExtentUse) -> Result<Vec<std::sync::Arc<dyn Node>>, Fault> {
        let node = |(id, _): &(NodeId, _)| self.roles.nodes.get(id).cloned();
        let nodes: Option<Vec<_>> = usage.replicas.iter().map(node).collect();
        let none = || {
            Fault::new(
                ErrorKind::Unavailable,
                format!("no way to extent {}", usage.extent),
            )
        };
        nodes.filter(|n| !n.is_empty()).ok_or_else(none)
    }

    /// Makes the generation of an extent that the control plane has decided, on every copy.
    async fn compact(&mut self, usage: &ExtentUse, extents: &Extents) -> Result<(), End> {
        let (extent, control) = (usage.extent, self.roles.control.clone());
        let Some(decision) = self.call("decide", control.decide(extent)).await? else {
            return Ok(());
        };
        let mut status: Option<ExtentStatus> = None;
        for node in self.nodes_of(usage)? {
            let pace = Pace::of(self.level().share_percent());
            let compacting = node.compact(extent, decision.generation, decision.needles.clone(), &pace);
            let now = self.compacting(&pace, compacting).await?;
            status.get_or_insert(now);
        }
        let Some(status) = status else { return Ok(()) };
        self.call(
            "generation_done",
            control.generation_done(extent, decision.generation, &status),
        )
        .await?;
        let before = extents.statuses.get(&extent).map_or(usage.bytes, |s| s.end);
        self.room_made();
        self.tally.compacted += 1;
        self.tally.reclaimed_bytes += before.saturating_sub(status.end);
        tracing::debug!(%extent, generation = decision.generation.0, dropped = decision.needles.len(), kept = status.needles, "extent compacted");
        match status.needles {
            0 => self.bury(usage).await,
            _ => Ok(()),
        }
    }

    /// Waits for a compaction as long as it goes on, and lets it go faster once room is short. It may take minutes: what cannot wait for its
    /// end is done beside it.
    async fn compacting(
        &mut self,
        pace: &Pace,
        compacting: impl Future<Output = Result<ExtentStatus, Fault>> + Send,
    ) -> Result<ExtentStatus, End> {
        let mut compacting = pin!(compacting);
        let mut progress = Progress::since(self.world.clock.mono());
        let mut next_drain = Duration::ZERO;
        let ended = |answer: Result<ExtentStatus, Fault>| {
            answer.map_err(|f| End::Failed(Fault::new(f.kind, format!("compact: {}", f.what))))
        };
        loop {
            let look = self.settings.look;
            tokio::select! {
                biased;
                answer = compacting.as_mut() => return ended(answer),
                slept = self.doze(look) => slept?,
            }
            {
                let aside = pin!(self.aside(pace, &mut next_drain));
                match select(compacting.as_mut(), aside).await {
                    Either::Left((answer, aside)) => {
                        aside.await?;
                        return ended(answer);
                    }
                    Either::Right((done, _)) => done?,
                }
            }
            let stands = progress.stands(pace.pieces(), self.world.clock.mono());
            if stands >= self.settings.compaction_stall {
                let what = format!("compact: nothing was done in {stands:?}");
                return Err(End::Failed(Fault::new(ErrorKind::Unknown, what)));
            }
        }
    }

    /// What is done while a compaction goes on: its pace follows the level, writers get rid of what they gave up, and where room has got
    /// short since, bookings are handed over, so that the next plan knows of them.
    async fn aside(&mut self, pace: &Pace, next_drain: &mut Duration) -> Result<(), End> {
        let kept_up = self.keep_up().await;
        self.went_on(kept_up, "look")?;
        pace.set_share(self.level().share_percent());
        let begun = self.world.clock.mono();
        if self.level() > self.pass_level && !self.is_held().await? && begun >= *next_drain {
            let drained = self.collect_garbage().await;
            self.went_on(drained, "bookings")?;
            let now = self.world.clock.mono();
            *next_drain = now + DRAIN_SHARE * now.saturating_sub(begun);
        }
        Ok(())
    }

    /// Ends an extent in which nothing is left: told to nobody, then its files, then its rows.
    async fn bury(&mut self, usage: &ExtentUse) -> Result<(), End> {
        let (extent, control) = (usage.extent, self.roles.control.clone());
        self.call("gone", control.gone(extent)).await?;
        for node in self.nodes_of(usage)? {
            self.call("remove", node.remove(extent)).await?;
        }
        self.call("forget", control.forget(extent)).await?;
        self.room_made();
        self.tally.removed += 1;
        tracing::debug!(%extent, "extent removed");
        Ok(())
    }
}

fn as_seal(step: &Step) -> Option<(ExtentId, Epoch)> {
    match step {
        Step::Seal(extent, epoch) => Some((*extent, *epoch)),
        Step::Bury(_) | Step::Compact(_) => None,
    }
}
