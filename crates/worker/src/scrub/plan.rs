//! What the scrub reads next, when, and what counts as found. Pure.

use bytes::Bytes;
use std::time::Duration;
use types::limits::SCRUB_FINDINGS_MAX;
use types::{DiskId, ExtentId, Generation, NeedleId, NodeId, Rot};
use wire::node::{WalkCursor, Walked};
use wire::records::{ScrubPass, ScrubState, ScrubTally};

const DISKS: u32 = 1;
const FILES: u32 = 2;
const ROWS: u32 = 3;
const EXTENTS: u32 = 4;

/// Where a pass is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind this disk.
    Disks(Option<DiskId>),
    /// At this place of the index's files.
    Files(Bytes),
    /// At this place of its rows.
    Rows(Bytes),
    /// In this copy of an extent; extent 0: before the first.
    Extents((ExtentId, NodeId), WalkCursor),
}

impl Place {
    /// Before the first extent.
    pub fn before_extents() -> Self {
        Self::Extents((ExtentId(0), NodeId(0)), WalkCursor::default())
    }

    /// Where a kept pass is. One that an unknown build kept is read from its beginning.
    pub fn of(state: &ScrubState) -> Self {
        let cursor = Bytes::copy_from_slice(&state.cursor);
        match state.stage {
            FILES => Self::Files(cursor),
            ROWS => Self::Rows(cursor),
            EXTENTS => Self::Extents(
                (ExtentId(state.extent), NodeId(state.node)),
                WalkCursor {
                    generation: Generation(state.generation),
                    offset: state.offset,
                    needle: NeedleId(state.needle),
                },
            ),
            _ => Self::Disks(DiskId::from_slice(&state.disk)),
        }
    }

    /// Puts it into what is kept.
    pub fn put(&self, state: &mut ScrubState) {
        let kept = ScrubState {
            begun_ms: state.begun_ms,
            tally: state.tally.take(),
            last: state.last.take(),
            last_extent: state.last_extent,
            ..ScrubState::default()
        };
        *state = match self {
            Self::Disks(last) => ScrubState {
                stage: DISKS,
                disk: last.map_or(Vec::new(), |disk| disk.to_bytes().to_vec()),
                ..kept
            },
            Self::Files(cursor) => ScrubState {
                stage: FILES,
                cursor: cursor.to_vec(),
                ..kept
            },
            Self::Rows(cursor) => ScrubState {
                stage: ROWS,
                cursor: cursor.to_vec(),
                ..kept
            },
            Self::Extents((extent, node), at) => ScrubState {
                stage: EXTENTS,
                extent: extent.0,
                node: node.0,
                generation: at.generation.0,
                offset: at.offset,
                needle: at.needle.0,
                ..kept
            },
        };
    }
}

/// How long a pass is to take, and from the beginning of one to that of the next: less than the period, so that what is read early in
/// one pass and late in the next is still read within it.
pub fn stretch(period: Duration) -> Duration {
    period / 10 * 9
}

/// How long until the next pass begins.
pub fn until_next(last: Option<&ScrubPass>, now_ms: u64, stretch: Duration) -> Duration {
    let Some(last) = last else { return Duration::ZERO };
    // A clock that went back says nothing of when the last pass was.
    if now_ms < last.begun_ms {
        return Duration::ZERO;
    }
    stretch.saturating_sub(Duration::from_millis(now_ms - last.begun_ms))
}

/// How long until the next piece is due of a pass that began at `begun_ms` and has read `done` of `total` bytes.
pub fn until_due((begun_ms, now_ms): (u64, u64), stretch: Duration, (done, total): (u64, u64)) -> Duration {
    let stretch_ms = stretch.as_millis();
    let of = u128::from(total.max(1));
    let due_ms = stretch_ms * u128::from(done).min(of) / of;
    let passed_ms = u128::from(now_ms.saturating_sub(begun_ms));
    Duration::from_millis(u64::try_from(due_ms.saturating_sub(passed_ms)).unwrap_or(u64::MAX))
}

/// The copy that is read after `at`. Extents that are newer than the pass (above `newest`) are read while it is in its time, and left to
/// the next one when it is late: a store that is written faster than it is read has an end to each pass.
pub fn next_copy(
    copies: &[(ExtentId, NodeId)],
    at: (ExtentId, NodeId),
    (newest, late): (ExtentId, bool),
) -> Option<(ExtentId, NodeId)> {
    let next = copies.iter().filter(|copy| **copy > at).min().copied();
    next.filter(|(extent, _)| !late || *extent <= newest)
}

/// What is said of something damaged in an extent: what it was, and a sentence with its place and whose it is, as far as that is known.
pub fn finding(extent: ExtentId, walked: &Walked, bucket: Option<&str>) -> (Rot, String) {
    let damage = walked.damage.as_deref().unwrap_or("is not what was written");
    let place = format!("extent {extent} offset {}", walked.offset);
    let Some(head) = &walked.head else {
        // A walk tells so of what stands around the needles.
        let rot = match (walked.stored_length, walked.offset) {
            (0, 0) => Rot::Extent,
            (0, _) => Rot::NeedleMap,
            _ => Rot::Needle,
        };
        let length = walked.stored_length;
        let whose = match rot {
            Rot::Needle => format!(" for {length} bytes: whose they are is not known"),
            _ => String::new(),
        };
        return (rot, format!("{place}: {damage}{whose}"));
    };
    let owner = &head.owner;
    let bucket = bucket.map_or_else(|| format!("of id {}", owner.bucket), |name| format!("{name:?}"));
    let part = owner.upload.map_or(String::new(), |(upload, part)| {
        format!(", part {part} of upload {upload}")
    });
    let from = head.logical_offset;
    let text = format!(
        "{place} needle {}: {damage}; object {:?} of bucket {bucket}{part}, its bytes {from} to {}",
        walked.needle.0,
        owner.key,
        from + head.length
    );
    (Rot::Needle, text)
}

/// Counts a finding, and keeps it in words while there is room.
pub fn note(tally: &mut ScrubTally, what: String) {
    tally.findings += 1;
    if tally.found.len() < SCRUB_FINDINGS_MAX {
        tally.found.push(what);
    }
}
