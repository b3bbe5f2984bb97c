//! The lines after the last frame: the checksum that `x-amz-trailer` announced, and where frames are signed, a signature.
//!
//! ```text
//! x-amz-checksum-crc32c:sOO8/Q==\r\n
//! x-amz-trailer-signature:<64 hex>\r\n
//! \r\n
//! ```
//! Some clients write `\n\r\n` after the checksum; the `\n` is no part of the value.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use super::BodyRefusal;
use super::plan::{checksum_of, parse_checksum};
use auth::{ChunkSigning, PayloadMode};
use types::Checksum;

const SIGNATURE: &str = "x-amz-trailer-signature";

/// A trailer as it arrives. It has no line that was not announced and no line twice, so it is as long as its names.
pub(super) struct Trailer {
    mode: PayloadMode,
    /// Announced names that have not come yet.
    missing: Vec<String>,
    checksums: Vec<Checksum>,
    /// `name:value\n` of each line, as it is signed.
    canonical: Vec<u8>,
    signature: Option<String>,
}

impl Trailer {
    pub(super) fn new(mode: PayloadMode, announced: Vec<String>) -> Self {
        Self {
            mode,
            missing: announced,
            checksums: Vec::new(),
            canonical: Vec::new(),
            signature: None,
        }
    }

    /// One line, not empty, without its end.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), BodyRefusal> {
        if !self.mode.trailer() {
            return Err(BodyRefusal::BadRequest("a trailer that was not announced"));
        }
        let malformed = BodyRefusal::MalformedTrailerError;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let text = std::str::from_utf8(line)
            .ok()
            .filter(|t| !t.contains(['\r', '\n']))
            .ok_or(malformed.clone())?;
        let (name, value) = text.split_once(':').ok_or(malformed.clone())?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']));
        if self.signature.is_some() {
            return Err(malformed);
        }
        if name == SIGNATURE && self.mode.signed_frames() {
            self.signature = Some(value.to_owned());
            return Ok(());
        }
        let place = self
            .missing
            .iter()
            .position(|n| *n == name)
            .ok_or(malformed.clone())?;
        self.missing.swap_remove(place);
        let algorithm = checksum_of(&name).ok_or(malformed)?;
        let checksum = parse_checksum(algorithm, value).ok_or_else(|| {
            BodyRefusal::InvalidRequest(format!("Value for {name} trailing header is invalid."))
        })?;
        self.checksums.push(checksum);
        self.canonical
            .extend_from_slice(format!("{name}:{value}\n").as_bytes());
        Ok(())
    }

    /// The empty line: everything announced must have come, signed where frames are.
    pub(super) fn end(&mut self, signing: Option<&mut ChunkSigning>) -> Result<(), BodyRefusal> {
        if !self.missing.is_empty() {
            return Err(BodyRefusal::MalformedTrailerError);
        }
        if let (true, Some(signing)) = (self.mode.trailer(), signing) {
            let claimed = self.signature.as_deref().unwrap_or("");
            if !signing.trailer(&self.canonical).is(claimed.as_bytes()) {
                return Err(BodyRefusal::SignatureDoesNotMatch);
            }
        }
        Ok(())
    }

    pub(super) fn checksums(&self) -> Vec<Checksum> {
        self.checksums.clone()
    }
}
