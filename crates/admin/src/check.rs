//! `cairn check`: every checksum of a stopped store, and the index against the extents, both ways.
//!
//! ```text
//!   extents ── walk: every needle read and verified ──▶ what is there
//!   index   ── walk: every record, part, garbage row ─▶ what is named
//!   there and named: fine · named, not there: LOST · there, not named: an orphan (gc's work, not damage)
//! ```
//! The comparison is pure ([`Ledger`]); [`run`] only carries pages to it. Memory is bounded: of a store with more needles than
//! `limits::CHECK_NEEDLES_MAX` the extents are taken in groups, and the index is walked once for each.
//!
//! Rows of the index that nothing owns are told too (the walk finds them): nothing would ever take them away.
//!
//! Then every row of the index is read, whatever it is for: buckets, settings, answers of commands. What cannot be read is told, and the
//! check goes on behind it. Rows of the control plane are read when it opens. Past some thousand findings there is a number.
//! Of an index that was laid it is asked whether whole partitions are missing from it ([`unnamed`]).
//! Last comes what no row needs just now: pages of the index's files, superblock, table of extents, journal.

use crate::reread;
use crate::unnamed::{self, BUCKETS_MAX, Counted};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use types::limits::CHECK_NEEDLES_MAX;
use types::{BucketId, ExtentId, NeedleId};
use wire::Fault;
use wire::control::{Reclaim, Stage};
use wire::index::{Index, Named};
use wire::node::{ExtentStatus, Node, WalkCursor, WalkDepth, Walked};
use wire::records::{Chunk, object_record::Data};

const WALK_PAGE: usize = 256;
/// Findings that are told one by one.
const DAMAGE_TOLD_MAX: usize = 10_000;

/// Told of whichever of the two comes second.
const BOOKED_AND_NAMED: &str =
    "is booked as garbage and named all the same: it would go though it is needed; do not release reclaim";

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Extents walked.
    pub extents: u64,
    /// Extents that the control plane knows and no disk has: no damage by itself, a grant may have been cut off. What was in
    /// one is lost, and named so.
    pub absent: u64,
    /// Needles read and verified, damaged ones among them.
    pub needles: u64,
    /// Bytes they take.
    pub needle_bytes: u64,
    /// Rows of the index read, of every kind.
    pub rows: u64,
    /// Objects named.
    pub objects: u64,
    /// Parts of open uploads named.
    pub parts: u64,
    /// Blobs booked as garbage.
    pub garbage: u64,
    /// Needles that nothing names: uploads that never ended, work for gc.
    pub orphans: u64,
    /// What is wrong, a sentence with its place each.
    pub damage: Vec<String>,
}

/// A needle, as small as it can be kept.
struct Needle {
    /// Of bucket and key.
    owner: u64,
    length: u64,
    /// Of its bytes; `None` where they are damaged.
    crc32c: Option<u32>,
    named: Names,
}

/// Which kinds of rows name a needle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    None,
    Object,
    Part,
    /// A booking.
    Garbage,
}

impl Names {
    /// What is wrong with a needle that is named so, and was `before`. A part that is booked may be one that was aborted just now: taking a partition
    /// goes on with that.
    fn twice(self, before: Self) -> Option<&'static str> {
        match (before, self) {
            (Self::Object, Self::Garbage) | (Self::Garbage, Self::Object) => Some(BOOKED_AND_NAMED),
            (Self::None | Self::Garbage, _) | (_, Self::None | Self::Garbage) => None,
            (Self::Object | Self::Part, Self::Object | Self::Part) => Some("is named twice"),
        }
    }
}

/// Needles there against chunks named.
#[derive(Default)]
pub struct Ledger {
    /// All that are there.
    extents: BTreeSet<ExtentId>,
    /// Those whose needles are compared now.
    group: BTreeSet<ExtentId>,
    needles: BTreeMap<(ExtentId, NeedleId), Needle>,
    /// The index was walked before: what it holds is counted.
    counted: bool,
    /// Buckets of objects, some of them.
    buckets: BTreeSet<BucketId>,
    /// Findings that are not told one by one.
    more: u64,
    report: Report,
}

/// Whose bytes, in 64 bits: keys would take more room than all the rest.
fn owner(bucket: BucketId, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (bucket.0, key).hash(&mut hasher);
    hasher.finish()
}

impl Ledger {
    /// Of a store with `extents`.
    pub fn new(extents: impl IntoIterator<Item = ExtentId>) -> Self {
        let extents: BTreeSet<ExtentId> = extents.into_iter().collect();
        Self {
            report: Report {
                extents: extents.len() as u64,
                ..Report::default()
            },
            extents,
            ..Self::default()
        }
    }

    /// From here on it is about the needles of `group`, and the index is walked from its start.
    pub fn begin(&mut self, group: BTreeSet<ExtentId>) {
        self.settle();
        self.group = group;
    }

    fn settle(&mut self) {
        let orphans = self.needles.values().filter(|n| n.named == Names::None).count();
        self.report.orphans += orphans as u64;
        self.needles.clear();
    }

    fn damaged(&mut self, what: String) {
        self.more += u64::from(self.report.damage.len() >= DAMAGE_TOLD_MAX);
        if self.report.damage.len() < DAMAGE_TOLD_MAX {
            self.report.damage.push(what);
        }
    }

    /// A needle that a node walked over.
    pub fn there(&mut self, extent: ExtentId, walked: &Walked) {
        self.report.needles += 1;
        self.report.needle_bytes += walked.stored_length;
        let at = format!("extent {extent} offset {}", walked.offset);
        if let Some(damage) = &walked.damage {
            self.damaged(format!("{at} needle {}: {damage}", walked.needle.0));
        }
        let Some(head) = &walked.head else { return };
        let needle = Needle {
            owner: owner(head.owner.bucket, &head.owner.key),
            length: head.length,
            crc32c: walked.crc32c.filter(|_| walked.damage.is_none()),
            named: Names::None,
        };
        if self.needles.insert((extent, walked.needle), needle).is_some() {
            self.damaged(format!("{at}: needle {} is there twice", walked.needle.0));
        }
    }

    /// Something the index names.
    pub fn named(&mut self, named: &Named) {
        let first = u64::from(!self.counted);
        match named {
            Named::Object { bucket, key, found } => {
                self.report.objects += first;
                if self.buckets.len() < BUCKETS_MAX {
                    self.buckets.insert(*bucket);
                }
                let what = format!("object {bucket}/{key:?}");
                let mut chunks: Vec<&Chunk> = Vec::new();
                let mut wrong = None;
                match &found.record.data {
                    Some(Data::Chunks(c)) => chunks.extend(&c.chunks),
                    Some(Data::Manifest(_)) => chunks.extend(found.manifest.iter().flat_map(|p| &p.chunks)),
                    Some(Data::Inline(i)) => {
                        let held = found.inline.as_ref().map(Bytes::len);
                        if held != Some(i.length as usize) || found.record.size != u64::from(i.length) {
                            wrong = Some(format!("inline bytes are {held:?}, should be {}", i.length));
                        }
                    }
                    Some(Data::Shared(_)) => wrong = Some("a shared blob, which this format has not".into()),
                    None => {}
                }
                let inline = matches!(found.record.data, Some(Data::Inline(_)));
                let length: u64 = chunks.iter().map(|c| c.length).sum();
                if !inline && length != found.record.size {
                    wrong = Some(format!("chunks hold {length} bytes of {}", found.record.size));
                }
                if let Some(wrong) = wrong.filter(|_| !self.counted) {
                    self.damaged(format!("{what}: {wrong}"));
                }
                self.chunks(&what, owner(*bucket, key), &chunks, Names::Object);
            }
            Named::Part {
                bucket,
                key,
                upload,
                part,
            } => {
                self.report.parts += first;
                let what = format!("part {} of upload {upload} of {bucket}/{key:?}", part.number);
                let chunks: Vec<&Chunk> = part.chunks.iter().collect();
                self.chunks(&what, owner(*bucket, key), &chunks, Names::Part);
            }
            Named::Stray { .. } if self.counted => {}
            Named::Stray { what } => self.damaged(format!("index: {what}")),
            Named::Garbage { bucket, key, garbage } => {
                self.report.garbage += first;
                let what = format!("garbage of {bucket}/{key:?}");
                let chunks: Vec<&Chunk> = garbage.chunks.iter().collect();
                self.chunks(&what, owner(*bucket, key), &chunks, Names::Garbage);
            }
        }
    }

    /// Chunks that are needed must be there, whole and of this owner; garbage may be gone already.
    fn chunks(&mut self, what: &str, owner: u64, chunks: &[&Chunk], names: Names) {
        for chunk in chunks {
            let place = (ExtentId(chunk.place), NeedleId(chunk.needle));
            let nowhere = !self.counted && !self.extents.contains(&place.0);
            if !nowhere && !self.group.contains(&place.0) {
                continue;
            }
            if let Some(wrong) = self.chunk(place, owner, chunk, names) {
                let at = format!("extent {} needle {}", place.0, chunk.needle);
                self.damaged(format!("{what}: {at} {wrong}"));
            }
        }
    }

    /// What is wrong with a chunk.
    fn chunk(
        &mut self,
        place: (ExtentId, NeedleId),
        owner: u64,
        chunk: &Chunk,
        names: Names,
    ) -> Option<&'static str> {
        let is_needed = names != Names::Garbage;
        let Some(needle) = self.needles.get_mut(&place) else {
            return is_needed.then_some("is not there: LOST");
        };
        let twice = names.twice(std::mem::replace(&mut needle.named, names));
        if !is_needed || twice == Some(BOOKED_AND_NAMED) {
            return twice;
        }
        if needle.length != chunk.length || needle.owner != owner {
            return Some("belongs to another object");
        }
        match needle.crc32c {
            None => Some("is damaged"),
            Some(crc) if crc != chunk.crc32c => Some("has not the bytes that were put"),
            Some(_) => twice,
        }
    }

    fn counted(&self) -> Counted {
        let report = &self.report;
        Counted {
            needles: report.needles,
            named: report.objects + report.parts + report.garbage,
            buckets: self.buckets.clone(),
        }
    }

    /// The whole finding.
    pub fn close(mut self) -> Report {
        self.settle();
        if self.more > 0 {
            let more = format!("and {} more places, which are not told one by one", self.more);
            self.report.damage.push(more);
        }
        self.report
    }
}

/// Walks a store's extents and index and compares them; without the control plane where its rows cannot be had.
///
/// # Errors
/// Only where a role cannot be asked at all; what it says is damaged is in the report.
pub async fn run(node: &dyn Node, control: Option<&dyn Reclaim>, index: &dyn Index) -> Result<Report, Fault> {
    let there = node.extents().await?;
    let mut ledger = Ledger::new(there.iter().map(|s| s.extent));
    if let Some(control) = control {
        compare_known(control, &mut ledger).await?;
    }
    for group in groups(&there) {
        ledger.begin(group.iter().copied().collect());
        for extent in group {
            if let Err(fault) = walk_extent(node, extent, &mut ledger).await {
                ledger.damaged(format!("extent {extent} cannot be walked: {fault}"));
            }
        }
        walk_index(index, &mut ledger).await?;
    }
    verify_rows(index, &mut ledger).await?;
    if let Some(control) = control {
        for damage in unnamed::damage(control, index, &ledger.counted()).await? {
            ledger.damaged(damage);
        }
    }
    for damage in reread::damage(node, index).await? {
        ledger.damaged(damage);
    }
    let mut report = ledger.close();
    report.damage.dedup();
    Ok(report)
}

/// The extents that are there against those that the control plane knows.
async fn compare_known(control: &dyn Reclaim, ledger: &mut Ledger) -> Result<(), Fault> {
    let uses = control.uses().await?;
    let mut known: BTreeSet<ExtentId> = uses.iter().map(|u| u.extent).collect();
    let mut unknown = Vec::new();
    for extent in ledger.extents.difference(&known) {
        unknown.push(format!("extent {extent}: the control plane does not know it"));
    }
    unknown.into_iter().for_each(|what| ledger.damaged(what));
    // What is gone may be there yet, and need not.
    let gone = uses.iter().filter(|u| u.stage == Stage::Gone);
    for gone in gone {
        known.remove(&gone.extent);
    }
    ledger.report.absent = known.difference(&ledger.extents).count() as u64;
    Ok(())
}

/// Walks a store's extents alone: where its index cannot be read at all, that the bytes are there is still worth knowing.
///
/// # Errors
/// As [`run`].
pub async fn run_extents(node: &dyn Node) -> Result<Report, Fault> {
    let there = node.extents().await?;
    let mut ledger = Ledger::new(there.iter().map(|s| s.extent));
    for group in groups(&there) {
        ledger.begin(BTreeSet::new());
        for extent in group {
            if let Err(fault) = walk_extent(node, extent, &mut ledger).await {
                ledger.damaged(format!("extent {extent} cannot be walked: {fault}"));
            }
        }
        ledger.needles.clear();
    }
    Ok(ledger.close())
}

/// Rows that name no bytes, too: buckets, settings, answers of commands.
async fn verify_rows(index: &dyn Index, ledger: &mut Ledger) -> Result<(), Fault> {
    let mut told: BTreeSet<String> = ledger.report.damage.iter().cloned().collect();
    let mut cursor = Bytes::new();
    loop {
        let found = index.verify(cursor).await?;
        ledger.report.rows += found.rows;
        for damage in found.damage {
            let text = format!("index: {damage}");
            if told.len() <= DAMAGE_TOLD_MAX && told.insert(text.clone()) {
                ledger.damaged(text);
            }
        }
        if found.next.is_empty() {
            return Ok(());
        }
        cursor = found.next;
    }
}

/// Extents in groups of at most `CHECK_NEEDLES_MAX` needles, or of one extent; at least one group.
fn groups(extents: &[ExtentStatus]) -> Vec<Vec<ExtentId>> {
    let mut groups = vec![Vec::new()];
    let mut needles = 0;
    for status in extents {
        needles += status.needles;
        if needles > CHECK_NEEDLES_MAX && groups.last().is_some_and(|g| !g.is_empty()) {
            groups.push(Vec::new());
            needles = status.needles;
        }
        if let Some(group) = groups.last_mut() {
            group.push(status.extent);
        }
    }
    groups
}

async fn walk_extent(node: &dyn Node, extent: ExtentId, ledger: &mut Ledger) -> Result<(), Fault> {
    let mut from = WalkCursor::default();
    loop {
        let page = node.walk(extent, from, WalkDepth::Bytes, WALK_PAGE).await?;
        for walked in &page.found {
            ledger.there(extent, walked);
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

async fn walk_index(index: &dyn Index, ledger: &mut Ledger) -> Result<(), Fault> {
    let mut cursor = Bytes::new();
    loop {
        let (page, damage, next) = index.walk_on(cursor).await?;
        for named in &page {
            ledger.named(named);
        }
        let is_told = ledger.counted;
        for damage in damage.into_iter().filter(|_| !is_told) {
            ledger.damaged(format!("index: {damage}"));
        }
        if next.is_empty() {
            break;
        }
        cursor = next;
    }
    ledger.counted = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{BlobId, Epoch, Generation, SessionId};
    use wire::index::Found;
    use wire::node::{NeedleHead, OwnerRef};
    use wire::records::{Chunks, GarbageRecord, ObjectRecord};

    fn walked(needle: u64, damage: Option<&str>) -> Walked {
        Walked {
            needle: NeedleId(needle),
            offset: needle * 100,
            stored_length: 100,
            head: Some(NeedleHead {
                blob: BlobId(1),
                owner: OwnerRef {
                    bucket: BucketId(1),
                    key: "k".into(),
                    upload: None,
                },
                ordinal: 0,
                logical_offset: 0,
                last: true,
                length: 10,
                append_hlc: 0,
                session: SessionId(1),
            }),
            crc32c: Some(77),
            damage: damage.map(str::to_owned),
        }
    }

    fn object(needle: u64) -> Named {
        let chunk = Chunk {
            place: 7,
            needle,
            length: 10,
            crc32c: 77,
            ..Chunk::default()
        };
        let record = ObjectRecord {
            size: 10,
            data: Some(Data::Chunks(Chunks { chunks: vec![chunk] })),
            ..ObjectRecord::default()
        };
        Named::Object {
            bucket: BucketId(1),
            key: "k".into(),
            found: Box::new(Found {
                record,
                inline: None,
                manifest: vec![],
            }),
        }
    }

    fn report(there: &[Walked], named: &[Named]) -> Report {
        let mut ledger = Ledger::new([ExtentId(7)]);
        ledger.begin([ExtentId(7)].into());
        there.iter().for_each(|w| ledger.there(ExtentId(7), w));
        named.iter().for_each(|n| ledger.named(n));
        ledger.close()
    }

    #[test]
    fn a_whole_store_is_clean() {
        let r = report(&[walked(1, None), walked(2, None)], &[object(1)]);
        assert!(r.damage.is_empty(), "{:?}", r.damage);
        assert_eq!((r.needles, r.objects, r.orphans), (2, 1, 1));
    }

    // I3, I5
    #[test]
    fn damage_and_loss_are_named() {
        assert!(report(&[], &[object(1)]).damage[0].contains("LOST"));
        assert_eq!(
            report(&[walked(1, Some("block 0: crc"))], &[object(1)])
                .damage
                .len(),
            2
        );
        assert!(report(&[walked(1, None)], &[object(1), object(1)]).damage[0].contains("twice"));
        let of = |change: &dyn Fn(&mut Walked)| {
            let mut other = walked(1, None);
            change(&mut other);
            report(&[other], &[object(1)]).damage.join(" ")
        };
        let owner = |w: &mut Walked| w.head.as_mut().unwrap().owner.bucket = BucketId(9);
        assert!(of(&owner).contains("another object"));
        // A key of the same length, and other bytes of the same length.
        let key = |w: &mut Walked| w.head.as_mut().unwrap().owner.key = "l".into();
        assert!(of(&key).contains("another object"));
        assert!(of(&|w| w.crc32c = Some(78)).contains("not the bytes that were put"));
    }

    /// What gc would take though an object has it, whichever is met first. // I3
    #[test]
    fn what_is_booked_and_named_is_told() {
        let chunk = Chunk {
            place: 7,
            needle: 1,
            length: 10,
            crc32c: 77,
            ..Chunk::default()
        };
        let booked = || Named::Garbage {
            bucket: BucketId(1),
            key: "k".into(),
            garbage: GarbageRecord {
                chunks: vec![chunk],
                ..GarbageRecord::default()
            },
        };
        for named in [[booked(), object(1)], [object(1), booked()]] {
            let damage = report(&[walked(1, None)], &named).damage;
            assert!(
                damage.len() == 1 && damage[0].contains("do not release"),
                "{damage:?}"
            );
        }
        assert!(
            report(&[walked(1, None)], &[booked(), booked()])
                .damage
                .is_empty()
        );
    }

    /// In groups the finding is the same, and nothing is told or counted twice.
    #[test]
    fn groups_find_what_one_pass_finds() {
        let extents = [ExtentId(7), ExtentId(8)];
        let elsewhere = |extent: u64| {
            let mut named = object(5);
            if let Named::Object { found, .. } = &mut named
                && let Some(Data::Chunks(c)) = &mut found.record.data
            {
                c.chunks[0].place = extent;
                found.record.size = 11;
            }
            named
        };
        let what = "a row that nothing owns".into();
        let named = [
            object(1),
            object(2),
            elsewhere(8),
            elsewhere(9),
            Named::Stray { what },
        ];
        let found = |groups: &[&[ExtentId]]| {
            let mut ledger = Ledger::new(extents);
            for group in groups {
                ledger.begin(group.iter().copied().collect());
                for extent in *group {
                    ledger.there(*extent, &walked(1, None));
                    ledger.there(*extent, &walked(3, Some("bad")));
                }
                named.iter().for_each(|n| ledger.named(n));
                ledger.counted = true;
            }
            let mut report = ledger.close();
            report.damage.sort();
            report
        };
        let one = found(&[&extents]);
        assert_eq!((one.objects, one.needles, one.orphans), (4, 4, 3));
        assert_eq!(one.damage.len(), 8, "{:?}", one.damage);
        assert_eq!(found(&[&extents[..1], &extents[1..]]), one);
    }

    // I9
    #[test]
    fn findings_are_bounded() {
        let damage = report(&[], &vec![object(1); 2 * DAMAGE_TOLD_MAX]).damage;
        assert_eq!(damage.len(), DAMAGE_TOLD_MAX + 1);
        assert!(
            damage
                .last()
                .unwrap()
                .contains(&format!("{DAMAGE_TOLD_MAX} more"))
        );
    }

    #[test]
    fn groups_are_bounded() {
        let status = |extent, needles| ExtentStatus {
            extent: ExtentId(extent),
            epoch: Epoch(1),
            sealed: true,
            end: 0,
            needles,
            generation: Generation(0),
            salt: 0,
        };
        let half = CHECK_NEEDLES_MAX / 2;
        let sizes = [half, half, 1, 3 * half, 5];
        let extents: Vec<ExtentStatus> = (0..).zip(sizes).map(|(n, size)| status(n, size)).collect();
        let groups: Vec<usize> = groups(&extents).iter().map(Vec::len).collect();
        assert_eq!(groups, [2, 1, 1, 1]);
        assert_eq!(super::groups(&[]).len(), 1, "the index is walked all the same");
    }
}
