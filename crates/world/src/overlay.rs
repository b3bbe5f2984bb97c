//! A disk seen through a sheet of glass: reads come from the disk below, writes stay in memory and are dropped with it.
//! `cairn check` opens a stopped directory through one, so that checking changes nothing.

use crate::{Disk, DiskFile, DiskLock, Space};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

const PAGE: u64 = 4096;

/// A copy-on-write view of a disk.
pub struct Overlay {
    below: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files opened or made through the overlay, by the name they have now.
    files: BTreeMap<String, Arc<OverlayFile>>,
    /// Names of the disk below that are gone or hidden.
    hidden: BTreeSet<String>,
    dirs: BTreeSet<String>,
}

struct OverlayFile {
    below: Option<Arc<dyn DiskFile>>,
    state: Mutex<FileState>,
}

struct FileState {
    len: u64,
    /// Bytes of the file below that still show; what lies beyond reads as zero unless written.
    below_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// A view of `below`.
    pub fn new(below: Arc<dyn Disk>) -> Self {
        Self {
            below,
            state: Mutex::default(),
        }
    }

    /// Which 4 KiB pages of a file were ever written through the overlay, and stand in it now.
    ///
    /// # Errors
    /// There is no such file.
    pub fn written(&self, path: &str) -> io::Result<Vec<u64>> {
        let mut state = self.state.lock().expect("no panic under this lock");
        let file = self.find(&mut state, path)?;
        let state = file.state.lock().expect("no panic under this lock");
        Ok(state.pages.keys().copied().collect())
    }

    fn find(&self, state: &mut State, path: &str) -> io::Result<Arc<OverlayFile>> {
        if let Some(f) = state.files.get(path) {
            return Ok(f.clone());
        }
        if state.hidden.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let below = self.below.open(path)?;
        let len = below.len()?;
        let file = Arc::new(OverlayFile {
            below: Some(below),
            state: Mutex::new(FileState {
                len,
                below_len: len,
                pages: BTreeMap::new(),
            }),
        });
        state.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }
}

impl Disk for Overlay {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some((dir, _)) = path.rsplit_once('/')
            && !self.exists(dir)?
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = Arc::new(OverlayFile {
            below: None,
            state: Mutex::new(FileState {
                len: 0,
                below_len: 0,
                pages: BTreeMap::new(),
            }),
        });
        let mut state = self.state.lock().expect("no panic under this lock");
        state.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock().expect("no panic under this lock");
        Ok(self.find(&mut state, path)?)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let state = self.state.lock().expect("no panic under this lock");
        if state.files.contains_key(path) || state.dirs.contains(path) {
            return Ok(true);
        }
        Ok(!state.hidden.contains(path) && self.below.exists(path)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if !self.exists(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = self.state.lock().expect("no panic under this lock");
        state.files.remove(path);
        state.hidden.insert(path.to_owned());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic under this lock");
        let file = self.find(&mut state, from)?;
        state.files.remove(from);
        state.hidden.insert(from.to_owned());
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock().expect("no panic under this lock");
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let mut names: BTreeSet<String> = match self.below.list(dir) {
            Ok(names) => names
                .into_iter()
                .filter(|n| !state.hidden.contains(&format!("{prefix}{n}")))
                .collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound && state.dirs.contains(dir) => BTreeSet::new(),
            Err(e) => return Err(e),
        };
        let inside = state
            .files
            .keys()
            .chain(state.dirs.iter())
            .filter_map(|p| p.strip_prefix(&prefix));
        names.extend(
            inside
                .filter(|n| !n.is_empty() && !n.contains('/'))
                .map(str::to_owned),
        );
        Ok(names.into_iter().collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let ends = dir.match_indices('/').map(|(n, _)| n).chain([dir.len()]);
        let dirs = ends.map(|end| dir[..end].to_owned());
        let mut state = self.state.lock().expect("no panic under this lock");
        state.dirs.extend(dirs.filter(|dir| !dir.is_empty()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        self.below.space()
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
        self.below.lock(path)
    }
}

impl FileState {
    /// A page to write in; `is_whole`: all of it is written, so that what lies below is not asked for, which may not be had.
    fn page<'a>(
        &'a mut self,
        below: Option<&Arc<dyn DiskFile>>,
        (number, is_whole): (u64, bool),
    ) -> io::Result<&'a mut Box<[u8]>> {
        if !self.pages.contains_key(&number) {
            let mut page = vec![0; PAGE as usize].into_boxed_slice();
            let start = number * PAGE;
            let shown = self.below_len.saturating_sub(start).min(PAGE) as usize;
            if let (Some(below), true) = (below, shown > 0 && !is_whole) {
                below.read_exact_at(&mut page[..shown], start)?;
            }
            self.pages.insert(number, page);
        }
        Ok(self.pages.get_mut(&number).expect("just put there"))
    }
}

impl DiskFile for OverlayFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock().expect("no panic under this lock");
        if offset + buf.len() as u64 > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.fill(0);
        let shown = state.below_len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (first, last) = (offset / PAGE, (offset + buf.len() as u64).div_ceil(PAGE));
        // What lies below a page that was written may not be had.
        let is_below = (first..last).any(|page| !state.pages.contains_key(&page));
        if let (Some(below), true) = (&self.below, shown > 0 && is_below) {
            below.read_exact_at(&mut buf[..shown], offset)?;
        }
        for (number, page) in state.pages.range(first..last) {
            let start = number * PAGE;
            let from = start.max(offset);
            let to = (start + PAGE).min(offset + buf.len() as u64);
            buf[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock().expect("no panic under this lock");
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let inside = (at % PAGE) as usize;
            let n = (PAGE as usize - inside).min(buf.len() - done);
            let page = state.page(self.below.as_ref(), (at / PAGE, n == PAGE as usize))?;
            page[inside..inside + n].copy_from_slice(&buf[done..done + n]);
            done += n;
        }
        state.len = state.len.max(offset + buf.len() as u64);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().expect("no panic under this lock").len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic under this lock");
        if len < state.len {
            state.below_len = state.below_len.min(len);
            state.pages.split_off(&len.div_ceil(PAGE));
            if let Some(page) = state.pages.get_mut(&(len / PAGE)) {
                page[(len % PAGE) as usize..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic under this lock");
        state.len = state.len.max(offset + len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::RealDisk;

    #[test]
    fn writes_stay_above() {
        let dir = tempfile::tempdir().unwrap();
        let below: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
        below.create("a").unwrap().write_all_at(&[7; 5000], 0).unwrap();
        let over = Overlay::new(below.clone());
        let f = over.open("a").unwrap();
        f.write_all_at(&[9; 10], 4090).unwrap();
        f.write_all_at(&[8; 4], 9000).unwrap();
        let mut buf = vec![0; 9004];
        f.read_exact_at(&mut buf, 0).unwrap();
        assert!(
            buf[..4090].iter().all(|b| *b == 7)
                && buf[4090..4100] == [9; 10]
                && buf[4100..5000].iter().all(|b| *b == 7)
        );
        assert!(buf[5000..9000].iter().all(|b| *b == 0) && buf[9000..] == [8; 4]);
        f.set_len(4095).unwrap();
        f.set_len(5000).unwrap();
        let mut buf = vec![1; 5000];
        f.read_exact_at(&mut buf, 0).unwrap();
        assert!(buf[4090..4095] == [9; 5] && buf[4095..].iter().all(|b| *b == 0));
        below.create("gone").unwrap().write_all_at(&[7; 8192], 0).unwrap();
        let gone = over.open("gone").unwrap();
        below.open("gone").unwrap().set_len(0).unwrap();
        gone.write_all_at(&[9; 100], 0).unwrap_err();
        gone.write_all_at(&[9; 4096], 0).unwrap();
        gone.read_exact_at(&mut [0; 4096], 0).unwrap();
        over.remove("gone").unwrap();
        below.remove("gone").unwrap();
        over.rename("a", "b").unwrap();
        over.create("c").unwrap();
        assert_eq!(over.list("").unwrap(), ["b", "c"]);
        assert!(over.open("a").is_err());
        assert_eq!(below.list("").unwrap(), ["a"]);
        assert_eq!(below.open("a").unwrap().len().unwrap(), 5000);
    }
}
