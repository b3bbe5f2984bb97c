//! A partition's copy of a bucket's state: OpenBucket, CloseBucket.
//!
//! ```text
//!             open(n)  n >= turn                close(n)  n > turn
//!   (absent) ────────────────▶ open(turn) ─────────────────────────▶ closing(turn)
//!                                  ▲                                     │   ▲ close(n)  n >= turn
//!                                  └──────────── open(n)  n >= turn ─────┘   └── answers what it has now
//! ```
//! A turn below the row's is stale: an `open` of it is ignored, a `close` of it refused. So is a `close` of the very turn
//! that was opened again: its deletion was given up. A closing bucket takes no puts, and of uploads no beginnings, parts
//! or completions, only abortions. So once it has answered that it is empty it stays so until a later `open`; and once it
//! has answered that there are only uploads, there will never be more than those, and nothing is made of them.

use super::nothing;
use crate::rows::{Place, RowRef};
use crate::view::{Change, Stop, View, refuse};
use types::BucketId;
use wire::index::{Reason, Versioning};
use wire::records::{BucketCopy, CloseAnswer, answer};
use world::plant::{Plant, is_planted};

const OPEN: u32 = 1;
const CLOSING: u32 = 2;

/// Refuses unless the bucket takes puts, and what becomes of uploads, here.
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
        return Ok(answer::Kind::Close(contents(bucket, view)?));
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
    Ok(answer::Kind::Close(contents(bucket, view)?))
}

/// What the bucket has: objects, versions or delete markers; or uploads alone; or nothing. Where that cannot be read it has
/// something: a bucket is not closed for good because a page of the index rotted.
fn contents(bucket: BucketId, view: &View) -> Result<CloseAnswer, Stop> {
    let has = |place: Place| view.has(&place.with_prefix(bucket, ""));
    if has(Place::Current)? || has(Place::Versions)? {
        return Ok(CloseAnswer::default());
    }
    let only_uploads = has(Place::Uploads)?;
    Ok(CloseAnswer {
        empty: !only_uploads,
        only_uploads,
    })
}
