//! The aws-chunked framing, taken apart as it arrives.
//!
//! ```text
//! signed:    10000;chunk-signature=<64 hex>\r\n  65,536 bytes  \r\n  ...  0;chunk-signature=<64 hex>\r\n  [trailer]  \r\n
//! unsigned:  10000\r\n                           65,536 bytes  \r\n  ...  0\r\n                           [trailer]  \r\n
//! ```
//! Every frame but the last with bytes has 8 KiB or more; the sizes together are the announced length exactly, and
//! nothing follows the end. A frame's signature is checked before its last piece is handed on.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>

use super::BodyRefusal;
use super::plan::BodyPlan;
use super::trailer::Trailer;
use auth::ChunkSigning;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes};
use types::Checksum;
use types::limits::{AWS_CHUNK_BYTES_MIN, AWS_CHUNK_LINE_BYTES_MAX};

/// Takes frames apart. Pieces go in by [`Self::pull`] in any sizes; the object's bytes come out of them, uncopied.
pub(super) struct Frames {
    state: State,
    /// What has come of the line being read; its end is cut off when it is whole.
    line: Vec<u8>,
    signing: Option<Signing>,
    trailer: Trailer,
    /// Bytes the object must have.
    length: u64,
    /// Bytes announced by frames so far, whether or not they have come.
    announced: u64,
    /// Bytes handed on.
    provided: u64,
    /// Frames begun.
    number: u64,
    /// Size of the frame begun last.
    size: u64,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    FrameLine,
    Data { left: u64 },
    DataEnd,
    TrailerLine,
    End,
}

/// Checks one frame after the other.
struct Signing {
    chain: ChunkSigning,
    hash: Context,
    /// As the frame's line gave it.
    claimed: Vec<u8>,
}

impl Signing {
    /// Checks the frame that ends here.
    fn end_frame(&mut self) -> Result<(), BodyRefusal> {
        let hash = std::mem::replace(&mut self.hash, Context::new(&SHA256)).finish();
        if self.chain.frame(hash.as_ref()).is(&self.claimed) {
            Ok(())
        } else {
            Err(BodyRefusal::SignatureDoesNotMatch)
        }
    }
}

impl Frames {
    /// For a body of `length` bytes as `plan` says.
    pub(super) fn new(plan: &BodyPlan, length: u64) -> Self {
        let signing = plan.signing.clone();
        assert_eq!(
            signing.is_some(),
            plan.mode.signed_frames(),
            "signed frames need something that signs"
        );
        Self {
            state: State::FrameLine,
            line: Vec::new(),
            signing: signing.map(|chain| Signing {
                chain,
                hash: Context::new(&SHA256),
                claimed: Vec::new(),
            }),
            trailer: Trailer::new(plan.mode, plan.trailer_names.clone()),
            length,
            announced: 0,
            provided: 0,
            number: 0,
            size: 0,
        }
    }

    /// The object's next bytes out of `input`, never empty; `None` once `input` is used up.
    pub(super) fn pull(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyRefusal> {
        while !input.is_empty() {
            match self.state {
                State::FrameLine => {
                    if let Some(line) = self.take_line(input)? {
                        self.begin_frame(&line)?;
                    }
                }
                State::Data { left } => return self.data(left, input).map(Some),
                State::DataEnd => {
                    if let Some(line) = self.take_line(input)? {
                        if !line.is_empty() {
                            return Err(BodyRefusal::BadRequest("a chunk is longer than it said"));
                        }
                        self.state = State::FrameLine;
                    }
                }
                State::TrailerLine => {
                    if let Some(line) = self.take_line(input)? {
                        self.trailer_line(&line)?;
                    }
                }
                State::End => return Err(BodyRefusal::BadRequest("bytes after the last chunk")),
            }
        }
        Ok(None)
    }

    /// Says that no more will come.
    pub(super) fn finish(&self) -> Result<(), BodyRefusal> {
        if self.state == State::End {
            Ok(())
        } else {
            Err(self.incomplete(self.provided))
        }
    }

    /// That the body did not have the bytes it said; it had `provided`.
    pub(super) fn incomplete(&self, provided: u64) -> BodyRefusal {
        BodyRefusal::IncompleteBody {
            expected: self.length,
            provided,
        }
    }

    /// Bytes handed on so far.
    pub(super) fn provided(&self) -> u64 {
        self.provided
    }

    /// The trailer's checksum, once the body has ended well.
    pub(super) fn checksums(&self) -> Vec<Checksum> {
        self.trailer.checksums()
    }

    /// The line up to its CRLF, once it is whole.
    fn take_line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, BodyRefusal> {
        while !input.is_empty() {
            self.line.push(input.get_u8());
            if self.line.ends_with(b"\r\n") {
                let mut line = std::mem::take(&mut self.line);
                line.truncate(line.len() - 2);
                return Ok(Some(line));
            }
            // Between a chunk's bytes and the next line there is nothing but the CRLF: no need to look further.
            let limit = if self.state == State::DataEnd {
                2
            } else {
                AWS_CHUNK_LINE_BYTES_MAX
            };
            if self.line.len() >= limit {
                return Err(BodyRefusal::BadRequest(
                    "a line of the chunked encoding is too long",
                ));
            }
        }
        Ok(None)
    }

    fn begin_frame(&mut self, line: &[u8]) -> Result<(), BodyRefusal> {
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        let size =
            parse_size(digits).ok_or(BodyRefusal::BadRequest("a chunk's size is no hexadecimal number"))?;
        match &mut self.signing {
            None if extension.is_empty() => {}
            None => return Err(BodyRefusal::BadRequest("an unsigned chunk has an extension")),
            Some(signing) => {
                signing.claimed = extension
                    .strip_prefix(b";chunk-signature=")
                    .ok_or(BodyRefusal::BadRequest("a chunk has no signature"))?
                    .to_vec();
            }
        }
        if size > 0 && self.number > 0 && self.size < AWS_CHUNK_BYTES_MIN {
            return Err(BodyRefusal::InvalidChunkSizeError {
                chunk: self.number,
                size: self.size,
            });
        }
        (self.number, self.size) = (self.number + 1, size);
        self.announced = self.announced.saturating_add(size);
        if self.announced > self.length || (size == 0 && self.announced < self.length) {
            return Err(self.incomplete(self.announced));
        }
        self.state = State::Data { left: size };
        if size == 0 {
            self.end_frame()?;
            self.state = State::TrailerLine;
        }
        Ok(())
    }

    fn data(&mut self, left: u64, input: &mut Bytes) -> Result<Bytes, BodyRefusal> {
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let piece = input.split_to(take);
        if let Some(signing) = &mut self.signing {
            signing.hash.update(&piece);
        }
        let left = left - take as u64;
        self.state = State::Data { left };
        if left == 0 {
            self.end_frame()?;
            self.state = State::DataEnd;
        }
        self.provided += take as u64;
        Ok(piece)
    }

    fn end_frame(&mut self) -> Result<(), BodyRefusal> {
        self.signing.as_mut().map_or(Ok(()), Signing::end_frame)
    }

    fn trailer_line(&mut self, line: &[u8]) -> Result<(), BodyRefusal> {
        if !line.is_empty() {
            return self.trailer.line(line);
        }
        self.trailer.end(self.signing.as_mut().map(|s| &mut s.chain))?;
        self.state = State::End;
        Ok(())
    }
}

/// 1 to 16 hexadecimal digits.
fn parse_size(digits: &[u8]) -> Option<u64> {
    if digits.len() > 16 {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
