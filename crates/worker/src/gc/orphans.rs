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
    /// When it was written, milliseconds since 1970; `None`: its writer gave it up, however young it is.
    pub(crate) written_ms: Option<u64>,
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
            written_ms: Some(Hlc(head.append_hlc).wall_ms()),
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
    /// How long until the youngest of those that are left alone for now is old.
    pub(crate) old_in: Option<Duration>,
}

/// What a needle's age is measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// The wall clock.
    pub(crate) now_ms: u64,
    /// For how long it goes as it should, as far as this process has seen: nothing is taken for older. A clock that was set ahead makes the
    /// needles of a put that is under way look old; those of dead sessions need not grow old.
    pub(crate) in_step: Duration,
    /// Age of an orphan.
    pub(crate) horizon: Duration,
}

impl Ages {
    /// How long until a needle is old.
    fn old_in(&self, suspect: &Suspect) -> Duration {
        let Some(written_ms) = suspect.written_ms else {
            return Duration::ZERO;
        };
        let age = Duration::from_millis(self.now_ms.saturating_sub(written_ms));
        self.horizon.saturating_sub(age.min(self.in_step))
    }
}

/// Sorts suspects by what the index says of them.
pub(crate) fn judge(suspects: Vec<Suspect>, reach: &[Reach], ages: &Ages) -> Verdict {
    let mut verdict = Verdict::default();
    for (suspect, reach) in suspects.into_iter().zip(reach) {
        let old_in = ages.old_in(&suspect);
        match reach {
            Reach::Named | Reach::Booked => {}
            Reach::Condemned => verdict.drop.push(suspect),
            Reach::Unnamed if old_in.is_zero() => verdict.condemn.push(suspect),
            Reach::Unnamed => verdict.old_in = verdict.old_in.max(Some(old_in)),
        }
    }
    verdict
}

/// Which extents to walk, those on the shortest disks first. An open one is walked once in a life of this process: for what dead
/// sessions left in it. `again`: not before.
pub(crate) fn to_sweep(
    uses: &[ExtentUse],
    levels: &BTreeMap<ExtentId, Level>,
    again: &BTreeMap<ExtentId, Duration>,
    now: Duration,
) -> Vec<(ExtentId, bool)> {
    let due = |u: &&ExtentUse| match u.stage {
        Stage::Sealed => !u.swept && again.get(&u.extent).is_none_or(|at| *at <= now),
        Stage::Open => !again.contains_key(&u.extent),
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
        let ages = Ages {
            now_ms: 1000,
            in_step: Duration::from_secs(9),
            horizon: Duration::from_millis(100),
        };
        let verdict = judge(all.clone(), &reach, &ages);
        let ids = |suspects: &[Suspect]| suspects.iter().map(|s| s.doubt.needle.0).collect::<Vec<_>>();
        assert_eq!(
            (ids(&verdict.drop), ids(&verdict.condemn), verdict.old_in),
            (vec![2], vec![3], Some(Duration::from_millis(1)))
        );
        let just_set = Ages {
            in_step: Duration::from_millis(10),
            ..ages
        };
        let verdict = judge(all.clone(), &reach, &just_set);
        assert_eq!(verdict.old_in, Some(Duration::from_millis(90)));
        assert_eq!(
            ids(&verdict.condemn),
            [0; 0],
            "nothing is old by a clock that was just set"
        );
        let given_up = |s: &Suspect| Suspect {
            written_ms: None,
            ..s.clone()
        };
        let given_up = all.iter().map(given_up).collect();
        assert_eq!(ids(&judge(given_up, &reach, &just_set).condemn), [3, 4]);
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
        let seconds = Duration::from_secs;
        let again = BTreeMap::from([(ExtentId(3), seconds(11)), (ExtentId(5), seconds(0))]);
        let levels = BTreeMap::from([(ExtentId(4), Level::Full)]);
        let due = |now| to_sweep(&uses, &levels, &again, seconds(now));
        assert_eq!(due(10), [(ExtentId(4), false), (ExtentId(1), true)]);
        assert!(due(11).contains(&(ExtentId(3), true)));
    }
}
