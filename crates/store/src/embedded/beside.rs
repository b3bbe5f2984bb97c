//! What others may do while the loop writes behind, and after it could not.

use super::log::{Done, Log};
use super::*;
use crate::{Scan, SnapshotStream, next_rows};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use types::DiskId;
use types::limits::{
    INDEX_REFUSED_MS, INDEX_REOPEN_MS, INDEX_REST_BYTES, INDEX_REST_READS_MAX, ROW_KEY_BYTES_MAX,
    SCAN_ROWS_MAX,
};
use world::real::RealDisk;
use world::{DiskFile, DiskLock, Exec, Overlay, Space};

const ID: PartitionId = PartitionId::FIRST_DATA;

type Hook = Box<dyn Fn() + Send>;

/// What is done at each write and sync of a file, and what fails.
#[derive(Default)]
struct Ways {
    hook: Mutex<Option<Hook>>,
    is_full: AtomicBool,
    no_opens: AtomicBool,
    no_writes: AtomicBool,
    no_reads: AtomicBool,
    reads: AtomicU64,
}

impl Ways {
    fn looked(&self) {
        if let Some(hook) = &*self.hook.lock().unwrap() {
            hook();
        }
    }
}

fn judge(fails: &AtomicBool, error: i32) -> io::Result<()> {
    match fails.load(Ordering::Relaxed) {
        true => Err(io::Error::from_raw_os_error(error)),
        false => Ok(()),
    }
}

struct Watched(Overlay, Arc<Ways>);
struct WatchedFile(Arc<dyn DiskFile>, Arc<Ways>);

impl Watched {
    fn file(&self, file: io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        judge(&self.1.no_opens, 24)?; // EMFILE
        Ok(Arc::new(WatchedFile(file?, self.1.clone())))
    }
}

impl Disk for Watched {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(self.0.create(path))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(self.0.open(path))
    }
    fn exists(&self, path: &str) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock(path)
    }
}

impl DiskFile for WatchedFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.reads.fetch_add(1, Ordering::Relaxed);
        judge(&self.1.no_reads, 5)?; // EIO
        self.0.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.looked();
        judge(&self.1.no_writes, 28)?; // ENOSPC
        if offset + buf.len() as u64 > self.0.len()? {
            judge(&self.1.is_full, 28)?; // ENOSPC
        }
        self.0.write_all_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.looked();
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }
}

/// A journal that has synced a record when the others had their turn.
#[derive(Default)]
struct Soon(AtomicU64);

impl Log for Soon {
    fn disk(&self) -> DiskId {
        DiskId(7)
    }
    fn submit(&self, _: LogBatch, done: Done) -> Result<JournalSeq, StoreError> {
        tokio::spawn(async move { done(Ok(())) });
        Ok(JournalSeq(self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }
    fn next(&self) -> JournalSeq {
        JournalSeq(self.0.load(Ordering::Relaxed) + 1)
    }
    fn release(&self, _: JournalSeq) {}
    fn out_of_service(&self, _: &str) {}
}

#[derive(Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn mono(&self) -> Duration {
        Duration::from_millis(self.wall_ms())
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::task::yield_now())
    }
}

struct Rig {
    engine: Embedded,
    ways: Arc<Ways>,
    clock: Arc<Hands>,
    _below: tempfile::TempDir,
}

fn rig() -> Rig {
    let below = tempfile::tempdir().unwrap();
    let ways = Arc::<Ways>::default();
    let under = Overlay::new(Arc::new(RealDisk::open(below.path()).unwrap()));
    let disk = Arc::new(Watched(under, ways.clone()));
    let clock = Arc::<Hands>::default();
    let world = World {
        exec: Exec::Inline,
        clock: clock.clone(),
        ..World::real()
    };
    // No page is read from memory.
    let prepared = Prepared::within(disk, DiskId(7), Vec::new(), &[], 0).unwrap();
    let engine = Embedded::start(&world, prepared, Box::new(Soon::default()));
    Rig {
        engine,
        ways,
        clock,
        _below: below,
    }
}

impl Rig {
    async fn commit(&self, fence: Fence, rows: std::ops::Range<u64>) -> Fence {
        let row = |n: u64| {
            let key = Bytes::from(format!("key-{n:05}"));
            (key, Some(Bytes::from(vec![n as u8; 300])))
        };
        let batch = Batch {
            rows: rows.map(row).collect(),
            behind: Vec::new(),
        };
        match self.engine.commit(fence, batch).await {
            Committed::Done(fence) => fence,
            other => panic!("{other:?}"),
        }
    }

    /// A partition whose files cannot be opened anew, though the log has rows of it; the fence of another.
    async fn with_files_closed(&self) -> Fence {
        let mut fence = self.engine.take(ID).await.unwrap();
        fence = self.commit(fence, 0..1000).await;
        let others = self.engine.take(PartitionId(ID.0 + 1)).await.unwrap();
        let others = self.commit(others, 0..1).await;
        self.engine.checkpoint().await.unwrap();
        self.ways.no_reads.store(true, Ordering::Relaxed);
        self.engine.rest_now();
        others_run().await;
        assert!(self.rows().await.is_err());
        // It is not open; the log takes it all the same.
        self.commit(fence, 1000..1001).await;
        others
    }

    /// How many rows there are.
    async fn rows(&self) -> Result<usize, StoreError> {
        let snapshot = self.engine.snapshot(ID).await?;
        let mut scan = Scan {
            start: Bytes::from_static(b"k"),
            end: Bytes::from_static(b"l"),
            max: SCAN_ROWS_MAX,
        };
        let mut count = 0;
        loop {
            let rows = snapshot.scan(&scan).await?;
            count += rows.len();
            match rows.last() {
                Some((last, _)) if rows.len() == scan.max => {
                    scan.start = [&last[..], b"\0"].concat().into();
                }
                _ => return Ok(count),
            }
        }
    }
}

async fn others_run() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// A commit may still put its rows into a generation that is written behind up to an earlier batch; whoever reads behind it would wait, too.
// I9
#[tokio::test]
async fn nobody_waits_for_the_disk_to_get_at_a_generation() {
    let rig = rig();
    rig.engine.set_step_bytes(2000);
    let mut fence = rig.engine.take(ID).await.unwrap();
    fence = rig.commit(fence, 0..50).await;
    rig.commit(fence, 50..60).await;
    let generation = rig
        .engine
        .core
        .find(ID)
        .unwrap()
        .durable()
        .unwrap()
        .0
        .active
        .clone();
    let looks = Arc::new([const { AtomicU64::new(0) }; 2]);
    let counts = looks.clone();
    *rig.ways.hook.lock().unwrap() = Some(Box::new(move || {
        let is_free = generation.rows.try_write().is_ok();
        counts[usize::from(is_free)].fetch_add(1, Ordering::Relaxed);
    }));
    rig.engine.checkpoint().await.unwrap();
    let [held, free] = [0, 1].map(|n| looks[n].load(Ordering::Relaxed));
    assert!(
        held == 0 && free > 20,
        "held while the disk worked: {held} of {}",
        held + free
    );
    assert_eq!(rig.rows().await, Ok(60));
}

/// Files that could not be opened anew after a failure are tried again for whoever reads, though nothing is to be written.
#[tokio::test]
async fn files_that_could_not_be_opened_anew_are_tried_again() {
    let rig = rig();
    let mut fence = rig.engine.take(ID).await.unwrap();
    for page in 0..20 {
        fence = rig.commit(fence, 100 * page..100 * page + 100).await;
    }
    rig.engine.checkpoint().await.unwrap();
    rig.commit(fence, 2000..4000).await;
    for fails in [&rig.ways.is_full, &rig.ways.no_opens] {
        fails.store(true, Ordering::Relaxed);
    }
    let told = rig.engine.checkpoint().await;
    assert!(matches!(told, Err(StoreError::Full(_))), "{told:?}");
    assert!(
        matches!(rig.rows().await, Err(StoreError::Busy(_))),
        "they are closed"
    );
    others_run().await;
    // The disk is still full: nothing but a reader asks.
    rig.ways.no_opens.store(false, Ordering::Relaxed);
    assert!(
        matches!(rig.rows().await, Err(StoreError::Busy(_))),
        "not asked all the time"
    );
    rig.clock.0.fetch_add(INDEX_REOPEN_MS, Ordering::Relaxed);
    drop(rig.rows().await);
    others_run().await;
    assert_eq!(rig.rows().await, Ok(4000));
}

const PATH: &str = "index/0000000000000010.redb";

impl Rig {
    /// Both heads of the file, with others in their place.
    fn heads(&self, others: Option<&[u8]>) -> Vec<u8> {
        let file = self.engine.core.disk.open(PATH).unwrap();
        let mut heads = vec![0; 16384];
        file.read_exact_at(&mut heads, 0).unwrap();
        if let Some(others) = others {
            file.write_all_at(others, 0).unwrap();
        }
        heads
    }

    /// Has somebody ask for rows when the loop looks again.
    async fn asked_again(&self) -> Result<usize, StoreError> {
        self.clock.0.fetch_add(INDEX_REOPEN_MS, Ordering::Relaxed);
        drop(self.rows().await);
        others_run().await;
        self.rows().await
    }
}

/// Why files cannot be opened anew is what is answered, not that they will be; and it passes with its cause. // I5
#[tokio::test]
async fn what_keeps_files_from_being_opened_anew_is_told() {
    let rig = rig();
    let mut fence = rig.engine.take(ID).await.unwrap();
    for page in 0..20 {
        fence = rig.commit(fence, 100 * page..100 * page + 100).await;
    }
    rig.engine.checkpoint().await.unwrap();
    rig.commit(fence, 2000..4000).await;
    for fails in [&rig.ways.is_full, &rig.ways.no_opens] {
        fails.store(true, Ordering::Relaxed);
    }
    assert!(matches!(rig.engine.checkpoint().await, Err(StoreError::Full(_))));
    assert!(
        matches!(rig.asked_again().await, Err(StoreError::Busy(_))),
        "there is no descriptor"
    );
    rig.ways.no_opens.store(false, Ordering::Relaxed);
    let heads = rig.heads(Some(&[0; 16384]));
    for _ in 0..3 {
        let told = rig.asked_again().await;
        assert!(
            matches!(&told, Err(StoreError::Corrupt(what)) if what.contains(PATH)),
            "{told:?}"
        );
        let told = rig.engine.checkpoint().await;
        assert!(
            matches!(&told, Err(StoreError::Corrupt(what)) if what.contains(PATH)),
            "{told:?}"
        );
    }
    rig.heads(Some(&heads));
    assert_eq!(rig.asked_again().await, Ok(4000));
    rig.ways.is_full.store(false, Ordering::Relaxed);
    rig.engine.checkpoint().await.unwrap();
    assert_eq!(rig.rows().await, Ok(4000));
}

fn under(row: &[u8]) -> Option<Bytes> {
    // Rows are `key-nnnnn`: as many as share all but the last two digits count as one.
    let mut end = row[..row.len() - 2].to_vec();
    *end.last_mut()? += 1;
    Some(end.into())
}

impl Rig {
    async fn leap(&self, first: &'static str) -> Vec<Bytes> {
        let scan = Scan {
            start: Bytes::from_static(first.as_bytes()),
            end: Bytes::from_static(b"l"),
            max: 30,
        };
        let snapshot = self.engine.snapshot(ID).await.unwrap();
        let rows = snapshot.leap(&scan, &under).await.unwrap();
        rows.into_iter().map(|(key, _)| key).collect()
    }

    fn reads(&self) -> u64 {
        self.ways.reads.swap(0, Ordering::Relaxed)
    }
}

/// A listing that is asked for again reads hardly anything, until what it reads has changed.
#[tokio::test]
async fn what_was_leapt_to_is_remembered() {
    let rig = rig();
    let mut fence = rig.engine.take(ID).await.unwrap();
    for page in 0..25 {
        fence = rig.commit(fence, 100 * page..100 * page + 80).await;
    }
    rig.engine.checkpoint().await.unwrap();
    let _before = rig.reads();
    let first = rig.leap("k").await;
    assert_eq!(first.len(), 25);
    let searched = rig.reads();
    assert_eq!(rig.leap("k").await, first);
    let again = rig.reads();
    assert!(again * 3 < searched, "{again} pages read again of {searched}");
    // From elsewhere, too, and with the rows that came since: in memory, and then in the files.
    assert_eq!(
        rig.leap("key-00450").await,
        first[4..]
            .iter()
            .cloned()
            .map(|key| {
                if key == first[4] {
                    Bytes::from_static(b"key-00450")
                } else {
                    key
                }
            })
            .collect::<Vec<_>>()
    );
    rig.commit(fence, 2590..2601).await;
    let more: Vec<Bytes> = first
        .iter()
        .cloned()
        .chain(["key-02590".into(), "key-02600".into()])
        .collect();
    assert_eq!(rig.leap("k").await, more);
    rig.engine.checkpoint().await.unwrap();
    assert_eq!(rig.leap("k").await, more);
}

/// What redb has of the files in memory goes while nobody reads; who reads is not disturbed, and who comes meanwhile waits.
#[tokio::test]
async fn files_at_rest_are_not_kept_in_memory() {
    let rig = rig();
    let cached = || {
        let (view, _) = rig.engine.core.find(ID).unwrap().durable().unwrap();
        let form = view.form.as_ref().unwrap();
        form.files()[0].uses.counts().1
    };
    let mut fence = rig.engine.take(ID).await.unwrap();
    for page in 0..100 {
        fence = rig.commit(fence, 100 * page..100 * page + 100).await;
    }
    rig.engine.checkpoint().await.unwrap();
    while cached() < 2 * INDEX_REST_BYTES {
        assert_eq!(rig.rows().await, Ok(10_000));
    }
    // Somebody stands on it: also where rows were written behind since.
    let before = rig.engine.snapshot(ID).await.unwrap();
    fence = rig.commit(fence, 10_000..10_001).await;
    rig.engine.checkpoint().await.unwrap();
    for _ in 0..5 {
        rig.engine.rest();
        others_run().await;
    }
    let key = Bytes::from_static(b"key-00007");
    assert!(matches!(&before.get(&[key]).await.unwrap()[..], [Some(_)]));
    assert!(cached() > INDEX_REST_BYTES);
    drop(before);
    // It was read just now, and then not.
    for _ in 0..=INDEX_REST_READS_MAX {
        let snapshot = rig.engine.snapshot(ID).await.unwrap();
        snapshot.get(&[Bytes::from_static(b"key-00008")]).await.unwrap();
    }
    rig.engine.rest();
    others_run().await;
    assert!(cached() > INDEX_REST_BYTES);
    rig.engine.rest();
    rig.engine.rest();
    let partition = rig.engine.core.find(ID).unwrap();
    let came = Arc::new([const { AtomicU64::new(0) }; 2]);
    let counts = came.clone();
    *rig.ways.hook.lock().unwrap() = Some(Box::new(move || {
        let mut awake = std::pin::pin!(partition.awake());
        let polled = awake
            .as_mut()
            .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        counts[usize::from(polled.is_pending())].fetch_add(1, Ordering::Relaxed);
    }));
    others_run().await;
    let [served, waits] = [0, 1].map(|n| came[n].load(Ordering::Relaxed));
    assert!(
        served == 0 && waits > 0,
        "{served} snapshots of files that are being closed, {waits} wait"
    );
    *rig.ways.hook.lock().unwrap() = None;
    fence = rig.commit(fence, 10_001..10_002).await;
    assert_eq!(rig.rows().await, Ok(10_002));
    others_run().await;
    assert!(cached() < INDEX_REST_BYTES, "{}", cached());
    rig.commit(fence, 10_002..10_003).await;
    rig.engine.checkpoint().await.unwrap();
    assert_eq!(rig.rows().await, Ok(10_003));
}

/// A page that the device does not give: clients that poll it wait for the device once in a while, not each time. // I9
#[tokio::test]
async fn a_device_that_says_no_is_not_asked_by_every_poll() {
    let rig = rig();
    let fence = rig.engine.take(ID).await.unwrap();
    rig.commit(fence, 0..1000).await;
    rig.engine.checkpoint().await.unwrap();
    assert_eq!(rig.rows().await, Ok(1000));
    let asked = || rig.ways.reads.swap(0, Ordering::Relaxed);
    asked();
    rig.ways.no_reads.store(true, Ordering::Relaxed);
    for _ in 0..1000 {
        assert!(matches!(rig.rows().await, Err(StoreError::Corrupt(_))));
    }
    let snapshot = rig.engine.snapshot(ID).await.unwrap();
    let scan = Scan {
        start: Bytes::from_static(&[0]),
        end: Bytes::from_static(&[0xFF]),
        max: 100,
    };
    let past = next_rows(&*snapshot, scan, ROW_KEY_BYTES_MAX).await.unwrap();
    assert!(past.rows.is_empty() && past.lost.is_some());
    assert_eq!(asked(), 3, "patiently, once");
    let a_while = |ms| rig.clock.0.fetch_add(ms, Ordering::Relaxed);
    a_while(INDEX_REFUSED_MS);
    for _ in 0..1000 {
        assert!(matches!(rig.rows().await, Err(StoreError::Corrupt(_))));
    }
    assert_eq!(asked(), 1, "one asks again");
    rig.ways.no_reads.store(false, Ordering::Relaxed);
    assert!(rig.rows().await.is_err());
    a_while(INDEX_REFUSED_MS);
    assert_eq!(rig.rows().await, Ok(1000));
}

/// A device that gives nothing while files are at rest: that is told, and when it gives again they are opened for whoever reads, though there is
/// nothing to write.
#[tokio::test]
async fn files_that_cannot_be_read_after_their_rest_are_opened_again() {
    let rig = rig();
    let fence = rig.engine.take(ID).await.unwrap();
    rig.commit(fence, 0..100).await;
    rig.engine.checkpoint().await.unwrap();
    rig.ways.no_reads.store(true, Ordering::Relaxed);
    rig.engine.rest_now();
    others_run().await;
    for _ in 0..2 {
        let told = rig.asked_again().await;
        assert!(
            matches!(&told, Err(StoreError::Corrupt(what)) if what.contains(PATH)),
            "{told:?}"
        );
    }
    rig.ways.no_reads.store(false, Ordering::Relaxed);
    assert_eq!(rig.asked_again().await, Ok(100));
    assert_eq!(
        rig.engine.core.all()[0].oldest(),
        None,
        "there is nothing to write"
    );
}

/// A disk that is full, or has no descriptor left, while files rest: they are read from as before, and written once it can be.
#[tokio::test]
async fn files_that_cannot_rest_are_opened_again() {
    let rig = rig();
    let mut fence = rig.engine.take(ID).await.unwrap();
    for page in 0..20 {
        fence = rig.commit(fence, 100 * page..100 * page + 100).await;
    }
    rig.engine.checkpoint().await.unwrap();
    for fails in [&rig.ways.is_full, &rig.ways.no_opens] {
        fails.store(true, Ordering::Relaxed);
        rig.engine.rest_now();
        others_run().await;
        assert_eq!(rig.rows().await, Ok(2000));
        fails.store(false, Ordering::Relaxed);
    }
    // The same where not even the closing can be written; then they are closed until there is room.
    rig.ways.no_writes.store(true, Ordering::Relaxed);
    rig.engine.rest_now();
    others_run().await;
    assert!(rig.rows().await.is_err());
    rig.ways.no_writes.store(false, Ordering::Relaxed);
    assert_eq!(rig.asked_again().await, Ok(2000));
    assert_eq!(rig.rows().await, Ok(2000));
    // The journal wants room, and nothing of theirs keeps it from that: what comes is not refused for what went wrong at rest.
    rig.engine.press();
    others_run().await;
    rig.engine.core.pressed.store(true, Ordering::Relaxed);
    rig.commit(fence, 2000..2001).await;
    rig.engine.checkpoint().await.unwrap();
    assert_eq!(rig.rows().await, Ok(2001));
}

/// The journal is one: what a partition can never write behind takes its room from all others. They hear that, and wait for nothing.
#[tokio::test]
async fn what_is_never_written_behind_holds_nobody_up() {
    let rig = rig();
    let others = rig.with_files_closed().await;
    rig.engine.press();
    others_run().await;
    let batch = Batch {
        rows: vec![(Bytes::from_static(b"key"), None)],
        behind: Vec::new(),
    };
    for _ in 0..2 {
        match rig.engine.commit(others, batch.clone()).await {
            Committed::NotDone(e @ StoreError::Failed(_)) => {
                assert!(
                    e.to_string()
                        .contains("partition 0000000000000010 is not written behind"),
                    "{e}"
                );
            }
            told => panic!("{told:?}"),
        }
        others_run().await;
    }
    // It can be read again: whoever is refused has it tried.
    rig.ways.no_reads.store(false, Ordering::Relaxed);
    let _refused = rig.engine.commit(others, batch).await;
    others_run().await;
    rig.commit(others, 1..2).await;
    assert_eq!(rig.rows().await, Ok(1001));
}

/// Nor is anybody refused where there is room, and rows are written behind so that they need not be in memory.
#[tokio::test]
async fn rest_wants_no_room() {
    let rig = rig();
    let others = rig.with_files_closed().await;
    let next = rig.engine.at_rest(JournalSeq::default());
    assert_eq!(rig.engine.at_rest(next), next);
    rig.engine.settle(next);
    others_run().await;
    rig.commit(others, 1..2).await;
}

/// What was replayed at a start is written behind, whatever has come since.
#[tokio::test]
async fn what_is_from_before_the_start_settles() {
    let rig = rig();
    let fence = rig.engine.take(ID).await.unwrap();
    let begun = rig.engine.core.log.next();
    let fence = rig.commit(fence, 0..10).await;
    rig.engine.checkpoint().await.unwrap();
    rig.commit(fence, 10..20).await;
    let oldest = || rig.engine.core.find(ID).unwrap().oldest();
    rig.engine.settle(begun);
    others_run().await;
    assert!(oldest().is_some(), "it is all from after that");
    rig.engine.settle(rig.engine.core.log.next());
    others_run().await;
    assert_eq!(oldest(), None);
    assert_eq!(rig.rows().await, Ok(20));
}

/// What a backup past damage leaves out is lost in what replaces the index: a device that gives it a little later is asked once more. // I3
#[tokio::test]
async fn who_copies_past_damage_asks_again_before_it_leaves_rows_out() {
    struct Later(Arc<Ways>, AtomicU64);
    impl Clock for Later {
        fn wall_ms(&self) -> u64 {
            5
        }
        fn mono(&self) -> Duration {
            Duration::from_millis(5)
        }
        fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.no_reads.store(false, Ordering::Relaxed);
            Box::pin(std::future::ready(()))
        }
    }
    let rig = rig();
    let fence = rig.engine.take(ID).await.unwrap();
    rig.commit(fence, 0..1000).await;
    rig.engine.shutdown().await.unwrap();
    let index = Prepared::past_damage(&rig.engine.core.disk, DiskId(7), Vec::new(), &[]).unwrap();
    let clock = Arc::new(Later(rig.ways.clone(), AtomicU64::new(0)));
    let mut stream = SnapshotStream::past_damage(Arc::new(index), clock.clone(), DiskId(7)).unwrap();
    rig.ways.no_reads.store(true, Ordering::Relaxed);
    rig.ways.reads.store(0, Ordering::Relaxed);
    while stream.next().await.unwrap().is_some() {}
    assert!(
        rig.ways.reads.load(Ordering::Relaxed) > 3,
        "the pages are not in memory"
    );
    assert_eq!(stream.lost(), []);
    assert_eq!(clock.1.load(Ordering::Relaxed), 1);
}
