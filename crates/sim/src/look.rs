//! What is there after a restart, with nobody else about: everything a client can see, and every chunk that the index names.

use crate::SimDisk;
use crate::client::{Client, Pace};
use crate::disk::{Crash, Flip, SECTOR_BYTES};
use crate::machine::Machine;
use crate::op::{Answer, BUCKETS, KEYS, Line, Op, Outcome, Query, Things, UPLOADS};
use crate::oracle::Look;
use crate::stack::{Entry, StackId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::{ExtentId, Generation, JournalSeq};
use wire::Fault;
use wire::index::{Index as _, Named};
use wire::node::{Node as _, WalkCursor, WalkDepth, Walked};
use wire::records::Chunk;
use wire::records::object_record::Data;

const PACE: Pace = Pace {
    piece_bytes: usize::MAX,
    pause_ms: 0,
};
/// The journal's file.
pub const JOURNAL: &str = "journal";
/// Needles asked for at once.
const NEEDLES: usize = 64;

/// What the disk did that no store can make good.
#[derive(Debug, Default)]
pub struct Damage {
    /// Bytes of files under `extents/` that are not what was written.
    ranges: BTreeMap<String, Vec<(u64, u64)>>,
    /// Records of the journal with bits turned over.
    records: BTreeSet<JournalSeq>,
    /// Something else was hit: journal, index, superblock. Any error is excused then; wrong answers never are.
    pub elsewhere: bool,
}

impl Damage {
    /// A bit turned over, in this record of the journal.
    pub fn add_flip(&mut self, flip: &Flip, record: Option<JournalSeq>) {
        self.add(&flip.path, flip.offset, flip.offset + 1);
        self.records.extend(record);
    }

    /// The first record of the journal, as it stands now, that a flip makes look like a torn tail: one that nothing which
    /// holds says was synced. Only that may be cut, with what stands behind it.
    pub fn looks_torn(&self, disk: &SimDisk) -> Option<JournalSeq> {
        if self.records.is_empty() {
            return None;
        }
        let known = survey(disk)?.known_synced();
        self.records.range(JournalSeq(known.0 + 1)..).next().copied()
    }

    /// Promises that were broken.
    pub fn add_crash(&mut self, crash: &Crash) {
        self.elsewhere |= !crash.promised_names.is_empty();
        for (path, lost) in &crash.files {
            for sector in &lost.promised {
                self.add(path, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
            }
            if lost.promised_len {
                self.add(path, 0, u64::MAX);
            }
        }
    }

    fn add(&mut self, path: &str, start: u64, end: u64) {
        if path.starts_with("extents/") {
            self.ranges.entry(path.to_owned()).or_default().push((start, end));
        } else {
            self.elsewhere = true;
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.elsewhere || !self.ranges.is_empty()
    }

    /// Whether it explains that something is found bad in an extent, at this offset if that is said: what begins there may be as large as a needle.
    pub fn explains(&self, extent: ExtentId, offset: Option<u64>) -> bool {
        let of = format!("extents/{extent}");
        let behind = |range: &(u64, u64)| offset.is_none_or(|offset| offset < range.1);
        self.elsewhere
            || (self.ranges.iter()).any(|(path, ranges)| path.starts_with(&of) && ranges.iter().any(behind))
    }

    /// Whether it explains that `chunk` cannot be read.
    pub fn hits(&self, chunk: &Chunk) -> bool {
        let (start, end) = (chunk.hint_offset, chunk.hint_offset + chunk.stored_length);
        let extent = ExtentId(chunk.place).to_string();
        let of = |path: &str| -> Option<u64> {
            let rest = path.strip_prefix("extents/")?.strip_prefix(extent.as_str())?;
            match rest {
                "" => Some(0),
                generation => u64::from_str_radix(generation.strip_prefix('.')?, 16).ok(),
            }
        };
        // Where it is in another generation its record does not say: any damage there may be its own.
        let hit = |(path, ranges): (&String, &Vec<(u64, u64)>)| match of(path) {
            Some(generation) if generation == chunk.hint_generation => {
                ranges.iter().any(|(from, to)| *from < end && start < *to)
            }
            other => other.is_some(),
        };
        self.elsewhere || self.ranges.iter().any(hit)
    }
}

/// The journal as it stands; `None` when it cannot be read.
pub fn survey(disk: &SimDisk) -> Option<extent::Survey> {
    disk.without_faults(|| extent::Survey::of(disk).ok())
}

/// Why a look did not end well.
#[derive(Debug)]
pub enum Blind {
    /// An error that the damage does not excuse, or a wrong answer.
    Wrong(String),
    /// The store refuses because of damage: the run ends here.
    Refused(String),
}

/// Looks at everything.
///
/// # Errors
/// What is wrong whatever came before.
pub async fn look(client: &Client, damage: &Damage) -> Result<Look, Blind> {
    let mut look = Look::default();
    let see = async |op: Op| {
        let id = client.recorder.aside(op.clone());
        (id, client.perform(id, &op, PACE).await)
    };
    // A removal that was cut off half-way is finished by whoever finds it: that is to be over before the look.
    for bucket in 0..BUCKETS {
        match see(Op::HeadBucket { bucket }).await.1 {
            Outcome::Refused(wire::index::Reason::NoSuchBucket) => {}
            other => match answered(other, damage)? {
                Answer::Set(versioning) => look.state.versioning[bucket] = versioning as u8,
                other => return Err(Blind::Wrong(format!("HeadBucket answered {other:?}"))),
            },
        }
    }
    let Answer::Set(buckets) = answered(see(Op::ListBuckets).await.1, damage)? else {
        return Err(Blind::Wrong("ListBuckets answered something else".into()));
    };
    look.state.buckets = buckets;
    for bucket in 0..BUCKETS {
        if buckets >> bucket & 1 == 1 {
            look_at_bucket((client, &see), bucket, damage, &mut look).await?;
        }
    }
    look.known = Things::all();
    Ok(look)
}

fn answered(outcome: Outcome, damage: &Damage) -> Result<Answer, Blind> {
    match outcome {
        Outcome::Answered(answer) => Ok(answer),
        Outcome::Failed(kind) if damage.elsewhere => Err(Blind::Refused(format!("{kind:?}"))),
        other => Err(Blind::Wrong(format!("a look was answered {other:?}"))),
    }
}

async fn look_at_bucket(
    (client, see): (&Client, &impl AsyncFn(Op) -> (u16, Outcome)),
    bucket: usize,
    damage: &Damage,
    look: &mut Look,
) -> Result<(), Blind> {
    let home = |upload: usize| client.recorder.get().book.home(upload);
    let query = Query {
        prefix: "",
        delimiter: "",
        after: String::new(),
        max: 1000,
    };
    let list = Op::List {
        bucket,
        query: query.clone(),
    };
    let Answer::Page(lines, false) = answered(see(list).await.1, damage)? else {
        return Err(Blind::Wrong("a listing of a few keys is truncated".into()));
    };
    let mut objects = [0; KEYS.len()];
    for line in lines {
        if let Line::Key(key, value) = line {
            objects[key] = value;
        }
    }
    let stacks = look_at_versions((client, see), (bucket, query), damage).await?;
    look.state.stacks[bucket] = stacks;
    for (key, name) in KEYS.iter().enumerate() {
        let listed = objects[key];
        let newest = client.recorder.get().book.stacks.visible(stacks[key]);
        if newest != listed {
            return Err(Blind::Wrong(format!(
                "I2: {name:?} is {listed} in the listing and {newest} in that of its versions"
            )));
        }
        let got = match see(Op::Get {
            bucket,
            key,
            range: None,
        })
        .await
        .1
        {
            Outcome::Refused(wire::index::Reason::NoSuchKey | wire::index::Reason::DeleteMarker) => 0,
            other => match answered(other, damage)? {
                Answer::Value(value) => value,
                other => return Err(Blind::Wrong(format!("a get was answered {other:?}"))),
            },
        };
        if got != listed {
            return Err(Blind::Wrong(format!(
                "I2: {name:?} is {listed} in the listing and {got} when it is got"
            )));
        }
    }
    let Answer::Set(uploads) = answered(see(Op::ListUploads { bucket }).await.1, damage)? else {
        return Err(Blind::Wrong("ListUploads answered something else".into()));
    };
    look.state.uploads |= uploads;
    for upload in (0..UPLOADS).filter(|u| uploads >> u & 1 == 1) {
        let (bucket, key) = home(upload).expect("a listed upload was begun");
        if let Answer::Parts(parts) = answered(see(Op::ListParts { bucket, key, upload }).await.1, damage)? {
            look.state.parts[upload] = parts;
        }
    }
    Ok(())
}

/// The versions of each key of a bucket.
async fn look_at_versions(
    (client, see): (&Client, &impl AsyncFn(Op) -> (u16, Outcome)),
    (bucket, query): (usize, Query),
    damage: &Damage,
) -> Result<[StackId; KEYS.len()], Blind> {
    let list = Op::ListVersions { bucket, query };
    let Answer::Page(lines, false) = answered(see(list).await.1, damage)? else {
        return Err(Blind::Wrong("a listing of some versions is truncated".into()));
    };
    let mut stacks: [Vec<Entry>; KEYS.len()] = Default::default();
    for line in lines {
        match line {
            Line::Version(key, entry, latest) if latest == stacks[key].is_empty() => stacks[key].push(entry),
            other => return Err(Blind::Wrong(format!("{other:?} in a listing of versions"))),
        }
    }
    let book = &client.recorder.get().book;
    Ok(stacks.map(|stack| book.stacks.id(stack)))
}

/// Walks the index against the extents: every named chunk is there and whole, or damaged by the disk. Answers how many.
///
/// # Errors
/// The first that is not.
pub async fn walk(machine: &Machine, damage: &Damage) -> Result<u64, String> {
    let mut extents: BTreeMap<ExtentId, (Generation, BTreeMap<u64, Walked>)> = BTreeMap::new();
    let (mut cursor, mut seen) = (Bytes::new(), 0);
    loop {
        let page = machine.index.walk(cursor).await;
        let (named, next) = match page {
            Ok(page) => page,
            Err(fault) if damage.elsewhere => return Ok(fault_count(&fault, seen)),
            Err(fault) => return Err(format!("the index cannot be walked: {fault}")),
        };
        let stray = named.iter().find_map(|named| match named {
            Named::Stray { what } => Some(what),
            _ => None,
        });
        if let Some(what) = stray.filter(|_| !damage.elsewhere) {
            return Err(format!("a row that nothing owns: {what}"));
        }
        for chunk in named.iter().flat_map(chunks_of) {
            seen += 1;
            let extent = ExtentId(chunk.place);
            if let std::collections::btree_map::Entry::Vacant(vacant) = extents.entry(extent) {
                let status = machine.node.extent(extent).await;
                let generation = status.map_or(Generation(0), |s| s.generation);
                vacant.insert((generation, needles(machine, extent).await.unwrap_or_default()));
            }
            let (generation, needles) = &extents[&extent];
            let moved = generation.0 != chunk.hint_generation;
            let found = needles.get(&chunk.needle);
            let wrong = match found {
                None => Some("is not there".to_owned()),
                Some(walked) if walked.damage.is_some() => walked.damage.clone(),
                // Damage is told, never made good by new checksums (I5).
                Some(walked) if walked.crc32c != Some(chunk.crc32c) => {
                    return Err(format!(
                        "I5: needle {} of extent {extent} verifies and is not what was written: {chunk:?} {walked:?}",
                        chunk.needle
                    ));
                }
                Some(walked)
                    if walked.stored_length != chunk.stored_length
                        || (walked.offset != chunk.hint_offset && !moved) =>
                {
                    Some(format!("is elsewhere: {walked:?}"))
                }
                Some(_) => None,
            };
            match wrong {
                Some(what) if !damage.hits(&chunk) => {
                    return Err(format!(
                        "I3: needle {} of extent {extent} {what}: {chunk:?}",
                        chunk.needle
                    ));
                }
                _ => {}
            }
        }
        if next.is_empty() {
            return Ok(seen);
        }
        cursor = next;
    }
}

fn fault_count(fault: &Fault, seen: u64) -> u64 {
    tracing::debug!(%fault, "a damaged index was walked as far as it goes");
    seen
}

pub(crate) fn chunks_of(named: &Named) -> Vec<Chunk> {
    match named {
        Named::Object { found, .. } => match &found.record.data {
            Some(Data::Chunks(chunks)) => chunks.chunks.clone(),
            Some(Data::Manifest(_)) => found
                .manifest
                .iter()
                .flat_map(|page| page.chunks.clone())
                .collect(),
            _ => Vec::new(),
        },
        Named::Part { part, .. } => part.chunks.clone(),
        Named::Garbage { .. } | Named::Stray { .. } => Vec::new(),
    }
}

/// All needles of an extent, every byte of them read.
pub(crate) async fn needles(machine: &Machine, extent: ExtentId) -> Result<BTreeMap<u64, Walked>, Fault> {
    let mut all = BTreeMap::new();
    let mut from = WalkCursor::default();
    loop {
        let page = machine.node.walk(extent, from, WalkDepth::Bytes, NEEDLES).await?;
        all.extend(page.found.into_iter().map(|walked| (walked.needle.0, walked)));
        match page.next {
            Some(next) => from = next,
            None => return Ok(all),
        }
    }
}

/// What a walk of every byte of every extent finds bad: extent, and offset.
pub(crate) async fn damaged(machine: &Machine) -> Result<BTreeSet<(ExtentId, u64)>, Fault> {
    let mut bad = BTreeSet::new();
    for status in machine.node.extents().await? {
        let mut from = WalkCursor::default();
        loop {
            let page = machine
                .node
                .walk(status.extent, from, WalkDepth::Bytes, NEEDLES)
                .await?;
            let damaged = page.found.iter().filter(|walked| walked.damage.is_some());
            bad.extend(damaged.map(|walked| (status.extent, walked.offset)));
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    Ok(bad)
}

/// Counts what the node says of its extents and disk.
pub async fn count(machine: &Machine, disk: &SimDisk, client: &Client) {
    let extents = machine.node.extents().await.unwrap_or_default();
    let record = &mut *client.recorder.get();
    record.counts.add(
        "extent.sealed",
        extents.iter().filter(|e| e.sealed).count() as u64,
    );
    record
        .counts
        .add("extent.open", extents.iter().filter(|e| !e.sealed).count() as u64);
    record.note(format_args!("disk {:?}", disk.trace()));
}
