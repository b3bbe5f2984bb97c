//! Reads under conditions, which S3's face decides.

use crate::face::{Answer, escaped};
use crate::model::{No, Said, Version, Which};
use crate::sequence::Sequence;
use crate::stack::Stack;
use http::Method;
use types::VersionId;

/// `bytes=first-last`: either may be missing.
type Range = (Option<u64>, Option<u64>);

pub(crate) type Headers = Vec<(&'static str, String)>;

/// The conditions of a read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    if_match: Option<String>,
    if_none_match: Option<String>,
    modified_since_s: Option<u64>,
    unmodified_since_s: Option<u64>,
}

/// What they come to, as RFC 9110 (13.2.2) and S3's documentation of GetObject and CopyObject have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Serve,
    Failed,
    NotModified,
}

impl Asks {
    pub(crate) fn verdict(&self, version: &Version) -> Verdict {
        let etag = format!("\"{}\"", version.etag);
        let modified_s = version.modified_ms.map_or(0, |ms| ms / 1000);
        let names = |tag: &String| tag == "*" || tag.split(", ").any(|t| t == etag);
        match (&self.if_match, self.unmodified_since_s) {
            (Some(tag), _) if !names(tag) => return Verdict::Failed,
            (None, Some(at)) if modified_s > at => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.modified_since_s) {
            (Some(tag), _) if names(tag) => Verdict::NotModified,
            (None, Some(at)) if modified_s <= at => Verdict::NotModified,
            _ => Verdict::Serve,
        }
    }

    pub(crate) fn headers(&self, names: [&'static str; 4]) -> Headers {
        let date =
            |s: u64| httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(s));
        let values = [
            self.if_match.clone(),
            self.if_none_match.clone(),
            self.modified_since_s.map(date),
            self.unmodified_since_s.map(date),
        ];
        names
            .into_iter()
            .zip(values)
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl Sequence {
    /// Conditions of a read of a version: mostly few.
    pub(crate) fn asks(&self, version: Option<&Version>, often: u64) -> Asks {
        let mut asks = Asks::default();
        if !self.dice.percent(often) {
            return asks;
        }
        let etag = version.map_or_else(|| "\"x\"".into(), |v| format!("\"{}\"", v.etag));
        let tag = || match self.dice.below(5) {
            0 => "*".into(),
            1 => format!("\"0123\", {etag}"),
            2 => "\"00000000000000000000000000000000\"".to_owned(),
            _ => etag.clone(),
        };
        let at = version.and_then(|v| v.modified_ms).unwrap_or(1_700_000_000_000) / 1000;
        let time = || at + self.dice.below(3) - 1;
        for _ in 0..self.dice.between(1, 2) {
            match self.dice.below(4) {
                0 => asks.if_match = Some(tag()),
                1 => asks.if_none_match = Some(tag()),
                2 => asks.modified_since_s = Some(time()),
                _ => asks.unmodified_since_s = Some(time()),
            }
        }
        asks
    }

    pub(crate) fn target(&self, b: usize, key: &str) -> String {
        format!("/{}/{}", self.buckets[b].name, escaped(key, b"/"))
    }

    pub(crate) fn version_query(which: Which) -> Option<String> {
        match which {
            Which::Current => None,
            Which::Null => Some("versionId=null".into()),
            Which::Id(id) => Some(format!("versionId={}", VersionId(id))),
        }
    }

    pub(crate) async fn conditional_get(&mut self, stack: &mut Stack) {
        let (b, key) = self.place_there();
        let which = if self.dice.percent(70) {
            Which::Current
        } else {
            self.which(b, key)
        };
        let read: Said<Version> = self.buckets[b].read(key, which).cloned();
        let asks = self.asks(read.as_ref().ok(), 80);
        let size = read.as_ref().map_or(3, Version::size);
        let range = self.dice.percent(40).then(|| {
            let (a, z) = (self.dice.below(size + 2), self.dice.below(size + 2));
            *self
                .dice
                .pick(&[(Some(a.min(z)), Some(a.max(z))), (Some(a), None), (None, Some(z))])
        });
        let method = if self.dice.percent(30) {
            Method::HEAD
        } else {
            Method::GET
        };
        let mut headers = asks.headers([
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
        ]);
        let text = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        headers.extend(range.map(|(a, z)| ("range", format!("bytes={}-{}", text(a), text(z)))));
        let query = Self::version_query(which)
            .map(|q| format!("?{q}"))
            .unwrap_or_default();
        let target = format!("{}{query}", self.target(b, key));
        self.note(format!("{method} {target} {headers:?}"));
        let answer = stack.face.ask(method.clone(), &target, &headers).await;
        let is_marker = self.buckets[b].version(key, which).is_some_and(|v| v.marker);
        match read {
            Err(codes) => self.refused_get(&method, &answer, (&codes, is_marker)),
            Ok(version) => match asks.verdict(&version) {
                Verdict::Failed => self.refused_get(&method, &answer, (&vec!["PreconditionFailed"], false)),
                Verdict::NotModified => {
                    assert_eq!((answer.status, answer.body.len()), (304, 0), "{answer:?}");
                    self.covered.count("conditional get", "NotModified");
                }
                Verdict::Serve => self.served(b, &version, (&method, range), &answer),
            },
        }
    }

    fn refused_get(&mut self, method: &Method, answer: &Answer, (codes, is_marker): (&No, bool)) {
        let status = match codes[0] {
            "MethodNotAllowed" => 405,
            "PreconditionFailed" => 412,
            "InvalidRange" => 416,
            _ => 404,
        };
        assert_eq!(answer.status, status, "{codes:?}: {answer:?}");
        let told = answer.header("x-amz-delete-marker") == Some("true");
        assert_eq!(told, is_marker, "whether it is a delete marker: {answer:?}");
        let code = if *method == Method::HEAD {
            codes[0]
        } else {
            answer.code()
        };
        self.agree_code("conditional get", code, codes);
    }

    fn served(
        &mut self,
        b: usize,
        version: &Version,
        (method, range): (&Method, Option<Range>),
        answer: &Answer,
    ) {
        let size = version.size();
        let part = match range {
            None => None,
            Some((Some(a), z)) if a < size => Some((a, z.map_or(size, |z| (z + 1).min(size)))),
            Some((None, Some(last))) if last > 0 && size > 0 => Some((size.saturating_sub(last), size)),
            Some(_) => return self.refused_get(method, answer, (&vec!["InvalidRange"], false)),
        };
        assert_eq!(
            answer.status,
            if part.is_some() { 206 } else { 200 },
            "{answer:?}"
        );
        let (start, end) = part.unwrap_or((0, size));
        let inside = part.map(|(a, z)| format!("bytes {a}-{}/{size}", z - 1));
        assert_eq!(answer.header("content-range"), inside.as_deref());
        assert_eq!(answer.header("content-length"), Some(&*(end - start).to_string()));
        if *method == Method::GET {
            assert!(
                answer.body[..] == version.bytes[start as usize..end as usize],
                "its bytes"
            );
        }
        assert_eq!(answer.header("etag"), Some(&*format!("\"{}\"", version.etag)));
        let id = if version.null {
            "null".into()
        } else {
            VersionId(version.id).to_string()
        };
        let id = (self.versioning_number(b) != 0).then_some(id);
        assert_eq!(answer.header("x-amz-version-id"), id.as_deref());
        let content_type = Some(&*version.told.content_type).filter(|t| !t.is_empty());
        assert_eq!(
            answer.header("content-type"),
            content_type.or(Some("binary/octet-stream"))
        );
        let named = answer
            .headers
            .iter()
            .filter_map(|(n, v)| Some((n.strip_prefix("x-amz-meta-")?.to_owned(), v.clone())));
        let mut wanted = version.told.metadata.clone();
        wanted.sort();
        assert_eq!(named.collect::<Vec<_>>(), wanted, "its metadata");
        let tags = version.told.tags.len();
        assert_eq!(
            answer.header("x-amz-tagging-count"),
            (tags > 0).then(|| tags.to_string()).as_deref()
        );
        self.covered
            .count("conditional get", if part.is_some() { "a range" } else { "ok" });
    }
}
