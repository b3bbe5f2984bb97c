//! `cairn check --rebuild-index`: objects out of extents, for a store whose index is gone; and what that could not know.
//!
//! [`gather`] walks every needle, [`join`] says which belong together, [`compose`] reads each object once for its ETag. What is laid down of it,
//! and how, is not here: the index and the control plane know their rows, the engine its files.

mod choose;
mod join;
mod parts;

pub use join::{Broken, Candidate, Joined, Piece, join};

use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX, REBUILD_LINES_MAX};
use types::{BlobId, BucketId, ErrorKind, ExtentId, Generation, Hlc, NeedleId, SessionId};
use wire::Fault;
use wire::node::{ExtentStatus, Node, ReadNeedle, WalkCursor, WalkDepth};
use wire::records::{Chunk, Part};

const WALK_PAGE: usize = 256;

/// A bounded list of sentences, of which all are counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The first of them.
    pub first: Vec<String>,
    /// How many there were.
    pub count: u64,
}

impl Lines {
    fn push(&mut self, line: String) {
        self.count += 1;
        if self.first.len() < REBUILD_LINES_MAX {
            self.first.push(line);
        }
    }
}

/// Every needle there is, by whom it belongs to.
#[derive(Debug, Default)]
pub struct Gathered {
    /// By bucket and key.
    pub keys: BTreeMap<(BucketId, String), Vec<Piece>>,
    /// Needles that are not whole, with their place.
    pub damaged: Lines,
    /// Needles of which it is not known whose they are: their headers are bad too, or their extent cannot be walked.
    pub strays: u64,
    /// How many needles were read.
    pub needles: u64,
    /// No needle was written later.
    pub newest: Hlc,
    /// No needle was written by a later session, or is of a blob of one.
    pub last_session: SessionId,
    /// No needle is of a bucket with a higher number, named again or not.
    pub last_bucket: BucketId,
}

/// An object that is to be named again.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// What its record names.
    pub blob: BlobId,
    /// When its last needle was written.
    pub time: Hlc,
    /// Its needles.
    pub chunks: Vec<Chunk>,
    /// Its parts, where it has some.
    pub parts: Vec<Part>,
    /// Of its bytes, or of its parts' sums.
    pub etag_md5: [u8; 16],
    /// What its key names; else it is an older version.
    pub visible: bool,
}

/// What became of the needles.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Keys that name something again.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Older versions of them that were kept.
    pub versions: u64,
    /// Objects older than what their key names, that were not: overwritten or deleted before, or never named.
    pub older: u64,
    /// Objects of parts, of which nothing says that their upload was completed with all of these.
    pub of_uploads: u64,
    /// Objects that were appended to.
    pub appended: u64,
    /// Objects that are not whole, with the key each.
    pub incomplete: Lines,
    /// What was guessed of which object a key names, with the key each.
    pub guessed: Lines,
}

/// Walks every extent of a node and reads every byte. `gone`: needles of which it is known that nothing names them.
///
/// # Errors
/// The node cannot be asked.
pub async fn gather(node: &dyn Node, gone: &BTreeSet<(ExtentId, NeedleId)>) -> Result<Gathered, Fault> {
    let mut gathered = Gathered::default();
    for status in node.extents().await? {
        if let Err(fault) = walk(node, &status, gone, &mut gathered).await {
            let line = format!("extent {} cannot be walked: {fault}", status.extent);
            gathered.damaged.push(line);
            gathered.strays += 1;
        }
    }
    Ok(gathered)
}

async fn walk(
    node: &dyn Node,
    status: &ExtentStatus,
    gone: &BTreeSet<(ExtentId, NeedleId)>,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let (extent, generation): (ExtentId, Generation) = (status.extent, status.generation);
    let mut from = WalkCursor::default();
    loop {
        let page = node.walk(extent, from, WalkDepth::Bytes, WALK_PAGE).await?;
        for walked in page.found {
            gathered.needles += 1;
            if let Some(damage) = &walked.damage {
                let whose = walked.head.as_ref().map_or(String::new(), |h| {
                    format!(" of {}/{:?}", h.owner.bucket, h.owner.key)
                });
                let at = walked.offset;
                gathered
                    .damaged
                    .push(format!("extent {extent} offset {at}: {damage}{whose}"));
            }
            let Some(head) = &walked.head else {
                gathered.strays += 1;
                continue;
            };
            gathered.newest = gathered.newest.max(Hlc(head.append_hlc));
            gathered.last_session = gathered.last_session.max(head.session).max(head.blob.session());
            gathered.last_bucket = gathered.last_bucket.max(head.owner.bucket);
            if gone.contains(&(extent, walked.needle)) {
                continue;
            }
            let piece = Piece::of(extent, generation, &walked, head);
            let key = (head.owner.bucket, head.owner.key.clone());
            gathered.keys.entry(key).or_default().push(piece);
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

/// What is to be known besides a key's needles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Its bucket keeps versions.
    pub keeps_versions: bool,
    /// There are needles of which it is not known whose they are.
    pub strays: bool,
    /// An upload that is newest counts, though nothing says that it was completed.
    pub newest_uploads: bool,
}

/// The objects of a key's needles that are to be named: the one that is chosen, and where its bucket keeps versions the others too. In the order
/// of their versions, the oldest first.
///
/// # Errors
/// The node cannot be read.
pub async fn compose(
    node: &dyn Node,
    (bucket, key): (BucketId, &str),
    (pieces, around): (Vec<Piece>, Around),
    sums: &mut Sums,
) -> Result<Vec<Object>, Fault> {
    let joined = join(pieces, around.strays);
    let of_key = |what: &dyn std::fmt::Display| format!("{bucket}/{key:?}: {what}");
    for broken in &joined.broken {
        sums.incomplete.push(of_key(&broken.why));
    }
    let chosen = choose::choose(joined, around.newest_uploads);
    if let Some(guess) = &chosen.guess {
        sums.guessed.push(of_key(guess));
    }
    let Some(current) = chosen.current else {
        if let Some(why) = &chosen.refused {
            sums.incomplete.push(of_key(why));
        }
        sums.older += chosen.others.len() as u64;
        return Ok(Vec::new());
    };
    let (newest, facts) = (current.time, (current.of_upload, current.appended));
    let current = match named(node, (bucket, key), current, true).await {
        Ok(object) => object,
        Err(fault) if fault.kind == ErrorKind::Corrupt => {
            sums.incomplete.push(of_key(&fault));
            sums.older += chosen.others.len() as u64;
            return Ok(Vec::new());
        }
        Err(fault) => return Err(fault),
    };
    sums.objects += 1;
    sums.bytes += current.size();
    sums.of_uploads += u64::from(facts.0);
    sums.appended += u64::from(facts.1);
    let mut objects = Vec::new();
    let mut before = Hlc(0);
    for mut candidate in chosen.others {
        if !around.keeps_versions {
            sums.older += 1;
            continue;
        }
        // Versions are sorted by their times: none is to stand before what is current, or before one that was written later.
        before = before.max(candidate.time.min(newest));
        candidate.time = before;
        match named(node, (bucket, key), candidate, false).await {
            Ok(object) => {
                sums.versions += 1;
                sums.bytes += object.size();
                objects.push(object);
            }
            Err(fault) if fault.kind == ErrorKind::Corrupt => sums.incomplete.push(of_key(&fault)),
            Err(fault) => return Err(fault),
        }
    }
    objects.push(current);
    Ok(objects)
}

impl Object {
    fn size(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.length).sum()
    }
}

async fn named(
    node: &dyn Node,
    (bucket, key): (BucketId, &str),
    candidate: Candidate,
    visible: bool,
) -> Result<Object, Fault> {
    let in_parts = candidate.of_upload || candidate.appended;
    let (mut chunks, mut parts, mut etags) = (Vec::new(), Vec::new(), Etags::default());
    for body in candidate.bodies {
        let md5 = md5_of(node, body.blob(), &body.chunks).await?;
        etags.take(md5, body.appended);
        parts.push(Part {
            number: body.number,
            size: body.size(),
            etag_md5: md5.to_vec(),
            ..Part::default()
        });
        chunks.extend(body.chunks);
    }
    Ok(Object {
        bucket,
        key: key.to_owned(),
        blob: candidate.blob,
        time: candidate.time,
        chunks,
        parts: if in_parts { parts } else { Vec::new() },
        etag_md5: etags.etag(candidate.blob.is_upload()),
        visible,
    })
}

/// The MD5 of an object's ETag out of those of its bodies: of one body its own, of an upload's parts the MD5 of theirs, and with each append
/// the MD5 of what it was before and the new bytes' (docs/design/0014-appends.md).
#[derive(Default)]
struct Etags {
    first: Vec<[u8; 16]>,
    behind: Vec<[u8; 16]>,
}

impl Etags {
    fn take(&mut self, md5: [u8; 16], appended: bool) {
        match appended {
            true => self.behind.push(md5),
            false => self.first.push(md5),
        }
    }

    fn etag(&self, of_upload: bool) -> [u8; 16] {
        let first = match (of_upload, &self.first[..]) {
            (false, [one]) => *one,
            (_, parts) => Md5::digest(parts.concat()).into(),
        };
        let behind = self.behind.iter();
        behind.fold(first, |etag, md5| Md5::digest([etag, *md5].concat()).into())
    }
}

async fn md5_of(node: &dyn Node, blob: BlobId, chunks: &[Chunk]) -> Result<[u8; 16], Fault> {
    const BLOCKS: u32 = (FRAME_BYTES_MAX / BLOCK_BYTES) as u32;
    let mut md5 = Md5::new();
    for chunk in chunks {
        let count = chunk.length.div_ceil(BLOCK_BYTES as u64) as u32;
        for first_block in (0..count).step_by(BLOCKS as usize) {
            let read = ReadNeedle {
                extent: ExtentId(chunk.place),
                needle: NeedleId(chunk.needle),
                blob,
                hint: (Generation(chunk.hint_generation), chunk.hint_offset),
                length: chunk.length,
                first_block,
                block_count: BLOCKS.min(count - first_block),
            };
            md5.update(&node.read(read).await?.bytes);
        }
    }
    Ok(md5.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::{DiskId, Epoch};
    use wire::double::MemoryNode;
    use wire::node::{Ack, Checked, NeedleHead, OwnerRef};

    #[tokio::test]
    async fn numbers_of_what_is_not_named_again_count() {
        let (disk, extent, epoch) = (DiskId(1), ExtentId(1), Epoch(1));
        let node = MemoryNode::new(disk, 1 << 20);
        node.open_extent(disk, extent, epoch, 1 << 20).await.unwrap();
        let head = NeedleHead {
            blob: BlobId::new(SessionId(8), 1),
            owner: OwnerRef {
                bucket: BucketId(40),
                key: "k".into(),
                upload: None,
            },
            ordinal: 0,
            logical_offset: 0,
            last: true,
            length: 1,
            append_hlc: 900,
            session: SessionId(7),
        };
        let body = Checked {
            bytes: Bytes::from_static(b"x"),
            crcs: vec![0],
        };
        let gone = node
            .append(extent, epoch, head, body, Ack::Durable)
            .await
            .unwrap();
        let gathered = gather(&node, &BTreeSet::from([(extent, gone.needle)]))
            .await
            .unwrap();
        assert!(gathered.keys.is_empty());
        let told = (gathered.last_bucket, gathered.last_session, gathered.newest);
        assert_eq!(told, (BucketId(40), SessionId(8), Hlc(900)));
    }

    #[test]
    fn an_etag_goes_on_with_each_append() {
        let of = |first: &[u8], behind: &[u8], of_upload| {
            let sum = |at: &u8| [*at; 16];
            let etags = Etags {
                first: first.iter().map(sum).collect(),
                behind: behind.iter().map(sum).collect(),
            };
            etags.etag(of_upload)
        };
        let md5 = |all: &[[u8; 16]]| -> [u8; 16] { Md5::digest(all.concat()).into() };
        assert_eq!(of(&[1], &[], false), [1; 16]);
        assert_eq!(of(&[1], &[], true), md5(&[[1; 16]]));
        assert_eq!(
            of(&[1], &[2, 3], false),
            md5(&[md5(&[[1; 16], [2; 16]]), [3; 16]])
        );
        assert_eq!(of(&[1, 2], &[3], true), md5(&[md5(&[[1; 16], [2; 16]]), [3; 16]]));
    }
}
