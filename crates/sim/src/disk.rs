//! A simulated disk: one directory tree in memory that loses, tears, lies, fills up and rots, from a seed.
//!
//! Durable and visible state are kept apart, for bytes (sectors of 512), lengths and names. Invariants: what an honest
//! `sync_data` or `sync_dir` answered survives [`SimDisk::crash`]; everything else survives in part, by the seed. A handle
//! or lock from before a crash is dead. Clones are the same disk.

mod fault;
mod file;
mod image;
mod names;

pub use fault::{Counts, Fault, FaultKind};
pub use file::Lost;
pub use image::SECTOR_BYTES;

use crate::SimRng;
use fault::{Act, Plan};
use file::File;
use image::PAGE_BYTES;
use names::{Entry, Names, parent};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use world::{Cached, Disk, DiskFile, DiskLock, Space};

/// A simulated disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    power_off: Notify,
}

struct State {
    rng: SimRng,
    names: Names,
    files: BTreeMap<u64, File>,
    next_file: u64,
    plan: Plan,
    capacity: u64,
    /// How often the machine was started; handles carry it.
    boot: u64,
    off: bool,
    locks: BTreeSet<String>,
    /// Operations so far, and a hash over them: two runs of a seed agree on both.
    operations: u64,
    trace: u64,
    /// The caller's own time, and when the first sync lied that is not made good yet.
    moment: u64,
    lied_since: Option<u64>,
}

/// A bit that was turned over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// In which file.
    pub path: String,
    /// Which byte of it.
    pub offset: u64,
}

/// What a power cut took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    /// By the path that the file had before the cut; files that lost nothing are left out.
    pub files: BTreeMap<String, Lost>,
    /// Changes of names that were lost.
    pub names: u64,
    /// Those that a sync had promised.
    pub promised_names: Vec<String>,
    /// The moment of the first lie whose promise was still open.
    pub lied_since: Option<u64>,
}

impl Crash {
    /// Whether anything was lost that a lying sync had promised.
    pub fn broke_a_promise(&self) -> bool {
        !self.promised_names.is_empty()
            || self
                .files
                .values()
                .any(|lost| !lost.promised.is_empty() || lost.promised_len)
    }
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub fn new(seed: u64, capacity: u64) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                rng: SimRng::new(seed),
                names: Names::default(),
                files: BTreeMap::new(),
                next_file: 1,
                plan: Plan::default(),
                capacity,
                boot: 1,
                off: false,
                locks: BTreeSet::new(),
                operations: 0,
                trace: 0xcbf2_9ce4_8422_2325,
                moment: 0,
                lied_since: None,
            }),
            power_off: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic under this lock")
    }

    /// Adds a fault to come.
    pub fn plan(&self, fault: Fault) {
        self.state().plan.faults.push(fault);
    }

    /// Forgets the faults to come.
    pub fn clear_plan(&self) {
        self.state().plan.faults.clear();
    }

    /// Faults planned and not met yet.
    pub fn planned(&self) -> usize {
        self.state().plan.faults.len()
    }

    /// Runs `f` without meeting a fault to come: for looks at the disk that are not the store's.
    pub fn without_faults<T>(&self, f: impl FnOnce() -> T) -> T {
        let faults = std::mem::take(&mut self.state().plan.faults);
        let answer = f();
        self.state().plan.faults = faults;
        answer
    }

    /// Makes the disk larger or smaller; less than is used just means full.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// How large it is.
    pub fn capacity(&self) -> u64 {
        self.state().capacity
    }

    /// Bytes of room that files hold whose path begins so.
    pub fn used_under(&self, path: &str) -> u64 {
        let state = self.state();
        let files = state.names.now.iter().filter_map(|(name, entry)| match entry {
            Entry::File(id) if name.starts_with(path) => Some(state.files[id].room() * PAGE_BYTES),
            _ => None,
        });
        files.sum()
    }

    /// Bytes of room that files hold.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Turns over one bit on stable storage, in some file whose path begins with `on`.
    pub fn flip(&self, on: &str) -> Option<Flip> {
        let state = &mut *self.state();
        let candidates: Vec<(String, u64)> = state
            .names
            .now
            .iter()
            .filter_map(|(path, entry)| match entry {
                Entry::File(id) if path.starts_with(on) => Some((path.clone(), *id)),
                _ => None,
            })
            .collect();
        if candidates.is_empty() {
            return None;
        }
        let (path, id) = state.rng.pick(&candidates).clone();
        let offset = state.files.get_mut(&id)?.flip(&state.rng)?;
        state.plan.counts.add("disk.flip", 1);
        Some(Flip { path, offset })
    }

    /// Turns over one bit of a byte of `path`, if it is on stable storage.
    pub fn flip_at(&self, path: &str, offset: u64) -> Option<Flip> {
        let state = &mut *self.state();
        let id = state.file(path).ok()?;
        let bit = state.rng.below(8) as u8;
        let flipped = state.files.get_mut(&id)?.flip_at(offset, bit);
        state.plan.counts.add("disk.flip", u64::from(flipped));
        flipped.then(|| Flip {
            path: path.to_owned(),
            offset,
        })
    }

    /// The sector of a byte of `path` cannot be read from here on, if it is on stable storage; until it is written.
    pub fn spoil_at(&self, path: &str, offset: u64) -> bool {
        let state = &mut *self.state();
        let Ok(id) = state.file(path) else { return false };
        let spoiled = state.files.get_mut(&id).is_some_and(|file| file.spoil_at(offset));
        state.plan.counts.add("disk.spoiled", u64::from(spoiled));
        spoiled
    }

    /// Switches the power off now.
    pub fn power_off(&self) {
        let state = &mut *self.state();
        if !state.off {
            state.plan.counts.add("disk.power_off", 1);
            self.switch_off(state);
        }
    }

    fn switch_off(&self, state: &mut State) {
        state.off = true;
        self.0.power_off.notify_one();
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// Waits until the power goes off. For one waiter.
    pub async fn until_off(&self) {
        while !self.is_off() {
            self.0.power_off.notified().await;
        }
    }

    /// The process that used the disk is gone, the machine is not: nothing is lost, but every handle and lock is dead.
    pub fn kill(&self) {
        let state = &mut *self.state();
        state.boot += 1;
        state.locks.clear();
    }

    /// The machine loses power, if it has not yet, and comes back: what was not synced is lost in part; every handle and
    /// lock is dead.
    pub fn crash(&self) -> Crash {
        let state = &mut *self.state();
        state.off = false;
        state.boot += 1;
        state.locks.clear();
        let mut crash = Crash {
            lied_since: state.lied_since.take(),
            ..Crash::default()
        };
        let before = state.names.now.clone();
        for (path, entry) in &before {
            let Entry::File(id) = entry else { continue };
            let lost = state
                .files
                .get_mut(id)
                .expect("a name leads to a file")
                .crash(&state.rng);
            let counts = &mut state.plan.counts;
            counts.add("crash.sectors_lost", lost.sectors.len() as u64);
            counts.add("crash.sectors_kept", lost.kept as u64);
            counts.add(
                "crash.files_torn",
                u64::from(lost.kept > 0 && !lost.sectors.is_empty()),
            );
            counts.add("crash.promised_sectors_lost", lost.promised.len() as u64);
            if !lost.sectors.is_empty() || lost.promised_len {
                crash.files.insert(path.clone(), lost);
            }
        }
        (crash.names, crash.promised_names) = state.names.crash(&state.rng);
        state.plan.counts.add("crash.names_lost", crash.names);
        let live: BTreeSet<u64> = (state.names.now.values())
            .filter_map(|entry| match entry {
                Entry::File(id) => Some(*id),
                Entry::Dir => None,
            })
            .collect();
        // A file whose name came back was crashed above only if it still had one; the others are settled here.
        let settled: BTreeSet<u64> = before
            .values()
            .filter_map(|entry| match entry {
                Entry::File(id) => Some(*id),
                Entry::Dir => None,
            })
            .collect();
        state.files.retain(|id, _| live.contains(id));
        for id in live.difference(&settled) {
            if let Some(file) = state.files.get_mut(id) {
                file.crash(&state.rng);
            }
        }
        crash
    }

    /// Whether a sync that was answered has not been done yet.
    pub fn is_lied_to(&self) -> bool {
        self.state().is_lied_to()
    }

    /// Tells the disk the caller's own time: [`Crash::lied_since`] is in it.
    pub fn set_moment(&self, moment: u64) {
        self.state().moment = moment;
    }

    /// How often each kind of thing happened.
    pub fn counts(&self) -> Counts {
        self.state().plan.counts.clone()
    }

    /// Operations so far, and a hash over all of them.
    pub fn trace(&self) -> (u64, u64) {
        let state = self.state();
        (state.operations, state.trace)
    }

    /// Begins an operation: the power is on, the handle alive, and no fault is due.
    fn begin(
        &self,
        boot: Option<u64>,
        act: Act,
        path: &str,
        place: (u64, u64),
    ) -> io::Result<(MutexGuard<'_, State>, Option<FaultKind>)> {
        let mut state = self.state();
        if state.off || boot.is_some_and(|boot| boot != state.boot) {
            return Err(io::Error::other("the power is off"));
        }
        state.note(act, path, place);
        let met = state.plan.meet(act, path);
        if met == Some(FaultKind::PowerOff) {
            self.switch_off(&mut state);
        }
        Ok((state, met))
    }

    fn name_act(&self, path: &str) -> io::Result<MutexGuard<'_, State>> {
        assert!(
            !path.starts_with('/') && !path.split('/').any(|s| s == ".."),
            "paths stay inside the directory: {path}"
        );
        match self.begin(None, Act::Name, path, (0, 0))? {
            (_, Some(_)) => Err(io::Error::other("the power went")),
            (state, None) => Ok(state),
        }
    }

    fn handle(&self, state: &State, path: &str, id: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            id,
            boot: state.boot,
        })
    }
}

fn eio(what: &str) -> io::Error {
    io::Error::other(format!("simulated EIO: {what}"))
}

impl State {
    fn is_lied_to(&self) -> bool {
        self.names.is_lied_to() || self.files.values().any(File::is_lied_to)
    }

    /// After a sync: when the oldest open promise was made.
    fn settle_lies(&mut self, lied: bool) {
        if lied {
            self.lied_since = self.lied_since.or(Some(self.moment));
        } else if self.lied_since.is_some() && !self.is_lied_to() {
            self.lied_since = None;
        }
    }

    fn used(&self) -> u64 {
        let pages: u64 = self
            .names
            .now
            .values()
            .filter_map(|entry| match entry {
                Entry::File(id) => Some(self.files[id].room()),
                Entry::Dir => None,
            })
            .sum();
        pages * PAGE_BYTES
    }

    fn note(&mut self, act: Act, path: &str, place: (u64, u64)) {
        self.operations += 1;
        let words = [act as u64, place.0, place.1];
        let bytes = words.iter().flat_map(|w| w.to_le_bytes());
        for byte in path.bytes().chain(bytes) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Whether there is room for `offset..end` of file `id`; counted when there is none.
    fn fits(&mut self, id: u64, offset: u64, end: u64) -> bool {
        let wanted = self.files[&id].room_wanted(offset, end) * PAGE_BYTES;
        let fits = wanted == 0 || self.used() + wanted <= self.capacity;
        self.plan.counts.add("disk.full", u64::from(!fits));
        fits
    }

    fn file(&self, path: &str) -> io::Result<u64> {
        match self.names.now.get(path) {
            Some(Entry::File(id)) => Ok(*id),
            Some(Entry::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.name_act(path)?;
        if state.names.now.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if !state.names.is_dir(parent(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, File::default());
        state.names.change(vec![(path.to_owned(), Some(Entry::File(id)))]);
        Ok(self.handle(&state, path, id))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (state, _) = self.begin(None, Act::Look, path, (0, 0))?;
        let id = state.file(path)?;
        Ok(self.handle(&state, path, id))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let (state, _) = self.begin(None, Act::Look, path, (0, 0))?;
        Ok(state.names.now.contains_key(path))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.name_act(path)?;
        state.file(path)?;
        state.names.change(vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.name_act(from)?;
        let id = state.file(from)?;
        if !state.names.is_dir(parent(to)) {
            return Err(ErrorKind::NotFound.into());
        }
        if from != to {
            state.names.change(vec![
                (from.to_owned(), None),
                (to.to_owned(), Some(Entry::File(id))),
            ]);
        }
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let (state, _) = self.begin(None, Act::Look, dir, (0, 0))?;
        if !state.names.is_dir(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = state.names.now.keys().filter(|path| parent(path) == dir);
        Ok(inside
            .map(|path| path[path.rfind('/').map_or(0, |n| n + 1)..].to_owned())
            .collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.name_act(dir)?;
        let ends = dir.match_indices('/').map(|(n, _)| n).chain([dir.len()]);
        for path in ends.map(|end| &dir[..end]).filter(|path| !path.is_empty()) {
            match state.names.now.get(path) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => state.names.change(vec![(path.to_owned(), Some(Entry::Dir))]),
            }
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let (mut state, met) = self.begin(None, Act::Sync, dir, (0, 0))?;
        if !state.names.is_dir(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        match met {
            None => state.names.sync(dir),
            Some(FaultKind::LyingSync) => state.names.lie(dir),
            Some(_) => return Err(eio(dir)),
        }
        state.settle_lies(met.is_some());
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let (state, _) = self.begin(None, Act::Look, "", (0, 0))?;
        Ok(Space {
            total: state.capacity,
            free: state.capacity.saturating_sub(state.used()),
        })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
        let boot = {
            let mut state = self.name_act(path)?;
            if !state.locks.insert(path.to_owned()) {
                return Err(ErrorKind::WouldBlock.into());
            }
            state.boot
        };
        match self.create(path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                self.state().locks.remove(path);
                Err(e)
            }
            _ => Ok(Box::new(SimLock {
                disk: self.clone(),
                path: path.to_owned(),
                boot,
            })),
        }
    }
}

struct SimLock {
    disk: SimDisk,
    path: String,
    boot: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    path: String,
    id: u64,
    boot: u64,
}

impl SimFile {
    fn begin(
        &self,
        act: Act,
        offset: u64,
        len: u64,
    ) -> io::Result<(MutexGuard<'_, State>, Option<FaultKind>)> {
        self.disk.begin(Some(self.boot), act, &self.path, (offset, len))
    }

    /// A prefix of a write that did not go well.
    fn write_part(state: &mut State, id: u64, buf: &[u8], offset: u64) {
        let sectors = state.rng.below(buf.len() as u64 / SECTOR_BYTES + 1);
        let part = (sectors * SECTOR_BYTES).min(buf.len() as u64);
        let fits = state.files[&id].room_wanted(offset, offset + part) == 0;
        if fits {
            let file = state.files.get_mut(&id).expect("a handle's file is there");
            file.write(&buf[..part as usize], offset);
        }
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (state, met) = self.begin(Act::Read, offset, buf.len() as u64)?;
        if met.is_some() {
            return Err(eio(&self.path));
        }
        let file = &state.files[&self.id];
        if offset + buf.len() as u64 > file.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if file.is_spoiled(offset, offset + buf.len() as u64) {
            return Err(eio(&self.path));
        }
        file.read(buf, offset);
        Ok(())
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Cached> {
        self.read_exact_at(buf, offset).map(|()| Cached::Had)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, met) = self.begin(Act::Write, offset, buf.len() as u64)?;
        if met.is_some() {
            Self::write_part(&mut state, self.id, buf, offset);
            return Err(eio(&self.path));
        }
        if !state.fits(self.id, offset, offset + buf.len() as u64) {
            Self::write_part(&mut state, self.id, buf, offset);
            return Err(ErrorKind::StorageFull.into());
        }
        let file = state.files.get_mut(&self.id).expect("a handle's file is there");
        file.write(buf, offset);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, met) = self.begin(Act::Sync, 0, 0)?;
        let state = &mut *state;
        let file = state.files.get_mut(&self.id).expect("a handle's file is there");
        match met {
            None => file.sync(),
            Some(FaultKind::LyingSync) => file.lie(),
            Some(FaultKind::PowerOff) => return Err(eio(&self.path)),
            Some(_) => {
                file.fail_sync(&state.rng);
                return Err(eio(&self.path));
            }
        }
        state.plan.counts.add("disk.syncs", 1);
        let of = match self.path.as_str() {
            "extent-table.new" => "syncs.extent_table",
            path if path.starts_with("index/") => "syncs.index",
            _ => "syncs.other",
        };
        state.plan.counts.add(of, 1);
        state.settle_lies(met.is_some());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let (state, _) = self.begin(Act::Look, 0, 0)?;
        Ok(state.files[&self.id].len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, met) = self.begin(Act::Write, len, 0)?;
        if met.is_some() {
            return Err(eio(&self.path));
        }
        let file = state.files.get_mut(&self.id).expect("a handle's file is there");
        file.set_len(len);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (mut state, met) = self.begin(Act::Write, offset, len)?;
        if met.is_some() {
            return Err(eio(&self.path));
        }
        if !state.fits(self.id, offset, offset + len) {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = state.files.get_mut(&self.id).expect("a handle's file is there");
        let grown = file.len.max(offset + len);
        file.set_len(grown);
        file.reserve(offset, offset + len);
        Ok(())
    }
}
