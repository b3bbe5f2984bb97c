//! The other side: signs requests as clients do. For tests, for presigned links, and for gateways that call gateways.

use crate::ALGORITHM;
use crate::canonical::{Canonical, string_to_sign};
use crate::chunk::ChunkSigning;
use crate::claim::scope;
use crate::keys::AccessKey;
use crate::moment::SignedAt;
use crate::signing::{Signature, SigningKey};
use crate::uri;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::request::Parts;

/// Adds `x-amz-date`, `x-amz-content-sha256` (`payload`) and `Authorization`, signing every header present.
/// Answers what signs the frames of the body. `None` when the request cannot be signed: a time past the year 9999, a
/// broken escape in the URI, characters in region or key that no header takes.
pub fn sign(
    parts: &mut Parts,
    key: &AccessKey,
    region: &str,
    now_ms: u64,
    payload: &str,
) -> Option<ChunkSigning> {
    let at = SignedAt::from_ms(now_ms)?;
    parts
        .headers
        .insert("x-amz-date", HeaderValue::from_str(&at.basic).ok()?);
    parts
        .headers
        .insert("x-amz-content-sha256", HeaderValue::from_str(payload).ok()?);
    parts.headers.remove(AUTHORIZATION);
    let signed = header_names(parts);
    let signing = signature(parts, key, region, &at, (&signed, payload))?;
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
        key.id,
        signing.scope,
        joined(&signed),
        signing.previous.as_str()
    );
    parts
        .headers
        .insert(AUTHORIZATION, HeaderValue::from_str(&authorization).ok()?);
    Some(signing)
}

/// Adds the signature to the query instead, good for `expires_seconds`; the body stays unsigned. `None` as in [`sign`].
pub fn presign(
    parts: &mut Parts,
    key: &AccessKey,
    region: &str,
    now_ms: u64,
    expires_seconds: u64,
) -> Option<()> {
    let at = SignedAt::from_ms(now_ms)?;
    let signed = header_names(parts);
    let credential = format!("{}/{}", key.id, scope(at.date(), region));
    let query = format!(
        "{}{}X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires={expires_seconds}\
         &X-Amz-SignedHeaders={}",
        parts.uri.query().unwrap_or(""),
        if parts.uri.query().is_some_and(|q| !q.is_empty()) {
            "&"
        } else {
            ""
        },
        uri::encode(credential.as_bytes(), false),
        at.basic,
        uri::encode(joined(&signed).as_bytes(), false),
    );
    set_query(parts, &query)?;
    let signing = signature(parts, key, region, &at, (&signed, "UNSIGNED-PAYLOAD"))?;
    set_query(
        parts,
        &format!("{query}&X-Amz-Signature={}", signing.previous.as_str()),
    )
}

fn header_names(parts: &Parts) -> Vec<HeaderName> {
    let mut names: Vec<_> = parts.headers.keys().cloned().collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names
}

fn joined(names: &[HeaderName]) -> String {
    names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(";")
}

fn set_query(parts: &mut Parts, query: &str) -> Option<()> {
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    let path = uri.path_and_query.as_ref().map_or("/", |p| p.path());
    uri.path_and_query = Some(format!("{path}?{query}").parse().ok()?);
    parts.uri = http::Uri::from_parts(uri).ok()?;
    Some(())
}

fn signature(
    parts: &Parts,
    key: &AccessKey,
    region: &str,
    at: &SignedAt,
    (signed, payload): (&[HeaderName], &str),
) -> Option<ChunkSigning> {
    let canonical = Canonical {
        method: parts.method.as_str(),
        path: &uri::decode(parts.uri.path().as_bytes())?,
        query: &uri::parse_query(parts.uri.query().unwrap_or(""))?,
        headers: &parts.headers,
        signed,
        payload: payload.as_bytes(),
    }
    .to_bytes();
    let scope = scope(at.date(), region);
    let signing_key = SigningKey::derive(&key.secret.0, at.date(), region);
    let previous: Signature = signing_key.sign(string_to_sign(&at.basic, &scope, &canonical).as_bytes());
    Some(ChunkSigning {
        key: signing_key,
        time: at.basic.clone(),
        scope,
        previous,
    })
}
