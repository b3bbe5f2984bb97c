//! The directory's side of a bucket's life.
//!
//! ```text
//!            create            opened(n)            begin(n)                  finish(n+1)
//!   (none) ─────────▶ opening(n) ──────▶ open(n) ─────────────▶ deleting(n+1) ───────────▶ (none)
//!                                           ▲                     │      │  ▲
//!                                           └──── cancel(n+1) ────┘      └──┘ begin(n+1), stale: whoever finds a
//!                                                                            deletion left takes the next turn
//! ```
//! `set versioning` makes a new `configuration` of an open bucket, `configured` says that every partition has it; between
//! the two the row says so (`configuration` above `configured`) and whoever finds it sends it to them again.
//!
//! Every step but `create` names the bucket and the turn that its sender saw or took, and does nothing unless the row
//! still says so: a second deleter can not finish what another has taken over or given up, and who set out to finish a
//! stale deletion touches neither the bucket once it is open again nor the next one of that name. A step sent again gets
//! its old answer (`done`), so a lost answer never becomes a second step. The row goes only after every partition has
//! committed `closing` of the same turn and answered empty (`copy.rs`).

use super::nothing;
use crate::rows::{Range, Row, RowRef};
use crate::view::{Change, Now, Stop, View, refuse};
use bytes::Bytes;
use types::{AccountId, BucketId, BucketName};
use wire::index::{Reason, SettingKind, Versioning};
use wire::records::{BucketAnswer, BucketRecord, BucketSetting, answer};
use world::plant::{Plant, is_planted};

const OPENING: u32 = 1;
const OPEN: u32 = 2;
const DELETING: u32 = 3;

/// More kinds of settings than any build writes.
const SETTINGS_MAX: usize = 1024;

/// A step of a change: of which bucket, and in which turn.
type Step = (BucketId, u64);

fn find(name: &BucketName, view: &View) -> Result<Option<BucketRecord>, Stop> {
    view.get(&RowRef::BucketName(name.as_str()))
}

fn find_step(name: &BucketName, bucket: BucketId, view: &View) -> Result<BucketRecord, Stop> {
    match find(name, view)? {
        Some(record) if record.bucket == bucket.0 => Ok(record),
        _ => refuse(Reason::NoSuchBucket, name.as_str()),
    }
}

fn write(record: &BucketRecord, change: &mut Change) {
    change.put(&RowRef::BucketName(&record.name), record);
}

fn answer(record: BucketRecord, existed: bool) -> answer::Kind {
    answer::Kind::Bucket(BucketAnswer {
        bucket: Some(record),
        existed,
    })
}

/// Decides a CreateBucket.
pub(super) fn create(
    (name, owner): (&BucketName, AccountId),
    (region, settings): (&str, &[BucketSetting]),
    view: &View,
    now: &Now,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    match find(name, view)? {
        Some(old) if old.owner != owner.0 => refuse(Reason::BucketExists, name.as_str()),
        Some(old) if old.state == DELETING => refuse(Reason::BucketBusy, "being deleted"),
        Some(old) => Ok(answer(old, true)),
        None => {
            let record = BucketRecord {
                bucket: now.stamp.id(now.serial),
                name: name.as_str().to_owned(),
                owner: owner.0,
                created_ms: now.wall_ms,
                region: region.to_owned(),
                turn: 1,
                state: OPENING,
                configuration: 1,
                versioning: 0,
                configured: 1,
            };
            for setting in settings {
                let kind = SettingKind::of(setting).expect("callers tell only what they know");
                change.put(
                    &RowRef::BucketSetting(BucketId(record.bucket), kind as u32),
                    setting,
                );
            }
            write(&record, change);
            change.put_bytes(&RowRef::AccountBucket(owner, name.as_str()), Bytes::new());
            Ok(answer(record, false))
        }
    }
}

/// Decides a BucketOpened.
pub(super) fn opened(
    name: &BucketName,
    (bucket, turn): Step,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    end_step(name, (bucket, turn), OPENING, view, change)
}

/// Decides a CancelDeleteBucket.
pub(super) fn cancel_delete(
    name: &BucketName,
    step: Step,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    end_step(name, step, DELETING, view, change)
}

/// From `state(turn)` to `open(turn)`; being there already is fine.
fn end_step(
    name: &BucketName,
    (bucket, turn): Step,
    state: u32,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let mut record = find_step(name, bucket, view)?;
    if record.turn != turn || (record.state != state && record.state != OPEN) {
        return refuse(Reason::BucketBusy, format!("turn {} is under way", record.turn));
    }
    if record.state != OPEN {
        record.state = OPEN;
        write(&record, change);
    }
    Ok(answer(record, true))
}

/// Decides a SetVersioning. Setting what is set already changes nothing.
pub(super) fn set_versioning(
    name: &BucketName,
    bucket: BucketId,
    versioning: Versioning,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let mut record = find_step(name, bucket, view)?;
    if record.state != OPEN {
        return refuse(Reason::BucketBusy, format!("turn {} is under way", record.turn));
    }
    if record.versioning != versioning as u32 {
        record.versioning = versioning as u32;
        record.configuration += 1;
        write(&record, change);
    }
    Ok(answer(record, true))
}

/// Decides a BucketConfigured. A partition that was closed at a later turn has ignored what was sent at this one, so the
/// row must still be at it.
pub(super) fn configured(
    name: &BucketName,
    (bucket, turn): Step,
    configuration: u64,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let mut record = find_step(name, bucket, view)?;
    if record.state != OPEN || record.turn != turn {
        return refuse(Reason::BucketBusy, format!("turn {} is under way", record.turn));
    }
    if record.configured < configuration {
        record.configured = configuration;
        write(&record, change);
    }
    Ok(answer(record, true))
}

/// Decides a BeginDeleteBucket.
pub(super) fn begin_delete(
    name: &BucketName,
    (bucket, turn): Step,
    stale: bool,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let mut record = find_step(name, bucket, view)?;
    if (record.turn, record.state) != (turn, if stale { DELETING } else { OPEN }) {
        return refuse(Reason::BucketBusy, format!("turn {} is under way", record.turn));
    }
    record.turn += 1;
    record.state = DELETING;
    write(&record, change);
    Ok(answer(record, true))
}

/// Decides a FinishDeleteBucket.
pub(super) fn finish_delete(
    name: &BucketName,
    (bucket, turn): Step,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    let record = find_step(name, bucket, view)?;
    if (record.state != DELETING || record.turn != turn) && !is_planted(Plant::SecondDeleter) {
        return refuse(Reason::BucketBusy, format!("turn {} is under way", record.turn));
    }
    // The next bucket of that name has another id, but rows that nothing can reach would be kept for ever.
    for (key, _) in view.scan(&Range::bucket_settings(bucket), SETTINGS_MAX)? {
        change.remove(&Row::parse(&key)?);
    }
    change.remove(&RowRef::BucketName(name.as_str()));
    change.remove(&RowRef::AccountBucket(AccountId(record.owner), name.as_str()));
    Ok(nothing())
}

/// Decides a PutBucketSetting. A bucket that is being made or removed takes it too: whoever is answered here came before
/// the removal, which takes the row along.
pub(super) fn put_setting(
    (name, bucket): (&BucketName, BucketId),
    kind: SettingKind,
    value: Option<&BucketSetting>,
    view: &View,
    change: &mut Change,
) -> Result<answer::Kind, Stop> {
    find_step(name, bucket, view)?;
    let row = RowRef::BucketSetting(bucket, kind as u32);
    match value {
        Some(value) => {
            assert_eq!(
                SettingKind::of(value),
                Some(kind),
                "a setting stands under its own kind"
            );
            change.put(&row, value);
        }
        None => change.remove(&row),
    }
    Ok(nothing())
}
