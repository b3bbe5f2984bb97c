//! The check itself: from a request's head to who sent it.

use crate::canonical::{Canonical, string_to_sign};
use crate::chunk::ChunkSigning;
use crate::claim::Claim;
use crate::error::{AuthError, Denial, Mismatch};
use crate::keys::{AccessKeyId, KeyStore};
use crate::payload::PayloadMode;
use crate::signing::SigningKey;
use crate::uri::{self, QueryPair};
use http::HeaderMap;
use http::header::{HOST, HeaderName};
use http::request::Parts;
use std::collections::BTreeSet;
use types::AccountId;
use types::limits::CLOCK_SKEW_MS_MAX;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// A request whose head is signed by one of our access keys. Its body is not checked yet: `payload` says how it must be.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Which key signed.
    pub access_key: AccessKeyId,
    /// Whose it is.
    pub account: AccountId,
    /// How the body is covered.
    pub payload: PayloadMode,
    /// Whether the signature came in the query.
    pub presigned: bool,
    /// Makes the signatures of frames, beginning after the request's own.
    pub signing: ChunkSigning,
}

/// Verifies a request's SigV4 signature, in the header or in the query, as of `now_ms` since 1970.
///
/// Holds afterwards: the signature covers method, path, query, `host`, every `x-amz-*` header and the declared payload;
/// it was made for `region` within 15 minutes of now, or is a presigned one (of at most 7 days) that has not ended.
///
/// # Errors
/// What S3 would refuse it for.
pub fn verify(parts: &Parts, keys: &dyn KeyStore, region: &str, now_ms: u64) -> Result<Verified, AuthError> {
    let mut query = uri::parse_query(parts.uri.query().unwrap_or("")).ok_or(AuthError::InvalidUri)?;
    let path = uri::decode(parts.uri.path().as_bytes()).ok_or(AuthError::InvalidUri)?;
    let claim = Claim::read(&parts.headers, &query, region)?;
    check_authority(parts)?;
    let presigned = claim.expires_seconds.is_some();
    if parts.headers.contains_key("x-amz-security-token") || named(&query, "X-Amz-Security-Token").is_some() {
        return Err(AuthError::InvalidToken);
    }
    check_time(&claim, &parts.headers, now_ms)?;
    let payload_text = payload_text(&parts.headers, &query, presigned)?;
    let payload = PayloadMode::parse(&payload_text).ok_or_else(|| AuthError::InvalidArgument {
        name: "x-amz-content-sha256",
        value: String::from_utf8_lossy(&payload_text).into_owned(),
        message: "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                  STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 \
                  value.",
    })?;
    check_covered(&parts.headers, &claim.signed)?;

    let Some(key) = keys.find(&claim.access_key) else {
        return Err(AuthError::InvalidAccessKeyId {
            access_key: claim.access_key,
        });
    };
    query.retain(|p| !(presigned && p.name == b"X-Amz-Signature"));
    let canonical = Canonical {
        method: parts.method.as_str(),
        path: &path,
        query: &query,
        headers: &parts.headers,
        signed: &claim.signed,
        payload: &payload_text,
    }
    .to_bytes();
    let scope = claim.scope(region);
    let to_sign = string_to_sign(&claim.at.basic, &scope, &canonical);
    let signing_key = SigningKey::of(&key.secret.0, claim.at.date(), region);
    let signature = signing_key.sign(to_sign.as_bytes());
    if !signature.is(claim.signature.as_bytes()) {
        return Err(AuthError::SignatureDoesNotMatch(Box::new(Mismatch {
            access_key: claim.access_key,
            string_to_sign: to_sign,
            signature_provided: claim.signature,
            canonical_request: String::from_utf8_lossy(&canonical).into_owned(),
        })));
    }
    let signing = ChunkSigning {
        key: signing_key,
        time: claim.at.basic,
        scope,
        previous: signature,
    };
    Ok(Verified {
        access_key: key.id,
        account: key.account,
        payload,
        presigned,
        signing,
    })
}

/// Signed about now, or presigned and neither before its time nor after it.
fn check_time(claim: &Claim, headers: &HeaderMap, now_ms: u64) -> Result<(), AuthError> {
    let at_ms = claim.at.ms;
    let Some(expires_seconds) = claim.expires_seconds else {
        if now_ms.abs_diff(at_ms) <= CLOCK_SKEW_MS_MAX {
            return Ok(());
        }
        let sent = headers.get("x-amz-date").or_else(|| headers.get("date"));
        return Err(AuthError::RequestTimeTooSkewed {
            request_time: sent.map_or_else(String::new, |v| {
                String::from_utf8_lossy(v.as_bytes()).into_owned()
            }),
            server_ms: now_ms,
            skew_ms_max: CLOCK_SKEW_MS_MAX,
        });
    };
    if at_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
        return Err(Denial::NotValidYet { server_ms: now_ms }.into());
    }
    let expires_ms = at_ms.saturating_add(expires_seconds.saturating_mul(1000));
    if now_ms > expires_ms {
        return Err(Denial::Expired {
            expires_seconds,
            expires_ms,
            server_ms: now_ms,
        }
        .into());
    }
    Ok(())
}

/// The last line of the canonical request. It covers the header it comes from, whether or not that is among the signed.
fn payload_text(headers: &HeaderMap, query: &[QueryPair], presigned: bool) -> Result<Vec<u8>, AuthError> {
    let values: Vec<_> = headers.get_all(CONTENT_SHA256).iter().collect();
    match (values.as_slice(), presigned) {
        (&[value], _) => Ok(value.as_bytes().to_vec()),
        ([], true) => Ok(named(query, "X-Amz-Content-Sha256")
            .map_or_else(|| b"UNSIGNED-PAYLOAD".to_vec(), |p| p.value.clone())),
        ([], false) => Err(AuthError::InvalidRequest(
            "Missing required header for this request: x-amz-content-sha256".to_owned(),
        )),
        _ => Err(AuthError::InvalidRequest(
            "x-amz-content-sha256 is given more than once".to_owned(),
        )),
    }
}

fn named<'a>(query: &'a [QueryPair], name: &str) -> Option<&'a QueryPair> {
    query.iter().find(|p| p.name == name.as_bytes())
}

/// The signature covers the Host header; a host in the request line must not be able to mean another.
fn check_authority(parts: &Parts) -> Result<(), AuthError> {
    let host = parts.headers.get(HOST).map(|v| v.as_bytes());
    match parts.uri.authority() {
        Some(authority) if host != Some(authority.as_str().as_bytes()) => Err(AuthError::InvalidRequest(
            "The request line and the Host header name different hosts".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Every header that means something to S3 must be under the signature, or anyone on the way could add one.
fn check_covered(headers: &HeaderMap, signed: &[HeaderName]) -> Result<(), AuthError> {
    let signed: BTreeSet<&str> = signed.iter().map(HeaderName::as_str).collect();
    let matters = |name: &&HeaderName| name.as_str().starts_with("x-amz-") && **name != CONTENT_SHA256;
    let missing: Vec<_> = std::iter::once(&HOST)
        .chain(headers.keys().filter(matters))
        .map(HeaderName::as_str)
        .filter(|name| !signed.contains(name))
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Denial::HeadersNotSigned(missing).into())
    }
}
