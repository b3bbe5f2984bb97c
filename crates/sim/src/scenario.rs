//! What a seed makes happen: sizes, what clients do, and what befalls the machine.

use crate::SimRng;
use crate::client::Pace;
use crate::disk::{Fault, FaultKind};
use crate::op::{BUCKETS, Condition, KEYS, Op, OpId, PARTS, Query, Spoil, UPLOADS, Which};
use crate::record::Record;
use types::limits::{BLOCK_BYTES, PART_BYTES_MIN};

/// Sizes of a run: small, so that the journal goes round and extents fill up within a few hundred operations.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The journal's length.
    pub journal_bytes: u64,
    /// Where an extent is full.
    pub extent_bytes: u64,
    /// Step that extents grow in.
    pub extent_step_bytes: u64,
    /// Kept back.
    pub ballast_bytes: u64,
    /// The disk.
    pub disk_bytes: u64,
    /// Clients at once.
    pub clients: u64,
    /// What requests may hold in memory at once; `None`: there is no bound.
    pub memory_bytes: Option<u64>,
    /// Calls and commits in a hundred that go wrong on the way.
    pub flaky_percent: u64,
    /// Whether parts of 5 MiB are sent: slow, so in few runs.
    pub large_parts: bool,
    /// Whether clients mostly make, fill and remove one bucket, at once.
    pub war: bool,
    /// Whether buckets come to keep versions.
    pub versioned: bool,
    /// Whether bits turn over in it, and whether syncs lie: at most one of both.
    pub rot: Rot,
    /// How garbage is collected; `None`: it stays.
    pub gc: Option<Collecting>,
    /// In how long everything is read again, ms; `None`: nobody looks.
    pub scrub_ms: Option<u64>,
    /// Whether the index is copied, and copies of it are laid again.
    pub snapshots: bool,
}

/// gc's times, at their smallest.
#[derive(Clone, Copy, Debug)]
pub struct Collecting {
    /// How long bytes stay after they lost their name.
    pub grace_ms: u64,
    /// How old a needle without a name gets.
    pub horizon_ms: u64,
    /// Between looks.
    pub look_ms: u64,
    /// How long a page of bookings waits for readers that have not said what they read.
    pub readers_wait_ms: u64,
}

impl Collecting {
    fn new(rng: &SimRng) -> Self {
        Self {
            grace_ms: *rng.pick(&[0, 0, 5, 100]),
            horizon_ms: *rng.pick(&[0, 20, 20, 500]),
            look_ms: *rng.pick(&[2, 5, 20]),
            readers_wait_ms: *rng.pick(&[20, 1000]),
        }
    }
}

/// What a run's disk does that no store can make good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// Nothing.
    None,
    /// Bits turn over.
    Flips,
    /// Syncs lie.
    Lies,
}

impl Shape {
    /// Of a seed.
    pub fn new(rng: &SimRng) -> Self {
        let kib = |n: u64| n << 10;
        let (war, rot) = (
            rng.percent(15),
            *rng.pick(&[Rot::None, Rot::None, Rot::None, Rot::Flips, Rot::Lies]),
        );
        let large_parts = rng.percent(4);
        // Beside large parts nothing would be collected within a run.
        let gc = (rng.percent(75) && !large_parts).then(|| Collecting::new(rng));
        let extent_kib = match gc {
            Some(_) => *rng.pick(&[256, 256, 512, 1024]),
            None => *rng.pick(&[768, 1024, 4096]),
        };
        Self {
            journal_bytes: kib(*rng.pick(&[512, 1024, 2048])),
            extent_bytes: kib(extent_kib),
            extent_step_bytes: kib(*rng.pick(&[64, 256])),
            // Of an extent, as the store has it: what is worth writing anew fits.
            ballast_bytes: kib(256.max(extent_kib / 8 * 5)),
            disk_bytes: kib(256 << 10),
            clients: rng.between(2, 5),
            // The least of them is used up by two large puts.
            memory_bytes: *rng.pick(&[None, Some(kib(4 << 10)), Some(kib(600))]),
            flaky_percent: *rng.pick(&[0, 3, 8]),
            large_parts,
            war,
            // What a lie promised is told only by what is left of it: orders of versions would be too many to look at.
            versioned: rng.percent(50) && !war && rot != Rot::Lies,
            rot,
            gc,
            snapshots: rng.percent(50) && rot == Rot::None && !war && !large_parts,
            scrub_ms: rng.percent(60).then(|| *rng.pick(&[400, 2_000, 6_000])),
        }
    }

    /// Room without which a disk takes no write.
    pub fn kept_back_bytes(&self) -> u64 {
        self.ballast_bytes / 2 + 4 * self.extent_step_bytes
    }

    /// The data directory's sizes.
    pub fn dir_config(&self) -> extent::DataDirConfig {
        extent::DataDirConfig {
            journal_bytes: Some(self.journal_bytes),
            extent_bytes: Some(self.extent_bytes),
            extent_step_bytes: Some(self.extent_step_bytes),
            ballast_bytes: Some(self.ballast_bytes),
            ..extent::DataDirConfig::default()
        }
    }

    /// The byte path's sizes.
    pub fn blob_config(&self) -> blob::Config {
        blob::Config {
            chunk_bytes_max: match self.large_parts {
                true => 1 << 20,
                // More than a block: such a chunk takes an extent for itself.
                false => (self.extent_bytes / 2).min(256 << 10),
            },
            frame_bytes_max: BLOCK_BYTES,
            small_bytes_max: BLOCK_BYTES,
            // Few, so that they fill up; and a get asks for no frame before it needs it.
            extents_max: if self.gc.is_some() { 2 } else { 4 },
            read_ahead_frames: if self.gc.is_some() { 1 } else { 4 },
            ..blob::Config::default()
        }
    }
}

/// How the machine's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The power goes in the middle of something.
    Cut,
    /// The process is killed; the machine goes on.
    Kill,
    /// It is stopped in order.
    Stop,
    /// It is stopped in order, and then the power goes.
    StopThenCut,
}

/// What befalls the machine once so many operations have begun.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The disk gets a fault to come.
    Disk(Fault),
    /// A bit turns over in a file of that sort.
    Flip(&'static str),
    /// A bit turns over in the journal's newest record, so far into it (of 1,000), and the power goes.
    LastWord(u64),
    /// So many bytes are left.
    Full(u64),
    /// There is room again.
    Room,
    /// The wall clock jumps.
    Jump(i64),
    /// Reclaim is held until some later life.
    Hold,
    /// Files of the index are opened anew, as those are that hardly anybody reads.
    Rest,
}

/// One life of the machine.
#[derive(Debug)]
pub struct Life {
    /// Operations that clients begin.
    pub ops: u64,
    /// By how many of them have begun.
    pub troubles: Vec<(u64, Trouble)>,
    /// How it ends, unless trouble ends it.
    pub ending: Ending,
    /// The power goes during recovery, after so many operations of the disk.
    pub cut_recovery: Option<u64>,
    /// Where reclaim is held, it is let go before anybody comes.
    pub lets_go: bool,
    /// The disk has so many bytes left throughout.
    pub tight: Option<u64>,
    /// Once so many operations have begun the index is copied; and whether the copy is kept, to be laid later.
    pub snapshots: Vec<(u64, bool)>,
}

impl Life {
    /// The next life of a run.
    pub fn new(rng: &SimRng, shape: &Shape, first: bool, rot: bool) -> Self {
        let ops = rng.between(25, 90);
        let ending = match rng.below(10) {
            0..5 => Ending::Cut,
            5..7 => Ending::Kill,
            7..9 => Ending::Stop,
            _ => Ending::StopThenCut,
        };
        // Its disk is all but full, and nothing else is wrong with it.
        let is_tight = shape.gc.is_some() && !shape.versioned && !rot && rng.percent(15);
        let tight = is_tight.then(|| shape.kept_back_bytes() + (rng.between(40, 500) << 10));
        let mut troubles = Vec::new();
        let mut add = |trouble| troubles.push((rng.below(ops), trouble));
        for kind in [FaultKind::ReadError, FaultKind::WriteError, FaultKind::SyncError] {
            let percent = if kind == FaultKind::ReadError { 25 } else { 12 };
            if rng.percent(percent) {
                add(Trouble::Disk(
                    Fault::new(kind, rng.below(30))
                        .on(rng.pick::<&str>(&["", "", "journal", "extents/", "index/"])),
                ));
            }
        }
        if rng.percent(15) {
            add(Trouble::Full(rng.below(600 << 10)));
            add(Trouble::Room);
        }
        if rng.percent(20) {
            add(Trouble::Jump(rng.between(0, 7_200_000) as i64 - 3_600_000));
        }
        if shape.gc.is_some() && rng.percent(15) {
            add(Trouble::Hold);
        }
        if rng.percent(40) {
            (0..rng.between(1, 4)).for_each(|_| add(Trouble::Rest));
        }
        let on = *rng.pick(&["extents/", "extents/", "journal", "index/", ""]);
        if shape.rot == Rot::Flips && rot {
            add(Trouble::Flip(on));
            // What is damaged is to be there still when its extent is compacted.
            let in_extents = if shape.gc.is_some() { 3 } else { 0 };
            (0..in_extents).for_each(|_| add(Trouble::Flip("extents/")));
            if rng.percent(30) {
                add(Trouble::LastWord(rng.below(1_000)));
            }
            // Little of the journal is alive at a time: it takes many to hit it.
            let many = rng.percent(50);
            (0..if many { 24 } else { 0 }).for_each(|_| add(Trouble::Flip("journal")));
        }
        if shape.rot == Rot::Lies && rot {
            add(Trouble::Disk(
                Fault::new(FaultKind::LyingSync, rng.below(20)).on(on),
            ));
        }
        if is_tight {
            troubles.clear();
        } else if ending == Ending::Cut {
            let mut add = |trouble| troubles.push((rng.below(ops), trouble));
            add(Trouble::Disk(Fault::new(FaultKind::PowerOff, rng.below(60))));
        }
        troubles.sort_by_key(|(at, _)| *at);
        Self {
            ops,
            troubles,
            ending,
            cut_recovery: (!first && rng.percent(20)).then(|| rng.below(40)),
            lets_go: is_tight || rng.percent(50),
            tight,
            snapshots: match is_tight {
                true => Vec::new(),
                false => snapshots(rng, shape, ops),
            },
        }
    }
}

fn snapshots(rng: &SimRng, shape: &Shape, ops: u64) -> Vec<(u64, bool)> {
    let count = match shape.snapshots {
        true => rng.below(4),
        false => 0,
    };
    let mut at: Vec<_> = (0..count).map(|_| (rng.below(ops), rng.percent(60))).collect();
    at.sort_unstable();
    at
}

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// One operation.
    One(Op),
    /// A batch delete: of a bucket's keys, by number.
    DeleteMany(usize, Vec<usize>),
    /// A copy of what one key names to another.
    Copy((usize, usize), (usize, usize)),
    /// A listing in pages to its end.
    ListAll(usize, u32),
}

/// What a client of a run does next, how fast, and after how many polls it goes away.
pub fn next_step(record: &mut Record, shape: &Shape, rng: &SimRng) -> (Step, Pace, Option<u64>) {
    let pace = Pace {
        piece_bytes: *rng.pick(&[900, 7_000, 65_536, usize::MAX]),
        pause_ms: *match shape.gc {
            // Looks go on all the time: time costs.
            Some(_) => rng.pick(&[0, 0, 0, 0, 1, 5, 40, 150]),
            None => rng.pick(&[0, 0, 0, 0, 0, 0, 1, 40, 3_000]),
        },
    };
    let gives_up = rng.percent(4).then(|| rng.between(1, 12));
    if shape.war && rng.percent(70) {
        let at = (1, 0);
        let op = match rng.below(8) {
            0 | 1 => Op::DeleteBucket { bucket: 1 },
            2 => Op::CreateBucket { bucket: 1 },
            3 => delete(record, rng, at),
            4 => on_upload(record, shape, rng, at),
            _ => Op::Put {
                bucket: at.0,
                key: at.1,
                size: rng.between(8, 100),
                condition: Condition::Always,
                spoil: Spoil::Whole,
                of: None,
            },
        };
        return (Step::One(op), Pace { pause_ms: 0, ..pace }, None);
    }
    let bucket = usize::from(rng.percent(25)) % BUCKETS;
    let key = rng.below(KEYS.len() as u64) as usize;
    if shape.versioned && rng.percent(30) {
        let op = on_version(record, rng, (bucket, key));
        return (Step::One(op), pace, gives_up);
    }
    let step = match rng.weighted(&[26, 18, 5, 9, 3, 9, 3, 4, 2, 2, 24, 3, 3, 6]) {
        0 => Step::One(put(record, shape, rng, (bucket, key))),
        1 => Step::One(Op::Get {
            bucket,
            key,
            range: rng.percent(40).then(|| (rng.below(70_000), rng.below(70_000))),
        }),
        2 => Step::One(Op::Head { bucket, key }),
        3 => Step::One(delete(record, rng, (bucket, key))),
        4 => Step::DeleteMany(bucket, (0..KEYS.len()).filter(|_| rng.percent(60)).collect()),
        5 => list(rng, bucket),
        6 => Step::One(Op::CreateBucket { bucket }),
        7 => Step::One(Op::DeleteBucket {
            bucket: if rng.percent(80) { 1 } else { 0 },
        }),
        8 => Step::One(Op::HeadBucket { bucket }),
        9 => Step::One(Op::ListBuckets),
        11 => Step::One(Op::SetTags { bucket, key }),
        12 => Step::One(Op::GetTags { bucket, key }),
        13 => {
            let to = (
                usize::from(rng.percent(25)),
                rng.below(KEYS.len() as u64) as usize,
            );
            Step::Copy((bucket, key), to)
        }
        _ => Step::One(on_upload(record, shape, rng, (bucket, key))),
    };
    (step, pace, gives_up)
}

fn size(shape: &Shape, rng: &SimRng) -> u64 {
    let large = if shape.large_parts {
        (1 << 20, 3 << 20)
    } else {
        (150_000, 700_000)
    };
    let weights = match shape.gc {
        Some(_) => [4, 20, 26, 30, 16, 4],
        None => [8, 34, 34, 16, 6, 2],
    };
    match rng.weighted(&weights) {
        0 => 0,
        1 => rng.between(8, 512),
        2 => rng.between(513, 5_000),
        3 => rng.between(5_000, 65_536),
        4 => rng.between(65_537, 200_000),
        _ => rng.between(large.0, large.1),
    }
}

fn spoil(rng: &SimRng) -> Spoil {
    match rng.below(20) {
        0 => Spoil::Vanishes,
        1 => Spoil::WrongMd5,
        _ => Spoil::Whole,
    }
}

fn condition(record: &Record, rng: &SimRng, at: (usize, usize)) -> Condition {
    let stored = record.stored.get(&at).map(Vec::as_slice).unwrap_or_default();
    match rng.below(10) {
        0 | 1 => Condition::Absent,
        2 if !stored.is_empty() => {
            let newest = &stored[stored.len().saturating_sub(3)..];
            Condition::Is(*rng.pick(newest))
        }
        _ => Condition::Always,
    }
}

fn put(record: &Record, shape: &Shape, rng: &SimRng, (bucket, key): (usize, usize)) -> Op {
    let size = size(shape, rng);
    Op::Put {
        bucket,
        key,
        size,
        condition: condition(record, rng, (bucket, key)),
        spoil: if size == 0 { Spoil::Whole } else { spoil(rng) },
        of: None,
    }
}

fn delete(record: &Record, rng: &SimRng, (bucket, key): (usize, usize)) -> Op {
    // Nobody deletes what must not be there.
    let condition = match condition(record, rng, (bucket, key)) {
        Condition::Absent => Condition::Always,
        condition => condition,
    };
    Op::Delete {
        bucket,
        key,
        condition,
    }
}

fn list(rng: &SimRng, bucket: usize) -> Step {
    if rng.percent(30) {
        return Step::ListAll(bucket, rng.between(1, 3) as u32);
    }
    let query = query(rng);
    Step::One(Op::List { bucket, query })
}

fn query(rng: &SimRng) -> Query {
    Query {
        prefix: rng.pick::<&str>(&["", "", "a", "a/", "b"]),
        delimiter: rng.pick::<&str>(&["", "/"]),
        after: (*rng.pick(&["", "", "a", "a/b"])).to_owned(),
        max: *rng.pick(&[1, 2, 1000]),
    }
}

/// Something on the versions of a key, or on whether there are any.
fn on_version(record: &Record, rng: &SimRng, (bucket, key): (usize, usize)) -> Op {
    let which = which(record, rng, (bucket, key));
    match rng.weighted(&[10, 20, 45, 20]) {
        0 => Op::SetVersioning {
            bucket,
            versioning: *rng.pick(&[1, 1, 2]),
        },
        1 => Op::GetVersion { bucket, key, which },
        2 => Op::DeleteVersion { bucket, key, which },
        _ => Op::ListVersions {
            bucket,
            query: query(rng),
        },
    }
}

/// A version that was made lately, or the null one.
fn which(record: &Record, rng: &SimRng, at: (usize, usize)) -> Which {
    let made = if rng.percent(30) {
        &record.deleted
    } else {
        &record.stored
    };
    let made = made.get(&at).map(Vec::as_slice).unwrap_or_default();
    if made.is_empty() || rng.percent(20) {
        return Which::Null;
    }
    let newest = &made[made.len().saturating_sub(6)..];
    Which::Of(record.book.stores(*rng.pick(newest)))
}

/// Something on an upload that was begun, or a new one.
fn on_upload(record: &mut Record, shape: &Shape, rng: &SimRng, at: (usize, usize)) -> Op {
    let begun = record.uploads_begun;
    if begun == 0 || (begun < UPLOADS && rng.percent(20)) {
        record.uploads_begun += 1;
        // Those of a bucket that is removed all the time go with it: elsewhere most are where they can grow.
        let bucket = if shape.war || rng.percent(30) { at.0 } else { 0 };
        return Op::StartUpload {
            bucket,
            key: at.1,
            upload: begun,
        };
    }
    let recent = begun.min(4) as u64;
    let upload = begun - 1 - rng.below(recent) as usize;
    let (bucket, key) = record.book.home(upload).expect("it was begun");
    let parts: [OpId; PARTS.len()] = record.parts[upload];
    match rng.weighted(&[45, 25, 8, 10, 12]) {
        0 => Op::PutPart {
            bucket,
            key,
            upload,
            part: rng.below(PARTS.len() as u64) as usize,
            size: if shape.large_parts && rng.percent(50) {
                PART_BYTES_MIN + rng.below(10_000)
            } else {
                size(shape, rng).max(8)
            },
            spoil: spoil(rng),
        },
        1 if parts.iter().any(|p| *p > 0) => {
            let mut named = parts;
            // Of two parts but the last must be large: mostly one is named.
            if !shape.large_parts && named.iter().all(|p| *p > 0) && rng.percent(80) {
                named[rng.below(PARTS.len() as u64) as usize] = 0;
            }
            Op::CompleteUpload {
                bucket,
                key,
                upload,
                parts: named,
                condition: condition(record, rng, (bucket, key)),
            }
        }
        2 => Op::AbortUpload { bucket, key, upload },
        3 => Op::ListUploads { bucket },
        _ => Op::ListParts { bucket, key, upload },
    }
}
