//! Conditions in request headers.
//!
//! On reads they are decided here, against the record that will be answered. On writes they are only read here: the index
//! decides them in the commit and nowhere else.

use crate::error::{Code, Error};
use http::{HeaderMap, HeaderName, header};
use std::time::{Duration, UNIX_EPOCH};
use types::ETag;
use wire::index::{Match, Precondition};

/// What conditions make of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer it.
    Serve,
    /// 304: the client has it already.
    NotModified,
    /// 412, naming the condition that did not hold.
    Failed(&'static str),
}

/// A condition that is no text is one all the same: it names nothing.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().unwrap_or("\u{fffd}"))
}

/// Milliseconds since 1970 of an HTTP date. What is no date is no condition (RFC 9110, section 13.1.3).
fn date_ms(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let at = httpdate::parse_http_date(text(headers, name)?).ok()?;
    let since: Duration = at.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_millis() as u64)
}

/// Whether a list of entity tags names `etag`. Quotes may be missing, as S3 clients often send them.
fn names(list: &str, etag: &str) -> bool {
    list.split(',').map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let bare = tag
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .unwrap_or(tag);
        tag == "*" || bare == etag
    })
}

/// Decides a read of an object with this (unquoted) ETag and time.
///
/// If-Match outweighs If-Unmodified-Since, If-None-Match outweighs If-Modified-Since (RFC 9110, section 13.2.2; S3 says
/// the same). Times are compared in whole seconds, as HTTP dates carry them.
pub(crate) fn read(headers: &HeaderMap, etag: &str, modified_ms: u64) -> Verdict {
    let modified_ms = modified_ms / 1000 * 1000;
    if let Some(list) = text(headers, &header::IF_MATCH) {
        if !names(list, etag) {
            return Verdict::Failed("If-Match");
        }
    } else if date_ms(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|at| modified_ms > at) {
        return Verdict::Failed("If-Unmodified-Since");
    }
    if let Some(list) = text(headers, &header::IF_NONE_MATCH) {
        if names(list, etag) {
            return Verdict::NotModified;
        }
    } else if date_ms(headers, &header::IF_MODIFIED_SINCE).is_some_and(|at| modified_ms <= at) {
        return Verdict::NotModified;
    }
    Verdict::Serve
}

/// Whether a Range header still applies: If-Range names the object as it is, or there is none.
pub(crate) fn range_applies(headers: &HeaderMap, etag: &str, modified_ms: u64) -> bool {
    match text(headers, &header::IF_RANGE) {
        None => true,
        Some(tag) if tag.starts_with('"') => names(tag, etag),
        Some(_) => date_ms(headers, &header::IF_RANGE).is_some_and(|at| at == modified_ms / 1000 * 1000),
    }
}

/// Reads the conditions of a write.
///
/// # Errors
/// NotImplemented for those that S3 does not take on writes either; InvalidArgument.
pub(crate) fn write(headers: &HeaderMap) -> Result<Precondition, Error> {
    for name in [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE] {
        if headers.contains_key(&name) {
            return Err(Error::header_not_implemented(name.as_str()));
        }
    }
    let once = |name: HeaderName| -> Result<Option<&str>, Error> {
        let mut values = headers.get_all(&name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(Some(value.to_str().map_err(|_| Code::InvalidArgument)?.trim())),
            _ => Err(Error::argument(
                name.as_str(),
                "",
                "A condition was given more than once",
            )),
        }
    };
    let matches = |name: HeaderName, shown| once(name)?.map(|list| match_of(shown, list)).transpose();
    Ok(Precondition {
        if_match: matches(header::IF_MATCH, "If-Match")?,
        if_none_match: matches(header::IF_NONE_MATCH, "If-None-Match")?,
        ..Precondition::default()
    })
}

/// Conditions on a write, as S3 spells them where they did not hold.
const ON_WRITES: [&str; 4] = [
    "If-Match",
    "If-None-Match",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
];

/// What did not hold, when a write was refused for its condition: the index says only that one did not. Of several, none is
/// named.
pub(crate) fn of_write(headers: &HeaderMap) -> Option<&'static str> {
    let mut given = ON_WRITES.iter().filter(|name| headers.contains_key(**name));
    given.next().copied().filter(|_| given.next().is_none())
}

/// A write's refusal with the condition that refused it, where that is known.
pub(crate) fn named(refused: Error, given: Option<&'static str>) -> Error {
    match given {
        Some(name) if refused.code() == Code::PreconditionFailed => refused.field_once("Condition", name),
        _ => refused,
    }
}

/// Reads the conditions of a delete: those of a write, and what the object was when it was seen.
///
/// # Errors
/// NotImplemented for If-None-Match, which asks for nothing that a delete could do; InvalidArgument.
pub(crate) fn delete(headers: &HeaderMap) -> Result<Precondition, Error> {
    let precondition = write(headers)?;
    if precondition.if_none_match.is_some() {
        return Err(Error::header_not_implemented("If-None-Match"));
    }
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("\u{fffd}"));
    let (modified, size) = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size");
    Ok(Precondition {
        if_modified_s: text(modified).map(|t| seconds_of(modified, t)).transpose()?,
        if_size: text(size).map(|t| size_of(size, t)).transpose()?,
        ..precondition
    })
}

/// Seconds since 1970 of an HTTP date, or of an ISO 8601 time as answers give it.
///
/// # Errors
/// InvalidArgument.
pub(crate) fn seconds_of(name: &str, text: &str) -> Result<u64, Error> {
    use time::format_description::well_known::Rfc3339;
    let http = || {
        httpdate::parse_http_date(text)
            .ok()?
            .duration_since(UNIX_EPOCH)
            .ok()
    };
    let iso = || {
        time::OffsetDateTime::parse(text, &Rfc3339)
            .ok()?
            .unix_timestamp()
            .try_into()
            .ok()
    };
    http()
        .map(|d| d.as_secs())
        .or_else(iso)
        .ok_or_else(|| Error::argument(name, text, "Invalid timestamp"))
}

/// A size as a condition names it.
///
/// # Errors
/// InvalidArgument.
pub(crate) fn size_of(name: &str, text: &str) -> Result<u64, Error> {
    let size = text
        .parse()
        .ok()
        .filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    size.ok_or_else(|| Error::argument(name, text, "Invalid size"))
}

/// What a match header on a write names. A tag that no object of ours can have matches nothing. A star is a star in quotes too, as some
/// clients send it: a tag it cannot be, and as none it would let what must not be overwritten be overwritten.
///
/// # Errors
/// InvalidArgument where a star stands among others.
pub(crate) fn match_of(name: &str, list: &str) -> Result<Match, Error> {
    let is_star = |tag: &str| matches!(tag.trim(), "*" | "\"*\"");
    if is_star(list) {
        return Ok(Match::Any);
    }
    if list.split(',').any(is_star) {
        return Err(Error::argument(name, list, "A star stands alone or not at all"));
    }
    let tags = list.split(',').filter_map(|t| ETag::parse(t.trim()));
    Ok(Match::Tags(tags.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "d41d8cd98f00b204e9800998ecf8427e";
    /// Sun, 06 Nov 1994 08:49:37 GMT, and half a second.
    const AT: u64 = 784_111_777_500;
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn reads() {
        let quoted = format!("\"{TAG}\"");
        let listed = format!("\"x\", W/\"{TAG}\"");
        let (m, nm, ms, us) = (
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
        );
        let cases: &[(&[(&'static str, &str)], Verdict)] = &[
            (&[], Verdict::Serve),
            (&[(m, &quoted)], Verdict::Serve),
            (&[(m, TAG)], Verdict::Serve),
            (&[(m, "*")], Verdict::Serve),
            (&[(m, "\"x\"")], Verdict::Failed("If-Match")),
            (&[(nm, &quoted)], Verdict::NotModified),
            (&[(nm, &listed)], Verdict::NotModified),
            (&[(nm, "*")], Verdict::NotModified),
            (&[(nm, "\"x\"")], Verdict::Serve),
            (&[(ms, SAME)], Verdict::NotModified),
            (&[(ms, BEFORE)], Verdict::Serve),
            (&[(ms, "yesterday")], Verdict::Serve),
            (&[(us, SAME)], Verdict::Serve),
            (&[(us, BEFORE)], Verdict::Failed("If-Unmodified-Since")),
            (&[(us, "yesterday")], Verdict::Serve),
            // S3's own rules for pairs.
            (&[(m, &quoted), (us, BEFORE)], Verdict::Serve),
            (&[(nm, &quoted), (ms, BEFORE)], Verdict::NotModified),
            (&[(nm, "\"x\""), (ms, SAME)], Verdict::Serve),
            (&[(m, "\"x\""), (nm, &quoted)], Verdict::Failed("If-Match")),
        ];
        for (headers, verdict) in cases {
            assert_eq!(read(&map(headers), TAG, AT), *verdict, "{headers:?}");
        }
    }

    #[test]
    fn if_range() {
        let quoted = format!("\"{TAG}\"");
        let cases = [
            (quoted.as_str(), true),
            ("\"x\"", false),
            (SAME, true),
            (BEFORE, false),
            ("?", false),
        ];
        for (value, applies) in cases {
            assert_eq!(
                range_applies(&map(&[("if-range", value)]), TAG, AT),
                applies,
                "{value}"
            );
        }
        assert!(range_applies(&map(&[]), TAG, AT));
    }

    #[test]
    fn what_is_no_text_is_a_condition() {
        let mut headers = HeaderMap::new();
        headers.insert("if-match", http::HeaderValue::from_bytes(b"\"\xff\"").unwrap());
        assert_eq!(read(&headers, TAG, AT), Verdict::Failed("If-Match"));
    }

    #[test]
    fn deletes() {
        let (modified, size) = ("x-amz-if-match-last-modified-time", "x-amz-if-match-size");
        let read = |pairs: &[(&'static str, &str)]| delete(&map(pairs)).map_err(|e| e.code());
        let condition = read(&[("if-match", "*"), (modified, SAME), (size, "12")]).unwrap();
        assert_eq!(condition.if_match, Some(Match::Any));
        assert_eq!(
            (condition.if_modified_s, condition.if_size),
            (Some(AT / 1000), Some(12))
        );
        assert_eq!(seconds_of("", "1994-11-06T08:49:37.500Z"), Ok(AT / 1000));
        for bad in [
            (modified, "yesterday"),
            (modified, ""),
            (size, "-1"),
            (size, ""),
            (size, "1.5"),
        ] {
            assert_eq!(read(&[bad]), Err(Code::InvalidArgument), "{bad:?}");
        }
        assert_eq!(read(&[("if-none-match", "*")]), Err(Code::NotImplemented));
    }

    #[test]
    fn writes() {
        let tags = |s: &str| Some(Match::Tags(vec![ETag::parse(s).unwrap()]));
        assert_eq!(write(&map(&[])), Ok(Precondition::default()));
        assert_eq!(
            write(&map(&[("if-none-match", "*")])).unwrap().if_none_match,
            Some(Match::Any)
        );
        for star in ["*", "\"*\"", " \"*\" "] {
            let both = write(&map(&[("if-none-match", star), ("if-match", star)])).unwrap();
            assert_eq!(
                (both.if_none_match, both.if_match),
                (Some(Match::Any), Some(Match::Any))
            );
        }
        for list in ["*, \"x\"", "\"x\",\"*\"", "*,*"] {
            for name in ["if-match", "if-none-match"] {
                let refused = write(&map(&[(name, list)])).unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument, "{name}: {list}");
            }
        }
        assert_eq!(write(&map(&[("if-match", TAG)])).unwrap().if_match, tags(TAG));
        assert_eq!(
            write(&map(&[("if-match", "\"x\"")])).unwrap().if_match,
            Some(Match::Tags(vec![]))
        );
        assert_eq!(
            write(&map(&[("if-none-match", TAG)])).unwrap().if_none_match,
            tags(TAG)
        );
        for bad in [("if-modified-since", SAME), ("if-unmodified-since", SAME)] {
            assert_eq!(
                write(&map(&[bad])).unwrap_err().code(),
                Code::NotImplemented,
                "{bad:?}"
            );
        }
    }
}
