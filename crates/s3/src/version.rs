//! Versions as S3 names them: 32 hexadecimal digits, or `null` for the version that was made while versioning was not
//! enabled.

use crate::error::Error;
use crate::reply;
use http::HeaderMap;
use objects::Opened;
use types::VersionId;
use wire::index::VersionRef;
use wire::records::{ObjectRecord, PutAnswer};

const HEADER: &str = "x-amz-version-id";

/// The version that a client names in `argument`.
///
/// # Errors
/// InvalidArgument for what no version was ever called.
pub(crate) fn parse(argument: &str, text: &str) -> Result<VersionRef, Error> {
    match (text, VersionId::parse(text)) {
        ("null", _) => Ok(VersionRef::Null),
        (_, Some(id)) => Ok(VersionRef::Id(id)),
        ("", _) => Err(Error::argument(
            argument,
            text,
            "Version id cannot be the empty string",
        )),
        _ => Err(Error::argument(argument, text, "Invalid version id specified")),
    }
}

/// A version's name, of its record's fields.
pub(crate) fn name(version: &[u8], is_null: bool) -> String {
    match VersionId::from_slice(version) {
        Some(id) if !is_null => id.to_string(),
        _ => "null".to_owned(),
    }
}

/// A record's version's name.
pub(crate) fn of(record: &ObjectRecord) -> String {
    name(&record.version, record.null_version)
}

/// Says which version was read, where the bucket has versions.
pub(crate) fn read(headers: &mut HeaderMap, record: &ObjectRecord, versioned: bool) {
    if versioned {
        reply::set(headers, HEADER, of(record));
    }
}

/// Says which version a copy was made of, where the source's bucket has versions.
pub(crate) fn copied(headers: &mut HeaderMap, source: &Opened) {
    if source.versioned {
        reply::set(headers, "x-amz-copy-source-version-id", of(&source.record));
    }
}

/// Says which version was made, where that is a version of its own: S3 says nothing of a null one, suspended or not.
pub(crate) fn made(headers: &mut HeaderMap, answer: &PutAnswer) {
    if answer.versioning != 0 && !answer.null_version {
        reply::set(headers, HEADER, name(&answer.version, false));
    }
}

/// Says which version was named or made, and whether it is a delete marker.
pub(crate) fn deleted(headers: &mut HeaderMap, version: String, is_marker: bool) {
    reply::set(headers, HEADER, version);
    if is_marker {
        reply::set(headers, "x-amz-delete-marker", true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn versions_are_named_as_they_are_parsed() {
        let id = VersionId(0xfedc_ba98_7654_3210_0123_4567_89ab_cdef);
        let text = name(&id.to_bytes(), false);
        assert_eq!(text, "fedcba98765432100123456789abcdef");
        assert_eq!(parse("versionId", &text), Ok(VersionRef::Id(id)));
        assert_eq!(name(&id.to_bytes(), true), "null");
        assert_eq!(parse("versionId", "null"), Ok(VersionRef::Null));
        for bad in ["", "NULL", "1", &text.to_uppercase(), &format!("{text}0"), "é"] {
            let code = parse("versionId", bad).map_err(|e| e.code());
            assert_eq!(code, Err(Code::InvalidArgument), "{bad}");
        }
    }
}
