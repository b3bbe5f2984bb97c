//! Compaction on a full disk: in the ballast where it fits, else refused; without room in the middle nothing is lost.

use crate::stage::*;
use extent::ExtentError;
use sim::SimDisk;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use types::{ErrorKind, Generation, Kind};
use world::{Disk, DiskFile, DiskLock, Space};

/// A disk on which one write or allocation finds no room.
pub(crate) struct Filling {
    pub(crate) disk: SimDisk,
    /// Calls that go well before it.
    pub(crate) left: Arc<AtomicI64>,
}

struct FillingFile {
    file: Arc<dyn DiskFile>,
    left: Arc<AtomicI64>,
    counts: bool,
}

impl Filling {
    fn wrap(&self, path: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FillingFile {
            file,
            left: self.left.clone(),
            // It was allocated when it was made.
            counts: path != "journal",
        })
    }
}

impl FillingFile {
    fn meet(&self) -> io::Result<()> {
        if self.counts && self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl DiskFile for FillingFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.meet().and_then(|()| self.file.write_all_at(buf, offset))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.meet().and_then(|()| self.file.allocate(offset, len))
    }
}

impl Disk for Filling {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path).map(|file| self.wrap(path, file))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.wrap(path, file))
    }
    fn exists(&self, path: &str) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

pub(crate) fn ballast(disk: &SimDisk) -> u64 {
    Disk::open(disk, "ballast").unwrap().len().unwrap()
}

/// The room that its file took is what is short.
#[test]
fn an_extent_for_which_there_is_no_room_leaves_no_file() {
    // Room is asked for twice: its first step, and its head.
    for after in 0..2 {
        let disk = SimDisk::new(60, 64 << 20);
        let left = Arc::new(AtomicI64::new(i64::MAX));
        life(async {
            let filling = Filling {
                disk: disk.clone(),
                left: left.clone(),
            };
            let dir = open(60, Arc::new(filling)).unwrap().dir;
            left.store(after, Ordering::Relaxed);
            let e = open_extent(&dir, X).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Full, "{e}");
            let files = disk.list("extents").unwrap();
            assert!(files.is_empty(), "{files:?} after {after} calls that went well");
            open_extent(&dir, X).await.unwrap();
        });
    }
}

#[test]
fn a_write_without_room_changes_nothing() {
    let mut refused = 0;
    for after in 0.. {
        let disk = SimDisk::new(after, 64 << 20);
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let mut outside = Outside::default();
        let met = life(async {
            let filling = Filling {
                disk: disk.clone(),
                left: left.clone(),
            };
            let dir = open(after, Arc::new(filling)).unwrap().dir;
            outside.set_up(&dir).await;
            left.store(after as i64, Ordering::Relaxed);
            let compacted = outside.compact(&dir, X, 1, 2).await;
            let met = left.swap(i64::MAX, Ordering::Relaxed) < 0;
            if let Err(e) = compacted {
                assert_eq!(e.kind(), ErrorKind::Full, "no room at {after}: {e}");
                assert_eq!(dir.status(X).unwrap().generation, Generation(0));
                refused += 1;
            }
            dir.sweep().unwrap();
            check_files(&disk, &dir).unwrap();
            outside.check(&dir).unwrap();
            // It goes well when there is room.
            outside.compact(&dir, X, 1, 2).await.unwrap();
            outside.check(&dir).unwrap();
            met
        });
        disk.crash();
        life(async {
            let dir = open_whole(after + 1, &disk).unwrap();
            check_files(&disk, &dir).unwrap();
            outside.check(&dir).unwrap();
        });
        if !met {
            break;
        }
    }
    assert!(refused >= 3, "{refused} were refused");
}

/// A disk that is full: new data is refused, and so is what does not fit the ballast; what fits is compacted in it, and the ballast
/// is whole again before new data comes.
#[test]
fn a_full_disk_compacts_in_the_ballast() {
    let disk = SimDisk::new(1, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let dir = open_whole(1, &disk).unwrap();
        outside.set_up(&dir).await;
        dir.tend_ballast().unwrap();
        assert_eq!(ballast(&disk), BALLAST_BYTES);
        // As full as new data makes it.
        disk.set_capacity(disk.used() + BALLAST_BYTES / 2);
        let full = |e: ExtentError| assert_eq!(e.kind(), ErrorKind::Full, "{e}");
        full(outside.put(&dir, Y, 70_000).await.unwrap_err());
        let used = disk.used();
        full(compact(&dir, X, 1, &[]).await.unwrap_err());
        dir.sweep().unwrap();
        assert_eq!((disk.used(), ballast(&disk)), (used, BALLAST_BYTES));
        outside.check(&dir).unwrap();

        let large = |n: &&mut Needle| n.extent == X && n.length > 1_000_000;
        outside.needles.iter_mut().find(large).unwrap().dropped = true;
        let dropped = outside.dropped(X);
        outside.asked.insert(X, Generation(1));
        let mut compaction = dir.begin_compaction(X, Generation(1), &dropped).unwrap().unwrap();
        assert!(ballast(&disk) < BALLAST_BYTES, "it is in the ballast");
        full(outside.put(&dir, Y, 70_000).await.unwrap_err());
        while !compaction.step(64 << 10).unwrap() {}
        let (done, outcome) = done();
        compaction.finish(done).unwrap();
        acked(outcome).await.unwrap();
        dir.sweep().unwrap();
        dir.regrow_ballast().unwrap();
        assert_eq!(ballast(&disk), BALLAST_BYTES);
        assert!(disk.used() + 900_000 < used, "{} of {used}", disk.used());
        outside.check(&dir).unwrap();
        outside.put(&dir, Y, 70_000).await.unwrap();
        close(&dir).await;
    });
    disk.crash();
    life(async {
        let dir = open_whole(2, &disk).unwrap();
        check_files(&disk, &dir).unwrap();
        outside.check(&dir).unwrap();
    });
}

/// With the index grown into all that was kept back, what is wholly dead still goes.
#[test]
fn what_is_wholly_dead_goes_from_the_fullest_disk() {
    let disk = SimDisk::new(3, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let dir = open_whole(3, &disk).unwrap();
        outside.set_up(&dir).await;
        let index = disk.create("index").unwrap();
        let mut grown = 0;
        disk.set_capacity(disk.used() + 2 * BALLAST_BYTES);
        while disk.space().unwrap().free > 16 << 10 || ballast(&disk) > 0 {
            match index.write_all_at(&[1; 4096], grown) {
                Ok(()) => grown += 4096,
                Err(_) => dir.tend_ballast().unwrap(),
            }
        }
        outside.compact(&dir, Z, 1, 1).await.unwrap();
        outside.remove_z(&dir).await.unwrap();
        outside.compact(&dir, X, 1, 1).await.unwrap();
        check_files(&disk, &dir).unwrap();
        outside.check(&dir).unwrap();
        dir.regrow_ballast().unwrap();
        assert_eq!(ballast(&disk), BALLAST_BYTES);
    });
}
