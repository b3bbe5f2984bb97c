//! `If-Match` and `If-None-Match` on writes.

use crate::view::{Stop, refuse};
use types::ETag;
use wire::index::{Match, Precondition, Reason};
use wire::records::ObjectRecord;

/// Holds a delete's condition against what is meant. Where there is nothing, `If-Match` fails as it does on a write: who compares and
/// deletes must hear that it was not its delete. Size and time spare what is there, and fail nothing else (S3's directory buckets, which
/// alone have them).
pub(super) fn check_delete(condition: &Precondition, meant: Option<&ObjectRecord>) -> Result<(), Stop> {
    match (meant, &condition.if_match) {
        (Some(object), _) => check(condition, Some(object)),
        (None, Some(_)) => refuse(Reason::NoSuchKeyForMatch, "If-Match"),
        (None, None) => Ok(()),
    }
}

/// Holds a condition against the object that the key names now.
pub(super) fn check(condition: &Precondition, current: Option<&ObjectRecord>) -> Result<(), Stop> {
    let matches = |m: &Match, object: &ObjectRecord| match m {
        Match::Any => true,
        Match::Tags(tags) => etag(object).is_some_and(|e| tags.contains(&e)),
    };
    if let Some(m) = &condition.if_match {
        let Some(object) = current else {
            return refuse(Reason::NoSuchKeyForMatch, "If-Match");
        };
        if !matches(m, object) {
            return refuse(Reason::PreconditionFailed, "If-Match");
        }
    }
    if let (Some(m), Some(object)) = (&condition.if_none_match, current)
        && matches(m, object)
    {
        return refuse(Reason::PreconditionFailed, "If-None-Match");
    }
    let modified_s = current.map(|o| o.modified_ms / 1000);
    if condition.if_modified_s.is_some_and(|at| modified_s != Some(at)) {
        return refuse(Reason::PreconditionFailed, "x-amz-if-match-last-modified-time");
    }
    if condition
        .if_size
        .is_some_and(|size| current.map(|o| o.size) != Some(size))
    {
        return refuse(Reason::PreconditionFailed, "x-amz-if-match-size");
    }
    Ok(())
}

fn etag(object: &ObjectRecord) -> Option<ETag> {
    Some(ETag {
        md5: object.etag_md5.as_slice().try_into().ok()?,
        part_count: object.etag_parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let tag = |b: u8| ETag {
            md5: [b; 16],
            part_count: 0,
        };
        let object = ObjectRecord {
            etag_md5: vec![1; 16],
            ..ObjectRecord::default()
        };
        let (yes, no) = (Match::Tags(vec![tag(9), tag(1)]), Match::Tags(vec![tag(9)]));
        let reason = |if_match: Option<&Match>, if_none_match: Option<&Match>, there: bool| {
            let condition = Precondition {
                if_match: if_match.cloned(),
                if_none_match: if_none_match.cloned(),
                ..Precondition::default()
            };
            match check(&condition, there.then_some(&object)) {
                Ok(()) => None,
                Err(Stop::Refused(r)) => Reason::from_number(r.reason),
                Err(other) => panic!("{other:?}"),
            }
        };
        let (failed, missing) = (Some(Reason::PreconditionFailed), Some(Reason::NoSuchKeyForMatch));
        for (if_match, if_none_match, there, expected) in [
            (None, None, true, None),
            (Some(&yes), None, true, None),
            (Some(&Match::Any), None, true, None),
            (Some(&no), None, true, failed),
            (Some(&yes), None, false, missing),
            (Some(&Match::Any), None, false, missing),
            (None, Some(&Match::Any), false, None),
            (None, Some(&Match::Any), true, failed),
            (None, Some(&yes), true, failed),
            (None, Some(&no), true, None),
            (Some(&yes), Some(&yes), true, failed),
        ] {
            assert_eq!(reason(if_match, if_none_match, there), expected);
        }
    }

    #[test]
    fn a_delete_spares_what_is_not_as_it_was_seen() {
        let object = ObjectRecord {
            etag_md5: vec![1; 16],
            modified_ms: 7_999,
            size: 5,
            ..ObjectRecord::default()
        };
        let holds = |if_modified_s, if_size, meant| {
            let condition = Precondition {
                if_modified_s,
                if_size,
                ..Precondition::default()
            };
            check_delete(&condition, meant).is_ok()
        };
        assert!(holds(Some(7), Some(5), Some(&object)));
        assert!(!holds(Some(8), None, Some(&object)));
        assert!(!holds(None, Some(4), Some(&object)));
        assert!(!holds(Some(7), Some(0), Some(&object)));
        assert!(holds(Some(8), Some(4), None), "nothing there is no failure");
        for if_match in [Match::Any, Match::Tags(Vec::new())] {
            let condition = Precondition {
                if_match: Some(if_match),
                ..Precondition::default()
            };
            let Err(Stop::Refused(refused)) = check_delete(&condition, None) else {
                panic!("told done what was not")
            };
            assert_eq!(refused.reason, Reason::NoSuchKeyForMatch as u32);
        }
    }
}
