//! A disk that takes its time over a large needle: who waits for it, and who does not.

use super::*;
use std::io;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;
use world::{Aligned, Disk, DiskFile, DiskLock, Space};

const ENOMEM: i32 = 12;
/// Far more than anything takes that waits for no disk.
const AT_ONCE: Duration = Duration::from_secs(20);

/// What direct writes and allocations wait at.
#[derive(Default)]
struct Gate {
    state: Mutex<Passing>,
    changed: Condvar,
}

#[derive(Default)]
struct Passing {
    shut: bool,
    waiting: u32,
    through: u32,
    /// There is no memory for the next direct write, which is half done by then.
    scarce: bool,
}

impl Gate {
    fn pass(&self, writes: bool) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |s| s.shut).unwrap();
        state.waiting -= 1;
        state.through += u32::from(writes);
    }

    fn set(&self, shut: bool) {
        self.state.lock().unwrap().shut = shut;
        self.changed.notify_all();
    }

    fn wait_for_one(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |s| s.waiting == 0).unwrap());
    }

    fn through(&self) -> u32 {
        self.state.lock().unwrap().through
    }
}

struct Gated<T: ?Sized>(Arc<T>, Arc<Gate>);

impl Gated<dyn DiskFile> {
    fn of(file: Arc<dyn DiskFile>, gate: &Arc<Gate>) -> Arc<dyn DiskFile> {
        Arc::new(Self(file, gate.clone()))
    }
}

impl Disk for Gated<RealDisk> {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Gated::of(self.0.create(path)?, &self.1))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Gated::of(self.0.open(path)?, &self.1))
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

impl DiskFile for Gated<dyn DiskFile> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }
    fn write_pages_at(&self, pages: &Aligned, offset: u64) -> io::Result<()> {
        self.1.pass(true);
        self.0.write_pages_at(pages, offset)?;
        match std::mem::take(&mut self.1.state.lock().unwrap().scarce) {
            true => Err(io::Error::from_raw_os_error(ENOMEM)),
            false => Ok(()),
        }
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.1.pass(false);
        self.0.allocate(offset, len)
    }
}

/// What `f` answers, in a thread of its own.
fn aside<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || tx.send(f()));
    rx
}

fn small(dir: &DataDir, extent: ExtentId) -> Result<extent::Appended, ExtentError> {
    let (bytes, crcs) = body(8, 100);
    let body = Body {
        bytes: &bytes,
        crcs: &crcs,
    };
    dir.append((extent, E1), head(8, 100), body, None)
}

const OTHER: ExtentId = ExtentId(X.0 + 1);

/// A directory with two extents.
fn gated(path: &Path) -> (Arc<Gate>, DataDir) {
    let gate = Arc::new(Gate::default());
    let disk = Gated(Arc::new(RealDisk::open(path).unwrap()), gate.clone());
    let opened = DataDir::open(&World::real(), Arc::new(disk), config()).unwrap();
    for extent in [X, OTHER] {
        wait(|done| opened.dir.open_extent(extent, E1, 64 << 20, done)).unwrap();
    }
    (gate, opened.dir)
}

#[test]
fn who_looks_at_extents_does_not_wait_for_room() {
    let tmp = tempfile::tempdir().unwrap();
    let (gate, dir) = gated(tmp.path());
    gate.set(true);
    let begins = dir.clone();
    let begun = aside(move || begins.begin(X, E1, head(7, 3 * FRAME_BYTES_MAX)).map(drop));
    gate.wait_for_one();
    let looks = dir.clone();
    let seen = aside(move || (looks.status(X).unwrap().needles, looks.extents().len()));
    let seen = seen.recv_timeout(AT_ONCE).expect("nobody waits for the disk");
    assert_eq!(seen, (0, 2));
    gate.set(false);
    begun.recv_timeout(AT_ONCE).unwrap().unwrap();
}

#[test]
fn only_who_ends_an_append_waits_for_its_disk() {
    let tmp = tempfile::tempdir().unwrap();
    let (gate, dir) = gated(tmp.path());
    let length = 3 * FRAME_BYTES_MAX;
    let mut large = dir.begin(X, E1, head(7, length)).unwrap();
    let frame = move |large: &mut extent::LargeAppend| {
        let (bytes, crcs) = body(7, FRAME_BYTES_MAX);
        large.frame(&bytes, &crcs)
    };
    frame(&mut large).unwrap();
    let before = gate.through();
    assert!(before > 0, "a large needle goes past the page cache");

    gate.set(true);
    let written = aside(move || {
        let written = frame(&mut large);
        (large, written)
    });
    gate.wait_for_one();
    let looks = dir.clone();
    let seen = aside(move || {
        let status = looks.status(X).unwrap();
        let all = looks.extents();
        (status, all.len(), small(&looks, X), small(&looks, OTHER))
    });
    let (status, extents, busy, there) = seen.recv_timeout(AT_ONCE).expect("nobody waits for the disk");
    assert_eq!((status.needles, status.sealed, extents), (0, false, 2));
    assert_eq!(busy.unwrap_err().kind(), ErrorKind::Busy);
    there.unwrap();

    // The fence: what a sealed extent was given before is down, and nothing comes after. // I7
    let (seals, passed) = (dir.clone(), gate.clone());
    let sealed = aside(move || {
        let sealed = wait(|done| seals.seal(X, E1.next(), done)).unwrap();
        (sealed, passed.through())
    });
    let early = sealed.recv_timeout(Duration::from_millis(200));
    assert!(early.is_err(), "sealed while a write is on its way: {early:?}");
    gate.set(false);
    let (mut large, result) = written.recv_timeout(AT_ONCE).unwrap();
    result.unwrap();
    let (sealed, through) = sealed.recv_timeout(AT_ONCE).unwrap();
    assert!(sealed.sealed && through > before);
    assert_eq!(dir.status(X).unwrap(), sealed);
    assert!(frame(&mut large).is_err());
    assert_eq!(gate.through(), through, "nothing is written after the seal");
}

#[test]
fn nothing_follows_a_frame_that_was_not_written() {
    let tmp = tempfile::tempdir().unwrap();
    let (gate, dir) = gated(tmp.path());
    let (bytes, crcs) = body(7, FRAME_BYTES_MAX);
    let mut large = dir.begin(X, E1, head(7, 3 * FRAME_BYTES_MAX)).unwrap();
    large.frame(&bytes, &crcs).unwrap();
    gate.state.lock().unwrap().scarce = true;
    assert_eq!(large.frame(&bytes, &crcs).unwrap_err().kind(), ErrorKind::Busy);
    let before = gate.through();
    for _ in 0..2 {
        assert_eq!(large.frame(&bytes, &crcs).unwrap_err().kind(), ErrorKind::Busy);
    }
    assert_eq!(gate.through(), before);
    drop(large);
    small(&dir, X).unwrap();
}
