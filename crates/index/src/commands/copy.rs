//! A partition's copy of a bucket's state: OpenBucket, CloseBucket.
//!
//! ```text
//!             open(n)  n >= turn                close(n)  n > turn
//!   (absent) ────────────────▶ open(turn) ─────────────────────────▶ closing(turn)
//!                                  ▲                                     │   ▲ close(n)  n >= turn
//!                                  └──────────── open(n)  n >= turn ─────┘   └── answers whether it is empty now
//! ```
//! A turn below the row's is stale: an `open` of it is ignored, a `close` of it refused. So is a `close` of the very turn
//! that was opened again: its deletion was given up. A closing bucket takes no puts and begins no uploads, so once it
//! has answered empty it stays empty until a later `open`.

use super::nothing;
use crate::rows::{Place, RowRef};
use crate::view::{Change, Stop, View, refuse};
use types::BucketId;
use wire::index::{Reason, Versioning};
use wire::records::{BucketCopy, CloseAnswer, answer};
use world::plant::{Plant, is_planted};

const OPEN: u32 = 1;
const CLOSING: u32 = 2;

/// Refuses unless the bucket takes puts here.
pub(super) fn check_open(bucket: BucketId, view: &View) -> Result<BucketCopy, Stop> {
    match view.get::<BucketCopy>(&RowRef::Bucket(bucket))? {
        None => refuse(Reason::NoSuchBucket, bucket.to_string()),
        Some(copy) if copy.state != OPEN => refuse(Reason::BucketBusy, "being deleted"),
        Some(copy) => Ok(copy),
    }
}

/// The bucket's versioning as its partition knows it.
pub(super) fn versioning(bucket: BucketId, view: &View) -> Result<Versioning, Stop> {
    let copy: BucketCopy = view.get(&RowRef::Bucket(bucket))?.unwrap_or_default();
    Ok(Versioning::from_number(copy.versioning))
}

/// Decides an OpenBucket.
pub(super) fn open(
    bucket: BucketId,
    copy: &BucketCopy,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let row = RowRef::Bucket(bucket);
    let old: Option<BucketCopy> = view.get(&row)?;
    let is_stale = |old: &BucketCopy| {
        copy.turn < old.turn || (copy.turn == old.turn && copy.configuration < old.configuration)
    };
    if !old.as_ref().is_some_and(is_stale) {
        let new = BucketCopy { state: OPEN, ..*copy };
        change.put(&row, &new);
    }
    Ok(nothing())
}

/// Decides a CloseBucket.
pub(super) fn close(
    bucket: BucketId,
    turn: u64,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let row = RowRef::Bucket(bucket);
    let old: BucketCopy = view.get(&row)?.unwrap_or_default();
    let is_stale = turn < old.turn || (turn == old.turn && old.state != CLOSING);
    if is_stale && is_planted(Plant::SecondDeleter) {
        return Ok(answer::Kind::Close(CloseAnswer {
            empty: is_empty(bucket, view)?,
        }));
    }
    if is_stale {
        return refuse(Reason::BucketBusy, format!("turn {} is under way", old.turn));
    }
    let new = BucketCopy {
        turn,
        state: CLOSING,
        ..old
    };
    change.put(&row, &new);
    Ok(answer::Kind::Close(CloseAnswer {
        empty: is_empty(bucket, view)?,
    }))
}

/// No objects, versions, delete markers or uploads.
fn is_empty(bucket: BucketId, view: &View) -> Result<bool, Stop> {
    for place in [Place::Current, Place::Versions, Place::Uploads] {
        if !view.scan(&place.with_prefix(bucket, ""), 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
