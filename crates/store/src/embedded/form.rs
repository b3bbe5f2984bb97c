//! The materialised form of one partition's log: a redb file whose pages and rows are checked.
//!
//! It holds the state up to one batch, its [`Mark`], and perhaps rows of later batches, all of which the log still has and lays over it again.
//! It moves in steps of some MiB in key order, the mark with the last: one large transaction would keep several copies of the tree in the file.
//! Each is two-phase (pages are synced before the header names them) with quick-repair, so that opening after a crash walks nothing. Every row's value ends with a crc32c of
//! key and value. After a failure of writing the file is opened anew: redb answers nothing more once its storage has failed. A read that
//! fails harms no other ([`super::reading`]), and a reader that stands on a file whose writing failed takes a new snapshot.
//!
//! To write, redb needs pages that no row is found by: which pages are free. Where one of those is bad the file is opened to be read; what
//! would be written there is refused as it is where a bad page has to be changed, and goes into a file over it.
//!
//! A file that lies over others (number above 0, [`super::files`]) says of each row whether it is there or removed.

use super::leaps::Leaps;
use super::pages::{Backend, NOT_GIVEN, Pages, Place, ReadBackend, Trouble, Unusable};
use super::reading::{GivenUp, attempt};
use crate::StoreError;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use redb::{
    ConcurrencyMode, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageError, TableDefinition, TransactionError,
};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use types::limits::{INDEX_CACHE_BYTES_MAX, INDEX_FILES_MAX};
use types::{Epoch, JournalSeq, LogSeq};
use world::rot::{self, Rot};
use world::{Disk, DiskFile};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const MARK: TableDefinition<&str, &[u8]> = TableDefinition::new("mark");
const MARK_KEY: &str = "mark";
const CRC_BYTES: usize = 4;
const MARK_BYTES: usize = 28;
/// First byte of a row's value in a file that lies over others.
const THERE: u8 = 1;
const REMOVED: u8 = 0;

/// The last batch that is in the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Its log's epoch.
    pub(super) epoch: Epoch,
    /// Its place.
    pub(super) sequence: LogSeq,
    /// Its crc, which the next one names.
    pub(super) crc: u32,
    /// Its record in the journal: what was lost there after it may be a later batch.
    pub(super) place: JournalSeq,
}

/// An open form. Dropping it closes the file in order.
pub(super) struct Form {
    db: Access,
    pages: Arc<Pages>,
    name: String,
    /// Whether it lies over others.
    over: bool,
    /// What of it could not be read when it was opened, and was written anew.
    mended: BTreeSet<String>,
    mark: Mutex<Mark>,
}

/// What redb can do with a file.
enum Access {
    /// All.
    Written(Database),
    /// Read it; why no more.
    Read(ReadOnlyDatabase, String),
}

impl Access {
    fn write(pages: &Arc<Pages>) -> Result<Self, StoreError> {
        builder(pages.place())
            .create_with_backend(Backend(pages.clone()))
            .map(Self::Written)
            .map_err(|e| meaning(pages, &pages.place().path, &e.into()))
    }

    /// As the reader of a file that another process writes: such a one never asks which pages are free.
    fn read(pages: &Arc<Pages>, why: String) -> Result<Self, StoreError> {
        builder(pages.place())
            .set_concurrency_mode(ConcurrencyMode::SingleWriter)
            .open_read_only_with_backend(ReadBackend(pages.clone()))
            .map(|db| Self::Read(db, why))
            .map_err(|e| meaning(pages, &pages.place().path, &e.into()))
    }

    fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        match self {
            Self::Written(db) => db.begin_read(),
            Self::Read(db, _) => db.begin_read(),
        }
    }

    fn writable(&self) -> Result<&Database, StoreError> {
        match self {
            Self::Written(db) => Ok(db),
            Self::Read(_, why) => Err(StoreError::Corrupt(why.clone())),
        }
    }
}

fn row_crc(key: &[u8], value: &[u8]) -> [u8; CRC_BYTES] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&(key.len() as u64).to_le_bytes());
    digest.update(key);
    digest.update(value);
    (digest.finalize() as u32).to_le_bytes()
}

/// A stored value without its crc, if that is right.
fn checked<'a>(key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (value, crc) = stored.split_last_chunk::<CRC_BYTES>()?;
    (row_crc(key, value) == *crc).then_some(value)
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(value.len() + CRC_BYTES);
    stored.extend_from_slice(value);
    stored.extend_from_slice(&row_crc(key, value));
    stored
}

/// What a file that lies over others stores of a row.
fn sealed_over(key: &[u8], value: Option<&Bytes>) -> Vec<u8> {
    match value {
        Some(value) => sealed(key, &[&[THERE], &value[..]].concat()),
        None => sealed(key, &[REMOVED]),
    }
}

impl Mark {
    fn encode(self) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..8].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.place.0.to_le_bytes());
        out[24..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; MARK_BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Some(Self {
            epoch: Epoch(number(0)),
            sequence: LogSeq(number(8)),
            place: JournalSeq(number(16)),
            crc: u32::from_le_bytes(bytes[24..].try_into().expect("four bytes")),
        })
    }
}

/// What redb's error means, by what went wrong below it.
fn meaning(pages: &Pages, name: &str, error: &redb::Error) -> StoreError {
    match (pages.trouble(), error) {
        (Some(trouble), _) => trouble.into(),
        (None, redb::Error::DatabaseClosed) => meaning_closed(name),
        (None, redb::Error::Corrupted(text)) => StoreError::Corrupt(format!("{name}: {text}")),
        (None, other) => StoreError::Failed(format!("{name}: {other}")),
    }
}

fn meaning_closed(name: &str) -> StoreError {
    StoreError::Busy(format!("{name}: it is opened anew; take a new snapshot"))
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Corrupt(text) => Self::Corrupt(text),
            Trouble::Full(text) => Self::Full(text),
            Trouble::Scarce(text) => Self::Busy(text),
            Trouble::Failed(text) => Self::Failed(text),
        }
    }
}

/// The files of a partition have its cache together, and a little more: the first is the largest.
fn builder(place: &Place) -> redb::Builder {
    let mut builder = Database::builder();
    let bytes = place.cache_bytes.min(INDEX_CACHE_BYTES_MAX);
    builder.set_cache_size(match place.owner.file {
        0 => bytes,
        _ => bytes / usize::from(INDEX_FILES_MAX),
    });
    builder
}

impl Form {
    /// Makes the file anew, durable and empty.
    pub(super) fn create(disk: &dyn Disk, place: &Place) -> Result<Self, StoreError> {
        let path = place.path.as_str();
        let failed = |e: std::io::Error| StoreError::io(path, &e);
        if disk.exists(path).map_err(failed)? {
            disk.remove(path).map_err(failed)?;
        }
        let file = disk.create(path).map_err(failed)?;
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        disk.sync_dir(dir).map_err(|e| {
            // As after any failed sync, what survived nobody knows; without a descriptor to sync nothing was tried.
            if !world::is_scarce(&e) {
                let _told = place.retired.set(format!("{dir}: a sync failed: {e}"));
            }
            failed(e)
        })?;
        Self::start(Pages::create(file, place))
    }

    /// Has the device asked again for pages that it did not give, and says whether there are any.
    pub(super) fn ask_again(&self) -> bool {
        self.pages.ask_again()
    }

    /// Opens a file that is there, with the mark of its last whole transaction.
    pub(super) fn open(file: Arc<dyn DiskFile>, place: &Place) -> Result<(Self, Mark), Unusable> {
        let pages = Pages::open(file.clone(), place)?;
        if !pages.finished() {
            return Err(Unusable::NoHead);
        }
        let broken = |e: StoreError| match e {
            StoreError::Corrupt(text) if text.ends_with(NOT_GIVEN) => Unusable::Unread(text),
            StoreError::Corrupt(text) => Unusable::Corrupt(text),
            other => Unusable::Refused(other),
        };
        let mended = pages.mended().clone();
        for what in &mended {
            rot::found(Rot::IndexPage, what);
        }
        let form = match Self::start(pages) {
            Err(StoreError::Corrupt(why)) => Self::start_reading(Pages::open(file, place)?, why),
            other => other,
        };
        let mut form = form.map_err(broken)?;
        form.mended = mended;
        let mark = form.read_mark().map_err(broken)?;
        let mark = mark.ok_or(Unusable::NoHead)?;
        *form.mark.lock().expect("no panic under this lock") = mark;
        Ok((form, mark))
    }

    fn start(pages: Pages) -> Result<Self, StoreError> {
        let pages = Arc::new(pages);
        Ok(Self::assemble(Access::write(&pages)?, pages))
    }

    /// Opens it to be read, whatever state the pages are in that only a writer needs: `why` it cannot be written.
    fn start_reading(pages: Pages, why: String) -> Result<Self, StoreError> {
        let pages = Arc::new(pages);
        Ok(Self::assemble(Access::read(&pages, why)?, pages))
    }

    fn assemble(db: Access, pages: Arc<Pages>) -> Self {
        Self {
            db,
            name: pages.place().path.clone(),
            over: pages.number() > 0,
            pages,
            mended: BTreeSet::new(),
            mark: Mutex::default(),
        }
    }

    /// Closes it and opens it over the same pages: nothing of them stays in memory. Readers of before have nothing more.
    pub(super) fn anew(self) -> Result<Self, StoreError> {
        let closed = |e: redb::DatabaseError| meaning(&self.pages, &self.name, &e.into());
        let db = match self.db {
            Access::Written(db) => {
                db.close().map_err(closed)?;
                Access::write(&self.pages)?
            }
            Access::Read(db, why) => {
                db.close().map_err(closed)?;
                Access::read(&self.pages, why)?
            }
        };
        self.pages.uses.forgotten();
        Ok(Self { db, ..self })
    }

    /// Why it can only be read, if so; and what was bad of it and is not any more.
    pub(super) fn damage(&self) -> impl Iterator<Item = &str> {
        let why = match &self.db {
            Access::Written(_) => None,
            Access::Read(_, why) => Some(&**why),
        };
        self.mended.iter().map(|what| &**what).chain(why)
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        meaning(&self.pages, &self.name, &error.into())
    }

    fn read_mark(&self) -> Result<Option<Mark>, StoreError> {
        let read = self.db.begin_read().map_err(|e| self.failed(e))?;
        let table = match read.open_table(MARK) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(self.failed(e)),
        };
        let stored = table.get(MARK_KEY).map_err(|e| self.failed(e))?;
        let bad = || StoreError::Corrupt(format!("{}: its mark is not what was written", self.name));
        let stored = stored.ok_or_else(bad)?;
        let mark = checked(MARK_KEY.as_bytes(), stored.value()).and_then(Mark::decode);
        mark.map(Some).ok_or_else(bad)
    }

    /// Its mark.
    pub(super) fn mark(&self) -> Mark {
        *self.mark.lock().expect("no panic under this lock")
    }

    /// A new file that lies over others, which end with `mark`.
    pub(super) fn begin(&self, mark: Mark) -> Result<(), StoreError> {
        self.write(std::iter::empty(), Some(mark))
    }

    /// Writes `rows` (`None`: removed), durably and at once, and moves the mark with them where they are the last up to it.
    pub(super) fn write<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)>,
        moved: Option<Mark>,
    ) -> Result<(), StoreError> {
        let mut known = self.mark.lock().expect("no panic under this lock");
        let mark = moved.unwrap_or(*known);
        let mut tx = self.db.writable()?.begin_write().map_err(|e| self.failed(e))?;
        tx.set_two_phase_commit(true);
        tx.set_quick_repair(true);
        {
            let mut table = tx.open_table(ROWS).map_err(|e| self.failed(e))?;
            for (key, value) in rows {
                match value {
                    value if self.over => table.insert(&key[..], &sealed_over(key, value)[..]).map(drop),
                    Some(value) => table.insert(&key[..], &sealed(key, value)[..]).map(drop),
                    None => table.remove(&key[..]).map(drop),
                }
                .map_err(|e| self.failed(e))?;
            }
            let mut marks = tx.open_table(MARK).map_err(|e| self.failed(e))?;
            let stored = sealed(MARK_KEY.as_bytes(), &mark.encode());
            marks.insert(MARK_KEY, &stored[..]).map_err(|e| self.failed(e))?;
        }
        tx.commit().map_err(|e| self.failed(e))?;
        self.pages
            .settle()
            .map_err(|e| self.failed(redb::StorageError::Io(e)))?;
        *known = mark;
        Ok(())
    }

    /// Reads what is durable now, whatever is written later: rows of this file over those of `below`.
    pub(super) fn reader(&self, below: Option<Arc<Reader>>) -> Result<Reader, StoreError> {
        let read = self.db.begin_read().map_err(|e| self.failed(e))?;
        let rows = read.open_table(ROWS).map_err(|e| self.failed(e))?;
        Ok(Reader {
            rows: Arc::new(rows),
            pages: self.pages.clone(),
            name: self.name.clone(),
            over: self.over,
            below,
            leaps: Leaps::default(),
        })
    }
}

/// The form at one moment.
pub(super) struct Reader {
    rows: Arc<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    pages: Arc<Pages>,
    name: String,
    over: bool,
    /// What this file lies over.
    below: Option<Arc<Reader>>,
    /// What listings leapt to.
    pub(super) leaps: Leaps,
}

/// Rows of one reader, ascending; `None`: removed.
pub(super) type Row = (Bytes, Option<Bytes>);
pub(super) type RowOr<T> = Result<T, StoreError>;
pub(super) type RowsOf<'a> = Box<dyn Iterator<Item = RowOr<Row>> + 'a>;

impl Reader {
    /// A stored value, if it is what was written; `None`: the row is removed.
    fn value(&self, key: &[u8], stored: &[u8]) -> RowOr<Option<Bytes>> {
        match (checked(key, stored), self.over) {
            (Some(value), false) => Ok(Some(Bytes::copy_from_slice(value))),
            (Some([THERE, value @ ..]), true) => Ok(Some(Bytes::copy_from_slice(value))),
            (Some([REMOVED]), true) => Ok(None),
            _ => Err(StoreError::Corrupt(format!(
                "{}: the row {} is not what was written",
                self.name,
                key.escape_ascii()
            ))),
        }
    }

    /// One call of redb, which may come to a page that cannot be had.
    fn attempt<T>(&self, read: impl FnOnce() -> Result<T, redb::StorageError>) -> RowOr<T> {
        match attempt::<_, Trouble>(read) {
            Ok(Ok(found)) => Ok(found),
            // Another's trouble: a write failed, and the file is opened anew. What this read cannot have it is told below.
            Ok(Err(StorageError::PreviousIo | StorageError::DatabaseClosed)) => match self.pages.trouble() {
                Some(trouble @ Trouble::Failed(_)) => Err(trouble.into()),
                _ => Err(meaning_closed(&self.name)),
            },
            Ok(Err(e)) => Err(meaning(&self.pages, &self.name, &e.into())),
            Err(GivenUp::Told(trouble)) => Err(trouble.into()),
            Err(GivenUp::Panicked) => Err(StoreError::Corrupt(format!(
                "{}: redb cannot make sense of a page",
                self.name
            ))),
        }
    }

    /// The same without the file that all others lie over; `None`: there is no other.
    pub(super) fn but_lowest(&self) -> Option<Self> {
        let below = self.below.as_ref()?.but_lowest();
        Some(Self {
            rows: self.rows.clone(),
            pages: self.pages.clone(),
            name: self.name.clone(),
            over: self.over,
            below: below.map(Arc::new),
            leaps: Leaps::default(),
        })
    }

    /// Its files, the newest first.
    pub(super) fn files(&self) -> Vec<Arc<Pages>> {
        let below = self.below.as_ref().map_or(Vec::new(), |below| below.files());
        std::iter::once(self.pages.clone()).chain(below).collect()
    }

    /// The row of `key`.
    pub(super) fn get(&self, key: &[u8]) -> RowOr<Option<Bytes>> {
        self.pages.uses.read();
        match self.attempt(|| self.rows.get(key))? {
            Some(stored) => self.value(key, stored.value()),
            None => self.below.as_ref().map_or(Ok(None), |below| below.get(key)),
        }
    }

    /// Rows from `start` to before `end`, and which are removed.
    pub(super) fn range<'a>(&'a self, start: &[u8], end: &Bytes) -> RowOr<RowsOf<'a>> {
        self.pages.uses.read();
        let mut rows = self.attempt(|| self.rows.lower_bound(Bound::Included(start)))?;
        let last = end.clone();
        let mut ended = false;
        let own = std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let row = self.attempt(|| rows.next()).and_then(|row| {
                let Some((key, stored)) = row.filter(|(key, _)| key.value() < &last[..]) else {
                    return Ok(None);
                };
                let value = self.value(key.value(), stored.value())?;
                Ok(Some((Bytes::copy_from_slice(key.value()), value)))
            });
            ended = !matches!(row, Ok(Some(_)));
            row.transpose()
        });
        Ok(match &self.below {
            Some(below) => Box::new(Merged {
                upper: own.peekable(),
                lower: below.range(start, end)?.peekable(),
            }),
            None => Box::new(own),
        })
    }
}

/// Two ascending runs of rows as one; of one key the upper run's.
struct Merged<A: Iterator, B: Iterator> {
    upper: Peekable<A>,
    lower: Peekable<B>,
}

impl<A: Iterator<Item = RowOr<Row>>, B: Iterator<Item = RowOr<Row>>> Iterator for Merged<A, B> {
    type Item = RowOr<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.upper.peek(), self.lower.peek()) {
            // A row that cannot be had may be any: nothing behind it is told before it.
            (Some(Err(_)) | None, None) | (Some(Err(_)), Some(_)) => self.upper.next(),
            (_, Some(Err(_))) | (None, Some(Ok(_))) => self.lower.next(),
            (Some(Ok(_)), None) => self.upper.next(),
            (Some(Ok((upper, _))), Some(Ok((lower, _)))) => match upper.cmp(lower) {
                Ordering::Less => self.upper.next(),
                Ordering::Greater => self.lower.next(),
                Ordering::Equal => {
                    let _covered = self.lower.next();
                    self.upper.next()
                }
            },
        }
    }
}
