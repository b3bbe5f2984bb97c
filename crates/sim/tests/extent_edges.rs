//! Corners of a data directory: a queue that is full at the wrong moment, a file cut short, a stop with nothing left to write.

use bytes::Bytes;
use extent::{Body, DataDir, DataDirConfig, Done, ExtentError, Head, LogBatch, Opened, Read};
use sim::{SimClock, SimDisk, SimRng};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use types::limits::SYNC_MARK_MS;
use types::{BlobId, BucketId, Epoch, ErrorKind, ExtentId, Kind, LogSeq, PartitionId, SessionId};
use world::{Clock, Disk, DiskFile, DiskLock, Exec, Space, World};

const X: ExtentId = ExtentId(0x1_0000_0000_0001);
const E1: Epoch = Epoch(1);
const EXTENT_BYTES: u64 = 1 << 20;

struct Machine {
    disk: SimDisk,
    clock: Arc<SimClock>,
    journal_bytes: u64,
    /// Whether there are no descriptors.
    starved: Arc<AtomicBool>,
}

/// A disk for a process that may have no descriptor left.
struct Starved(SimDisk, Arc<AtomicBool>);

impl Starved {
    fn check(&self) -> io::Result<()> {
        const EMFILE: i32 = 24;
        if self.1.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(())
    }
}

impl Disk for Starved {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.check().and_then(|()| self.0.create(path))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.check().and_then(|()| self.0.open(path))
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
        self.check().and_then(|()| self.0.list(dir))
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.check().and_then(|()| self.0.sync_dir(dir))
    }
    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
        self.check().and_then(|()| self.0.lock(path))
    }
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self {
            journal_bytes: 1 << 20,
            starved: Arc::default(),
            disk: SimDisk::new(seed, 64 << 20),
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
        }
    }

    fn open(&self) -> Opened {
        self.clock.boot();
        let world = World {
            clock: self.clock.clone(),
            rng: Arc::new(SimRng::new(7)),
            exec: Exec::Inline,
        };
        let config = DataDirConfig {
            journal_bytes: Some(self.journal_bytes),
            extent_bytes: Some(EXTENT_BYTES),
            extent_step_bytes: Some(64 << 10),
            ballast_bytes: Some(64 << 10),
            ..DataDirConfig::default()
        };
        let disk = Starved(self.disk.clone(), self.starved.clone());
        DataDir::open(&world, Arc::new(disk), config).unwrap()
    }
}

/// One life of the machine, and the power cut at its end.
fn life<T>(machine: &Machine, f: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let out = runtime.block_on(async {
        let out = f.await;
        machine.clock.halt();
        out
    });
    machine.disk.crash();
    out
}

async fn wait<T>(f: impl FnOnce(Done) -> Result<T, ExtentError>) -> Result<T, ExtentError> {
    let (tx, rx) = oneshot::channel();
    let out = f(Box::new(move |r| tx.send(r).unwrap()))?;
    rx.await.unwrap()?;
    Ok(out)
}

fn batch(n: u64, bytes: usize) -> LogBatch {
    LogBatch {
        partition: PartitionId(16),
        epoch: E1,
        sequence: LogSeq(n),
        members: vec![],
        previous_crc: 0,
        payload: Bytes::from(vec![n as u8; bytes]),
    }
}

fn head(serial: u64, length: usize) -> Head {
    Head {
        blob: BlobId::new(SessionId(1), serial),
        bucket: BucketId(9),
        key: format!("key {serial}"),
        upload: None,
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: length as u64,
        append_hlc: 5,
        session: SessionId(1),
    }
}

fn read(appended: &extent::Appended, serial: u64, hint: u64, length: u64) -> Read {
    Read {
        extent: X,
        needle: appended.needle,
        blob: BlobId::new(SessionId(1), serial),
        hint: (appended.generation, hint),
        length,
        first_block: 0,
        block_count: 1,
    }
}

/// A needle of one byte.
async fn put(dir: &DataDir, serial: u64) -> Result<extent::Appended, ExtentError> {
    // The crc32c of one zero byte.
    let body = Body {
        bytes: &[0],
        crcs: &[0x527d_5351],
    };
    wait(|done| dir.append((X, E1), head(serial, 1), body, Some(done))).await
}

/// An extent that could not be journalled is not there: asked for again, it is made, and it outlives a crash. // I1
#[test]
fn an_extent_refused_by_a_full_queue_is_made_when_asked_again() {
    let machine = Machine {
        // As many records as the queue takes find room in it.
        journal_bytes: 8 << 20,
        ..Machine::new(1)
    };
    life(&machine, async {
        let Opened { dir, .. } = machine.open();
        let full = (1..).find(|n| {
            let queued = dir.journal().submit_batch(batch(*n, 10), Box::new(|_| {}));
            queued.is_err_and(|e| e.kind() == ErrorKind::Busy)
        });
        assert!(full.is_some());
        let refused = wait(|done| dir.open_extent(X, E1, EXTENT_BYTES, done)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(dir.status(X), Err(ExtentError::NoExtent(X)));
        wait(|done| dir.open_extent(X, E1, EXTENT_BYTES, done))
            .await
            .expect_err("the journal has not run yet");
        tokio::task::yield_now().await;
        wait(|done| dir.open_extent(X, E1, EXTENT_BYTES, done))
            .await
            .unwrap();
        put(&dir, 1).await.unwrap();
    });
    life(&machine, async {
        let Opened { dir, report, .. } = machine.open();
        assert_eq!(report.damage, Vec::<String>::new());
        assert_eq!(dir.status(X).unwrap().needles, 1);
    });
}

/// A batch that finds no room because of how the ring lies, less than half of it held: whoever holds it is pressed.
#[test]
fn whoever_holds_the_tail_is_pressed_when_the_head_is_stuck() {
    let machine = Machine::new(3);
    life(&machine, async {
        let Opened { dir, .. } = machine.open();
        let store = dir.journal().consumer("store");
        let (tx, mut pressed) = mpsc::unbounded_channel();
        dir.journal().on_pressure(Box::new(move || tx.send(()).unwrap()));
        // Of 256 blocks 80 are written and released, then 100 held: 75 are left before the end and 80 at the start.
        for n in 1..=18 {
            wait(|done| dir.journal().submit_batch(batch(n, 40_000), done))
                .await
                .unwrap();
            if n == 8 {
                store.release(dir.journal().next());
                dir.checkpoint().unwrap();
            }
        }
        assert!(pressed.try_recv().is_err(), "less than half is held");
        let large = wait(|done| dir.journal().submit_batch(batch(19, 320_000), done));
        let release = async {
            pressed.recv().await.expect("the journal goes on");
            store.release(dir.journal().next());
            dir.checkpoint().unwrap();
            std::future::pending().await
        };
        tokio::select! {
            done = large => drop(done.unwrap()),
            () = release => {}
            () = machine.clock.sleep(Duration::from_secs(60)) => panic!("nobody was pressed"),
        }
        assert!(dir.journal().stats().stalls.load(Ordering::Relaxed) > 0);
    });
}

/// What was released before a stop in order does not come back, though nothing else was left to write.
#[test]
fn a_stop_in_order_records_what_was_released() {
    let machine = Machine::new(2);
    life(&machine, async {
        let Opened { dir, .. } = machine.open();
        let store = dir.journal().consumer("store");
        for n in 1..=20 {
            wait(|done| dir.journal().submit_batch(batch(n, 5000), done))
                .await
                .unwrap();
        }
        // Idle long enough, the last sync is named by a mark.
        machine.clock.sleep(Duration::from_millis(2 * SYNC_MARK_MS)).await;
        dir.journal().tick();
        tokio::task::yield_now().await;
        store.release(dir.journal().next());
        dir.checkpoint().unwrap();
        wait(|done| {
            dir.close(done);
            Ok(())
        })
        .await
        .unwrap();
    });
    life(&machine, async {
        let Opened { batches, report, .. } = machine.open();
        assert_eq!((batches.len(), report.damage), (0, vec![]));
    });
}

/// An open extent whose file is shorter than its needles, or gone, is damage that is told, and takes no more needles. // I5
#[test]
fn an_open_extent_cut_short_is_told_and_frozen() {
    for cut in [None, Some(0), Some(4096), Some(5000)] {
        let machine = Machine::new(4);
        life(&machine, async {
            let Opened { dir, .. } = machine.open();
            wait(|done| dir.open_extent(X, E1, EXTENT_BYTES, done))
                .await
                .unwrap();
            for n in 1..=20 {
                put(&dir, n).await.unwrap();
            }
            dir.checkpoint().unwrap();
            wait(|done| {
                dir.close(done);
                Ok(())
            })
            .await
            .unwrap();
        });
        let path = format!("extents/{X}");
        match cut {
            None => {
                machine.disk.remove(&path).unwrap();
                machine.disk.sync_dir("extents").unwrap();
            }
            Some(length) => {
                let file = machine.disk.open(&path).unwrap();
                file.set_len(length).unwrap();
                file.sync_data().unwrap();
            }
        }
        life(&machine, async {
            let Opened { dir, report, .. } = machine.open();
            let told = report.damage.iter().any(|d| d.contains(&format!("extent {X}")));
            assert!(told, "cut to {cut:?}: {:?}", report.damage);
            let refused = put(&dir, 30).await.expect_err("it is frozen").kind();
            assert!(
                matches!(refused, ErrorKind::Conflict | ErrorKind::Corrupt),
                "cut to {cut:?}: {refused:?}"
            );
        });
    }
}

/// The file of an extent that did not come to be goes at the next opening, also with a head that came to the disk in part; one with
/// anything behind such a head stays. // I3
#[test]
fn a_file_that_nobody_was_told_of_goes_unless_there_is_something_in_it() {
    for (body, goes) in [(0, true), (1, false)] {
        let machine = Machine::new(5);
        life(&machine, async { drop(machine.open()) });
        let path = format!("extents/{X}");
        let file = machine.disk.create(&path).unwrap();
        file.write_all_at(&[7; 512], 1024).unwrap();
        file.write_all_at(&[body; 10], 3 << 20).unwrap();
        file.sync_data().unwrap();
        machine.disk.sync_dir("extents").unwrap();
        life(&machine, async {
            let Opened { dir, .. } = machine.open();
            dir.sweep().unwrap();
            assert_eq!(!machine.disk.exists(&path).unwrap(), goes);
        });
    }
}

/// Without descriptors what needs one waits; it says nothing of the disk, which serves on. // I9
#[test]
fn a_process_without_descriptors_keeps_its_disk() {
    const Y: ExtentId = ExtentId(0x1_0000_0000_0002);
    let machine = Machine::new(5);
    let appended = life(&machine, async {
        let Opened { dir, .. } = machine.open();
        wait(|done| dir.open_extent(X, E1, EXTENT_BYTES, done))
            .await
            .unwrap();
        let first = put(&dir, 1).await.unwrap();
        machine.starved.store(true, Ordering::Relaxed);
        let refused = wait(|done| dir.open_extent(Y, E1, EXTENT_BYTES, done)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(dir.checkpoint().unwrap_err().kind(), ErrorKind::Busy);
        put(&dir, 2).await.expect("its file is open");
        machine.starved.store(false, Ordering::Relaxed);
        wait(|done| dir.open_extent(Y, E1, EXTENT_BYTES, done))
            .await
            .unwrap();
        wait(|done| dir.seal(X, E1, done)).await.unwrap();
        dir.checkpoint().unwrap();
        first
    });
    life(&machine, async {
        let Opened { dir, report, .. } = machine.open();
        assert_eq!(report.damage, Vec::<String>::new());
        let read = read(&appended, 1, appended.offset, 1);
        machine.starved.store(true, Ordering::Relaxed);
        assert_eq!(dir.read(&read).unwrap_err().kind(), ErrorKind::Busy);
        machine.starved.store(false, Ordering::Relaxed);
        assert_eq!(dir.read(&read).unwrap().0.len(), 1);
    });
}

/// What a walk found, or did not, is not walked for again.
#[test]
fn a_wrong_hint_costs_one_walk() {
    const LENGTH: usize = 60_000;
    let machine = Machine {
        journal_bytes: 8 << 20,
        ..Machine::new(6)
    };
    life(&machine, async {
        let Opened { dir, .. } = machine.open();
        wait(|done| dir.open_extent(X, E1, 4 << 20, done)).await.unwrap();
        let mut last = None;
        for n in 1..=40 {
            let body = Body {
                bytes: &[0; LENGTH],
                crcs: &[0],
            };
            let appended = wait(|done| dir.append((X, E1), head(n, LENGTH), body, Some(done))).await;
            last = Some(appended.unwrap());
        }
        let there = last.unwrap();
        let absent = extent::Appended {
            needle: types::NeedleId(1000),
            ..there
        };
        let cost = |read: &Read| {
            let before = machine.disk.trace().0;
            let found = dir.read(read).map(|(bytes, _)| bytes.len());
            (found.map_err(|e| e.kind()), machine.disk.trace().0 - before)
        };
        for (appended, want) in [(there, Ok(LENGTH)), (absent, Err(ErrorKind::Corrupt))] {
            let read = read(&appended, 40, 4096, LENGTH as u64);
            let (first, walked) = cost(&read);
            let (again, recalled) = cost(&read);
            assert_eq!((first, again), (want, want));
            assert!(walked > recalled + 5, "{walked} operations, then {recalled}");
            assert_eq!(dir.read_hinted(&read), Ok(None));
        }
    });
}
