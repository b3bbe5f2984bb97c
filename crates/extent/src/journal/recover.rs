//! Which records of a scanned journal count, which were lost, and where the journal goes on. Pure but for one question:
//! is this record's payload whole?
//!
//! The rules are in docs/formats/journal.md. Telling a torn tail from corruption is all that this module is for: a
//! record at or below the highest sync that anything names was acked, perhaps, and is never cut.

use super::record::{Header, Lost, RecordType};
use super::scan::FoundHeader;
use crate::fields::round_up;
use std::collections::{BTreeMap, BTreeSet};
use types::JournalSeq;
use types::limits::JOURNAL_BLOCK_BYTES;
use world::plant::{Plant, is_planted};

/// What a scanned journal says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Records that count and are whole, at or above the low-water, by sequence.
    pub(crate) live: Vec<FoundHeader>,
    /// Sequences that were synced and are gone.
    pub(crate) lost: Vec<Lost>,
    /// K: highest sequence known synced.
    pub(crate) known_synced: u64,
    /// L: lowest sequence still needed.
    pub(crate) low_water: u64,
    /// Last sequence that counts, lost ones too.
    pub(crate) last: u64,
    /// Crc of the last record that counts, 0 when it is lost.
    pub(crate) last_crc: u32,
    /// Highest sequence seen anywhere: none up to it is given out again.
    pub(crate) seen: u64,
    /// Highest incarnation seen anywhere.
    pub(crate) incarnation: u32,
    /// Where the next group begins, and in which lap.
    pub(crate) head: u64,
    pub(crate) lap: u32,
    /// Records past K that were cut off: a torn tail.
    pub(crate) torn: u64,
}

/// Judges what was found. `synced` is what the extent table knows to be synced; `whole` reads a record's payload.
pub(crate) fn judge(found: &[FoundHeader], synced: u64, whole: &mut dyn FnMut(&Header) -> bool) -> Verdict {
    let max = |f: fn(&Header) -> u64| found.iter().map(|h| f(&h.header)).max().unwrap_or(0);
    let mut v = Verdict {
        known_synced: max(|h| h.known_synced).max(synced),
        low_water: max(|h| h.low_water).max(1),
        seen: max(|h| h.sequence).max(synced),
        incarnation: max(|h| u64::from(h.incarnation)) as u32,
        ..Verdict::default()
    };
    let windows = Windows::of(found);
    let mut records: BTreeMap<u64, FoundHeader> = BTreeMap::new();
    for f in found
        .iter()
        .filter(|f| f.header.kind != RecordType::Mark && windows.contain(&f.header))
    {
        records.insert(f.header.sequence, *f);
    }
    if is_planted(Plant::ReplayPreviousLap) {
        v.low_water = records.keys().next().copied().unwrap_or(1);
    }
    if is_planted(Plant::CutAtCorruption) {
        let bad = records.range(v.low_water..).find(|(_, f)| !whole(&f.header));
        v.known_synced = bad.map_or(v.known_synced, |(s, _)| v.known_synced.min(s - 1));
    }
    let mut bad = BTreeSet::new();
    for (sequence, f) in between(&records, v.low_water, v.known_synced) {
        if whole(&f.header) {
            v.live.push(*f);
        } else {
            bad.insert(*sequence);
        }
    }
    v.lost = lost(&records, &bad, &windows, v.low_water, v.known_synced);
    v.last = v.known_synced;
    v.last_crc = records
        .get(&v.last)
        .filter(|_| !bad.contains(&v.last))
        .map_or(0, |f| f.crc);
    let mut before = records
        .range(..=v.known_synced)
        .next_back()
        .map(|(_, f)| f.header);
    for (sequence, f) in records.range(v.known_synced + 1..) {
        if !follows(&v, before.as_ref(), f) || !whole(&f.header) {
            v.torn = records.range(sequence..).count() as u64;
            break;
        }
        (v.last, v.last_crc) = (*sequence, f.crc);
        before = Some(f.header);
        if *sequence >= v.low_water {
            v.live.push(*f);
        }
    }
    place(&mut v, found, before);
    v
}

/// Those of low..=high, which may be empty.
fn between(
    records: &BTreeMap<u64, FoundHeader>,
    low: u64,
    high: u64,
) -> impl Iterator<Item = (&u64, &FoundHeader)> {
    records.range(low..).take_while(move |(s, _)| **s <= high)
}

/// Whether `next` is what was written right after the last record that counts.
fn follows(v: &Verdict, before: Option<&Header>, next: &FoundHeader) -> bool {
    let h = &next.header;
    let in_turn = h.sequence == v.last + 1 || (h.sequence == h.begun && h.continues == v.last);
    let chained = v.last_crc == 0 || v.last == 0 || h.previous_crc == v.last_crc;
    let placed = before.is_none_or(|b| (h.lap, h.position) > (b.lap, b.position) && h.lap - b.lap <= 1);
    in_turn && chained && placed
}

/// Finds where to go on: behind the last record that counts, and behind the marks that name it.
fn place(v: &mut Verdict, found: &[FoundHeader], last: Option<Header>) {
    let Some(last) = last else { return };
    let mut end = (last.lap, last.end());
    for f in found {
        let h = &f.header;
        let names =
            h.kind == RecordType::Mark && h.sequence == last.sequence && h.incarnation == last.incarnation;
        if names && (h.lap, h.position) > (last.lap, last.position) {
            end = end.max((h.lap, h.end()));
        }
    }
    v.lap = end.0;
    v.head = round_up(end.1, JOURNAL_BLOCK_BYTES as u64);
}

/// The sequences of low..=high that should be there and are not, or are not whole; neighbours of one kind together.
fn lost(
    records: &BTreeMap<u64, FoundHeader>,
    bad: &BTreeSet<u64>,
    windows: &Windows,
    low: u64,
    high: u64,
) -> Vec<Lost> {
    let mut out: Vec<Lost> = Vec::new();
    let mut next = low;
    let mut note = |from: u64, to: u64, kind| {
        for (from, to) in windows.without_gaps(from, to) {
            out.push(Lost {
                from: JournalSeq(from),
                to: JournalSeq(to),
                kind,
            });
        }
    };
    for (sequence, f) in between(records, low, high) {
        if *sequence > next {
            note(next, sequence - 1, None);
        }
        if bad.contains(sequence) {
            note(*sequence, *sequence, Some(f.header.kind));
        }
        next = sequence + 1;
    }
    if next <= high {
        note(next, high, None);
    }
    out
}

/// Which sequences of each incarnation count.
struct Windows {
    /// By incarnation: its first sequence, and the last that counted before it.
    begun: BTreeMap<u32, (u64, u64)>,
}

impl Windows {
    fn of(found: &[FoundHeader]) -> Self {
        Self {
            begun: found
                .iter()
                .map(|f| (f.header.incarnation, (f.header.begun, f.header.continues)))
                .collect(),
        }
    }

    /// The last sequence of `incarnation` that counts.
    fn cut(&self, incarnation: u32) -> u64 {
        let later = self.begun.range(incarnation + 1..);
        later
            .map(|(_, (_, continues))| *continues)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn contain(&self, h: &Header) -> bool {
        h.sequence >= h.begun && h.sequence <= self.cut(h.incarnation)
    }

    /// `from..=to` less what no incarnation ever gave out or what was cut.
    fn without_gaps(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut parts = vec![(from, to)];
        for (begun, continues) in self.begun.values() {
            let mut next = Vec::new();
            for (a, b) in parts {
                // The gap is continues + 1 ..= begun - 1.
                if b <= *continues || a >= *begun {
                    next.push((a, b));
                    continue;
                }
                if a <= *continues {
                    next.push((a, *continues));
                }
                if b >= *begun {
                    next.push((*begun, b));
                }
            }
            parts = next;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One record a block, sequences from 1, each naming the one two before it as synced.
    fn journal(count: u64) -> Vec<FoundHeader> {
        let mut out: Vec<FoundHeader> = Vec::new();
        for sequence in 1..=count {
            out.push(record(
                sequence,
                sequence.saturating_sub(2),
                out.last().map_or(0, |f| f.crc),
            ));
        }
        out
    }

    fn record(sequence: u64, known_synced: u64, previous_crc: u32) -> FoundHeader {
        FoundHeader {
            crc: sequence as u32 + 1000,
            header: Header {
                kind: RecordType::Batch,
                last_of_group: true,
                lap: 0,
                incarnation: 1,
                sequence,
                position: (sequence - 1) * 4096,
                known_synced,
                low_water: 1,
                begun: 1,
                continues: 0,
                previous_crc,
                payload_length: 10,
                payload_crc: 0,
            },
        }
    }

    fn sequences(v: &Verdict) -> Vec<u64> {
        v.live.iter().map(|f| f.header.sequence).collect()
    }

    #[test]
    fn a_whole_journal_counts_whole() {
        let v = judge(&journal(6), 0, &mut |_| true);
        assert_eq!((sequences(&v), v.lost.len(), v.torn), ((1..=6).collect(), 0, 0));
        assert_eq!((v.head, v.last, v.known_synced), (6 * 4096, 6, 4));
    }

    #[test]
    fn past_the_known_sync_the_first_bad_record_ends_it() {
        let v = judge(&journal(6), 0, &mut |h| h.sequence != 5);
        assert_eq!((sequences(&v), v.lost.len(), v.torn), (vec![1, 2, 3, 4], 0, 2));
        assert_eq!(v.head, 4 * 4096);
    }

    #[test]
    fn at_or_below_the_known_sync_it_is_corruption_and_the_rest_counts() {
        for bad in 1..=4 {
            let v = judge(&journal(6), 0, &mut |h| h.sequence != bad);
            let rest: Vec<u64> = (1..=6).filter(|s| *s != bad).collect();
            assert_eq!(sequences(&v), rest, "bad {bad}");
            let lost = Lost {
                from: JournalSeq(bad),
                to: JournalSeq(bad),
                kind: Some(RecordType::Batch),
            };
            assert_eq!(v.lost, vec![lost]);
        }
        let mut found = journal(6);
        found.drain(1..3);
        let v = judge(&found, 0, &mut |_| true);
        assert_eq!(
            v.lost,
            vec![Lost {
                from: JournalSeq(2),
                to: JournalSeq(3),
                kind: None
            }]
        );
    }

    #[test]
    fn an_empty_file_that_was_synced_once_is_corruption() {
        let v = judge(&[], 9, &mut |_| true);
        assert_eq!((v.lost.len(), v.last, v.seen), (1, 9, 9));
        assert_eq!(judge(&[], 0, &mut |_| true).lost, vec![]);
    }

    #[test]
    fn a_tail_that_was_cut_stays_cut() {
        // 5 is torn, 6 is whole: cut. The next incarnation begins at 7 and continues 4.
        let mut found = journal(6);
        found.remove(4);
        let mut start = record(7, 4, found[3].crc);
        start.header.kind = RecordType::Start;
        start.header.incarnation = 2;
        start.header.begun = 7;
        start.header.continues = 4;
        start.header.position = 4 * 4096;
        found.push(start);
        let mut next = record(8, 7, start.crc);
        next.header = Header {
            incarnation: 2,
            begun: 7,
            continues: 4,
            position: 5 * 4096,
            ..next.header
        };
        found.push(next);
        let v = judge(&found, 0, &mut |_| true);
        assert_eq!((sequences(&v), v.lost.len()), (vec![1, 2, 3, 4, 7, 8], 0));
    }

    #[test]
    fn an_earlier_lap_is_never_live() {
        let mut found = journal(6);
        // Two blocks of the next lap stand over 1 and 2; the rest is stale.
        for (i, sequence) in [(0usize, 7u64), (1, 8)] {
            let mut f = record(sequence, 6, if i == 0 { found[5].crc } else { 1007 });
            f.header.lap = 1;
            f.header.position = i as u64 * 4096;
            f.header.low_water = 6;
            found.push(f);
        }
        found.drain(0..2);
        let v = judge(&found, 0, &mut |_| true);
        assert_eq!((sequences(&v), v.lost.len()), (vec![6, 7, 8], 0));
        assert_eq!((v.head, v.lap), (2 * 4096, 1));
    }
}
