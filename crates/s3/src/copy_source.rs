//! The source of a copy: `x-amz-copy-source`, the conditions on it, and a part's range of it.
//!
//! ```text
//!   [/] bucket / key [ ?versionId= id ]       key percent-encoded, `+` a space; `?` begins nothing but the version
//! ```

use crate::condition::{self, Verdict};
use crate::error::{Code, Error};
use crate::reply::quoted;
use crate::request::Request;
use crate::service::Service;
use crate::target::object_key;
use crate::version;
use http::{HeaderMap, HeaderName, header};
use objects::{ObjectsError, Opened};
use types::{BucketName, ByteRange, ObjectKey, limits};
use wire::index::VersionRef;
use wire::records::ObjectRecord;

const SOURCE: &str = "x-amz-copy-source";
const RANGE: &str = "x-amz-copy-source-range";

/// Conditions on the source, and the conditions of a read that they are.
const CONDITIONS: [(&str, HeaderName); 4] = [
    ("x-amz-copy-source-if-match", header::IF_MATCH),
    ("x-amz-copy-source-if-none-match", header::IF_NONE_MATCH),
    ("x-amz-copy-source-if-modified-since", header::IF_MODIFIED_SINCE),
    (
        "x-amz-copy-source-if-unmodified-since",
        header::IF_UNMODIFIED_SINCE,
    ),
];

/// What is to be copied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CopySource {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) version: VersionRef,
}

impl CopySource {
    /// Reads the header.
    ///
    /// # Errors
    /// InvalidArgument, and what S3 has for bad names.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        // Unencoded UTF-8 is taken too, as S3 does.
        let text = headers.get(SOURCE).map(|v| std::str::from_utf8(v.as_bytes()));
        let text = text.and_then(Result::ok).unwrap_or_default();
        let invalid = |message: &'static str| Error::argument(SOURCE, text, message);
        let (path, version) = match text.split_once('?') {
            None => (text, None),
            Some((path, query)) => match query.strip_prefix("versionId=") {
                Some(version) => (path, Some(version)),
                None => return Err(invalid("Unsupported copy source parameter.")),
            },
        };
        let path = path.replace('+', " ");
        let decoded = auth::uri::decode(path.as_bytes()).and_then(|b| String::from_utf8(b).ok());
        let decoded = decoded.ok_or_else(|| invalid("Invalid copy source encoding."))?;
        let named = decoded.strip_prefix('/').unwrap_or(&decoded).split_once('/');
        let (bucket, key) = named
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or_else(|| {
                invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
            })?;
        Ok(Self {
            bucket: BucketName::new(bucket)
                .map_err(|_| Error::new(Code::InvalidBucketName).field("BucketName", bucket))?,
            key: object_key(key)?,
            version: version.map_or(Ok(VersionRef::Current), |v| version::parse(SOURCE, v))?,
        })
    }

    /// Opens it, if the conditions on it hold. Errors name the source, not the target.
    pub(crate) async fn open(&self, service: &Service, request: &Request) -> Result<Opened, Error> {
        let (bucket, key) = (&self.bucket, &self.key);
        let opened = service
            .objects
            .get_to_copy(&request.caller, bucket, key, self.version)
            .await;
        if let Err(ObjectsError::Deleted {
            is_current: false, ..
        }) = opened
        {
            return Err(Error::with(
                Code::InvalidRequest,
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            ));
        }
        let opened = opened.map_err(|e| Error::from(e).about(Some(bucket.as_str()), Some(key.as_str())))?;
        check(&request.headers, &opened.record)?;
        Ok(opened)
    }
}

/// Whether the conditions on the source hold. A copy is not made because of a condition: 412, never 304.
fn check(headers: &HeaderMap, source: &ObjectRecord) -> Result<(), Error> {
    let mut asked = HeaderMap::new();
    for (name, meant) in CONDITIONS {
        if let Some(value) = headers.get(name) {
            asked.insert(meant, value.clone());
        }
    }
    let tag = quoted(&source.etag_md5, source.etag_parts);
    let failed = match condition::read(&asked, tag.trim_matches('"'), source.modified_ms) {
        Verdict::Serve => return Ok(()),
        Verdict::Failed("If-Match") => CONDITIONS[0].0,
        Verdict::Failed(_) => CONDITIONS[3].0,
        Verdict::NotModified if asked.contains_key(header::IF_NONE_MATCH) => CONDITIONS[1].0,
        Verdict::NotModified => CONDITIONS[2].0,
    };
    Err(Error::new(Code::PreconditionFailed).field("Condition", failed))
}

/// Refuses what is too large to be copied at once.
pub(crate) fn check_size(bytes: u64) -> Result<(), Error> {
    if bytes <= limits::PUT_BYTES_MAX {
        return Ok(());
    }
    Err(Error::with(
        Code::InvalidRequest,
        format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {}",
            limits::PUT_BYTES_MAX
        ),
    ))
}

/// `x-amz-copy-source-range` of a source of `size` bytes: unlike a read's, it must be whole and inside.
///
/// # Errors
/// InvalidArgument for what is not `bytes=first-last`, InvalidRange for what is not inside.
pub(crate) fn range(headers: &HeaderMap, size: u64) -> Result<Option<ByteRange>, Error> {
    let Some(value) = headers.get(RANGE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("\u{fffd}");
    let number = |s: &str| -> Option<u64> {
        let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| s.parse().unwrap_or(u64::MAX))
    };
    let ends = text.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let Some((first, last)) = ends.filter(|(first, last)| first <= last) else {
        return Err(Error::argument(
            RANGE,
            text,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy",
        ));
    };
    if last >= size {
        let message = format!("Range specified is not valid for source object of size: {size}");
        return Err(Error::with(Code::InvalidRange, message)
            .field("RangeRequested", text)
            .field("ActualObjectSize", size.to_string()));
    }
    Ok(Some(ByteRange {
        start: first,
        end: last + 1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        [(HeaderName::from_static(name), value.parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn sources() {
        let id = "0123456789abcdef0123456789abcdef";
        let read = |text: &str| {
            let source = CopySource::read(&headers(SOURCE, text)).map_err(|e| e.code())?;
            let version = match source.version {
                VersionRef::Id(id) => Some(id.to_string()),
                VersionRef::Null => Some("null".to_owned()),
                VersionRef::Current => None,
            };
            Ok((
                source.bucket.as_str().to_owned(),
                source.key.as_str().to_owned(),
                version,
            ))
        };
        let cases = [
            ("bucket/key", "key", None),
            ("/bucket/key", "key", None),
            ("bucket/a/b//c", "a/b//c", None),
            ("bucket%2Fa", "a", None),
            ("bucket/a+b%2Bc%20d", "a b+c d", None),
            ("bucket/%3FversionId", "?versionId", None),
            ("bucket/%25", "%", None),
            ("bucket/n%C3%A9", "né", None),
            (&format!("bucket/key?versionId={id}"), "key", Some(id.to_owned())),
        ];
        for (text, key, version) in cases {
            assert_eq!(
                read(text),
                Ok(("bucket".to_owned(), key.to_owned(), version)),
                "{text}"
            );
        }
        let long = format!("bucket/{}", "k".repeat(1025));
        for (text, code) in [
            ("", Code::InvalidArgument),
            ("bucket", Code::InvalidArgument),
            ("bucket/", Code::InvalidArgument),
            ("//key", Code::InvalidArgument),
            ("bucket/a%zz", Code::InvalidArgument),
            ("bucket/a%ff", Code::InvalidArgument),
            ("bucket/a?b=c", Code::InvalidArgument),
            ("bucket/a?versionId=nonsense", Code::InvalidArgument),
            ("B_/key", Code::InvalidBucketName),
            (&long, Code::KeyTooLongError),
        ] {
            assert_eq!(read(text), Err(code), "{text}");
        }
    }

    #[test]
    fn ranges_of_ten_bytes() {
        let some = |start, end| Ok(Some(ByteRange { start, end }));
        for (text, expected) in [
            ("bytes=0-9", some(0, 10)),
            ("bytes=3-3", some(3, 4)),
            ("bytes=0-10", Err(Code::InvalidRange)),
            ("bytes=10-10", Err(Code::InvalidRange)),
            ("bytes=0-99999999999999999999999", Err(Code::InvalidRange)),
            ("bytes=5-2", Err(Code::InvalidArgument)),
            ("bytes=0-", Err(Code::InvalidArgument)),
            ("bytes=-3", Err(Code::InvalidArgument)),
            ("bytes=0", Err(Code::InvalidArgument)),
            ("bytes=0-2,3-5", Err(Code::InvalidArgument)),
            ("0-2", Err(Code::InvalidArgument)),
            ("", Err(Code::InvalidArgument)),
        ] {
            assert_eq!(
                range(&headers(RANGE, text), 10).map_err(|e| e.code()),
                expected,
                "{text}"
            );
        }
        assert_eq!(range(&HeaderMap::new(), 10), Ok(None));
        assert_eq!(
            range(&headers(RANGE, "bytes=0-0"), 0).unwrap_err().code(),
            Code::InvalidRange
        );
    }

    #[test]
    fn conditions_fail_by_name() {
        let source = ObjectRecord {
            etag_md5: vec![1; 16],
            modified_ms: 784_111_777_500,
            ..ObjectRecord::default()
        };
        let (same, before) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT");
        let tag = "01".repeat(16);
        for (name, value, holds) in [
            (CONDITIONS[0].0, tag.as_str(), true),
            (CONDITIONS[0].0, "other", false),
            (CONDITIONS[1].0, "other", true),
            (CONDITIONS[1].0, &tag, false),
            (CONDITIONS[2].0, before, true),
            (CONDITIONS[2].0, same, false),
            (CONDITIONS[3].0, same, true),
            (CONDITIONS[3].0, before, false),
        ] {
            let checked = check(&headers(name, value), &source);
            assert_eq!(checked.is_ok(), holds, "{name}: {value}");
            if let Err(e) = checked {
                assert_eq!(e.code(), Code::PreconditionFailed);
                assert!(e.to_xml("", "", "").contains(name), "{name}");
            }
        }
        check(&HeaderMap::new(), &source).unwrap();
    }
}
