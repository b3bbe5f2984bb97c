//! Once a sync of its files has failed, the embedded index writes no more. // I1

mod store_machine;

use extent::ExtentError;
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use store::{Committed, Store, StoreError};
use store_machine::{Machine, Progress, commit_of, life};
use types::limits::RETRIES_MAX;
use types::{Epoch, ExtentId};
use world::Disk;

const COMMITS: u64 = 24;

/// Lets the loops run what they were asked.
async fn others_run() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn every_index_file(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list("index").unwrap();
    let read = |name: String| {
        let file = disk.open(&format!("index/{name}")).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// A failed sync is never tried again: the index is written no more in this life, whoever asks, and the disk takes nothing either.
#[test]
fn after_a_failed_sync_nothing_is_written_and_everybody_hears_why() {
    let mut after = 0;
    loop {
        let machine = Machine::new(after);
        let mut progress = Progress::default();
        let met = life(async {
            let running = machine.open().unwrap();
            machine
                .disk
                .plan(Fault::new(FaultKind::SyncError, after).on("index/"));
            progress.run(&running.engine, COMMITS, 4).await;
            others_run().await;
            if machine.disk.planned() > 0 {
                return false;
            }
            let before = every_index_file(&machine.disk);
            for n in 0..u64::from(RETRIES_MAX) {
                running.engine.press();
                others_run().await;
                let told = running.engine.checkpoint().await;
                let (partition, batch) = commit_of(n);
                let taken = running.engine.take(partition).await;
                let taken = taken.map(|fence| (fence, batch));
                let told = match (told, taken) {
                    (Ok(()), Ok((fence, batch))) => match running.engine.commit(fence, batch).await {
                        Committed::NotDone(e) => e,
                        other => panic!("failed at {after}: {other:?}"),
                    },
                    (Err(e), _) | (_, Err(e)) => e,
                };
                assert!(
                    matches!(&told, StoreError::Failed(why) if why.contains("index")),
                    "{told}"
                );
            }
            assert!(before == every_index_file(&machine.disk), "failed at {after}");
            let refused = running
                .dir
                .open_extent(ExtentId(7), Epoch(1), 1 << 20, Box::new(drop));
            assert!(
                matches!(refused, Err(ExtentError::OutOfService(_))),
                "failed at {after}"
            );
            // What can still be read is right.
            if let Err(e) = progress.agree(&running.engine).await {
                assert!(matches!(e, StoreError::Failed(_)), "failed at {after}: {e}");
            }
            true
        });
        if !met {
            assert!(after > 5, "{after} syncs");
            return;
        }
        after += 1;
    }
}
