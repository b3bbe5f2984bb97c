//! One file: what programs see of it, and what a power cut would leave.
//!
//! ```text
//!   stable ── written, version 1 ── version 2 ── … ── now        a sector's versions since its last sync
//!      ▲ a power cut leaves any one of them, each sector for itself
//! ```

use super::image::{Image, PAGE_BYTES, SECTOR_BYTES, Sector};
use crate::SimRng;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct File {
    now: Image,
    stable: Image,
    pub(super) len: u64,
    stable_len: u64,
    /// Sectors written since they were last synced, with the versions before the one in `now`.
    dirty: BTreeMap<u64, Vec<Sector>>,
    /// What a lying sync promised: the version of each sector (1 is the first after `stable`), and the length.
    promised: BTreeMap<u64, usize>,
    promised_len: Option<u64>,
    /// Sectors that stable storage does not give any more. Writing one mends it.
    spoiled: BTreeSet<u64>,
    /// Pages that hold room, by bit.
    room: Vec<u64>,
}

/// What a power cut took of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Sectors (of 512 bytes) that no longer hold what was last written.
    pub sectors: Vec<u64>,
    /// Those of them that a sync had promised.
    pub promised: Vec<u64>,
    /// Sectors that kept what was written, though no sync had promised it.
    pub kept: usize,
    /// The length went back though a sync had promised it.
    pub promised_len: bool,
}

impl File {
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) {
        self.now.read(buf, offset);
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        if buf.is_empty() {
            return;
        }
        let end = offset + buf.len() as u64;
        self.touch(offset / SECTOR_BYTES, end.div_ceil(SECTOR_BYTES));
        self.now.write(buf, offset);
        self.len = self.len.max(end);
        self.reserve(offset, end);
    }

    /// Marks sectors as about to be written.
    fn touch(&mut self, first: u64, end: u64) {
        for sector in first..end {
            match self.dirty.get_mut(&sector) {
                Some(versions) => versions.push(self.now.sector(sector)),
                None => {
                    self.dirty.insert(sector, Vec::new());
                }
            }
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let first = len / SECTOR_BYTES;
            let written: Vec<u64> = self
                .now
                .written()
                .filter(|p| (p + 1) * PAGE_BYTES > len)
                .collect();
            for page in written {
                let sectors = PAGE_BYTES / SECTOR_BYTES;
                self.touch((page * sectors).max(first), (page + 1) * sectors);
            }
            self.now.cut(len);
            let page = len.div_ceil(PAGE_BYTES);
            self.room.truncate(page.div_ceil(64) as usize);
            if let (Some(last), true) = (self.room.last_mut(), !page.is_multiple_of(64)) {
                *last &= (1 << (page % 64)) - 1;
            }
        }
        self.len = len;
    }

    /// Everything written is on stable storage now.
    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            self.stable.write(&self.now.sector(sector), sector * SECTOR_BYTES);
            self.spoiled.remove(&sector);
        }
        self.stable_len = self.len;
        self.stable.cut(self.len.next_multiple_of(SECTOR_BYTES));
        self.promised.clear();
        self.promised_len = None;
    }

    /// Answers a sync without doing it.
    pub(super) fn lie(&mut self) {
        self.promised.extend(
            self.dirty
                .iter()
                .map(|(sector, older)| (*sector, older.len() + 1)),
        );
        self.promised_len = Some(self.len);
    }

    /// A sync that fails: some sectors reach stable storage, the others never will, though reads still show them.
    pub(super) fn fail_sync(&mut self, rng: &SimRng) {
        let percent = *rng.pick(&[0, 0, 50, 90]);
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            if rng.percent(percent) {
                self.stable.write(&self.now.sector(sector), sector * SECTOR_BYTES);
                self.spoiled.remove(&sector);
            }
        }
        if rng.percent(50) {
            self.stable_len = self.len;
        }
    }

    /// The power went: what was not synced is lost, whole or in part.
    pub(super) fn crash(&mut self, rng: &SimRng) -> Lost {
        let mut lost = Lost::default();
        // 0: nothing survives, 100: all does, between: each sector for itself; or what lies below a point survives.
        let (percent, below) = match rng.below(4) {
            0 => (0, None),
            1 => (100, None),
            2 => (rng.between(5, 95), None),
            _ => (0, Some(rng.below(self.dirty.len() as u64 + 1))),
        };
        for (n, (sector, older)) in (0..).zip(std::mem::take(&mut self.dirty)) {
            let latest = older.len() + 1;
            let kept = match below {
                Some(point) if n < point => latest,
                None if percent == 100 => latest,
                None if rng.percent(percent) => 1 + rng.below(latest as u64) as usize,
                _ => 0,
            };
            if kept > 0 {
                self.spoiled.remove(&sector);
            }
            if kept == latest {
                lost.kept += 1;
                self.stable.write(&self.now.sector(sector), sector * SECTOR_BYTES);
                continue;
            }
            if kept > 0 {
                self.stable.write(&older[kept - 1][..], sector * SECTOR_BYTES);
            }
            lost.sectors.push(sector);
            if self
                .promised
                .get(&sector)
                .is_some_and(|promised| kept < *promised)
            {
                lost.promised.push(sector);
            }
        }
        if self.len != self.stable_len && rng.percent(percent.max(30)) {
            self.stable_len = self.len;
        }
        lost.promised_len = self.promised_len.is_some_and(|len| self.stable_len != len);
        self.len = self.stable_len;
        self.stable.cut(self.len);
        self.now = Image::default();
        for page in self.stable.written() {
            let mut bytes = [0; PAGE_BYTES as usize];
            self.stable.read(&mut bytes, page * PAGE_BYTES);
            self.now.write(&bytes, page * PAGE_BYTES);
        }
        self.promised.clear();
        self.promised_len = None;
        lost
    }

    /// Turns over a bit that is on stable storage and holds something; `None` when chance found none.
    pub(super) fn flip(&mut self, rng: &SimRng) -> Option<u64> {
        let pages: Vec<u64> = self.stable.written().collect();
        for _try in 0..16 {
            let sector = rng.pick(pages.get(..).filter(|p| !p.is_empty())?) * (PAGE_BYTES / SECTOR_BYTES)
                + rng.below(PAGE_BYTES / SECTOR_BYTES);
            let bytes = self.stable.sector(sector);
            let offset = sector * SECTOR_BYTES + rng.below(SECTOR_BYTES);
            if bytes.iter().any(|b| *b != 0) && self.flip_at(offset, rng.below(8) as u8) {
                return Some(offset);
            }
        }
        None
    }

    /// Turns over a bit of that byte, if it is on stable storage as it is seen.
    pub(super) fn flip_at(&mut self, offset: u64, bit: u8) -> bool {
        let is_stable = !self.dirty.contains_key(&(offset / SECTOR_BYTES)) && offset < self.stable_len;
        if is_stable {
            self.stable.flip(offset, bit);
            self.now.flip(offset, bit);
        }
        is_stable
    }

    /// The sector of that byte cannot be read from here on, if it is on stable storage as it is seen.
    pub(super) fn spoil_at(&mut self, offset: u64) -> bool {
        let sector = offset / SECTOR_BYTES;
        let is_stable = !self.dirty.contains_key(&sector) && offset < self.stable_len;
        is_stable && self.spoiled.insert(sector)
    }

    /// Whether a sector of `offset..end` is not given: none that was written since.
    pub(super) fn is_spoiled(&self, offset: u64, end: u64) -> bool {
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        self.spoiled
            .range(sectors)
            .any(|sector| !self.dirty.contains_key(sector))
    }

    /// Whether some sync that was answered has not been done.
    pub(super) fn is_lied_to(&self) -> bool {
        !self.promised.is_empty() || self.promised_len.is_some()
    }

    /// Pages of room that writing `offset..end` would take beyond what the file has.
    pub(super) fn room_wanted(&self, offset: u64, end: u64) -> u64 {
        (offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES))
            .filter(|page| !self.has_room(*page))
            .count() as u64
    }

    fn has_room(&self, page: u64) -> bool {
        self.room
            .get((page / 64) as usize)
            .is_some_and(|w| w >> (page % 64) & 1 == 1)
    }

    pub(super) fn reserve(&mut self, offset: u64, end: u64) {
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let word = (page / 64) as usize;
            if self.room.len() <= word {
                self.room.resize(word + 1, 0);
            }
            self.room[word] |= 1 << (page % 64);
        }
    }

    /// Pages of room it has.
    pub(super) fn room(&self) -> u64 {
        self.room.iter().map(|w| u64::from(w.count_ones())).sum()
    }
}
