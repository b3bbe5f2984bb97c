//! Objects out of needles: which chunks are one blob, which blobs one object, which object is a key's newest. Pure.
//!
//! ```text
//!   chunk 0, 1, .. n (last)      of one blob, without a gap          ──▶ a body
//!   body of part 1, 2, ..        sent in one upload, newest of each  ──▶ an object of parts, under the upload's id
//!   body, and appended to it 2.. "upload" is the first blob's id     ──▶ an object that was appended to
//!   of a key's objects           the one whose last needle is newest ──▶ what the key names
//! ```

use std::collections::BTreeMap;
use types::{BlobId, ExtentId, Generation, Hlc, NeedleId};
use wire::node::{NeedleHead, Walked};
use wire::records::Chunk;

/// Upload ids begin with a time, blob ids with the number of a session (docs/formats/ids.md).
const SESSIONS_BELOW: u128 = 1 << 40;

/// The upload's id (or first blob of what was appended to) and the part's number.
type PartOf = Option<(u128, u32)>;

/// A whole needle of a key, as much of it as matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    blob: BlobId,
    part: PartOf,
    ordinal: u32,
    from: u64,
    is_last: bool,
    time: Hlc,
    /// As a record names it.
    chunk: Chunk,
}

impl Piece {
    /// Of a needle that was walked and is whole.
    pub fn of(extent: ExtentId, generation: Generation, walked: &Walked, head: &NeedleHead) -> Option<Self> {
        let NeedleId(needle) = walked.needle;
        Some(Self {
            blob: head.blob,
            part: head.owner.upload.map(|(upload, part)| (upload.0, part)),
            ordinal: head.ordinal,
            from: head.logical_offset,
            is_last: head.last,
            time: Hlc(head.append_hlc),
            chunk: Chunk {
                place: extent.0,
                coded: false,
                needle,
                stored_length: walked.stored_length,
                length: head.length,
                crc32c: walked.crc32c.filter(|_| walked.damage.is_none())?,
                hint_generation: generation.0,
                hint_offset: walked.offset,
            },
        })
    }
}

/// A blob that is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Its part's number; 0: it is no part.
    pub number: u32,
    /// In order.
    pub chunks: Vec<Chunk>,
    blob: BlobId,
    time: Hlc,
}

/// An object that could be named.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What its record is to name: the first blob, or the upload.
    pub blob: BlobId,
    /// When its last needle was written.
    pub time: Hlc,
    /// One body, or its parts in order.
    pub bodies: Vec<Body>,
    /// It was sent in an upload, of which nothing says that it was completed, and with which parts.
    pub of_upload: bool,
    /// It was appended to.
    pub appended: bool,
}

/// What a key's needles come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// Objects, the newest first.
    pub candidates: Vec<Candidate>,
    /// What is not whole, and why, in a sentence each.
    pub broken: Vec<String>,
}

/// Joins all whole needles of one key.
pub fn join(pieces: Vec<Piece>) -> Joined {
    let mut joined = Joined::default();
    let mut blobs: BTreeMap<(PartOf, BlobId), BTreeMap<u32, Piece>> = BTreeMap::new();
    for piece in pieces {
        let chunks = blobs.entry((piece.part, piece.blob)).or_default();
        // A chunk that was sent again is there twice, with the same bytes.
        let known = chunks.get(&piece.ordinal);
        if known.is_none_or(|known| known.time < piece.time) {
            chunks.insert(piece.ordinal, piece);
        }
    }
    let mut plain: BTreeMap<BlobId, Body> = BTreeMap::new();
    let mut uploads: BTreeMap<u128, BTreeMap<u32, Body>> = BTreeMap::new();
    for ((part, blob), chunks) in blobs {
        match (body(blob, part.map_or(0, |(_, number)| number), chunks), part) {
            (Err(why), _) => joined.broken.push(why),
            (Ok(body), None) => drop(plain.insert(blob, body)),
            (Ok(body), Some((upload, number))) => {
                let parts = uploads.entry(upload).or_default();
                if parts.get(&number).is_none_or(|known| known.time < body.time) {
                    parts.insert(number, body);
                }
            }
        }
    }
    for (upload, parts) in uploads {
        let of_upload = upload >> 64 >= SESSIONS_BELOW;
        let mut bodies: Vec<Body> = parts.into_values().collect();
        if !of_upload {
            let Some(mut first) = plain.remove(&BlobId(upload)) else {
                joined.broken.push(format!(
                    "{} appended pieces of blob {}, which is not whole",
                    bodies.len(),
                    BlobId(upload)
                ));
                continue;
            };
            first.number = 1;
            bodies.insert(0, first);
        }
        joined
            .candidates
            .push(candidate(BlobId(upload), bodies, of_upload));
    }
    let plain = plain
        .into_iter()
        .map(|(blob, body)| candidate(blob, vec![body], false));
    joined.candidates.extend(plain);
    joined
        .candidates
        .sort_by_key(|candidate| std::cmp::Reverse((candidate.time, candidate.blob)));
    joined
}

fn candidate(blob: BlobId, bodies: Vec<Body>, of_upload: bool) -> Candidate {
    Candidate {
        blob,
        time: bodies.iter().map(|body| body.time).max().unwrap_or_default(),
        appended: !of_upload && bodies.len() > 1,
        bodies,
        of_upload,
    }
}

/// A blob of its chunks, or why they are not all of it.
fn body(blob: BlobId, number: u32, chunks: BTreeMap<u32, Piece>) -> Result<Body, String> {
    let count = chunks.len();
    let of_part = match number {
        0 => String::new(),
        part => format!(" (part {part})"),
    };
    let (mut at, mut time, mut ended) = (0, Hlc(0), false);
    for (n, (ordinal, piece)) in (0..).zip(&chunks) {
        if *ordinal != n || piece.from != at || ended {
            return Err(format!(
                "blob {blob}{of_part}: chunk {n} of at least {count} is not there"
            ));
        }
        at += piece.chunk.length;
        time = time.max(piece.time);
        ended = piece.is_last;
    }
    if !ended {
        return Err(format!(
            "blob {blob}{of_part}: what follows its first {count} chunks is not there"
        ));
    }
    Ok(Body {
        number,
        chunks: chunks.into_values().map(|piece| piece.chunk).collect(),
        blob,
        time,
    })
}

impl Body {
    /// Whose bytes its needles say they are.
    pub fn blob(&self) -> BlobId {
        self.blob
    }

    /// How many bytes.
    pub fn size(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.length).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BucketId, SessionId, UploadId};
    use wire::node::OwnerRef;

    /// A chunk of ten bytes.
    struct Chunked {
        blob: u128,
        part: Option<(u128, u32)>,
        ordinal: u32,
        last: bool,
        time: u64,
    }

    const UPLOAD: u128 = 1 << 110;

    fn piece(needle: u64, c: &Chunked) -> Piece {
        let head = NeedleHead {
            blob: BlobId(c.blob),
            owner: OwnerRef {
                bucket: BucketId(1),
                key: "k".into(),
                upload: c.part.map(|(upload, number)| (UploadId(upload), number)),
            },
            ordinal: c.ordinal,
            logical_offset: 10 * u64::from(c.ordinal),
            last: c.last,
            length: 10,
            append_hlc: c.time,
            session: SessionId(1),
        };
        let walked = Walked {
            needle: NeedleId(needle),
            offset: 100 * needle,
            stored_length: 100,
            head: Some(head.clone()),
            crc32c: Some(5),
            damage: None,
        };
        Piece::of(ExtentId(7), Generation(0), &walked, &head).unwrap()
    }

    /// Blob, part (upload and number), ordinal, whether it is the last, time.
    type Chunk = (u128, Option<(u128, u32)>, u32, bool, u64);

    fn joined(chunks: &[Chunk]) -> Joined {
        let pieces = (1..)
            .zip(chunks)
            .map(|(needle, &(blob, part, ordinal, last, time))| {
                let chunk = Chunked {
                    blob,
                    part,
                    ordinal,
                    last,
                    time,
                };
                piece(needle, &chunk)
            });
        join(pieces.collect())
    }

    fn needles(candidate: &Candidate) -> Vec<u64> {
        let chunks = candidate.bodies.iter().flat_map(|body| &body.chunks);
        chunks.map(|chunk| chunk.needle).collect()
    }

    #[test]
    fn chunks_are_joined_in_order_and_the_newest_object_is_first() {
        let found = joined(&[
            (1, None, 1, true, 4),
            (1, None, 0, false, 3),
            (2, None, 0, true, 9),
            (3, None, 0, true, 2),
        ]);
        let all: Vec<_> = found.candidates.iter().map(needles).collect();
        assert_eq!(all, [vec![3], vec![2, 1], vec![4]]);
        assert_eq!(found.candidates[1].time, Hlc(4));
        assert!(found.broken.is_empty() && !found.candidates[0].of_upload);
    }

    #[test]
    fn what_has_a_gap_or_no_end_is_told_and_not_joined() {
        for gap in [
            &[(1, None, 0, false, 1), (1, None, 2, true, 1)][..],
            &[(1, None, 1, true, 1)],
            &[(1, None, 0, false, 1)],
            &[(1, None, 0, true, 1), (1, None, 1, true, 1)],
        ] {
            let found = joined(gap);
            assert_eq!((found.candidates.len(), found.broken.len()), (0, 1), "{found:?}");
        }
    }

    #[test]
    fn a_chunk_that_was_sent_again_counts_once() {
        let found = joined(&[
            (1, None, 0, false, 1),
            (1, None, 0, false, 2),
            (1, None, 1, true, 3),
        ]);
        assert_eq!(needles(&found.candidates[0]), [2, 3]);
    }

    #[test]
    fn parts_are_joined_by_number_and_of_each_the_newest_whole_one() {
        let part = |number| Some((UPLOAD, number));
        let found = joined(&[
            (5, part(4), 0, true, 1),
            (6, part(2), 0, true, 1),
            // Sent again, and once more without its end.
            (7, part(2), 0, true, 8),
            (8, part(2), 0, false, 9),
        ]);
        assert_eq!(found.candidates.len(), 1);
        assert_eq!(needles(&found.candidates[0]), [3, 1]);
        let numbers: Vec<u32> = found.candidates[0].bodies.iter().map(|b| b.number).collect();
        assert_eq!(numbers, [2, 4]);
        assert!(found.candidates[0].of_upload && found.candidates[0].blob == BlobId(UPLOAD));
        assert_eq!(found.broken.len(), 1);
    }

    #[test]
    fn what_was_appended_stands_behind_its_first_blob() {
        let first = 3u128 << 64 | 1;
        let appended = |number| Some((first, number));
        let found = joined(&[
            (first, None, 0, true, 1),
            (3 << 64 | 9, appended(3), 0, true, 7),
            (3 << 64 | 8, appended(2), 0, true, 5),
        ]);
        assert_eq!(found.candidates.len(), 1);
        let one = &found.candidates[0];
        assert_eq!(needles(one), [1, 3, 2]);
        assert!(one.appended && !one.of_upload && one.blob == BlobId(first) && one.time == Hlc(7));
        let lost = joined(&[(3 << 64 | 8, appended(2), 0, true, 5)]);
        assert!(lost.candidates.is_empty() && lost.broken.len() == 1);
    }
}
