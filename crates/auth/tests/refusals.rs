//! Each way to be refused, provoked. Requests are signed by the crate's own signer, which tests/vectors.rs ties to AWS.

use auth::{AccessKey, AccessKeyId, AuthError, Denial, Keys, SecretKey, Verified, signer, verify};
use http::request::Parts;
use http::{HeaderValue, Request};
use types::AccountId;

/// 2026-11-21T00:00:00Z.
const NOW_MS: u64 = 1_795_219_200_000;
const MINUTE_MS: u64 = 60_000;
const REGION: &str = "eu-central-1";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

fn key() -> AccessKey {
    AccessKey {
        id: AccessKeyId("AKID".into()),
        secret: SecretKey("secret".into()),
        account: AccountId(3),
    }
}

fn keys() -> Keys {
    let mut keys = Keys::default();
    assert!(keys.add(key()));
    keys
}

fn unsigned(uri: &str) -> Parts {
    Request::put(uri)
        .header("host", "h")
        .header("x-amz-meta-a", "1")
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn signed() -> Parts {
    let mut parts = unsigned("/b/k?x=1");
    signer::sign(&mut parts, &key(), REGION, NOW_MS, UNSIGNED).unwrap();
    parts
}

fn presigned(seconds: u64) -> Parts {
    let mut parts = unsigned("/b/k?x=1");
    signer::presign(&mut parts, &key(), REGION, NOW_MS, seconds).unwrap();
    parts
}

fn at(parts: &Parts, now_ms: u64) -> Result<Verified, AuthError> {
    verify(parts, &keys(), REGION, now_ms)
}

fn refusal(parts: &Parts) -> AuthError {
    at(parts, NOW_MS).unwrap_err()
}

/// `signed()` with the first `from` of its Authorization header replaced.
fn with_authorization(from: &str, to: &str) -> Parts {
    let mut parts = signed();
    let old = parts.headers["authorization"].to_str().unwrap().to_owned();
    assert!(old.contains(from), "{old}");
    parts.headers.insert(
        "authorization",
        HeaderValue::from_str(&old.replacen(from, to, 1)).unwrap(),
    );
    parts
}

/// `presigned()` with the first `from` of its query replaced.
fn with_query(from: &str, to: &str) -> Parts {
    let mut parts = presigned(60);
    let old = parts.uri.to_string();
    assert!(old.contains(from), "{old}");
    parts.uri = old.replacen(from, to, 1).parse().unwrap();
    parts
}

fn header_malformed(from: &str, to: &str) -> String {
    match refusal(&with_authorization(from, to)) {
        AuthError::AuthorizationHeaderMalformed { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

fn query_malformed(from: &str, to: &str) -> String {
    match refusal(&with_query(from, to)) {
        AuthError::AuthorizationQueryParametersError { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_signed_is_verified() {
    let v = at(&signed(), NOW_MS).unwrap();
    assert_eq!((v.account, v.presigned), (AccountId(3), false));
    assert!(at(&presigned(1), NOW_MS).unwrap().presigned);
}

#[test]
fn nobody() {
    assert_eq!(refusal(&unsigned("/")), Denial::Anonymous.into());
}

#[test]
fn two_mechanisms() {
    let mut both = presigned(60);
    both.headers
        .insert("authorization", signed().headers["authorization"].clone());
    assert!(matches!(
        refusal(&both),
        AuthError::InvalidArgument {
            name: "Authorization",
            ..
        }
    ));
    let mut twice = signed();
    let again = twice.headers["authorization"].clone();
    twice.headers.append("authorization", again);
    assert!(matches!(
        refusal(&twice),
        AuthError::InvalidArgument {
            name: "Authorization",
            ..
        }
    ));
}

#[test]
fn other_schemes_are_refused_by_name() {
    for (scheme, name) in [("AWS4-ECDSA-P256-SHA256", "SigV4A"), ("AWS", "SigV2")] {
        let AuthError::InvalidRequest(message) = refusal(&with_authorization("AWS4-HMAC-SHA256", scheme))
        else {
            panic!("{scheme}")
        };
        assert!(message.contains(name), "{message}");
    }
    let v2 = unsigned("/b/k?AWSAccessKeyId=AKID&Expires=1&Signature=abc");
    assert!(matches!(refusal(&v2), AuthError::InvalidRequest(m) if m.contains("SigV2")));
    let v4a = with_query("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    assert!(matches!(refusal(&v4a), AuthError::InvalidRequest(m) if m.contains("SigV4A")));
    let bearer = with_authorization("AWS4-HMAC-SHA256", "Bearer");
    assert!(matches!(
        refusal(&bearer),
        AuthError::InvalidArgument {
            message: "Unsupported Authorization Type",
            ..
        }
    ));
}

#[test]
fn wrong_region_is_told_the_right_one() {
    let expected = Some(REGION.to_owned());
    let error = refusal(&with_authorization(REGION, "us-east-1"));
    let message =
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'";
    assert_eq!(error.to_string(), message);
    assert!(matches!(error, AuthError::AuthorizationHeaderMalformed { region, .. } if region == expected));
    let error = refusal(&with_query(REGION, "us-east-1"));
    assert!(
        matches!(error, AuthError::AuthorizationQueryParametersError { region, .. } if region == expected)
    );
}

#[test]
fn malformed_headers() {
    assert!(header_malformed("/s3/", "/ec2/").contains("incorrect service \"ec2\""));
    assert!(header_malformed("aws4_request", "aws3_request").contains("incorrect terminal"));
    assert!(header_malformed("/20261121/", "/20261120/").contains("Invalid credential date \"20261120\""));
    assert!(header_malformed("=AKID/", "=/").contains("non-empty Access Key"));
    assert!(header_malformed("=AKID/20261121/", "=AKID").contains("the Credential is mal-formed"));
    for (from, to) in [
        ("Credential=", "Kredential="),
        ("Signature=", "Sig="),
        ("SignedHeaders=", "SignedHeaders"),
        (", Signature=", ", Signature=a, Signature="),
        (", Signature=", ", Extra=1, Signature="),
    ] {
        assert!(
            header_malformed(from, to).contains("three components"),
            "{from} {to}"
        );
    }
    for (from, to) in [
        ("host;", "Host;"),
        ("host;", "host;host;"),
        ("host;", "host;;"),
        ("host;", "ho st;"),
    ] {
        assert!(
            header_malformed(from, to).contains("SignedHeaders"),
            "{from} {to}"
        );
    }
}

#[test]
fn malformed_queries() {
    for name in [
        "Algorithm",
        "Credential",
        "Date",
        "Expires",
        "SignedHeaders",
        "Signature",
    ] {
        let message = query_malformed(&format!("X-Amz-{name}="), &format!("X-Amz-Not{name}="));
        assert!(
            message.contains("requires the X-Amz-Algorithm"),
            "{name}: {message}"
        );
        let doubled = query_malformed(
            &format!("X-Amz-{name}="),
            &format!("X-Amz-{name}=1&X-Amz-{name}="),
        );
        assert!(
            doubled.contains("requires the X-Amz-Algorithm"),
            "{name}: {doubled}"
        );
    }
    assert!(query_malformed("AWS4-HMAC-SHA256", "AWS5").contains("only supports"));
    assert!(query_malformed("T000000Z", "T000000").contains("ISO8601"));
    assert!(query_malformed("%2Fs3%2F", "%2Fec2%2F").contains("incorrect service"));
    assert!(query_malformed("AKID%2F2026", "AKID2026").contains("mal-formed"));
    for (expires, says) in [
        ("604801", "less than a week"),
        ("-1", "non-negative"),
        ("1e3", "a number"),
        ("+5", "a number"),
    ] {
        assert!(
            query_malformed("Expires=60", &format!("Expires={expires}")).contains(says),
            "{expires}"
        );
    }
    let huge = "9".repeat(40);
    assert!(query_malformed("Expires=60", &format!("Expires={huge}")).contains("less than a week"));
    assert_eq!(refusal(&with_query("x=1", "x=%1")), AuthError::InvalidUri);
}

#[test]
fn clocks() {
    let parts = signed();
    for now in [NOW_MS - 15 * MINUTE_MS, NOW_MS + 15 * MINUTE_MS] {
        at(&parts, now).unwrap();
    }
    for now in [
        NOW_MS - 15 * MINUTE_MS - 1,
        NOW_MS + 15 * MINUTE_MS + 1,
        0,
        u64::MAX,
    ] {
        let AuthError::RequestTimeTooSkewed {
            request_time,
            server_ms,
            skew_ms_max,
        } = at(&parts, now).unwrap_err()
        else {
            panic!("{now}")
        };
        assert_eq!(
            (request_time.as_str(), server_ms, skew_ms_max),
            ("20261121T000000Z", now, 900_000)
        );
    }
}

#[test]
fn presigned_requests_begin_and_end() {
    let week = 604_800;
    at(&presigned(week), NOW_MS + week * 1000).unwrap();
    let expired = Denial::Expired {
        expires_seconds: week,
        expires_ms: NOW_MS + week * 1000,
        server_ms: NOW_MS + week * 1000 + 1,
    };
    assert_eq!(
        at(&presigned(week), NOW_MS + week * 1000 + 1).unwrap_err(),
        expired.into()
    );
    at(&presigned(60), NOW_MS - 15 * MINUTE_MS).unwrap();
    let early = NOW_MS - 15 * MINUTE_MS - 1;
    assert_eq!(
        at(&presigned(60), early).unwrap_err(),
        Denial::NotValidYet { server_ms: early }.into()
    );
}

#[test]
fn a_date_is_needed() {
    let mut none = signed();
    none.headers.remove("x-amz-date");
    assert_eq!(refusal(&none), Denial::NoDate.into());
    let mut two = signed();
    two.headers
        .append("x-amz-date", HeaderValue::from_static("20261121T000000Z"));
    assert_eq!(refusal(&two), Denial::NoDate.into());
    let mut odd = signed();
    odd.headers.insert(
        "x-amz-date",
        HeaderValue::from_static("Sat, 21 Nov 2026 00:00:00 GMT"),
    );
    assert_eq!(refusal(&odd), Denial::NoDate.into());
}

#[test]
fn headers_added_on_the_way_are_refused() {
    for mut parts in [signed(), presigned(60)] {
        parts
            .headers
            .insert("x-amz-acl", HeaderValue::from_static("public-read"));
        parts
            .headers
            .insert("content-type", HeaderValue::from_static("text/plain"));
        assert_eq!(
            refusal(&parts),
            Denial::HeadersNotSigned(vec!["x-amz-acl".into()]).into()
        );
    }
    assert_eq!(
        refusal(&with_authorization("=host;", "=")),
        Denial::HeadersNotSigned(vec!["host".into()]).into()
    );
    // A second value of a signed header is part of what was signed.
    let mut doubled = signed();
    doubled
        .headers
        .append("x-amz-meta-a", HeaderValue::from_static("2"));
    assert!(matches!(refusal(&doubled), AuthError::SignatureDoesNotMatch(_)));
    // Neither can a payload be declared for a presigned request that was made without one.
    let mut declared = presigned(60);
    declared.headers.insert(
        "x-amz-content-sha256",
        HeaderValue::from_static("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
    );
    assert!(matches!(refusal(&declared), AuthError::SignatureDoesNotMatch(_)));
}

#[test]
fn the_request_line_cannot_name_another_host() {
    let mut parts = signed();
    parts.uri = "http://h/b/k?x=1".parse().unwrap();
    at(&parts, NOW_MS).unwrap();
    for other in [
        "http://bucket.h/b/k?x=1",
        "http://h:80/b/k?x=1",
        "http://u@h/b/k?x=1",
    ] {
        parts.uri = other.parse().unwrap();
        assert!(
            matches!(refusal(&parts), AuthError::InvalidRequest(m) if m.contains("Host")),
            "{other}"
        );
    }
    parts.headers.remove("host");
    assert!(matches!(refusal(&parts), AuthError::InvalidRequest(_)));
}

#[test]
fn payload_forms() {
    let mut none = signed();
    none.headers.remove("x-amz-content-sha256");
    assert!(matches!(refusal(&none), AuthError::InvalidRequest(m) if m.contains("x-amz-content-sha256")));
    let mut odd = signed();
    odd.headers.insert(
        "x-amz-content-sha256",
        HeaderValue::from_static("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"),
    );
    assert!(matches!(
        refusal(&odd),
        AuthError::InvalidArgument {
            name: "x-amz-content-sha256",
            ..
        }
    ));
    let mut two = signed();
    two.headers
        .append("x-amz-content-sha256", HeaderValue::from_static(UNSIGNED));
    assert!(matches!(refusal(&two), AuthError::InvalidRequest(_)));
}

#[test]
fn strangers_and_forgers() {
    let AuthError::InvalidAccessKeyId { access_key } = refusal(&with_authorization("AKID/", "AKIE/")) else {
        panic!()
    };
    assert_eq!(access_key.0, "AKIE");
    let mut parts = signed();
    parts.uri = "/b/other?x=1".parse().unwrap();
    let AuthError::SignatureDoesNotMatch(mismatch) = refusal(&parts) else {
        panic!()
    };
    assert!(
        mismatch
            .canonical_request
            .starts_with("PUT\n/b/other\nx=1\nhost:h\n"),
        "{}",
        mismatch.canonical_request
    );
    assert!(
        mismatch
            .string_to_sign
            .starts_with("AWS4-HMAC-SHA256\n20261121T000000Z\n20261121/eu-central-1/s3/aws4_request\n")
    );
    assert_eq!(mismatch.signature_provided.len(), 64);
    assert!(!format!("{mismatch:?}").contains("secret"));
}

#[test]
fn session_tokens_are_not_ours() {
    let mut parts = unsigned("/b/k");
    parts
        .headers
        .insert("x-amz-security-token", HeaderValue::from_static("t"));
    signer::sign(&mut parts, &key(), REGION, NOW_MS, UNSIGNED).unwrap();
    assert_eq!(refusal(&parts), AuthError::InvalidToken);
    assert_eq!(
        refusal(&with_query("x=1", "X-Amz-Security-Token=t")),
        AuthError::InvalidToken
    );
}
