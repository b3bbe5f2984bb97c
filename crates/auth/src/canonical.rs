//! The canonical form of a request: what both sides hash.
//!
//! ```text
//! method \n path, encoded once \n query, encoded and sorted \n name:value\n ... \n signed header names \n payload
//! ```
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use crate::signing::sha256_hex;
use crate::uri::{self, QueryPair};
use http::HeaderMap;
use http::header::HeaderName;

/// What goes into the canonical form.
pub(crate) struct Canonical<'a> {
    pub(crate) method: &'a str,
    /// Decoded. `%2F` and `/` are one byte here and in routing alike.
    pub(crate) path: &'a [u8],
    /// Without `X-Amz-Signature`.
    pub(crate) query: &'a [QueryPair],
    pub(crate) headers: &'a HeaderMap,
    /// In the order the client named them.
    pub(crate) signed: &'a [HeaderName],
    /// The value of `x-amz-content-sha256`.
    pub(crate) payload: &'a [u8],
}

impl Canonical<'_> {
    /// The bytes to hash: header values need not be UTF-8.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for line in [
            self.method,
            &uri::encode(self.path, true),
            &canonical_query(self.query),
        ] {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        for name in self.signed {
            self.header_line(name, &mut out);
        }
        out.push(b'\n');
        for (i, name) in self.signed.iter().enumerate() {
            if i > 0 {
                out.push(b';');
            }
            out.extend_from_slice(name.as_str().as_bytes());
        }
        out.push(b'\n');
        out.extend_from_slice(self.payload);
        out
    }

    /// A header named but absent gets no line, so that it cannot be dropped on the way as if it had been empty.
    fn header_line(&self, name: &HeaderName, out: &mut Vec<u8>) {
        for (i, value) in self.headers.get_all(name).iter().enumerate() {
            if i == 0 {
                out.extend_from_slice(name.as_str().as_bytes());
            }
            out.push(if i == 0 { b':' } else { b',' });
            push_folded(value.as_bytes(), out);
        }
        if self.headers.contains_key(name) {
            out.push(b'\n');
        }
    }
}

/// `AWS4-HMAC-SHA256 \n time \n scope \n sha256(canonical request)`.
pub(crate) fn string_to_sign(time: &str, scope: &str, canonical: &[u8]) -> String {
    format!("{}\n{time}\n{scope}\n{}", crate::ALGORITHM, sha256_hex(canonical))
}

fn canonical_query(query: &[QueryPair]) -> String {
    let mut pairs: Vec<_> = query
        .iter()
        .map(|p| (uri::encode(&p.name, false), uri::encode(&p.value, false)))
        .collect();
    pairs.sort();
    let joined: Vec<_> = pairs.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    joined.join("&")
}

/// Without space at the ends, and runs of it inside as one.
fn push_folded(value: &[u8], out: &mut Vec<u8>) {
    let words = value
        .split(|b| matches!(b, b' ' | b'\t'))
        .filter(|w| !w.is_empty());
    for (i, word) in words.enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn canonical(path: &[u8], query: &str, headers: &HeaderMap, signed: &[&'static str]) -> String {
        let query = uri::parse_query(query).unwrap();
        let signed: Vec<_> = signed.iter().map(|s| HeaderName::from_static(s)).collect();
        let canonical = Canonical {
            method: "GET",
            path,
            query: &query,
            headers,
            signed: &signed,
            payload: b"UNSIGNED-PAYLOAD",
        };
        String::from_utf8(canonical.to_bytes()).unwrap()
    }

    #[test]
    fn folds_trims_joins_and_sorts() {
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("h"));
        headers.append("x-amz-meta-a", HeaderValue::from_static("  one \t two  "));
        headers.append("x-amz-meta-a", HeaderValue::from_static("three"));
        headers.append("x-amz-meta-b", HeaderValue::from_static(""));
        assert_eq!(
            canonical(
                b"/a b/\xc3\xa9~",
                "b=2&a=%7E&b=1&acl",
                &headers,
                &["host", "x-amz-meta-a", "x-amz-meta-b"]
            ),
            "GET\n/a%20b/%C3%A9~\na=~&acl=&b=1&b=2\nhost:h\nx-amz-meta-a:one two,three\nx-amz-meta-b:\n\n\
             host;x-amz-meta-a;x-amz-meta-b\nUNSIGNED-PAYLOAD"
        );
    }

    #[test]
    fn an_absent_header_is_not_an_empty_one() {
        let mut headers = HeaderMap::new();
        let absent = canonical(b"/", "", &headers, &["x-amz-meta-a"]);
        headers.append("x-amz-meta-a", HeaderValue::from_static(""));
        assert_ne!(absent, canonical(b"/", "", &headers, &["x-amz-meta-a"]));
    }
}
