//! Orphans: needles whose name never came. Which of a walk's needles to ask about, and what to do with the answers.
//!
//! ```text
//!   walked, not dropped ──reached──▶ Named, Booked: settled │ Condemned: dropped │ Unnamed ─▶ old: condemned, dropped
//!                                                                                          └▶ young: looked at again later
//! ```
//! Once a sealed extent has nothing young left it is *swept*, for ever: no needle comes to it, and a needle that lost its name was
//! booked. So each extent is walked once, and again only while something in it was young.

use crate::gc::plan::Level;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use types::{ExtentId, Hlc, NeedleId};
use wire::control::{Dropped, ExtentUse, Stage};
use wire::index::{Doubt, Reach};
use wire::node::Walked;

/// A needle to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) doubt: Doubt,
    pub(crate) stored_length: u64,
    /// When it was written, milliseconds since 1970.
    pub(crate) written_ms: u64,
}

impl Suspect {
    pub(crate) fn place(&self) -> (ExtentId, NeedleId) {
        (self.doubt.extent, self.doubt.needle)
    }

    pub(crate) fn dropped(&self) -> Dropped {
        Dropped {
            extent: self.doubt.extent,
            needle: self.doubt.needle,
            stored_length: self.stored_length,
        }
    }
}

/// Those of a walk's page that are not dropped already; and whether each could be told what it is.
pub(crate) fn suspects(
    extent: ExtentId,
    page: &[Walked],
    dropped: &BTreeSet<NeedleId>,
) -> (Vec<Suspect>, bool) {
    let mut all = Vec::new();
    let mut known = true;
    for walked in page.iter().filter(|w| !dropped.contains(&w.needle)) {
        let Some(head) = &walked.head else {
            known = false;
            continue;
        };
        all.push(Suspect {
            doubt: Doubt {
                owner: head.owner.clone(),
                blob: head.blob,
                extent,
                needle: walked.needle,
            },
            stored_length: walked.stored_length,
            written_ms: Hlc(head.append_hlc).wall_ms(),
        });
    }
    (all, known)
}

/// What the index's answers make of suspects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// They may go.
    pub(crate) drop: Vec<Suspect>,
    /// Nothing names them, and they are old: to be condemned.
    pub(crate) condemn: Vec<Suspect>,
    /// When the youngest of those that are left alone for now was written.
    pub(crate) young_ms: Option<u64>,
}

/// Sorts suspects by what the index says of them.
pub(crate) fn judge(suspects: Vec<Suspect>, reach: &[Reach], now_ms: u64, horizon: Duration) -> Verdict {
    let mut verdict = Verdict::default();
    for (suspect, reach) in suspects.into_iter().zip(reach) {
        let age = u128::from(now_ms.saturating_sub(suspect.written_ms));
        match reach {
            Reach::Named | Reach::Booked => {}
            Reach::Condemned => verdict.drop.push(suspect),
            Reach::Unnamed if age >= horizon.as_millis() => verdict.condemn.push(suspect),
            Reach::Unnamed => {
                let youngest = verdict
                    .young_ms
                    .map_or(suspect.written_ms, |y| y.max(suspect.written_ms));
                verdict.young_ms = Some(youngest);
            }
        }
    }
    verdict
}

/// Which extents to walk, those on the shortest disks first. An open one is walked once in a life of this process: for what dead
/// sessions left in it. `again_ms`: not before.
pub(crate) fn to_sweep(
    uses: &[ExtentUse],
    levels: &BTreeMap<ExtentId, Level>,
    again_ms: &BTreeMap<ExtentId, u64>,
    now_ms: u64,
) -> Vec<(ExtentId, bool)> {
    let due = |u: &&ExtentUse| match u.stage {
        Stage::Sealed => !u.swept && again_ms.get(&u.extent).is_none_or(|at| *at <= now_ms),
        Stage::Open => !again_ms.contains_key(&u.extent),
        Stage::Sealing | Stage::Gone => false,
    };
    let mut extents: Vec<&ExtentUse> = uses.iter().filter(due).collect();
    extents.sort_by_key(|u| std::cmp::Reverse(levels.get(&u.extent).copied().unwrap_or_default()));
    extents
        .iter()
        .map(|u| (u.extent, u.stage == Stage::Sealed))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BlobId, BucketId, Epoch, Generation, SessionId};
    use wire::node::{NeedleHead, OwnerRef};

    fn walked(needle: u64, at_ms: u64) -> Walked {
        let head = NeedleHead {
            blob: BlobId::new(SessionId(1), needle),
            owner: OwnerRef {
                bucket: BucketId(1),
                key: "k".into(),
                upload: None,
            },
            ordinal: 0,
            logical_offset: 0,
            last: true,
            length: 1,
            append_hlc: Hlc::at(at_ms).0,
            session: SessionId(1),
        };
        Walked {
            needle: NeedleId(needle),
            offset: 0,
            stored_length: 10,
            head: Some(head),
            crc32c: None,
            damage: None,
        }
    }

    #[test]
    fn what_is_dropped_is_not_asked_about_and_what_cannot_be_told_is_said() {
        let mut page = vec![walked(1, 0), walked(2, 0)];
        let (all, known) = suspects(ExtentId(1), &page, &BTreeSet::from([NeedleId(1)]));
        assert_eq!((all.len(), all[0].doubt.needle, known), (1, NeedleId(2), true));
        page[1].head = None;
        assert!(!suspects(ExtentId(1), &page, &BTreeSet::new()).1);
    }

    // I3
    #[test]
    fn only_the_old_are_condemned() {
        let page: Vec<Walked> = [0, 100, 900, 901, 0]
            .iter()
            .zip(1..)
            .map(|(at, n)| walked(n, *at))
            .collect();
        let (all, _) = suspects(ExtentId(1), &page, &BTreeSet::new());
        let reach = [
            Reach::Named,
            Reach::Condemned,
            Reach::Unnamed,
            Reach::Unnamed,
            Reach::Booked,
        ];
        let verdict = judge(all, &reach, 1000, Duration::from_millis(100));
        let ids = |suspects: &[Suspect]| suspects.iter().map(|s| s.doubt.needle.0).collect::<Vec<_>>();
        assert_eq!(
            (ids(&verdict.drop), ids(&verdict.condemn), verdict.young_ms),
            (vec![2], vec![3], Some(901))
        );
    }

    #[test]
    fn an_extent_is_walked_until_it_is_swept_and_an_open_one_once() {
        let usage = |extent, stage, swept| ExtentUse {
            extent: ExtentId(extent),
            stage,
            epoch: Epoch(1),
            generation: Generation(0),
            bytes: 0,
            bytes_max: 0,
            dropped_bytes: 0,
            dropped_needles: 0,
            deciding: None,
            deciding_bytes: 0,
            swept,
            replicas: vec![],
        };
        let uses = [
            usage(1, Stage::Sealed, false),
            usage(2, Stage::Sealed, true),
            usage(3, Stage::Sealed, false),
            usage(4, Stage::Open, false),
            usage(5, Stage::Open, false),
            usage(6, Stage::Gone, false),
        ];
        let again = BTreeMap::from([(ExtentId(3), 11), (ExtentId(5), 0)]);
        let levels = BTreeMap::from([(ExtentId(4), Level::Full)]);
        let due = |now| to_sweep(&uses, &levels, &again, now);
        assert_eq!(due(10), [(ExtentId(4), false), (ExtentId(1), true)]);
        assert!(due(11).contains(&(ExtentId(3), true)));
    }
}
