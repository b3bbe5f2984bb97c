//! A body that is the object's bytes as they are.

use super::BodyRefusal;
use auth::PayloadMode;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

/// Counts the bytes, and hashes them where the head gave their SHA-256.
pub(super) struct Plain {
    /// `None`: the connection alone tells the end.
    length: Option<u64>,
    provided: u64,
    sha256: Option<(auth::ContentSha256, Context)>,
}

impl Plain {
    pub(super) fn new(mode: PayloadMode, length: Option<u64>) -> Self {
        let sha256 = match mode {
            PayloadMode::Sha256(claimed) => Some((claimed, Context::new(&SHA256))),
            _ => None,
        };
        Self {
            length,
            provided: 0,
            sha256,
        }
    }

    /// Takes note of a piece.
    pub(super) fn piece(&mut self, piece: &Bytes) -> Result<(), BodyRefusal> {
        let provided = self.provided.saturating_add(piece.len() as u64);
        if self.length.is_some_and(|length| provided > length) {
            return Err(self.incomplete(provided));
        }
        self.provided = provided;
        if let Some((_, hash)) = &mut self.sha256 {
            hash.update(piece);
        }
        Ok(())
    }

    /// Says that no more will come.
    pub(super) fn finish(&mut self) -> Result<(), BodyRefusal> {
        if self.length.is_some_and(|length| self.provided < length) {
            return Err(self.incomplete(self.provided));
        }
        if let Some((claimed, hash)) = self.sha256.take() {
            let computed = hash.finish();
            if computed.as_ref() != claimed {
                return Err(BodyRefusal::XAmzContentSHA256Mismatch {
                    client: hex::encode(claimed),
                    server: hex::encode(computed),
                });
            }
        }
        Ok(())
    }

    /// That the body did not have the bytes it said; it had `provided`.
    pub(super) fn incomplete(&self, provided: u64) -> BodyRefusal {
        BodyRefusal::IncompleteBody {
            expected: self.length.unwrap_or(provided),
            provided,
        }
    }

    /// Bytes handed on so far.
    pub(super) fn provided(&self) -> u64 {
        self.provided
    }
}
