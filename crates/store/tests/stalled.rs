//! A journal that has no room for the record at its head, and an index whose generation cannot be whole before that record is in: they do
//! not wait for each other.

use bytes::Bytes;
use extent::LogBatch;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use store::embedded::{Done, Embedded, Log};
use store::{Batch, Committed, Fence, Store, StoreError};
use tokio::task::JoinHandle;
use types::{DiskId, JournalSeq, LogSeq, PartitionId};
use world::real::RealDisk;
use world::{Disk, Exec, Overlay, World};

const ID: PartitionId = PartitionId::FIRST_DATA;

/// A journal with room for a few records: what does not fit waits in its queue, in order.
#[derive(Default)]
struct Narrow {
    queue: VecDeque<(JournalSeq, Done)>,
    held: Vec<JournalSeq>,
    next: u64,
    room: usize,
}

#[derive(Clone, Default)]
struct NarrowLog(Arc<Mutex<Narrow>>);

impl Log for NarrowLog {
    fn disk(&self) -> DiskId {
        DiskId(7)
    }
    fn submit(&self, _: LogBatch, done: Done) -> Result<JournalSeq, StoreError> {
        let mut narrow = self.0.lock().unwrap();
        narrow.next += 1;
        let place = JournalSeq(narrow.next);
        narrow.queue.push_back((place, done));
        Ok(place)
    }
    fn next(&self) -> JournalSeq {
        JournalSeq(self.0.lock().unwrap().next + 1)
    }
    fn release(&self, below: JournalSeq) {
        self.0.lock().unwrap().held.retain(|place| *place >= below);
    }
    fn out_of_service(&self, why: &str) {
        panic!("{why}");
    }
}

impl NarrowLog {
    fn set_room(&self, records: usize) {
        self.0.lock().unwrap().room = records;
    }

    /// The head of the queue is synced, if there is room for it.
    fn land(&self) -> bool {
        let mut narrow = self.0.lock().unwrap();
        if narrow.held.len() >= narrow.room {
            return false;
        }
        let Some((place, done)) = narrow.queue.pop_front() else {
            return false;
        };
        narrow.held.push(place);
        drop(narrow);
        done(Ok(()));
        true
    }

    fn is_stalled(&self) -> bool {
        !self.0.lock().unwrap().queue.is_empty()
    }
}

struct Rig {
    journal: NarrowLog,
    engine: Arc<Embedded>,
    _below: tempfile::TempDir,
}

fn rig(records: usize) -> Rig {
    let below = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Overlay::new(Arc::new(RealDisk::open(below.path()).unwrap())));
    let world = World {
        exec: Exec::Inline,
        ..World::real()
    };
    let journal = NarrowLog::default();
    journal.set_room(records);
    let engine = Embedded::open_on(&world, disk, Box::new(journal.clone()), Vec::new(), &[]).unwrap();
    Rig {
        journal,
        engine: Arc::new(engine),
        _below: below,
    }
}

impl Rig {
    /// Everything goes on as long as it can. A journal that comes to a stop asks for room once.
    async fn run(&self) {
        let mut asked = false;
        for _ in 0..200 {
            if self.journal.land() {
                asked = false;
            } else if self.journal.is_stalled() && !asked {
                self.engine.press();
                asked = true;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The same where somebody asked before, and nobody asks again.
    async fn run_unasked(&self) {
        for _ in 0..200 {
            self.journal.land();
            tokio::task::yield_now().await;
        }
    }

    async fn take(&self) -> Fence {
        let engine = self.engine.clone();
        let taken = tokio::spawn(async move { engine.take(ID).await });
        self.run().await;
        taken.await.unwrap().unwrap()
    }

    /// A commit under way.
    async fn begin(&self, fence: Fence) -> JoinHandle<Committed> {
        let engine = self.engine.clone();
        let n = fence.sequence.0;
        let batch = Batch {
            rows: vec![(Bytes::from(format!("key-{n}")), Some(Bytes::from(vec![7; 50])))],
            behind: Vec::new(),
        };
        let committing = tokio::spawn(async move { engine.commit(fence, batch).await });
        // It is queued.
        tokio::task::yield_now().await;
        committing
    }

    async fn rows(&self) -> usize {
        let snapshot = self.engine.snapshot(ID).await.unwrap();
        let keys: Vec<Bytes> = (0..9).map(|n| Bytes::from(format!("key-{n}"))).collect();
        snapshot.get(&keys).await.unwrap().into_iter().flatten().count()
    }
}

async fn done(committing: JoinHandle<Committed>) -> Fence {
    assert!(
        committing.is_finished(),
        "the journal waits for the index, and the index for the journal"
    );
    match committing.await.unwrap() {
        Committed::Done(fence) => fence,
        other => panic!("{other:?}"),
    }
}

fn after(fence: Fence) -> Fence {
    Fence {
        sequence: LogSeq(fence.sequence.0 + 1),
        ..fence
    }
}

/// The journal's head has no room before records go that the index holds; their generation is frozen with a batch that is in the
/// journal's queue, so that it is never whole before the head has room.
// I1
#[tokio::test]
async fn a_journal_without_room_gets_what_is_durable_of_a_generation() {
    let rig = rig(2);
    let fence = rig.take().await;
    let second = rig.begin(fence).await;
    rig.run().await;
    let mut fence = done(second).await;
    assert_eq!(rig.journal.0.lock().unwrap().held.len(), 2, "it is full");
    for rows in 2..6 {
        let committing = rig.begin(fence).await;
        rig.run().await;
        fence = done(committing).await;
        assert_eq!(rig.rows().await, rows);
    }
}

/// The same where the index was asked before any of the generation was durable: it goes on with the first batch that is.
#[tokio::test]
async fn what_becomes_durable_under_pressure_is_written_behind() {
    let rig = rig(9);
    let fence = rig.take().await;
    rig.engine.checkpoint().await.unwrap();
    rig.journal.set_room(1);
    let second = rig.begin(fence).await;
    let third = rig.begin(after(fence)).await;
    rig.engine.press();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    rig.run_unasked().await;
    done(second).await;
    done(third).await;
    assert_eq!(rig.rows().await, 2);
}
