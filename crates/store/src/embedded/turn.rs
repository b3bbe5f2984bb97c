//! Heads and crc pages of an index file, and the choice among them at open (docs/formats/index-file.md).
//!
//! All numbers little-endian.
//!
//! ```text
//! head        0 magic "CAIRNIDX" · 8 format u16 · 10 file u16 · 12 zero u32 · 16 partition u64 · 24 turn u64 · 32 length of redb's file u64
//!            40 crc32c of the groups' crcs u32 · 44 copy u32 · 48 disk, 16 bytes big-endian · 64.. zero
//!          4092 crc32c of bytes 0..4092 and 4096..8192
//!          4096 redb's page 0
//! crc page    0 group u64 · 8 turn u64 · 16 copy u32 · 20 zero · 60 crc32c of bytes 0..60 and 64..4096
//!            64 1008 entries u32: the page's crc32c mixed with its number, or 0: never written
//! ```
//!
//! A copy's number: 1 was written by its turn, 2 was copied from 1 once the turn was synced, 3 from 2, and so on; 0 is of a build that did
//! not number them. Of two copies that say the same, the lower one is on stable storage: the other was made of it.

use super::pages::{Owner, Unusable};
use crc_fast::{CrcAlgorithm, Digest};
use std::collections::BTreeSet;
use types::{DiskId, PartitionId};
use world::{DiskFile, read_patiently};

/// redb's page, and the piece that has a crc.
pub(super) const PAGE_BYTES: usize = 4096;
/// Pages under one crc page.
pub(super) const GROUP_PAGES: usize = 1008;
/// A crc page.
pub(super) const CRC_PAGE_BYTES: usize = 4096;
const HEAD_BYTES: usize = 8192;
const CRC_ENTRIES_AT: usize = 64;
const MAGIC: &[u8; 8] = b"CAIRNIDX";
const FORMAT: u16 = 1;
const GROUP_BYTES: u64 = (2 * CRC_PAGE_BYTES + GROUP_PAGES * PAGE_BYTES) as u64;
const GROUPS_AT: u64 = 2 * HEAD_BYTES as u64;
/// The number of the copy that a turn itself writes.
pub(super) const FIRST_COPY: u32 = 1;

const _: () = assert!(
    CRC_ENTRIES_AT + 4 * GROUP_PAGES == CRC_PAGE_BYTES,
    "a crc page is full"
);

/// Where head `which` lies.
pub(super) fn head_place(which: usize) -> u64 {
    (which * HEAD_BYTES) as u64
}

/// Where crc page `which` of `group` lies.
pub(super) fn crc_page_place(group: u64, which: usize) -> u64 {
    GROUPS_AT + group * GROUP_BYTES + (which * CRC_PAGE_BYTES) as u64
}

/// Where redb's page lies.
pub(super) fn page_place(page: u64) -> u64 {
    let group = page / GROUP_PAGES as u64;
    crc_page_place(group, 2) + page % GROUP_PAGES as u64 * PAGE_BYTES as u64
}

fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    digest.finalize() as u32
}

/// A page's entry: never 0, and another for the same bytes elsewhere.
pub(super) fn page_crc(page: u64, bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    let here = (page as u32).wrapping_add(1).wrapping_mul(0x9E37_79B1);
    (crc ^ here).max(1)
}

fn entry_bytes(crcs: &[u32]) -> Vec<u8> {
    crcs.iter().flat_map(|c| c.to_le_bytes()).collect()
}

/// Crc of a group's entries.
pub(super) fn entries_crc(crcs: &[u32]) -> u32 {
    crc32c(&[&entry_bytes(crcs)])
}

/// Crc of all groups' crcs.
pub(super) fn table_crc(groups: impl Iterator<Item = u32>) -> u32 {
    let all: Vec<u32> = groups.collect();
    entries_crc(&all)
}

/// A crc page's bytes.
pub(super) fn encode_crc_page(group: u64, (turn, copy): (u64, u32), crcs: &[u32]) -> Vec<u8> {
    assert_eq!(crcs.len(), GROUP_PAGES, "a crc page is full");
    let mut page = vec![0; CRC_ENTRIES_AT];
    page[..8].copy_from_slice(&group.to_le_bytes());
    page[8..16].copy_from_slice(&turn.to_le_bytes());
    page[16..20].copy_from_slice(&copy.to_le_bytes());
    page.extend(entry_bytes(crcs));
    let crc = crc32c(&[&page[..60], &page[64..]]);
    page[60..64].copy_from_slice(&crc.to_le_bytes());
    page
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A crc page, if it is whole and of `group`.
fn decode_crc_page(page: &[u8], group: u64, which: usize) -> Option<FoundGroup> {
    let whole = crc32c(&[&page[..60], &page[64..]]) == u32_at(page, 60) && u64_at(page, 0) == group;
    whole.then(|| FoundGroup {
        which,
        turn: u64_at(page, 8),
        copy: u32_at(page, 16),
        crcs: page[CRC_ENTRIES_AT..]
            .chunks_exact(4)
            .map(|c| u32_at(c, 0))
            .collect(),
    })
}

/// A turn's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Whose file it is.
    pub(super) owner: Owner,
    /// Which turn.
    pub(super) turn: u64,
    /// Length of redb's file.
    pub(super) len: u64,
    /// Crc of the groups' crcs.
    pub(super) table_crc: u32,
    /// Which copy it is.
    pub(super) copy: u32,
}

enum HeadFound {
    Whole(Head, Box<[u8]>),
    Newer(u16),
    Bad,
}

impl Head {
    /// The head's bytes with redb's page 0.
    pub(super) fn encode(&self, image: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; PAGE_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.owner.file.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.owner.partition.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.turn.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.len.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.table_crc.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.copy.to_le_bytes());
        bytes[48..64].copy_from_slice(&self.owner.disk.to_bytes());
        bytes.extend_from_slice(image);
        let crc = crc32c(&[&bytes[..4092], &bytes[4096..]]);
        bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> HeadFound {
        // The crc stands where it does in every format to come, so a newer head is told from a bad one.
        if &bytes[..8] != MAGIC || crc32c(&[&bytes[..4092], &bytes[4096..]]) != u32_at(bytes, 4092) {
            return HeadFound::Bad;
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if format != FORMAT {
            return HeadFound::Newer(format);
        }
        let head = Self {
            owner: Owner {
                partition: PartitionId(u64_at(bytes, 16)),
                disk: DiskId::from_slice(&bytes[48..64]).expect("sixteen bytes"),
                file: u16::from_le_bytes([bytes[10], bytes[11]]),
            },
            turn: u64_at(bytes, 24),
            len: u64_at(bytes, 32),
            table_crc: u32_at(bytes, 40),
            copy: u32_at(bytes, 44),
        };
        HeadFound::Whole(head, bytes[4096..].into())
    }
}

/// A group's crcs as the chosen turn has them.
pub(super) struct FoundGroup {
    /// Which crc page.
    pub(super) which: usize,
    /// The turn it was written in.
    pub(super) turn: u64,
    /// Which copy it is.
    pub(super) copy: u32,
    /// Its entries.
    pub(super) crcs: Vec<u32>,
}

/// The state that a file holds.
pub(super) struct Choice {
    /// Its head.
    pub(super) head: Head,
    /// Which of the two.
    pub(super) which: usize,
    /// redb's page 0.
    pub(super) image: Box<[u8]>,
    /// Its groups.
    pub(super) groups: Vec<FoundGroup>,
    /// Copies of heads and crc pages that the device did not give, a sentence each.
    pub(super) unread: BTreeSet<String>,
}

/// Bytes at `place`, zero where the file is shorter: a hole at its end is a hole. `None` where the device does not give them: then it is no
/// head and no crc page, and the other copy counts.
fn read_padded(file: &dyn DiskFile, place: u64, n: usize) -> Result<Option<Vec<u8>>, Unusable> {
    let mut bytes = vec![0; n];
    let there = file
        .len()
        .map_err(Unusable::Io)?
        .saturating_sub(place)
        .min(n as u64) as usize;
    if there == 0 {
        return Ok(Some(bytes));
    }
    // What the other copy says is written over this one.
    match read_patiently(file, &mut bytes[..there], place) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if world::is_scarce(&e) => Err(Unusable::Io(e)),
        Err(_) => Ok(None),
    }
}

/// Whether the head that lies at `which` is whole, and of `owner` and `turn`; `None`: of whatever turn.
pub(super) fn is_head(
    file: &dyn DiskFile,
    which: usize,
    (owner, turn): (Owner, Option<u64>),
) -> Result<bool, Unusable> {
    let bytes = read_padded(file, head_place(which), HEAD_BYTES)?;
    Ok(match bytes.as_deref().map(Head::decode) {
        Some(HeadFound::Whole(head, _)) => head.owner == owner && turn.is_none_or(|turn| head.turn == turn),
        Some(HeadFound::Newer(_) | HeadFound::Bad) | None => false,
    })
}

/// Whether crc page `which` of `group` is whole and its entries are those whose crc is `crc`.
pub(super) fn is_crc_page(
    file: &dyn DiskFile,
    (group, which): (u64, usize),
    crc: u32,
) -> Result<bool, Unusable> {
    let page = read_padded(file, crc_page_place(group, which), CRC_PAGE_BYTES)?;
    let found = page.and_then(|page| decode_crc_page(&page, group, which));
    Ok(found.is_some_and(|found| entries_crc(&found.crcs) == crc))
}

/// Finds the turn to go on from: the newest of which the file proves that its sync succeeded.
///
/// A turn is begun only after the one before it was synced, and copies are made of a turn only once it is synced. So of two heads that
/// differ the *older* one is proven; the newer one may be all there in memory after a sync that failed, and never have reached the disk.
/// The journal forgets batches of a turn only once both heads have it, so the older one lacks nothing. It is not whole where copying the
/// newer one had begun: that proves the newer one.
pub(super) fn choose(file: &dyn DiskFile, name: &str, owner: Owner) -> Result<Choice, Unusable> {
    let (mut heads, mut unread) = (Vec::new(), BTreeSet::new());
    for which in 0..2 {
        let place = head_place(which);
        match read_padded(file, place, HEAD_BYTES)?.as_deref().map(Head::decode) {
            Some(HeadFound::Newer(format)) => return Err(Unusable::Newer(format)),
            Some(HeadFound::Whole(head, image)) => heads.push((head, which, image)),
            Some(HeadFound::Bad) => {}
            None => drop(unread.insert(format!("{name}: the head at byte {place} cannot be read"))),
        }
    }
    if let Some((stranger, _, _)) = heads.iter().find(|(h, _, _)| h.owner != owner) {
        let text = format!("{name}: it belongs to {:?}, not {owner:?}", stranger.owner);
        return Err(Unusable::Corrupt(text));
    }
    // A build that did not number its copies wrote pages under a turn that was not copied yet: there the newer one is right.
    if heads.iter().any(|(head, _, _)| head.copy < FIRST_COPY) {
        heads.sort_by_key(|(head, _, _)| std::cmp::Reverse(head.turn));
    } else {
        heads.sort_by_key(|(head, _, _)| (head.turn, head.copy));
    }
    let mut bad = Unusable::NoHead;
    for (head, which, image) in heads {
        match groups_of(file, name, (&head, &mut unread)) {
            Ok(groups) => {
                return Ok(Choice {
                    head,
                    which,
                    image,
                    groups,
                    unread,
                });
            }
            Err(e @ Unusable::Corrupt(_)) => bad = e,
            Err(e) => return Err(e),
        }
    }
    // What was not given may be right.
    match unread.pop_first() {
        Some(unread) => Err(Unusable::Unread(format!("{}; {unread}", bad.store_error(name)))),
        None => Err(bad),
    }
}

/// The groups as the turn of `head` has them; and which copies of their crc pages the device did not give.
fn groups_of(
    file: &dyn DiskFile,
    name: &str,
    (head, unread): (&Head, &mut BTreeSet<String>),
) -> Result<Vec<FoundGroup>, Unusable> {
    let count = (head.len / PAGE_BYTES as u64).div_ceil(GROUP_PAGES as u64);
    let mut groups = Vec::new();
    for group in 0..count {
        let mut both = Vec::new();
        for which in 0..2 {
            let place = crc_page_place(group, which);
            match read_padded(file, place, CRC_PAGE_BYTES)? {
                Some(page) => both.extend(decode_crc_page(&page, group, which)),
                None => drop(unread.insert(format!("{name}: the crc page at byte {place} cannot be read"))),
            }
        }
        let best = both
            .into_iter()
            .filter(|found| found.turn <= head.turn)
            .max_by_key(|found| (found.turn, std::cmp::Reverse(found.copy)));
        let Some(best) = best else {
            let text = format!(
                "{name}: the crc pages at byte {} are bad",
                crc_page_place(group, 0)
            );
            return Err(Unusable::Corrupt(text));
        };
        groups.push(best);
    }
    if table_crc(groups.iter().map(|g| entries_crc(&g.crcs))) != head.table_crc {
        let text = format!("{name}: its crc pages are not those of turn {}", head.turn);
        return Err(Unusable::Corrupt(text));
    }
    Ok(groups)
}
