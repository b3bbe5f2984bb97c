//! The superblock: what a data directory is (docs/formats/superblock.md). Written as the last step of making one, once more when it has
//! an index catalogue, and once more before the first extent is compacted or removed.
//!
//! It stands in its file twice, so that a bit that turns in one copy costs nothing: the other counts, and the next start writes both anew.
//! The file is replaced whole, so a power cut leaves two copies of the old one or two of the new one.

use crate::ExtentError;
use crate::fields::{Fields, crc32c, put};
use std::io;
use types::{DiskId, NodeId, StampId};
use world::{Disk, DiskFile, read_patiently};

pub(crate) const NAME: &str = "superblock";
const BYTES: usize = 4096;
const COPIES: usize = 2;
const MAGIC: &[u8; 8] = b"CAIRNSB\0";
/// Highest format version of a whole directory.
pub const FORMAT: u32 = 2;
/// Of a directory in which no extent was ever compacted or removed: what it is made with.
pub(crate) const FORMAT_FIRST: u32 = 1;
/// Of one in which one was: a build that knows only the first would take that for damage.
pub(crate) const FORMAT_RECLAIMED: u32 = 2;
/// Flag: the directory has an index catalogue.
const CATALOGUED: u32 = 1;

/// What a data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Format version of the directory.
    pub format: u32,
    /// Random, for ever.
    pub disk: DiskId,
    /// Whose.
    pub node: NodeId,
    /// Which cluster's.
    pub stamp: StampId,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Length of the journal.
    pub journal_bytes: u64,
    /// Salt of the journal's header crcs.
    pub journal_salt: u64,
    /// Size of new extents.
    pub extent_bytes: u64,
    /// Step that extents are allocated ahead in.
    pub extent_step_bytes: u64,
    /// Length of the whole ballast.
    pub ballast_bytes: u64,
    /// Whether the directory has an index catalogue: one that is not there any more is missed.
    pub catalogued: bool,
}

impl Superblock {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; BYTES];
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, &self.format.to_le_bytes());
        put(&mut b, 12, &u32::from(self.catalogued).to_le_bytes());
        put(&mut b, 16, &self.disk.0.to_le_bytes());
        put(&mut b, 32, &self.node.0.to_le_bytes());
        put(&mut b, 40, &self.stamp.0.to_le_bytes());
        put(&mut b, 48, &self.created_ms.to_le_bytes());
        put(&mut b, 56, &self.journal_bytes.to_le_bytes());
        put(&mut b, 64, &self.journal_salt.to_le_bytes());
        put(&mut b, 72, &self.extent_bytes.to_le_bytes());
        put(&mut b, 80, &self.extent_step_bytes.to_le_bytes());
        put(&mut b, 88, &self.ballast_bytes.to_le_bytes());
        let crc = crc32c(&b[..BYTES - 4]);
        put(&mut b, BYTES - 4, &crc.to_le_bytes());
        b
    }

    pub(crate) fn decode(b: &[u8]) -> Result<Self, ExtentError> {
        let bad = |why: &str| ExtentError::Corrupt(format!("superblock: {why}"));
        if b.len() < BYTES || &b[..8] != MAGIC {
            return Err(bad("it is not one"));
        }
        // The version stands before the checksum: a newer format may checksum itself differently.
        let found = b.u32_at(8);
        if found > FORMAT {
            return Err(ExtentError::Newer {
                what: "the data directory".into(),
                found,
                known: FORMAT,
            });
        }
        if !is_sealed(b) || found == 0 {
            return Err(bad("its checksum does not hold"));
        }
        if b.u32_at(512) != 0 {
            return Err(bad("logs of more than one member are not known to this build"));
        }
        Ok(Self {
            format: found,
            disk: DiskId(b.u128_at(16)),
            node: NodeId(b.u64_at(32)),
            stamp: StampId(b.u16_at(40)),
            created_ms: b.u64_at(48),
            journal_bytes: b.u64_at(56),
            journal_salt: b.u64_at(64),
            extent_bytes: b.u64_at(72),
            extent_step_bytes: b.u64_at(80),
            ballast_bytes: b.u64_at(88),
            catalogued: b.u32_at(12) & CATALOGUED != 0,
        })
    }

    /// The directory's superblock; `None` where there is none.
    ///
    /// # Errors
    /// No copy of it can be read, or is what was written; or it is a newer build's.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, ExtentError> {
        Ok(Copies::read(disk)?.map(|copies| copies.superblock))
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The file system's: it is as it was, or as it is to be.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        write_whole(disk, NAME, &self.encode().repeat(COPIES))
    }
}

/// What a superblock's file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    /// The first copy that is whole.
    pub(crate) superblock: Superblock,
    /// What is wrong with the other, a sentence.
    pub(crate) bad: Option<String>,
    /// An older build wrote it once.
    single: bool,
}

impl Copies {
    /// Of the directory's superblock; `None` where there is no file.
    ///
    /// # Errors
    /// As for [`Superblock::read`].
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, ExtentError> {
        let file = match disk.open(NAME) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(ExtentError::io(NAME, &e)),
        };
        let len = file.len().map_err(|e| ExtentError::io(NAME, &e))?;
        let first = read_block(&*file, 0);
        if len == BYTES as u64 {
            let single = |superblock| Self {
                superblock,
                bad: None,
                single: true,
            };
            return first.and_then(|b| Superblock::decode(&b)).map(single).map(Some);
        }
        Self::choose(first, read_block(&*file, BYTES as u64)).map(Some)
    }

    fn choose(
        first: Result<Vec<u8>, ExtentError>,
        second: Result<Vec<u8>, ExtentError>,
    ) -> Result<Self, ExtentError> {
        let is_newer = |e: &ExtentError| matches!(e, ExtentError::Newer { .. });
        // Nothing of a newer build's is changed. What says so and has no checksum of ours may be a bit that turned: the other copy knows.
        for sealed in [&first, &second].into_iter().flatten().filter(|b| is_sealed(b)) {
            if let Err(e) = Superblock::decode(sealed)
                && is_newer(&e)
            {
                return Err(e);
            }
        }
        let decoded = |b: Result<Vec<u8>, ExtentError>| b.and_then(|b| Superblock::decode(&b));
        let bad = |at: usize, why: &str| Some(format!("{NAME}: the copy at byte {at} is bad: {why}"));
        let (superblock, bad) = match (decoded(first), decoded(second)) {
            (Err(_), Err(e)) if is_newer(&e) => return Err(e),
            (Err(e), Err(_)) => return Err(e),
            (Ok(first), Ok(second)) if first == second => (first, None),
            (Ok(first), Ok(_)) => (first, bad(BYTES, "it is not as the other")),
            (Ok(first), Err(e)) => (first, bad(BYTES, &e.to_string())),
            (Err(e), Ok(second)) => (second, bad(0, &e.to_string())),
        };
        Ok(Self {
            superblock,
            bad,
            single: false,
        })
    }

    /// Writes the file anew where it is not two whole copies. Without room it stays as it is until the next start.
    ///
    /// # Errors
    /// The file system's: it is as it was, or as it is to be.
    pub(crate) fn mend(disk: &dyn Disk) -> Result<(), ExtentError> {
        // Read again: the index's engine writes in it, too, before it is started.
        let Some(copies) = Self::read(disk)?.filter(|copies| copies.single || copies.bad.is_some()) else {
            return Ok(());
        };
        let written = copies.superblock.write(disk);
        match written.map_err(|e| ExtentError::io(NAME, &e)) {
            Err(ExtentError::Full(why)) => {
                tracing::warn!(why, "the superblock stays with one copy");
                Ok(())
            }
            other => other,
        }
    }
}

fn read_block(file: &dyn DiskFile, at: u64) -> Result<Vec<u8>, ExtentError> {
    let mut b = vec![0; BYTES];
    match read_patiently(file, &mut b, at) {
        Ok(()) => Ok(b),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ExtentError::Corrupt("superblock: it is cut short".into()))
        }
        Err(e) => Err(ExtentError::io(NAME, &e)),
    }
}

fn is_sealed(b: &[u8]) -> bool {
    crc32c(&b[..BYTES - 4]) == b.u32_at(BYTES - 4)
}

/// Writes a small file of the data directory so that after a crash it is the old one or the new one, whole.
///
/// # Errors
/// The file system's: the old one or the new one is there.
pub fn write_whole(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    match disk.remove(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = disk.create(&new)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&new, name)?;
    disk.sync_dir("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            format: FORMAT_RECLAIMED,
            disk: DiskId(7),
            node: NodeId(1),
            stamp: StampId::FIRST,
            created_ms: 5,
            journal_bytes: 1 << 20,
            journal_salt: 99,
            extent_bytes: 1 << 30,
            extent_step_bytes: 1 << 20,
            ballast_bytes: 3,
            catalogued: true,
        }
    }

    #[test]
    fn round_trips_and_rejects_garbage() {
        let good = sample().encode();
        assert_eq!(Superblock::decode(&good), Ok(sample()));
        for at in 0..BYTES {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Superblock::decode(&bad).is_err(), "flip at {at}");
        }
        assert!(Superblock::decode(&good[..100]).is_err());
    }

    /// One bad copy, wherever it is bad, costs nothing; two cost the directory. // I5
    #[test]
    fn either_copy_will_do() {
        let good = sample().encode();
        for at in 0..BYTES {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            for (first, second, place) in [(&flipped, &good, 0), (&good, &flipped, BYTES)] {
                let copies = Copies::choose(Ok(first.clone()), Ok(second.clone()));
                let copies = copies.unwrap_or_else(|e| panic!("flip at {at} of the copy at {place}: {e}"));
                assert_eq!(copies.superblock, sample());
                let told = copies.bad.expect("it is told");
                assert!(
                    told.contains(&format!("superblock: the copy at byte {place} is bad")),
                    "{told}"
                );
            }
            let neither = Copies::choose(Ok(flipped.clone()), Ok(flipped));
            assert!(neither.is_err(), "flip at {at} of both");
        }
        let whole = Copies::choose(Ok(good.clone()), Ok(good)).unwrap();
        assert_eq!((whole.superblock, whole.bad), (sample(), None));
    }

    // I10
    #[test]
    fn an_older_one_has_no_flag() {
        let old = Superblock {
            catalogued: false,
            ..sample()
        };
        assert_eq!(old.encode()[12..16], [0; 4]);
        assert_eq!(Superblock::decode(&old.encode()), Ok(old));
    }

    /// Its checksum may be another; where it is ours, one copy is enough. // I10
    #[test]
    fn a_newer_format_is_refused_by_name() {
        let old = sample().encode();
        let mut b = sample().encode();
        put(&mut b, 8, &(FORMAT + 1).to_le_bytes());
        let mut sealed = b.clone();
        let crc = crc32c(&b[..BYTES - 4]);
        put(&mut sealed, BYTES - 4, &crc.to_le_bytes());
        let newer = |e: &ExtentError| matches!(e, ExtentError::Newer { found, known, .. } if (*found, *known) == (FORMAT + 1, FORMAT));
        assert!(Superblock::decode(&b).is_err_and(|e| newer(&e)));
        for (first, second) in [(&b, &b), (&sealed, &old), (&old, &sealed)] {
            let e = Copies::choose(Ok(first.clone()), Ok(second.clone())).unwrap_err();
            assert!(newer(&e), "{e}");
        }
    }
}
