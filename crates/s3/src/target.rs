//! What a request's address names: service, bucket or object, in path or virtual-host style.
//!
//! ```text
//!   path style           http://host/bucket/key      the first segment is the bucket
//!   virtual-host style   http://bucket.domain/key    when Host ends in a configured domain
//! ```
//! Keys are the rest of the raw path, percent-decoded once and never normalised: `//`, `.`, `..`, `+` and `%2F` stay what
//! they are. Only UTF-8 is a key; anything else is InvalidURI.

use crate::error::{Code, Error};
use types::{BucketName, ObjectKey, ObjectKeyError, limits};

/// What is addressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Target {
    /// The bucket as named, not yet checked.
    pub(crate) bucket: Option<String>,
    /// The key as named; only with a bucket.
    pub(crate) key: Option<String>,
    /// Whether the Host header named the bucket.
    pub(crate) virtual_host: bool,
}

/// Which of the three is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Service,
    Bucket,
    Object,
}

/// Undoes percent-encoding once; `+` stays plus. The same reading that the signature was checked by.
fn decode(raw: &str) -> Result<String, Error> {
    let bytes = auth::uri::decode(raw.as_bytes()).ok_or(Code::InvalidURI)?;
    Ok(String::from_utf8(bytes).map_err(|_| Code::InvalidURI)?)
}

/// `host` without its port, in lower case, without a root dot.
fn host_name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The bucket that `host` names under one of `domains`.
fn virtual_bucket(host: &str, domains: &[String]) -> Option<String> {
    let name = host_name(host);
    let label = domains.iter().find_map(|domain| {
        name.strip_suffix(&domain.to_ascii_lowercase())?
            .strip_suffix('.')
            .filter(|label| !label.is_empty())
    });
    label.map(str::to_owned)
}

impl Target {
    /// Reads a raw path and a Host header's value.
    ///
    /// # Errors
    /// InvalidURI.
    pub(crate) fn parse(path: &str, host: Option<&str>, domains: &[String]) -> Result<Self, Error> {
        let rest = path.strip_prefix('/').ok_or(Code::InvalidURI)?;
        let named = |key: &str| -> Result<Option<String>, Error> {
            Ok(if key.is_empty() { None } else { Some(decode(key)?) })
        };
        if let Some(bucket) = host.and_then(|h| virtual_bucket(h, domains)) {
            return Ok(Self {
                bucket: Some(bucket),
                key: named(rest)?,
                virtual_host: true,
            });
        }
        if rest.is_empty() {
            return Ok(Self::default());
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            bucket: Some(decode(bucket)?),
            key: named(key)?,
            virtual_host: false,
        })
    }

    /// The bucket that the Host header names.
    pub(crate) fn host_bucket(&self) -> Option<&str> {
        self.bucket.as_deref().filter(|_| self.virtual_host)
    }

    /// Which of the three it is.
    pub(crate) fn level(&self) -> Level {
        match (&self.bucket, &self.key) {
            (None, _) => Level::Service,
            (Some(_), None) => Level::Bucket,
            (Some(_), Some(_)) => Level::Object,
        }
    }

    /// The bucket, checked.
    pub(crate) fn bucket_name(&self) -> Result<Option<BucketName>, Error> {
        let Some(name) = &self.bucket else { return Ok(None) };
        let checked = BucketName::new(name);
        Ok(Some(checked.map_err(|_| {
            Error::new(Code::InvalidBucketName).field("BucketName", name.as_str())
        })?))
    }

    /// The key, checked.
    pub(crate) fn object_key(&self) -> Result<Option<ObjectKey>, Error> {
        self.key.as_deref().map(object_key).transpose()
    }
}

/// A key, checked.
pub(crate) fn object_key(key: &str) -> Result<ObjectKey, Error> {
    ObjectKey::new(key).map_err(|e| match e {
        ObjectKeyError::TooLong => Error::new(Code::KeyTooLongError)
            .field("Size", key.len().to_string())
            .field("MaxSizeAllowed", limits::OBJECT_KEY_BYTES_MAX.to_string()),
        ObjectKeyError::Empty => Error::with(Code::InvalidArgument, "The key is empty"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let domains = ["S3.example.com".to_owned(), "localhost".to_owned()];
        type Case<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            ("/", None, None, None),
            ("/", Some("s3.example.com:9000"), None, None),
            ("/b", None, Some("b"), None),
            ("/b/", None, Some("b"), None),
            ("/b/k", Some("127.0.0.1:9000"), Some("b"), Some("k")),
            ("/b/k", Some("[::1]:9000"), Some("b"), Some("k")),
            ("/b//k/../x/.", None, Some("b"), Some("/k/../x/.")),
            ("/b/a+b%2B%2F%20", None, Some("b"), Some("a+b+/ ")),
            ("/b/%F0%9F%AA%A8", None, Some("b"), Some("🪨")),
            ("/b/%00%01", None, Some("b"), Some("\0\u{1}")),
            ("/b/%2525", None, Some("b"), Some("%25")),
            ("/k", Some("B.s3.Example.COM:80"), Some("b"), Some("k")),
            ("//", Some("a.b.s3.example.com."), Some("a.b"), Some("/")),
            ("/", Some("b.localhost:9000"), Some("b"), None),
            ("/b/k", Some("blocalhost"), Some("b"), Some("k")),
            ("//k", None, Some(""), Some("k")),
        ];
        for (path, host, bucket, key) in cases {
            let t = Target::parse(path, *host, &domains).unwrap();
            assert_eq!(
                (t.bucket.as_deref(), t.key.as_deref()),
                (*bucket, *key),
                "{path} at {host:?}"
            );
        }
    }

    #[test]
    fn refusals() {
        for path in [
            "",
            "*",
            "/b/%",
            "/b/%2",
            "/b/%zz",
            "/b/%ff",
            "/b/%c3%28",
            "/%ff/k",
            "/b/%+1",
        ] {
            let code = Target::parse(path, None, &[]).map_err(|e| e.code());
            assert_eq!(code, Err(Code::InvalidURI), "{path}");
        }
        let long = Target::parse(&format!("/bucket/{}", "k".repeat(1025)), None, &[]).unwrap();
        assert_eq!(long.object_key().unwrap_err().code(), Code::KeyTooLongError);
        let bad = Target::parse("/Bad_Name/k", None, &[]).unwrap();
        assert_eq!(bad.bucket_name().unwrap_err().code(), Code::InvalidBucketName);
    }
}
