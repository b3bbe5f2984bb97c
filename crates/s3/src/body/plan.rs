//! How a body must arrive, read from the request's head before a byte of it.

use super::{BodyRefusal, ChunkSigning};
use auth::PayloadMode;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use types::limits::PUT_BYTES_MAX;
use types::{Checksum, ChecksumAlgorithm};

/// How a body must arrive.
#[derive(Clone, Debug)]
pub struct BodyPlan {
    /// How the signature covers it.
    pub mode: PayloadMode,
    /// `Content-Length`: bytes on the connection, frames and all.
    pub content_length: Option<u64>,
    /// `x-amz-decoded-content-length`: bytes of the object, where they come in frames.
    pub decoded_length: Option<u64>,
    /// What `x-amz-trailer` announces, in lower case: at most one, and it is a checksum.
    pub trailer_names: Vec<String>,
    /// For signed frames.
    pub signing: Option<ChunkSigning>,
    /// Whether the connection itself tells the end (`Transfer-Encoding: chunked`).
    pub chunked: bool,
}

/// Reads the plan.
///
/// # Errors
/// The head contradicts itself, or asks for what cannot be checked.
pub fn plan(parts: &Parts, verified: &auth::Verified) -> Result<BodyPlan, BodyRefusal> {
    let mode = verified.payload;
    let headers = &parts.headers;
    let decoded_length = number(headers, "x-amz-decoded-content-length")?;
    let trailer_names = trailer_names(headers)?;
    if !mode.trailer() && !trailer_names.is_empty() {
        return Err(BodyRefusal::InvalidRequest(
            "The value of x-amz-content-sha256 does not announce the trailer that x-amz-trailer names."
                .to_owned(),
        ));
    }
    if mode.framed() && decoded_length.is_none() {
        return Err(BodyRefusal::MissingContentLength);
    }
    let plan = BodyPlan {
        mode,
        content_length: number(headers, CONTENT_LENGTH.as_str())?,
        decoded_length: decoded_length.filter(|_| mode.framed()),
        trailer_names,
        signing: mode.signed_frames().then(|| verified.signing.clone()),
        chunked: headers.contains_key(TRANSFER_ENCODING),
    };
    if let (Some(whole), Some(decoded)) = (plan.content_length, plan.decoded_length)
        && decoded > whole
    {
        return Err(BodyRefusal::IncompleteBody {
            expected: decoded,
            provided: whole,
        });
    }
    Ok(plan)
}

impl BodyPlan {
    /// Exactly how many bytes the object has.
    ///
    /// # Errors
    /// MissingContentLength where the head does not say, EntityTooLarge past 5 GiB.
    pub fn length(&self) -> Result<u64, BodyRefusal> {
        let size = if self.mode.framed() {
            self.decoded_length
        } else {
            self.content_length
        };
        match size {
            None => Err(BodyRefusal::MissingContentLength),
            Some(size) if size > PUT_BYTES_MAX => Err(BodyRefusal::EntityTooLarge {
                size,
                max: PUT_BYTES_MAX,
            }),
            Some(size) => Ok(size),
        }
    }

    /// The checksums that the trailer will bring (`objects::Expect::trailing`).
    pub fn trailing(&self) -> Vec<ChecksumAlgorithm> {
        self.trailer_names.iter().filter_map(|n| checksum_of(n)).collect()
    }
}

/// `Content-Encoding` as it is to be kept: `aws-chunked` is how the body travelled, not what the object is.
/// `None` when nothing is left.
pub fn strip_aws_chunked(content_encoding: &str) -> Option<String> {
    // What is left stays as it was given, spaces and all.
    let kept: Vec<_> = content_encoding
        .split(',')
        .filter(|coding| !coding.trim().is_empty() && !coding.trim().eq_ignore_ascii_case("aws-chunked"))
        .collect();
    let kept = kept.join(",");
    Some(kept.trim().to_owned()).filter(|k| !k.is_empty())
}

/// The checksum a header or trailer of this lower-case name carries.
pub(super) fn checksum_of(name: &str) -> Option<ChecksumAlgorithm> {
    let wanted = name.strip_prefix("x-amz-checksum-")?;
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|a| a.name().to_ascii_lowercase() == wanted)
}

/// Base64 of exactly the algorithm's length.
pub(crate) fn parse_checksum(algorithm: ChecksumAlgorithm, value: &str) -> Option<Checksum> {
    use base64::Engine as _;
    let value = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    (value.len() == algorithm.len_bytes()).then_some(Checksum { algorithm, value })
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, BodyRefusal> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    let Some(first) = values.first() else {
        return Ok(None);
    };
    let invalid = || BodyRefusal::InvalidArgument {
        name,
        value: String::from_utf8_lossy(first.as_bytes()).into_owned(),
        message: "The length is not one number.",
    };
    let text = first
        .to_str()
        .ok()
        .filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    match (values.len(), text.and_then(|s| s.parse().ok())) {
        (1, Some(n)) => Ok(Some(n)),
        _ => Err(invalid()),
    }
}

/// One checksum at most, as in S3.
fn trailer_names(headers: &HeaderMap) -> Result<Vec<String>, BodyRefusal> {
    let mut names = Vec::new();
    for value in headers.get_all("x-amz-trailer") {
        let text = value.to_str().unwrap_or("\u{fffd}");
        names.extend(
            text.split(',')
                .map(|n| n.trim().to_ascii_lowercase())
                .filter(|n| !n.is_empty()),
        );
    }
    if names.iter().any(|n| checksum_of(n).is_none()) {
        return Err(BodyRefusal::InvalidRequest(
            "The value specified in the x-amz-trailer header is not supported".to_owned(),
        ));
    }
    if names.len() > 1 {
        return Err(BodyRefusal::InvalidRequest(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.".to_owned(),
        ));
    }
    Ok(names)
}
