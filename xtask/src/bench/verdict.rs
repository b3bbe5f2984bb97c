//! What each row came to, and whether it holds what it is held to. What was not measured does not hold.

use super::ledger::Kept;
use super::rows::{AGREES_WITHIN, DOUBTED_OF_LIMIT, OF_LIMIT, PEERS, Row, Who};

/// The goal beyond the floors.
pub(super) const GOAL: f64 = 10.0;

/// What a row is held to, and by whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Floor {
    /// Operations a second.
    pub(super) ops: f64,
    pub(super) by: By,
    /// The other that it might have been, where there was one.
    pub(super) other: Option<(f64, By)>,
}

/// Where a floor comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum By {
    /// So many times the faster peer.
    Peer(f64, Who),
    /// So much of nginx.
    Files(f64),
    /// `OF_LIMIT` of the limit server.
    Limit,
}

/// What came of one row.
pub(super) struct Verdict {
    pub(super) row: &'static Row,
    /// Operations a second.
    pub(super) cairn: Option<f64>,
    /// The faster peer.
    pub(super) peer: Option<(f64, Who)>,
    /// The best that the limit server did: what stalled it in one round is no limit.
    pub(super) limit: Option<f64>,
    pub(super) files: Option<f64>,
    pub(super) floor: Option<Floor>,
    /// Who had to be measured, and was not in rounds enough.
    pub(super) missing: Vec<Who>,
    /// Of Cairn's requests how many failed in all rounds, and rounds that came to nothing.
    pub(super) cairn_failed: u64,
}

/// The middle one, or what lies between the two in the middle.
pub(super) fn median(mut v: Vec<f64>) -> Option<f64> {
    v.sort_by(f64::total_cmp);
    let upper = v.get(v.len() / 2)?;
    let lower = v.get((v.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

impl Floor {
    fn of(row: &Row, peer: Option<(f64, Who)>, limit: Option<f64>, files: Option<f64>) -> Option<Self> {
        let by_peer = row
            .floor
            .zip(peer)
            .map(|(times, (ops, who))| (times * ops, By::Peer(times, who)));
        let by_files = row
            .of_files
            .zip(files)
            .map(|(share, ops)| (share * ops, By::Files(share)));
        let higher = |a: (f64, By), b: (f64, By)| if b.0 > a.0 { b } else { a };
        let wanted = by_peer.into_iter().chain(by_files).reduce(higher)?;
        let by_limit = limit.map(|ops| (OF_LIMIT * ops, By::Limit));
        let ((ops, by), other) = match by_limit {
            Some(lower) if lower.0 < wanted.0 => (lower, Some(wanted)),
            _ => (wanted, by_limit),
        };
        Some(Self { ops, by, other })
    }
}

impl Verdict {
    pub(super) fn of(row: &'static Row, kept: &Kept) -> Self {
        let of = |who| median(kept.figures(row, who, |m| Some(m.ops_per_second)));
        let peers = PEERS.iter().filter_map(|peer| Some((of(*peer)?, *peer)));
        let peer = peers.max_by(|a, b| a.0.total_cmp(&b.0));
        let best = kept.figures(row, Who::Limit, |m| Some(m.ops_per_second));
        let (cairn, limit) = (of(Who::Cairn), best.into_iter().reduce(f64::max));
        let files = of(Who::Nginx);
        let failed = |m: Option<u64>| m.unwrap_or(1);
        let trusted = limit.filter(|limit| !is_none(*limit, cairn));
        Self {
            row,
            cairn,
            peer,
            limit,
            files,
            floor: Floor::of(row, peer, trusted, files),
            missing: row
                .parties()
                .into_iter()
                .filter(|who| row.needs(*who) && !is_measured(row, *who, kept))
                .collect(),
            cairn_failed: kept
                .cells(row, Who::Cairn)
                .map(|c| failed(c.measured.as_ref().map(|m| m.errors)))
                .sum(),
        }
    }

    /// All that it takes was measured, nothing of Cairn's failed, and it is as fast as it must be: known to be.
    pub(super) fn holds(&self) -> bool {
        let fast = match (self.row.floor, self.floor, self.cairn) {
            (None, _, cairn) => cairn.is_some(),
            (Some(_), Some(floor), Some(cairn)) => cairn >= floor.ops,
            (Some(_), _, _) => false,
        };
        fast && self.cairn_failed == 0 && self.missing.is_empty()
    }

    /// Times the faster peer.
    pub(super) fn ratio(&self) -> Option<f64> {
        Some(self.cairn? / self.peer?.0)
    }

    /// How much of the way to `GOAL` times the faster peer.
    pub(super) fn of_goal(&self) -> Option<f64> {
        Some(self.ratio()? / GOAL)
    }

    pub(super) fn of_limit(&self) -> Option<f64> {
        Some(self.cairn? / self.limit?)
    }

    pub(super) fn of_files(&self) -> Option<f64> {
        Some(self.cairn? / self.files?)
    }

    /// Whether it is beyond what the limit server did at best: then no floor is lowered by that.
    pub(super) fn doubts_limit(&self) -> bool {
        self.limit.is_some_and(|limit| is_none(limit, self.cairn))
    }
}

/// Whether a limit server that came to `limit` is none: one that does less should do more.
fn is_none(limit: f64, cairn: Option<f64>) -> bool {
    cairn.is_some_and(|cairn| cairn > DOUBTED_OF_LIMIT * limit)
}

/// Whether there are figures enough: of Cairn those of all rounds, of the others those of most.
fn is_measured(row: &Row, who: Who, kept: &Kept) -> bool {
    let measured = kept.figures(row, who, |_| Some(())).len();
    if who == Who::Cairn {
        measured > 0 && measured == kept.rounds
    } else {
        is_most(measured, kept.rounds)
    }
}

fn is_most(of: usize, rounds: usize) -> bool {
    2 * of > rounds
}

/// Flushes an operation of Cairn in a row, and whether they are few enough. None at all are not few: a write that was acknowledged was flushed, so
/// the disk told nothing, or nothing was synced.
pub(super) fn flushes(row: &Row, most: f64, kept: &Kept) -> (Option<f64>, bool) {
    let measured = median(kept.figures(row, Who::Cairn, |m| m.flushes_per_op));
    (measured, measured.is_some_and(|n| n > 0.0 && n <= most))
}

/// What another client measured of Cairn, and how much of what `cairn bench` did right before it in the same round; whether they agree, in most
/// rounds at least.
pub(super) fn agreement(row: &Row, kept: &Kept) -> (Option<(f64, f64)>, bool) {
    let pairs = kept.seconds(row).filter_map(|s| {
        let ours = kept.cells(row, Who::Cairn).find(|c| c.round == s.round)?;
        Some((s.ops_per_second?, ours.measured.as_ref()?.ops_per_second))
    });
    let (theirs, shares): (Vec<f64>, Vec<f64>) = pairs.map(|(theirs, ours)| (theirs, theirs / ours)).unzip();
    let ran = is_most(shares.len(), kept.rounds);
    let both = median(theirs).zip(median(shares));
    let agrees = ran && both.is_some_and(|(_, share)| (share - 1.0).abs() <= AGREES_WITHIN);
    (both, agrees)
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{cell, kept, measured};
    use super::super::ledger::{Cell, Second};
    use super::super::rows::{Client, ROWS};
    use super::*;

    fn row(what: &str) -> &'static Row {
        ROWS.iter().find(|row| row.what == what).expect("a row")
    }

    fn each(row: &Row, figures: &[(Who, f64)]) -> Vec<Cell> {
        figures
            .iter()
            .map(|(who, ops)| cell(row, *who, 0, *ops))
            .collect()
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn the_lower_of_peer_and_limit_is_the_floor_and_the_other_is_told() {
        let put = row("put 4 KiB, c16");
        let (weed, garage) = ((Who::SeaweedFS, 5_000.0), (Who::Garage, 2_000.0));
        for (limit, cairn, ops, by, holds) in [
            (50_000.0, 30_000.0, 30_000.0, By::Limit, true),
            (50_000.0, 29_999.0, 30_000.0, By::Limit, false),
            (80_000.0, 40_000.0, 40_000.0, By::Peer(8.0, Who::SeaweedFS), true),
            (80_000.0, 39_999.0, 40_000.0, By::Peer(8.0, Who::SeaweedFS), false),
        ] {
            let cells = each(put, &[(Who::Cairn, cairn), weed, garage, (Who::Limit, limit)]);
            let v = Verdict::of(put, &kept(cells, Vec::new()));
            let floor = v.floor.expect("a floor");
            assert!(
                (floor.ops - ops).abs() < 1e-6 && floor.by == by,
                "{limit} {floor:?}"
            );
            assert_ne!(floor.other.map(|(_, by)| by), Some(floor.by), "{limit}");
            assert!(floor.other.is_some(), "{limit}");
            assert_eq!(v.holds(), holds, "{limit} {cairn}");
            assert!((v.of_goal().expect("a ratio") - cairn / 50_000.0).abs() < 1e-9);
        }
    }

    #[test]
    fn of_peers_and_nginx_the_higher_is_the_floor() {
        let get = row("get 64 MiB, c4");
        let cells = |files| {
            each(
                get,
                &[
                    (Who::Cairn, 45.0),
                    (Who::SeaweedFS, 20.0),
                    (Who::Garage, 10.0),
                    (Who::Nginx, files),
                ],
            )
        };
        assert!(
            Verdict::of(get, &kept(cells(60.0), Vec::new())).holds(),
            "40 and 30"
        );
        let v = Verdict::of(get, &kept(cells(100.0), Vec::new()));
        assert!(!v.holds(), "40 and 50");
        assert_eq!(v.floor.expect("a floor").by, By::Files(0.5));
    }

    const HOLDING: [(Who, f64); 4] = [
        (Who::Cairn, 100.0),
        (Who::SeaweedFS, 1.0),
        (Who::Garage, 1.0),
        (Who::Limit, 1_000.0),
    ];

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let put = row("put 4 KiB, c16");
        assert!(!Verdict::of(put, &Kept::default()).holds());
        for what in ["put 4 KiB, c16", "get 64 MiB, c4", "put 4 KiB, c64", "head, c16"] {
            let row = row(what);
            let all = |rounds: usize, without: Option<Who>| {
                let mut cells = Vec::new();
                for round in 0..rounds {
                    let who = row.parties().into_iter().filter(|who| Some(*who) != without);
                    cells.extend(
                        who.map(|who| cell(row, who, round, if who == Who::Cairn { 100.0 } else { 1.0 })),
                    );
                    cells.retain(|c| c.who != Who::Limit);
                }
                if row.parties().contains(&Who::Limit) && without != Some(Who::Limit) {
                    cells.extend((0..rounds).map(|round| cell(row, Who::Limit, round, 1_000.0)));
                }
                cells
            };
            assert!(
                Verdict::of(row, &kept(all(5, None), Vec::new())).holds(),
                "{what}"
            );
            for who in row.parties() {
                let without = kept(all(5, Some(who)), Vec::new()).within(5);
                let v = Verdict::of(row, &without);
                assert_eq!(v.holds(), !row.needs(who), "{what} without {}", who.name());
                // In two rounds of five.
                let mut few = all(5, None);
                few.retain(|c| c.who != who || c.round < 2);
                let v = Verdict::of(row, &kept(few, Vec::new()).within(5));
                assert_eq!(v.holds(), !row.needs(who), "{what}, {} twice", who.name());
            }
        }
    }

    #[test]
    fn a_limit_server_that_stalls_opens_no_gate() {
        let put = row("put 4 KiB, c16");
        let peers = [(Who::SeaweedFS, 50.0), (Who::Garage, 10.0)];
        let with = |cairn, limits: &[f64]| {
            let mut cells = Vec::new();
            for (round, limit) in limits.iter().enumerate() {
                for (who, ops) in [(Who::Cairn, cairn), (Who::Limit, *limit)]
                    .into_iter()
                    .chain(peers)
                {
                    cells.push(cell(put, who, round, ops));
                }
            }
            Verdict::of(put, &kept(cells, Vec::new()))
        };
        let v = with(120.0, &[100.0]);
        assert!(v.doubts_limit() && !v.holds(), "8 times 50 are asked");
        assert_eq!(v.floor.expect("a floor").by, By::Peer(8.0, Who::SeaweedFS));
        assert!(with(400.0, &[100.0]).holds(), "and are enough");
        // It stalled in most rounds: what it can do is what it did once.
        let v = with(180.0, &[200.0, 200.0, 500.0]);
        assert!(!v.doubts_limit() && !v.holds(), "{:?}", v.floor);
        assert!(with(300.0, &[200.0, 200.0, 500.0]).holds());
    }

    #[test]
    fn an_error_of_cairn_fails_the_row_and_one_of_a_peer_does_not() {
        let put = row("put 4 KiB, c16");
        let with_errors = |whose| {
            let mut cells = each(put, &HOLDING);
            for c in cells.iter_mut().filter(|c| c.who == whose) {
                c.measured = Some(super::super::ledger::Measured {
                    errors: 1,
                    ..measured(c.measured.as_ref().expect("figures").ops_per_second)
                });
            }
            Verdict::of(put, &kept(cells, Vec::new()))
        };
        assert!(with_errors(Who::Garage).holds());
        assert!(!with_errors(Who::Cairn).holds());
        let mut cells = each(put, &HOLDING);
        cells.push(Cell {
            measured: None,
            ..cell(put, Who::Cairn, 1, 0.0)
        });
        assert!(
            !Verdict::of(put, &kept(cells, Vec::new())).holds(),
            "a round without figures"
        );
    }

    #[test]
    fn flushes_that_nobody_told_of_are_not_few() {
        let put = row("put 4 KiB, c16");
        for (told, held) in [
            (None, false),
            (Some(0.0), false),
            (Some(0.25), true),
            (Some(0.26), false),
        ] {
            let mut c = cell(put, Who::Cairn, 0, 1.0);
            c.measured.as_mut().expect("figures").flushes_per_op = told;
            assert_eq!(flushes(put, 0.25, &kept(vec![c], Vec::new())), (told, held));
        }
        assert_eq!(flushes(put, 0.25, &Kept::default()), (None, false));
    }

    #[test]
    fn a_second_client_agrees_within_its_bound_and_was_asked() {
        let get = row("get 4 KiB, c16");
        let said = |ops| Second {
            row: get.what.to_owned(),
            round: 0,
            client: Client::Wrk,
            ops_per_second: ops,
            why: None,
        };
        for (ops, agrees) in [
            (Some(86.0), true),
            (Some(84.0), false),
            (Some(116.0), false),
            (None, false),
        ] {
            let kept = kept(each(get, &[(Who::Cairn, 100.0)]), vec![said(ops)]);
            assert_eq!(agreement(get, &kept).1, agrees, "{ops:?}");
        }
        // Round by round: what another round came to says nothing.
        let rounds = [(0, 100.0), (1, 200.0), (2, 300.0)];
        let ours = rounds.map(|(round, ops)| cell(get, Who::Cairn, round, ops));
        let theirs = rounds.map(|(round, ops)| Second {
            round,
            ..said(Some(ops * if round == 1 { 0.5 } else { 0.9 }))
        });
        let (both, agrees) = agreement(get, &kept(ours.into(), theirs.into()));
        assert!(agrees, "{both:?}");
        // It failed in most of them.
        let ours = rounds.map(|(round, ops)| cell(get, Who::Cairn, round, ops));
        let (_, agrees) = agreement(get, &kept(ours.into(), vec![said(Some(100.0))]));
        assert!(!agrees, "one of three");
    }
}
