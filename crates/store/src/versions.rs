//! Rows of several moments in one ordered map: what a snapshot reads does not change while commits go on.
//!
//! A row is kept under `(key, sequence)`, newest first; a reader at sequence `s` sees, for each key, the newest row at or below `s`.
//! A removal is a row too. Nothing here is ever changed in place, so a row of a sequence nobody reads yet is invisible.

use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use types::LogSeq;

/// Below this one no reader's key hides: [`Reverse`] sorts it before every version of its key.
const NEWEST: Reverse<LogSeq> = Reverse(LogSeq(u64::MAX));

type Versioned = (Bytes, Reverse<LogSeq>);

/// What a reader at `at` sees of ascending versions.
fn seen<'a>(
    versions: impl Iterator<Item = (&'a Versioned, &'a Option<Bytes>)>,
    at: LogSeq,
) -> impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> {
    let mut last: Option<&Bytes> = None;
    versions.filter_map(move |((key, Reverse(sequence)), value)| {
        if *sequence > at || last == Some(key) {
            return None;
        }
        last = Some(key);
        Some((key, value.as_ref()))
    })
}

/// Versioned rows.
#[derive(Default)]
pub(crate) struct Versions {
    rows: BTreeMap<Versioned, Option<Bytes>>,
    bytes: usize,
}

fn cost(key: &Bytes, value: Option<&Bytes>) -> usize {
    // Two `Bytes`, a sequence and the tree's own share, measured at about 100 bytes a row.
    100 + key.len() + value.map_or(0, Bytes::len)
}

impl Versions {
    /// Adds what `sequence` wrote to `key`; `None` is a removal.
    pub(crate) fn insert(&mut self, sequence: LogSeq, key: Bytes, value: Option<Bytes>) {
        self.bytes += cost(&key, value.as_ref());
        if let Some(old) = self.rows.insert((key.clone(), Reverse(sequence)), value) {
            // A batch names each key once; the last one stands if it does not.
            self.bytes -= cost(&key, old.as_ref());
        }
    }

    /// Memory held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a reader at `at` sees: nothing known of the key, its removal, or its value.
    pub(crate) fn get(&self, at: LogSeq, key: &Bytes) -> Option<Option<&Bytes>> {
        let (found, value) = self.rows.range((key.clone(), Reverse(at))..).next()?;
        (found.0 == *key).then_some(value.as_ref())
    }

    /// Rows (and removals) from `start` to before `end` as a reader at `at` sees them, ascending, each key once.
    pub(crate) fn range<'a>(
        &'a self,
        at: LogSeq,
        start: &Bytes,
        end: &Bytes,
    ) -> impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> + use<'a> {
        // An empty range is written as one that begins where it ends: the map panics on a reversed one.
        let end = end.max(start);
        seen(
            self.rows.range((start.clone(), NEWEST)..(end.clone(), NEWEST)),
            at,
        )
    }

    /// Rows (and removals) from `start` on as a reader at `at` sees them, ascending, each key once.
    pub(crate) fn from<'a>(
        &'a self,
        at: LogSeq,
        start: &Bytes,
    ) -> impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)> + use<'a> {
        seen(self.rows.range((start.clone(), NEWEST)..), at)
    }

    /// Forgets the versions of `key` that no reader at or after `floor` sees; its removal too, where nothing older is below it.
    pub(crate) fn prune(&mut self, floor: LogSeq, key: &Bytes) {
        let from = (key.clone(), Reverse(floor));
        let dead: Vec<_> = {
            let mut seen = self
                .rows
                .range(from..)
                .take_while(|((k, _), _)| k == key)
                .peekable();
            let keep_first = seen.peek().is_some_and(|(_, v)| v.is_some());
            seen.skip(usize::from(keep_first))
                .map(|(k, _)| k.clone())
                .collect()
        };
        for key in dead {
            if let Some(value) = self.rows.remove(&key) {
                self.bytes -= cost(&key.0, value.as_ref());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(s: &'static str) -> Bytes {
        Bytes::from_static(s.as_bytes())
    }

    #[test]
    fn readers_see_their_moment() {
        let mut v = Versions::default();
        v.insert(LogSeq(1), b("a"), Some(b("1")));
        v.insert(LogSeq(3), b("a"), Some(b("3")));
        v.insert(LogSeq(4), b("a"), None);
        v.insert(LogSeq(2), b("a\0"), Some(b("x")));
        assert_eq!(v.get(LogSeq(0), &b("a")), None);
        assert_eq!(v.get(LogSeq(2), &b("a")), Some(Some(&b("1"))));
        assert_eq!(v.get(LogSeq(3), &b("a")), Some(Some(&b("3"))));
        assert_eq!(v.get(LogSeq(9), &b("a")), Some(None));
        let rows: Vec<_> = v.range(LogSeq(3), &b("a"), &b("b")).collect();
        assert_eq!(rows, [(&b("a"), Some(&b("3"))), (&b("a\0"), Some(&b("x")))]);
        assert_eq!(v.range(LogSeq(3), &b("b"), &b("a")).count(), 0);
        assert_eq!(v.range(LogSeq(1), &b("a\0"), &b("b")).count(), 0);
    }

    #[test]
    fn pruning_keeps_what_readers_see() {
        let mut v = Versions::default();
        for s in 1..=5 {
            v.insert(LogSeq(s), b("a"), Some(Bytes::from(vec![s as u8])));
        }
        v.prune(LogSeq(3), &b("a"));
        assert_eq!(v.rows.len(), 3);
        assert_eq!(v.get(LogSeq(3), &b("a")).unwrap().unwrap()[0], 3);
        v.insert(LogSeq(6), b("a"), None);
        v.prune(LogSeq(6), &b("a"));
        assert!(v.rows.is_empty());
        assert_eq!(v.bytes(), 0);
    }
}
