//! The laying: rows of the snapshot above all numbers that were given, and between them the control rows made anew, in one ascending stream.

use crate::RestoreError;
use crate::snapshot::Index;
use crate::under::Under;
use control::{Ground, fresh_rows};
use index::begun;
use store::{OldLog, lay};
use types::PartitionId;

/// Lays the index; answers how many rows.
///
/// # Errors
/// Its rows cannot be read, or not be laid. What was there is there still, or all of the new is.
pub fn lay_index(index: &Index, under: &Under<'_>, why: &str, now_ms: u64) -> Result<u64, RestoreError> {
    let (floors, given) = index.floors(&under.seen, under.before, now_ms);
    let disk = under.opened.dir.disk_id();
    let control = fresh_rows(&Ground {
        node: under.node,
        disk,
        extents: &under.extents,
        last_extent: given.extent,
        last_session: given.session,
        why,
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
