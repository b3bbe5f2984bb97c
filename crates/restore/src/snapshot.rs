//! A snapshot of an index that was read whole: what its rows tell of numbers, and its rows as they are to be laid.

use crate::WITH_STATE;
use crate::under::Seen;
use bytes::Bytes;
use control::{Given, first_session};
use index::{Copies, Floors, Halves, Told, raised};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{SnapshotHead, SnapshotRows, StoreError};
use types::{Hlc, PartitionId};
use world::DiskFile;

/// A row of a partition.
pub type PartitionRow = (PartitionId, Bytes, Bytes);

/// A snapshot that was read whole.
pub struct Index {
    file: Arc<dyn DiskFile>,
    name: String,
    /// What it says of itself.
    pub head: SnapshotHead,
    /// How many rows it has.
    pub rows: u64,
    /// In how many places rows are missing that could not be read when it was made.
    pub left_out: u64,
    /// What its control rows tell was given.
    pub given: Given,
    /// What the rows of the other partitions tell of numbers.
    told: BTreeMap<PartitionId, Told>,
    /// What they tell of buckets.
    pub(crate) copies: Copies,
    /// What they tell of rows that are not laid where others are missing; `None` where none are.
    halves: Option<Halves>,
}

impl Index {
    /// Reads one.
    ///
    /// # Errors
    /// It is not whole, or has rows that are none.
    pub fn read(file: Arc<dyn DiskFile>, name: &str) -> Result<Self, StoreError> {
        let mut rows = SnapshotRows::open(file.clone(), name)?;
        let head = rows.head();
        let (mut count, mut given, mut copies) = (0, Given::default(), Copies::default());
        let mut halves = Halves::default();
        let mut told = BTreeMap::from(WITH_STATE.map(|partition| (partition, Told::default())));
        for row in rows.by_ref() {
            let (partition, key, value) = row?;
            if partition == PartitionId::CONTROL {
                given
                    .take(&key, &value)
                    .map_err(|what| StoreError::Corrupt(format!("{name}: {what}")))?;
            } else {
                told.entry(partition).or_default().take(&key, &value);
                copies.take(partition, &key, &value);
                halves.take(partition, &key);
            }
            count += 1;
        }
        let left_out = rows.left_out();
        Ok(Self {
            file,
            name: name.to_owned(),
            head,
            rows: count,
            left_out,
            given,
            told,
            copies,
            halves: (left_out > 0).then_some(halves),
        })
    }

    /// Partitions whose own row was left out, or that nothing was ever written to. That row is a partition's first.
    pub fn without_state(&self) -> impl Iterator<Item = PartitionId> {
        let without = self.told.iter().filter(|(_, told)| !told.has_state);
        without.map(|(partition, _)| *partition)
    }

    /// What is given from here on is above these, and above what this answers as given: by what the rows tell, what was `seen` of needles,
    /// and what was given `before` by an index whose place this one takes.
    pub fn floors(&self, seen: &Seen, before: Given, now_ms: u64) -> (Floors, Given) {
        let of_needles = (seen.session, Hlc(seen.hlc), seen.bucket);
        let (session, hlc, bucket) = self
            .told
            .values()
            .fold(of_needles, |(session, hlc, bucket), told| {
                (
                    session.max(told.session),
                    hlc.max(told.hlc),
                    bucket.max(told.bucket),
                )
            });
        let mut given = self.given.max(before);
        given.session = given.session.max(session);
        let floors = Floors {
            hlc: hlc.max(Hlc::at(now_ms)),
            first_session: first_session(given.session),
            bucket,
            serial: seen.serial,
        };
        (floors, given)
    }

    /// Its rows of partitions that `which` wants, as they are to be laid.
    ///
    /// # Errors
    /// It is no snapshot any more.
    pub fn raised<'a>(
        &self,
        floors: &'a Floors,
        which: impl Fn(PartitionId) -> bool + 'a,
    ) -> Result<impl Iterator<Item = Result<PartitionRow, StoreError>> + 'a, StoreError> {
        let rows = SnapshotRows::open(self.file.clone(), &self.name)?;
        let mut halves = self.halves.clone();
        let wanted = rows.filter(move |row| {
            row.as_ref().map_or(true, |(partition, key, value)| {
                which(*partition)
                    && halves
                        .as_mut()
                        .is_none_or(|halves| halves.is_laid(*partition, key, value))
            })
        });
        Ok(wanted.map(move |row| {
            let (partition, key, value) = row?;
            let value =
                raised(&key, value, floors).map_err(|fault| StoreError::Corrupt(fault.to_string()))?;
            Ok((partition, key, value))
        }))
    }
}
