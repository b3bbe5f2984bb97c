//! MD5 of bodies as they pass, those that are under way at the same time together.
//!
//! One body's MD5 is a chain: 0.7 to 0.9 GB/s of a core, and most of what a large put costs. So frames of large bodies go to [`Lanes`],
//! one thread that hashes whatever waits in the lanes of vector registers ([`kernel`]), where they stand in memory until they are
//! written. Small bodies, and small frames, are hashed where they are, at once: they wait for nobody.
//!
//! Invariants: every byte is taken once, in order; a body has at most one frame with the lanes.

mod kernel;
mod lanes;

pub(crate) use lanes::Lanes;

use bytes::Bytes;
use kernel::{BLOCK, State, single};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The MD5 of one body under way.
pub(crate) struct Md5 {
    chain: Chain,
    /// What no block is whole of yet: the first `length % BLOCK` of these.
    rest: [u8; BLOCK],
    length: u64,
    lanes: Option<Arc<Lanes>>,
}

/// Where the state after the last whole block is.
enum Chain {
    Here(State),
    /// The lanes have it, and a frame.
    Away(oneshot::Receiver<State>),
}

/// The lanes have ended before the body: the process is stopping.
#[derive(Debug)]
pub(crate) struct Ended;

impl Md5 {
    /// Of a body that goes through `lanes`, or is hashed here alone.
    pub(crate) fn new(lanes: Option<Arc<Lanes>>) -> Self {
        Self {
            chain: Chain::Here(md5_simd::STATE_INIT),
            rest: [0; BLOCK],
            length: 0,
            lanes,
        }
    }

    /// How many bytes it has taken.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes here and now.
    pub(crate) async fn update(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let mut state = self.caught_up().await?;
        let whole = self.cut(&mut state, bytes);
        single(&mut state, &bytes[whole]);
        self.chain = Chain::Here(state);
        Ok(())
    }

    /// Takes the next bytes, which stay where they are until they are hashed. Waits for those before.
    pub(crate) async fn frame(&mut self, frame: &Bytes) -> Result<(), Ended> {
        let Some(lanes) = self.lanes.clone().filter(|lanes| lanes.takes(frame.len())) else {
            return self.update(frame).await;
        };
        let mut state = self.caught_up().await?;
        let whole = self.cut(&mut state, frame);
        self.chain = Chain::Away(lanes.submit(state, frame.slice(whole)));
        Ok(())
    }

    /// The digest of all.
    pub(crate) async fn finish(mut self) -> Result<[u8; 16], Ended> {
        let mut state = self.caught_up().await?;
        let bits = self.length.wrapping_mul(8).to_le_bytes();
        let mut end = [0; 2 * BLOCK];
        let rest = self.rest_len();
        end[..rest].copy_from_slice(&self.rest[..rest]);
        end[rest] = 0x80;
        let blocks = (rest + 1 + bits.len()).div_ceil(BLOCK);
        end[blocks * BLOCK - bits.len()..blocks * BLOCK].copy_from_slice(&bits);
        single(&mut state, &end[..blocks * BLOCK]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Ok(digest)
    }

    /// Waits for what the lanes have.
    async fn caught_up(&mut self) -> Result<State, Ended> {
        let state = match &mut self.chain {
            Chain::Here(state) => *state,
            Chain::Away(state) => state.await.map_err(|_dropped| Ended)?,
        };
        self.chain = Chain::Here(state);
        Ok(state)
    }

    fn rest_len(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Takes of `bytes` what completes the block that was begun, and what begins the next one; which are the whole blocks between.
    fn cut(&mut self, state: &mut State, bytes: &[u8]) -> std::ops::Range<usize> {
        let rest = self.rest_len();
        self.length += bytes.len() as u64;
        let head = if rest == 0 {
            0
        } else {
            (BLOCK - rest).min(bytes.len())
        };
        self.rest[rest..rest + head].copy_from_slice(&bytes[..head]);
        if rest + head == BLOCK {
            single(state, &self.rest);
        }
        let end = bytes.len() - (bytes.len() - head) % BLOCK;
        let tail = &bytes[end..];
        self.rest[..tail.len()].copy_from_slice(tail);
        head..end
    }
}

#[cfg(test)]
mod tests;
