//! What a client says about an object besides its bytes: content headers and user metadata, in and out.

use crate::body::strip_aws_chunked;
use crate::error::{Code, Error};
use crate::query::Query;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use types::limits;
use wire::records::{ContentHeaders, Pair};

const PREFIX: &str = "x-amz-meta-";
/// What S3 says an object is that nobody named.
const UNNAMED_TYPE: &str = "binary/octet-stream";

/// A header's text: UTF-8 where it is, else the Latin-1 that HTTP once meant.
fn decode(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|b| char::from(*b)).collect(), str::to_owned)
}

/// The content headers to keep.
pub(crate) fn content_headers(headers: &HeaderMap) -> ContentHeaders {
    // Given again it is one list, as HTTP has it; those that are no lists are refused before (headers.rs).
    let text = |name: HeaderName| {
        let values: Vec<_> = headers.get_all(name).iter().map(decode).collect();
        values.join(", ")
    };
    ContentHeaders {
        content_type: text(header::CONTENT_TYPE),
        cache_control: text(header::CACHE_CONTROL),
        content_disposition: text(header::CONTENT_DISPOSITION),
        content_encoding: strip_aws_chunked(&text(header::CONTENT_ENCODING)).unwrap_or_default(),
        content_language: text(header::CONTENT_LANGUAGE),
        expires: text(header::EXPIRES),
        website_redirect: String::new(),
    }
}

/// User metadata: names in lower case without their prefix, values as given, empty ones kept.
///
/// # Errors
/// MetadataTooLarge.
pub(crate) fn user_metadata(headers: &HeaderMap) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    let mut size = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        // The same name given again is one value, as HTTP folds lists.
        let values: Vec<_> = headers.get_all(name).iter().map(decode).collect();
        let value = values.join(",");
        size += short.len() + value.len();
        pairs.push(Pair {
            name: short.to_owned(),
            value,
        });
    }
    if size > limits::USER_METADATA_BYTES_MAX {
        return Err(Error::new(Code::MetadataTooLarge)
            .field("Size", size.to_string())
            .field("MaxSizeAllowed", limits::USER_METADATA_BYTES_MAX.to_string()));
    }
    Ok(pairs)
}

/// Writes content headers and user metadata into an answer; `response-*` parameters stand in for content headers.
pub(crate) fn to_headers(
    out: &mut HeaderMap,
    kept: &ContentHeaders,
    metadata: &[Pair],
    query: &Query,
) -> Result<(), Error> {
    let rows: [(HeaderName, &str, &str); 6] = [
        (header::CONTENT_TYPE, "response-content-type", &kept.content_type),
        (
            header::CACHE_CONTROL,
            "response-cache-control",
            &kept.cache_control,
        ),
        (
            header::CONTENT_DISPOSITION,
            "response-content-disposition",
            &kept.content_disposition,
        ),
        (
            header::CONTENT_ENCODING,
            "response-content-encoding",
            &kept.content_encoding,
        ),
        (
            header::CONTENT_LANGUAGE,
            "response-content-language",
            &kept.content_language,
        ),
        (header::EXPIRES, "response-expires", &kept.expires),
    ];
    for (name, parameter, kept) in rows {
        let asked = query.get(parameter).filter(|v| !v.is_empty());
        let value = match asked.unwrap_or(kept) {
            "" if name == header::CONTENT_TYPE => UNNAMED_TYPE,
            "" => continue,
            value => value,
        };
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| Error::argument(parameter, value, Code::InvalidArgument.message()))?;
        out.insert(name, value);
    }
    for pair in metadata {
        let name = HeaderName::try_from(format!("{PREFIX}{}", pair.name));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(mail_safe(&pair.value))) {
            out.insert(name, value);
        }
    }
    Ok(())
}

/// A metadata value as S3 returns it: ASCII as it is, anything else in the encoded words of RFC 2047.
fn mail_safe(value: &str) -> String {
    if value.bytes().all(|b| (b' '..0x7f).contains(&b) || b == b'\t') {
        value.to_owned()
    } else {
        format!("=?UTF-8?B?{}?=", BASE64.encode(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn what_is_given_comes_back() {
        let given = map(&[
            ("content-type", b"text/plain"),
            ("content-encoding", b"aws-chunked, deflate, gzip"),
            ("cache-control", b"no-cache"),
            ("cache-control", b"max-age=1"),
            ("expires", b"whenever"),
            ("x-amz-meta-empty", b""),
            ("x-amz-meta-twice", b"a"),
            ("x-amz-meta-twice", b"b"),
            ("x-amz-meta-word", "né".as_bytes()),
            ("x-amz-meta-latin", b"n\xe9"),
        ]);
        let mut out = HeaderMap::new();
        to_headers(
            &mut out,
            &content_headers(&given),
            &user_metadata(&given).unwrap(),
            &Query::default(),
        )
        .unwrap();
        let expected = [
            ("content-type", "text/plain"),
            ("content-encoding", "deflate, gzip"),
            ("cache-control", "no-cache, max-age=1"),
            ("expires", "whenever"),
            ("x-amz-meta-empty", ""),
            ("x-amz-meta-twice", "a,b"),
            ("x-amz-meta-word", "=?UTF-8?B?bsOp?="),
            ("x-amz-meta-latin", "=?UTF-8?B?bsOp?="),
        ];
        assert_eq!(out.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(out[name], value, "{name}");
        }
    }

    #[test]
    fn nothing_given() {
        let mut out = HeaderMap::new();
        let kept = content_headers(&map(&[("content-encoding", b"aws-chunked")]));
        to_headers(&mut out, &kept, &[], &Query::default()).unwrap();
        assert_eq!(out.len(), 1);
        assert_eq!(out["content-type"], UNNAMED_TYPE);
    }

    #[test]
    fn overrides() {
        let mut out = HeaderMap::new();
        let query =
            Query::parse("response-content-type=a/b&response-expires=never&response-content-language=")
                .unwrap();
        let kept = ContentHeaders {
            content_language: "de".into(),
            ..ContentHeaders::default()
        };
        to_headers(&mut out, &kept, &[], &query).unwrap();
        assert_eq!(out["content-type"], "a/b");
        assert_eq!(out["expires"], "never");
        assert_eq!(out["content-language"], "de");
        let bad = Query::parse("response-content-type=a%0Ab").unwrap();
        assert_eq!(
            to_headers(&mut out, &kept, &[], &bad).unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn size() {
        let name = "x-amz-meta-abcd";
        let fits = vec![b'v'; limits::USER_METADATA_BYTES_MAX - 4];
        assert!(user_metadata(&map(&[(name, &fits)])).is_ok());
        let over = vec![b'v'; limits::USER_METADATA_BYTES_MAX - 3];
        assert_eq!(
            user_metadata(&map(&[(name, &over)])).unwrap_err().code(),
            Code::MetadataTooLarge
        );
    }
}
