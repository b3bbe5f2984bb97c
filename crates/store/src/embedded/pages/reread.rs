//! Reading a file's pages for their own sake ([`super::super::verify`]).

use super::{PAGE_BYTES, Pages, group_count};
use crate::StoreError;
use crate::embedded::turn::{
    GROUP_PAGES, crc_page_place, head_place, is_crc_page, is_head, page_crc, page_place,
};
use std::io;

/// Bytes read, what is damaged, and the page where it goes on.
type Piece = (u64, Vec<String>, Option<u64>);

/// What one look at a page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// As it was written, or never written.
    Right,
    /// Not so; what is wrong with it.
    Wrong(&'static str),
}

impl Pages {
    /// Its number among the partition's files.
    pub(in crate::embedded) fn number(&self) -> u16 {
        self.place.owner.file
    }

    /// Reads up to `max` written pages from page `from` on, of one group; and before a group's first page what says which crcs they have.
    pub(in crate::embedded) fn reread(&self, from: u64, max: usize) -> Result<Piece, StoreError> {
        let mut damage = Vec::new();
        if from.is_multiple_of(GROUP_PAGES as u64) {
            damage.extend(self.bad_copies(from / GROUP_PAGES as u64)?);
        }
        let (written, next) = self.written_pages(from, max);
        for page in &written {
            let mut look = self.look_at(*page)?;
            if look != Look::Right {
                let _unwritten = self.writing.lock().expect("no panic under this lock");
                look = self.look_at(*page)?;
            }
            if let Look::Wrong(what) = look {
                damage.push(self.bad_page(*page, what).to_string());
            }
        }
        if self.trouble().is_some() {
            // What a write that failed left is no damage: the last turn does not reach it.
            let what = format!("{}: it is opened anew; ask again", self.place.path);
            return Err(StoreError::Busy(what));
        }
        Ok((written.len() as u64 * PAGE_BYTES as u64, damage, next))
    }

    /// The next pages that were written, and the one after them if there are more.
    fn written_pages(&self, from: u64, max: usize) -> (Vec<u64>, Option<u64>) {
        let table = self.table.read().expect("no panic under this lock");
        let group_end = (from / GROUP_PAGES as u64 + 1) * GROUP_PAGES as u64;
        let pages = table.len / PAGE_BYTES as u64;
        let mut written = Vec::new();
        let mut page = from;
        while page < group_end.min(pages) && written.len() < max {
            if table.crcs.get(page as usize).is_some_and(|crc| *crc != 0) {
                written.push(page);
            }
            page += 1;
        }
        (written, (page < pages).then_some(page))
    }

    fn look_at(&self, page: u64) -> Result<Look, StoreError> {
        let mut bytes = vec![0; PAGE_BYTES];
        if let Err(e) = self.file.read_exact_at(&mut bytes, page_place(page)) {
            return match e.kind() {
                _ if world::is_scarce(&e) => Err(StoreError::io(&self.place.path, &e)),
                io::ErrorKind::UnexpectedEof => Ok(self.unless_gone(page, "is cut off")),
                _ => Ok(self.unless_gone(page, "cannot be read")),
            };
        }
        let table = self.table.read().expect("no panic under this lock");
        Ok(match table.crcs.get(page as usize) {
            Some(want) if *want != 0 && *want != page_crc(page, &bytes) => {
                Look::Wrong("is not what was written")
            }
            _ => Look::Right,
        })
    }

    /// A file that was cut meanwhile misses nothing.
    fn unless_gone(&self, page: u64, what: &'static str) -> Look {
        let table = self.table.read().expect("no panic under this lock");
        match table.crcs.get(page as usize) {
            Some(want) if *want != 0 => Look::Wrong(what),
            _ => Look::Right,
        }
    }

    /// Which copies of a group's crcs, and for the first group of the head, are not what was written. Of what the last turn wrote beside an
    /// older one, and has not been copied over it yet, the older one is only asked to be whole, and crcs not at all: a new group has but one.
    fn bad_copies(&self, group: u64) -> Result<Vec<String>, StoreError> {
        let turn = self.turn();
        let Some((head, _)) = &turn.head else {
            return Ok(Vec::new());
        };
        let path = &self.place.path;
        let unread = |e: super::Unusable| e.store_error(path);
        let is_one_turn = |current: usize, which: usize| turn.settled || current == which;
        let mut bad = Vec::new();
        for which in 0..2 {
            let same = is_one_turn(turn.which, which);
            let number = same.then_some(turn.number);
            let is_asked = group == 0 && (same || turn.number > 1);
            if is_asked && !is_head(&*self.file, which, (self.place.owner, number)).map_err(unread)? {
                let at = head_place(which);
                bad.push(format!("{path}: the head at byte {at} is not what was written"));
            }
            let known = turn.groups.get(group as usize);
            let known = known
                .filter(|known| group < group_count(head.len) as u64 && is_one_turn(known.current, which));
            let Some(known) = known else { continue };
            if !is_crc_page(&*self.file, (group, which), known.crc).map_err(unread)? {
                let at = crc_page_place(group, which);
                bad.push(format!(
                    "{path}: the crc page at byte {at} is not what was written"
                ));
            }
        }
        Ok(bad)
    }
}
