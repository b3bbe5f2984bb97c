//! Extents in another place than the directory that wrote them: a copy is examined there, and taken up by a directory that is made of copies.
//!
//! What is adopted is sealed: who wrote it is gone. Its file has everything below its end; a footer is written by the next checkpoint.

use crate::ExtentError;
use crate::dir::DataDir;
use crate::extent::{self, BODY_OFFSET, Extent};
use crate::journal::{Done, RecordType, Urgency};
use crate::table::Row;
use crate::walk::{Step, Walker};
use bytes::Bytes;
use std::sync::Arc;
use types::{BucketId, DiskId, Epoch, ExtentId, Generation, SessionId};
use world::DiskFile;

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

/// Where the file of a generation of an extent is in a data directory.
pub fn extent_path(extent: ExtentId, generation: Generation) -> String {
    extent::path(extent, generation)
}

/// Reads every byte of a copy up to `end`: its head, which names `disk`, and each needle, against their checksums.
///
/// # Errors
/// Its head does not hold, or is another's: nothing can be said of what follows.
pub fn examine(
    file: &Arc<dyn DiskFile>,
    disk: DiskId,
    (id, generation): (ExtentId, Generation),
    end: u64,
) -> Result<Examined, ExtentError> {
    let mut head = vec![0; BODY_OFFSET as usize];
    file.read_exact_at(&mut head, 0)
        .map_err(|e| ExtentError::unread(format!("extent {id}: its head cannot be read"), &e))?;
    let row = extent::decode_head(&head, disk)
        .filter(|row| (row.extent, row.generation) == (id, generation))
        .ok_or_else(|| {
            ExtentError::Corrupt(format!("extent {id}: its head (byte 0) is not what was written"))
        })?;
    let mut found = Examined {
        needles: 0,
        bytes: 0,
        damage: Vec::new(),
        damaged: 0,
        newest_hlc: 0,
        last_session: SessionId(0),
        last_bucket: BucketId(0),
        row: Row { end, ..row },
    };
    let mut walker = Walker::new(file.clone(), id, row.salt, 0, end);
    while let Some(step) = walker.step() {
        match step {
            Step::Damage(from, length) => {
                found.tell(format!("extent {id} offset {from}: {length} bytes are no needle"));
            }
            Step::Needle(offset, header) => {
                found.row.next_needle = found.row.next_needle.max(header.needle.0 + 1);
                if header.void {
                    continue;
                }
                found.needles += 1;
                found.bytes += header.stored_bytes();
                found.newest_hlc = found.newest_hlc.max(header.head.append_hlc);
                found.last_session = found.last_session.max(header.head.session);
                found.last_bucket = found.last_bucket.max(header.head.bucket);
                if let Err(what) = walker.verify(offset, &header) {
                    let needle = header.needle.0;
                    found.tell(format!("extent {id} offset {offset} needle {needle}: {what}"));
                }
            }
        }
    }
    found.row.needles = found.needles;
    found.row.frozen = found.damaged > 0;
    Ok(found)
}

impl Examined {
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
