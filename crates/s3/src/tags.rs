//! Tags: as the header `x-amz-tagging` and the document `<Tagging>` bring them, and as answers give them: by key, whatever
//! order they came in.

use crate::error::{Code, Error};
use crate::request::parse_document;
use crate::xml::{Element, XmlWriter};
use http::HeaderMap;
use std::collections::BTreeSet;
use types::limits::{OBJECT_TAGS_MAX, TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX};
use wire::records::Pair;

const HEADER: &str = "x-amz-tagging";

/// The tags that a put, copy or upload names; none without the header.
///
/// # Errors
/// InvalidArgument for what is not a query string of different names, InvalidTag.
pub(crate) fn from_header(headers: &HeaderMap) -> Result<Vec<Pair>, Error> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(Vec::new());
    };
    let invalid = || {
        Error::argument(
            HEADER,
            &String::from_utf8_lossy(value.as_bytes()),
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name \
             duplicates.",
        )
    };
    let raw = std::str::from_utf8(value.as_bytes()).map_err(|_| invalid())?;
    let mut tags = Vec::new();
    for pair in auth::uri::parse_query(raw).ok_or_else(invalid)? {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| invalid());
        tags.push(Pair {
            name: text(pair.name)?,
            value: text(pair.value)?,
        });
    }
    if first_twice(&tags).is_some() {
        return Err(invalid());
    }
    check(&mut tags, OBJECT_TAGS_MAX, "Object")?;
    Ok(tags)
}

/// The tags of a `<Tagging>` document about an `Object` (or `Bucket`), at most `max`.
///
/// # Errors
/// MalformedXML, InvalidTag.
pub(crate) fn from_document(document: &[u8], max: usize, of: &str) -> Result<Vec<Pair>, Error> {
    let root = parse_document(document, "Tagging")?;
    from_set(root.one("TagSet")?.ok_or(Code::MalformedXML)?, max, of)
}

/// The same of an element that holds `<Tag>`s.
pub(crate) fn from_set(set: &Element, max: usize, of: &str) -> Result<Vec<Pair>, Error> {
    if set.children().any(|(name, _)| name != "Tag") {
        return Err(Code::MalformedXML.into());
    }
    let mut tags = Vec::new();
    for tag in set.all("Tag") {
        tags.push(Pair {
            name: tag.required("Key")?.to_owned(),
            value: tag.required("Value")?.to_owned(),
        });
    }
    if let Some(twice) = first_twice(&tags) {
        return Err(invalid_tag("Cannot provide multiple Tags with the same key").field("TagKey", twice));
    }
    check(&mut tags, max, of)?;
    Ok(tags)
}

/// `<Tagging>`.
pub(crate) fn to_document(tags: &[Pair]) -> String {
    let mut x = XmlWriter::document();
    x.root("Tagging");
    x.open("TagSet");
    for tag in tags {
        x.open("Tag");
        x.text("Key", &tag.name);
        x.text("Value", &tag.value);
        x.close("Tag");
    }
    x.close("TagSet");
    x.close("Tagging");
    x.finish()
}

fn invalid_tag(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::with(Code::InvalidTag, message)
}

fn first_twice(tags: &[Pair]) -> Option<&str> {
    let mut seen = BTreeSet::new();
    tags.iter()
        .map(|t| t.name.as_str())
        .find(|name| !seen.insert(*name))
}

/// Letters, numbers, spaces and a few signs, as S3 has them.
fn is_tag_text(text: &str) -> bool {
    let space = |c: char| c.is_whitespace() && !c.is_control();
    text.chars()
        .all(|c| c.is_alphanumeric() || space(c) || "_.:/=+-@".contains(c))
}

/// Puts them in order and says what is wrong with them.
fn check(tags: &mut [Pair], max: usize, of: &str) -> Result<(), Error> {
    tags.sort_by(|a, b| a.name.cmp(&b.name));
    if tags.len() > max {
        return Err(invalid_tag(format!("{of} tags cannot be greater than {max}")));
    }
    for Pair { name, value } in tags.iter() {
        let is_key = (1..=TAG_KEY_CHARS_MAX).contains(&name.chars().count()) && is_tag_text(name);
        if !is_key {
            return Err(invalid_tag("The TagKey you have provided is invalid").field("TagKey", name));
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX || !is_tag_text(value) {
            return Err(invalid_tag("The TagValue you have provided is invalid")
                .field("TagKey", name)
                .field("TagValue", value));
        }
        if name.starts_with("aws:") {
            return Err(invalid_tag("System tags cannot be added/updated by requester").field("TagKey", name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Vec<(String, String)>, Code> {
        let headers: HeaderMap = [(http::HeaderName::from_static(HEADER), text.parse().unwrap())]
            .into_iter()
            .collect();
        let tags = from_header(&headers).map_err(|e| e.code())?;
        Ok(tags.into_iter().map(|t| (t.name, t.value)).collect())
    }

    #[test]
    fn headers() {
        let pairs = |p: &[(&str, &str)]| {
            Ok(p.iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect())
        };
        assert_eq!(header(""), pairs(&[]));
        assert_eq!(header("b=2&a=1"), pairs(&[("a", "1"), ("b", "2")]));
        assert_eq!(header("a"), pairs(&[("a", "")]));
        assert_eq!(header("a+b=c%20d%2B%C3%A9"), pairs(&[("a b", "c d+é")]));
        for (bad, code) in [
            ("a=1&a=2", Code::InvalidArgument),
            ("a=%zz", Code::InvalidArgument),
            ("a=%ff", Code::InvalidArgument),
            ("=1", Code::InvalidTag),
            ("a=%3C", Code::InvalidTag),
            ("a%0A=1", Code::InvalidTag),
            ("aws%3Aa=1", Code::InvalidTag),
            ("a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1&j=1&k=1", Code::InvalidTag),
        ] {
            assert_eq!(header(bad), Err(code), "{bad}");
        }
    }

    #[test]
    fn documents() {
        let tag = |k: &str, v: &str| format!("<Tag><Key>{k}</Key><Value>{v}</Value></Tag>");
        let document = |tags: &str| format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
        let read = |d: &str| from_document(d.as_bytes(), OBJECT_TAGS_MAX, "Object");
        let tags = read(&document(&(tag("a", "") + &tag("b", "x y")))).unwrap();
        assert_eq!(read(&to_document(&tags)).unwrap(), tags);
        assert_eq!(tags[1].value, "x y");
        assert!(read(&document("")).unwrap().is_empty());
        assert!(read(&document(&tag(&"k".repeat(128), &"é".repeat(256)))).is_ok());
        let many: String = (0..11).map(|i| tag(&i.to_string(), "")).collect();
        for (bad, code) in [
            (String::new(), Code::MissingRequestBodyError),
            ("<Tagging/>".into(), Code::MalformedXML),
            (document("<Tag><Key>a</Key></Tag>"), Code::MalformedXML),
            (document("<Tog/>"), Code::MalformedXML),
            (document(&(tag("a", "1") + &tag("a", "2"))), Code::InvalidTag),
            (document(&tag(&"k".repeat(129), "")), Code::InvalidTag),
            (document(&tag("a", &"v".repeat(257))), Code::InvalidTag),
            (document(&tag("", "v")), Code::InvalidTag),
            (document(&many), Code::InvalidTag),
        ] {
            assert_eq!(read(&bad).map_err(|e| e.code()), Err(code), "{bad}");
        }
    }
}
