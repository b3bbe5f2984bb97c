//! Bodies that say what they are: every eight bytes name the operation that sent them and their place in its body.

use crate::op::OpId;
use md5::{Digest as _, Md5};

/// The bytes `start..start + len` of what operation `op` sent.
pub fn bytes(op: OpId, start: u64, len: usize) -> Vec<u8> {
    let first = start / 8;
    let end = (start + len as u64).div_ceil(8);
    let mut out = vec![0; ((end - first) * 8) as usize];
    for (word, place) in (first..end).zip(out.chunks_exact_mut(8)) {
        let mixed = ((u64::from(op) << 40) | (word + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        place.copy_from_slice(&(mixed ^ (mixed >> 40)).to_le_bytes());
    }
    out.drain(..(start % 8) as usize);
    out.truncate(len);
    out
}

/// What a body is made of: one put, or the parts of an upload in order.
pub type Pieces = Vec<(OpId, u64)>;

/// All of it.
pub fn whole(pieces: &[(OpId, u64)]) -> Vec<u8> {
    let pieces = pieces.iter();
    pieces
        .flat_map(|(op, len)| bytes(*op, 0, *len as usize))
        .collect()
}

/// The first byte of `got` that is not the byte of `pieces` at `start` and on.
pub fn first_wrong(pieces: &[(OpId, u64)], start: u64, got: &[u8]) -> Option<u64> {
    let mut begin = 0;
    for (op, len) in pieces {
        let end = begin + len;
        let from = begin.max(start);
        let to = end.min(start + got.len() as u64);
        if from < to {
            let here = &got[(from - start) as usize..(to - start) as usize];
            let want = bytes(*op, from - begin, here.len());
            if here != want {
                let at = here.iter().zip(&want).position(|(a, b)| a != b);
                return Some(from + at.unwrap_or(0) as u64);
            }
        }
        begin = end;
    }
    (start + got.len() as u64 > begin).then_some(begin)
}

/// MD5 of a body.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// MD5 of the MD5s of parts, as S3 makes the ETag of a multipart object.
pub fn md5_of_parts(parts: &[[u8; 16]]) -> [u8; 16] {
    md5(&parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_is_found() {
        let pieces = vec![(3, 1000), (9, 777)];
        let mut body = bytes(3, 0, 1000);
        body.extend(bytes(9, 0, 777));
        assert_eq!(first_wrong(&pieces, 0, &body), None);
        assert_eq!(first_wrong(&pieces, 13, &body[13..1500]), None);
        assert_eq!(first_wrong(&pieces, 990, &body[990..1010]), None);
        body[1003] ^= 1;
        assert_eq!(first_wrong(&pieces, 0, &body), Some(1003));
        assert_eq!(first_wrong(&pieces, 5, &bytes(3, 6, 100)), Some(5), "shifted");
        assert_eq!(first_wrong(&pieces, 0, &bytes(4, 0, 16)), Some(0), "another's");
        assert_eq!(
            first_wrong(&pieces[..1], 990, &bytes(3, 990, 20)),
            Some(1000),
            "too long"
        );
    }
}
