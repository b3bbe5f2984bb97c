//! Presigned URLs of Signature Version 2: what boto3 makes by default (`generate_presigned_url`), so what people hold.
//!
//! Only in the query, never in the `Authorization` header, and only where the signature covers all that the request says:
//! a query parameter outside the signed ones is refused, where S3 would let it change the meaning of a link.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>

use crate::chunk::ChunkSigning;
use crate::error::{AuthError, Denial, Mismatch};
use crate::keys::{AccessKeyId, KeyStore};
use crate::payload::PayloadMode;
use crate::signing::SigningKey;
use crate::uri::{self, QueryPair};
use crate::verify::Verified;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::request::Parts;
use std::collections::BTreeMap;
use types::limits::{CLOCK_SKEW_MS_MAX, PRESIGN_SECONDS_MAX};

/// Parameters that the canonical resource carries.
const COVERED: &[&str] = &[
    "acl",
    "cors",
    "delete",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "partNumber",
    "policy",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Whether a request comes with a signature of this kind.
pub fn is_presigned_sigv2(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    let v2 = query
        .split('&')
        .any(|p| p.starts_with("AWSAccessKeyId=") || p.starts_with("Signature="));
    v2 && !query.contains("X-Amz-") && !parts.headers.contains_key(http::header::AUTHORIZATION)
}

/// Verifies a presigned request of version 2 as of `now_ms`. `host_bucket` is the bucket that the Host header names.
///
/// # Errors
/// What S3 would refuse it for; a parameter that the signature does not cover; a life of more than 7 days.
pub fn verify_presigned_sigv2(
    parts: &Parts,
    keys: &dyn KeyStore,
    host_bucket: Option<&str>,
    now_ms: u64,
) -> Result<Verified, AuthError> {
    let query = uri::parse_query(parts.uri.query().unwrap_or("")).ok_or(AuthError::InvalidUri)?;
    let access_key = AccessKeyId(only(&query, "AWSAccessKeyId")?);
    let signature = only(&query, "Signature")?;
    let expires = only(&query, "Expires")?;
    check_life(&expires, now_ms)?;
    let payload = payload(parts, &query)?;
    let to_sign = string_to_sign(parts, &query, host_bucket, &expires)?;
    let Some(key) = keys.find(&access_key) else {
        return Err(AuthError::InvalidAccessKeyId { access_key });
    };
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.secret.0.as_bytes());
    let own = BASE64.encode(hmac::sign(&hmac_key, &to_sign));
    if constant_time::verify_slices_are_equal(own.as_bytes(), signature.as_bytes()).is_err() {
        return Err(AuthError::SignatureDoesNotMatch(Box::new(Mismatch {
            access_key,
            string_to_sign: String::from_utf8_lossy(&to_sign).into_owned(),
            signature_provided: signature,
            canonical_request: String::new(),
        })));
    }
    // No frame is ever signed under this version; the key has no use but must be there.
    let signing_key = SigningKey::derive(&key.secret.0, "", "");
    let previous = signing_key.sign(b"");
    Ok(Verified {
        access_key: key.id,
        account: key.account,
        payload,
        presigned: true,
        signing: ChunkSigning {
            key: signing_key,
            time: String::new(),
            scope: String::new(),
            previous,
        },
    })
}

/// How the body is covered: not at all, unless the link or its user gives the body's own SHA-256.
fn payload(parts: &Parts, query: &[QueryPair]) -> Result<PayloadMode, AuthError> {
    const NAME: &str = "x-amz-content-sha256";
    let in_query = query
        .iter()
        .find(|p| p.name.eq_ignore_ascii_case(NAME.as_bytes()));
    let given = match parts.headers.get(NAME) {
        Some(value) => value.as_bytes(),
        None => in_query.map_or(&b"UNSIGNED-PAYLOAD"[..], |p| &p.value),
    };
    match PayloadMode::parse(given) {
        Some(mode) if !mode.signed_frames() => Ok(mode),
        _ => Err(AuthError::InvalidRequest(format!(
            "{NAME} must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER or a SHA-256 with a signature of version 2"
        ))),
    }
}

/// A parameter that stands there exactly once.
fn only(query: &[QueryPair], name: &str) -> Result<String, AuthError> {
    let mut found = query.iter().filter(|p| p.name == name.as_bytes());
    match (
        found.next().map(|p| String::from_utf8(p.value.clone())),
        found.next(),
    ) {
        (Some(Ok(value)), None) if !value.is_empty() => Ok(value),
        _ => Err(AuthError::AuthorizationQueryParametersError {
            message:
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
                    .to_owned(),
            region: None,
        }),
    }
}

fn check_life(expires: &str, now_ms: u64) -> Result<(), AuthError> {
    let invalid = || AuthError::AuthorizationQueryParametersError {
        message: format!("Expires must be a time in seconds, at most {PRESIGN_SECONDS_MAX} seconds from now"),
        region: None,
    };
    let at: u64 = expires.parse().map_err(|_| invalid())?;
    let now = now_ms / 1000;
    // Its maker counted from a clock that may be ahead of ours.
    if at > now.saturating_add(PRESIGN_SECONDS_MAX + CLOCK_SKEW_MS_MAX / 1000) {
        return Err(invalid());
    }
    if now > at {
        let expires_ms = at.saturating_mul(1000);
        return Err(Denial::Expired {
            expires_seconds: 0,
            expires_ms,
            server_ms: now_ms,
        }
        .into());
    }
    Ok(())
}

/// What is signed joins decoded values with `&`, `=` and line ends: a value that holds what would read as another parameter, or as
/// another line, could be either.
fn check_plain(pair: &QueryPair) -> Result<(), AuthError> {
    let is_parameter = |piece: &[u8]| {
        let name = piece.split(|b| *b == b'=').next().unwrap_or_default();
        COVERED.iter().any(|covered| covered.as_bytes() == name)
    };
    let mut rest = pair.value.split(|b| *b == b'&').skip(1);
    if pair.value.iter().any(u8::is_ascii_control) || rest.any(is_parameter) {
        return Err(AuthError::InvalidRequest(format!(
            "The value of the query parameter {} can be read two ways under a signature of version 2. Please use AWS4-HMAC-SHA256.",
            String::from_utf8_lossy(&pair.name)
        )));
    }
    Ok(())
}

/// `METHOD \n Content-MD5 \n Content-Type \n Expires \n x-amz-* headers \n resource`. A header may travel in the query.
fn string_to_sign(
    parts: &Parts,
    query: &[QueryPair],
    host_bucket: Option<&str>,
    expires: &str,
) -> Result<Vec<u8>, AuthError> {
    let mut headers: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in parts.headers.keys() {
        let values: Vec<&[u8]> = parts
            .headers
            .get_all(name)
            .iter()
            .map(|v| v.as_bytes().trim_ascii())
            .collect();
        headers.insert(name.as_str().to_owned(), values.join(&b','));
    }
    let mut resource: Vec<(&[u8], &[u8])> = Vec::new();
    for pair in query {
        check_plain(pair)?;
        let name = String::from_utf8_lossy(&pair.name).into_owned();
        let lower = name.to_ascii_lowercase();
        if ["AWSAccessKeyId", "Signature", "Expires", "x-id"].contains(&name.as_str()) {
            continue;
        } else if COVERED.contains(&name.as_str()) {
            resource.push((&pair.name, &pair.value));
        } else if lower.starts_with("x-amz-") || lower == "content-type" || lower == "content-md5" {
            headers.entry(lower).or_insert_with(|| pair.value.clone());
        } else {
            return Err(AuthError::InvalidRequest(format!(
                "The query parameter {name} is not covered by a signature of version 2. Please use AWS4-HMAC-SHA256."
            )));
        }
    }
    resource.sort();
    let header = |name: &str| headers.get(name).map_or(&b""[..], Vec::as_slice);
    let mut out = Vec::new();
    for line in [
        parts.method.as_str().as_bytes(),
        header("content-md5"),
        header("content-type"),
        expires.as_bytes(),
    ] {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    for (name, value) in headers
        .range("x-amz-".to_owned()..)
        .take_while(|(n, _)| n.starts_with("x-amz-"))
    {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    if let Some(bucket) = host_bucket {
        out.push(b'/');
        out.extend_from_slice(bucket.as_bytes());
    }
    out.extend_from_slice(parts.uri.path().as_bytes());
    for (i, (name, value)) in resource.iter().enumerate() {
        out.push(if i == 0 { b'?' } else { b'&' });
        out.extend_from_slice(name);
        if !value.is_empty() {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessKey, Keys, SecretKey};
    use types::AccountId;

    const EXPIRES_MS: u64 = 1_175_139_620_000;

    fn keys() -> Keys {
        let mut keys = Keys::default();
        assert!(keys.add(AccessKey {
            id: AccessKeyId("AKIAIOSFODNN7EXAMPLE".into()),
            secret: SecretKey("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            account: AccountId::ROOT,
        }));
        keys
    }

    fn verify(method: &str, uri: &str, host: Option<&str>, now_ms: u64) -> Result<Verified, AuthError> {
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        assert!(is_presigned_sigv2(&parts));
        verify_presigned_sigv2(&parts, &keys(), host, now_ms)
    }

    /// The documented example: bucket `johnsmith` in the host.
    const EXAMPLE: &str =
        "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";

    #[test]
    fn the_documented_example_holds() {
        let now = EXPIRES_MS - 60_000;
        let uri = format!("/photos/puppy.jpg?{EXAMPLE}");
        assert!(verify("GET", &uri, Some("johnsmith"), now).unwrap().presigned);
        // The same resource in path style has the same signature.
        assert!(
            verify(
                "GET",
                &format!("/johnsmith/photos/puppy.jpg?{EXAMPLE}"),
                None,
                now
            )
            .is_ok()
        );
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        let now = EXPIRES_MS - 60_000;
        let mismatch = |r: Result<Verified, AuthError>| matches!(r, Err(AuthError::SignatureDoesNotMatch(_)));
        assert!(mismatch(verify(
            "PUT",
            &format!("/photos/puppy.jpg?{EXAMPLE}"),
            Some("johnsmith"),
            now
        )));
        assert!(mismatch(verify(
            "GET",
            &format!("/photos/kitten.jpg?{EXAMPLE}"),
            Some("johnsmith"),
            now
        )));
        assert!(mismatch(verify(
            "GET",
            &format!("/photos/puppy.jpg?{EXAMPLE}"),
            Some("other"),
            now
        )));
        assert!(mismatch(verify(
            "GET",
            &format!("/johnsmith/photos/puppy.jpg?{EXAMPLE}"),
            Some("johnsmith"),
            now
        )));
        for extra in ["acl", "versionId=1", "x-amz-acl=private", "content-type=a"] {
            let uri = format!("/photos/puppy.jpg?{EXAMPLE}&{extra}");
            assert!(mismatch(verify("GET", &uri, Some("johnsmith"), now)), "{extra}");
        }
        for extra in ["attributes", "list-type=2", "Expires=1175139621", "Signature=a"] {
            let uri = format!("/photos/puppy.jpg?{EXAMPLE}&{extra}");
            assert!(verify("GET", &uri, Some("johnsmith"), now).is_err(), "{extra}");
        }
    }

    /// A link to `/bucket/k` that its owner signed with these parameters.
    fn signed(method: &str, parameters: &str, now_ms: u64) -> String {
        let expires = now_ms / 1000 + 60;
        let unsigned =
            format!("/bucket/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires={expires}&{parameters}");
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(&unsigned)
            .body(())
            .unwrap()
            .into_parts();
        let query = uri::parse_query(parts.uri.query().unwrap()).unwrap();
        let text = string_to_sign(&parts, &query, None, &expires.to_string()).unwrap();
        let secret = keys()
            .find(&AccessKeyId("AKIAIOSFODNN7EXAMPLE".into()))
            .unwrap()
            .secret
            .0;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let signature = BASE64.encode(hmac::sign(&key, &text));
        let signature = signature
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        format!("{unsigned}&Signature={signature}")
    }

    #[test]
    fn what_reads_two_ways_is_refused() {
        let now = EXPIRES_MS;
        let two = "response-content-disposition=a&versionId=V";
        let link = signed("GET", two, now);
        assert!(verify("GET", &link, None, now).is_ok());
        for one in [
            "response-content-disposition=a%26versionId%3DV",
            "response-content-disposition=a%26acl",
            "x-amz-meta-a=1%0ax-amz-meta-b:2",
            "content-type=a%0a1",
        ] {
            let same = link.replace(two, one);
            assert!(
                matches!(verify("GET", &same, None, now), Err(AuthError::InvalidRequest(_))),
                "{one}"
            );
        }
        // A name of a file may have it.
        let link = "response-content-disposition=attachment;filename=%22a%26b.txt%22";
        assert!(verify("GET", &signed("GET", link, now), None, now).is_ok());
    }

    #[test]
    fn a_hash_of_the_body_is_taken_and_frames_are_refused() {
        let now = EXPIRES_MS;
        let mode = |value: &str| {
            let link = signed("PUT", &format!("x-amz-content-sha256={value}"), now);
            verify("PUT", &link, None, now).map(|v| v.payload)
        };
        assert!(matches!(mode("UNSIGNED-PAYLOAD"), Ok(PayloadMode::Unsigned)));
        assert!(matches!(mode(&"ab".repeat(32)), Ok(PayloadMode::Sha256(s)) if s == [0xab; 32]));
        for value in ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "abc"] {
            assert!(
                matches!(mode(value), Err(AuthError::InvalidRequest(_))),
                "{value}"
            );
        }
        assert!(matches!(
            verify("GET", &signed("GET", "acl", now), None, now).map(|v| v.payload),
            Ok(PayloadMode::Unsigned)
        ));
    }

    #[test]
    fn it_has_an_end() {
        let uri = format!("/photos/puppy.jpg?{EXAMPLE}");
        let ended = verify("GET", &uri, Some("johnsmith"), EXPIRES_MS + 1000);
        assert!(matches!(
            ended,
            Err(AuthError::AccessDenied(Denial::Expired { .. }))
        ));
        let week = PRESIGN_SECONDS_MAX * 1000;
        let at = |now_ms| verify("GET", &uri, Some("johnsmith"), now_ms);
        assert!(at(EXPIRES_MS - week).is_ok());
        assert!(
            at(EXPIRES_MS - week - CLOCK_SKEW_MS_MAX).is_ok(),
            "made by a clock ahead"
        );
        assert!(at(EXPIRES_MS - week - CLOCK_SKEW_MS_MAX - 1000).is_err());
    }
}
