//! The embedded engine keeps the suite's promises on the simulated disk, where a crash takes what was not synced.

mod store_machine;

use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use std::sync::Arc;
use store::{Store, suite};
use store_machine::{Machine, Running, life};

struct Rig {
    machine: Machine,
    running: Running,
}

fn rig(seed: u64) -> Rig {
    let mut machine = Machine::on(SimDisk::new(seed, 256 << 20), seed);
    // Room for the largest batch there is.
    machine.journal_bytes = 40 << 20;
    let running = machine.open().unwrap();
    Rig { machine, running }
}

#[async_trait::async_trait]
impl suite::Rig for Rig {
    fn store(&self) -> Arc<dyn Store> {
        self.running.engine.clone()
    }
    async fn crash(&mut self) {
        self.machine.disk.clear_plan();
        self.machine.disk.crash();
        self.running = self.machine.open().unwrap();
    }
    async fn settle(&mut self) {
        self.running.engine.checkpoint().await.unwrap();
    }
    fn next_commit_unknown(&mut self) -> bool {
        self.machine
            .disk
            .plan(Fault::new(FaultKind::SyncError, 0).on("journal"));
        true
    }
}

#[test]
fn it_conforms() {
    for seed in 0..3 {
        life(suite::all(async || rig(seed)));
    }
}
