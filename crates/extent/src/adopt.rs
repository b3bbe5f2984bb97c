//! Extents in another place than the directory that wrote them: a copy is examined there, and taken up by a directory that is made of copies.
//!
//! What is adopted is sealed: who wrote it is gone. Its file has everything below its end; a footer is written by the next checkpoint.

use crate::ExtentError;
use crate::dir::DataDir;
use crate::extent::{self, BODY_OFFSET, Extent};
use crate::journal::{Done, RecordType, Urgency};
use crate::needle::Header;
use crate::table::Row;
use crate::walk::{Step, Walker};
use bytes::Bytes;
use std::sync::Arc;
use types::{BucketId, DiskId, Epoch, ExtentId, Generation, SessionId};
use world::{DiskFile, is_scarce};

/// Sentences of damage that one extent tells; more are counted.
const DAMAGE_TOLD_MAX: usize = 100;

/// What stands in the file of one generation of an extent.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Needles, voids apart.
    pub needles: u64,
    /// Bytes of needles, headers and all.
    pub bytes: u64,
    /// Places that are not what was written, at most so many of them.
    pub damage: Vec<String>,
    /// How many there are.
    pub damaged: u64,
    /// The newest hybrid time in a header.
    pub newest_hlc: u64,
    /// The highest session in a header.
    pub last_session: SessionId,
    /// The highest bucket in a header.
    pub last_bucket: BucketId,
    row: Row,
}

/// What a copy of an extent is said to be.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Which.
    pub extent: ExtentId,
    /// Which compaction of it.
    pub generation: Generation,
    /// Behind its last needle.
    pub end: u64,
    /// The salt of its needles' headers, where that is known: with it a copy can do without its head.
    pub salt: Option<u64>,
}

/// Where the file of a generation of an extent is in a data directory.
pub fn extent_path(extent: ExtentId, generation: Generation) -> String {
    extent::path(extent, generation)
}

/// Reads every byte of a copy up to its end: its head, which names `disk`, and each needle, against their checksums. Damage below the end hides
/// needles: they count in what is adopted, so that nobody takes it for an extent without them.
///
/// # Errors
/// Its head is another's, or does not hold and its salt is not known: nothing can be said of what follows.
pub fn examine(file: &Arc<dyn DiskFile>, disk: DiskId, said: &Said) -> Result<Examined, ExtentError> {
    let head = read_head(&**file, disk, said)?;
    let is_headless = head.is_none();
    let of = (said.extent, said.generation);
    let row = head.unwrap_or_else(|| extent::bare_row(of, said.end, said.salt.unwrap_or_default()));
    let mut found = Examined::new(row, said.end);
    let id = said.extent;
    let mut walker = Walker::new(file.clone(), id, found.row.salt, 0, said.end);
    let (mut in_damage, mut hidden) = (false, 0);
    while let Some(step) = walker.step() {
        match step {
            Step::Damage(from, length) => {
                in_damage = true;
                found.tell(format!("extent {id} offset {from}: {length} bytes are no needle"));
            }
            Step::Needle(offset, header) => {
                let due = found.row.next_needle;
                hidden += header.needle.0.saturating_sub(due) * u64::from(in_damage);
                in_damage = false;
                found.row.next_needle = due.max(header.needle.0 + 1);
                if header.void {
                    continue;
                }
                found.count(&header);
                if let Err(what) = walker.verify(offset, &header) {
                    let needle = header.needle.0;
                    found.tell(format!("extent {id} offset {offset} needle {needle}: {what}"));
                }
            }
        }
    }
    // How many there were behind the last header is not known: one of them is enough to keep the extent.
    hidden += u64::from(in_damage);
    found.row.next_needle += u64::from(in_damage);
    found.row.needles = found.needles + hidden;
    // A head is written anew where it is adopted.
    found.row.frozen = found.damaged > 0;
    if is_headless {
        found.tell(format!("extent {id}: its head (byte 0) is not what was written"));
    }
    Ok(found)
}

/// The head; `None`: it does not hold, which can be done without.
fn read_head(file: &dyn DiskFile, disk: DiskId, said: &Said) -> Result<Option<Row>, ExtentError> {
    let id = said.extent;
    let mut head = vec![0; BODY_OFFSET as usize];
    let row = match file.read_exact_at(&mut head, 0) {
        Err(e) if said.salt.is_none() || is_scarce(&e) => {
            let what = format!("extent {id}: its head cannot be read");
            return Err(ExtentError::unread(what, &e));
        }
        Err(_) => None,
        Ok(()) => extent::decode_head(&head, disk),
    };
    let bad = |what: &str| ExtentError::Corrupt(format!("extent {id}: its head (byte 0) {what}"));
    match row {
        Some(row) if (row.extent, row.generation) != (id, said.generation) => Err(bad("is another's")),
        Some(row) if said.salt.is_some_and(|salt| salt != row.salt) => Err(bad("is another's")),
        None if said.salt.is_none() => Err(bad("is not what was written")),
        row => Ok(row),
    }
}

impl Examined {
    fn new(row: Row, end: u64) -> Self {
        Self {
            needles: 0,
            bytes: 0,
            damage: Vec::new(),
            damaged: 0,
            newest_hlc: 0,
            last_session: SessionId(0),
            last_bucket: BucketId(0),
            row: Row { end, ..row },
        }
    }

    fn count(&mut self, header: &Header) {
        self.needles += 1;
        self.bytes += header.stored_bytes();
        self.newest_hlc = self.newest_hlc.max(header.head.append_hlc);
        self.last_session = self.last_session.max(header.head.session);
        self.last_bucket = self.last_bucket.max(header.head.bucket);
    }

    fn tell(&mut self, what: String) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_TOLD_MAX {
            self.damage.push(what);
        }
    }

    /// How large the extent might have grown.
    pub fn bytes_max(&self) -> u64 {
        self.row.bytes_max
    }
}

impl DataDir {
    /// Takes up an extent whose file stands where [`extent_path`] says, sealed, at `epoch`. `done` runs once that is durable.
    ///
    /// # Errors
    /// It is there already, or the disk's: nothing happened and `done` will not run.
    pub fn adopt(&self, examined: &Examined, epoch: Epoch, done: Done) -> Result<(), ExtentError> {
        self.journal().check()?;
        let row = Row {
            epoch,
            sealed: true,
            ..examined.row
        };
        if row.generation > Generation(0) {
            self.raise_format()?;
        }
        let path = extent::path(row.extent, row.generation);
        let io = |e: std::io::Error| ExtentError::io(&path, &e);
        let file = self.disk().open(&path).map_err(io)?;
        // The head names the disk that it is on.
        file.write_all_at(&extent::encode_head(&row, self.disk_id()), 0)
            .map_err(io)?;
        file.sync_data().map_err(io)?;
        self.disk().sync_dir(extent::DIR).map_err(io)?;
        let mut extents = self.0.extents.write().expect("no panic under this lock");
        if extents.contains_key(&row.extent) {
            return Err(ExtentError::Invalid(format!(
                "extent {} is there already",
                row.extent
            )));
        }
        let pieces = [Bytes::copy_from_slice(&row.encode()), Bytes::new(), Bytes::new()];
        self.journal()
            .submit(RecordType::Extent, pieces, Urgency::Now, Some(done))?;
        extents.insert(row.extent, Arc::new(Extent::new(row, Some(file))));
        Ok(())
    }
}
