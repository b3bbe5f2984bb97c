//! Who writes a group, and what goes with it.

use super::ring::Ring;
use super::writer::{Position, SharedWriter, Writer};
use super::zeroes::Closes;
use super::*;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread::{self, ThreadId};
use types::{Epoch, LogSeq, PartitionId};
use world::{DiskFile, Exec, Loop};

/// A file that forgets; what happens while it syncs is the test's.
#[derive(Default)]
struct File {
    syncs: AtomicU64,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    takes: Mutex<Duration>,
    now: Mutex<Duration>,
}

impl DiskFile for File {
    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        *self.now.lock().unwrap() += *self.takes.lock().unwrap();
        let meanwhile = self.meanwhile.lock().unwrap().take();
        meanwhile.into_iter().for_each(|f| f());
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct FileClock(Arc<File>);

impl Clock for FileClock {
    fn wall_ms(&self) -> u64 {
        0
    }
    fn mono(&self) -> Duration {
        *self.0.now.lock().unwrap()
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// The journal's loop is the test itself.
struct Asleep;

impl Loop<()> for Asleep {
    fn apply(&mut self, _: &mut Vec<()>) {}
}

struct Rig {
    file: Arc<File>,
    journal: Journal,
    writer: SharedWriter,
    /// Which threads heard that a batch is durable, and after how many syncs.
    heard: Arc<Mutex<Vec<(ThreadId, u64)>>>,
    /// How many batches are told to be unknown.
    unknown: Arc<AtomicU64>,
}

impl Rig {
    fn new() -> Self {
        let file = Arc::new(File::default());
        let shared = Arc::new(Shared::new(
            DiskId(1),
            Arc::new(FileClock(file.clone())),
            1 << 20,
            1,
        ));
        let at = Position {
            // A lap that is not the first has nothing to zero.
            ring: Ring::new(16 << 20, 0, 1),
            incarnation: 1,
            begun: 1,
            continues: 0,
            previous_crc: 0,
            known_synced: 0,
            low_water: 0,
        };
        let writer = Writer::new(shared.clone(), file.clone(), 7, at);
        let closes = Closes(writer.ahead());
        let writer = SharedWriter::new(writer);
        let (wake, _end) = Exec::Threads.run_loop("asleep", 1, 1, Asleep);
        let journal = Journal::new(shared, wake, Some(writer.clone()), closes);
        Self {
            file,
            journal,
            writer,
            heard: Arc::default(),
            unknown: Arc::default(),
        }
    }

    /// The loop is awake.
    fn turn(&mut self) {
        self.writer.apply(&mut Vec::new());
    }

    fn batch(&self) -> (LogBatch, Done) {
        let batch = LogBatch {
            partition: PartitionId(16),
            epoch: Epoch(1),
            sequence: LogSeq(1),
            members: vec![],
            previous_crc: 0,
            payload: Bytes::from_static(b"rows"),
        };
        let (file, heard, unknown) = (self.file.clone(), self.heard.clone(), self.unknown.clone());
        let done: Done = Box::new(move |result| match result {
            Ok(()) => {
                let said = (thread::current().id(), file.syncs.load(Ordering::Relaxed));
                heard.lock().unwrap().push(said);
            }
            Err(ExtentError::Unknown(_)) => _ = unknown.fetch_add(1, Ordering::Relaxed),
            Err(other) => panic!("{other}"),
        });
        (batch, done)
    }

    fn submit(&self) -> JournalSeq {
        let (batch, done) = self.batch();
        self.journal.submit_batch(batch, done).unwrap()
    }

    fn submit_to_drive(&self) -> JournalSeq {
        let (batch, done) = self.batch();
        self.journal.submit_batch_to_drive(batch, done).unwrap()
    }

    fn needle(journal: &Journal) -> JournalSeq {
        let pieces = [Bytes::from_static(b"needle"), Bytes::new(), Bytes::new()];
        journal
            .submit(RecordType::Needle, pieces, Urgency::Lazy, None)
            .unwrap()
    }

    fn syncs(&self) -> u64 {
        self.file.syncs.load(Ordering::Relaxed)
    }
}

#[test]
fn a_needle_that_came_during_a_sync_waits_for_its_batch() {
    let mut rig = Rig::new();
    let journal = rig.journal.clone();
    *rig.file.meanwhile.lock().unwrap() = Some(Box::new(move || _ = Rig::needle(&journal)));
    let first = rig.submit();
    rig.turn();
    assert_eq!((rig.syncs(), rig.journal.synced()), (1, first));
    let second = rig.submit();
    rig.turn();
    assert_eq!((rig.syncs(), rig.journal.synced()), (2, second));
    // One that nothing follows does not wait for ever.
    let last = Rig::needle(&rig.journal);
    rig.turn();
    assert_eq!(rig.syncs(), 2);
    rig.journal.tick();
    rig.turn();
    assert_eq!((rig.syncs(), rig.journal.synced()), (3, last));
}

/// I1: whoever drives hears of it after the sync, on its own thread, and what it queued is in it.
#[test]
fn who_drives_a_group_has_it_synced() {
    let rig = Rig::new();
    let needle = Rig::needle(&rig.journal);
    let batch = rig.submit_to_drive();
    assert_eq!((rig.syncs(), rig.journal.synced()), (0, JournalSeq(0)));
    rig.journal.drive();
    assert!(needle < batch && rig.journal.synced() == batch);
    assert_eq!(*rig.heard.lock().unwrap(), [(thread::current().id(), 1)]);
}

/// I1: what is queued beside a sync is not taken for synced by it, and the loop comes to it.
#[test]
fn who_cannot_drive_leaves_it_to_the_loop() {
    let mut rig = Rig::new();
    let (batch, done) = rig.batch();
    let journal = rig.journal.clone();
    let beside = move || {
        journal.submit_batch_to_drive(batch, done).unwrap();
        journal.drive();
    };
    *rig.file.meanwhile.lock().unwrap() = Some(Box::new(beside));
    let first = rig.submit_to_drive();
    rig.journal.drive();
    assert_eq!(
        (rig.journal.synced(), rig.heard.lock().unwrap().len()),
        (first, 1)
    );
    rig.turn();
    let after: Vec<u64> = rig
        .heard
        .lock()
        .unwrap()
        .iter()
        .map(|(_, syncs)| *syncs)
        .collect();
    assert_eq!(after, [1, 2]);
}

/// A thread that serves clients does not wait for a slow disk.
#[test]
fn slow_syncs_are_the_loops() {
    let mut rig = Rig::new();
    let drives = |rig: &Rig| {
        let before = rig.syncs();
        rig.submit_to_drive();
        rig.journal.drive();
        rig.syncs() > before
    };
    assert!(drives(&rig));
    *rig.file.takes.lock().unwrap() = Duration::from_millis(10);
    assert!(drives(&rig), "who knows before");
    for _ in 0..10 {
        assert!(!drives(&rig));
        rig.turn();
    }
    *rig.file.takes.lock().unwrap() = Duration::from_micros(50);
    for _ in 0..50 {
        rig.submit();
        rig.turn();
    }
    assert!(drives(&rig), "it is fast again");
}

/// I1: a device that is asked by two at once to write its cache out tells its error to one of them.
#[test]
fn a_sync_beside_one_that_failed_is_no_sync() {
    let mut rig = Rig::new();
    let journal = rig.journal.clone();
    *rig.file.meanwhile.lock().unwrap() = Some(Box::new(move || journal.fail("a needle's sync failed")));
    rig.submit();
    rig.turn();
    assert_eq!(rig.heard.lock().unwrap().len(), 0, "nothing is acknowledged");
    assert_eq!(
        (rig.unknown.load(Ordering::Relaxed), rig.journal.synced()),
        (1, JournalSeq(0))
    );
    assert!(rig.journal.check().is_err());
}
