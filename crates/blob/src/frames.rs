//! Cuts a source's pieces into frames, with the crc32c of each block computed from the piece as it enters.

use crate::memory::{Hold, Memory};
use crate::{PutError, Source};
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use std::sync::LazyLock;
use types::limits::BLOCK_BYTES;
use wire::node::Checked;
use world::held;

/// The crc32c of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The crc32c of all bytes from those of their blocks; `length` bytes, all blocks full but the last.
pub(crate) fn combine(before: u32, crcs: &[u32], length: usize) -> u32 {
    let mut all = before;
    let mut left = length;
    for &crc in crcs {
        let block = left.min(BLOCK_BYTES);
        all = join(all, crc, block as u64);
        left -= block;
    }
    all
}

fn join(a: u32, b: u32, b_bytes: u64) -> u32 {
    shifted(a, b_bytes) ^ b
}

/// What the crc `a` of some bytes adds to that of the same and `bytes` more. It is linear in `a`: nothing stays nothing, which is all that a
/// body of one block asks, and for whole blocks the work is done once for each value that one byte of it can have.
fn shifted(a: u32, bytes: u64) -> u32 {
    match (a, bytes) {
        (0, _) => 0,
        (_, WHOLE_BLOCK) => {
            let bytes = a.to_le_bytes().into_iter().zip(&*PAST_A_BLOCK);
            bytes.fold(0, |all, (byte, part)| all ^ part[usize::from(byte)])
        }
        _ => shift(a, bytes),
    }
}

const WHOLE_BLOCK: u64 = BLOCK_BYTES as u64;

/// For each byte of a crc, and each value of it, what it comes to a whole block later.
static PAST_A_BLOCK: LazyLock<[[u32; 256]; 4]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let bits: [u32; 8] = std::array::from_fn(|bit| shift(1 << (8 * byte + bit), WHOLE_BLOCK));
        let mut parts = [0; 256];
        for value in 1..256_usize {
            let lowest = value.trailing_zeros() as usize;
            parts[value] = parts[value & (value - 1)] ^ bits[lowest];
        }
        parts
    })
});

fn shift(a: u32, bytes: u64) -> u32 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, u64::from(a), 0, bytes) as u32
}

/// A frame, in memory that goes with its bytes.
pub(crate) struct Frame {
    pub(crate) checked: Checked,
    /// Whether it may be kept once it is written. One in a slot may not: the next but one could wait for that for ever.
    pub(crate) keeps: bool,
}

/// Memory for the next frame.
pub(crate) struct Room {
    bytes: usize,
    hold: Hold,
}

/// Frames of one blob, in order. The last one is given only once the source has said that it was the last.
pub(crate) struct Frames<'a, S> {
    source: &'a mut S,
    memory: Memory,
    /// How many bytes the blob has.
    length: u64,
    /// How many of them have been given in frames.
    given: u64,
    /// What a frame left of the last piece.
    piece: Bytes,
    /// Whether more bytes follow those of `length`.
    goes_on: bool,
}

impl<'a, S: Source> Frames<'a, S> {
    pub(crate) fn new(source: &'a mut S, length: u64, memory: Memory) -> Self {
        Self {
            source,
            memory,
            length,
            given: 0,
            piece: Bytes::new(),
            goes_on: false,
        }
    }

    /// Frames of the first `length` bytes of a blob that goes on after them, as [`Self::go_on`] will tell.
    pub(crate) fn beginning(source: &'a mut S, length: u64, memory: Memory) -> Self {
        Self {
            goes_on: true,
            ..Self::new(source, length, memory)
        }
    }

    /// Reads what is left of the source, at most `bytes_max`, once all before it has been given.
    pub(crate) async fn go_on(&mut self, bytes_max: usize) -> Result<(), PutError<S::Error>> {
        assert!(self.left() == 0, "a blob goes on where its beginning ended");
        let mut rest = BytesMut::from(&std::mem::take(&mut self.piece)[..]);
        while let Some(piece) = self.source.next().await.map_err(PutError::Source)? {
            if rest.len() + piece.len() > bytes_max {
                let given = self.given + (rest.len() + piece.len()) as u64;
                let said = self.given + bytes_max as u64;
                return Err(PutError::Length { said, given });
            }
            rest.extend_from_slice(&piece);
        }
        self.length += rest.len() as u64;
        self.piece = rest.freeze();
        self.goes_on = false;
        Ok(())
    }

    /// How many bytes the blob has, as far as is known.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether the next `length` bytes are its last.
    pub(crate) fn ends_with(&self, length: u64) -> bool {
        length == self.left() && !self.goes_on
    }

    /// Whether they come from our own disks.
    pub(crate) fn are_ours(&self) -> bool {
        self.source.is_ours()
    }

    /// Bytes not yet given in frames.
    pub(crate) fn left(&self) -> u64 {
        self.length - self.given
    }

    /// Bytes given in frames so far.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// The next `wanted` bytes, at most [`Self::left`]; fewer, whole blocks, where memory is short. They are to be shown.
    pub(crate) async fn next(&mut self, wanted: usize) -> Result<Frame, PutError<S::Error>> {
        self.come().await?;
        let room = self.room(wanted).await;
        self.fill(room).await
    }

    /// Shows the source a frame of its bytes. It waits for the process alone, so nothing bounds it: a frame that was given is had once, and
    /// one that is dropped here would be missing from the blob.
    pub(crate) async fn show(&mut self, frame: &Frame) -> Result<(), PutError<S::Error>> {
        let shown = self.source.frame(&frame.checked.bytes).await;
        shown.map_err(PutError::Source)
    }

    /// Waits for the source alone, until the first of the next bytes has come. Memory for them is looked for only then: who sends nothing
    /// has none.
    pub(crate) async fn come(&mut self) -> Result<(), PutError<S::Error>> {
        while self.piece.is_empty() {
            match self.source.next().await.map_err(PutError::Source)? {
                Some(piece) => self.piece = piece,
                None => {
                    return Err(PutError::Length {
                        said: self.length,
                        given: self.given,
                    });
                }
            }
        }
        Ok(())
    }

    /// Memory for the next `wanted` bytes, or for as many as there is some for. Where that is only what the frames before are in, it
    /// waits for the disk that these are written to.
    pub(crate) async fn room(&mut self, wanted: usize) -> Room {
        assert!(
            wanted > 0 && wanted as u64 <= self.left(),
            "frames end with the blob"
        );
        let slot = self.memory.slot_bytes();
        let more = if wanted > slot {
            self.memory.more(wanted)
        } else {
            None
        };
        let (bytes, hold) = match more {
            Some(more) => more,
            None => (wanted.min(slot), self.memory.slot().await),
        };
        Room { bytes, hold }
    }

    /// The next bytes, as many as there is room for. Waits for the source alone.
    pub(crate) async fn fill(&mut self, room: Room) -> Result<Frame, PutError<S::Error>> {
        let Room { bytes, hold } = room;
        let keeps = matches!(hold, Hold::More(_)) || bytes as u64 == self.length;
        let Checked { bytes: all, crcs } = if self.piece.len() >= bytes {
            whole(self.piece.split_to(bytes))
        } else {
            self.gather(bytes).await?
        };
        let frame = Frame {
            checked: Checked {
                bytes: held(all, hold),
                crcs,
            },
            keeps,
        };
        self.given += bytes as u64;
        if self.left() == 0 && !self.goes_on {
            self.end().await?;
        }
        Ok(frame)
    }

    /// Copies pieces together until there are `bytes` bytes.
    async fn gather(&mut self, bytes: usize) -> Result<Checked, PutError<S::Error>> {
        let mut frame = BytesMut::with_capacity(bytes);
        let mut crcs = Vec::with_capacity(bytes.div_ceil(BLOCK_BYTES));
        let mut block = Digest::new(CrcAlgorithm::Crc32Iscsi);
        while frame.len() < bytes {
            self.come().await?;
            let to_block_end = BLOCK_BYTES - frame.len() % BLOCK_BYTES;
            let part = self
                .piece
                .split_to(self.piece.len().min(bytes - frame.len()).min(to_block_end));
            block.update(&part);
            frame.extend_from_slice(&part);
            if frame.len().is_multiple_of(BLOCK_BYTES) || frame.len() == bytes {
                crcs.push(block.finalize_reset() as u32);
            }
        }
        Ok(Checked {
            bytes: frame.freeze(),
            crcs,
        })
    }

    /// Makes sure that nothing follows.
    pub(crate) async fn end(&mut self) -> Result<(), PutError<S::Error>> {
        let more = if self.piece.is_empty() {
            self.source
                .next()
                .await
                .map_err(PutError::Source)?
                .map_or(0, |p| p.len())
        } else {
            self.piece.len()
        };
        if more > 0 {
            return Err(PutError::Length {
                said: self.length,
                given: self.length + more as u64,
            });
        }
        Ok(())
    }
}

/// A frame that came in one piece: nothing is copied.
fn whole(bytes: Bytes) -> Checked {
    let crcs = bytes.chunks(BLOCK_BYTES).map(crc32c).collect();
    Checked { bytes, crcs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_together_have_the_crc_of_all_bytes() {
        let all: Vec<u8> = (0..5 * BLOCK_BYTES + 77)
            .map(|i| (i * 31 + (i >> 8)) as u8)
            .collect();
        for length in [
            0,
            1,
            4096,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES,
            all.len(),
        ] {
            let bytes = &all[..length];
            let crcs = whole(Bytes::copy_from_slice(bytes)).crcs;
            assert_eq!(combine(0, &crcs, length), crc32c(bytes), "{length} bytes");
            // In two frames: the first is whole blocks.
            let first = length / 2 / BLOCK_BYTES * BLOCK_BYTES;
            let (some, rest) = crcs.split_at(first / BLOCK_BYTES);
            let before = combine(0, some, first);
            assert_eq!(
                combine(before, rest, length - first),
                crc32c(bytes),
                "{length} bytes"
            );
        }
        for a in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
            for b_bytes in [1, 4096, BLOCK_BYTES as u64, 2 * BLOCK_BYTES as u64] {
                let known = crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, a.into(), 7, b_bytes);
                assert_eq!(u64::from(join(a, 7, b_bytes)), known, "{a:x} and {b_bytes} bytes");
            }
        }
    }
}
