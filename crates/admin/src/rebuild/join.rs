//! Objects out of needles: which chunks are one blob, which blobs one object, which object is a key's newest. Pure.
//!
//! ```text
//!   chunk 0, 1, .. n (last)      of one blob, without a gap          ──▶ a body
//!   body of part 1, 2, ..        sent in one upload, newest of each  ──▶ an object of parts, under the upload's id
//!   body, and appended to it 2.. "upload" is the first blob's id     ──▶ an object that was appended to
//!   appended to parts            numbered above all that parts have  ──▶ an object of parts that was appended to
//!   of a key's objects           the one whose last needle is newest ──▶ what the key names
//! ```
//! A needle whose bytes are bad, and whose header is not, is there all the same: what it is a piece of is not whole. It never is that the
//! rest of it becomes an object. A body that has no end, with nothing bad in it, was never answered: it counts as not sent.

use super::{choose, parts};
use std::collections::BTreeMap;
use types::{BlobId, ExtentId, Generation, Hlc, NeedleId, SessionId};
use wire::node::{NeedleHead, Walked};
use wire::records::Chunk;

/// The upload's id (or first blob of what was appended to) and the part's number.
type PartOf = Option<(u128, u32)>;

/// When it was written: the session comes first, whatever the clock was set to.
pub(super) type Written = (SessionId, Hlc);

/// A needle of a key, as much of it as matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    blob: BlobId,
    part: PartOf,
    ordinal: u32,
    from: u64,
    is_last: bool,
    written: Written,
    length: u64,
    /// As a record names it; `None`: its bytes are bad.
    chunk: Option<Chunk>,
}

impl Piece {
    /// Of a needle that was walked.
    pub fn of(extent: ExtentId, generation: Generation, walked: &Walked, head: &NeedleHead) -> Self {
        let NeedleId(needle) = walked.needle;
        let whole = walked.crc32c.filter(|_| walked.damage.is_none());
        Self {
            blob: head.blob,
            part: head.owner.upload.map(|(upload, part)| (upload.0, part)),
            ordinal: head.ordinal,
            from: head.logical_offset,
            is_last: head.last,
            written: (head.session, Hlc(head.append_hlc)),
            length: head.length,
            chunk: whole.map(|crc32c| Chunk {
                place: extent.0,
                coded: false,
                needle,
                stored_length: walked.stored_length,
                length: head.length,
                crc32c,
                hint_generation: generation.0,
                hint_offset: walked.offset,
            }),
        }
    }
}

/// A blob that is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Its part's number; 0: it is no part.
    pub number: u32,
    /// In order.
    pub chunks: Vec<Chunk>,
    /// It was appended.
    pub appended: bool,
    pub(super) blob: BlobId,
    pub(super) written: Written,
}

/// A blob that is not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Torn {
    pub(super) written: Written,
    /// It may have been whole once; else its end was never written.
    pub(super) damaged: bool,
    pub(super) why: String,
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
    pub(super) written: Written,
}

/// What is not whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// In a sentence.
    pub why: String,
    /// It may have been the object once; else it was never sent to its end.
    pub(super) was_whole: bool,
    pub(super) of_upload: bool,
    pub(super) written: Written,
}

/// What a key's needles come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// Objects, the newest first.
    pub candidates: Vec<Candidate>,
    /// What is not whole.
    pub broken: Vec<Broken>,
}

/// A part's number, and what its needles come to.
type Sent = (u32, Result<Body, Torn>);

/// Joins all needles of one key. `strays`: there are needles of which it is not known whose they are, so what is not there may be one of them.
pub fn join(pieces: Vec<Piece>, strays: bool) -> Joined {
    let mut joined = Joined::default();
    let mut plain: BTreeMap<BlobId, Body> = BTreeMap::new();
    let mut uploads: BTreeMap<u128, Vec<Sent>> = BTreeMap::new();
    for ((part, blob), chunks) in blobs(pieces) {
        let number = part.map_or(0, |(_, number)| number);
        let body = body(blob, number, chunks, strays);
        if let Err(torn) = &body {
            joined.broken.push(Broken {
                why: torn.why.clone(),
                // Of what was sent in more than one body the whole is looked at below.
                was_whole: torn.damaged && part.is_none(),
                of_upload: false,
                written: torn.written,
            });
        }
        match (body, part) {
            (body, Some((upload, number))) => uploads.entry(upload).or_default().push((number, body)),
            (Ok(body), None) => drop(plain.insert(blob, body)),
            (Err(_), None) => {}
        }
    }
    for (upload, sent) in uploads {
        let upload = BlobId(upload);
        let written = sent
            .iter()
            .map(|(_, body)| parts::written(body))
            .max()
            .unwrap_or_default();
        let of_upload = upload.is_upload();
        let object = match of_upload {
            true => parts::uploaded(upload, sent, strays),
            false => parts::appended(upload, plain.remove(&upload), sent, strays),
        };
        match object {
            Ok(Some(object)) => match choose::short_part(&object) {
                None => joined.candidates.push(object),
                Some(number) => joined.broken.push(Broken {
                    why: format!(
                        "upload {upload}: part {number} is too short for one before the last, so it was not completed with all parts that are there"
                    ),
                    was_whole: false,
                    of_upload,
                    written,
                }),
            },
            Ok(None) => {}
            Err(why) => joined.broken.push(Broken {
                why,
                was_whole: true,
                of_upload,
                written,
            }),
        }
    }
    let plain = plain.into_iter().map(|(blob, body)| Candidate {
        blob,
        time: body.written.1,
        written: body.written,
        bodies: vec![body],
        of_upload: false,
        appended: false,
    });
    joined.candidates.extend(plain);
    joined
        .candidates
        .sort_by_key(|candidate| std::cmp::Reverse((candidate.written, candidate.blob)));
    joined
}

/// Chunks by their ordinals, of each blob.
fn blobs(pieces: Vec<Piece>) -> BTreeMap<(PartOf, BlobId), BTreeMap<u32, Piece>> {
    let mut blobs: BTreeMap<(PartOf, BlobId), BTreeMap<u32, Piece>> = BTreeMap::new();
    for piece in pieces {
        let chunks = blobs.entry((piece.part, piece.blob)).or_default();
        // A chunk that was sent again is there twice, with the same bytes.
        let worth = |piece: &Piece| (piece.chunk.is_some(), piece.written);
        let known = chunks.get(&piece.ordinal);
        if known.is_none_or(|known| worth(known) < worth(&piece)) {
            chunks.insert(piece.ordinal, piece);
        }
    }
    blobs
}

/// A blob of its chunks, or why they are not all of it.
fn body(blob: BlobId, number: u32, chunks: BTreeMap<u32, Piece>, strays: bool) -> Result<Body, Torn> {
    let count = chunks.len();
    let of_part = match number {
        0 => String::new(),
        part => format!(" (part {part})"),
    };
    let written = chunks
        .values()
        .map(|piece| piece.written)
        .max()
        .unwrap_or_default();
    let bad = chunks.values().any(|piece| piece.chunk.is_none());
    let torn = |what: String| Torn {
        written,
        damaged: bad || strays,
        why: format!("blob {blob}{of_part}: {what}"),
    };
    let (mut at, mut ended) = (0, false);
    let mut named = Vec::with_capacity(count);
    for (n, (ordinal, piece)) in (0..).zip(chunks) {
        if ordinal != n || piece.from != at || ended {
            return Err(torn(format!("chunk {n} of at least {count} is not there")));
        }
        at += piece.length;
        ended = piece.is_last;
        let chunk = piece
            .chunk
            .ok_or_else(|| torn(format!("chunk {n} of at least {count} is damaged")))?;
        named.push(chunk);
    }
    if !ended {
        return Err(torn(format!(
            "what follows its first {count} chunks is not there"
        )));
    }
    Ok(Body {
        number,
        chunks: named,
        appended: false,
        blob,
        written,
    })
}

impl Candidate {
    /// How many bytes.
    pub(super) fn size(&self) -> u64 {
        self.bodies.iter().map(Body::size).sum()
    }
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

    /// As long as a part that has others behind it.
    const LENGTH: u64 = types::limits::PART_BYTES_MIN;

    /// A chunk of so many bytes.
    struct Chunked {
        blob: u128,
        part: Option<(u128, u32)>,
        ordinal: u32,
        last: bool,
        time: u64,
        damaged: bool,
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
            logical_offset: LENGTH * u64::from(c.ordinal),
            last: c.last,
            length: LENGTH,
            append_hlc: c.time,
            session: SessionId(1),
        };
        let walked = Walked {
            needle: NeedleId(needle),
            offset: 100 * needle,
            stored_length: 100,
            head: Some(head.clone()),
            crc32c: (!c.damaged).then_some(5),
            damage: c.damaged.then(|| "a block's checksum fails".to_owned()),
        };
        Piece::of(ExtentId(7), Generation(0), &walked, &head)
    }

    /// Blob, part (upload and number), ordinal, whether it is the last, time.
    type Chunk = (u128, Option<(u128, u32)>, u32, bool, u64);

    fn joined(chunks: &[Chunk]) -> Joined {
        joined_of(chunks, &[], false)
    }

    /// `damaged`: needles whose bytes are bad.
    fn joined_of(chunks: &[Chunk], damaged: &[u64], strays: bool) -> Joined {
        let pieces = (1..)
            .zip(chunks)
            .map(|(needle, &(blob, part, ordinal, last, time))| {
                let chunk = Chunked {
                    blob,
                    part,
                    ordinal,
                    last,
                    time,
                    damaged: damaged.contains(&needle),
                };
                piece(needle, &chunk)
            });
        join(pieces.collect(), strays)
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

    #[test]
    fn an_object_of_which_a_part_is_damaged_is_not_joined_of_the_others() {
        let part = |number| Some((UPLOAD, number));
        let three = [
            (5, part(1), 0, true, 1),
            (6, part(2), 0, true, 2),
            (7, part(3), 0, true, 3),
        ];
        for damaged in 1..=3 {
            let found = joined_of(&three, &[damaged], false);
            assert!(found.candidates.is_empty(), "{found:?}");
            assert!(found.broken[0].why.contains("is damaged"), "{found:?}");
        }
        // One that was sent again since does not count.
        let again = [three[0], three[1], (8, part(2), 0, true, 9), three[2]];
        assert_eq!(needles(&joined_of(&again, &[2], false).candidates[0]), [1, 3, 4]);
        assert!(joined_of(&again, &[3], false).candidates.is_empty());
    }

    #[test]
    fn an_object_of_which_an_appended_piece_is_damaged_or_missing_is_not_joined() {
        let first = 3u128 << 64 | 1;
        let appended = |number| Some((first, number));
        let three = [
            (first, None, 0, true, 1),
            (3 << 64 | 8, appended(2), 0, true, 5),
            (3 << 64 | 9, appended(3), 0, true, 7),
        ];
        for damaged in 1..=3 {
            let found = joined_of(&three, &[damaged], false);
            assert!(
                found.candidates.is_empty() && !found.broken.is_empty(),
                "{found:?}"
            );
        }
        // An append that was cut off was not answered; one with something behind it was.
        let cut = [three[0], (3 << 64 | 8, appended(2), 0, false, 5)];
        assert_eq!(needles(&joined(&cut).candidates[0]), [1]);
        assert!(joined(&[cut[0], cut[1], three[2]]).candidates.is_empty());
        assert!(joined_of(&cut, &[], true).candidates.is_empty());
    }

    #[test]
    fn where_needles_are_strays_what_has_a_gap_is_not_joined() {
        let part = |number| Some((UPLOAD, number));
        let gap = [(5, part(1), 0, true, 1), (7, part(3), 0, true, 3)];
        assert_eq!(joined_of(&gap, &[], false).candidates.len(), 1);
        assert!(joined_of(&gap, &[], true).candidates.is_empty());
        let first = 3u128 << 64 | 1;
        // What grew inside the index first begins with a later number.
        let later = [
            (first, None, 0, true, 1),
            (3 << 64 | 8, Some((first, 4)), 0, true, 5),
        ];
        assert_eq!(needles(&joined_of(&later, &[], false).candidates[0]), [1, 2]);
        assert!(joined_of(&later, &[], true).candidates.is_empty());
    }

    #[test]
    fn what_a_later_session_wrote_is_newer_whatever_its_clock_said() {
        let found = joined(&[(1, None, 0, true, 9), (2, None, 0, true, 5)]);
        assert_eq!(needles(&found.candidates[0]), [1]);
        let mut pieces: Vec<Piece> = Vec::new();
        for (blob, session, time) in [(1u128, 1, 9), (2, 2, 5)] {
            let chunk = Chunked {
                blob,
                part: None,
                ordinal: 0,
                last: true,
                time,
                damaged: false,
            };
            let mut piece = piece(blob as u64, &chunk);
            piece.written.0 = SessionId(session);
            pieces.push(piece);
        }
        assert_eq!(needles(&join(pieces, false).candidates[0]), [2]);
    }

    #[test]
    fn of_a_damaged_object_it_is_known_that_it_was_whole() {
        let was_whole = |found: &Joined| found.broken.iter().map(|b| b.was_whole).collect::<Vec<_>>();
        let damaged = joined_of(&[(1, None, 0, true, 9)], &[1], false);
        assert_eq!(was_whole(&damaged), [true]);
        let cut = joined(&[(1, None, 0, false, 9)]);
        assert_eq!(was_whole(&cut), [false]);
        let part = joined_of(&[(5, Some((UPLOAD, 1)), 0, true, 9)], &[1], false);
        assert_eq!(was_whole(&part), [false, true]);
        assert!(part.broken[1].of_upload);
    }
}
