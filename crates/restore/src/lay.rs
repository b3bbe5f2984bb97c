//! The laying: rows of the snapshot above all numbers that were given, and between them the control rows made anew, in one ascending stream.

use crate::RestoreError;
use crate::snapshot::{Index, PartitionRow};
use crate::under::Under;
use control::{Ground, fresh_rows};
use index::begun;
use store::{OldLog, StoreError, lay};
use types::PartitionId;
use wire::control::LAID_WITHOUT_ROWS;

/// Lays the index; answers how many rows.
///
/// # Errors
/// Its rows cannot be read, or not be laid. What was there is there still, or all of the new is.
pub fn lay_index(index: &Index, under: &Under<'_>, why: &str, now_ms: u64) -> Result<u64, RestoreError> {
    let (floors, given) = index.floors(&under.seen, under.before, now_ms);
    let disk = under.opened.dir.disk_id();
    let why = match index.left_out {
        0 => why.to_owned(),
        places => format!("{why}: {LAID_WITHOUT_ROWS} in {places} places"),
    };
    let control = fresh_rows(&Ground {
        node: under.node,
        disk,
        extents: &under.extents,
        last_extent: given.extent,
        last_session: given.session,
        why: &why,
        now_ms,
    });
    let control = control
        .into_iter()
        .map(|(key, value)| Ok((PartitionId::CONTROL, key, value)));
    let begun = |which: fn(PartitionId) -> bool| {
        let lost = index.without_state().filter(move |partition| which(*partition));
        lost.map(|partition| {
            let (key, value) = begun(&floors);
            Ok((partition, key, value))
        })
    };
    let before = index.raised(&floors, |partition| partition < PartitionId::CONTROL)?;
    let before = begun(|partition| partition < PartitionId::CONTROL).chain(before);
    let after = index.raised(&floors, |partition| partition > PartitionId::CONTROL)?;
    let after = merged(after, index.copies.missing());
    let after = begun(|partition| partition > PartitionId::CONTROL).chain(after);
    let log = OldLog {
        batches: &under.opened.batches,
        next: under.opened.dir.journal().next(),
    };
    Ok(lay(
        under.disk,
        disk,
        log,
        &mut before.chain(control).chain(after),
    )?)
}

/// Rows, and those that they lack or that take the place of one, in one ascending stream.
fn merged(
    rows: impl Iterator<Item = Result<PartitionRow, StoreError>>,
    missing: impl Iterator<Item = PartitionRow>,
) -> impl Iterator<Item = Result<PartitionRow, StoreError>> {
    let (mut rows, mut missing) = (rows.peekable(), missing.peekable());
    std::iter::from_fn(move || {
        let is_replaced = match (rows.peek(), missing.peek()) {
            (Some(Ok((partition, key, _))), Some((of, other, _))) => (partition, key) == (of, other),
            _ => false,
        };
        if is_replaced {
            rows.next();
        }
        let of_missing = match (rows.peek(), missing.peek()) {
            (_, None) | (Some(Err(_)), _) => false,
            (None, Some(_)) => true,
            (Some(Ok((partition, key, _))), Some((before, other, _))) => (before, other) < (partition, key),
        };
        match of_missing {
            true => missing.next().map(Ok),
            false => rows.next(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_missing_stands_where_it_belongs() {
        let row = |partition: u64, key: u8| (PartitionId(partition), Bytes::from(vec![key]), Bytes::new());
        let rows = [row(16, 1), row(16, 4), row(17, 2)];
        let anew = |partition, key| {
            let (partition, key, _) = row(partition, key);
            (partition, key, Bytes::from_static(b"anew"))
        };
        for missing in [
            vec![],
            vec![row(16, 0), row(16, 2), row(16, 3), row(17, 9)],
            vec![row(18, 0)],
            vec![anew(16, 1), anew(17, 2), row(17, 3)],
        ] {
            let all = merged(rows.iter().cloned().map(Ok), missing.iter().cloned());
            let all: Vec<_> = all.collect::<Result<_, _>>().unwrap();
            let rows = rows.iter().chain(&missing).cloned();
            let sorted: BTreeMap<_, _> = rows.map(|(p, key, value)| ((p, key), value)).collect();
            let sorted: Vec<_> = sorted
                .into_iter()
                .map(|((p, key), value)| (p, key, value))
                .collect();
            assert_eq!(all, sorted);
        }
    }
}
