//! A store with an extent, a directory of backups, and what is done to them.

use backup::{Copied, Dest, ExtentCopy, Kept, Known, Manifest, Pace, Wanted, copy_extent};
use extent::{Appended, Body, DataDir, DataDirConfig, Head, Status, extent_path};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use types::limits::BLOCK_BYTES;
use types::{BlobId, BucketId, DiskId, Epoch, ExtentId, Generation, NeedleId, SessionId};
use world::World;
use world::real::RealDisk;

pub(crate) const X: ExtentId = ExtentId(0x1_0000_0000_0001);
pub(crate) const E1: Epoch = Epoch(1);
pub(crate) const LENGTH: usize = 5000;

/// A store with three needles in one extent, and a directory of backups.
pub(crate) struct Rig {
    _tmp: tempfile::TempDir,
    pub(crate) source: RealDisk,
    pub(crate) disk: DiskId,
    pub(crate) dest: Dest,
    pub(crate) needles: Vec<Appended>,
    /// The extent in the store, and where copies of it are.
    pub(crate) files: [PathBuf; 2],
    pub(crate) wanted: Wanted,
}

pub(crate) fn wait<T>(f: impl FnOnce(extent::Done) -> Result<T, extent::ExtentError>) -> T {
    let (done, durable) = mpsc::channel();
    let out = f(Box::new(move |result| done.send(result).unwrap())).unwrap();
    durable.recv().unwrap().unwrap();
    out
}

pub(crate) fn put(dir: &DataDir, serial: u64) -> Appended {
    put_at(dir, serial, 5)
}

/// Written then.
pub(crate) fn put_at(dir: &DataDir, serial: u64, append_hlc: u64) -> Appended {
    let bytes = vec![serial as u8; LENGTH];
    let crc = |block| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, block) as u32;
    let crcs: Vec<u32> = bytes.chunks(BLOCK_BYTES).map(crc).collect();
    let head = Head {
        blob: BlobId::new(SessionId(1), serial),
        bucket: BucketId(9),
        key: format!("k/{serial}"),
        upload: None,
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: LENGTH as u64,
        append_hlc,
        session: SessionId(1),
    };
    let body = Body {
        bytes: &bytes,
        crcs: &crcs,
    };
    wait(|done| dir.append((X, E1), head, body, Some(done)))
}

pub(crate) fn rig() -> Rig {
    let tmp = tempfile::tempdir().unwrap();
    let (data, backups) = (tmp.path().join("data"), tmp.path().join("backups"));
    let dir = open(&data);
    wait(|done| dir.open_extent(X, E1, 64 << 20, done));
    let needles = (1..4).map(|serial| put(&dir, serial)).collect();
    let status = wait(|done| dir.seal(X, E1.next(), done));
    let id = dir.disk_id();
    close(dir);
    let files = [
        data.join(extent_path(X, status.generation)),
        backups.join("extents").join(id.to_string()),
    ];
    Rig {
        source: RealDisk::open(&data).unwrap(),
        disk: id,
        dest: Dest::open(Arc::new(RealDisk::open(&backups).unwrap())).unwrap(),
        needles,
        files,
        wanted: wanted(&status),
        _tmp: tmp,
    }
}

pub(crate) fn open(data: &Path) -> DataDir {
    let config = DataDirConfig {
        journal_bytes: Some(1 << 20),
        extent_step_bytes: Some(1 << 20),
        ballast_bytes: Some(1 << 20),
        ..DataDirConfig::default()
    };
    let disk = Arc::new(RealDisk::open(data).unwrap());
    DataDir::open(&World::real(), disk, config).unwrap().dir
}

pub(crate) fn close(dir: DataDir) {
    wait(|done| {
        dir.close(done);
        Ok(())
    });
}

pub(crate) fn wanted(status: &Status) -> Wanted {
    Wanted {
        extent: status.extent,
        generation: status.generation,
        epoch: status.epoch,
        end: status.end,
        salt: status.salt,
    }
}

pub(crate) fn pace() -> Pace {
    Pace {
        clock: World::real().clock,
        share_percent: 100,
        wait: |_| (),
    }
}

impl Rig {
    pub(crate) fn copy(&self, known: Option<&ExtentCopy>, verify: bool) -> Copied {
        let from = (&self.source as &dyn world::Disk, self.disk);
        let known = match known {
            Some(copy) => self.known(copy),
            None => Known::default(),
        };
        let copied = copy_extent(from, &self.dest, &self.wanted, &pace(), (&known, verify));
        copied.unwrap().unwrap()
    }

    /// What a backup of this copy alone says.
    pub(crate) fn known(&self, copy: &ExtentCopy) -> Known {
        known(&self.dest, self.disk, copy)
    }

    /// The files of copies.
    pub(crate) fn copies(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(&self.files[1]).unwrap();
        names.map(|name| name.unwrap().path()).collect()
    }

    pub(crate) fn file(&self, which: usize) -> PathBuf {
        match which {
            0 => self.files[0].clone(),
            _ => {
                let copies = self.copies();
                assert_eq!(copies.len(), 1, "nothing is left beside it");
                copies[0].clone()
            }
        }
    }

    /// Turns a bit of a needle's body.
    pub(crate) fn flip(&self, file: usize, needle: usize) {
        let at = self.needles[needle].offset as usize + 2000;
        let path = self.file(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    }

    pub(crate) fn bytes(&self, file: usize) -> Vec<u8> {
        let mut bytes = std::fs::read(self.file(file)).unwrap();
        bytes.truncate(self.wanted.end as usize);
        bytes
    }
}

/// What a backup of one copy alone says.
pub(crate) fn known(dest: &Dest, disk: DiskId, copy: &ExtentCopy) -> Known {
    let snapshot = Kept::of(Dest::path(1, "snapshot"), b"");
    let mut manifest = Manifest::new(disk, (1, 1), 1, snapshot);
    manifest.extents.push(copy.clone());
    dest.commit(&manifest).unwrap();
    dest.known(disk).unwrap()
}

/// Copies a directory as an operator puts it back.
pub(crate) fn cp(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    let done = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}

/// Writes the extent anew without some of its needles.
pub(crate) fn compact(dir: &DataDir, dropped: &[u64]) -> Status {
    let dropped: Vec<NeedleId> = dropped.iter().map(|needle| NeedleId(*needle)).collect();
    let begun = dir.begin_compaction(X, Generation(1), &dropped);
    let mut compaction = begun.unwrap().unwrap();
    while !compaction.step(1 << 20).unwrap() {}
    wait(|done| compaction.finish(done)).0
}

/// A store that is put back to one moment again and again, and is backed up after what was done since.
pub(crate) struct PutBack {
    pub(crate) tmp: tempfile::TempDir,
    pub(crate) dest: Dest,
    pub(crate) disk: DiskId,
}

impl PutBack {
    /// `begin` is what was done before that moment.
    pub(crate) fn to(begin: impl FnOnce(&DataDir)) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let dest = RealDisk::open(&tmp.path().join("backups")).unwrap();
        let dir = open(&tmp.path().join("data"));
        wait(|done| dir.open_extent(X, E1, 64 << 20, done));
        begin(&dir);
        let disk = dir.disk_id();
        close(dir);
        cp(&tmp.path().join("data"), &tmp.path().join("before"));
        Self {
            dest: Dest::open(Arc::new(dest)).unwrap(),
            disk,
            tmp,
        }
    }

    /// Puts it back, does something, and then `spoil`s the extent's file.
    pub(crate) fn anew(
        &self,
        act: impl FnOnce(&DataDir) -> Status,
        spoil: impl FnOnce(&Path),
        known: &Known,
    ) -> Copied {
        let data = self.tmp.path().join("data");
        cp(&self.tmp.path().join("before"), &data);
        let dir = open(&data);
        let status = act(&dir);
        close(dir);
        spoil(&data.join(extent_path(X, status.generation)));
        self.copy(&wanted(&status), known)
    }

    /// Backs it up.
    pub(crate) fn copy(&self, wanted: &Wanted, known: &Known) -> Copied {
        let source = RealDisk::open(&self.tmp.path().join("data")).unwrap();
        let from = (&source as &dyn world::Disk, self.disk);
        let copied = copy_extent(from, &self.dest, wanted, &pace(), (known, false));
        copied.unwrap().unwrap()
    }

    pub(crate) fn known(&self, copied: &Copied) -> Known {
        known(&self.dest, self.disk, &copied.copy)
    }

    /// The keys of the needles of a copy, and what is wrong with it.
    pub(crate) fn has(&self, copied: &Copied) -> (u64, u64, u64) {
        let file = self.dest.disk().open(&copied.copy.file(&self.disk.to_string()));
        let examined = extent::examine(&file.unwrap(), self.disk, &copied.copy.said()).unwrap();
        (examined.needles, examined.damaged, examined.newest_hlc)
    }
}
