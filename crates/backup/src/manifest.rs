//! What one backup consists of: a page of JSON, and a line with its crc.

use crate::BackupError;
use crc_fast::{CrcAlgorithm, checksum};
use extent::Said;
use serde::{Deserialize, Serialize};
use types::{DiskId, Epoch, ExtentId, Generation};

/// The format version that this build writes. In the first, copies of extents had no marks; in the second none of their maps, and their names
/// said all that was known of them.
const FORMAT: u32 = 3;
const FORMAT_FIRST: u32 = 1;
const CRC_LINE: &str = "crc32c ";

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Whose data directory, 32 hexadecimal digits.
    pub disk: String,
    /// Its cluster.
    pub stamp: u16,
    /// Its node.
    pub node: u64,
    /// The moment that it is of, milliseconds since 1970.
    pub taken_ms: u64,
    /// When the last byte was copied.
    pub finished_ms: u64,
    /// The index.
    pub snapshot: Kept,
    /// How many rows that has.
    pub rows: u64,
    /// Places of the index whose rows could not be read and are not in it.
    #[serde(default)]
    pub lost: u64,
    /// Extents that the store should have had and did not: they are not among `extents`.
    #[serde(default)]
    pub missing: u64,
    /// The root key, where the directory had one.
    pub root_key: Option<Kept>,
    /// The extents.
    pub extents: Vec<ExtentCopy>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its path in the backup.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The crc32c of its bytes, where they have none in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc: Option<u32>,
}

impl Kept {
    /// Whether these are its bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
        self.bytes == bytes.len() as u64 && self.crc.is_none_or(|kept| kept == crc)
    }

    /// A file of these bytes.
    pub fn of(file: String, bytes: &[u8]) -> Self {
        Self {
            file,
            bytes: bytes.len() as u64,
            crc: Some(checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32),
        }
    }
}

/// An extent as the store has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub extent: ExtentId,
    /// Which compaction of it.
    pub generation: Generation,
    /// Its writer's epoch.
    pub epoch: Epoch,
    /// Where the next needle would begin.
    pub end: u64,
    /// Of its needles' headers.
    pub salt: u64,
}

/// What tells a file from another of the same extent, generation, epoch and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of its needles' headers: random, another for each file that is begun. With it needles are found where the head does not hold.
    pub salt: u64,
    /// The checksum in its last needle's header; where that is damaged, one of all headers that hold; 0: it has no needles.
    pub last_crc: u32,
    /// Where that needle begins; 0: it is not known.
    pub last_at: u64,
    /// The checksum of the needle map of a generation that a compaction made; 0 of others, and in format 2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub map_crc: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with one")]
fn is_zero(crc: &u32) -> bool {
    *crc == 0
}

/// The copy of an extent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentCopy {
    /// Which.
    pub extent: u64,
    /// Which compaction of it.
    pub generation: u64,
    /// Its writer's epoch.
    pub epoch: u64,
    /// Bytes copied.
    pub end: u64,
    /// Needles in it.
    pub needles: u64,
    /// Places in it that were not what was written when it was copied.
    pub damaged: u64,
    /// Absent of a copy of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Its file's name, where that is not the one that its mark gives: an earlier build called it so, or more could be read then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
}

impl ExtentCopy {
    /// Which extent.
    pub fn id(&self) -> ExtentId {
        ExtentId(self.extent)
    }

    /// Which compaction.
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// What the names of all files of these numbers begin with.
    fn numbers(&self) -> String {
        let (extent, generation) = (self.id(), self.generation);
        format!("{extent}.{generation:x}.{:x}.{}", self.epoch, self.end)
    }

    /// Its file's name. What a copy of these numbers is called anew says all that its bytes depend on: an epoch is never given twice, so what
    /// a power cut takes from an extent's end has another name when it was written anew; and where numbers are given twice all the same,
    /// because a directory was put back to an earlier moment, the mark is another.
    pub(crate) fn name(&self) -> String {
        let numbers = self.numbers();
        match (&self.called, self.mark) {
            (Some(called), _) => called.clone(),
            (None, None) => numbers,
            (None, Some(mark)) => {
                let map = match mark.map_crc {
                    0 => String::new(),
                    crc => format!(".{crc:08x}"),
                };
                format!("{numbers}.{:016x}.{:08x}{map}", mark.salt, mark.last_crc)
            }
        }
    }

    /// Where its bytes are in the backup of `disk`.
    pub fn file(&self, disk: &str) -> String {
        format!("extents/{disk}/{}", self.name())
    }

    /// The same file as what has this mark, too.
    pub(crate) fn known_as(self, mark: Mark) -> Self {
        let name = self.name();
        let mut copy = Self {
            mark: Some(mark),
            called: None,
            ..self
        };
        copy.called = Some(name).filter(|name| *name != copy.name());
        copy
    }

    /// Whether the store says the same of an extent as it did of what this is a copy of.
    pub(crate) fn has_numbers_of(&self, wanted: &Wanted) -> bool {
        let is_salt = self.mark.is_none_or(|mark| mark.salt == wanted.salt);
        let numbers = (self.generation(), Epoch(self.epoch), self.end);
        is_salt && numbers == (wanted.generation, wanted.epoch, wanted.end)
    }

    /// What is to be found in it.
    pub fn said(&self) -> Said {
        Said {
            extent: self.id(),
            generation: self.generation(),
            end: self.end,
            salt: self.mark.map(|mark| mark.salt),
        }
    }
}

impl Manifest {
    /// Of a disk as of a moment, empty yet.
    pub fn new(disk: DiskId, (stamp, node): (u16, u64), taken_ms: u64, snapshot: Kept) -> Self {
        Self {
            format: FORMAT,
            disk: disk.to_string(),
            stamp,
            node,
            taken_ms,
            finished_ms: 0,
            snapshot,
            rows: 0,
            lost: 0,
            missing: 0,
            root_key: None,
            extents: Vec::new(),
        }
    }

    /// The disk's id back.
    ///
    /// # Errors
    /// It is none.
    pub fn disk_id(&self) -> Result<DiskId, BackupError> {
        let id = u128::from_str_radix(&self.disk, 16).map(DiskId);
        id.map_err(|_| BackupError::Corrupt(format!("manifest: {:?} is no disk", self.disk)))
    }

    /// Whether everything that was in the store is in it as it was written: only such a backup may take another one's place.
    pub fn is_whole(&self) -> bool {
        self.lost == 0 && self.missing == 0 && self.extents.iter().all(|extent| extent.damaged == 0)
    }

    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = String> + '_ {
        let extents = self.extents.iter().map(|extent| extent.file(&self.disk));
        let key = self.root_key.iter().map(|kept| kept.file.clone());
        extents.chain(key).chain([self.snapshot.file.clone()])
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, BackupError> {
        let mut page = serde_json::to_vec_pretty(self).map_err(|e| BackupError::Refused(e.to_string()))?;
        page.push(b'\n');
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &page);
        page.extend_from_slice(format!("{CRC_LINE}{crc:08x}\n").as_bytes());
        Ok(page)
    }

    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Self, BackupError> {
        let bad = |what: &str| BackupError::Corrupt(format!("{name}: {what}"));
        let line = CRC_LINE.len() + 9;
        let end = bytes
            .len()
            .checked_sub(line)
            .ok_or_else(|| bad("it is cut off"))?;
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &bytes[..end]);
        if bytes[end..] != *format!("{CRC_LINE}{crc:08x}\n").as_bytes() {
            return Err(bad("it is not what was written"));
        }
        let format = serde_json::from_slice::<serde_json::Value>(&bytes[..end]).ok();
        let format = format.and_then(|page| page.get("format")?.as_u64());
        if !format.is_some_and(|format| (u64::from(FORMAT_FIRST)..=u64::from(FORMAT)).contains(&format)) {
            return Err(BackupError::Refused(format!(
                "{name}: its format is {format:?}, this build knows {FORMAT_FIRST} to {FORMAT}"
            )));
        }
        let manifest: Self = serde_json::from_slice(&bytes[..end]).map_err(|e| bad(&e.to_string()))?;
        manifest.check_names().map_err(|what| bad(&what))?;
        Ok(manifest)
    }

    /// Nobody follows a path out of the directory because a manifest has it.
    fn check_names(&self) -> Result<(), String> {
        let disk = u128::from_str_radix(&self.disk, 16).map(|id| DiskId(id).to_string());
        if disk.ok().as_ref() != Some(&self.disk) {
            return Err(format!("{:?} is no disk", self.disk));
        }
        let kept = self.root_key.iter().chain([&self.snapshot]);
        if let Some(file) = kept.map(|kept| &kept.file).find(|file| !is_of_snapshots(file)) {
            return Err(format!("{file:?} is no file of a backup"));
        }
        let is_its = |copy: &&ExtentCopy| match &copy.called {
            Some(name) => name.starts_with(&copy.numbers()) && is_plain(name),
            None => true,
        };
        match self.extents.iter().find(|copy| !is_its(copy)) {
            Some(copy) => Err(format!("{:?} is no copy of extent {}", copy.called, copy.id())),
            None => Ok(()),
        }
    }
}

/// Whether a path is that of a file in the directory of snapshots.
pub(crate) fn is_of_snapshots(path: &str) -> bool {
    path.strip_prefix("snapshots/").is_some_and(is_plain)
}

/// Whether a name is that of a file, and leads nowhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != ".." && name != "."
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(extents: Vec<u64>) -> Manifest {
        let kept = Kept {
            file: "snapshots/1.snapshot".into(),
            bytes: 9,
            crc: None,
        };
        let mut manifest = Manifest::new(DiskId(77), (1, 1), 5, kept);
        let copy = |extent| ExtentCopy {
            extent,
            generation: extent % 3,
            epoch: 2,
            end: 4096,
            needles: 1,
            damaged: 0,
            mark: (extent % 2 == 0).then_some(Mark {
                salt: extent,
                last_crc: 7,
                last_at: 4096,
                map_crc: 0,
            }),
            called: None,
        };
        manifest.extents = extents.into_iter().map(copy).collect();
        manifest
    }

    #[test]
    fn one_of_an_earlier_build_reads_as_it_was_meant() {
        let text = serde_json::to_string(&sample(vec![1])).unwrap();
        let old = text.replace("\"lost\":0,\"missing\":0,", "");
        assert!(old.len() < text.len());
        let old: Manifest = serde_json::from_str(&old).unwrap();
        assert!(old == sample(vec![1]) && old.is_whole());
        let left_out = Manifest {
            lost: 1,
            ..old.clone()
        };
        let gone = Manifest {
            missing: 1,
            ..old.clone()
        };
        let mut damaged = old;
        damaged.extents[0].damaged = 1;
        assert!([left_out, gone, damaged].iter().all(|not| !not.is_whole()));
    }

    #[test]
    fn no_path_leads_out_of_it() {
        let with = |disk: &str, snapshot: &str, key: &str| {
            let mut manifest = sample(vec![]);
            manifest.disk = disk.to_owned();
            manifest.snapshot.file = snapshot.to_owned();
            manifest.root_key = Some(Kept::of(key.to_owned(), b"key"));
            let page = manifest.encode().unwrap();
            Manifest::decode("m", &page).is_ok()
        };
        let (disk, snapshot, key) = (
            DiskId(77).to_string(),
            "snapshots/1.snapshot",
            "snapshots/1.root-key",
        );
        assert!(with(&disk, snapshot, key));
        for out in [
            "/etc/passwd",
            "../x",
            "snapshots/../../x",
            "snapshots/..",
            "x",
            "",
        ] {
            assert!(!with(&disk, out, key) && !with(&disk, snapshot, out), "{out}");
        }
        assert!(!with("../../x", snapshot, key) && !with("4D", snapshot, key));
        let called = |name: &str| {
            let mut manifest = sample(vec![2]);
            manifest.extents[0].called = Some(name.to_owned());
            Manifest::decode("m", &manifest.encode().unwrap()).is_ok()
        };
        let numbers = sample(vec![2]).extents[0].numbers();
        assert!(called(&numbers) && called(&format!("{numbers}.0.1")));
        for out in ["x", "..", "", "/etc/passwd", &format!("{numbers}/../../x")] {
            assert!(!called(out), "{out}");
        }
    }

    proptest! {
        #[test]
        fn it_comes_back_and_a_flipped_bit_is_seen(extents: Vec<u64>, bit: usize) {
            let manifest = sample(extents);
            let mut page = manifest.encode().unwrap();
            let back = Manifest::decode("m", &page).unwrap();
            prop_assert_eq!(back.disk_id().unwrap(), DiskId(77));
            prop_assert_eq!(back, manifest);
            let bit = bit % (8 * page.len());
            prop_assert!(Manifest::decode("m", &page[..bit / 8]).is_err());
            page[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Manifest::decode("m", &page).is_err());
        }

        #[test]
        fn garbage_is_refused(garbage: Vec<u8>) {
            prop_assert!(Manifest::decode("m", &garbage).is_err());
        }
    }
}
