//! Rows of a control partition that is kept where an index is laid anew: with reclaim held, and what they say of needles that go. Pure.
//! One that is not whole is made anew (`fresh.rs`).

use crate::hold;
use crate::page::Page;
use crate::rows::{self, Change, Pages, Rows};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use types::limits::DROPPED_PAGE_NEEDLES;
use types::{Epoch, ExtentId, NeedleId};
use wire::control::Hold;
use wire::records::{DroppedPage, ExtentRecord, ReclaimState};

/// Under this name reclaim is held, so that whoever lets a restore's hold go lets this one go too.
const BY: &str = wire::control::HELD_BY_RESTORE;

/// The rows of a control partition that is whole, with reclaim held, beside whoever holds it already. `objects`: the rows of objects are kept too.
/// Where they are not, what lost its name before is booked nowhere any more, so no extent counts as looked through for needles without name.
///
/// # Errors
/// They are not what this build writes, or too many hold.
pub fn kept(
    mut kept: BTreeMap<Bytes, Bytes>,
    held: (&str, u64),
    objects: bool,
) -> Result<Vec<(Bytes, Bytes)>, String> {
    let (key, _) = Change::Reclaim(ReclaimState::default()).row();
    let mut found = Rows::default();
    if let Some(value) = kept.get(&key) {
        found.take(&key, value)?;
    }
    let mut changes = hold::set(&found, &by(held)).map_err(|fault| fault.to_string())?;
    if !objects {
        changes.extend(to_sweep(&kept)?);
    }
    kept.extend(written(&changes));
    // Its owner writes it anew; the place in a log that it says is of one that is gone.
    kept.remove(&rows::state(Epoch(0), 0).0);
    Ok(kept.into_iter().collect())
}

/// Needles of which kept rows say that nothing names them, and that they go.
///
/// # Errors
/// They are not what this build writes.
pub fn gone_needles(kept: &BTreeMap<Bytes, Bytes>) -> Result<BTreeSet<(ExtentId, NeedleId)>, String> {
    let mut gone = BTreeSet::new();
    for (key, value) in kept {
        let Some((extent, number)) = Pages::place(key) else {
            continue;
        };
        let record =
            DroppedPage::decode(&value[..]).map_err(|e| format!("a page of dropped needles: {e}"))?;
        let page = Page::read(&record)?;
        let on = (0..DROPPED_PAGE_NEEDLES).filter(|at| page.has(*at));
        gone.extend(on.map(|at| (extent, NeedleId(number * DROPPED_PAGE_NEEDLES + at))));
    }
    Ok(gone)
}

/// Extents that were looked through, as if they were not.
fn to_sweep(kept: &BTreeMap<Bytes, Bytes>) -> Result<Vec<Change>, String> {
    let mut found = Rows::default();
    let is_extent = |key: &Bytes| key.first() == Some(&rows::EXTENTS);
    for (key, value) in kept.iter().filter(|(key, _)| is_extent(key)) {
        found.take(key, value)?;
    }
    let swept = found.extents.into_values().filter(|extent| extent.swept);
    let unswept = swept.map(|extent| {
        Change::Extent(ExtentRecord {
            swept: false,
            ..extent
        })
    });
    Ok(unswept.collect())
}

fn by((why, since_ms): (&str, u64)) -> Hold {
    Hold {
        by: BY.to_owned(),
        why: why.to_owned(),
        since_ms,
    }
}

fn written(changes: &[Change]) -> Vec<(Bytes, Bytes)> {
    let rows = changes.iter().map(Change::row);
    rows.filter_map(|(key, value)| Some((key, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rows: &[(Bytes, Bytes)]) -> Rows {
        let mut read = Rows::default();
        for (key, value) in rows {
            read.take(key, value).unwrap();
        }
        read
    }

    #[test]
    fn rows_that_are_kept_are_held_beside_who_held_before_and_tell_what_is_gone() {
        let operator = Hold {
            by: "operator".into(),
            why: "looking".into(),
            since_ms: 1,
        };
        let mut page = Page::EMPTY;
        page.put(5, 100);
        let mut changes = hold::set(&Rows::default(), &operator).unwrap();
        changes.push(Change::LastSession(6));
        changes.push(Change::Page(Pages::Dropped, ExtentId(3), 1, page.record()));
        let before: BTreeMap<Bytes, Bytes> = written(&changes).into_iter().collect();
        let gone: Vec<_> = gone_needles(&before).unwrap().into_iter().collect();
        assert_eq!(gone, [(ExtentId(3), NeedleId(DROPPED_PAGE_NEEDLES + 5))]);
        let after = kept(before.clone(), ("looked", 8), true).unwrap();
        assert_eq!(after.len(), before.len());
        let rows = read(
            &after
                .into_iter()
                .filter(|(key, _)| Pages::place(key).is_none())
                .collect::<Vec<_>>(),
        );
        let by: Vec<&str> = rows.reclaim.holds.iter().map(|hold| hold.by.as_str()).collect();
        assert_eq!((by, rows.last_session), (vec!["operator", BY], 6));
    }

    #[test]
    fn extents_are_looked_through_again_where_the_rows_of_objects_are_lost() {
        let extent = |id, swept| {
            Change::Extent(ExtentRecord {
                extent: id,
                state: rows::SEALED,
                sealed_bytes: 9,
                swept,
                ..ExtentRecord::default()
            })
        };
        let before: BTreeMap<Bytes, Bytes> = written(&[extent(3, true), extent(4, false)])
            .into_iter()
            .collect();
        for objects in [true, false] {
            let after = read(&kept(before.clone(), ("looked", 8), objects).unwrap());
            let swept: Vec<bool> = after.extents.values().map(|extent| extent.swept).collect();
            assert_eq!(swept, [objects, false]);
            assert!(after.extents.values().all(|extent| extent.sealed_bytes == 9));
        }
    }
}
