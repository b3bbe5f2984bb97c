//! Which file of an extent counts when a data directory is opened, and which are left over.
//!
//! ```text
//!   died before the row of the new generation was durable:  old file counts, the new one is left over
//!   died after:                                             new file counts, the old one is left over
//!   no row left that says (lost records, a rebuilt table):  the one that is there; of two the older, which has all that the other has
//! ```
//! What is left over is removed, and is no damage; where records were lost nothing is removed but the files of extents that are gone.

use crate::ExtentError;
use crate::extent::{self, BODY_OFFSET, Extent};
use crate::superblock::Superblock;
use crate::table::Row;
use crate::walk::{Step, Walker};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use types::{ExtentId, Generation};
use world::{Disk, DiskFile};

/// Bytes of a file that are looked at at once.
const LOOK_BYTES: usize = 256 << 10;

/// What the journal says of generations and removals. Known before its records are replayed: they are replayed into the files that
/// count in the end, and one of an older generation into none.
#[derive(Default)]
pub(crate) struct Foreseen(BTreeMap<ExtentId, Row>);

impl Foreseen {
    /// Notes a row, if it is of a compaction or removal and the newest of its extent.
    pub(crate) fn note(&mut self, row: Row) {
        let newer = |known: &Row| (row.gone, row.generation) > (known.gone, known.generation);
        if (row.gone || row.generation > Generation(0)) && self.0.get(&row.extent).is_none_or(newer) {
            self.0.insert(row.extent, row);
        }
    }

    /// The generation that the journal knows an extent to have.
    pub(crate) fn generation(&self, id: ExtentId) -> Option<Generation> {
        self.0.get(&id).map(|row| row.generation)
    }

    /// Rows of a table with what the journal knows better.
    pub(crate) fn over(&self, rows: &[Row]) -> Vec<Row> {
        let mut all: BTreeMap<ExtentId, Row> = rows.iter().map(|row| (row.extent, *row)).collect();
        for (id, newer) in &self.0 {
            let known = all.entry(*id).or_insert(*newer);
            let behind = newer.gone || newer.generation >= known.generation;
            if behind && !known.gone {
                let epoch = known.epoch.max(newer.epoch);
                *known = Row { epoch, ..*newer };
            }
        }
        all.into_values().collect()
    }
}

/// The files of extents that are there.
pub(crate) struct Files(BTreeSet<(ExtentId, Generation)>);

impl Files {
    pub(crate) fn list(disk: &dyn Disk) -> Result<Self, ExtentError> {
        let names = match disk.list(extent::DIR) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|e| ExtentError::io(extent::DIR, &e))?,
        };
        Ok(Self(
            names.iter().filter_map(|name| extent::named(name)).collect(),
        ))
    }

    pub(crate) fn has(&self, id: ExtentId, generation: Generation) -> bool {
        self.0.contains(&(id, generation))
    }

    /// Each extent with the oldest generation that has a file.
    pub(crate) fn oldest(&self) -> BTreeMap<ExtentId, Generation> {
        self.0.iter().rev().copied().collect()
    }

    /// The oldest generation that has a file where `generation` has none.
    pub(crate) fn other_than(&self, id: ExtentId, generation: Generation) -> Option<Generation> {
        if self.has(id, generation) {
            return None;
        }
        self.generations(id).next()
    }

    fn generations(&self, id: ExtentId) -> impl Iterator<Item = Generation> {
        let all = (id, Generation(0))..=(id, Generation(u64::MAX));
        self.0.range(all).map(|(_, generation)| *generation)
    }

    /// Whether a file of an extent may hold needles.
    pub(crate) fn hold(&self, disk: &dyn Disk, superblock: &Superblock, id: ExtentId) -> bool {
        self.generations(id)
            .any(|generation| !is_empty(disk, superblock, (id, generation)))
    }

    /// Paths of all files of an extent.
    pub(crate) fn of(&self, id: ExtentId) -> Vec<String> {
        self.generations(id)
            .map(|generation| extent::path(id, generation))
            .collect()
    }

    /// Paths of the files that nothing needs: of generations that do not count, where the one that does is there, and of extents of
    /// which nobody was ever told.
    pub(crate) fn left(
        &self,
        disk: &dyn Disk,
        superblock: &Superblock,
        extents: &BTreeMap<ExtentId, Arc<Extent>>,
    ) -> Vec<String> {
        let is_left = |(id, generation): &&(ExtentId, Generation)| match extents.get(id) {
            Some(extent) => {
                let counts = extent.lock().row.generation;
                counts != *generation && self.has(*id, counts)
            }
            None => *generation == Generation(0) && is_empty(disk, superblock, (*id, *generation)),
        };
        let left = self.0.iter().filter(is_left);
        left.map(|(id, generation)| extent::path(*id, *generation))
            .collect()
    }
}

/// Whether an extent's file has no needle: one that was made and never told of. What cannot be read is kept.
fn is_empty(disk: &dyn Disk, superblock: &Superblock, of: (ExtentId, Generation)) -> bool {
    let Ok(file) = disk.open(&extent::path(of.0, of.1)) else {
        return false;
    };
    let Ok(len) = file.len() else { return false };
    let mut head = vec![0; BODY_OFFSET as usize];
    let row = match file.read_exact_at(&mut head, 0) {
        Ok(()) => extent::decode_head(&head, superblock.disk),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(_) => return false,
    };
    let Some(row) = row else {
        // Made and not synced, or not wholly: nothing was ever told of it, so nothing is behind its head.
        return is_zero(&*file, len);
    };
    let mut walker = Walker::new(file, of.0, row.salt, 0, len);
    while let Some(step) = walker.step() {
        // Also behind damage.
        if let Step::Needle(..) = step {
            return false;
        }
    }
    true
}

/// Whether nothing stands behind a file's header block. What cannot be read is something.
fn is_zero(file: &dyn DiskFile, len: u64) -> bool {
    let mut block = vec![0; LOOK_BYTES];
    let mut at = BODY_OFFSET;
    while at < len {
        let some = LOOK_BYTES.min((len - at) as usize);
        let read = file.read_exact_at(&mut block[..some], at);
        if read.is_err() || block[..some].iter().any(|b| *b != 0) {
            return false;
        }
        at += some as u64;
    }
    true
}
