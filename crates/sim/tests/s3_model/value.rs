//! Bytes that clients store, with what S3 says of them.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use sim::SimRng;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The smallest part that may stand before another one: 5 MiB, as S3's documentation has it.
pub(crate) const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// The highest number of a part.
pub(crate) const PART_NUMBER_MAX: u32 = 10_000;

/// Bytes and their digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub bytes: Bytes,
    pub md5: [u8; 16],
}

pub(crate) fn md5_of(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// CRC-64/NVME, the checksum that S3 gives objects that came without one.
pub(crate) fn crc64_of(bytes: &[u8]) -> [u8; 8] {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes).to_be_bytes()
}

impl Value {
    pub(crate) fn of(bytes: Bytes) -> Self {
        let md5 = md5_of(&bytes);
        Self { bytes, md5 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Most are small, some are empty, a few go past what rides in a commit, and past what goes whole through a journal.
    pub(crate) fn draw(dice: &SimRng) -> Self {
        let size = match dice.weighted(&[8, 45, 28, 12, 6, 1]) {
            0 => 0,
            1 => dice.between(1, 20),
            2 => dice.between(21, 512),
            3 => dice.between(513, 700),
            4 => dice.between(701, 6000),
            _ => dice.between(65_000, 140_000),
        };
        Self::of_size(dice, size)
    }

    pub(crate) fn of_size(dice: &SimRng, size: u64) -> Self {
        let mut x = dice.draw() | 1;
        let mut all = Vec::with_capacity(size as usize + 8);
        while (all.len() as u64) < size {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            all.extend_from_slice(&x.to_le_bytes());
        }
        all.truncate(size as usize);
        Self::of(all.into())
    }

    /// One of few that may be a part before others; made once a thread, since an MD5 of so many bytes takes long.
    pub(crate) fn large(dice: &SimRng) -> Self {
        thread_local! {
            static MADE: RefCell<BTreeMap<u64, Value>> = const { RefCell::new(BTreeMap::new()) };
        }
        let which = dice.below(2);
        MADE.with_borrow_mut(|made| {
            let size = PART_BYTES_MIN + which * 77;
            let make = || Self::of_size(&SimRng::new(which), size);
            made.entry(which).or_insert_with(make).clone()
        })
    }
}
