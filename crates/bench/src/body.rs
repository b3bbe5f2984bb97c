//! Bodies: bytes that neither compress nor repeat, known again by their number alone.
//!
//! ```text
//! body of number n:  pool[slot(n) .. slot(n) + size - 16]   stamp: run (8 bytes), n (8 bytes)
//! ```
//! All but the stamp stands in one pool, so that no body is copied to be sent, a body that comes back is compared in place, and hashes are known
//! but for their last block before the clock runs. There are a few slots, `SLOT_STEP` apart. A body that is longer than `UNIQUE_BYTES` and is not
//! hashed has a slot of its own, at a place that no other has modulo `UNIQUE_BYTES`: a store that keeps equal blocks of that size once finds no
//! block of one in another, and the last one of each has its stamp.

use crate::plan::Payload;
use crate::sign::FrameSigner;
use auth::Signature;
use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm::Crc32IsoHdlc;

const STAMP: usize = 16;
const SLOTS: usize = 61;
const SLOT_STEP: usize = 4099;
/// Blocks of this size are nowhere the same. It is as many bodies that have slots of their own.
const UNIQUE_BYTES: usize = 1 << 20;
/// Numbers of one client's bodies have those of others above these bits; bodies of a client that have slots of their own.
const CLIENT_BITS: u32 = 40;
const OF_CLIENT: u64 = 1 << 14;
/// Bytes of a frame that is signed.
const SIGNED_FRAME: usize = 64 << 10;
/// Bytes of a frame that is not.
const FRAME: usize = 1 << 20;

/// All bodies of one size.
pub(crate) struct Bodies {
    size: usize,
    run: u64,
    /// Whether each body has a slot of its own.
    is_unique: bool,
    pool: Vec<u8>,
    slots: Vec<Hashes>,
}

/// What is known of a slot's hash before the stamp.
struct Hashes {
    whole: Option<Context>,
    /// Of each whole frame but the last, and what the last one begins with.
    frames: Vec<[u8; 32]>,
    last: Option<Context>,
}

/// One body.
pub(crate) struct Body<'a> {
    pub(crate) data: &'a [u8],
    stamp: [u8; STAMP],
    stamped: usize,
    hashes: Option<&'a Hashes>,
}

impl Bodies {
    /// Bodies of `size` bytes that are sent as `payload`.
    pub(crate) fn new(size: usize, run: u64, payload: Payload) -> Self {
        let mut state = (0x9e37_79b9_7f4a_7c15 ^ run) | 1;
        let is_hashed = matches!(payload, Payload::Signed | Payload::Streaming);
        let is_unique = size > UNIQUE_BYTES && !is_hashed;
        let pool_bytes = size
            + if is_unique {
                UNIQUE_BYTES
            } else {
                SLOTS * SLOT_STEP
            };
        let mut pool = Vec::with_capacity(pool_bytes + 8);
        while pool.len() < pool_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pool.extend_from_slice(&state.to_le_bytes());
        }
        let mut bodies = Self {
            size,
            run,
            is_unique,
            pool,
            slots: Vec::new(),
        };
        if is_hashed {
            bodies.slots = (0..bodies.kinds()).map(|n| bodies.hashes(n, payload)).collect();
        }
        bodies
    }

    /// How many slots are in use: few where each is large, for their hashes take their time.
    fn kinds(&self) -> usize {
        SLOTS.min(((64 << 20) / self.size.max(1)).max(1))
    }

    fn data(&self, begins: usize) -> &[u8] {
        &self.pool[begins..][..self.size.saturating_sub(STAMP)]
    }

    /// Where the body of number `n` begins in the pool, if it has a slot of its own.
    fn own_place(n: u64) -> usize {
        let own = (n >> CLIENT_BITS).wrapping_mul(OF_CLIENT).wrapping_add(n);
        // The step is odd: as many numbers in a row have as many places.
        usize::try_from(own % UNIQUE_BYTES as u64).expect("fewer than UNIQUE_BYTES") * SLOT_STEP
            % UNIQUE_BYTES
    }

    fn hashes(&self, slot: usize, payload: Payload) -> Hashes {
        let data = self.data(slot * SLOT_STEP);
        let begun = |bytes: &[u8]| {
            let mut context = Context::new(&SHA256);
            context.update(bytes);
            context
        };
        if payload == Payload::Signed {
            return Hashes {
                whole: Some(begun(data)),
                frames: Vec::new(),
                last: None,
            };
        }
        // The last frame has what is left before the stamp, and the stamp.
        let whole = data.len() / SIGNED_FRAME * SIGNED_FRAME;
        let frames = data[..whole].chunks(SIGNED_FRAME).map(|frame| {
            let hash = begun(frame).finish();
            hash.as_ref().try_into().expect("a SHA-256 has 32 bytes")
        });
        Hashes {
            whole: None,
            frames: frames.collect(),
            last: Some(begun(&data[whole..])),
        }
    }

    /// The body of number `n`.
    pub(crate) fn body(&self, n: u64) -> Body<'_> {
        let slot = usize::try_from(n % self.kinds() as u64).expect("fewer than SLOTS");
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&n.to_le_bytes());
        stamp[8..].copy_from_slice(&self.run.to_le_bytes());
        Body {
            data: self.data(if self.is_unique {
                Self::own_place(n)
            } else {
                slot * SLOT_STEP
            }),
            stamp,
            stamped: self.size.min(STAMP),
            hashes: self.slots.get(slot),
        }
    }
}

impl Body<'_> {
    fn stamp(&self) -> &[u8] {
        &self.stamp[..self.stamped]
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.data.len() + self.stamped
    }

    /// Whether `piece` is what stands at byte `at`.
    pub(crate) fn has(&self, at: usize, piece: &[u8]) -> bool {
        let cut = self.data.len().saturating_sub(at).min(piece.len());
        let (front, back) = piece.split_at(cut);
        let behind = (at + cut) - self.data.len().min(at + cut);
        at + piece.len() <= self.len()
            && (front.is_empty() || front == &self.data[at..at + cut])
            && back == &self.stamp()[behind..behind + back.len()]
    }

    /// What `x-amz-content-sha256` says of it.
    pub(crate) fn sha256(&self, payload: Payload) -> String {
        match payload {
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Streaming => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
            Payload::Trailer => "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
            Payload::Signed => {
                let known = self.hashes.and_then(|h| h.whole.clone());
                hex::encode(self.ended(known.expect("hashes are made for what is signed")))
            }
        }
    }

    fn ended(&self, mut context: Context) -> [u8; 32] {
        context.update(self.stamp());
        context
            .finish()
            .as_ref()
            .try_into()
            .expect("a SHA-256 has 32 bytes")
    }

    fn crc32(&self) -> String {
        let mut digest = crc_fast::Digest::new(Crc32IsoHdlc);
        digest.update(self.data);
        digest.update(self.stamp());
        let crc = u32::try_from(digest.finalize()).expect("a CRC-32");
        STANDARD.encode(crc.to_be_bytes())
    }

    /// The bytes that follow the head.
    pub(crate) fn sent_bytes(&self, payload: Payload) -> usize {
        match payload {
            Payload::Unsigned | Payload::Signed => self.len(),
            Payload::Streaming => {
                // `length;chunk-signature=` and 64 digits and two ends of line, whatever the signature is.
                let frame = |n: usize| format!("{n:x}").len() + ";chunk-signature=".len() + 64 + 4 + n;
                let whole = self.data.len() / SIGNED_FRAME;
                let last = self.len() - whole * SIGNED_FRAME;
                whole * frame(SIGNED_FRAME) + if last > 0 { frame(last) } else { 0 } + frame(0)
            }
            Payload::Trailer => {
                let frame = |n: usize| format!("{n:x}").len() + 4 + n;
                let whole = self.data.len() / FRAME;
                let last = self.len() - whole * FRAME;
                let trailer = "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n".len();
                whole * frame(FRAME) + if last > 0 { frame(last) } else { 0 } + trailer
            }
        }
    }

    /// Hands out all that follows the head, in order.
    pub(crate) fn send<E>(
        &self,
        payload: Payload,
        signer: &mut FrameSigner<'_>,
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let frame_bytes = match payload {
            Payload::Unsigned | Payload::Signed => {
                out(self.data)?;
                return out(self.stamp());
            }
            Payload::Streaming => SIGNED_FRAME,
            Payload::Trailer => FRAME,
        };
        let whole = self.data.len() / frame_bytes * frame_bytes;
        let head = |n: usize, signature: Option<&Signature>| match signature {
            Some(s) => format!("{n:x};chunk-signature={}\r\n", s.as_str()),
            None => format!("{n:x}\r\n"),
        };
        let signed = payload == Payload::Streaming;
        for (n, frame) in self.data[..whole].chunks(frame_bytes).enumerate() {
            let signature = signed.then(|| signer.frame(&self.known().frames[n]));
            out(head(frame.len(), signature).as_bytes())?;
            out(frame)?;
            out(b"\r\n")?;
        }
        let last = &self.data[whole..];
        if last.len() + self.stamped > 0 {
            let signature = signed.then(|| {
                let begun = self.known().last.clone();
                signer.frame(&self.ended(begun.expect("it is made for what is streamed")))
            });
            out(head(last.len() + self.stamped, signature).as_bytes())?;
            out(last)?;
            out(self.stamp())?;
            out(b"\r\n")?;
        }
        if !signed {
            return out(format!("0\r\nx-amz-checksum-crc32:{}\r\n\r\n", self.crc32()).as_bytes());
        }
        let nothing = digest(&SHA256, b"");
        out(head(0, Some(signer.frame(nothing.as_ref()))).as_bytes())?;
        out(b"\r\n")
    }

    fn known(&self) -> &Hashes {
        self.hashes.expect("hashes are made for what is signed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Credentials;
    use crate::sign::{Ask, Signer};

    const SIZES: [usize; 9] = [
        0,
        1,
        15,
        16,
        17,
        SIGNED_FRAME - 1,
        SIGNED_FRAME,
        SIGNED_FRAME + 8,
        2 * FRAME + 9,
    ];

    fn whole(body: &Body<'_>) -> Vec<u8> {
        [body.data, body.stamp()].concat()
    }

    #[test]
    fn what_is_sent_has_the_length_that_was_said() {
        let credentials = Credentials {
            access_key: "a".into(),
            secret_key: "b".into(),
            region: "c".into(),
        };
        let ask = Ask {
            method: "PUT",
            path: "/",
            query: "",
            sha256: "",
            length: 0,
            amz: &[],
            unsigned: "",
        };
        for payload in [
            Payload::Unsigned,
            Payload::Signed,
            Payload::Streaming,
            Payload::Trailer,
        ] {
            for size in SIZES {
                let bodies = Bodies::new(size, 7, payload);
                let body = bodies.body(3);
                let mut signer = Signer::new(&credentials, "d".into());
                let (mut head, mut sent) = (Vec::new(), Vec::new());
                let mut frames = signer.head(&ask, &mut head);
                let all = body.send(payload, &mut frames, |piece| {
                    sent.extend_from_slice(piece);
                    Ok::<_, std::convert::Infallible>(())
                });
                assert!(all.is_ok());
                assert_eq!(sent.len(), body.sent_bytes(payload), "{payload:?} {size}");
                if payload == Payload::Signed {
                    let hash = hex::encode(digest(&SHA256, &whole(&body)));
                    assert_eq!(body.sha256(payload), hash, "{size}");
                }
            }
        }
    }

    // A peer that names blocks by their hash would write such a body without writing it.
    #[test]
    fn long_bodies_have_no_block_twice() {
        let bodies = Bodies::new(3 * UNIQUE_BYTES, 7, Payload::Unsigned);
        let mut seen = std::collections::BTreeSet::new();
        let of_client = |client: u64| (0..40).map(move |n| client << CLIENT_BITS | n);
        let numbers = (0..5).flat_map(of_client);
        for n in numbers.clone() {
            let body = bodies.body(n);
            assert_eq!(body.len(), 3 * UNIQUE_BYTES);
            for block in body.data.chunks_exact(UNIQUE_BYTES) {
                // So much that is random is as good as all of it.
                assert!(seen.insert(block[..32].to_vec()), "{n:x}");
            }
        }
        assert_eq!(seen.len(), 2 * numbers.count());
        let places = (0..1 << 20).map(Bodies::own_place);
        assert_eq!(
            places.collect::<std::collections::BTreeSet<_>>().len(),
            UNIQUE_BYTES
        );
    }

    #[test]
    fn a_body_is_known_again_and_no_other() {
        for size in SIZES {
            let bodies = Bodies::new(size, 7, Payload::Unsigned);
            let (body, bytes) = (bodies.body(5), whole(&bodies.body(5)));
            for step in [1, 7, 4096, 100_000, usize::MAX] {
                let mut at = 0;
                for piece in bytes.chunks(step.min(bytes.len().max(1))).take(300) {
                    assert!(body.has(at, piece), "{size} {at}");
                    at += piece.len();
                }
            }
            assert!(
                !body.has(0, &[&bytes[..], b"x"].concat()),
                "{size}: one byte more"
            );
            for at in [0, size / 2, size.saturating_sub(1)] {
                let mut other = bytes.clone();
                if let Some(byte) = other.get_mut(at) {
                    *byte ^= 1;
                    assert!(!body.has(0, &other), "{size}: byte {at}");
                }
            }
            if size > 0 {
                assert!(!bodies.body(66).has(0, &bytes), "another number");
            }
        }
    }
}
