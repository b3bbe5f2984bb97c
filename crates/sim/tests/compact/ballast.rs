//! The ballast comes back however a compaction ends that was given it: new data never sees its room.

use crate::room::ballast;
use crate::stage::*;
use extent::{Compaction, DataDir, ExtentError};
use node::LocalNode;
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use types::{ErrorKind, Generation, Kind, NeedleId, NodeId};
use wire::node::{Node, Pace};
use world::Disk;

/// A disk as full as new data makes it, with an extent that fits the ballast once `dropped` is gone from it.
struct Full {
    disk: SimDisk,
    outside: Outside,
    dropped: Vec<NeedleId>,
}

impl Full {
    async fn new(seed: u64) -> (Self, DataDir) {
        let disk = SimDisk::new(seed, 64 << 20);
        let mut outside = Outside::default();
        let dir = open_whole(seed, &disk).unwrap();
        outside.set_up(&dir).await;
        dir.tend_ballast().unwrap();
        disk.set_capacity(disk.used() + BALLAST_BYTES / 2);
        let large = |n: &&mut Needle| n.extent == X && n.length > 1_000_000;
        outside.needles.iter_mut().find(large).unwrap().dropped = true;
        let dropped = outside.dropped(X);
        outside.asked.insert(X, Generation(1));
        let full = Self {
            disk,
            outside,
            dropped,
        };
        (full, dir)
    }

    fn begin(&self, dir: &DataDir) -> Compaction {
        let begun = dir.begin_compaction(X, Generation(1), &self.dropped);
        assert!(ballast(&self.disk) < BALLAST_BYTES, "it is in the ballast");
        begun.unwrap().unwrap()
    }

    /// Damages the last needle of X.
    fn damage(&self) {
        let last = self.outside.needles.iter().rfind(|n| n.extent == X).unwrap();
        let file = Disk::open(&self.disk, &format!("extents/{X}")).unwrap();
        file.write_all_at(b"?", last.appended.offset + 25).unwrap();
    }

    /// The ballast is whole, and new data finds no room still.
    async fn check(&mut self, dir: &DataDir, how: &str) {
        assert_eq!(ballast(&self.disk), BALLAST_BYTES, "{how}");
        let e = self.outside.put(dir, Y, 70_000).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Full, "{how}: {e}");
        check_files(&self.disk, dir).unwrap();
    }
}

#[test]
fn a_compaction_that_fails_or_is_dropped_owes_its_ballast() {
    life(async {
        let (mut full, dir) = Full::new(61).await;
        // Again and again: nothing of it is lost on the way.
        for stop in 0..6 {
            let mut compaction = full.begin(&dir);
            for _ in 0..stop {
                compaction.step(2 << 10).unwrap();
            }
            drop(compaction);
            dir.checkpoint().unwrap();
            full.check(&dir, "dropped").await;
        }
        full.damage();
        let mut compaction = full.begin(&dir);
        let e = loop {
            match compaction.step(64 << 10) {
                Ok(done) => assert!(!done, "it copied a damaged needle"),
                Err(e) => break e,
            }
        };
        assert!(matches!(e, ExtentError::Corrupt(_)), "{e}");
        drop(compaction);
        dir.checkpoint().unwrap();
        full.check(&dir, "damaged").await;
    });
}

#[test]
fn a_process_that_dies_in_a_compaction_owes_its_ballast() {
    let (mut full, stop) = life(async {
        let (full, dir) = Full::new(62).await;
        let mut compaction = full.begin(&dir);
        compaction.step(2 << 10).unwrap();
        (full, compaction)
    });
    full.disk.kill();
    drop(stop);
    life(async {
        let dir = open_whole(63, &full.disk).unwrap();
        full.check(&dir, "killed").await;
        full.outside.check(&dir).unwrap();
    });
}

/// Cut off anywhere between the new generation and the ballast that comes back for it, the next start owes it, also where there is
/// no file left that says so.
#[test]
fn a_power_cut_owes_the_ballast() {
    let mut cuts = 0;
    loop {
        let (full, cut) = life(async {
            let (full, dir) = Full::new(600 + cuts).await;
            let mut compaction = full.begin(&dir);
            while !compaction.step(64 << 10).unwrap() {}
            full.disk.plan(Fault::new(FaultKind::PowerOff, cuts));
            let (done, outcome) = done();
            if compaction.finish(done).is_ok() && acked(outcome).await.is_ok() {
                // As a node gives back what it reclaimed.
                let _back = dir.sweep().and_then(|()| dir.regrow_ballast());
            }
            let cut = full.disk.planned() == 0;
            (full, cut)
        });
        full.disk.clear_plan();
        full.disk.crash();
        life(async {
            let dir = open_whole(63, &full.disk).unwrap();
            dir.checkpoint().unwrap();
            assert_eq!(ballast(&full.disk), BALLAST_BYTES, "cut at {cuts}");
            check_files(&full.disk, &dir).unwrap();
            full.outside.check(&dir).unwrap();
        });
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts} cuts");
}

/// A node takes it back at once.
#[test]
fn a_node_takes_the_ballast_back_from_what_failed() {
    life(async {
        let (full, dir) = Full::new(64).await;
        full.damage();
        let node = LocalNode::new(world(64), NodeId(1), vec![dir.clone()]);
        for _ in 0..3 {
            let pace = Pace::of(100);
            let compacted = node.compact(X, Generation(1), full.dropped.clone(), &pace);
            assert_eq!(compacted.await.unwrap_err().kind, ErrorKind::Corrupt);
            assert_eq!(ballast(&full.disk), BALLAST_BYTES);
            check_files(&full.disk, &dir).unwrap();
        }
        node.shutdown().await;
    });
}
