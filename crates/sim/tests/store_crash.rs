//! The embedded index through power cuts at every disk operation. // I1, I11

mod store_machine;

use sim::disk::{Fault, FaultKind};
use store_machine::{Machine, Progress, life};

const COMMITS: u64 = 24;
const EVERY: u64 = 6;

/// One run that is cut off at the `after`-th operation that changes the disk. `false`: it was over before.
fn cut(seed: u64, after: u64) -> bool {
    let machine = Machine::new(seed);
    machine.disk.plan(Fault::new(FaultKind::PowerOff, after));
    let mut progress = Progress::default();
    let whole = life(async {
        let running = machine.open().ok()?;
        progress.run(&running.engine, COMMITS, EVERY).await;
        running.stop().await.ok()
    });
    machine.disk.clear_plan();
    machine.disk.crash();
    life(async {
        let running = machine.open().unwrap_or_else(|e| panic!("cut at {after}: {e}"));
        progress
            .agree(&running.engine)
            .await
            .unwrap_or_else(|e| panic!("cut at {after}: {e}"));
        progress.run(&running.engine, COMMITS + 8, 5).await;
        assert_eq!(progress.ended, None, "cut at {after}");
    });
    // Once more, without an orderly stop.
    machine.disk.crash();
    life(async {
        let running = machine
            .open()
            .unwrap_or_else(|e| panic!("cut at {after}, again: {e}"));
        progress
            .agree(&running.engine)
            .await
            .unwrap_or_else(|e| panic!("cut at {after}, again: {e}"));
    });
    whole.is_none()
}

#[test]
fn a_cut_at_any_operation_loses_nothing() {
    let mut after = 0;
    while cut(after, after) {
        after += 1;
    }
    assert!(after > 100, "the script has {after} operations");
}
