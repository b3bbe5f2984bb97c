//! Power cuts and failed operations, one at each operation of a compaction and of a removal.

use crate::stage::*;
use extent::{DataDir, ExtentError};
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};

/// Compacts X twice and Z to nothing, removes Z, and goes on appending to Y.
async fn act(outside: &mut Outside, dir: &DataDir) -> Result<(), ExtentError> {
    let consumer = dir.journal().consumer("store");
    consumer.release(dir.journal().next());
    outside.compact(dir, X, 1, 2).await?;
    outside.put(dir, Y, 900).await?;
    outside.compact(dir, Z, 1, 1).await?;
    dir.checkpoint()?;
    outside.compact(dir, X, 3, 3).await?;
    outside.remove_z(dir).await?;
    outside.put(dir, Y, 90_000).await?;
    consumer.release(dir.journal().next());
    dir.checkpoint()?;
    Ok(())
}

/// What is left of `act` after a crash; every step comes twice.
async fn go_on(outside: &mut Outside, dir: &DataDir) -> Result<(), ExtentError> {
    for (to, every) in [(1, 2), (3, 3)] {
        if outside.asked.get(&X).is_none_or(|asked| asked.0 <= to) {
            outside.compact(dir, X, to, every).await?;
        }
    }
    if !outside.removed && dir.status(Z).is_ok() {
        outside.compact(dir, Z, 1, 1).await?;
    }
    outside.remove_z(dir).await?;
    outside.put(dir, Y, 300).await?;
    dir.checkpoint()
}

/// Runs `act` with `faults` in it, cuts the power, opens with a cut after `again` operations of recovery, then looks, goes on and
/// looks again, in this life and in the next. Answers how many operations `act` was.
fn survive(seed: u64, faults: &[Fault], again: Option<u64>) -> Result<u64, String> {
    let disk = SimDisk::new(seed, 64 << 20);
    let mut outside = Outside::default();
    let before = life(async {
        let dir = open_whole(seed, &disk)?;
        if (seed + faults.first().map_or(0, |f| f.after)).is_multiple_of(2) {
            outside.set_up(&dir).await;
        } else {
            outside.fill(&dir).await;
        }
        faults.iter().for_each(|f| disk.plan(f.clone()));
        let before = disk.trace().0;
        let acted = act(&mut outside, &dir).await;
        if faults.is_empty() {
            acted.map_err(|e| e.to_string())?;
            check_files(&disk, &dir)?;
            outside.check(&dir)?;
        }
        Ok::<_, String>(before)
    })?;
    let operations = disk.trace().0 - before;
    disk.clear_plan();
    disk.crash();
    if let Some(after) = again {
        disk.plan(Fault::new(FaultKind::PowerOff, after));
        life(async { drop(open_whole(seed + 1, &disk)) });
        disk.clear_plan();
        disk.crash();
    }
    life(async {
        let dir = open_whole(seed + 2, &disk)?;
        check_files(&disk, &dir)?;
        outside.check(&dir)?;
        let went_on = go_on(&mut outside, &dir).await;
        went_on.map_err(|e| format!("it does not go on: {e}"))?;
        check_files(&disk, &dir)?;
        outside.check(&dir)
    })?;
    disk.crash();
    life(async {
        let dir = open_whole(seed + 3, &disk).map_err(|e| format!("in the end: {e}"))?;
        check_files(&disk, &dir)?;
        outside.check(&dir).map_err(|e| format!("in the end: {e}"))
    })?;
    Ok(operations)
}

fn sweep(seed: u64, every: usize) -> Result<(), String> {
    let operations = survive(seed, &[], None)?;
    assert!(operations > 100, "the script does something: {operations}");
    for after in (0..operations).step_by(every) {
        let fault = Fault::new(FaultKind::PowerOff, after);
        survive(seed + 1000 * after, &[fault], None)
            .map_err(|e| format!("power cut at {after} of {operations}, seed {seed}: {e}"))?;
    }
    Ok(())
}

// I3, I5, I7
#[test]
fn a_power_cut_at_every_operation() {
    // CAIRN_SIM_SEEDS=n tries the seeds 1 to n.
    let seeds = std::env::var("CAIRN_SIM_SEEDS").map_or(2, |n| n.parse().unwrap());
    for seed in 1..=seeds {
        sweep(seed, 1).unwrap();
    }
}

#[test]
fn a_second_power_cut_at_every_operation_of_recovery() {
    for first in (5..80).step_by(12) {
        for again in 0..14 {
            let fault = Fault::new(FaultKind::PowerOff, first);
            survive(first * 100 + again, &[fault], Some(again))
                .unwrap_or_else(|e| panic!("cut at {first}, then at {again} of recovery: {e}"));
        }
    }
}

/// The disk goes out of service, and what was acked is there when it is opened again.
#[test]
fn a_failed_write_or_sync_loses_nothing_that_was_acked() {
    for kind in [FaultKind::WriteError, FaultKind::SyncError] {
        for after in 0..60 {
            survive(after / 2, &[Fault::new(kind, after)], None)
                .unwrap_or_else(|e| panic!("{kind:?} at {after}: {e}"));
        }
    }
}
