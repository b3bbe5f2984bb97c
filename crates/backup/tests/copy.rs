//! Copies of an extent that rotted, here or there: what each run says of it, and which bytes stay.
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

use backup::{Copied, Dest, ExtentCopy, Kept, Known, Manifest, Pace, Wanted, copy_extent};
use extent::{Appended, Body, DataDir, DataDirConfig, Head, Said, Status, examine, extent_path};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use types::limits::BLOCK_BYTES;
use types::{BlobId, BucketId, DiskId, Epoch, ExtentId, SessionId};
use world::real::RealDisk;
use world::{Disk as _, DiskFile, World};

const X: ExtentId = ExtentId(0x1_0000_0000_0001);
const E1: Epoch = Epoch(1);
const LENGTH: usize = 5000;

/// A store with three needles in one extent, and a directory of backups.
struct Rig {
    _tmp: tempfile::TempDir,
    source: RealDisk,
    disk: DiskId,
    dest: Dest,
    needles: Vec<Appended>,
    /// The extent in the store, and where copies of it are.
    files: [PathBuf; 2],
    wanted: Wanted,
}

fn wait<T>(f: impl FnOnce(extent::Done) -> Result<T, extent::ExtentError>) -> T {
    let (done, durable) = mpsc::channel();
    let out = f(Box::new(move |result| done.send(result).unwrap())).unwrap();
    durable.recv().unwrap().unwrap();
    out
}

fn put(dir: &DataDir, serial: u64) -> Appended {
    put_at(dir, serial, 5)
}

/// Written then.
fn put_at(dir: &DataDir, serial: u64, append_hlc: u64) -> Appended {
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

fn rig() -> Rig {
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

fn open(data: &Path) -> DataDir {
    let config = DataDirConfig {
        journal_bytes: Some(1 << 20),
        extent_step_bytes: Some(1 << 20),
        ballast_bytes: Some(1 << 20),
        ..DataDirConfig::default()
    };
    let disk = Arc::new(RealDisk::open(data).unwrap());
    DataDir::open(&World::real(), disk, config).unwrap().dir
}

fn close(dir: DataDir) {
    wait(|done| {
        dir.close(done);
        Ok(())
    });
}

fn wanted(status: &Status) -> Wanted {
    Wanted {
        extent: status.extent,
        generation: status.generation,
        epoch: status.epoch,
        end: status.end,
        salt: status.salt,
    }
}

fn pace() -> Pace {
    Pace {
        clock: World::real().clock,
        share_percent: 100,
        wait: |_| (),
    }
}

impl Rig {
    fn copy(&self, known: Option<&ExtentCopy>, verify: bool) -> Copied {
        let from = (&self.source as &dyn world::Disk, self.disk);
        let known = match known {
            Some(copy) => self.known(copy),
            None => Known::default(),
        };
        let copied = copy_extent(from, &self.dest, &self.wanted, &pace(), (&known, verify));
        copied.unwrap().unwrap()
    }

    /// What a backup of this copy alone says.
    fn known(&self, copy: &ExtentCopy) -> Known {
        let snapshot = Kept::of(Dest::path(1, "snapshot"), b"");
        let mut manifest = Manifest::new(self.disk, (1, 1), 1, snapshot);
        manifest.extents.push(copy.clone());
        self.dest.commit(&manifest).unwrap();
        self.dest.known(self.disk).unwrap()
    }

    /// The files of copies.
    fn copies(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(&self.files[1]).unwrap();
        names.map(|name| name.unwrap().path()).collect()
    }

    fn file(&self, which: usize) -> PathBuf {
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
    fn flip(&self, file: usize, needle: usize) {
        let at = self.needles[needle].offset as usize + 2000;
        let path = self.file(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    }

    fn bytes(&self, file: usize) -> Vec<u8> {
        let mut bytes = std::fs::read(self.file(file)).unwrap();
        bytes.truncate(self.wanted.end as usize);
        bytes
    }
}

#[test]
fn a_copy_that_is_taken_over_is_as_whole_as_it_was() {
    let rig = rig();
    let first = rig.copy(None, false);
    assert_eq!((first.copy.needles, first.copy.damaged), (3, 0));
    let second = rig.copy(Some(&first.copy), false);
    assert!(!second.is_new);
    assert_eq!(second.copy, first.copy);
    // What an earlier backup that was broken off left, too: no manifest says anything of it.
    let unknown = rig.copy(None, false);
    assert!(!unknown.is_new);
    assert_eq!(unknown.copy, first.copy);
}

#[test]
fn damage_is_told_by_every_backup_that_has_it() {
    let rig = rig();
    rig.flip(0, 1);
    let first = rig.copy(None, false);
    assert_eq!(
        (first.copy.needles, first.copy.damaged, first.damage.len()),
        (3, 1, 1)
    );
    for known in [Some(&first.copy), None] {
        let again = rig.copy(known, false);
        assert!(!again.is_new);
        assert_eq!((&again.copy, &again.damage), (&first.copy, &first.damage));
    }
}

#[test]
fn a_copy_is_replaced_by_a_whole_one_and_by_nothing_less() {
    let rig = rig();
    let first = rig.copy(None, false);
    let whole = rig.bytes(1);
    // One needle is good in the copy alone, another in the store alone.
    rig.flip(1, 0);
    rig.flip(0, 2);
    let before = rig.bytes(1);
    let verified = rig.copy(Some(&first.copy), true);
    assert_eq!((verified.is_new, verified.copy.damaged), (false, 1));
    assert!(
        rig.bytes(1) == before,
        "what the store has no more is still there"
    );
    // The store's bytes are read right again.
    rig.flip(0, 2);
    let verified = rig.copy(Some(&verified.copy), true);
    assert_eq!((verified.is_new, verified.copy.damaged), (true, 0));
    assert!(rig.bytes(1) == whole);
}

#[test]
fn an_extent_that_is_cut_or_has_lost_its_head_is_damage_and_no_end() {
    let rig = rig();
    let end = rig.needles[2].offset + 8;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&rig.files[0])
        .unwrap();
    file.set_len(end).unwrap();
    let cut = rig.copy(None, false);
    assert_eq!((cut.copy.needles, cut.damage.len()), (2, 1), "{:?}", cut.damage);
    std::fs::remove_file(rig.file(1)).unwrap();
    let mut bytes = std::fs::read(&rig.files[0]).unwrap();
    bytes[8] ^= 1;
    std::fs::write(&rig.files[0], bytes).unwrap();
    for _ in 0..2 {
        let headless = rig.copy(None, false);
        assert_eq!((headless.copy.needles, headless.copy.damaged), (2, 2));
        assert!(headless.damage[1].contains("head"), "{:?}", headless.damage);
    }
}

#[test]
fn a_copy_without_its_head_has_all_its_needles() {
    let rig = rig();
    let whole = rig.copy(None, false);
    let path = rig.file(1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let file = rig
        .dest
        .disk()
        .open(&whole.copy.file(&rig.disk.to_string()))
        .unwrap();
    let examined = examine(&file, rig.disk, &whole.copy.said()).unwrap();
    assert_eq!(
        (examined.needles, examined.damaged),
        (3, 1),
        "{:?}",
        examined.damage
    );
    let salt = whole.copy.said().salt.unwrap();
    let said = |salt| Said {
        salt,
        ..whole.copy.said()
    };
    // Neither with another's salt nor without any.
    assert!(examine(&file, rig.disk, &said(None)).is_err());
    assert_eq!(
        examine(&file, rig.disk, &said(Some(salt ^ 1))).unwrap().needles,
        0
    );
}

#[test]
fn what_damage_hides_counts_where_a_copy_is_adopted() {
    // Of three needles the headers of some hold.
    for (bad, at_least) in [(&[0, 1, 2][..], 1), (&[1], 3), (&[2], 3), (&[0, 1], 3)] {
        let rig = rig();
        let whole = rig.copy(None, false);
        let mut bytes = rig.bytes(1);
        for needle in bad {
            bytes[rig.needles[*needle].offset as usize + 40] ^= 1;
        }
        let tmp = tempfile::tempdir().unwrap();
        let dir = open(tmp.path());
        let path = tmp.path().join(extent_path(X, whole.copy.generation()));
        std::fs::write(&path, bytes).unwrap();
        let file = RealDisk::open(tmp.path())
            .unwrap()
            .open(&extent_path(X, whole.copy.generation()));
        let examined = examine(&file.unwrap(), rig.disk, &whole.copy.said()).unwrap();
        assert_eq!(examined.needles, 3 - bad.len() as u64);
        wait(|done| dir.adopt(&examined, Epoch(2), done));
        let needles = dir.status(X).unwrap().needles;
        assert!((at_least..=3).contains(&needles), "{bad:?}: {needles}");
        close(dir);
    }
}

#[test]
fn a_copy_is_taken_over_for_its_bytes_and_not_for_its_numbers() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, before) = (tmp.path().join("data"), tmp.path().join("before"));
    let dest = Dest::open(Arc::new(RealDisk::open(&tmp.path().join("backups")).unwrap())).unwrap();
    let dir = open(&data);
    wait(|done| dir.open_extent(X, E1, 64 << 20, done));
    put(&dir, 1);
    let disk = dir.disk_id();
    close(dir);
    // The directory is put back to here, and as many bytes are written anew.
    let cp = |from: &Path, to: &Path| {
        let done = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status();
        assert!(done.unwrap().success());
    };
    cp(&data, &before);
    let mut copies = Vec::new();
    for written_at in [700, 800] {
        let dir = open(&data);
        put_at(&dir, 2, written_at);
        let status = wait(|done| dir.seal(X, E1.next(), done));
        close(dir);
        let source = RealDisk::open(&data).unwrap();
        let from = (&source as &dyn world::Disk, disk);
        let copied = copy_extent(from, &dest, &wanted(&status), &pace(), (&Known::default(), false));
        copies.push(copied.unwrap().unwrap());
        std::fs::remove_dir_all(&data).unwrap();
        cp(&before, &data);
    }
    let [first, second] = &copies[..] else { panic!() };
    assert!(first.is_new && second.is_new);
    assert_eq!(first.copy.end, second.copy.end);
    for copy in [&first.copy, &second.copy] {
        let file = dest.disk().open(&copy.file(&disk.to_string())).unwrap();
        let examined = examine(&file, disk, &copy.said()).unwrap();
        assert_eq!(examined.newest_hlc, if copy == &first.copy { 700 } else { 800 });
    }
}

/// A file of which some bytes cannot be read.
struct Unreadable(std::ops::Range<u64>);

impl DiskFile for Unreadable {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.fill(7);
        match offset < self.0.end && self.0.start < offset + buf.len() as u64 {
            true => Err(io::Error::other("the disk cannot read it")),
            false => Ok(()),
        }
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("it is read only")
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(1 << 30)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("it is read only")
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!("it is read only")
    }
}

#[test]
fn what_cannot_be_read_is_zeroes_and_the_rest_is_copied() {
    let tmp = tempfile::tempdir().unwrap();
    let to = RealDisk::open(tmp.path()).unwrap().create("to").unwrap();
    let from = Unreadable(3_000_000..3_005_000);
    let length = 5_000_000;
    pace().copy_past_damage(&from, &*to, length).unwrap();
    let mut bytes = vec![0; length as usize];
    to.read_exact_at(&mut bytes, 0).unwrap();
    let zeroes = bytes.iter().filter(|byte| **byte == 0).count();
    assert!((5_000..5_000 + 2 * 4096).contains(&zeroes), "{zeroes}");
    assert!(bytes[3_000_000..3_005_000].iter().all(|byte| *byte == 0));
    assert!(bytes.iter().all(|byte| [0, 7].contains(byte)));
}
