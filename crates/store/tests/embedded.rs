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
