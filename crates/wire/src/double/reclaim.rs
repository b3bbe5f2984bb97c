//! Walking, compacting and removing extents in memory.

use super::{Extent, MemoryNode, Needle, conflict, status};
use crate::Fault;
use crate::node::{ExtentStatus, WalkCursor, WalkDepth, WalkPage, Walked};
use types::{ErrorKind, ExtentId, Generation, NeedleId};

fn absent() -> Fault {
    Fault::new(ErrorKind::NotFound, "no such extent")
}

impl MemoryNode {
    pub(super) fn walk_page(
        &self,
        extent: ExtentId,
        from: WalkCursor,
        depth: WalkDepth,
        count_max: usize,
    ) -> Result<WalkPage, Fault> {
        let state = self.state();
        let e = state.extents.get(&extent).ok_or_else(absent)?;
        let walked = |(id, n): (&NeedleId, &Needle)| Walked {
            needle: *id,
            offset: n.offset,
            stored_length: n.stored,
            head: Some(n.head.clone()),
            // It does not compute any: that of a single block it has.
            crc32c: (n.crcs.first().copied()).filter(|_| n.crcs.len() == 1 && depth == WalkDepth::Bytes),
            damage: None,
        };
        let rest = e.needles.range(NeedleId(from.needle.0 + 1)..);
        let found: Vec<Walked> = rest.take(count_max).map(walked).collect();
        let next = found.last().map(|last| WalkCursor {
            generation: e.generation,
            offset: last.offset + last.stored_length,
            needle: last.needle,
        });
        Ok(WalkPage { found, next })
    }

    pub(super) fn compact_extent(
        &self,
        extent: ExtentId,
        to: Generation,
        dropped: &[NeedleId],
    ) -> Result<ExtentStatus, Fault> {
        let mut state = self.state();
        let e = state.extents.get_mut(&extent).ok_or_else(absent)?;
        if !e.sealed {
            return Err(conflict("not sealed"));
        }
        if e.generation >= to {
            return Ok(status(extent, e));
        }
        let before = e.end;
        dropped.iter().for_each(|needle| drop(e.needles.remove(needle)));
        move_up(e);
        e.generation = to;
        let (answer, reclaimed) = (status(extent, e), before - e.end);
        state.compacted.done += 1;
        state.compacted.reclaimed_bytes += reclaimed;
        Ok(answer)
    }

    pub(super) fn remove_extent(&self, extent: ExtentId) -> Result<(), Fault> {
        let mut state = self.state();
        match state.extents.get(&extent) {
            None => return Ok(()),
            Some(e) if !e.sealed => return Err(conflict("not sealed")),
            Some(e) if !e.needles.is_empty() => return Err(conflict("needles are left in it")),
            Some(_) => {}
        }
        state.extents.remove(&extent);
        state.compacted.removed += 1;
        Ok(())
    }
}

/// Needles close up behind those that went.
fn move_up(e: &mut Extent) {
    e.end = 0;
    for needle in e.needles.values_mut() {
        needle.offset = e.end;
        e.end += needle.stored;
    }
}
