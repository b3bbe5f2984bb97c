//! Which partitions a data directory has index files of (docs/formats/catalogue.md).
//!
//! A file that is not there looks like a partition that was never begun. So a partition is listed here, durably, before its first index file
//! is made: one that is listed and has no file is rebuilt from a log that goes back to its first batch, or refused, and never empty.
//!
//! ```text
//! twice:  0 magic "CAIRNCAT" · 8 format u16 · 10 zero u16 · 12 partitions u32 · 16 disk, 16 bytes big-endian
//!        32 partitions, ascending, u64 each; in format 2 each followed by its number of files, u64 · crc32c of all before it u32
//!           zeroes to 4096
//! ```
//! Format 1 is written while each has one file, so that a build that knows no more than that opens the directory; and no other.
//!
//! All numbers little-endian. The second copy is there for the day on which a bit of the first one turns.

use super::log::meaning;
use super::pages::{Retired, Unusable};
use crate::StoreError;
use crc_fast::{CrcAlgorithm, checksum};
use extent::Superblock;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use types::{DiskId, PartitionId};
use world::rot::{self, Rot};
use world::{Disk, DiskFile, Overlay, read_patiently};

/// The file's name.
pub(super) const NAME: &str = "index-catalogue";
const MAGIC: &[u8; 8] = b"CAIRNCAT";
/// Each partition has one file.
const SINGLE: u16 = 1;
/// With numbers of files.
const FORMAT: u16 = 2;
const HEAD_BYTES: usize = 32;
const BLOCK_BYTES: usize = 4096;

/// The partitions that are listed.
pub(super) struct Catalogue {
    disk: Arc<dyn Disk>,
    owner: DiskId,
    retired: Retired,
    listed: Mutex<Listed>,
    /// A copy of it was bad when it was opened.
    is_bad: bool,
}

/// How many index files partitions have.
type Listed = BTreeMap<PartitionId, u16>;

impl Catalogue {
    /// The catalogue of a directory in which the files `found` are; an older build kept none, and one that is behind is brought up.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        owner: DiskId,
        retired: Retired,
        found: impl Iterator<Item = (PartitionId, u16)>,
    ) -> Result<Self, StoreError> {
        let superblock = Superblock::read(&*disk).map_err(|e| meaning(&e))?;
        let (listed, bad) = read(&*disk, NAME, owner)?;
        for what in &bad {
            rot::found(Rot::Catalogue, what);
        }
        if listed.is_none() && superblock.is_some_and(|s| s.catalogued) {
            return Err(StoreError::Corrupt(format!(
                "{NAME}: the file is missing, and with it which index files there were; nothing was changed"
            )));
        }
        let is_new = listed.is_none();
        let mut all = listed.clone().unwrap_or_default();
        for (partition, number) in found {
            let files = all.entry(partition).or_default();
            *files = number.saturating_add(1).max(*files);
        }
        let catalogue = Self {
            disk,
            owner,
            retired,
            listed: Mutex::default(),
            is_bad: !bad.is_empty(),
        };
        if is_new || listed.unwrap_or_default() != all {
            match catalogue.write(&all) {
                // It is no worse than it was: the next file that is made needs room, too, and lists them all.
                Err(StoreError::Full(why)) => {
                    tracing::warn!(why, "the catalogue is not brought up to date");
                    return Ok(catalogue.with(all));
                }
                other => other?,
            }
        }
        if let Some(superblock) = superblock.filter(|s| !s.catalogued) {
            catalogue.tell(superblock)?;
        }
        Ok(catalogue.with(all))
    }

    /// The catalogue for those who go past damage, in a view of the disk that is dropped: where it says nothing it is of the files that are there, and
    /// of what every store has; with why it may lack some.
    pub(super) fn past_damage(
        disk: &Arc<Overlay>,
        owner: DiskId,
        found: &[(PartitionId, u16)],
    ) -> Result<(Self, Option<StoreError>), StoreError> {
        let open = || Self::open(disk.clone(), owner, Retired::default(), found.iter().copied());
        let why = match open() {
            Err(StoreError::Corrupt(why)) => why,
            other => return Ok((other?, None)),
        };
        let every = [
            PartitionId::DIRECTORY,
            PartitionId::CONTROL,
            PartitionId::FIRST_DATA,
        ];
        write_as(&**disk, NAME, owner, &every.into()).map_err(|e| StoreError::io(NAME, &e))?;
        let lost = StoreError::Corrupt(format!(
            "{why}. Taken is what lies in index/; what was written to a file that is gone is not missed"
        ));
        Ok((open()?, Some(lost)))
    }

    /// Writes it anew where a copy of it was bad: once all that a newer build may have left was judged. Where that cannot be done just now it stays as
    /// it is until the next start.
    pub(super) fn mend(&self) -> Result<(), StoreError> {
        if !self.is_bad {
            return Ok(());
        }
        let listed = self.listed.lock().expect("no panic under this lock");
        match self.write(&listed) {
            Err(StoreError::Full(why) | StoreError::Busy(why)) => {
                tracing::warn!(why, "the catalogue stays with one copy");
                Ok(())
            }
            other => other,
        }
    }

    fn with(self, all: Listed) -> Self {
        *self.listed.lock().expect("no panic under this lock") = all;
        self
    }

    /// Has the superblock say that there is one: only now that it is durable.
    fn tell(&self, superblock: Superblock) -> Result<(), StoreError> {
        let told = Superblock {
            catalogued: true,
            ..superblock
        };
        match self.judged("superblock", told.write(&*self.disk)) {
            Err(StoreError::Full(why)) => {
                tracing::warn!(why, "the superblock does not know of the catalogue yet");
                Ok(())
            }
            other => other,
        }
    }

    /// What all files of the disk share.
    pub(super) fn retired(&self) -> Retired {
        self.retired.clone()
    }

    /// The partitions that have had a file.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let listed = self.listed.lock().expect("no panic under this lock");
        listed.keys().copied().collect()
    }

    /// Which of its copies on the disk are not what was written.
    pub(super) fn verify(&self) -> Result<Vec<String>, StoreError> {
        // Held: it is not replaced meanwhile.
        let listed = self.listed.lock().expect("no panic under this lock");
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |e: io::Error| StoreError::io(NAME, &e);
        let file = match self.disk.open(NAME) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(vec![format!("{NAME}: the file is missing")]);
            }
            Err(e) if !world::is_scarce(&e) => return Ok(vec![format!("{NAME}: it cannot be opened: {e}")]),
            Err(e) => return Err(failed(e)),
        };
        let mut bad = Vec::new();
        for (at, copy) in copies(&*file).map_err(failed)? {
            let is_whole = matches!(
                copy.as_deref().map(|b| decode(b, self.owner)),
                Some(Found::Whole(_))
            );
            bad.extend((!is_whole).then(|| bad_copy(NAME, at, copy.is_some())));
        }
        Ok(bad)
    }

    /// How many files a partition has had at once.
    pub(super) fn files(&self, partition: PartitionId) -> u16 {
        let listed = self.listed.lock().expect("no panic under this lock");
        listed.get(&partition).copied().unwrap_or(0)
    }

    /// Lists a partition with so many files, durably, before the last of them is made.
    pub(super) fn add(&self, partition: PartitionId, files: u16) -> Result<(), StoreError> {
        let mut listed = self.listed.lock().expect("no panic under this lock");
        if listed.get(&partition).is_some_and(|listed| *listed >= files) {
            return Ok(());
        }
        let mut all = listed.clone();
        all.insert(partition, files);
        self.write(&all)?;
        *listed = all;
        Ok(())
    }

    fn write(&self, listed: &Listed) -> Result<(), StoreError> {
        self.judged(NAME, write_listed(&*self.disk, NAME, self.owner, listed))
    }

    fn judged(&self, name: &str, written: io::Result<()>) -> Result<(), StoreError> {
        written.map_err(|e| {
            let e = StoreError::io(name, &e);
            if let StoreError::Failed(why) = &e {
                // It may have been a sync. The first failure is the one that counts.
                let _told = self.retired.set(why.clone());
            }
            e
        })
    }
}

fn write_listed(disk: &dyn Disk, name: &str, owner: DiskId, listed: &Listed) -> io::Result<()> {
    let one = encode(owner, listed);
    let twice = [&one[..], &one[..]].concat();
    extent::write_whole(disk, name, &twice)
}

/// Writes, under any name, a catalogue of partitions with one file each.
pub(super) fn write_as(
    disk: &dyn Disk,
    name: &str,
    owner: DiskId,
    partitions: &BTreeSet<PartitionId>,
) -> io::Result<()> {
    let listed = partitions.iter().map(|partition| (*partition, 1)).collect();
    write_listed(disk, name, owner, &listed)
}

/// The partitions of a catalogue under any name, if it is there.
pub(super) fn read_as(
    disk: &dyn Disk,
    name: &str,
    owner: DiskId,
) -> Result<Option<BTreeSet<PartitionId>>, StoreError> {
    let (listed, _) = read(disk, name, owner)?;
    Ok(listed.map(|listed| listed.into_keys().collect()))
}

fn encode(owner: DiskId, listed: &Listed) -> Vec<u8> {
    let format = if listed.values().all(|files| *files <= 1) {
        SINGLE
    } else {
        FORMAT
    };
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(listed.len() as u32).to_le_bytes());
    out.extend_from_slice(&owner.to_bytes());
    for (id, files) in listed {
        out.extend_from_slice(&id.0.to_le_bytes());
        if format == FORMAT {
            out.extend_from_slice(&u64::from(*files).to_le_bytes());
        }
    }
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &out) as u32;
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    out
}

enum Found {
    Whole(Listed),
    Newer(u16),
    Bad,
}

fn decode(bytes: &[u8], owner: DiskId) -> Found {
    if bytes.len() < BLOCK_BYTES || &bytes[..8] != MAGIC {
        return Found::Bad;
    }
    let format = u16::from_le_bytes([bytes[8], bytes[9]]);
    if format > FORMAT {
        return Found::Newer(format);
    }
    let count = u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes")) as usize;
    let entry_bytes = if format == FORMAT { 16 } else { 8 };
    let end = count
        .checked_mul(entry_bytes)
        .and_then(|n| n.checked_add(HEAD_BYTES))
        .filter(|end| *end <= bytes.len() - 4);
    let Some(end) = end else { return Found::Bad };
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &bytes[..end]) as u32;
    if bytes[end..end + 4] != crc.to_le_bytes() || format == 0 || bytes[16..32] != owner.to_bytes() {
        return Found::Bad;
    }
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let entries = bytes[HEAD_BYTES..end].chunks_exact(entry_bytes).map(|entry| {
        let files = if format == FORMAT { number(&entry[8..]) } else { 1 };
        (
            PartitionId(number(&entry[..8])),
            u16::try_from(files).unwrap_or(u16::MAX),
        )
    });
    Found::Whole(entries.collect())
}

/// Both copies, with where each lies; `None` where the device does not give it.
fn copies(file: &dyn DiskFile) -> io::Result<Vec<(usize, Option<Vec<u8>>)>> {
    let bytes = usize::try_from(file.len()?).unwrap_or(0);
    let mut copies = Vec::new();
    for (at, end) in [(0, bytes / 2), (bytes / 2, bytes)] {
        let mut copy = vec![0; end - at];
        // Where neither is to be had the disk is refused.
        copies.push(match read_patiently(file, &mut copy, at as u64) {
            Ok(()) => (at, Some(copy)),
            Err(e) if world::is_scarce(&e) => return Err(e),
            Err(_) => (at, None),
        });
    }
    Ok(copies)
}

fn bad_copy(name: &str, at: usize, is_read: bool) -> String {
    let what = match is_read {
        true => "is not what was written",
        false => "cannot be read",
    };
    format!("{name}: the copy at byte {at} {what}")
}

/// What the file lists, `None` where there is no file; and what is wrong with a copy of it.
fn read(disk: &dyn Disk, name: &str, owner: DiskId) -> Result<(Option<Listed>, Vec<String>), StoreError> {
    // A file that the device does not open is as one of which it gives neither copy.
    let unread =
        |e: io::Error| Unusable::unread(&format!("{name}: it cannot be opened"), e).store_error(name);
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
        Err(e) => return Err(unread(e)),
    };
    let (mut whole, mut newer, mut bad) = (None::<Listed>, None, Vec::new());
    for (at, copy) in copies(&*file).map_err(unread)? {
        match copy.as_deref().map(|b| decode(b, owner)) {
            Some(Found::Whole(listed)) if whole.as_ref().is_none_or(|first| *first == listed) => {
                whole = Some(listed);
                continue;
            }
            // Beside one of this build's it is a bit that turned: the file is replaced whole.
            Some(Found::Newer(format)) => newer = Some(format),
            _ => {}
        }
        bad.push(bad_copy(name, at, copy.is_some()));
    }
    match (whole, newer) {
        (Some(listed), _) => Ok((Some(listed), bad)),
        (None, Some(format)) => Err(StoreError::Newer(format!(
            "{name}: its format {format} is of a newer build; nothing was changed"
        ))),
        (None, None) => Err(StoreError::Corrupt(format!(
            "{name}: neither copy is what was written"
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests touch the real world")]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};
    use world::real::RealDisk;
    use world::{DiskLock, Space};

    /// A disk that opens and makes nothing, now and then, and why; with EIO (5) it is the catalogue that it does not open.
    struct Scarce {
        below: RealDisk,
        errno: AtomicI32,
    }

    impl Scarce {
        fn judge(&self) -> io::Result<()> {
            match self.errno.load(Ordering::Relaxed) {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    impl Disk for Scarce {
        fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
            self.judge().and_then(|()| self.below.create(path))
        }
        fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
            match self.errno.load(Ordering::Relaxed) {
                5 if path != NAME => {}
                _ => self.judge()?,
            }
            self.below.open(path)
        }
        fn exists(&self, path: &str) -> io::Result<bool> {
            self.below.exists(path)
        }
        fn remove(&self, path: &str) -> io::Result<()> {
            self.below.remove(path)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.below.rename(from, to)
        }
        fn list(&self, dir: &str) -> io::Result<Vec<String>> {
            self.below.list(dir)
        }
        fn create_dir(&self, dir: &str) -> io::Result<()> {
            self.below.create_dir(dir)
        }
        fn sync_dir(&self, dir: &str) -> io::Result<()> {
            self.judge().and_then(|()| self.below.sync_dir(dir))
        }
        fn space(&self) -> io::Result<Space> {
            self.below.space()
        }
        fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
            self.below.lock(path)
        }
    }

    #[test]
    fn without_a_descriptor_nothing_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Scarce {
            below: RealDisk::open(dir.path()).unwrap(),
            errno: AtomicI32::new(0),
        });
        let retired = Retired::default();
        let open = || Catalogue::open(disk.clone(), DiskId(9), retired.clone(), std::iter::empty());
        let catalogue = open().unwrap();
        disk.errno.store(24, Ordering::Relaxed); // EMFILE
        let told = catalogue.add(PartitionId(1), 1);
        assert!(matches!(told, Err(StoreError::Busy(_))), "{told:?}");
        assert!(matches!(open(), Err(StoreError::Busy(_))));
        assert!(retired.get().is_none());
        // A file that the device does not open is damage: whoever mends goes on past it. // I5
        disk.errno.store(5, Ordering::Relaxed); // EIO
        let told = open().map(|_| ()).unwrap_err();
        assert!(
            matches!(&told, StoreError::Corrupt(what) if what.contains(NAME)),
            "{told:?}"
        );
        let listed = catalogue.with(Listed::from([(PartitionId(1), 1)]));
        assert_eq!(listed.verify().unwrap().len(), 1);
        let catalogue = listed.with(Listed::new());
        disk.errno.store(0, Ordering::Relaxed);
        catalogue.add(PartitionId(1), 1).unwrap();
        assert_eq!(open().unwrap().files(PartitionId(1)), 1);
    }

    /// Whichever copy is bad, the next start tells it and writes both anew. // I5
    #[test]
    fn a_bad_copy_is_told_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
        let open = || Catalogue::open(disk.clone(), DiskId(9), Retired::default(), std::iter::empty());
        open().unwrap().add(PartitionId(1), 2).unwrap();
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * BLOCK_BYTES);
        for copy in [0, BLOCK_BYTES] {
            for at in [0, 8, 9, 12, 16, HEAD_BYTES, HEAD_BYTES + 8, HEAD_BYTES + 17] {
                let mut flipped = whole.clone();
                flipped[copy + at] ^= 4;
                std::fs::write(&path, flipped).unwrap();
                let (listed, told) = read(&*disk, NAME, DiskId(9)).unwrap();
                assert_eq!(listed, Some(Listed::from([(PartitionId(1), 2)])));
                assert_eq!(
                    told,
                    [format!("{NAME}: the copy at byte {copy} is not what was written")]
                );
                let catalogue = open().unwrap();
                assert_eq!(catalogue.files(PartitionId(1)), 2);
                assert!(
                    std::fs::read(&path).unwrap() != whole,
                    "not before all was judged"
                );
                catalogue.mend().unwrap();
                assert!(
                    std::fs::read(&path).unwrap() == whole,
                    "byte {at} of the copy at {copy}"
                );
            }
        }
    }

    #[test]
    fn it_comes_back_and_a_flipped_bit_is_seen() {
        for (n, files) in [
            (0, 1),
            (1, 1),
            (3, 1),
            (3, 2),
            (253, 3),
            (507, 1),
            (508, 1),
            (2000, 1),
        ] {
            let mut listed: Listed = (0..n).map(|n| (PartitionId(n * 7 + 1), 1)).collect();
            listed.entry(PartitionId(1)).and_modify(|n| *n = files);
            let bytes = encode(DiskId(9), &listed);
            assert_eq!(
                bytes[8],
                if files > 1 { 2 } else { 1 },
                "older builds read what they can"
            );
            assert!(matches!(decode(&bytes, DiskId(9)), Found::Whole(found) if found == listed));
            assert!(matches!(decode(&bytes, DiskId(8)), Found::Bad));
            assert!(matches!(
                decode(&bytes[..bytes.len() - 4096], DiskId(9)),
                Found::Bad
            ));
            let entry_bytes = if files > 1 { 16 } else { 8 };
            for at in 0..HEAD_BYTES + entry_bytes * n as usize + 4 {
                let mut bad = bytes.clone();
                bad[at] ^= 4;
                assert!(!matches!(decode(&bad, DiskId(9)), Found::Whole(_)), "at {at}");
            }
        }
        let mut newer = encode(DiskId(9), &Listed::new());
        newer[8] = 3;
        assert!(matches!(decode(&newer, DiskId(9)), Found::Newer(3)));
    }
}
