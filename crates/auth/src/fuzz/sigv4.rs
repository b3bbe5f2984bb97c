//! Signed requests: what is signed is taken, what is changed is refused, and what is taken was signed, by a second reading of AWS's page.

use super::{NOW_MS, REGION, SECRET, key, keys};
use crate::{is_presigned_sigv2, signer, verify, verify_presigned_sigv2};
use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri};
use std::collections::BTreeMap;

const HEADERS_MAX: usize = 30;
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// What a request must not bring if it is to be signed here.
const CLAIMS: [&str; 6] = [
    "authorization",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "date",
    "host",
];

/// A request's head, a line each: method and target, then `name:value`. The last byte says what is changed once it is signed.
pub fn sigv4(data: &[u8]) {
    let Some(sent) = parse(data) else { return };
    if verify(&sent, &keys(), REGION, NOW_MS).is_ok() {
        let signature = second_reading(&sent).expect("what is taken can be read twice");
        assert_eq!(claimed(&sent), signature, "taken, and signed otherwise");
    }
    if is_presigned_sigv2(&sent) {
        let _answer = verify_presigned_sigv2(&sent, &keys(), None, NOW_MS);
    }
    let Some(bare) = without_claims(sent) else { return };
    let how = data.last().copied().unwrap_or(0);
    let (mut signed, mut presigned) = (bare.clone(), bare);
    if signer::sign(&mut signed, &key(), REGION, NOW_MS, PAYLOAD).is_some() {
        check_signed(&signed, how);
    }
    if signer::presign(&mut presigned, &key(), REGION, NOW_MS, 60).is_some() {
        check_signed(&presigned, how);
    }
}

/// Heads as clients send them, signed and not.
pub fn sigv4_seeds() -> Vec<Vec<u8>> {
    let plain = [
        "GET /bucket/a%20b?prefix=x&acl&b=2&b=1\nhost:h\nx-amz-meta-a:  one \t two \nx-amz-meta-a:three\n0",
        "PUT /b/%C3%A9~%2F/..?a+b=%2B&=v&&c==d\nhost:h\ncontent-type:text/plain\nrange:bytes=0-1\n9",
        "GET /b/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1369353660&Signature=abc%3D\nhost:h\n",
    ];
    let mut seeds: Vec<Vec<u8>> = plain.iter().map(|text| text.as_bytes().to_vec()).collect();
    for text in &plain[..2] {
        let bare = parse(text.as_bytes())
            .and_then(without_claims)
            .expect("a request");
        let (mut signed, mut presigned) = (bare.clone(), bare);
        signer::sign(&mut signed, &key(), REGION, NOW_MS, PAYLOAD).expect("it can be signed");
        signer::presign(&mut presigned, &key(), REGION, NOW_MS, 60).expect("it can be signed");
        seeds.extend([write(&signed), write(&presigned)]);
    }
    seeds
}

fn parse(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|b| *b == b'\n');
    let mut head = lines.next()?.splitn(2, |b| *b == b' ');
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(head.next()?).ok()?;
    for line in lines.take(HEADERS_MAX) {
        let at = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    Some(request.into_parts().0)
}

fn write(parts: &Parts) -> Vec<u8> {
    let mut out = format!("{} {}\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        out.extend([name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"].concat());
    }
    out
}

/// The request as one that a client is about to sign; `None` where it brings what speaks of another signature.
fn without_claims(mut parts: Parts) -> Option<Parts> {
    if parts.uri.authority().is_some() || !parts.uri.path().starts_with('/') {
        return None;
    }
    let query = pairs(parts.uri.query().unwrap_or(""))?;
    let speaks = |name: &[u8]| {
        name.to_ascii_lowercase().starts_with(b"x-amz-") || name == b"AWSAccessKeyId" || name == b"Signature"
    };
    if query.iter().any(|(name, _)| speaks(name)) {
        return None;
    }
    for name in CLAIMS {
        while parts.headers.remove(name).is_some() {}
    }
    parts.headers.insert(HOST, HeaderValue::from_static("h"));
    Some(parts)
}

fn check_signed(parts: &Parts, how: u8) {
    let verified = verify(parts, &keys(), REGION, NOW_MS);
    assert!(
        verified.is_ok(),
        "signed, and refused: {:?} of {parts:?}",
        verified.err()
    );
    assert_eq!(Some(claimed(parts)), second_reading(parts));
    let Some(changed) = change(parts, how) else { return };
    let same = second_reading(&changed) == Some(claimed(parts));
    let taken = verify(&changed, &keys(), REGION, NOW_MS).is_ok();
    assert_eq!(taken, same, "{parts:?} changed to {changed:?}");
}

/// The request with something else in it.
fn change(parts: &Parts, how: u8) -> Option<Parts> {
    let mut changed = parts.clone();
    match how % 8 {
        0 => changed.method = Method::from_bytes(b"COPY").ok()?,
        1 => changed.uri = parts.uri.to_string().replacen('/', "/%2f", 1).parse().ok()?,
        2 => changed.uri = parts.uri.to_string().replacen('%', "%25", 1).parse().ok()?,
        3 => {
            changed.uri = format!(
                "{}{}x",
                parts.uri,
                if parts.uri.query().is_some() { "&" } else { "?" }
            )
            .parse()
            .ok()?
        }
        4 => {
            let name = parts
                .headers
                .keys()
                .nth(usize::from(how / 8) % parts.headers.len().max(1))?
                .clone();
            let value = [parts.headers.get(&name)?.as_bytes(), b" x"].concat();
            // Who asked and the signature itself are not under it.
            if name == AUTHORIZATION || name == HOST {
                return None;
            }
            changed
                .headers
                .insert(name, HeaderValue::from_bytes(&value).ok()?);
        }
        5 => {
            changed
                .headers
                .append("x-amz-acl", HeaderValue::from_static("public-read"));
        }
        // These say the same.
        6 => {
            changed.uri = parts
                .uri
                .to_string()
                .replace("%20", "%2520")
                .replace("%2520", "%20")
                .parse()
                .ok()?
        }
        _ => changed.uri = parts.uri.to_string().replacen("&", "&&", 1).parse().ok()?,
    }
    Some(changed)
}

fn in_query(parts: &Parts, wanted: &str) -> Option<String> {
    let query = pairs(parts.uri.query()?)?;
    let (_, value) = query.into_iter().find(|(name, _)| name == wanted.as_bytes())?;
    String::from_utf8(value).ok()
}

/// A component of the claim, wherever it stands.
fn component(parts: &Parts, name: &str) -> Option<String> {
    let Some(header) = parts.headers.get(AUTHORIZATION) else {
        return in_query(parts, &format!("X-Amz-{name}"));
    };
    let text = header.to_str().ok()?.split_once(' ')?.1;
    let found = text
        .split(',')
        .find_map(|c| c.trim_matches(' ').strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

fn claimed(parts: &Parts) -> String {
    component(parts, "Signature").unwrap_or_default()
}

/// The signature that the request must have, from AWS's page and none of this room's code.
fn second_reading(parts: &Parts) -> Option<String> {
    let header = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
    let is_in_query = !parts.headers.contains_key(AUTHORIZATION);
    let names = component(parts, "SignedHeaders")?;
    let time = match (is_in_query, header("x-amz-date")) {
        (true, _) => in_query(parts, "X-Amz-Date")?,
        (false, Some(date)) => String::from_utf8(date.to_vec()).ok()?,
        (false, None) => header("date").and_then(|d| String::from_utf8(d.to_vec()).ok())?,
    };
    if time.len() != 16 {
        // An HTTP date is read by its own grammar: not a second time here.
        return (!is_in_query && header("x-amz-date").is_none()).then(|| claimed(parts));
    }
    let in_query_sha = in_query(parts, "X-Amz-Content-Sha256").filter(|_| is_in_query);
    let payload = header("x-amz-content-sha256").map_or(
        in_query_sha.unwrap_or(PAYLOAD.into()).into_bytes(),
        <[u8]>::to_vec,
    );
    let signed: Vec<&str> = names.split(';').collect();
    let essential =
        |name: &str| name.starts_with("x-amz-") && name != "x-amz-content-sha256" || name == "host";
    if parts
        .headers
        .keys()
        .any(|name| essential(name.as_str()) && !signed.contains(&name.as_str()))
    {
        return None;
    }
    let mut text = Vec::new();
    text.extend(format!("{}\n", parts.method).bytes());
    text.extend(path(parts.uri.path())?.bytes());
    text.push(b'\n');
    text.extend(query(parts.uri.query().unwrap_or(""), is_in_query)?.bytes());
    text.push(b'\n');
    for name in &signed {
        let values: Vec<Vec<u8>> = parts
            .headers
            .get_all(*name)
            .iter()
            .map(|v| folded(v.as_bytes()))
            .collect();
        if !values.is_empty() {
            text.extend([name.as_bytes(), b":", &values.join(&b","[..]), b"\n"].concat());
        }
    }
    text.extend([b"\n", names.as_bytes(), b"\n", &payload].concat());
    let date = time.get(..8)?;
    let scope = format!("{date}/{REGION}/s3/aws4_request");
    let hash = hex::encode(digest::digest(&digest::SHA256, &text));
    let mut secret = format!("AWS4{SECRET}").into_bytes();
    for step in [
        date,
        REGION,
        "s3",
        "aws4_request",
        &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}"),
    ] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        secret = hmac::sign(&key, step.as_bytes()).as_ref().to_vec();
    }
    Some(hex::encode(secret))
}

fn decoded(raw: &str) -> Option<Vec<u8>> {
    let mut pieces = raw.split('%');
    let mut out = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        out.extend(&piece.as_bytes()[2..]);
    }
    Some(out)
}

fn encoded(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    bytes
        .iter()
        .map(|b| {
            if plain(b) {
                char::from(*b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn path(raw: &str) -> Option<String> {
    Some(encoded(&decoded(raw)?).replace("%2F", "/"))
}

fn pairs(raw: &str) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let text = |raw: &str| decoded(&raw.replace('+', "%20"));
    raw.split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let mut sides = piece.splitn(2, '=');
            Some((text(sides.next()?)?, text(sides.next().unwrap_or(""))?))
        })
        .collect()
}

fn query(raw: &str, presigned: bool) -> Option<String> {
    let mut sorted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs(raw)? {
        if !(presigned && name == b"X-Amz-Signature") {
            sorted.entry(encoded(&name)).or_default().push(encoded(&value));
        }
    }
    let mut out = Vec::new();
    for (name, mut values) in sorted {
        values.sort();
        out.extend(values.iter().map(|value| format!("{name}={value}")));
    }
    Some(out.join("&"))
}

/// Trimmed, with each run of blanks as one space.
fn folded(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for b in value {
        match b {
            b' ' | b'\t' if out.last().is_none_or(|last| *last == b' ') => {}
            b' ' | b'\t' => out.push(b' '),
            other => out.push(*other),
        }
    }
    if out.last() == Some(&b' ') {
        out.pop();
    }
    out
}
