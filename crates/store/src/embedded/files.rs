//! A partition's index files: one, or, after one was found bad where it had to be written, more that lie over it.
//!
//! ```text
//! index/<partition>.redb        rows up to the batch at which a page of it was found bad; written no more
//! index/<partition>-1.redb      all rows written since, and which are removed
//! ```
//! A row is looked up in the newest file first. So what a bad page held is an error until it is written anew, everything else is read and
//! written, and the journal is released as ever. Files are added up to `limits::INDEX_FILES_MAX`; the catalogue says how many there are, so
//! that one that is gone is missed. Why it is so, and what would heal a bad page: docs/design/0017-a-bad-page-of-the-index.md.

use super::core::DIR;
use super::form::{Form, Mark, Reader};
use super::pages::{Owner, Place, Retired, StartClock, Unusable};
use crate::StoreError;
use std::sync::Arc;
use types::limits::INDEX_CACHE_BYTES_MAX;
use types::{DiskId, LogSeq, PartitionId};
use world::Disk;

/// Where file `number` of a partition is.
pub(super) fn path_of(partition: PartitionId, number: u16) -> String {
    match number {
        0 => format!("{DIR}/{partition}.redb"),
        n => format!("{DIR}/{partition}-{n}.redb"),
    }
}

/// Whose file has this name, and which of them it is, if it is an index file.
pub(super) fn file_of(name: &str) -> Option<(PartitionId, u16)> {
    let stem = name.strip_suffix(".redb")?;
    let (id, number) = match stem.split_once('-') {
        Some((id, number)) => (id, number.parse().ok()?),
        None => (stem, 0),
    };
    let id = PartitionId(u64::from_str_radix(id, 16).ok()?);
    Some((id, number)).filter(|(id, number)| path_of(*id, *number) == format!("{DIR}/{name}"))
}

/// Whose files they are.
#[derive(Clone)]
pub(super) struct Whose {
    pub(super) disk: DiskId,
    pub(super) partition: PartitionId,
    /// Shared by all files of the disk.
    pub(super) retired: Retired,
    /// Bytes of pages that one file keeps in memory.
    pub(super) cache_bytes: usize,
    /// What tells them the time.
    pub(super) clock: StartClock,
}

impl Whose {
    /// Of a partition whose files nobody serves from.
    pub(super) fn of(disk: DiskId, partition: PartitionId) -> Self {
        Self {
            disk,
            partition,
            retired: Retired::default(),
            cache_bytes: INDEX_CACHE_BYTES_MAX,
            clock: StartClock::default(),
        }
    }

    /// Where file `number` is.
    pub(super) fn place(&self, number: u16) -> Place {
        Place {
            owner: Owner {
                disk: self.disk,
                partition: self.partition,
                file: number,
            },
            path: path_of(self.partition, number),
            retired: self.retired.clone(),
            cache_bytes: self.cache_bytes,
            clock: self.clock.clone(),
        }
    }
}

/// The open files of a partition. Only the newest is written.
pub(super) struct Files {
    newest: Form,
    number: u16,
    /// The older ones: open, because `below` reads them.
    older: Vec<Form>,
    below: Option<Arc<Reader>>,
}

/// Why files cannot be opened: which, and what.
pub(super) type UnusableFile = (String, Unusable);

impl Files {
    /// Makes the first file of a partition.
    pub(super) fn create(disk: &dyn Disk, whose: &Whose) -> Result<Self, StoreError> {
        Ok(Self {
            newest: Form::create(disk, &whose.place(0))?,
            number: 0,
            older: Vec::new(),
            below: None,
        })
    }

    /// Opens the first file, if there is one.
    pub(super) fn open(disk: &dyn Disk, whose: &Whose) -> Result<Option<(Self, Mark)>, UnusableFile> {
        let Some((newest, mark)) = open_one(disk, &whose.place(0))? else {
            return Ok(None);
        };
        let files = Self {
            newest,
            number: 0,
            older: Vec::new(),
            below: None,
        };
        Ok(Some((files, mark)))
    }

    /// Opens the files that lie over the first one, `count` in all, of a log that begins at `first`. The newest may be missing, or not be
    /// finished, where the log has everything that could be in it. Where one cannot be had it comes to those below, and why.
    pub(super) fn open_over(
        mut self,
        disk: &dyn Disk,
        whose: &Whose,
        (mut mark, count, first): (Mark, u16, Option<LogSeq>),
    ) -> Result<(Self, Mark, Option<StoreError>), StoreError> {
        for number in 1..count {
            let place = whose.place(number);
            let why = match open_one(disk, &place) {
                Ok(Some((form, own))) => {
                    self.lay(form)?;
                    mark = own;
                    continue;
                }
                Ok(None) => "the file is missing".to_owned(),
                Err((_, Unusable::NoHead)) => "both heads are bad".to_owned(),
                Err((path, e)) => match e.store_error(&path) {
                    e @ StoreError::Corrupt(_) => return Ok((self, mark, Some(e))),
                    e => return Err(e),
                },
            };
            let complete = first.is_some_and(|first| first.0 <= mark.sequence.0 + 1);
            if number + 1 < count || !complete {
                let missing = StoreError::Corrupt(format!(
                    "{}: {why}; batches of partition {} after {} were in it",
                    place.path, whose.partition, mark.sequence.0
                ));
                return Ok((self, mark, Some(missing)));
            }
            let form = Form::create(disk, &place)?;
            form.begin(mark)?;
            self.lay(form)?;
        }
        Ok((self, mark, None))
    }

    /// Opens them over the same pages: nothing of those stays in memory.
    pub(super) fn anew(self) -> Result<Self, StoreError> {
        // What lies over others reads them.
        drop(self.below);
        let mut forms = self.older.into_iter().chain([self.newest]).map(Form::anew);
        let mut files = Self {
            newest: forms.next().expect("the newest, if none is older")?,
            number: 0,
            older: Vec::new(),
            below: None,
        };
        forms.try_for_each(|form| files.lay(form?))?;
        Ok(files)
    }

    /// Lays a new file over those that are there.
    pub(super) fn add(&mut self, disk: &dyn Disk, whose: &Whose) -> Result<(), StoreError> {
        let form = Form::create(disk, &whose.place(self.number + 1))?;
        form.begin(self.newest.mark())?;
        self.lay(form)
    }

    fn lay(&mut self, form: Form) -> Result<(), StoreError> {
        self.below = Some(Arc::new(self.reader()?));
        self.older.push(std::mem::replace(&mut self.newest, form));
        self.number += 1;
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u16 {
        self.number + 1
    }

    /// Why files of them can only be read, and what was bad of them and is not any more.
    pub(super) fn damage(&self) -> impl Iterator<Item = &str> {
        self.older.iter().chain([&self.newest]).flat_map(Form::damage)
    }

    /// Has the device asked again for pages that it did not give, and says whether there are any.
    pub(super) fn ask_again(&self) -> bool {
        let forms = self.older.iter().chain([&self.newest]);
        // All of them, whichever has some.
        forms.filter(|form| form.ask_again()).count() > 0
    }

    /// The one that is written.
    pub(super) fn newest(&self) -> &Form {
        &self.newest
    }

    /// All rows as they are durable now.
    pub(super) fn reader(&self) -> Result<Reader, StoreError> {
        self.newest.reader(self.below.clone())
    }
}

/// One file; `None` where there is none.
pub(super) fn open_one(disk: &dyn Disk, place: &Place) -> Result<Option<(Form, Mark)>, UnusableFile> {
    let unusable = |why| (place.path.clone(), why);
    match disk.open(&place.path) {
        Ok(file) => Form::open(file, place).map(Some).map_err(unusable),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unusable(Unusable::unread(
            &format!("{}: it cannot be opened", place.path),
            e,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for number in [0, 1, 3] {
            let path = path_of(PartitionId(0x10), number);
            let name = path.strip_prefix("index/").unwrap();
            assert_eq!(file_of(name), Some((PartitionId(0x10), number)));
        }
        for name in [
            "0000000000000010-0.redb",
            "10.redb",
            "0000000000000010-1.redb.new",
            "x.redb",
            "0000000000000010-01.redb",
        ] {
            assert_eq!(file_of(name), None, "{name}");
        }
    }
}
