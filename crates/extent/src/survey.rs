//! Which records stand in a journal, and which of them something names as synced: read, not recovered, and nothing changed.
//!
//! For checks that damage a journal on purpose. What recovery must not cut is what is at or below [`Survey::known_synced`];
//! a record above it that does not hold is a torn tail to whoever comes after the crash.

use crate::journal::RecordType;
use crate::journal::scan::scan;
use crate::open::JOURNAL;
use crate::superblock::Superblock;
use crate::table::Table;
use crate::{ExtentError, journal::record::Header};
use std::ops::Range;
use types::JournalSeq;
use world::Disk;

/// A journal as it stands.
#[derive(Debug, Default)]
pub struct Survey {
    headers: Vec<Header>,
    synced: u64,
}

impl Survey {
    /// Of the journal on `disk`.
    ///
    /// # Errors
    /// It cannot be read. A table that does not hold names nothing.
    pub fn of(disk: &dyn Disk) -> Result<Self, ExtentError> {
        let Some(superblock) = Superblock::read(disk)? else {
            return Ok(Self::default());
        };
        let table = match Table::read(disk, superblock.disk) {
            Err(ExtentError::Corrupt(_)) => None,
            other => other?,
        };
        let file = disk.open(JOURNAL).map_err(|e| ExtentError::io(JOURNAL, &e))?;
        let scanned = scan(&*file, superblock.journal_bytes, superblock.journal_salt)?;
        Ok(Self {
            headers: scanned.headers.iter().map(|found| found.header).collect(),
            synced: table.map_or(0, |table| table.synced),
        })
    }

    /// The highest sequence that a header that holds, or the extent table, says was synced.
    pub fn known_synced(&self) -> JournalSeq {
        let named = self.headers.iter().map(|header| header.known_synced).max();
        JournalSeq(named.unwrap_or(0).max(self.synced))
    }

    /// The newest record with a sequence of its own, and the bytes of the journal that it stands in.
    pub fn newest(&self) -> Option<(JournalSeq, Range<u64>)> {
        let own = self
            .headers
            .iter()
            .filter(|header| header.kind != RecordType::Mark);
        let newest = own.max_by_key(|header| header.sequence)?;
        Some((JournalSeq(newest.sequence), newest.position..newest.end()))
    }

    /// The newest record with a sequence of its own that stands over byte `offset` of the journal.
    pub fn record_at(&self, offset: u64) -> Option<JournalSeq> {
        let over = |header: &&Header| {
            header.kind != RecordType::Mark && (header.position..header.end()).contains(&offset)
        };
        let newest = self
            .headers
            .iter()
            .filter(over)
            .map(|header| header.sequence)
            .max();
        newest.map(JournalSeq)
    }
}
