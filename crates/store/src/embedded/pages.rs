//! The file under redb: every 4 KiB page has a crc32c that is checked at each read, and a power cut never mixes two moments.
//!
//! redb (its docs/design.md) keeps committed pages where they are until a later durable commit has made them unreachable, and rewrites
//! exactly one page in place: page 0, its header. It reads pages unchecked. What this adds, between redb and the disk:
//!
//! ```text
//! 0      head A    4 KiB head, then 4 KiB: redb's page 0
//! 8192   head B    the same
//! 16384  group 0   4 KiB crc page A · 4 KiB crc page B · 1008 pages of redb's file
//! ..     group 1   the same
//! ```
//!
//! A *turn* is everything between two syncs. [`Pages::sync`] writes the changed crc pages and the head beside the ones of the last turn,
//! never over them, and syncs once. [`Pages::settle`] then copies head and crc pages over the older ones and syncs again: from there on one
//! bad copy of either hurts nobody, and two bad ones are corruption, not a step back in time. The journal is released only after that, and
//! no page of the next turn is written before. So a torn page 0, a torn crc page, and a data page that was lost though its head was not are
//! all told from what redb committed.
//!
//! After a sync that failed, what memory shows is not what the disk has, and the next process cannot see the difference. It does not need
//! to: it goes on from a turn whose sync is proven by what was written after it (`turn::choose`), which the journal can bring up to date,
//! and writes every copy that it cannot prove anew ([`Pages::open`]). That is one page for each 4 MiB, whatever the file holds.
//!
//! The file has holes where redb has never written: redb doubles its file's length when it grows and uses what it needs of it.
//!
//! Layout, byte by byte: docs/formats/index-file.md. The code that reads and writes single heads and crc pages is in `turn.rs`.

mod backend;
#[cfg(test)]
mod polled;
mod read;
mod refused;
mod reread;
mod uses;

pub(super) use self::backend::{Backend, ReadBackend};
pub(super) use self::read::NOT_GIVEN;
use self::refused::Refused;
pub(super) use self::refused::StartClock;
use self::uses::Uses;
use super::turn::{
    CRC_PAGE_BYTES, Choice, FIRST_COPY, GROUP_PAGES, Head, PAGE_BYTES, choose, crc_page_place,
    encode_crc_page, entries_crc, head_place, page_crc, page_place, table_crc,
};
use crate::StoreError;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};
use types::{DiskId, PartitionId};
use world::DiskFile;
use world::plant::{Plant, is_planted};

/// Whose file it is: heads name it, so that a file in the wrong place is not taken for the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The disk it was written on.
    pub(super) disk: DiskId,
    /// The partition it is the form of.
    pub(super) partition: PartitionId,
    /// Its number among the partition's files: 0, or above it one that lies over those of lower numbers.
    pub(super) file: u16,
}

/// Set once a sync of any file has failed: what survived of it nobody knows, so the disk's index is written no more in this life
/// (reads may show bytes that are not on the disk, and a second sync would call them durable).
pub(super) type Retired = Arc<OnceLock<String>>;

/// Where an index file is.
#[derive(Clone)]
pub(super) struct Place {
    /// Whose it is.
    pub(super) owner: Owner,
    /// Its name on the disk.
    pub(super) path: String,
    /// Shared by all files of the disk.
    pub(super) retired: Retired,
    /// Bytes of pages that one file keeps in memory.
    pub(super) cache_bytes: usize,
    /// Tells how long ago the device refused a page.
    pub(super) clock: StartClock,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// Neither head is whole: it was never finished, or both are bad.
    NoHead,
    /// It is not what was written; says where.
    Corrupt(String),
    /// The device does not give what an opening needs; says where. Asked again it may.
    Unread(String),
    /// A newer build wrote it.
    Newer(u16),
    /// The disk says no.
    Io(io::Error),
    /// It is not as bad as that; what a caller hears.
    Refused(StoreError),
}

impl Unusable {
    /// Of what should be there and cannot be had: `what`. It is damage, as bytes are that are not what was written, unless it is the process
    /// that cannot, and not the disk.
    pub(super) fn unread(what: &str, e: io::Error) -> Self {
        let is_ours = matches!(
            e.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        );
        match is_ours || world::is_scarce(&e) {
            true => Self::Io(e),
            false => Self::Unread(format!("{what}: {e}")),
        }
    }
}

/// The first thing that went wrong below redb, which itself only says that something did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A page is not what was written; says which.
    Corrupt(String),
    /// No room.
    Full(String),
    /// No memory or no descriptor; later there may be.
    Scarce(String),
    /// Anything else.
    Failed(String),
}

/// A checked file.
pub(super) struct Pages {
    file: Arc<dyn DiskFile>,
    place: Place,
    table: RwLock<Table>,
    turn: Mutex<Turn>,
    /// Held while pages are written, until their crcs are known.
    writing: Mutex<()>,
    trouble: Mutex<Option<Trouble>>,
    /// How much it is read.
    pub(super) uses: Uses,
    /// Pages that the device did not give when they were last asked for, some of them.
    refused: Refused,
    /// Copies of heads and crc pages that it did not give when the file was opened, a sentence each: they were written anew.
    mended: BTreeSet<String>,
}

/// What readers need.
struct Table {
    /// redb's file length.
    len: u64,
    /// redb's page 0.
    image: Box<[u8]>,
    /// Crc of each page; 0: never written.
    crcs: Vec<u32>,
    /// Groups whose crcs changed in this turn.
    changed: Vec<bool>,
    /// Whether the length or page 0 changed in this turn.
    head_changed: bool,
}

/// What syncing needs.
struct Turn {
    /// The last synced turn.
    number: u64,
    /// Which head has it.
    which: usize,
    /// That head, and redb's page 0 in it; `None` before the first turn.
    head: Option<(Head, Box<[u8]>)>,
    groups: Vec<Group>,
    /// Whether every copy is of the last synced turn.
    settled: bool,
}

#[derive(Clone, Copy)]
struct Group {
    /// Which crc page has the last synced turn.
    current: usize,
    /// The turn it was written in.
    written: u64,
    /// Which copy it is.
    copy: u32,
    /// Crc of its entries.
    crc: u32,
    /// Whether the other crc page says something else.
    differs: bool,
}

/// A new group's crc pages are read by nobody before they are written.
const NEW_GROUP: Group = Group {
    current: 1,
    written: 0,
    copy: FIRST_COPY,
    crc: 0,
    differs: true,
};

impl Turn {
    fn table_crc(&self, len: u64) -> u32 {
        table_crc(self.groups[..group_count(len)].iter().map(|g| g.crc))
    }
}

fn group_count(len: u64) -> usize {
    ((len / PAGE_BYTES as u64) as usize).div_ceil(GROUP_PAGES)
}

impl Pages {
    /// An empty file; nothing is written before the first sync.
    pub(super) fn create(file: Arc<dyn DiskFile>, place: &Place) -> Self {
        let table = Table {
            len: 0,
            image: vec![0; PAGE_BYTES].into(),
            crcs: Vec::new(),
            changed: Vec::new(),
            head_changed: true,
        };
        let turn = Turn {
            number: 0,
            which: 1,
            head: None,
            groups: Vec::new(),
            settled: true,
        };
        Self::assemble(file, place, (table, turn))
    }

    fn assemble(file: Arc<dyn DiskFile>, place: &Place, state: (Table, Turn)) -> Self {
        Self {
            file,
            place: place.clone(),
            table: RwLock::new(state.0),
            turn: Mutex::new(state.1),
            writing: Mutex::default(),
            trouble: Mutex::new(None),
            uses: Uses::default(),
            refused: Refused::default(),
            mended: BTreeSet::new(),
        }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Opens the newest proven turn, and writes everything that is not proven to be on the disk anew: all copies but those that the
    /// turns themselves wrote. What a newer turn left is removed by it.
    pub(super) fn open(file: Arc<dyn DiskFile>, place: &Place) -> Result<Self, Unusable> {
        let Choice {
            head,
            which,
            image,
            groups,
            unread,
        } = choose(file.as_ref(), &place.path, place.owner)?;
        let mut crcs = Vec::with_capacity(groups.len() * GROUP_PAGES);
        let mut kept = Vec::with_capacity(groups.len());
        for found in groups {
            kept.push(Group {
                current: found.which,
                written: found.turn,
                copy: found.copy,
                crc: entries_crc(&found.crcs),
                differs: true,
            });
            crcs.extend(found.crcs);
        }
        let table = Table {
            len: head.len,
            image: image.clone(),
            changed: vec![false; kept.len()],
            crcs,
            head_changed: false,
        };
        let turn = Turn {
            number: head.turn,
            which,
            head: Some((head, image)),
            groups: kept,
            settled: false,
        };
        let pages = Self::assemble(file, place, (table, turn));
        pages.settle().map_err(Unusable::Io)?;
        Ok(Self {
            mended: unread,
            ..pages
        })
    }

    /// Which of its copies could not be read when it was opened.
    pub(super) fn mended(&self) -> &BTreeSet<String> {
        &self.mended
    }

    /// Has the device asked again for what it did not give, and says whether there is any.
    pub(super) fn ask_again(&self) -> bool {
        self.refused.forget(0..u64::MAX)
    }

    /// What went wrong first, if anything did.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().expect("no panic under this lock").clone()
    }

    /// Whether redb ever finished making its file: it writes its magic number last.
    pub(super) fn finished(&self) -> bool {
        let table = self.table.read().expect("no panic under this lock");
        table.len > 0 && table.image.starts_with(b"redb\x1A\x0A\xA9\x0D\x0A")
    }

    /// redb's file length.
    pub(super) fn len(&self) -> u64 {
        self.table.read().expect("no panic under this lock").len
    }

    fn trouble_of(&self, e: &io::Error) -> Trouble {
        let text = format!("{}: {e}", self.place.path);
        match e.kind() {
            io::ErrorKind::InvalidData => Trouble::Corrupt(e.to_string()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full(text),
            _ if world::is_scarce(e) => Trouble::Scarce(text),
            _ => Trouble::Failed(text),
        }
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result {
            let what = self.trouble_of(e);
            let mut trouble = self.trouble.lock().expect("no panic under this lock");
            trouble.get_or_insert(what);
        }
        result
    }

    /// Writes whole pages at `offset`, or inside page 0.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.uses.cached(data.len());
        self.noted(self.write_pages(offset, data))
    }

    /// Copies the last turn before anything that it reaches may change: [`choose`] goes back to it, and no further.
    fn settle_first(&self) -> io::Result<()> {
        let settled = self.turn().settled;
        if settled { Ok(()) } else { self.copy_turn() }
    }

    fn write_pages(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut page = offset / PAGE_BYTES as u64;
        let mut data = data;
        if page == 0 {
            let mut table = self.table.write().expect("no panic under this lock");
            let from = offset as usize;
            let n = data.len().min(PAGE_BYTES - from);
            table.image[from..from + n].copy_from_slice(&data[..n]);
            table.head_changed = true;
            data = &data[n..];
            page = 1;
        } else {
            aligned(offset)?;
        }
        aligned(data.len() as u64)?;
        if !data.is_empty() {
            self.settle_first()?;
        }
        while !data.is_empty() {
            let n = run(page, data.len());
            let (now, rest) = data.split_at(n * PAGE_BYTES);
            let _writing = self.writing.lock().expect("no panic under this lock");
            self.file.write_all_at(now, page_place(page))?;
            self.refused.forget(page..page + n as u64);
            let mut table = self.table.write().expect("no panic under this lock");
            for (i, bytes) in now.chunks_exact(PAGE_BYTES).enumerate() {
                let number = page + i as u64;
                let Some(crc) = table.crcs.get_mut(number as usize) else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "written past the end",
                    ));
                };
                *crc = page_crc(number, bytes);
            }
            table.changed[page as usize / GROUP_PAGES] = true;
            page += n as u64;
            data = rest;
        }
        Ok(())
    }

    /// Cuts or grows redb's file.
    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.change_len(len))
    }

    fn change_len(&self, len: u64) -> io::Result<()> {
        aligned(len)?;
        self.settle_first()?;
        let pages = (len / PAGE_BYTES as u64) as usize;
        let groups = group_count(len);
        let mut turn = self.turn();
        let mut table = self.table.write().expect("no panic under this lock");
        let shrunk = len < table.len;
        table.len = len;
        table.head_changed = true;
        if shrunk {
            table.crcs.truncate(pages);
            self.refused.forget(pages as u64..u64::MAX);
        }
        table.crcs.resize(groups * GROUP_PAGES, 0);
        table.changed.resize(groups, true);
        if let (true, Some(last)) = (shrunk, table.changed.last_mut()) {
            *last = true;
        }
        // Groups cut away are remembered: if they come back within the turn, their synced crc pages must not be written over.
        let known = turn.groups.len();
        turn.groups.resize(groups.max(known), NEW_GROUP);
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().expect("no panic under this lock")
    }

    fn sync_file(&self) -> io::Result<()> {
        if is_planted(Plant::SkipPageSync) {
            return Ok(());
        }
        self.file.sync_data().inspect_err(|e| {
            // The first failure is the one that counts.
            let _told = self
                .place
                .retired
                .set(format!("{}: a sync failed: {e}", self.place.path));
        })
    }

    /// Ends a turn: all that was written before is durable, at once or not at all.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.noted(self.end_turn())
    }

    fn end_turn(&self) -> io::Result<()> {
        let mut turn = self.turn();
        let number = turn.number + 1;
        let (changed, len, image) = {
            let mut table = self.table.write().expect("no panic under this lock");
            let changed: Vec<(usize, Vec<u32>)> = table
                .changed
                .iter()
                .enumerate()
                .filter(|(_, changed)| **changed)
                .map(|(g, _)| (g, table.crcs[g * GROUP_PAGES..(g + 1) * GROUP_PAGES].to_vec()))
                .collect();
            if changed.is_empty() && !table.head_changed {
                return Ok(());
            }
            table.changed.fill(false);
            table.head_changed = false;
            (changed, table.len, table.image.clone())
        };
        for (g, crcs) in &changed {
            let group = &mut turn.groups[*g];
            let other = 1 - group.current;
            let page = encode_crc_page(*g as u64, (number, FIRST_COPY), crcs);
            self.file.write_all_at(&page, crc_page_place(*g as u64, other))?;
            *group = Group {
                current: other,
                written: number,
                copy: FIRST_COPY,
                crc: entries_crc(crcs),
                differs: true,
            };
        }
        let head = Head {
            owner: self.place.owner,
            turn: number,
            len,
            table_crc: turn.table_crc(len),
            copy: FIRST_COPY,
        };
        let other = 1 - turn.which;
        self.file.write_all_at(&head.encode(&image), head_place(other))?;
        self.sync_file()?;
        turn.number = number;
        turn.which = other;
        turn.head = Some((head, image));
        turn.settled = false;
        Ok(())
    }

    /// Copies the last turn's head and crc pages over the older ones.
    ///
    /// After any trouble it does nothing: what is in memory may be half of a turn whose sync failed.
    pub(super) fn settle(&self) -> io::Result<()> {
        if let Some(trouble) = self.trouble() {
            return Err(io::Error::other(format!("{trouble:?}")));
        }
        self.noted(self.copy_turn())
    }

    fn copy_turn(&self) -> io::Result<()> {
        let mut turn = self.turn();
        let Some((head, image)) = turn.head.as_ref().filter(|_| !turn.settled) else {
            return Ok(());
        };
        // Page 0 may have changed since: the head has its own. No crc has, because this runs before one does.
        let table = self.table.read().expect("no panic under this lock");
        let groups = group_count(head.len);
        for (g, group) in turn.groups[..groups]
            .iter()
            .enumerate()
            .filter(|(_, g)| g.differs)
        {
            let crcs = &table.crcs[g * GROUP_PAGES..(g + 1) * GROUP_PAGES];
            debug_assert_eq!(entries_crc(crcs), group.crc, "the copy is of the turn");
            let page = encode_crc_page(g as u64, (group.written, copy_of(group.copy)), crcs);
            debug_assert_eq!(page.len(), CRC_PAGE_BYTES);
            self.file
                .write_all_at(&page, crc_page_place(g as u64, 1 - group.current))?;
        }
        drop(table);
        let copy = Head {
            copy: copy_of(head.copy),
            ..*head
        };
        self.file
            .write_all_at(&copy.encode(image), head_place(1 - turn.which))?;
        self.sync_file()?;
        for group in &mut turn.groups {
            group.differs = false;
        }
        turn.settled = true;
        // Only now does nothing durable name what lies beyond.
        let end = page_place((groups * GROUP_PAGES) as u64);
        if self.file.len()? > end {
            self.file.set_len(end)?;
        }
        Ok(())
    }
}

/// The number of a copy made of copy `of`.
fn copy_of(of: u32) -> u32 {
    of.max(FIRST_COPY).saturating_add(1)
}

/// How many of the pages from `page` on lie side by side, of those that `bytes` hold.
fn run(page: u64, bytes: usize) -> usize {
    (bytes / PAGE_BYTES).min(GROUP_PAGES - page as usize % GROUP_PAGES)
}

fn aligned(n: u64) -> io::Result<()> {
    if n.is_multiple_of(PAGE_BYTES as u64) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not whole pages"))
    }
}
