//! Who holds reclaim: nothing is dropped, decided or ended while anybody does. Pure functions of the row, and the holds of this process.
//!
//! A durable hold is for what outlives a process: an index that was restored, an operator who is looking. One of this process is for
//! what dies with it: a copy being made. Each is by a name, so that nobody lets go what another holds.

use crate::rows::{Change, Rows};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::ErrorKind;
use types::limits::{HOLD_TEXT_BYTES_MAX, HOLDS_MAX};
use wire::Fault;
use wire::control::Hold;
use wire::records::{ReclaimHold, ReclaimState};

/// Whom a hold is put down to that a build made which asked for no name.
const NAMELESS: &str = "operator";

/// Whether a hold can be told of.
pub(crate) fn check(by: &str, why: &str) -> Result<(), Fault> {
    match [by, why]
        .iter()
        .all(|text| (1..=HOLD_TEXT_BYTES_MAX).contains(&text.len()))
    {
        true => Ok(()),
        false => Err(Fault::new(
            ErrorKind::Invalid,
            format!("a hold has a name and a reason of 1 to {HOLD_TEXT_BYTES_MAX} bytes"),
        )),
    }
}

/// Holds by a name; held by that since before: only the reason is new.
pub(crate) fn set(rows: &Rows, new: &Hold) -> Result<Vec<Change>, Fault> {
    let mut holds = durable(rows);
    match holds.binary_search_by(|h| h.by.cmp(&new.by)) {
        Ok(at) if holds[at].why == new.why => return Ok(Vec::new()),
        Ok(at) => holds[at].why.clone_from(&new.why),
        Err(_) if holds.len() >= HOLDS_MAX => return Err(too_many()),
        Err(at) => holds.insert(at, new.clone()),
    }
    Ok(vec![row(holds)])
}

/// Lets go what is held by a name; whether anything was.
pub(crate) fn cleared(rows: &Rows, by: &str) -> (bool, Vec<Change>) {
    let mut holds = durable(rows);
    let before = holds.len();
    holds.retain(|h| h.by != by);
    match holds.len() == before {
        true => (false, Vec::new()),
        false => (true, vec![row(holds)]),
    }
}

/// Everybody who holds, the durable first.
pub(crate) fn all(rows: &Rows, holdings: &Holdings) -> Vec<Hold> {
    let mut all = durable(rows);
    all.extend(holdings.holds().iter().map(|(_, hold)| hold.clone()));
    all
}

/// By name.
fn durable(rows: &Rows) -> Vec<Hold> {
    let state = &rows.reclaim;
    if state.held && state.holds.is_empty() {
        return vec![Hold {
            by: NAMELESS.to_owned(),
            why: state.why.clone(),
            since_ms: state.held_ms,
        }];
    }
    let hold = |h: &ReclaimHold| Hold {
        by: h.by.clone(),
        why: h.why.clone(),
        since_ms: h.since_ms,
    };
    let mut holds: Vec<Hold> = state.holds.iter().map(hold).collect();
    holds.sort_by(|a, b| a.by.cmp(&b.by));
    holds
}

fn row(holds: Vec<Hold>) -> Change {
    let first = holds.first().cloned().unwrap_or_default();
    let hold = |h: Hold| ReclaimHold {
        by: h.by,
        why: h.why,
        since_ms: h.since_ms,
    };
    Change::Reclaim(ReclaimState {
        held: !holds.is_empty(),
        why: first.why,
        held_ms: first.since_ms,
        holds: holds.into_iter().map(hold).collect(),
    })
}

fn too_many() -> Fault {
    Fault::new(ErrorKind::Busy, format!("reclaim is held by {HOLDS_MAX} already"))
}

/// The holds of this process.
#[derive(Clone, Default)]
pub(crate) struct Holdings {
    holds: Arc<Mutex<Vec<(u64, Hold)>>>,
}

/// One of them, until it is dropped.
pub(crate) struct HeldHere {
    holdings: Holdings,
    id: u64,
}

impl Drop for HeldHere {
    fn drop(&mut self) {
        self.holdings.holds().retain(|(id, _)| *id != self.id);
    }
}

impl Holdings {
    fn holds(&self) -> MutexGuard<'_, Vec<(u64, Hold)>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, hold: Hold) -> Result<HeldHere, Fault> {
        let mut holds = self.holds();
        if holds.len() >= HOLDS_MAX {
            return Err(too_many());
        }
        let id = holds.last().map_or(0, |(last, _)| last + 1);
        holds.push((id, hold));
        Ok(HeldHere {
            holdings: self.clone(),
            id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_of_a_build_that_knew_no_names_is_the_operators() {
        let mut rows = Rows {
            reclaim: ReclaimState {
                held: true,
                why: "restored".into(),
                held_ms: 7,
                holds: vec![],
            },
            ..Rows::default()
        };
        let operators = Hold {
            by: "operator".into(),
            why: "restored".into(),
            since_ms: 7,
        };
        assert_eq!(all(&rows, &Holdings::default()), std::slice::from_ref(&operators));
        let another = Hold {
            by: "backup".into(),
            why: "copying".into(),
            since_ms: 9,
        };
        for change in set(&rows, &another).unwrap() {
            rows.apply(change);
        }
        assert_eq!(all(&rows, &Holdings::default()), [another, operators]);
        assert!(rows.reclaim.held, "for that build");
        for by in ["backup", "operator"] {
            let (held, changes) = cleared(&rows, by);
            assert!(held);
            changes.into_iter().for_each(|change| rows.apply(change));
        }
        assert_eq!(rows.reclaim, ReclaimState::default());
    }
}
