//! Extents: sealed, compacted, removed, as the plan says.

use crate::gc::plan::{self, Extents, Step};
use crate::gc::run::{End, Gc};
use crate::pace::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;
use types::{Epoch, ErrorKind, ExtentId, NodeId};
use wire::Fault;
use wire::control::ExtentUse;
use wire::node::{ExtentStatus, Node, Pace};

/// Plans of one pass, at most: what a seal makes possible is done in the same pass.
const ROUNDS_MAX: usize = 3;
/// How long a pass waits in all for writers to let extents go.
const RELEASE_MS_MAX: u64 = 2_000;
const RELEASE_POLL_MS: u64 = 20;
/// How long an extent is let be after a step with it failed; and when what it keeps is damaged.
const REST: Duration = Duration::from_secs(10);
const REST_DAMAGED: Duration = Duration::from_secs(3600);

impl Gc {
    /// Everything that is worth while with extents.
    pub(crate) async fn collect_extents(&mut self) -> Result<(), End> {
        for _ in 0..ROUNDS_MAX {
            self.look().await?;
            let extents = self.extents().await?;
            let uses: BTreeMap<ExtentId, &ExtentUse> = extents.uses.iter().map(|u| (u.extent, u)).collect();
            let steps = plan::extent_steps(&extents);
            let seals: Vec<(ExtentId, Epoch)> = steps.iter().filter_map(as_seal).collect();
            let before = self.tally;
            let sealed = self.seal(&seals).await?;
            for step in steps {
                let begun = self.world.clock.mono();
                let (extent, done) = match step {
                    Step::Seal(..) => continue,
                    Step::Bury(extent) => (extent, self.bury(uses[&extent]).await),
                    Step::Compact(extent) => (extent, self.compact(uses[&extent], &extents).await),
                };
                self.settled(extent, done)?;
                self.rest(begun).await?;
            }
            let did = self.tally.since(&before);
            if sealed as u64 + did.compacted + did.removed == 0 {
                break;
            }
            // There may be room now for what found none.
            self.resting.retain(|_, (_, why)| *why != ErrorKind::Full);
        }
        Ok(())
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
        let now = self.world.clock.mono();
        let there: BTreeSet<ExtentId> = uses.iter().map(|u| u.extent).collect();
        self.resting
            .retain(|extent, (until, _)| *until > now && there.contains(extent));
        self.again_ms.retain(|extent, _| there.contains(extent));
        let silent =
            |u: &&ExtentUse| u.replicas.is_empty() || u.replicas.iter().any(|(n, _)| !heard.contains(n));
        let silent = uses.iter().filter(silent).map(|u| u.extent);
        Ok(Extents {
            resting: self.resting.keys().copied().chain(silent).collect(),
            levels: plan::extent_levels(&uses, &self.levels),
            rooms: plan::rooms(&uses, &self.disks, &self.levels),
            uses,
            statuses,
        })
    }

    /// A step's end: what failed is let be for a while.
    fn settled(&mut self, extent: ExtentId, done: Result<(), End>) -> Result<(), End> {
        let Err(End::Failed(fault)) = done else {
            return done;
        };
        let now = self.world.clock.mono();
        let damaged = fault.kind == ErrorKind::Corrupt;
        let rest = match fault.kind {
            ErrorKind::Corrupt => REST_DAMAGED,
            ErrorKind::Full | ErrorKind::Busy => self.settings.look,
            _ => REST,
        };
        if damaged {
            tracing::error!(%extent, %fault, "an extent with garbage is damaged and stays as it is; run `cairn check` when stopped");
            self.tally.errors += 1;
        } else {
            self.failed(
                "extent",
                &Fault::new(fault.kind, format!("{extent}: {}", fault.what)),
            );
        }
        self.resting.insert(extent, (now + rest, fault.kind));
        Ok(())
    }

    /// Seals open extents once their writers have let them go; how many were. The others are asked again in the next pass.
    async fn seal(&mut self, extents: &[(ExtentId, Epoch)]) -> Result<usize, End> {
        let begun = self.world.clock.mono();
        let mut waiting = extents.to_vec();
        let mut sealed = 0;
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
        self.tally.compacted += 1;
        self.tally.reclaimed_bytes += before.saturating_sub(status.end);
        tracing::debug!(%extent, generation = decision.generation.0, dropped = decision.needles.len(), kept = status.needles, "extent compacted");
        match status.needles {
            0 => self.bury(usage).await,
            _ => Ok(()),
        }
    }

    /// Waits for a compaction as long as it goes on, and lets it go faster once room is short.
    async fn compacting(
        &mut self,
        pace: &Pace,
        compacting: impl Future<Output = Result<ExtentStatus, Fault>> + Send,
    ) -> Result<ExtentStatus, End> {
        let mut compacting = pin!(compacting);
        let mut progress = Progress::since(self.world.clock.mono());
        loop {
            tokio::select! {
                biased;
                answer = compacting.as_mut() =>
                    return answer.map_err(|f| End::Failed(Fault::new(f.kind, format!("compact: {}", f.what)))),
                slept = self.sleep(self.settings.look) => slept?,
            }
            if let Err(End::Stopped) = self.look().await {
                return Err(End::Stopped);
            }
            pace.set_share(self.level().share_percent());
            let stands = progress.stands(pace.pieces(), self.world.clock.mono());
            if stands >= self.settings.compaction_stall {
                let what = format!("compact: nothing was done in {stands:?}");
                return Err(End::Failed(Fault::new(ErrorKind::Unknown, what)));
            }
        }
    }

    /// Ends an extent in which nothing is left: told to nobody, then its files, then its rows.
    async fn bury(&mut self, usage: &ExtentUse) -> Result<(), End> {
        let (extent, control) = (usage.extent, self.roles.control.clone());
        self.call("gone", control.gone(extent)).await?;
        for node in self.nodes_of(usage)? {
            self.call("remove", node.remove(extent)).await?;
        }
        self.call("forget", control.forget(extent)).await?;
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
