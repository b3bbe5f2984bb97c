//! What a command is decided on, and what it decides.
//!
//! A [`View`] is durable rows as far as they are known, under the rows that earlier commands of the same batch write. It
//! does no I/O: a row it lacks is answered [`Stop::Needs`], the owner fetches it, and the command is decided again from
//! the start. Deciding is a pure function, so deciding twice is free of effects.

use crate::rows::{BadRow, Range, RowOf, decode, encode};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use types::{CommandId, Hlc, SessionId, StampId, UploadId, VersionId};
use wire::index::Reason;
use wire::node::Ordered;
use wire::records::{Answer, Refused};

/// Rows to write: a value, or `None` to remove.
pub(crate) type Writes = BTreeMap<Bytes, Option<Bytes>>;

/// Durable rows that were fetched for a batch.
#[derive(Default)]
pub(crate) struct Known {
    /// Present, or known to be absent.
    pub(crate) rows: BTreeMap<Bytes, Option<Bytes>>,
    /// The first rows of a range, as many as were asked for.
    pub(crate) ranges: BTreeMap<(Range, usize), Vec<(Bytes, Bytes)>>,
    /// Those that cannot be read, and why.
    pub(crate) unreadable: BTreeMap<(Range, usize), BadRow>,
    /// The first rows of a range that can be read.
    pub(crate) readable: BTreeMap<(Range, usize), Readable>,
}

/// Some rows of a range, all that there are before `next` and can be read.
#[derive(Clone, Debug)]
pub(crate) struct Readable {
    /// These; none, perhaps, where they cannot be read, or were removed in the batch.
    pub(crate) rows: Vec<(Bytes, Bytes)>,
    /// Where to go on; the range's end where nothing is left.
    pub(crate) next: Bytes,
}

/// Durable rows that a command cannot be decided without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// These rows.
    pub(crate) rows: Vec<Bytes>,
    /// The first so many rows of these ranges.
    pub(crate) ranges: Vec<(Range, usize)>,
    /// The first so many of these that can be read.
    pub(crate) readable: Vec<(Range, usize)>,
}

/// Why a command is not decided to the end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Fetch these and decide again.
    Needs(Needs),
    /// The state refuses it: this is its answer.
    Refused(Refused),
    /// A row it needs is corrupt.
    Bad(BadRow),
}

impl From<BadRow> for Stop {
    fn from(bad: BadRow) -> Self {
        Self::Bad(bad)
    }
}

/// Stops with a refusal.
pub(crate) fn refuse<T>(reason: Reason, detail: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refused(Refused {
        reason: reason as u32,
        detail: detail.into(),
        ..Refused::default()
    }))
}

/// Stops with a refusal that blames a part.
pub(crate) fn refuse_part<T>(reason: Reason, part_number: u32, size: u64) -> Result<T, Stop> {
    Err(Stop::Refused(Refused {
        reason: reason as u32,
        detail: String::new(),
        part_number,
        size,
    }))
}

/// The time and serial a command is decided at; `hlc` and `serial` are the partition's own and only ever rise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// After every time the partition gave before.
    pub(crate) hlc: Hlc,
    /// Whose ids.
    pub(crate) stamp: StampId,
    /// What the clock says, which may go back: the time that people are told. After a start with a clock far ahead `hlc` stays
    /// there until the world has caught up.
    pub(crate) wall_ms: u64,
    /// Above every serial the partition gave before.
    pub(crate) serial: u64,
    /// The command that is decided; none for what the owner does of itself.
    pub(crate) command: CommandId,
    /// Commands of lower sessions are refused for ever.
    pub(crate) ended_below: SessionId,
}

impl Now {
    /// The version this command makes.
    pub(crate) fn version(&self) -> VersionId {
        VersionId::new(self.hlc, self.stamp, self.serial)
    }
    /// The upload this command begins.
    pub(crate) fn upload(&self) -> UploadId {
        UploadId::new(self.hlc, self.stamp, self.serial)
    }
}

/// What is known of the partition at the time of a command.
pub(crate) struct View<'a> {
    known: &'a Known,
    pending: &'a Writes,
}

impl<'a> View<'a> {
    /// Durable rows under what earlier commands of the batch write.
    pub(crate) fn new(known: &'a Known, pending: &'a Writes) -> Self {
        Self { known, pending }
    }

    /// A row's value.
    pub(crate) fn row(&self, key: &Bytes) -> Result<Option<Bytes>, Stop> {
        match self.pending.get(key).or_else(|| self.known.rows.get(key)) {
            Some(value) => Ok(value.clone()),
            None => Err(Stop::Needs(Needs {
                rows: vec![key.clone()],
                ..Needs::default()
            })),
        }
    }

    /// A row's message.
    pub(crate) fn get<M: Message + Default>(&self, row: &RowOf<impl AsRef<str>>) -> Result<Option<M>, Stop> {
        let key = row.key();
        let value = self.row(&key)?;
        Ok(value.map(|v| decode(&key, &v)).transpose()?)
    }

    /// Asks for all of `keys` at once, so that the owner fetches them in one go.
    pub(crate) fn want(&self, keys: impl IntoIterator<Item = Bytes>) -> Result<(), Stop> {
        let known = |k: &Bytes| self.pending.contains_key(k) || self.known.rows.contains_key(k);
        let rows: Vec<Bytes> = keys.into_iter().filter(|k| !known(k)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        Err(Stop::Needs(Needs {
            rows,
            ..Needs::default()
        }))
    }

    /// Asks for all of these scans at once, as [`View::want`] does for rows.
    pub(crate) fn want_scans(&self, scans: impl IntoIterator<Item = (Range, usize)>) -> Result<(), Stop> {
        let wanted = scans
            .into_iter()
            .map(|(range, max)| self.durable_scan(&range, max));
        let is_known = |w: &_| self.known.ranges.contains_key(w) || self.known.unreadable.contains_key(w);
        let ranges: Vec<_> = wanted.filter(|w| !is_known(w)).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        Err(Stop::Needs(Needs {
            ranges,
            ..Needs::default()
        }))
    }

    /// How many durable rows tell the first `max`: each removal in the batch can hide one.
    fn durable_scan(&self, range: &Range, max: usize) -> (Range, usize) {
        let pending = self.pending.range(range.start.clone()..range.end.clone());
        (range.clone(), max + pending.filter(|(_, v)| v.is_none()).count())
    }

    /// The first `max` rows of a range.
    pub(crate) fn scan(&self, range: &Range, max: usize) -> Result<Vec<(Bytes, Bytes)>, Stop> {
        let pending = || self.pending.range(range.start.clone()..range.end.clone());
        let wanted = self.durable_scan(range, max);
        if let Some(bad) = self.known.unreadable.get(&wanted) {
            return Err(Stop::Bad(bad.clone()));
        }
        let Some(durable) = self.known.ranges.get(&wanted) else {
            return Err(Stop::Needs(Needs {
                ranges: vec![wanted],
                ..Needs::default()
            }));
        };
        let mut rows: BTreeMap<Bytes, Option<Bytes>> = durable
            .iter()
            .map(|(k, v)| (k.clone(), Some(v.clone())))
            .collect();
        rows.extend(pending().map(|(k, v)| (k.clone(), v.clone())));
        // A durable row past the fetched ones could stand before a pending one, but never within the first `max`.
        Ok(rows
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
            .take(max)
            .collect())
    }
}

impl View<'_> {
    /// The first rows of a range, about `max`; past those that cannot be read, for whoever may leave them where they are.
    pub(crate) fn readable(&self, range: &Range, max: usize) -> Result<Readable, Stop> {
        let wanted = (range.clone(), max);
        let Some(durable) = self.known.readable.get(&wanted) else {
            return Err(Stop::Needs(Needs {
                readable: vec![wanted],
                ..Needs::default()
            }));
        };
        let next = durable.next.clone();
        let mut rows: BTreeMap<Bytes, Bytes> = durable.rows.iter().cloned().collect();
        for (key, value) in self.pending.range(range.start.clone()..next.clone()) {
            match value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        let rows = rows.into_iter().collect();
        Ok(Readable { rows, next })
    }

    /// Whether there is any row in a range. What cannot be read is a row.
    pub(crate) fn has(&self, range: &Range) -> Result<bool, Stop> {
        match self.scan(range, 1) {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(Stop::Bad(_)) => Ok(true),
            Err(stop) => Err(stop),
        }
    }
}

/// What a command does, apart from its answer.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Rows it writes.
    pub(crate) writes: Writes,
    /// Needles that must be on stable storage no later than it is.
    pub(crate) behind: Vec<Ordered>,
    /// It is one step of a command too large for one commit: there is no answer yet, and once this is durable the same
    /// command is decided again.
    pub(crate) is_step: bool,
}

impl Change {
    /// Writes a row.
    pub(crate) fn put(&mut self, row: &RowOf<impl AsRef<str>>, message: &impl Message) {
        self.writes.insert(row.key(), Some(encode(message)));
    }
    /// Writes bytes.
    pub(crate) fn put_bytes(&mut self, row: &RowOf<impl AsRef<str>>, bytes: Bytes) {
        self.writes.insert(row.key(), Some(bytes));
    }
    /// Removes a row.
    pub(crate) fn remove(&mut self, row: &RowOf<impl AsRef<str>>) {
        self.writes.insert(row.key(), None);
    }
    /// Row bytes it writes.
    pub(crate) fn len_bytes(&self) -> usize {
        writes_bytes(&self.writes)
    }
}

/// Row bytes of keys and values as a batch has them, which is in this order.
pub(crate) fn writes_bytes(writes: &Writes) -> usize {
    store::Batch::rows_bytes(writes.iter().map(|(k, v)| (k, v.as_ref())))
}

/// A command decided.
#[derive(Debug)]
pub(crate) struct Decision {
    /// What it does.
    pub(crate) change: Change,
    /// What its caller hears once that is durable.
    pub(crate) answer: Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(s: &str) -> Bytes {
        Bytes::copy_from_slice(s.as_bytes())
    }

    #[test]
    fn a_scan_sees_durable_rows_under_pending_ones() {
        let range = Range {
            start: b("a"),
            end: b("z"),
        };
        let pending: Writes = [(b("c"), None), (b("d"), Some(b("new"))), (b("zz"), None)].into();
        let mut known = Known::default();
        // One removal lies in the range: two rows are asked for where one is wanted.
        match View::new(&known, &pending).scan(&range, 1) {
            Err(Stop::Needs(n)) => assert_eq!(n.ranges, [(range.clone(), 2)]),
            other => panic!("{other:?}"),
        }
        known
            .ranges
            .insert((range.clone(), 2), vec![(b("c"), b("old")), (b("e"), b("old"))]);
        let rows = View::new(&known, &pending).scan(&range, 1).unwrap();
        assert_eq!(rows, [(b("d"), b("new"))]);
    }
}
