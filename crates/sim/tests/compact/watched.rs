//! A disk that knows which of its files somebody has open, and can keep whoever reads one of them waiting.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use world::{Disk, DiskFile, DiskLock, Space};

/// Files that are open, by the path that they were opened or made by.
#[derive(Default)]
struct Handles {
    open: Mutex<BTreeMap<String, u64>>,
    /// Whose readers wait.
    shut: Mutex<Option<&'static str>>,
    turned: Condvar,
}

/// The disk; cheap to clone.
#[derive(Clone)]
pub(crate) struct Watched {
    disk: Arc<dyn Disk>,
    handles: Arc<Handles>,
}

struct WatchedFile {
    path: String,
    file: Arc<dyn DiskFile>,
    handles: Arc<Handles>,
}

impl Watched {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            handles: Arc::default(),
        }
    }

    /// How often a file is open.
    pub(crate) fn handles(&self, path: &str) -> u64 {
        self.handles.open.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// From now on who reads this file waits, or nobody does.
    pub(crate) fn shut(&self, path: Option<&'static str>) {
        *self.handles.shut.lock().unwrap() = path;
        self.handles.turned.notify_all();
    }

    fn wrap(&self, path: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        *self.handles.open.lock().unwrap().entry(path.into()).or_default() += 1;
        Arc::new(WatchedFile {
            path: path.into(),
            file,
            handles: self.handles.clone(),
        })
    }
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        *self.handles.open.lock().unwrap().get_mut(&self.path).unwrap() -= 1;
    }
}

impl DiskFile for WatchedFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let shut = self.handles.shut.lock().unwrap();
        let waits = |shut: &mut Option<&'static str>| *shut == Some(self.path.as_str());
        drop(self.handles.turned.wait_while(shut, waits).unwrap());
        self.file.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
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
        self.file.allocate(offset, len)
    }
}

impl Disk for Watched {
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
