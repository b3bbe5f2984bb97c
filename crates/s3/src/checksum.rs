//! Checksums and digests in headers, both ways.
//!
//! A request names at most one checksum, in a header or in the trailer; `x-amz-sdk-checksum-algorithm` must agree with
//! it. Answers carry the record's, with `-N` behind a composite one and `x-amz-checksum-type` beside it.

use crate::body::{BodyPlan, parse_checksum};
use crate::error::{Code, Error};
use crate::xml::XmlWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use objects::Expect;
use types::{Checksum, ChecksumAlgorithm, ChecksumKind};
use wire::records;

/// `x-amz-checksum-crc32` and its like.
fn header_name(algorithm: ChecksumAlgorithm) -> HeaderName {
    HeaderName::from_static(match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    })
}

/// `ChecksumCRC32` and its like.
pub(crate) fn element_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "ChecksumCRC32",
        ChecksumAlgorithm::Crc32c => "ChecksumCRC32C",
        ChecksumAlgorithm::Crc64Nvme => "ChecksumCRC64NVME",
        ChecksumAlgorithm::Sha1 => "ChecksumSHA1",
        ChecksumAlgorithm::Sha256 => "ChecksumSHA256",
    }
}

/// `FULL_OBJECT` or `COMPOSITE`.
pub(crate) fn kind_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::FullObject => "FULL_OBJECT",
        ChecksumKind::Composite => "COMPOSITE",
    }
}

/// The kind that a record's number names; records without one are of all the bytes.
pub(crate) fn kind_of(number: u32) -> ChecksumKind {
    if number == ChecksumKind::Composite as u32 {
        ChecksumKind::Composite
    } else {
        ChecksumKind::FullObject
    }
}

/// An algorithm by its S3 name, in any case.
pub(crate) fn algorithm(name: &str) -> Option<ChecksumAlgorithm> {
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|a| a.name().eq_ignore_ascii_case(name))
}

/// What is no checksum is not the body's, and is told as such.
fn bad_value(name: &str) -> Error {
    Error::with(Code::BadDigest, format!("Value for {name} header is invalid."))
}

/// An algorithm that is none of S3's.
pub(crate) fn unsupported() -> Error {
    Error::with(
        Code::InvalidRequest,
        "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, \
         CRC64NVME, SHA1, SHA256]",
    )
}

fn invalid_header(name: &str) -> Error {
    Error::with(
        Code::InvalidRequest,
        format!("Value for {name} header is invalid."),
    )
}

/// The checksum headers of a request about its body; at most one.
///
/// # Errors
/// InvalidRequest.
fn given(headers: &HeaderMap) -> Result<Option<Checksum>, Error> {
    one_of(headers, |v| v)
}

/// The checksum headers of a completion of `parts` parts, about the object: a composite one has `-N` behind it.
///
/// # Errors
/// InvalidRequest; BadDigest when it is of another number of parts.
pub(crate) fn of_object(headers: &HeaderMap, parts: usize) -> Result<Option<Checksum>, Error> {
    let of_parts = |v: &str| {
        let (value, parts) = v.split_once('-')?;
        Some((value.len(), parts.parse::<usize>().ok()?))
    };
    for algorithm in ChecksumAlgorithm::ALL {
        for value in headers.get_all(header_name(algorithm)) {
            let stated = value.to_str().ok().and_then(of_parts);
            if stated.is_some_and(|(_, stated)| stated != parts) {
                return Err(Error::with(
                    Code::BadDigest,
                    "The checksum you specified did not match the calculated checksum.",
                ));
            }
        }
    }
    one_of(headers, |v| of_parts(v).map_or(v, |(end, _)| &v[..end]))
}

fn one_of(headers: &HeaderMap, bare: impl Fn(&str) -> &str) -> Result<Option<Checksum>, Error> {
    let mut found = None;
    for algorithm in ChecksumAlgorithm::ALL {
        let name = header_name(algorithm);
        for value in headers.get_all(&name) {
            let parsed = value
                .to_str()
                .ok()
                .and_then(|v| parse_checksum(algorithm, bare(v)));
            let checksum = parsed.ok_or_else(|| bad_value(name.as_str()))?;
            if found.replace(checksum).is_some() {
                return Err(Error::with(
                    Code::InvalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
                ));
            }
        }
    }
    Ok(found)
}

/// `Content-MD5`.
///
/// # Errors
/// InvalidDigest.
pub(crate) fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Error> {
    let Some(value) = headers.get("content-md5") else {
        return Ok(None);
    };
    let digest = BASE64
        .decode(value.as_bytes())
        .ok()
        .and_then(|d| d.try_into().ok());
    digest.map(Some).ok_or_else(|| Code::InvalidDigest.into())
}

/// What a body must turn out to be, by its request's head.
///
/// # Errors
/// InvalidDigest, InvalidRequest.
pub(crate) fn expect(headers: &HeaderMap, plan: &BodyPlan) -> Result<Expect, Error> {
    let checksums: Vec<_> = given(headers)?.into_iter().collect();
    let trailing = plan.trailing();
    if checksums.len() + trailing.len() > 1 {
        return Err(Error::with(
            Code::InvalidRequest,
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    if let Some(named) = headers.get("x-amz-sdk-checksum-algorithm") {
        let name = "x-amz-sdk-checksum-algorithm";
        let wanted = named
            .to_str()
            .ok()
            .and_then(algorithm)
            .ok_or_else(|| invalid_header(name))?;
        match checksums
            .iter()
            .map(|c| c.algorithm)
            .chain(trailing.iter().copied())
            .next()
        {
            Some(found) if found == wanted => {}
            Some(_) => return Err(invalid_header(name)),
            None => {
                return Err(Error::with(
                    Code::InvalidRequest,
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer \
                     headers were found.",
                ));
            }
        }
    }
    Ok(Expect {
        md5: content_md5(headers)?,
        checksums,
        trailing,
    })
}

/// A checksum as records hold it.
pub(crate) fn stored(checksum: Checksum) -> records::Checksum {
    records::Checksum {
        algorithm: checksum.algorithm as u32,
        value: checksum.value,
    }
}

fn compute(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    use crc_fast::{CrcAlgorithm, checksum};
    let crc32 = |kind| (checksum(kind, bytes) as u32).to_be_bytes().to_vec();
    match algorithm {
        ChecksumAlgorithm::Crc32 => crc32(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => crc32(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes().to_vec(),
        ChecksumAlgorithm::Sha1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec(),
        ChecksumAlgorithm::Sha256 => digest(&SHA256, bytes).as_ref().to_vec(),
    }
}

/// Checks a whole document against what was said of it, and what its trailer said. Answers whether anything was said.
///
/// # Errors
/// BadDigest.
pub(crate) fn verify(expect: &Expect, trailer: &[Checksum], document: &[u8]) -> Result<bool, Error> {
    use md5::Digest as _;
    if expect
        .md5
        .is_some_and(|md5| md5[..] != md5::Md5::digest(document)[..])
    {
        return Err(Code::BadDigest.into());
    }
    let promised = expect
        .trailing
        .iter()
        .find(|a| trailer.iter().all(|c| c.algorithm != **a));
    let wrong = expect
        .checksums
        .iter()
        .chain(trailer)
        .find(|c| c.value != compute(c.algorithm, document));
    if let Some(algorithm) = promised.copied().or(wrong.map(|c| c.algorithm)) {
        return Err(objects::ObjectsError::BadChecksum(algorithm).into());
    }
    Ok(expect.md5.is_some() || !expect.checksums.is_empty() || !trailer.is_empty())
}

/// A checksum as clients read it: base64, and `-N` behind a composite of N parts.
pub(crate) fn text(checksum: &records::Checksum, kind: ChecksumKind, parts: u32) -> String {
    let value = BASE64.encode(&checksum.value);
    match kind {
        ChecksumKind::Composite if parts > 0 => format!("{value}-{parts}"),
        _ => value,
    }
}

/// Writes a record's checksums into an answer's headers.
pub(crate) fn to_headers(
    out: &mut HeaderMap,
    checksums: &[records::Checksum],
    kind: Option<ChecksumKind>,
    parts: u32,
) {
    let mut any = false;
    for checksum in checksums {
        let Some(algorithm) = ChecksumAlgorithm::from_number(checksum.algorithm) else {
            continue;
        };
        let value = text(checksum, kind.unwrap_or(ChecksumKind::FullObject), parts);
        let value = HeaderValue::try_from(value).expect("base64 is a header value");
        out.insert(header_name(algorithm), value);
        any = true;
    }
    if let (true, Some(kind)) = (any, kind) {
        out.insert("x-amz-checksum-type", HeaderValue::from_static(kind_name(kind)));
    }
}

/// Writes checksums as elements.
pub(crate) fn to_xml(x: &mut XmlWriter, checksums: &[records::Checksum], kind: ChecksumKind, parts: u32) {
    for checksum in checksums {
        if let Some(algorithm) = ChecksumAlgorithm::from_number(checksum.algorithm) {
            x.text(element_name(algorithm), &text(checksum, kind, parts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap()))
            .collect()
    }

    fn plan(trailer: &[&str]) -> BodyPlan {
        BodyPlan {
            mode: auth::PayloadMode::Unsigned,
            content_length: Some(1),
            decoded_length: None,
            trailer_names: trailer.iter().map(|t| (*t).to_owned()).collect(),
            signing: None,
            chunked: false,
        }
    }

    #[test]
    fn requests() {
        let (crc, sdk) = ("x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm");
        type Case<'a> = (&'a [(&'static str, &'a str)], &'a [&'a str], Option<Code>);
        let cases: &[Case<'_>] = &[
            (&[], &[], None),
            (&[(crc, "AAAAAA==")], &[], None),
            (
                &[(crc, "AAAAAA==")],
                &["x-amz-checksum-sha1"],
                Some(Code::InvalidRequest),
            ),
            (&[(crc, "AAAA")], &[], Some(Code::BadDigest)),
            (&[(crc, "not base64")], &[], Some(Code::BadDigest)),
            (
                &[(crc, "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")],
                &[],
                Some(Code::InvalidRequest),
            ),
            (&[(sdk, "CRC32"), (crc, "AAAAAA==")], &[], None),
            (&[(sdk, "crc32")], &["x-amz-checksum-crc32"], None),
            (&[(sdk, "CRC32")], &[], Some(Code::InvalidRequest)),
            (
                &[(sdk, "SHA1"), (crc, "AAAAAA==")],
                &[],
                Some(Code::InvalidRequest),
            ),
            (
                &[(sdk, "MD4"), (crc, "AAAAAA==")],
                &[],
                Some(Code::InvalidRequest),
            ),
            (&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], &[], None),
            (
                &[("content-md5", "1B2M2Y8AsgTpgAmY7PhC")],
                &[],
                Some(Code::InvalidDigest),
            ),
            (&[("content-md5", "?")], &[], Some(Code::InvalidDigest)),
        ];
        for (headers, trailer, code) in cases {
            let got = expect(&map(headers), &plan(trailer)).err().map(|e| e.code());
            assert_eq!(got, *code, "{headers:?} {trailer:?}");
        }
    }

    #[test]
    fn documents() {
        // The check values of each algorithm: its checksum of "123456789".
        let check = [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (
                ChecksumAlgorithm::Sha1,
                "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            ),
            (
                ChecksumAlgorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ];
        for (algorithm, value) in check {
            let right = Checksum {
                algorithm,
                value: hex::decode(value).unwrap(),
            };
            let ahead = Expect {
                checksums: vec![right.clone()],
                ..Expect::default()
            };
            assert_eq!(verify(&ahead, &[], b"123456789"), Ok(true));
            assert_eq!(
                verify(&ahead, &[], b"12345678").unwrap_err().code(),
                Code::BadDigest
            );
            let behind = Expect {
                trailing: vec![algorithm],
                ..Expect::default()
            };
            assert_eq!(
                verify(&behind, std::slice::from_ref(&right), b"123456789"),
                Ok(true)
            );
            assert_eq!(
                verify(&behind, &[right], b"x").unwrap_err().code(),
                Code::BadDigest
            );
            assert_eq!(
                verify(&behind, &[], b"123456789").unwrap_err().code(),
                Code::BadDigest
            );
        }
        let md5 = hex::decode("25f9e794323b453885f5181f1b624d0b")
            .unwrap()
            .try_into()
            .ok();
        let digest = Expect {
            md5,
            ..Expect::default()
        };
        assert_eq!(verify(&digest, &[], b"123456789"), Ok(true));
        assert_eq!(verify(&digest, &[], b"x").unwrap_err().code(), Code::BadDigest);
        assert_eq!(verify(&Expect::default(), &[], b"x"), Ok(false));
    }

    #[test]
    fn answers() {
        let sum = records::Checksum {
            algorithm: ChecksumAlgorithm::Crc32 as u32,
            value: vec![0, 0, 0, 1],
        };
        let mut out = HeaderMap::new();
        to_headers(
            &mut out,
            std::slice::from_ref(&sum),
            Some(ChecksumKind::Composite),
            3,
        );
        assert_eq!(out["x-amz-checksum-crc32"], "AAAAAQ==-3");
        assert_eq!(out["x-amz-checksum-type"], "COMPOSITE");
        let mut none = HeaderMap::new();
        to_headers(&mut none, &[], Some(ChecksumKind::FullObject), 0);
        assert!(none.is_empty());
    }
}
