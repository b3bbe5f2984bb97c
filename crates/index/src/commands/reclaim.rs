//! ForgetGarbage, ForgetCondemned: gc is done with rows that it alone reads.
//!
//! A booking goes once its needles stand in the dropped lists of their extents. It may go while the session of its blob lives on:
//! nothing can name that blob again. A blob is named by one operation of one gateway, which sends another command for it only
//! after the one before was refused; whichever took effect has an answer. The same command once more gets that answer (`done`), or
//! is below its session's floor and never decided, or its session has ended and it is refused. So is, by then, any other command
//! that names a blob of that session (blob.rs). So no row is needed to tell that the bytes are gone.
//!
//! A booking with more manifest pages than one commit takes loses the last of them first, and says in each commit how many are
//! left: it can be read, and forgotten, at every step.
//!
//! A promise about a needle goes once the session that could have named the needle has ended.

use super::nothing;
use crate::rows::{BadRow, Range, Row, RowRef, decode};
use crate::view::{Change, Now, Stop, View};
use bytes::Bytes;
use store::Batch;
use types::limits::{MANIFEST_PAGE_ENTRIES, STEP_BYTES_MAX};
use types::{BucketId, SessionId};
use wire::index::BookedRef;
use wire::records::{CondemnedRecord, ForgetCondemnedAnswer, GarbageRecord, Manifest, answer};

/// Promises looked at in one command.
const CONDEMNED_ROWS: usize = 512;

/// The row of a booking.
pub(super) fn row(booked: &BookedRef) -> RowRef<'_> {
    RowRef::Garbage(booked.bucket, &booked.key, booked.blob)
}

/// Decides a ForgetGarbage.
pub(super) fn forget_garbage(
    rows: &[BookedRef],
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    view.want(rows.iter().map(|r| row(r).key()))?;
    let mut step = Step { change, bytes: 0 };
    for booked in rows {
        let garbage: Option<GarbageRecord> = view.get(&row(booked))?;
        let Some(garbage) = garbage.filter(|g| g.booked_hlc == booked.booked.0) else {
            continue;
        };
        if !step.forget(booked, garbage) {
            step.change.is_step = true;
            break;
        }
    }
    Ok(nothing())
}

/// Removals of one commit.
struct Step<'a> {
    change: &'a mut Change,
    bytes: usize,
}

impl Step<'_> {
    /// Removes a booking and its pages; `false` when there is no room for all of it.
    fn forget(&mut self, booked: &BookedRef, mut garbage: GarbageRecord) -> bool {
        let mut pages = garbage.manifest.map_or(0, |m| m.pages);
        let (bucket, key): (BucketId, &str) = (booked.bucket, &booked.key);
        while pages > 0 && self.has_room() {
            pages -= 1;
            self.remove(RowRef::Manifest(bucket, key, booked.blob, pages).key());
        }
        if pages == 0 && self.has_room() {
            self.remove(row(booked).key());
            return true;
        }
        if let Some(manifest) = &mut garbage.manifest {
            let left = u64::from(pages) * MANIFEST_PAGE_ENTRIES as u64;
            *manifest = Manifest {
                pages,
                chunks: manifest.chunks.min(left),
                parts: manifest.parts.min(left),
            };
            self.change.put(&row(booked), &garbage);
        }
        false
    }

    fn has_room(&self) -> bool {
        self.bytes < STEP_BYTES_MAX
    }

    fn remove(&mut self, row: Bytes) {
        self.bytes += Batch::row_bytes(&row, None);
        self.change.writes.insert(row, None);
    }
}

/// Decides a ForgetCondemned.
pub(super) fn forget_condemned(
    from: &Bytes,
    view: &View,
    now: &Now,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let mut range = Range::condemned();
    range.start = range.start.max(from.clone());
    let mut next = Bytes::new();
    if range.start < range.end {
        // A promise that cannot be read is kept, whoever it is about.
        let found = view.readable(&range, CONDEMNED_ROWS)?;
        for (key, value) in &found.rows {
            let condemned: CondemnedRecord = decode(key, value)?;
            if SessionId(condemned.session) < now.ended_below {
                change.remove(&condemned_row(key)?);
            }
        }
        if found.next < range.end {
            next = found.next;
        }
    }
    let next = next.to_vec();
    Ok(answer::Kind::ForgetCondemned(ForgetCondemnedAnswer { next }))
}

fn condemned_row(key: &[u8]) -> Result<Row, BadRow> {
    match Row::parse(key)? {
        row @ Row::Condemned(..) => Ok(row),
        other => Err(BadRow::new(format!("{other:?} among condemned needles"))),
    }
}
