//! The embedded engine keeps the suite's promises, here on a disk in memory and a journal that does what it says.

mod journal;

use journal::TestJournal;
use std::sync::Arc;
use store::embedded::Embedded;
use store::{Store, suite};
use types::DiskId;
use world::real::RealDisk;
use world::{Disk, Exec, Overlay, World};

struct EmbeddedRig {
    world: World,
    disk: Arc<dyn Disk>,
    journal: TestJournal,
    engine: Arc<Embedded>,
    /// The directory under the overlay stays empty.
    _below: tempfile::TempDir,
}

fn world() -> World {
    World {
        exec: Exec::Inline,
        ..World::real()
    }
}

async fn rig() -> EmbeddedRig {
    let below = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Overlay::new(Arc::new(RealDisk::open(below.path()).unwrap())));
    let world = world();
    let journal = TestJournal::new(DiskId(7), &world);
    let engine = Embedded::open_on(&world, disk.clone(), journal.log(), Vec::new(), &[]).unwrap();
    EmbeddedRig {
        world,
        disk,
        journal,
        engine: Arc::new(engine),
        _below: below,
    }
}

impl EmbeddedRig {
    async fn reopen(&mut self) {
        let engine = Embedded::open_on(
            &self.world,
            self.disk.clone(),
            self.journal.log(),
            self.journal.kept(),
            &[],
        );
        self.engine = Arc::new(engine.unwrap());
    }
}

#[async_trait::async_trait]
impl suite::Rig for EmbeddedRig {
    fn store(&self) -> Arc<dyn Store> {
        self.engine.clone()
    }
    async fn crash(&mut self) {
        self.engine.abandon().await;
        self.journal.crash(&self.world);
        self.reopen().await;
    }
    async fn settle(&mut self) {
        self.engine.checkpoint().await.unwrap();
        assert!(
            self.journal.kept().is_empty(),
            "a checkpoint releases the journal"
        );
    }
    fn next_commit_unknown(&mut self) -> bool {
        self.journal.fail_next();
        true
    }
}

#[tokio::test]
async fn it_conforms() {
    suite::all(rig).await;
}

/// A batch missing from the log, or lost after its end, stops the partition; it is never cut short.
#[tokio::test]
async fn a_gap_in_the_log_is_corruption() {
    let rig = rig().await;
    let id = types::PartitionId::FIRST_DATA;
    let mut fence = rig.engine.take(id).await.unwrap();
    for n in 0..4_u8 {
        let rows = vec![(vec![b'k', n].into(), Some(vec![n].into()))];
        suite::commit(
            rig.engine.as_ref(),
            &mut fence,
            store::Batch {
                rows,
                behind: Vec::new(),
            },
        )
        .await;
    }
    rig.engine.abandon().await;
    let whole = rig.journal.kept();
    let last = whole.last().unwrap().0;
    let lost = extent::Lost {
        from: last,
        to: types::JournalSeq(last.0 + 1),
        kind: None,
    };
    for gone in 0..whole.len() {
        let mut batches = whole.clone();
        batches.remove(gone);
        // The last one's absence shows only in what the journal says of it.
        let lost = if gone + 1 == whole.len() {
            vec![lost]
        } else {
            Vec::new()
        };
        let engine = Embedded::open_on(
            &rig.world,
            rig.disk.clone(),
            TestJournal::new(DiskId(7), &rig.world).log(),
            batches,
            &lost,
        )
        .unwrap();
        let got = engine.snapshot(id).await.err();
        assert!(
            matches!(got, Some(store::StoreError::Corrupt(_))),
            "without batch {gone}: {got:?}"
        );
        assert!(matches!(
            engine.take(id).await,
            Err(store::StoreError::Corrupt(_))
        ));
    }
}
