//! Delete. Nothing there is an answer, not an error, unless `If-Match` said that there is something.
//!
//! | what is meant | versioning | what happens |
//! |---|---|---|
//! | the key | never enabled | the object goes |
//! | the key | enabled | a delete marker stands over what was visible, also where there was nothing |
//! | the key | suspended | the null version goes and a null delete marker stands over what is left |
//! | a version | any | just that goes; what it stood over is visible again, unless that is a delete marker |
//!
//! Removes `current`, `versions`, `nulls` and `inline`, or moves a record from one of the first two to the other; books
//! `garbage`, moves `usage`.

use super::act::Act;
use super::{copy, precondition};
use crate::view::Stop;
use bytes::Bytes;
use wire::index::{Precondition, VersionRef, Versioning};
use wire::records::{DeleteAnswer, ObjectRecord, answer};

/// Decides a delete.
pub(super) fn delete(
    mut act: Act,
    version: VersionRef,
    precondition: &Precondition,
) -> Result<answer::Kind, Stop> {
    let standing = act.find(version)?;
    precondition::check_delete(precondition, standing.as_ref().map(|s| &s.record))?;
    let versioning = act.versioning()?;
    if version == VersionRef::Current && versioning != Versioning::Never {
        return put_marker(act, standing.map(|s| s.record), versioning);
    }
    let Some(gone) = standing else {
        return Ok(answer::Kind::Delete(DeleteAnswer {
            versioning: versioning as u32,
            ..DeleteAnswer::default()
        }));
    };
    act.remove_version(&gone)?;
    act.finish()?;
    Ok(answer_of(gone.record, true, versioning))
}

/// Puts a delete marker over what is visible.
fn put_marker(
    mut act: Act,
    current: Option<ObjectRecord>,
    versioning: Versioning,
) -> Result<answer::Kind, Stop> {
    // A marker makes a bucket not empty: one that is being deleted takes none.
    let copy = copy::check_open(act.bucket, act.view)?;
    let marker = ObjectRecord {
        owner: copy.owner,
        version: act.now.version().to_bytes().to_vec(),
        null_version: versioning != Versioning::Enabled,
        delete_marker: true,
        modified_ms: act.now.wall_ms,
        ..ObjectRecord::default()
    };
    act.make_room(current.as_ref(), marker.null_version, None)?;
    if current.is_some() {
        act.change.remove(&act.current());
    }
    act.change.put(&act.version(act.now.version()), &marker);
    if marker.null_version {
        let id = Bytes::copy_from_slice(&marker.version);
        act.change.put_bytes(&act.null(), id);
    }
    act.usage.version(&marker, 1);
    act.finish()?;
    Ok(answer_of(marker, current.is_some(), versioning))
}

fn answer_of(record: ObjectRecord, existed: bool, versioning: Versioning) -> answer::Kind {
    answer::Kind::Delete(DeleteAnswer {
        existed,
        version: record.version,
        null_version: record.null_version,
        delete_marker: record.delete_marker,
        versioning: versioning as u32,
    })
}
