//! Signatures of aws-chunked frames and trailers: each covers the one before it, the first the request's own.

use crate::signing::{Signature, SigningKey, sha256_hex};

/// Makes the signatures that frames must carry, in order.
///
/// ```text
/// frame:   AWS4-HMAC-SHA256-PAYLOAD \n time \n scope \n previous signature \n sha256("") \n sha256(frame's bytes)
/// trailer: AWS4-HMAC-SHA256-TRAILER \n time \n scope \n previous signature \n sha256(name ":" value "\n" ...)
/// ```
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>
#[derive(Clone, Debug)]
pub struct ChunkSigning {
    pub(crate) key: SigningKey,
    pub(crate) time: String,
    pub(crate) scope: String,
    pub(crate) previous: Signature,
}

impl ChunkSigning {
    /// The signature of the next frame, whose bytes have this SHA-256; it becomes the previous one.
    pub fn frame(&mut self, sha256: &[u8]) -> &Signature {
        let hashes = format!("{}\n{}", sha256_hex(b""), hex::encode(sha256));
        self.next("AWS4-HMAC-SHA256-PAYLOAD", &hashes)
    }

    /// The signature of the trailer: `canonical` is its `name:value\n` lines, as sent.
    pub fn trailer(&mut self, canonical: &[u8]) -> &Signature {
        let hash = sha256_hex(canonical);
        self.next("AWS4-HMAC-SHA256-TRAILER", &hash)
    }

    fn next(&mut self, what: &str, hashes: &str) -> &Signature {
        let Self {
            time,
            scope,
            previous,
            ..
        } = &*self;
        let string_to_sign = format!("{what}\n{time}\n{scope}\n{}\n{hashes}", previous.as_str());
        self.previous = self.key.sign(string_to_sign.as_bytes());
        &self.previous
    }
}
