//! Reading what a disk has beside its extents and no reader reads: superblock, table of extents, journal.
//!
//! The directory is in use meanwhile. Small files are replaced whole, so one that is opened is one of them. Of the journal only records count
//! that were synced before it was read and are still needed after: those nobody writes over. What lies below may be recycled at any moment,
//! what lies above may be on its way.

use crate::dir::DataDir;
use crate::journal::recover::judge;
use crate::journal::scan::{payload, scan};
use crate::open::JOURNAL;
use crate::superblock::Copies;
use crate::table::Table;
use crate::{ExtentError, Lost};
use types::JournalSeq;
use types::Rot;

impl DataDir {
    /// Reads all of it from the disk: how many bytes, and what is not what was written, a sentence with its place each.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn verify_frame(&self) -> Result<(u64, Vec<(Rot, String)>), ExtentError> {
        let mut damage = Vec::new();
        match Copies::read(self.disk()) {
            Ok(Some(found)) if found.superblock.disk == self.disk_id() => {
                damage.extend(found.bad.map(|what| (Rot::Superblock, what)));
            }
            Ok(_) => damage.push((Rot::Superblock, "superblock: it is not this disk's".to_owned())),
            Err(ExtentError::Corrupt(what)) => damage.push((Rot::Superblock, what)),
            Err(e) => return Err(e),
        }
        match Table::read(self.disk(), self.disk_id()) {
            Err(ExtentError::Corrupt(what)) => damage.push((Rot::ExtentTable, what)),
            other => drop(other?),
        }
        for lost in self.lost_records()? {
            let what = format!(
                "journal: records {} to {} were synced and are not what was written",
                lost.from.0, lost.to.0
            );
            damage.push((Rot::Journal, what));
        }
        Ok((self.superblock().journal_bytes, damage))
    }

    /// Records of the journal that are needed, were synced, and cannot be had.
    fn lost_records(&self) -> Result<Vec<Lost>, ExtentError> {
        let superblock = self.superblock();
        let file = self
            .disk()
            .open(JOURNAL)
            .map_err(|e| ExtentError::io(JOURNAL, &e))?;
        let synced = self.journal().synced();
        let scanned = scan(&*file, superblock.journal_bytes, superblock.journal_salt)?;
        let mut unread = None;
        let verdict = judge(
            &scanned.headers,
            synced.0,
            &mut |header| match payload(&*file, header) {
                Ok(whole) => whole.is_some(),
                Err(e) => {
                    unread = Some(e);
                    false
                }
            },
        );
        // Asked for only now: what was needed when the first byte was read may have been let go and written over since.
        let needed = self.journal().low_water();
        let lost: Vec<Lost> = verdict
            .lost
            .into_iter()
            .filter_map(|lost| within(lost, needed, synced))
            .collect();
        match unread {
            Some(e) if lost.is_empty() => Err(ExtentError::unread(JOURNAL.to_owned(), &e)),
            _ => Ok(lost),
        }
    }
}

/// What of it lies in `low..=high`.
fn within(lost: Lost, low: JournalSeq, high: JournalSeq) -> Option<Lost> {
    let (from, to) = (lost.from.max(low), lost.to.min(high));
    (from <= to).then_some(Lost { from, to, ..lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_and_was_synced_is_lost() {
        let lost = |from, to| Lost {
            from: JournalSeq(from),
            to: JournalSeq(to),
            kind: None,
        };
        let of = |a, b| within(lost(a, b), JournalSeq(10), JournalSeq(20));
        assert_eq!(of(5, 9), None);
        assert_eq!(of(21, 30), None);
        assert_eq!(of(5, 12), Some(lost(10, 12)));
        assert_eq!(of(15, 30), Some(lost(15, 20)));
    }
}
