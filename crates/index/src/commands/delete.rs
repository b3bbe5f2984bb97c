//! Delete: the key names nothing any more. Nothing there is an answer, not an error.
//!
//! Removes `current` and `inline`, books `garbage`, moves `usage`.

use super::act::Act;
use super::precondition;
use crate::view::Stop;
use types::VersionId;
use wire::index::Precondition;
use wire::records::{DeleteAnswer, ObjectRecord, answer};

/// Decides a delete.
pub(super) fn delete(
    mut act: Act,
    version: Option<VersionId>,
    precondition: &Precondition,
) -> Result<answer::Kind, Stop> {
    let current: Option<ObjectRecord> = act.get(&act.current())?;
    precondition::check(precondition, current.as_ref())?;
    let is_meant = |o: &ObjectRecord| version.is_none_or(|v| VersionId::from_slice(&o.version) == Some(v));
    let Some(object) = current.filter(is_meant) else {
        return Ok(answer::Kind::Delete(DeleteAnswer::default()));
    };
    act.unname(&object, None);
    act.usage.object(&object, -1);
    act.change.remove(&act.current());
    act.finish()?;
    Ok(answer::Kind::Delete(DeleteAnswer {
        existed: true,
        version: object.version,
        null_version: object.null_version,
        delete_marker: false,
    }))
}
