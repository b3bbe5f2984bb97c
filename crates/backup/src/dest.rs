//! The directory that backups are kept in.

use crate::manifest::is_of_snapshots;
use crate::{BackupError, Kept, Known, Manifest, io};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use types::DiskId;
use world::{Disk, DiskFile, DiskLock};

const MARKER: &str = "cairn-backup";
const MARKER_TEXT: &[u8] = b"Backups of a Cairn store. `cairn restore` makes a data directory of one.\n";
const LOCK: &str = "lock";
const EXTENTS: &str = "extents";
const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = ".manifest";
const PART: &str = ".part";
/// A manifest is far below: a line an extent.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// An open one.
pub struct Dest {
    disk: Arc<dyn Disk>,
    _lock: Option<Box<dyn DiskLock>>,
}

/// What was removed because no manifest names it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Manifests.
    pub backups: usize,
    /// Files.
    pub files: usize,
}

impl Dest {
    /// Opens it to be written, making it where there is nothing yet.
    ///
    /// # Errors
    /// It is something else, or another backup goes into it now.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, BackupError> {
        if !disk.exists(MARKER).map_err(io(MARKER))? {
            let names = disk.list("").map_err(io("the backup's directory"))?;
            if names
                .iter()
                .any(|name| !["lost+found", LOCK].contains(&name.as_str()))
            {
                let what = "the backup's directory is not empty and holds no backups; nothing was changed";
                return Err(BackupError::Refused(what.into()));
            }
        }
        let lock = disk.lock(LOCK).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => {
                BackupError::Refused("another backup goes into this directory now".into())
            }
            _ => BackupError::Io(LOCK.into(), e),
        })?;
        for dir in [EXTENTS, SNAPSHOTS] {
            disk.create_dir(dir).map_err(io(dir))?;
        }
        let dest = Self {
            disk,
            _lock: Some(lock),
        };
        if !dest.disk.exists(MARKER).map_err(io(MARKER))? {
            dest.write(MARKER, |to| to.write_all_at(MARKER_TEXT, 0))?;
        }
        Ok(dest)
    }

    /// Opens it to be read.
    ///
    /// # Errors
    /// It holds no backups.
    pub fn read(disk: Arc<dyn Disk>) -> Result<Self, BackupError> {
        if !disk.exists(MARKER).map_err(io(MARKER))? {
            return Err(BackupError::Refused(format!(
                "it holds no backups: there is no file {MARKER}"
            )));
        }
        Ok(Self { disk, _lock: None })
    }

    /// Its files.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The path of a file of the backup of a moment.
    pub fn path(taken_ms: u64, kind: &str) -> String {
        format!("{SNAPSHOTS}/{taken_ms:016}.{kind}")
    }

    /// Whether a whole file of this length is there.
    ///
    /// # Errors
    /// The file system's.
    pub fn has(&self, path: &str, bytes: u64) -> Result<bool, BackupError> {
        match self.disk.open(path) {
            Ok(file) => Ok(file.len().map_err(io(path))? == bytes),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(BackupError::Io(path.to_owned(), e)),
        }
    }

    /// Writes a file that appears whole and durable, or not.
    ///
    /// # Errors
    /// The file system's, and `fill`'s.
    pub fn write(
        &self,
        path: &str,
        fill: impl FnOnce(&dyn DiskFile) -> std::io::Result<()>,
    ) -> Result<(), BackupError> {
        let file = self.begin(path)?;
        fill(&*file).map_err(io(path))?;
        self.end(path, &*file)
    }

    /// Begins such a file.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(&self, path: &str) -> Result<Arc<dyn DiskFile>, BackupError> {
        let part = format!("{path}{PART}");
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        if !self.disk.exists(dir).map_err(io(dir))? {
            self.disk.create_dir(dir).map_err(io(dir))?;
            self.disk.sync_dir(EXTENTS).map_err(io(dir))?;
        }
        match self.disk.remove(&part) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(BackupError::Io(part, e)),
            _ => {}
        }
        self.disk.create(&part).map_err(io(&part))
    }

    /// Removes what was begun; a file that has the name already stays.
    pub(crate) fn give_up(&self, path: &str) -> Result<(), BackupError> {
        let part = format!("{path}{PART}");
        self.disk.remove(&part).map_err(io(&part))
    }

    /// Lets it appear.
    ///
    /// # Errors
    /// The file system's.
    pub fn end(&self, path: &str, file: &dyn DiskFile) -> Result<(), BackupError> {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        file.sync_data().map_err(io(path))?;
        self.disk
            .rename(&format!("{path}{PART}"), path)
            .map_err(io(path))?;
        self.disk.sync_dir(dir).map_err(io(dir))?;
        // Names above may be new, too.
        self.disk.sync_dir("").map_err(io(dir))
    }

    /// Writes a manifest: from here on there is that backup.
    ///
    /// # Errors
    /// The file system's.
    pub fn commit(&self, manifest: &Manifest) -> Result<String, BackupError> {
        let path = Self::path(manifest.taken_ms, "manifest");
        let page = manifest.encode()?;
        self.write(&path, |to| to.write_all_at(&page, 0))?;
        Ok(path)
    }

    /// The names of all backups, oldest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn backups(&self) -> Result<Vec<String>, BackupError> {
        let names = self.disk.list(SNAPSHOTS).map_err(io(SNAPSHOTS))?;
        let manifests = names.iter().filter(|name| name.ends_with(MANIFEST));
        Ok(manifests.map(|name| format!("{SNAPSHOTS}/{name}")).collect())
    }

    /// The moment of the newest one, by its name alone: whether or not it can be read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn newest_ms(&self) -> Result<Option<u64>, BackupError> {
        let backups = self.backups()?;
        let moment = |name: &String| {
            let (_, name) = name.rsplit_once('/')?;
            name.strip_suffix(MANIFEST)?.parse().ok()
        };
        Ok(backups.iter().filter_map(moment).max())
    }

    /// One of them.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn manifest(&self, name: &str) -> Result<Manifest, BackupError> {
        let file = self.disk.open(name).map_err(io(name))?;
        let bytes = file.len().map_err(io(name))?;
        if bytes > MANIFEST_BYTES_MAX {
            return Err(BackupError::Corrupt(format!(
                "{name}: {bytes} bytes are no manifest"
            )));
        }
        let mut page = vec![0; bytes as usize];
        file.read_exact_at(&mut page, 0).map_err(io(name))?;
        Manifest::decode(name, &page)
    }

    /// The name of a backup as somebody gave it: as it is listed, or without its directory.
    ///
    /// # Errors
    /// It is no manifest's.
    pub fn named(given: &str) -> Result<String, BackupError> {
        let name = match given.contains('/') {
            true => given.to_owned(),
            false => format!("{SNAPSHOTS}/{given}"),
        };
        match is_of_snapshots(&name) && name.ends_with(MANIFEST) {
            true => Ok(name),
            false => Err(BackupError::Refused(format!(
                "{given:?} is no backup: one is called {SNAPSHOTS}/TIME{MANIFEST}"
            ))),
        }
    }

    /// The newest backup of each disk, of those that can be read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn newest_of_each(&self) -> Result<BTreeMap<String, String>, BackupError> {
        let manifests = self.backups()?.into_iter();
        let readable = manifests.filter_map(|name| Some((self.manifest(&name).ok()?.disk, name)));
        Ok(readable.collect())
    }

    /// The bytes of a small file that a manifest names.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn kept(&self, kept: &Kept) -> Result<Vec<u8>, BackupError> {
        let failed = || io(&kept.file);
        let file = self.disk.open(&kept.file).map_err(failed())?;
        let mut bytes = vec![0; file.len().map_err(failed())?.min(kept.bytes) as usize];
        file.read_exact_at(&mut bytes, 0).map_err(failed())?;
        Ok(bytes)
    }

    /// The extents of the newest backup of a disk that can be read: what was found when each was copied.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn known(&self, disk: DiskId) -> Result<Known, BackupError> {
        let name = disk.to_string();
        let manifests = self.backups()?.into_iter().rev();
        let newest = manifests
            .filter_map(|name| self.manifest(&name).ok())
            .find(|manifest| manifest.disk == name);
        let extents = newest.into_iter().flat_map(|manifest| manifest.extents);
        Ok(Known::new(extents))
    }

    /// Removes what is older than the newest `keep` whole backups of a disk, and every file that none of the others names: those of other disks
    /// stay. One that is not whole takes no other one's place: it is kept beside them, until whole ones are newer. A manifest that cannot be
    /// read keeps everything: what it names, and of which disk, is not known.
    ///
    /// # Errors
    /// The file system's, or such a manifest.
    pub fn prune(&self, disk: DiskId, keep: Option<usize>) -> Result<Pruned, BackupError> {
        let mut pruned = Pruned::default();
        let disk = disk.to_string();
        let mut wanted = keep.map_or(usize::MAX, |keep| keep.max(1));
        let mut named: BTreeSet<String> = BTreeSet::new();
        let mut backups = Vec::new();
        for name in self.backups()?.into_iter().rev() {
            let manifest = self.manifest(&name)?;
            if manifest.disk == disk {
                if wanted == 0 {
                    backups.push(name);
                    continue;
                }
                wanted -= usize::from(manifest.is_whole());
            }
            named.extend(manifest.files());
            named.insert(name);
        }
        // Manifests first: none may name what is gone.
        for name in &backups {
            self.disk.remove(name).map_err(io(name))?;
            pruned.backups += 1;
        }
        self.disk.sync_dir(SNAPSHOTS).map_err(io(SNAPSHOTS))?;
        let mut dirs = vec![SNAPSHOTS.to_owned()];
        let disks = self.disk.list(EXTENTS).map_err(io(EXTENTS))?;
        dirs.extend(disks.into_iter().map(|disk| format!("{EXTENTS}/{disk}")));
        for dir in dirs {
            for name in self.disk.list(&dir).map_err(io(&dir))? {
                let path = format!("{dir}/{name}");
                if !named.contains(&path) {
                    self.disk.remove(&path).map_err(io(&path))?;
                    pruned.files += 1;
                }
            }
        }
        Ok(pruned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExtentCopy;
    use world::real::RealDisk;

    fn dest(path: &std::path::Path) -> Dest {
        Dest::open(Arc::new(RealDisk::open(path).unwrap())).unwrap()
    }

    const ONE: DiskId = DiskId(1);

    fn backup(dest: &Dest, taken_ms: u64, extents: &[u64]) {
        backup_with((dest, ONE), taken_ms, extents, 0);
    }

    fn backup_with((dest, disk): (&Dest, DiskId), taken_ms: u64, extents: &[u64], lost: u64) {
        let path = Dest::path(taken_ms, "snapshot");
        dest.write(&path, |to| to.write_all_at(b"rows", 0)).unwrap();
        let kept = Kept::of(path, b"rows");
        let mut manifest = Manifest::new(disk, (1, 1), taken_ms, kept);
        manifest.lost = lost;
        for extent in extents {
            let copy = ExtentCopy {
                extent: *extent,
                generation: 0,
                epoch: 1,
                end: 3,
                needles: 0,
                damaged: 0,
                mark: None,
                called: None,
            };
            let file = copy.file(&manifest.disk);
            if !dest.has(&file, 3).unwrap() {
                dest.write(&file, |to| to.write_all_at(b"abc", 0)).unwrap();
            }
            manifest.extents.push(copy);
        }
        dest.commit(&manifest).unwrap();
    }

    #[test]
    fn what_no_backup_names_goes_and_nothing_else() {
        let tmp = tempfile::tempdir().unwrap();
        let dest = dest(tmp.path());
        backup(&dest, 1, &[1, 2]);
        backup(&dest, 2, &[2, 3]);
        backup(&dest, 3, &[3]);
        dest.begin(&format!("extents/{}/x.part", DiskId(1))).unwrap();
        assert_eq!(dest.prune(ONE, None).err().map(|e| e.to_string()), None);
        assert_eq!(dest.backups().unwrap().len(), 3);
        let pruned = dest.prune(ONE, Some(2)).unwrap();
        assert_eq!((pruned.backups, pruned.files), (1, 2), "a snapshot and extent 1");
        for name in dest.backups().unwrap() {
            for file in dest.manifest(&name).unwrap().files() {
                assert!(dest.disk().exists(&file).unwrap(), "{file}");
            }
        }
        // One that cannot be read: what it names is not known.
        let newest = dest.backups().unwrap().pop().unwrap();
        dest.disk().open(&newest).unwrap().write_all_at(b"x", 5).unwrap();
        assert_eq!(dest.newest_ms().unwrap(), Some(3), "the next one is later");
        assert!(dest.prune(ONE, Some(1)).is_err());
        assert_eq!(dest.backups().unwrap().len(), 2);
    }

    #[test]
    fn one_that_is_not_whole_takes_no_other_ones_place() {
        let tmp = tempfile::tempdir().unwrap();
        let dest = dest(tmp.path());
        let there = || -> Vec<u64> {
            let backups = dest.backups().unwrap().into_iter();
            backups
                .map(|name| dest.manifest(&name).unwrap().taken_ms)
                .collect()
        };
        backup(&dest, 1, &[1]);
        backup(&dest, 2, &[2]);
        for taken_ms in 3..6 {
            backup_with((&dest, ONE), taken_ms, &[3], 1);
            dest.prune(ONE, Some(1)).unwrap();
        }
        assert_eq!(there(), [2, 3, 4, 5], "the newest whole one, and what is newer");
        assert!(
            dest.disk()
                .exists(
                    &dest.manifest(&Dest::path(2, "manifest")).unwrap().extents[0]
                        .file(&DiskId(1).to_string())
                )
                .unwrap()
        );
        backup(&dest, 6, &[4]);
        dest.prune(ONE, Some(2)).unwrap();
        assert_eq!(there(), [2, 3, 4, 5, 6]);
        dest.prune(ONE, Some(1)).unwrap();
        assert_eq!(there(), [6]);
    }

    #[test]
    fn each_disk_has_backups_of_its_own() {
        let tmp = tempfile::tempdir().unwrap();
        let dest = dest(tmp.path());
        let two = DiskId(2);
        for taken_ms in 1..4 {
            backup_with((&dest, ONE), taken_ms, &[1], 0);
        }
        backup_with((&dest, two), 4, &[1], 0);
        dest.prune(two, Some(1)).unwrap();
        assert_eq!(dest.backups().unwrap().len(), 4);
        dest.prune(ONE, Some(1)).unwrap();
        let of = |disk: DiskId, taken_ms| (disk.to_string(), Dest::path(taken_ms, "manifest"));
        assert_eq!(dest.newest_of_each().unwrap(), [of(ONE, 3), of(two, 4)].into());
        assert_eq!(dest.backups().unwrap().len(), 2);
        for name in dest.backups().unwrap() {
            for file in dest.manifest(&name).unwrap().files() {
                assert!(dest.disk().exists(&file).unwrap(), "{file}");
            }
        }
    }

    #[test]
    fn a_backup_is_named_as_it_is_listed() {
        let listed = Dest::path(7, "manifest");
        let bare = listed.strip_prefix("snapshots/").unwrap();
        for given in [&listed[..], bare] {
            assert_eq!(Dest::named(given).unwrap(), listed);
        }
        for wrong in [
            "/abs/x.manifest",
            "../x.manifest",
            "snapshots/../x.manifest",
            "x.snapshot",
            "",
        ] {
            assert!(
                matches!(Dest::named(wrong), Err(BackupError::Refused(_))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn two_at_once_and_other_peoples_directories_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let first = dest(tmp.path());
        let disk = || Arc::new(RealDisk::open(tmp.path()).unwrap());
        assert!(matches!(Dest::open(disk()), Err(BackupError::Refused(_))));
        drop(first);
        Dest::open(disk()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let disk = || Arc::new(RealDisk::open(other.path()).unwrap());
        disk().create("precious").unwrap();
        assert!(matches!(Dest::open(disk()), Err(BackupError::Refused(_))));
        assert!(matches!(Dest::read(disk()), Err(BackupError::Refused(_))));
        assert_eq!(disk().list("").unwrap(), ["precious"]);
    }
}
