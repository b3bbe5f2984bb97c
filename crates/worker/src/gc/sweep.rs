//! Runs what `orphans.rs` plans: walks extents for needles whose name never came.

use crate::gc::orphans::{self, Ages, Suspect};
use crate::gc::plan;
use crate::gc::run::{End, Gc};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use types::limits::DOUBTS_MAX;
use types::{ErrorKind, ExtentId, NeedleId};
use wire::Fault;
use wire::control::{Dropped, ExtentUse};
use wire::index::{Command, Reach, Unnamed};
use wire::node::{WalkCursor, WalkDepth};
use wire::records::answer::Kind;
use world::plant::{Plant, is_planted};

/// When an extent in which something could not be told is walked again.
const AGAIN: Duration = Duration::from_secs(3600);

/// What was seen of some needles.
struct Swept {
    /// Each could be told what it is.
    known: bool,
    /// How long until the youngest that is left alone for now is old.
    old_in: Option<Duration>,
}

impl Gc {
    /// Walks the extents in which an orphan may be.
    pub(crate) async fn sweep(&mut self) -> Result<(), End> {
        let control = self.roles.control.clone();
        let uses = self.call("uses", control.uses()).await?;
        let levels = plan::extent_levels(&uses, &self.levels);
        let now = self.world.clock.mono();
        for (extent, is_sealed) in orphans::to_sweep(&uses, &levels, &self.again, now) {
            if self.is_outdated() {
                break;
            }
            let Some(usage) = uses.iter().find(|u| u.extent == extent) else {
                continue;
            };
            match self.sweep_extent(usage).await {
                Err(End::Stopped) => return Err(End::Stopped),
                Err(End::Failed(fault)) if fault.kind == ErrorKind::NotFound => {
                    // Its node never had it, or it is gone: nothing to look at.
                    self.sweep_again(extent, AGAIN);
                }
                Err(End::Failed(fault)) => {
                    self.failed(
                        "sweep",
                        &Fault::new(fault.kind, format!("{extent}: {}", fault.what)),
                    );
                    self.sweep_again(extent, AGAIN);
                }
                Ok(swept) if is_sealed && swept.known && swept.old_in.is_none() => {
                    self.call("swept", control.swept(extent)).await?;
                    self.again.remove(&extent);
                }
                Ok(swept) if is_sealed => {
                    self.sweep_again(extent, swept.old_in.unwrap_or(AGAIN));
                }
                // What dead sessions left in it was seen; once it is sealed it is walked in any case.
                Ok(_) => {
                    self.sweep_again(extent, Duration::ZERO);
                }
            }
        }
        Ok(())
    }

    fn sweep_again(&mut self, extent: ExtentId, wait: Duration) {
        let at = self.world.clock.mono() + wait;
        self.again.insert(extent, at);
    }

    async fn sweep_extent(&mut self, usage: &ExtentUse) -> Result<Swept, End> {
        let extent = usage.extent;
        let control = self.roles.control.clone();
        let dropped: BTreeSet<NeedleId> = self
            .call("dropped", control.dropped(extent))
            .await?
            .into_iter()
            .collect();
        let node = usage
            .replicas
            .first()
            .and_then(|(id, _)| self.roles.nodes.get(id))
            .cloned();
        let node =
            node.ok_or_else(|| Fault::new(ErrorKind::Unavailable, format!("no way to extent {extent}")))?;
        let mut swept = Swept {
            known: true,
            old_in: None,
        };
        let mut cursor = WalkCursor::default();
        loop {
            let begun = self.world.clock.mono();
            let page = self
                .call("walk", node.walk(extent, cursor, WalkDepth::Heads, DOUBTS_MAX))
                .await?;
            let (suspects, known) = orphans::suspects(extent, &page.found, &dropped);
            let asked = self.ask(suspects).await?;
            swept.known &= known && asked.known;
            swept.old_in = swept.old_in.max(asked.old_in);
            match page.next {
                None => return Ok(swept),
                Some(next) => cursor = next,
            }
            self.rest(begun).await?;
        }
    }

    /// Asks about needles; of what cannot be read of the index (or of a dropped list) only what needs it stays in doubt.
    async fn ask(&mut self, suspects: Vec<Suspect>) -> Result<Swept, End> {
        let mut swept = Swept {
            known: true,
            old_in: None,
        };
        let mut batches = vec![suspects];
        while let Some(mut batch) = batches.pop() {
            match self.ask_at_once(batch.clone()).await {
                Ok(some) => {
                    swept.known &= some.known;
                    swept.old_in = swept.old_in.max(some.old_in);
                }
                Err(End::Failed(fault)) if fault.kind == ErrorKind::Corrupt => {
                    swept.known &= batch.len() > 1;
                    if batch.len() > 1 {
                        batches.push(batch.split_off(batch.len() / 2));
                        batches.push(batch);
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(swept)
    }

    /// Asks the index about needles, has the old orphans among them condemned, and drops what may go.
    async fn ask_at_once(&mut self, suspects: Vec<Suspect>) -> Result<Swept, End> {
        let mut swept = Swept {
            known: true,
            old_in: None,
        };
        if suspects.is_empty() {
            return Ok(swept);
        }
        let doubts = suspects.iter().map(|s| s.doubt.clone()).collect();
        let index = self.roles.index.clone();
        let reached = self.call("reached", index.reached(doubts)).await?;
        let now = self.world.clock.mono();
        let in_step = self.clocks.in_step_since().unwrap_or(now);
        let ages = Ages {
            now_ms: self.world.clock.wall_ms(),
            in_step: now.saturating_sub(in_step),
            horizon: self.settings.horizon,
        };
        let verdict = orphans::judge(suspects, &reached.each, &ages);
        let mut going: Vec<Dropped> = verdict.drop.iter().map(Suspect::dropped).collect();
        let condemned = self.condemn(&verdict.condemn, reached.unnamed).await?;
        // The commit may have taken one for named that is not: it looks at what came since, and not at all of it.
        swept.known = condemned.len() == verdict.condemn.len();
        swept.old_in = verdict.old_in;
        going.extend(condemned);
        self.tally.orphans += going.len() as u64;
        self.drop_needles(&going).await?;
        Ok(swept)
    }

    /// Those of the needles of which it is promised now that nothing will ever name them.
    async fn condemn(&mut self, suspects: &[Suspect], unnamed: Unnamed) -> Result<Vec<Dropped>, End> {
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        if is_planted(Plant::CondemnWithoutCommit) {
            return Ok(suspects.iter().map(Suspect::dropped).collect());
        }
        let old: BTreeSet<(ExtentId, NeedleId)> = suspects.iter().map(Suspect::place).collect();
        let unnamed = unnamed.only(|d| old.contains(&(d.extent, d.needle)));
        let Kind::Condemn(answer) = self.commands.send(Command::Condemn { unnamed }).await? else {
            return Err(Fault::new(ErrorKind::Fault, "another answer than to Condemn").into());
        };
        assert_eq!(
            answer.reach.len(),
            suspects.len(),
            "an answer a needle, in their order"
        );
        let condemned = |(_, reach): &(&Suspect, &u8)| Reach::from_number(**reach) == Some(Reach::Condemned);
        let going = suspects.iter().zip(&answer.reach).filter(condemned);
        Ok(going.map(|(suspect, _)| suspect.dropped()).collect())
    }

    /// Needles that gateways gave up: nobody will name them, so they need not grow old.
    pub(crate) async fn take_abandoned(&mut self) -> Result<(), End> {
        for gateway in self.roles.gateways.clone() {
            let abandoned = gateway.abandoned(DOUBTS_MAX);
            let suspects: Vec<Suspect> = abandoned
                .into_iter()
                .map(|a| Suspect {
                    doubt: a.doubt,
                    stored_length: a.stored_length,
                    written_ms: None,
                })
                .collect();
            self.ask(suspects).await?;
        }
        Ok(())
    }

    /// Lets promises about needles of ended sessions go: nothing could name those anyway.
    pub(crate) async fn forget_condemned(&mut self) -> Result<(), End> {
        let mut after = Bytes::new();
        loop {
            let begun = self.world.clock.mono();
            let Kind::ForgetCondemned(answer) =
                self.commands.send(Command::ForgetCondemned { after }).await?
            else {
                return Err(Fault::new(ErrorKind::Fault, "another answer than to ForgetCondemned").into());
            };
            if answer.next.is_empty() {
                return Ok(());
            }
            after = answer.next.into();
            self.rest(begun).await?;
        }
    }
}
