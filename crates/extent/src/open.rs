//! Opening a data directory: making a new one, or recovering one that was in use.
//!
//! ```text
//!   lock ▶ superblock ▶ extent table ▶ scan the journal ▶ judge ▶ replay into extents
//!        ▶ write the unsynced tail again ▶ start record, synced ▶ checkpoint ▶ serve
//! ```
//! Every step may be cut off by a crash and done again: nothing is served, and nothing of the journal is released, before all of them.

use crate::buffers::Buffers;
use crate::create::{DataDirConfig, create};
use crate::dir::{DataDir, Open};
use crate::generations::Foreseen;
use crate::journal::recover::{Verdict, judge};
use crate::journal::ring::{Ring, Span};
use crate::journal::scan::{FoundHeader, payload, scan};
use crate::journal::writer::{Position, SharedWriter, Writer};
use crate::journal::zeroes::{Closes, Zeroes};
use crate::journal::{Consumer, Journal, LogBatch, Lost, RecordType, Shared};
use crate::leaving::Leaving;
use crate::mapping::Mappings;
use crate::replay::{Recovered, Replay};
use crate::room::Room;
use crate::superblock::{self, Copies, Superblock};
use crate::table::{Row, Table};
use crate::{ExtentError, ballast};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use types::limits::{
    CACHED_READ_BUFFERS_MAX, DIRECT_BUFFERS_MAX, JOURNAL_BLOCK_BYTES, JOURNAL_GROUP_BYTES_MAX,
    JOURNAL_RECORD_BYTES_MAX,
};
use types::{DiskId, JournalSeq};
use world::rot::{self, Rot};
use world::{Disk, DiskFile, DiskLock, Exec, World, read_patiently};

pub(crate) const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
const BLOCK: u64 = JOURNAL_BLOCK_BYTES as u64;
const EXTENTS_CONSUMER: &str = "extents";

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Nothing was there: it was made.
    pub created: bool,
    /// Journal records that were synced once and cannot be read back: corruption.
    pub lost: Vec<Lost>,
    /// Records of a torn tail, cut off: nobody was told that they are durable.
    pub torn: u64,
    /// Needles written to their extents again.
    pub replayed: u64,
    /// All that is wrong, a sentence each; `lost` too.
    pub damage: Vec<String>,
}

/// An opened data directory.
pub struct Opened {
    /// The directory.
    pub dir: DataDir,
    /// Log batches that no consumer had released, in order: for the engine.
    pub batches: Vec<(JournalSeq, LogBatch)>,
    /// What was found.
    pub report: RecoveryReport,
}

impl Opened {
    /// Whether a log batch at or above `released` may be lost. The engine must not answer from its log then.
    pub fn lost_batch(&self, released: JournalSeq) -> Option<Lost> {
        let lost = self.report.lost.iter();
        lost.copied().find(|l| l.may_be_batch() && l.to >= released)
    }
}

/// What recovery has found when nothing of the journal has been changed yet.
pub struct Found<'a> {
    /// Which disk.
    pub disk: DiskId,
    /// As in [`Opened`].
    pub batches: &'a [(JournalSeq, LogBatch)],
    /// As in [`RecoveryReport`].
    pub lost: &'a [Lost],
}

/// Says whether a directory is to be opened at all. May be asked twice.
pub type Judge<'a> = &'a mut dyn FnMut(&Found<'_>) -> Result<(), ExtentError>;

impl DataDir {
    /// Opens the data directory on `disk`, making it where the disk is empty.
    ///
    /// # Errors
    /// Another process has it; a newer build wrote it (nothing was changed); it is damaged beyond use; the disk fails.
    pub fn open(world: &World, disk: Arc<dyn Disk>, config: DataDirConfig) -> Result<Opened, ExtentError> {
        Self::open_judged(world, disk, config, &mut |_| Ok(()))
    }

    /// [`DataDir::open`], unless `judge` refuses. Then nothing was added to the journal: whatever starts a refusing store again
    /// and again does not fill it.
    ///
    /// # Errors
    /// As for [`DataDir::open`], and the judge's.
    pub fn open_judged(
        world: &World,
        disk: Arc<dyn Disk>,
        config: DataDirConfig,
        judge: Judge<'_>,
    ) -> Result<Opened, ExtentError> {
        let lock = lock(&*disk)?;
        let mut report = RecoveryReport::default();
        let superblock = match Copies::read(&*disk)? {
            Some(found) => {
                report.damage.extend(found.bad);
                found.superblock
            }
            None => {
                report.created = true;
                create(world, &*disk, config)?
            }
        };
        let mut found = recover(&disk, &superblock, judge, report.clone());
        if let Err(ExtentError::Full(why)) = &found {
            // What recovery writes is what room was kept back for.
            tracing::warn!(why, "no room to recover in");
            ballast::shrink(&*disk).map_err(|e| ExtentError::io("ballast", &e))?;
            found = recover(&disk, &superblock, judge, report);
        }
        start(world, disk, (superblock, lock), found?)
    }
}

fn lock(disk: &dyn Disk) -> Result<Box<dyn DiskLock>, ExtentError> {
    disk.lock(LOCK).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => ExtentError::Locked(LOCK.into()),
        _ => ExtentError::io(LOCK, &e),
    })
}

/// A directory that is as its journal says.
struct Ready {
    recovered: Recovered,
    /// The table's.
    released: u64,
    file: Arc<dyn DiskFile>,
    verdict: Verdict,
    batches: Vec<(JournalSeq, LogBatch)>,
    report: RecoveryReport,
}

/// Brings the extents to what the journal says, and changes nothing else. May be done again.
fn recover(
    disk: &Arc<dyn Disk>,
    superblock: &Superblock,
    judge: Judge<'_>,
    mut report: RecoveryReport,
) -> Result<Ready, ExtentError> {
    let mut rebuilt = None;
    let mut table = Table::read(&**disk, superblock.disk)
        .or_else(|e| match e {
            ExtentError::Corrupt(_) => {
                rebuilt = Some(e);
                Ok(None)
            }
            e => Err(e),
        })?
        .unwrap_or_default();
    let file = disk.open(JOURNAL).map_err(|e| ExtentError::io(JOURNAL, &e))?;
    let verdict = read_journal(&*file, superblock, table.synced)?;
    let foreseen = foresee(&*file, &verdict)?;
    if let Some(e) = &rebuilt {
        report.damage.push(format!("{e}; rebuilt from the extents"));
        table = Replay::rebuild_table(&**disk, superblock, &foreseen, &mut report)?;
    }
    report.lost.clone_from(&verdict.lost);
    report.torn = verdict.torn;
    for lost in &verdict.lost {
        report.damage.push(format!(
            "journal records {} to {} were synced and are lost",
            lost.from, lost.to
        ));
    }
    // The journal is released only once a table has said so: an older one lacks what was recycled since.
    let stale = rebuilt.is_none() && verdict.low_water > table.released.max(1);
    if stale {
        report
            .damage
            .push("the extent table is older than what the journal released by it".into());
    }
    let mut replay = Replay::new(&**disk, superblock, &table, &foreseen)?;
    let batches = replay_live(&*file, &verdict, table.released, (&mut replay, &mut report))?;
    let mut lost = verdict.lost.iter();
    let lost_state = lost.any(|l| l.may_be_extent() && l.to.0 >= table.released);
    let recovered = replay.finish((lost_state || stale, rebuilt.is_some()), &mut report)?;
    judge(&Found {
        disk: superblock.disk,
        batches: &batches,
        lost: &report.lost,
    })?;
    Ok(Ready {
        recovered,
        released: table.released,
        file,
        verdict,
        batches,
        report,
    })
}

/// Goes on with a recovered directory.
fn start(
    world: &World,
    disk: Arc<dyn Disk>,
    (superblock, lock): (Superblock, Box<dyn DiskLock>),
    ready: Ready,
) -> Result<Opened, ExtentError> {
    let Ready {
        recovered,
        released,
        file,
        verdict,
        batches,
        report,
    } = ready;
    for damage in &report.damage {
        let what = match damage {
            damage if damage.starts_with(superblock::NAME) => Rot::Superblock,
            damage if damage.starts_with("journal") => Rot::Journal,
            damage if damage.contains("extent table") => Rot::ExtentTable,
            _ => Rot::Extent,
        };
        rot::found(what, damage);
    }
    Copies::mend(&*disk)?;
    rewrite_tail(&*file, &verdict)?;
    // What may be a lost batch is held too: until the engine has seen it, every opening reports it.
    let lost = verdict.lost.iter().filter(|l| l.may_be_batch());
    let held = batches
        .iter()
        .map(|(s, _)| s.0)
        .chain(lost.map(|l| l.from.0))
        .min();
    let another = disk.open(JOURNAL).map_err(|e| ExtentError::io(JOURNAL, &e))?;
    let journal = start_journal(world, &superblock, [file, another], &verdict, (released, held))?;
    // A compaction may have died with ballast that it was given, also after its last file was gone.
    let left = ballast::len(&*disk).map_err(|e| ExtentError::io("ballast", &e))?;
    let short = superblock.format >= superblock::FORMAT_RECLAIMED && left < superblock.ballast_bytes;
    let open = Open {
        disk,
        superblock,
        consumer: Consumer::of(journal.clone(), EXTENTS_CONSUMER),
        journal,
        extents: RwLock::new(recovered.extents),
        rng: world.rng.clone(),
        lock,
        making: Mutex::new(()),
        checkpointing: Mutex::new(released),
        tokens: AtomicU64::new(1),
        places: Mutex::default(),
        buffers: Buffers::new(DIRECT_BUFFERS_MAX),
        read_buffers: Arc::new(Buffers::new(CACHED_READ_BUFFERS_MAX)),
        leaving: Leaving::of(recovered.gone),
        compacting: AtomicBool::new(false),
        room: Room::of(&superblock, short || !recovered.leaving.is_empty()),
        mappings: Mappings::default(),
        taken: Mutex::default(),
    };
    let dir = DataDir::from_open(open);
    dir.leave(recovered.leaving);
    match dir.checkpoint() {
        // Full: what was replayed is in the extents' files and, still, in the journal.
        Ok(()) | Err(ExtentError::Full(_)) => {}
        Err(e) => return Err(e),
    }
    Ok(Opened { dir, batches, report })
}

/// Scans and judges the journal.
fn read_journal(file: &dyn DiskFile, superblock: &Superblock, synced: u64) -> Result<Verdict, ExtentError> {
    let bytes = superblock.journal_bytes;
    let scanned = scan(file, bytes, superblock.journal_salt)?;
    let mut unread = None;
    let verdict = judge(&scanned.headers, synced, &mut |h| match payload(file, h) {
        Ok(found) => found.is_some(),
        Err(_) => {
            unread = unread.max(Some((h.sequence, h.position)));
            false
        }
    });
    // Past the known sync what is bad was never acked, but what cannot be read may have been. A group that found no room
    // before the end of the file stands at its start.
    let hidden = |at: &u64| scanned.unreadable.contains(at);
    let group_max = JOURNAL_GROUP_BYTES_MAX.max(record_bytes_max(bytes) + 2 * BLOCK);
    let may_have_wrapped = bytes - verdict.head < group_max;
    let unread = unread.filter(|(sequence, _)| *sequence > verdict.known_synced);
    let place = unread.map(|(_, position)| position);
    let place = place.or(Some(verdict.head).filter(hidden));
    if let Some(at) = place.or(Some(0).filter(|at| may_have_wrapped && hidden(at))) {
        return Err(ExtentError::Corrupt(format!(
            "the journal cannot be read at byte {at}, where it may go on; nothing was changed"
        )));
    }
    Ok(verdict)
}

/// What the live records say of generations and of extents that are gone.
fn foresee(file: &dyn DiskFile, verdict: &Verdict) -> Result<Foreseen, ExtentError> {
    let mut foreseen = Foreseen::default();
    let rows = verdict
        .live
        .iter()
        .filter(|f| f.header.kind == RecordType::Extent);
    for f in rows {
        let body = payload(file, &f.header).map_err(|e| ExtentError::io(JOURNAL, &e))?;
        if let Some(row) = body.as_deref().and_then(Row::decode) {
            foreseen.note(row);
        }
    }
    Ok(foreseen)
}

/// Hands every live record to whom it belongs; answers the log batches.
fn replay_live(
    file: &dyn DiskFile,
    verdict: &Verdict,
    released: u64,
    (replay, report): (&mut Replay<'_>, &mut RecoveryReport),
) -> Result<Vec<(JournalSeq, LogBatch)>, ExtentError> {
    let mut batches = Vec::new();
    for f in &verdict.live {
        let sequence = JournalSeq(f.header.sequence);
        let body = payload(file, &f.header).map_err(|e| ExtentError::io(JOURNAL, &e))?;
        let body = body.ok_or_else(|| {
            ExtentError::Corrupt(format!("journal record {sequence} was whole and no longer is"))
        })?;
        match f.header.kind {
            RecordType::Start | RecordType::Mark => {}
            RecordType::Batch => match LogBatch::decode(&body) {
                Some(batch) => batches.push((sequence, batch)),
                None => report
                    .damage
                    .push(format!("journal record {sequence} is no batch")),
            },
            kind if f.header.sequence >= released => replay.apply(kind, sequence, &body, report)?,
            _ => {}
        }
    }
    Ok(batches)
}

/// Writes what nobody saw synced once more. The page cache may hold bytes that the disk never took.
fn rewrite_tail(file: &dyn DiskFile, verdict: &Verdict) -> Result<(), ExtentError> {
    let mut tail = verdict
        .live
        .iter()
        .filter(|f| f.header.sequence > verdict.known_synced);
    let rewritten = tail.try_for_each(|FoundHeader { header, .. }| {
        let mut b = vec![0; (header.end() - header.position) as usize];
        read_patiently(file, &mut b, header.position)?;
        file.write_all_at(&b, header.position)
    });
    rewritten.map_err(|e| ExtentError::io(JOURNAL, &e))
}

/// Largest payload of a record in a journal of `bytes`: wherever the head is, it fits once the rest is released (`ring`).
fn record_bytes_max(bytes: u64) -> u64 {
    (bytes / 8 * 3 - 2 * BLOCK).min(JOURNAL_RECORD_BYTES_MAX as u64 + BLOCK)
}

/// Starts the journal's next incarnation and its loop. `held`: what the extents, and the log's engine, still need.
fn start_journal(
    world: &World,
    superblock: &Superblock,
    [file, for_zeroes]: [Arc<dyn DiskFile>; 2],
    verdict: &Verdict,
    held: (u64, Option<u64>),
) -> Result<Journal, ExtentError> {
    let begun = verdict.seen.max(verdict.last) + 1;
    let shared = Arc::new(Shared::new(
        superblock.disk,
        world.clock.clone(),
        record_bytes_max(superblock.journal_bytes) as usize,
        begun,
    ));
    shared.hold(EXTENTS_CONSUMER, held.0.max(1));
    if let Some(first) = held.1 {
        shared.hold("", first);
    }
    let mut ring = Ring::new(superblock.journal_bytes, verdict.head, verdict.lap);
    for f in &verdict.live {
        ring.hold(Span {
            last: f.header.sequence,
            position: f.header.position,
        });
    }
    let position = Position {
        ring,
        incarnation: verdict.incarnation + 1,
        begun,
        continues: verdict.last,
        previous_crc: verdict.last_crc,
        known_synced: verdict.known_synced,
        low_water: verdict.low_water,
    };
    let mut writer = Writer::new(shared.clone(), file.clone(), superblock.journal_salt, position);
    writer.start(world.clock.wall_ms())?;
    let zeroes = Zeroes {
        shared: shared.clone(),
        file: for_zeroes,
        ahead: writer.ahead(),
    };
    let closes = Closes(writer.ahead());
    let (zeroes, _end) = world.exec.run_loop("journal-zeroes", 1, 1, zeroes);
    writer.zeroed_by(zeroes);
    let writer = SharedWriter::new(writer);
    let (wake, _end) = world.exec.run_loop("journal", 1, 1, writer.clone());
    // In one thread the loop is a task, and nothing is won by not waking it.
    let driven = (world.exec == Exec::Threads).then_some(writer);
    Ok(Journal::new(shared, wake, driven, closes))
}
