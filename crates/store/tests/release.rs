//! Whenever the embedded engine lets the journal forget batches, its files have them. // I1

#[allow(dead_code, reason = "each test uses its part")]
mod journal;

use bytes::Bytes;
use extent::LogBatch;
use journal::TestJournal;
use std::sync::{Arc, Mutex};
use store::embedded::{Done, Embedded, Log};
use store::{Batch, Committed, Rows, Scan, Store, StoreError};
use types::limits::SCAN_ROWS_MAX;
use types::{DiskId, JournalSeq, PartitionId};
use world::real::RealDisk;
use world::{Disk, Exec, Overlay, World};

const PARTITIONS: [PartitionId; 3] = [PartitionId(16), PartitionId(17), PartitionId(18)];
const OWNER: DiskId = DiskId(7);

type Batches = Vec<(JournalSeq, LogBatch)>;

/// What was there when the journal was told what it may forget.
struct Moment {
    files: Vec<(String, Vec<u8>)>,
    /// Every batch until then, and those that the journal was to keep.
    history: Batches,
    kept: Batches,
}

#[derive(Default)]
struct Seen {
    history: Batches,
    moments: Vec<Moment>,
}

/// A journal whose releases are looked at.
struct Witness {
    journal: Box<dyn Log>,
    disk: Arc<dyn Disk>,
    seen: Arc<Mutex<Seen>>,
}

impl Log for Witness {
    fn disk(&self) -> DiskId {
        self.journal.disk()
    }
    fn submit(&self, batch: LogBatch, done: Done) -> Result<JournalSeq, StoreError> {
        let place = self.journal.submit(batch.clone(), done)?;
        self.seen.lock().unwrap().history.push((place, batch));
        Ok(place)
    }
    fn next(&self) -> JournalSeq {
        self.journal.next()
    }
    fn out_of_service(&self, why: &str) {
        self.journal.out_of_service(why);
    }
    fn release(&self, below: JournalSeq) {
        let mut seen = self.seen.lock().unwrap();
        let history = seen.history.clone();
        let kept = history.iter().filter(|(place, _)| *place >= below);
        seen.moments.push(Moment {
            files: files_of(&*self.disk),
            kept: kept.cloned().collect(),
            history,
        });
        self.journal.release(below);
    }
}

fn files_of(disk: &dyn Disk) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let path = format!("index/{name}");
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (path, bytes)
    };
    disk.list("index").unwrap().into_iter().map(read).collect()
}

fn world() -> World {
    World {
        exec: Exec::Inline,
        ..World::real()
    }
}

fn empty_disk(below: &tempfile::TempDir) -> Arc<dyn Disk> {
    Arc::new(Overlay::new(Arc::new(RealDisk::open(below.path()).unwrap())))
}

/// The rows of all partitions as an engine finds them in `files` and `log`.
async fn rows_of(files: &[(String, Vec<u8>)], log: Batches) -> Result<Vec<Rows>, StoreError> {
    let below = tempfile::tempdir().unwrap();
    let disk = empty_disk(&below);
    disk.create_dir("index").unwrap();
    for (path, bytes) in files {
        disk.create(path).unwrap().write_all_at(bytes, 0).unwrap();
    }
    let world = world();
    let journal = TestJournal::new(OWNER, &world);
    let engine = Embedded::open_on(&world, disk, journal.log(), log, &[])?;
    let mut all = Vec::new();
    for partition in PARTITIONS {
        let scan = Scan {
            start: Bytes::from_static(b"\0"),
            end: Bytes::from_static(b"\xff"),
            max: SCAN_ROWS_MAX,
        };
        all.push(engine.snapshot(partition).await?.scan(&scan).await?);
    }
    Ok(all)
}

#[tokio::test]
async fn what_the_journal_may_forget_is_in_the_files() {
    let below = tempfile::tempdir().unwrap();
    let (world, disk) = (world(), empty_disk(&below));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let journal = TestJournal::new(OWNER, &world);
    let witness = Witness {
        journal: journal.log(),
        disk: disk.clone(),
        seen: seen.clone(),
    };
    let engine = Embedded::open_on(&world, disk, Box::new(witness), Vec::new(), &[]).unwrap();
    engine.set_step_bytes(200);
    let mut fences = Vec::new();
    for partition in PARTITIONS {
        fences.push(engine.take(partition).await.unwrap());
    }
    for n in 0..60_u64 {
        let fence = &mut fences[(n * 7 % 3) as usize];
        let row = |i: u64| {
            let key = Bytes::from(format!("key-{:02}", (n * 13 + i * 5) % 40));
            (key, (i < 3).then(|| Bytes::from(vec![n as u8; 60])))
        };
        let batch = Batch {
            rows: (0..4).map(row).collect(),
            behind: Vec::new(),
        };
        match engine.commit(*fence, batch).await {
            Committed::Done(next) => *fence = next,
            other => panic!("{other:?}"),
        }
        // All partitions at once, as under pressure, and now and then one after the other.
        if n % 5 == 4 {
            engine.press();
        }
        if n % 20 == 19 {
            engine.checkpoint().await.unwrap();
        }
    }
    engine.shutdown().await.unwrap();
    let moments = std::mem::take(&mut seen.lock().unwrap().moments);
    let mut held = 0;
    for (n, moment) in moments.into_iter().enumerate() {
        let batches = moment.history.len();
        held += usize::from(!moment.kept.is_empty() && moment.kept.len() < batches);
        let found = rows_of(&moment.files, moment.kept).await;
        let want = rows_of(&[], moment.history).await.unwrap();
        assert!(
            found.as_ref().is_ok_and(|found| *found == want),
            "release {n}, after {batches} batches: {:?}",
            found.err()
        );
    }
    assert!(held > 5, "{held} releases let some batches go and kept others");
}
