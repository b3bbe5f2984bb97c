//! Headers that travel in the query: `x-amz-*`, and what else a link of version 2 signs.
//!
//! Some clients put the headers of a presigned request into its query, so that whoever uses the link need not send them;
//! S3 takes them as the headers they are. Left aside, a link made to encrypt would store in the clear.

use crate::error::{Code, Error};
use crate::query::Query;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Say how the link is signed, or what the client would have computed; they ask nothing of the answer.
const NOT_HEADERS: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
    "x-amz-user-agent",
];

/// Checksums of a body that is not known yet: some clients sign that of an empty one into a link for a put, and S3 does not look at it.
/// In a link that completes an upload they are those of the whole object, which was known.
const OF_A_BODY: &[&str] = &[
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

/// What a signature of version 2 covers beside them: a link may pin what is put under it.
const OF_V2: &[&str] = &["content-md5", "content-type"];

/// Moves them to where they are read. The signature must have been checked before: it covers the query as it came.
///
/// # Errors
/// InvalidArgument when a header is there already and says something else, or when the value cannot be a header's.
pub(crate) fn hoist(query: &Query, headers: &mut HeaderMap) -> Result<(), Error> {
    let completes = query.get("uploadId").is_some() && query.get("partNumber").is_none();
    let passed_over: &[&[&str]] = match completes {
        true => &[NOT_HEADERS],
        false => &[NOT_HEADERS, OF_A_BODY],
    };
    for name in query.names() {
        let lower = name.to_ascii_lowercase();
        let is_v2 = OF_V2.contains(&lower.as_str()) && query.get("AWSAccessKeyId").is_some();
        let is_header = is_v2 || lower.starts_with("x-amz-");
        if !is_header || passed_over.iter().any(|n| n.contains(&lower.as_str())) {
            continue;
        }
        let text = query.get(name).unwrap_or_default();
        let invalid = |why: &'static str| Error::argument(name, text, why);
        let header =
            HeaderName::try_from(lower.as_str()).map_err(|_| invalid(Code::InvalidArgument.message()))?;
        let value = HeaderValue::from_str(text).map_err(|_| invalid(Code::InvalidArgument.message()))?;
        match headers.get(&header) {
            Some(there) if *there != value => {
                return Err(invalid(
                    "A header and a query parameter of one name have different values",
                ));
            }
            Some(_) => {}
            None => drop(headers.insert(header, value)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hoisted(query: &str, headers: &[(&'static str, &'static str)]) -> Result<HeaderMap, Code> {
        let mut headers: HeaderMap = headers
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        hoist(&Query::parse(query).unwrap(), &mut headers).map_err(|e| e.code())?;
        Ok(headers)
    }

    #[test]
    fn a_link_does_not_say_what_is_put_by_it() {
        let headers = hoisted(
            "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&X-Amz-Checksum-SHA256=x&x-amz-checksum-mode=ENABLED",
            &[("x-amz-checksum-crc32", "NSRBwg==")],
        )
        .unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(
            headers["x-amz-checksum-crc32"], "NSRBwg==",
            "what is sent with the body holds"
        );
        assert_eq!(headers["x-amz-checksum-mode"], "ENABLED");
    }

    #[test]
    fn a_link_says_what_it_completes() {
        let link = "uploadId=U&x-amz-checksum-crc32=NSRBwg%3D%3D&x-amz-sdk-checksum-algorithm=CRC32";
        let headers = hoisted(link, &[]).unwrap();
        assert_eq!(
            (headers.len(), &headers["x-amz-checksum-crc32"]),
            (1, &HeaderValue::from_static("NSRBwg=="))
        );
        let of_a_part = "uploadId=U&partNumber=1&x-amz-checksum-crc32=NSRBwg%3D%3D";
        assert_eq!(hoisted(of_a_part, &[]).unwrap().len(), 0);
    }

    #[test]
    fn what_asks_something_becomes_a_header() {
        let headers = hoisted(
            "X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Date=D&X-Amz-Expires=1&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=S&x-id=PutObject&prefix=p&x-amz-server-side-encryption=AES256&X-Amz-Meta-A=1+2",
            &[("x-amz-acl", "private")],
        )
        .unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-amz-server-side-encryption"], "AES256");
        assert_eq!(headers["x-amz-meta-a"], "1 2");
    }

    #[test]
    fn a_link_of_version_2_pins_what_is_put_under_it() {
        let link = "AWSAccessKeyId=A&Signature=S&Expires=1&content-md5=M&content-type=image%2Fpng";
        let headers = hoisted(link, &[]).unwrap();
        assert_eq!(
            (headers.len(), &headers["content-md5"]),
            (2, &HeaderValue::from_static("M"))
        );
        assert_eq!(headers["content-type"], "image/png");
        let other = [("content-type", "text/html")];
        assert_eq!(hoisted(link, &other), Err(Code::InvalidArgument));
        assert_eq!(hoisted("content-type=image%2Fpng", &[]).unwrap().len(), 0);
    }

    #[test]
    fn contradictions_are_refused() {
        let there = [("x-amz-acl", "private")];
        assert!(hoisted("x-amz-acl=private", &there).is_ok());
        for query in [
            "x-amz-acl=public-read",
            "X-Amz-Acl=public-read",
            "x-amz-acl=private&X-Amz-Acl=public-read",
        ] {
            assert_eq!(hoisted(query, &there), Err(Code::InvalidArgument), "{query}");
        }
        for query in ["x-amz-meta-a=%0a", "x-amz-meta-%0a=1", "x-amz-meta-%C3%A9=1"] {
            assert_eq!(hoisted(query, &[]), Err(Code::InvalidArgument), "{query}");
        }
    }
}
