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
    /// Each settling goes into another file.
    over: bool,
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
        over: false,
        _below: below,
    }
}

async fn rig_of_many_files() -> EmbeddedRig {
    EmbeddedRig {
        over: true,
        ..rig().await
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
        if self.over {
            self.engine.begin_over();
        }
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

/// A file over another changes nothing that anybody reads.
#[tokio::test]
async fn it_conforms_over_many_files() {
    suite::all(rig_of_many_files).await;
    let mut rig = rig_of_many_files().await;
    let id = types::PartitionId::FIRST_DATA;
    let mut fence = rig.engine.take(id).await.unwrap();
    for n in 0..3_u8 {
        let rows = vec![(vec![b'k'].into(), Some(vec![n].into()))];
        let behind = Vec::new();
        suite::commit(rig.engine.as_ref(), &mut fence, store::Batch { rows, behind }).await;
        suite::Rig::settle(&mut rig).await;
    }
    assert!(
        rig.disk.exists("index/0000000000000010-2.redb").unwrap(),
        "three files"
    );
}

/// A scan of removed rows lets others have the thread.
// I9
#[tokio::test]
async fn a_scan_over_removed_rows_pauses() {
    let mut rig = rig_of_many_files().await;
    let id = types::PartitionId::FIRST_DATA;
    let mut fence = rig.engine.take(id).await.unwrap();
    let key = |n: u32| bytes::Bytes::copy_from_slice(&[&b"k"[..], &n.to_be_bytes()].concat());
    for value in [Some(bytes::Bytes::from_static(b"v")), None] {
        for part in 0..20 {
            let rows = (part * 1000..(part + 1) * 1000).map(|n| (key(n), value.clone()));
            let rows = rows.filter(|(k, v)| v.is_some() || *k != key(19_999)).collect();
            let behind = Vec::new();
            suite::commit(rig.engine.as_ref(), &mut fence, store::Batch { rows, behind }).await;
        }
        suite::Rig::settle(&mut rig).await;
    }
    let snapshot = rig.engine.snapshot(id).await.unwrap();
    let scan = store::Scan {
        start: key(0),
        end: key(u32::MAX),
        max: 10,
    };
    let mut scanned = polled(snapshot.scan(&scan));
    assert!(scanned.pauses > 3, "{}", scanned.pauses);
    let rows = scanned.rows.take().unwrap().unwrap();
    assert_eq!(rows, [(key(19_999), bytes::Bytes::from_static(b"v"))]);
}

struct Polled<T> {
    pauses: usize,
    rows: Option<T>,
}

/// Polls until it is done, and counts.
fn polled<T>(future: impl Future<Output = T>) -> Polled<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut pauses = 0;
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(rows) => {
                let rows = Some(rows);
                return Polled { pauses, rows };
            }
            std::task::Poll::Pending => pauses += 1,
        }
    }
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
