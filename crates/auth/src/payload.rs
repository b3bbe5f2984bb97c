//! `x-amz-content-sha256`: how a request's body is covered by its signature.

/// The SHA-256 that a client gave for its whole body.
pub type ContentSha256 = [u8; 32];

/// How the body is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadMode {
    /// The body's own SHA-256.
    Sha256(ContentSha256),
    /// `UNSIGNED-PAYLOAD`: not at all.
    Unsigned,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: frames, each signed.
    SignedFrames,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`: the same, and a signed trailer.
    SignedFramesTrailer,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: frames and a trailer, neither signed.
    UnsignedFramesTrailer,
}

impl PayloadMode {
    /// From the header's value; `None` when it is none of S3's.
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"UNSIGNED-PAYLOAD" => Some(Self::Unsigned),
            b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Some(Self::SignedFrames),
            b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Some(Self::SignedFramesTrailer),
            b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Some(Self::UnsignedFramesTrailer),
            _ => {
                let mut sha256 = [0; 32];
                hex::decode_to_slice(value, &mut sha256).ok()?;
                Some(Self::Sha256(sha256))
            }
        }
    }

    /// Whether the body comes in aws-chunked frames.
    pub fn framed(self) -> bool {
        !matches!(self, Self::Sha256(_) | Self::Unsigned)
    }

    /// Whether every frame carries a signature.
    pub fn signed_frames(self) -> bool {
        matches!(self, Self::SignedFrames | Self::SignedFramesTrailer)
    }

    /// Whether a trailer follows the last frame.
    pub fn trailer(self) -> bool {
        matches!(self, Self::SignedFramesTrailer | Self::UnsignedFramesTrailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_five_forms_and_no_other() {
        assert_eq!(
            PayloadMode::parse(b"UNSIGNED-PAYLOAD"),
            Some(PayloadMode::Unsigned)
        );
        assert!(
            PayloadMode::parse(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER")
                .is_some_and(|m| m.trailer() && !m.signed_frames())
        );
        assert!(
            matches!(PayloadMode::parse("ab".repeat(32).as_bytes()), Some(PayloadMode::Sha256(s)) if s == [0xab; 32])
        );
        for bad in [
            "",
            "unsigned-payload",
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            "STREAMING-UNSIGNED-PAYLOAD",
            "abcd",
            &"xy".repeat(32),
            &"ab".repeat(33),
        ] {
            assert_eq!(PayloadMode::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
