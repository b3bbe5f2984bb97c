//! Point rows in memory, present or known to be absent: right because only the owner writes them.
//!
//! ```text
//!   begin(keys)  forgets them: from here to `finish` readers ask the store, where the commit may show at any moment
//!   finish       the commit is durable: the new values are known
//!   clear        the owner does not know (commit refused or unknown): everything is forgotten
//! ```
//! A reader that missed fills in what its snapshot said, unless a commit that could have touched the row has begun since
//! then: each row key hashes to a slot that remembers the newest such commit. So a reader never sees a row older
//! than one that anyone has been answered, nor goes back in time from one read to the next.
//!
//! Bounded by bytes: rows live in a young half; when that is full it becomes the old half and the old one is dropped. A
//! hit in the old half moves the row to the young one.

use crate::rows::is_cached;
use crate::view::Writes;
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};
use world::FixedMap;

/// Slots that remember the newest commit of the row keys that hash to them.
const SLOTS: usize = 1 << 14;
/// What a row costs beside its bytes.
const ROW_OVERHEAD_BYTES: usize = 96;

pub(crate) type Half = FixedMap<Bytes, Option<Bytes>>;

/// When a snapshot was asked for, in the cache's own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    finished: u64,
    era: u64,
}

/// Point rows of one partition.
pub(crate) struct Cache {
    young: Half,
    old: Half,
    young_bytes: usize,
    half_bytes_max: usize,
    slots: Vec<u64>,
    begun: u64,
    finished: u64,
    era: u64,
    /// Somebody asked for a row since [`Cache::rest`] was last called.
    is_used: bool,
}

impl Cache {
    /// An empty one of at most `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            young: Half::default(),
            old: Half::default(),
            young_bytes: 0,
            half_bytes_max: bytes_max / 2,
            slots: vec![0; SLOTS],
            begun: 0,
            finished: 0,
            era: 0,
            is_used: false,
        }
    }

    /// A row, if it is known.
    pub(crate) fn get(&mut self, key: &Bytes) -> Option<Option<Bytes>> {
        self.is_used = true;
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    /// To be taken before the snapshot that [`Cache::fill`] fills from.
    pub(crate) fn seen(&self) -> Seen {
        Seen {
            finished: self.finished,
            era: self.era,
        }
    }

    /// What a snapshot taken after `seen` said of a row.
    pub(crate) fn fill(&mut self, seen: Seen, key: &Bytes, value: &Option<Bytes>) {
        if seen.era == self.era && self.slots[slot(key)] <= seen.finished && is_cached(key) {
            self.insert(key.clone(), value.clone());
        }
    }

    /// A commit of these rows begins.
    pub(crate) fn begin(&mut self, writes: &Writes) {
        self.begun += 1;
        for key in writes.keys().filter(|k| is_cached(k)) {
            self.young.remove(key);
            self.old.remove(key);
            self.slots[slot(key)] = self.begun;
        }
    }

    /// It is durable.
    pub(crate) fn finish(&mut self, writes: Writes) {
        self.finished = self.begun;
        for (key, value) in writes {
            if is_cached(&key) {
                self.insert(key, value);
            }
        }
    }

    /// Forgets everything, and what snapshots under way will say.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
        self.finished = self.begun;
        self.era += 1;
    }

    /// Gives up rows that nobody has asked for since this was last called: the caller drops them, where readers do not wait for that. A commit
    /// may be under way: what began and ended stays as it is.
    #[must_use]
    pub(crate) fn rest(&mut self) -> Option<[Half; 2]> {
        if std::mem::take(&mut self.is_used) || (self.young.is_empty() && self.old.is_empty()) {
            return None;
        }
        self.young_bytes = 0;
        Some([std::mem::take(&mut self.young), std::mem::take(&mut self.old)])
    }

    fn insert(&mut self, key: Bytes, value: Option<Bytes>) {
        let bytes = key.len() + value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES;
        if self.young_bytes + bytes > self.half_bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.old.remove(&key);
        // A row written again and again counts each time: the half only turns over sooner.
        self.young_bytes += bytes;
        self.young.insert(key, value);
    }
}

fn slot(key: &Bytes) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowRef;
    use types::BucketId;

    fn row(k: &str) -> Bytes {
        RowRef::Current(BucketId(1), k).key()
    }
    fn value(s: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(s.as_bytes()))
    }

    #[test]
    fn a_late_fill_never_hides_a_commit() {
        let mut cache = Cache::new(1 << 20);
        let a = row("a");
        let before = cache.seen();
        let writes: Writes = [(a.clone(), value("new"))].into();
        cache.begin(&writes);
        let during = cache.seen();
        cache.fill(before, &a, &value("old"));
        assert_eq!(cache.get(&a), None, "unknown while the commit is under way");
        cache.finish(writes);
        cache.fill(before, &a, &value("old"));
        cache.fill(during, &a, &value("old"));
        assert_eq!(cache.get(&a), Some(value("new")));
        cache.clear();
        cache.fill(during, &a, &value("old"));
        assert_eq!(cache.get(&a), None, "a snapshot from before the clearing");
        cache.fill(cache.seen(), &a, &None);
        assert_eq!(cache.get(&a), Some(None), "known to be absent");
    }

    #[test]
    fn what_nobody_asks_for_is_given_up_and_nothing_older_comes_back() {
        let mut cache = Cache::new(1 << 20);
        let (a, b) = (row("a"), row("b"));
        let old = cache.seen();
        cache.fill(old, &a, &value("old"));
        assert!(cache.rest().is_some());
        assert_eq!(
            (cache.young.len(), cache.get(&b)),
            (0, None),
            "none was asked for"
        );
        cache.fill(cache.seen(), &a, &value("old"));
        assert!(cache.get(&a).is_some());
        assert!(cache.rest().is_none());
        assert_eq!(cache.get(&a), Some(value("old")), "it is in use");
        let writes = Writes::from([(a.clone(), value("new"))]);
        cache.begin(&writes);
        drop((cache.rest(), cache.rest()));
        let during = cache.seen();
        cache.finish(writes);
        drop((cache.rest(), cache.rest()));
        cache.fill(during, &a, &value("old"));
        assert_eq!(
            cache.get(&a),
            None,
            "a snapshot from before the commit was durable"
        );
    }

    #[test]
    fn bytes_are_bounded_and_hot_rows_stay() {
        let mut cache = Cache::new(20_000);
        let hot = row("hot");
        cache.fill(cache.seen(), &hot, &value("x"));
        for i in 0..1000 {
            cache.fill(cache.seen(), &row(&format!("cold {i}")), &value("y"));
            assert!(cache.get(&hot).is_some());
        }
        assert!(cache.young.len() + cache.old.len() <= 20_000 / ROW_OVERHEAD_BYTES);
        assert_eq!(cache.get(&row("cold 0")), None);
    }
}
