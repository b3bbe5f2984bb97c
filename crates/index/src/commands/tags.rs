//! SetTags: an object's tags are replaced; nothing else of it changes, its version and times neither.
//!
//! Writes the record where it stands: `current` or `versions`.

use super::act::Act;
use super::{copy, put};
use crate::view::{Stop, refuse};
use types::VersionId;
use wire::index::{Reason, VersionRef};
use wire::records::{Pair, answer};

/// Decides a SetTags.
pub(super) fn set(act: Act, version: VersionRef, tags: &[Pair]) -> Result<answer::Kind, Stop> {
    copy::check_open(act.bucket, act.view)?;
    let Some(mut standing) = act.find(version)? else {
        let reason = match version {
            VersionRef::Current if act.is_deleted()? => Reason::DeleteMarker,
            VersionRef::Current => Reason::NoSuchKey,
            VersionRef::Id(_) | VersionRef::Null => Reason::NoSuchVersion,
        };
        return refuse(reason, "nothing to tag");
    };
    if standing.record.delete_marker {
        return refuse(Reason::DeleteMarker, "a delete marker has no tags");
    }
    standing.record.tags = tags.to_vec();
    let id = VersionId::from_slice(&standing.record.version).unwrap_or_default();
    let row = if standing.is_current {
        act.current()
    } else {
        act.version(id)
    };
    act.change.put(&row, &standing.record);
    let versioning = act.versioning()?;
    Ok(answer::Kind::Put(put::answer_of(&standing.record, versioning)))
}
