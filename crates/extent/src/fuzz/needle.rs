//! Needles' headers, and extents full of them.

use super::{Held, SALT};
use crate::extent::BODY_OFFSET;
use crate::fields::{crc32c, put, salted_crc32c};
use crate::needle::{HEADER_BYTES_MAX, Head, Header, MAGIC};
use crate::walk::{Step, Walker};
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, CHUNK_BYTES_MAX, OBJECT_KEY_BYTES_MAX};
use types::{BlobId, BucketId, Epoch, ExtentId, NeedleId, SessionId, UploadId};

const EXTENT: ExtentId = ExtentId(3);
/// As long as what a walk reads at once: what stands here lies across its windows.
const FAR_BYTES: usize = 256 << 10;

/// The first byte says how the others are read: as one header, or as an extent behind damage of some length.
pub fn needle(data: &[u8]) {
    match data.split_first() {
        Some((0..128, bytes)) => one_header(bytes),
        Some((how, bytes)) => extent(usize::from(how & 0x7F), bytes),
        None => {}
    }
}

/// Headers that the code makes, alone and as extents.
pub fn needle_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut whole = Vec::new();
    for (n, (key, length, void)) in [
        ("", 0, false),
        ("a/b", 100, false),
        ("wörter", 9, true),
        ("k", 70_000, false),
    ]
    .into_iter()
    .enumerate()
    {
        let header = sample(n as u64 + 1, key, length, void);
        let mut bytes = vec![0];
        header.encode(SALT, &mut bytes);
        whole.extend(stored(&header));
        seeds.push(bytes);
    }
    let few = stored(&sample(7, "k", 50, false));
    for how in [128, 128 + 40, 255] {
        seeds.push([&[how], &few[..], &[0; 24], &few[..]].concat());
    }
    seeds.push([&[128], &whole[..]].concat());
    seeds
}

fn sample(needle: u64, key: &str, length: u64, void: bool) -> Header {
    Header {
        extent: EXTENT,
        needle: NeedleId(needle),
        epoch: Epoch(1),
        void,
        head: Head {
            blob: BlobId(77),
            bucket: BucketId(5),
            key: key.to_owned(),
            upload: (length == 100).then_some((UploadId(9), 2)),
            ordinal: 1,
            logical_offset: 1 << 20,
            last: true,
            length,
            append_hlc: 1 << 40,
            session: SessionId(4),
        },
    }
}

/// A needle as it stands in an extent.
fn stored(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    header.encode(SALT, &mut out);
    if !header.void {
        let bytes = vec![b'n'; header.head.length as usize];
        out.extend_from_slice(&bytes);
        for block in bytes.chunks(BLOCK_BYTES) {
            out.extend_from_slice(&crc32c(block).to_le_bytes());
        }
    }
    out.resize(header.stored_bytes() as usize, 0);
    out
}

/// Gives the header that `b` begins with a right crc, if there is room for one.
fn seal(b: &mut [u8]) {
    if let Some(n) = Header::length_of(b)
        && n <= b.len()
    {
        put(b, 12, &[0; 4]);
        let crc = salted_crc32c(SALT, &b[..n]);
        put(b, 12, &crc.to_le_bytes());
    }
}

fn one_header(bytes: &[u8]) {
    if let Some(header) = Header::decode(SALT, bytes) {
        check(&header);
    }
    let mut b = bytes.to_vec();
    if b.len() >= MAGIC.len() {
        put(&mut b, 0, &MAGIC);
    }
    seal(&mut b);
    let Some(header) = Header::decode(SALT, &b) else {
        return;
    };
    check(&header);
    let n = Header::length_of(&b).expect("it was decoded");
    assert_eq!(Header::decode(SALT ^ 1, &b), None, "another extent's salt");
    assert_eq!(Header::decode(SALT, &b[..n - 1]), None, "a header that is cut");
    let at = usize::from(bytes[bytes.len() - 1]) % n;
    b[at] ^= 1 << (bytes[0] % 8);
    assert_eq!(Header::decode(SALT, &b), None, "a bit of byte {at} flipped");
}

/// What counts as a header would be written, and read back as what it is.
fn check(header: &Header) {
    let head = &header.head;
    assert!(head.key.len() <= OBJECT_KEY_BYTES_MAX && head.length <= CHUNK_BYTES_MAX);
    assert!(head.header_bytes() <= HEADER_BYTES_MAX as u64);
    assert!(header.stored_bytes() >= head.header_bytes() && header.stored_bytes().is_multiple_of(8));
    let mut again = Vec::new();
    header.encode(SALT, &mut again);
    assert_eq!(
        Header::decode(SALT, &again).as_ref(),
        Some(header),
        "written again"
    );
}

/// Walks an extent and holds what is found against a look at every place.
fn extent(far: usize, bytes: &[u8]) {
    let begin = BODY_OFFSET as usize;
    // Often right at the extent's beginning, else so that a window ends somewhere in it.
    let skipped = if far == 0 { 0 } else { FAR_BYTES - 8 * far };
    let mut file = vec![0; begin + skipped];
    file.extend_from_slice(bytes);
    for at in (begin + skipped..file.len()).step_by(8) {
        if file[at..].starts_with(&MAGIC) {
            seal(&mut file[at..]);
        }
    }
    let end = file.len();
    let held = Arc::new(Held(file));
    let mut walker = Walker::new(held.clone(), EXTENT, SALT, 0, end as u64);
    let (mut at, mut damaged) = (begin, false);
    while let Some(step) = walker.step() {
        let next = match step {
            Step::Needle(from, header) => {
                assert_eq!((from as usize, here(&held.0, at).as_ref()), (at, Some(&*header)));
                let whole = walker.verify(from, &header);
                assert_eq!(
                    whole.is_ok(),
                    header.void || is_whole(&held.0, at, &header),
                    "{whole:?}"
                );
                damaged = false;
                at + header.stored_bytes() as usize
            }
            Step::Damage(from, length) => {
                assert!(!damaged, "two stretches of damage are one");
                assert_eq!(from as usize, at);
                damaged = true;
                let next = at + length as usize;
                let missed = (at.max(begin + skipped)..next.min(end))
                    .step_by(8)
                    .find(|at| here(&held.0, *at).is_some());
                assert_eq!(missed, None, "a needle passed over");
                next
            }
        };
        assert!(next > at && next <= end, "a step from {at} to {next} of {end}");
        at = next;
    }
    assert_eq!(at, end.max(begin));
}

/// The needle at a place, looked for without windows.
fn here(file: &[u8], at: usize) -> Option<Header> {
    let header = Header::decode(SALT, file.get(at..)?)?;
    (header.extent == EXTENT && at as u64 + header.stored_bytes() <= file.len() as u64).then_some(header)
}

fn is_whole(file: &[u8], at: usize, header: &Header) -> bool {
    let body = at + header.head.header_bytes() as usize;
    let (bytes, crcs) = file[body..].split_at(header.head.length as usize);
    bytes
        .chunks(BLOCK_BYTES)
        .zip(crcs.chunks(4))
        .all(|(block, crc)| crc32c(block).to_le_bytes() == crc)
}
