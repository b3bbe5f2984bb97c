//! What a compaction keeps of an extent: from its map where that holds, else from the headers in its file.
//!
//! A map is believed where it has as many needles as the extent; what is copied by it is verified on its way in any case (`copying`).

use crate::ExtentError;
use crate::copying::damaged;
use crate::extent::BODY_OFFSET;
use crate::footer::{self, Map};
use crate::table::Row;
use crate::walk::{Census, Found, Walker};
use std::sync::Arc;
use types::NeedleId;
use world::DiskFile;

/// The needles that stay, by number with their places, and how long the new file may get.
pub(crate) fn plan(
    old: &Arc<dyn DiskFile>,
    row: &Row,
    dropped: &[NeedleId],
) -> Result<(Vec<(NeedleId, u64)>, u64), ExtentError> {
    debug_assert!(dropped.is_sorted(), "the list is searched by halving");
    let stays = |needle: NeedleId| dropped.binary_search(&needle).is_err();
    let map = Map::of(&**old, row).filter(|_| row.footer);
    let all = match map.and_then(|map| map.load()) {
        Some(entries) if entries.len() as u64 == row.needles => entries,
        _ => walk_all(old, row, dropped)?,
    };
    let mut ends = all.iter().skip(1).map(|(_, offset)| *offset).chain([row.end]);
    let mut kept = Vec::new();
    let mut body = 0;
    for (needle, offset) in &all {
        let end = ends.next().unwrap_or(row.end);
        if stays(*needle) {
            kept.push((*needle, *offset));
            body += end.saturating_sub(*offset);
        }
    }
    let bound = BODY_OFFSET + body + footer::bytes(kept.len());
    Ok((kept, bound))
}

/// All needles by their headers. Damage passes where all that it can hide was dropped.
fn walk_all(
    old: &Arc<dyn DiskFile>,
    row: &Row,
    dropped: &[NeedleId],
) -> Result<Vec<(NeedleId, u64)>, ExtentError> {
    let walker = Walker::new(old.clone(), row.extent, row.salt, 0, row.end);
    let mut all = Vec::new();
    for found in Census::new(walker, row.next_needle) {
        match found {
            Found::Needle(_, header) if header.void => {}
            Found::Needle(offset, header) => all.push((header.needle, offset)),
            Found::Hidden(offset, numbers) => {
                let first = numbers.start;
                if numbers
                    .into_iter()
                    .any(|n| dropped.binary_search(&NeedleId(n)).is_err())
                {
                    return Err(damaged(row, NeedleId(first), offset, "no header that holds"));
                }
            }
        }
    }
    Ok(all)
}
