//! The scrub at work on a machine, and what it finds held against what the disk did.
//!
//! ```text
//!   nothing damaged ─▶ it finds nothing       bits turned over ─▶ what it finds is where one did
//!   at rest: the next whole pass finds every needle that a walk of every byte finds damaged, and no other
//! ```

use crate::gc::Line;
use crate::look::{Damage, damaged};
use crate::machine::{Machine, NODE};
use crate::record::Recorder;
use crate::run::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::ExtentId;
use types::limits::SCRUB_FINDINGS_MAX;
use wire::Fault;
use wire::records::{ScrubPass, ScrubState, ScrubTally};
use wire::scrub::Scrubbing;
use worker::scrub::{Roles, Scrub, Settings};
use world::{Clock as _, World};

/// Longest time that a pass at rest may take: much more than its period.
const PASS_S_MAX: u64 = 3600;

/// The scrub at work; dropped, it is killed.
pub struct Scrubber {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Scrubber {
    /// Begins to read everything on `machine`, again every `period_ms`.
    pub fn begin(machine: &Machine, world: &World, line: Line, period_ms: u64) -> Self {
        let settings = Settings {
            period: Duration::from_millis(period_ms),
            share_percent: 100,
            keep: Duration::from_millis(period_ms / 20),
        };
        let roles = Roles {
            index: machine.index.clone(),
            control: Arc::new(Keeping {
                far: machine.control.clone(),
                recorder: line.recorder.clone(),
            }),
            nodes: BTreeMap::from([(NODE, machine.far_node(line))]),
        };
        let (stop, stopping) = watch::channel(false);
        let scrub = Scrub::new(world.clone(), settings, roles, stopping);
        Self {
            stop,
            task: tokio::spawn(scrub.run()),
        }
    }

    /// Stops it, and waits until it has.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A panic of its own is told by the run's hook.
        drop(self.task.await);
    }
}

/// Where the scrub keeps its place: what it says of what it found is written down first.
struct Keeping {
    far: Arc<control::ControlPlane>,
    recorder: Recorder,
}

impl Keeping {
    fn write_down(&self, state: &ScrubState) {
        let record = &mut *self.recorder.get();
        if let (0, Some(last)) = (state.begun_ms, &state.last) {
            let tally = last.tally.clone().unwrap_or_default();
            record.counts.add("scrub.passes", 1);
            record.counts.add("scrub.needles", tally.needles);
            record.counts.add("scrub.skipped", tally.skipped);
            record.scrubbed(&tally);
        }
        if let Some(tally) = &state.tally {
            record.scrubbed(tally);
        }
    }
}

#[async_trait::async_trait]
impl Scrubbing for Keeping {
    async fn scrub_state(&self) -> Result<ScrubState, Fault> {
        let state = self.far.scrub_state().await?;
        if state.begun_ms != 0 {
            self.recorder.count("scrub.goes_on");
        }
        Ok(state)
    }

    async fn keep_scrub_state(&self, state: &ScrubState) -> Result<(), Fault> {
        self.write_down(state);
        self.far.keep_scrub_state(state).await
    }
}

/// The extent and offset that a finding names, if it is of an extent.
pub fn place(finding: &str) -> Option<(ExtentId, Option<u64>)> {
    let rest = finding.strip_prefix("extent ")?;
    let end = rest.find([' ', ':'])?;
    let extent = ExtentId(u64::from_str_radix(&rest[..end], 16).ok()?);
    let offset = rest[end..].strip_prefix(" offset ").and_then(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..digits].parse().ok()
    });
    Some((extent, offset))
}

/// Waits for a whole pass that begins now, and holds what it found against every byte of every extent.
///
/// # Errors
/// It told of what is not so, or not of what is.
pub async fn at_rest(machine: &Machine, run: &Run) -> Result<(), String> {
    let tally = next_pass(machine, run).await?.tally.unwrap_or_default();
    if run.damage.elsewhere {
        return Ok(());
    }
    if !run.damage.any() && (tally.findings > 0 || tally.skipped > 0) {
        return Err(format!("I5: the scrub of an undamaged store says {tally:?}"));
    }
    let found = places(&tally);
    let there = damaged(machine)
        .await
        .map_err(|fault| format!("a walk at rest: {fault}"))?;
    let is_whole = (tally.findings as usize) < SCRUB_FINDINGS_MAX && tally.skipped == 0;
    if is_whole && found != there {
        return Err(format!(
            "I5: the scrub found {found:?}, a walk {there:?}: {tally:?}"
        ));
    }
    let counts = &mut run.recorder.get().counts;
    counts.add("scrub.rested", 1);
    counts.add("scrub.found_at_rest", found.len() as u64);
    Ok(())
}

fn places(tally: &ScrubTally) -> BTreeSet<(ExtentId, u64)> {
    let places = tally.found.iter().filter_map(|found| place(found));
    places
        .map(|(extent, offset)| (extent, offset.unwrap_or(0)))
        .collect()
}

/// The next but one to end: one that is under way may be past what was damaged since.
async fn next_pass(machine: &Machine, run: &Run) -> Result<ScrubPass, String> {
    let begun = run.clock.mono();
    let mut seen = None;
    let mut ended = 0;
    while run.clock.mono() - begun < Duration::from_secs(PASS_S_MAX) {
        let state = machine.control.scrub_state().await;
        let last = state.map_err(|fault| format!("the scrub's place: {fault}"))?.last;
        if let Some(before) = seen.replace(last.clone()).filter(|before| *before != last) {
            ended += 1;
            run.recorder.note(format_args!("a pass ended after {before:?}"));
        }
        match last {
            Some(last) if ended == 2 => return Ok(last),
            _ => run.clock.sleep(Duration::from_millis(20)).await,
        }
    }
    Err("the scrub comes to no end".into())
}

/// What is wrong with what was found in a life: damage where none was done.
pub fn unexplained<'a>(found: &'a [String], damage: &Damage) -> Option<&'a String> {
    found.iter().find(|found| match place(found) {
        Some((extent, offset)) => !damage.explains(extent, offset),
        None => !damage.elsewhere,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_its_place() {
        let of = |text| place(text).map(|(extent, offset)| (extent.0, offset));
        let needle = "extent 000100000000001f offset 4096 needle 3: block 0 is not what was written; object";
        assert_eq!(of(needle), Some((0x0001_0000_0000_001f, Some(4096))));
        assert_eq!(
            of("extent 000100000000001f: its head"),
            Some((0x0001_0000_0000_001f, None))
        );
        assert_eq!(of("journal: records 1 to 2"), None);
    }
}
