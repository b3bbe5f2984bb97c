//! A data directory under power cuts at every disk operation, failed writes and syncs, full disks and flipped bits.
//!
//! The oracle: what was acked reads back, byte for byte, in this life and in later ones; batches come back as one run without a
//! gap; nothing that was released or cut comes back; damage is reported, never absent in silence.

use bytes::Bytes;
use extent::{Body, Consumer, Cursor, DataDir, DataDirConfig, ExtentError, LogBatch, Opened, Read};
use needles::{acked, body, crc32c, done, head, life, world};
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use types::limits::BLOCK_BYTES;
use types::{Epoch, ExtentId, JournalSeq, LogSeq, PartitionId};
use world::plant::{Plant, plant_thread};
use world::{Disk, Overlay};

mod needles;

const JOURNAL_BYTES: u64 = 128 << 10;

fn config() -> DataDirConfig {
    DataDirConfig {
        journal_bytes: Some(JOURNAL_BYTES),
        extent_bytes: Some(1 << 20),
        extent_step_bytes: Some(64 << 10),
        ballast_bytes: Some(64 << 10),
        ..DataDirConfig::default()
    }
}

fn batch(n: u64) -> LogBatch {
    LogBatch {
        partition: PartitionId(16),
        epoch: Epoch(1),
        sequence: LogSeq(n),
        members: vec![],
        previous_crc: n as u32 ^ 0x5555,
        payload: Bytes::from(vec![n as u8; 300 + (n as usize * 977) % 7000]),
    }
}

/// A needle that was handed over.
#[derive(Clone, Copy, Debug)]
struct Needle {
    extent: ExtentId,
    appended: extent::Appended,
    serial: u64,
    length: usize,
}

/// What the world outside the machine knows.
#[derive(Default)]
struct Outside {
    needles: Vec<Needle>,
    /// Needles whose batch is not acked yet.
    ordered: Vec<Needle>,
    /// Last batch submitted, last batch acked, and all below were released.
    submitted: u64,
    acked: u64,
    released: u64,
    serial: u64,
    extent: u64,
    sealed: BTreeMap<ExtentId, u64>,
    /// Where batches stand in the journal.
    places: BTreeMap<u64, JournalSeq>,
}

impl Outside {
    /// A scripted run on an opened directory; ends early when the disk fails.
    async fn work(&mut self, dir: &DataDir, steps: u64) -> Option<()> {
        let consumer = dir.journal().consumer("store");
        let pressed = Arc::new(AtomicBool::new(false));
        let press = pressed.clone();
        dir.journal()
            .on_pressure(Box::new(move || press.store(true, Ordering::Relaxed)));
        self.release(&consumer);
        let mut extent = self.new_extent(dir).await?;
        for step in 0..steps {
            if pressed.swap(false, Ordering::Relaxed) {
                self.release(&consumer);
                dir.checkpoint().ok()?;
            }
            self.serial += 1;
            let serial = self.serial;
            match step % 9 {
                0 | 4 => {
                    let needle = self
                        .small(dir, extent, serial, 100 + serial as usize % 5000, true)
                        .await?;
                    self.needles.push(needle);
                }
                1 | 5 | 7 => {
                    let needle = self
                        .small(dir, extent, serial, 50 + serial as usize % 3000, false)
                        .await?;
                    self.ordered.push(needle);
                    self.batch(dir).await?;
                    self.needles.append(&mut self.ordered);
                }
                2 => {
                    self.batch(dir).await?;
                }
                3 => {
                    let needle = self.large(dir, extent, serial, 70_000).await?;
                    self.needles.push(needle);
                }
                6 => {
                    let mut given_up = dir.begin(extent, Epoch(1), head(serial, 90_000)).ok()?;
                    let (bytes, crcs) = body(serial, BLOCK_BYTES);
                    given_up.frame(&bytes, &crcs).ok()?;
                }
                _ => {
                    if step % 2 == 0 {
                        extent = self.rotate(dir, extent).await?;
                    }
                    self.release(&consumer);
                    dir.checkpoint().ok()?;
                    dir.journal().tick();
                }
            }
        }
        Some(())
    }

    /// Releases all batches but the newest three: what the engine has in its own synced files.
    fn release(&mut self, consumer: &Consumer) {
        if let Some((n, place)) = self.places.iter().rev().nth(2) {
            self.released = n - 1;
            consumer.release(*place);
        }
    }

    async fn new_extent(&mut self, dir: &DataDir) -> Option<ExtentId> {
        self.extent += 1;
        let id = ExtentId(1 << 48 | self.extent);
        let (done, outcome) = done();
        dir.open_extent(id, Epoch(1), 1 << 20, done).ok()?;
        acked(outcome).await.is_ok().then_some(id)
    }

    /// Seals the extent and takes another.
    async fn rotate(&mut self, dir: &DataDir, extent: ExtentId) -> Option<ExtentId> {
        let (done, outcome) = done();
        let status = dir.seal(extent, Epoch(1), done).ok()?;
        if acked(outcome).await.is_err() {
            return None;
        }
        self.sealed.insert(extent, status.needles);
        self.new_extent(dir).await
    }

    async fn small(
        &mut self,
        dir: &DataDir,
        extent: ExtentId,
        serial: u64,
        length: usize,
        durable: bool,
    ) -> Option<Needle> {
        let (bytes, crcs) = body(serial, length);
        let (done, outcome) = done();
        let body = Body {
            bytes: &bytes,
            crcs: &crcs,
        };
        let appended = dir
            .append(
                (extent, Epoch(1)),
                head(serial, length),
                body,
                durable.then_some(done),
            )
            .ok()?;
        if durable && acked(outcome).await.is_err() {
            return None;
        }
        Some(Needle {
            extent,
            appended,
            serial,
            length,
        })
    }

    async fn large(&mut self, dir: &DataDir, extent: ExtentId, serial: u64, length: usize) -> Option<Needle> {
        let (bytes, crcs) = body(serial, length);
        let (done, outcome) = done();
        let mut large = dir.begin(extent, Epoch(1), head(serial, length)).ok()?;
        large.frame(&bytes, &crcs).ok()?;
        let appended = large.finish(Some(done)).ok()?;
        acked(outcome).await.is_ok().then_some(Needle {
            extent,
            appended,
            serial,
            length,
        })
    }

    async fn batch(&mut self, dir: &DataDir) -> Option<JournalSeq> {
        self.submitted += 1;
        let (done, outcome) = done();
        let place = dir.journal().submit_batch(batch(self.submitted), done).ok()?;
        if acked(outcome).await.is_ok() {
            self.acked = self.submitted;
            self.places.insert(self.acked, place);
            return Some(place);
        }
        None
    }

    /// Holds what was opened against what is known. `excused`: damage was done, so errors are allowed where they are reported.
    fn check(&mut self, opened: &Opened, excused: bool) -> Result<(), String> {
        let report = &opened.report;
        let reported = !report.lost.is_empty() || !report.damage.is_empty();
        if !excused && reported {
            return Err(format!("damage without cause: {report:?}"));
        }
        let mut missing = self.check_batches(opened, excused)?;
        for needle in &self.needles {
            missing |= !check_needle(&opened.dir, needle, excused)?;
        }
        for (extent, needles) in &self.sealed {
            match opened.dir.status(*extent) {
                Ok(status) if status.sealed && (excused || status.needles == *needles) => {} // I7
                other if !excused => return Err(format!("sealed extent {extent}: {other:?}")),
                _ => missing = true,
            }
        }
        if !excused {
            for status in opened.dir.extents() {
                let (walked, _) = opened
                    .dir
                    .walk(status.extent, Cursor::default(), true, 10_000)
                    .map_err(|e| e.to_string())?;
                if let Some(bad) = walked.iter().find(|w| w.damage.is_some()) {
                    return Err(format!("{bad:?} of {status:?}"));
                }
            }
        }
        if missing && !reported {
            return Err("something acked is gone and nothing is reported".into());
        }
        Ok(())
    }

    /// `true` when a batch that was acked is missing.
    fn check_batches(&self, opened: &Opened, excused: bool) -> Result<bool, String> {
        let found: Vec<u64> = opened.batches.iter().map(|(_, b)| b.sequence.0).collect();
        if let Some((_, bad)) = opened.batches.iter().find(|(_, b)| *b != batch(b.sequence.0)) {
            return Err(format!("batch {} is not what was written", bad.sequence));
        }
        let expected: Vec<u64> = (self.released + 1..=self.acked).collect();
        let missing = expected.iter().any(|n| !found.contains(n));
        let run = found.windows(2).all(|w| w[1] == w[0] + 1);
        // An earlier lap's batches are below what was released, by more than the ring can still hold a reason for.
        let stale = found.first().is_some_and(|n| n + 40 < self.released);
        let beyond = found.last().is_some_and(|n| *n > self.submitted);
        if stale || beyond || (!excused && (missing || !run)) {
            return Err(format!(
                "batches {found:?}, released to {}, acked to {}",
                self.released, self.acked
            ));
        }
        Ok(missing)
    }

    /// After a crash: batches that were not acked but came back are part of the log, others never happened.
    fn settle(&mut self, opened: &Opened) {
        let last = opened.batches.last().map_or(self.acked, |(_, b)| b.sequence.0);
        self.submitted = last.max(self.acked);
        self.acked = self.submitted;
        self.ordered.clear();
        self.places = opened
            .batches
            .iter()
            .map(|(place, b)| (b.sequence.0, *place))
            .collect();
    }
}

/// `false` when it cannot be read; wrong bytes are never excused.
fn check_needle(dir: &DataDir, needle: &Needle, excused: bool) -> Result<bool, String> {
    let (bytes, crcs) = body(needle.serial, needle.length);
    for hint in [needle.appended.offset, 8] {
        let read = Read {
            extent: needle.extent,
            needle: needle.appended.needle,
            blob: head(needle.serial, needle.length).blob,
            hint: (needle.appended.generation, hint),
            length: needle.length as u64,
            first_block: 0,
            block_count: crcs.len() as u32,
        };
        match dir.read(&read) {
            Ok((got, got_crcs)) if got == bytes && got_crcs == crcs => {}
            // The reader's own check catches it.
            Ok((got, got_crcs))
                if excused
                    && got
                        .chunks(BLOCK_BYTES)
                        .zip(&got_crcs)
                        .any(|(b, c)| crc32c(b) != *c) =>
            {
                return Ok(false);
            }
            Ok(_) => return Err(format!("wrong bytes for {needle:?}")),
            Err(_) if excused => return Ok(false),
            Err(e) => return Err(format!("{needle:?}: {e}")),
        }
    }
    Ok(true)
}

fn open(seed: u64, disk: &SimDisk) -> Result<Opened, ExtentError> {
    DataDir::open(&world(seed), Arc::new(disk.clone()), config())
}

/// Runs the script with `faults` in it, cuts the power, and opens again with a second cut after `again` operations of
/// recovery; then works on, closes in order and looks once more. Answers how many operations there were.
fn survive(seed: u64, faults: &[Fault], again: Option<u64>) -> Result<u64, String> {
    let disk = SimDisk::new(seed, 64 << 20);
    let mut outside = Outside::default();
    faults.iter().for_each(|f| disk.plan(f.clone()));
    life(async {
        if let Ok(opened) = open(seed, &disk) {
            outside.work(&opened.dir, 70).await;
        }
    });
    let operations = disk.trace().0;
    disk.clear_plan();
    disk.crash();
    if let Some(after) = again {
        disk.plan(Fault::new(FaultKind::PowerOff, after));
        life(async { drop(open(seed + 1, &disk)) });
        disk.clear_plan();
        disk.crash();
    }
    life(async {
        let opened = open(seed + 2, &disk).map_err(|e| e.to_string())?;
        outside.check(&opened, false)?;
        outside.settle(&opened);
        if outside.work(&opened.dir, 20).await.is_none() {
            return Err("it does not work on".to_owned());
        }
        let (done, outcome) = done();
        opened.dir.close(done);
        assert!(acked(outcome).await.is_ok());
        Ok(())
    })?;
    disk.crash();
    life(async {
        let opened = open(seed + 3, &disk).map_err(|e| format!("after a clean stop: {e}"))?;
        outside
            .check(&opened, false)
            .map_err(|e| format!("after a clean stop: {e}"))
    })?;
    Ok(operations)
}

fn sweep(seed: u64, every: usize) -> Result<(), String> {
    let operations = survive(seed, &[], None)?;
    assert!(operations > 250, "the script does something: {operations}");
    for after in (seed % every as u64..operations).step_by(every) {
        let fault = Fault::new(FaultKind::PowerOff, after);
        survive(seed + after, &[fault], None)
            .map_err(|e| format!("power cut at {after}, seed {seed}: {e}"))?;
    }
    Ok(())
}

#[test]
fn a_power_cut_at_every_operation() {
    // CAIRN_SIM_SEEDS=n tries the seeds 1 to n.
    let seeds = std::env::var("CAIRN_SIM_SEEDS").map_or(1, |n| n.parse().unwrap());
    for seed in 1..=seeds {
        sweep(seed, 1).unwrap();
    }
}

#[test]
fn a_second_power_cut_at_every_operation_of_recovery() {
    for first in [150, 260, 331] {
        for again in 0..40 {
            let fault = Fault::new(FaultKind::PowerOff, first);
            survive(first + again, &[fault], Some(again))
                .unwrap_or_else(|e| panic!("cut at {first}, then at {again} of recovery: {e}"));
        }
    }
}

#[test]
fn a_failed_write_or_sync_loses_nothing_that_was_acked() {
    for kind in [FaultKind::WriteError, FaultKind::SyncError] {
        for after in (0..200).step_by(3) {
            survive(after, &[Fault::new(kind, after)], None)
                .unwrap_or_else(|e| panic!("{kind:?} at {after}: {e}"));
        }
    }
}

#[test]
fn a_disk_that_failed_is_out_of_service_until_it_is_opened_again() {
    let disk = SimDisk::new(5, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let opened = open(5, &disk).unwrap();
        let extent = outside.new_extent(&opened.dir).await.unwrap();
        disk.plan(Fault::new(FaultKind::SyncError, 0).on("journal"));
        assert!(outside.small(&opened.dir, extent, 1, 100, true).await.is_none());
        for serial in 2..5 {
            assert!(
                outside
                    .small(&opened.dir, extent, serial, 100, true)
                    .await
                    .is_none()
            );
        }
        assert!(opened.dir.journal().check().is_err());
        assert_eq!(disk.planned(), 0);
    });
    disk.crash();
    life(async {
        let opened = open(6, &disk).unwrap();
        outside.check(&opened, false).unwrap();
        outside.work(&opened.dir, 9).await.unwrap();
    });
}

#[test]
fn a_full_disk_refuses_new_data_and_takes_deletes() {
    let disk = SimDisk::new(7, 1 << 20);
    let mut outside = Outside::default();
    life(async {
        let opened = open(7, &disk).unwrap();
        let dir = &opened.dir;
        let consumer = dir.journal().consumer("store");
        let extent = outside.new_extent(dir).await.unwrap();
        loop {
            outside.serial += 1;
            let (bytes, crcs) = body(outside.serial, 20_000);
            let body = Body {
                bytes: &bytes,
                crcs: &crcs,
            };
            let at = (extent, Epoch(1));
            match dir.append(at, head(outside.serial, 20_000), body, None) {
                Err(ExtentError::Full(_)) => break,
                other => drop(other.unwrap()),
            }
            let needle = outside
                .small(dir, extent, outside.serial, 20_000, true)
                .await
                .unwrap();
            outside.needles.push(needle);
            consumer.release(dir.journal().next());
            dir.checkpoint().unwrap();
        }
        assert!(outside.needles.len() > 10);
        // What a delete is: a batch; and the index's file grows, first into what is kept free, then into the ballast.
        disk.create_dir("index").unwrap();
        let index = disk.create("index/x").unwrap();
        let mut grown = 0;
        for _ in 0..20 {
            let place = outside.batch(dir).await.unwrap();
            outside.released = outside.acked - 1;
            consumer.release(place);
            dir.checkpoint().unwrap();
            dir.tend_ballast().unwrap();
            grown += 4096 * u64::from(index.write_all_at(&[1; 4096], grown).is_ok());
        }
        assert!(grown >= 64 << 10, "the index grew by {grown}");
        assert!(dir.journal().check().is_ok(), "a full disk is in service");
        // Room again: the ballast is whole again, and data is taken.
        disk.set_capacity(4 << 20);
        dir.tend_ballast().unwrap();
        assert_eq!(Disk::open(&disk, "ballast").unwrap().len().unwrap(), 64 << 10);
        let needle = outside.small(dir, extent, 5000, 5000, true).await.unwrap();
        outside.needles.push(needle);
    });
    disk.crash();
    life(async {
        let opened = open(8, &disk).unwrap();
        outside.check(&opened, false).unwrap();
    });
}

/// Syncs that lie may lose what was acked since; they never make wrong bytes, and what comes after is whole.
#[test]
fn a_lying_sync_never_makes_wrong_bytes() {
    let mut lost = 0;
    for after in 8..110 {
        let disk = SimDisk::new(after, 64 << 20);
        let mut outside = Outside::default();
        for n in 0..3 {
            disk.plan(Fault::new(FaultKind::LyingSync, after + n));
        }
        disk.plan(Fault::new(FaultKind::PowerOff, 3 * after));
        life(async {
            if let Ok(opened) = open(after, &disk) {
                outside.work(&opened.dir, 70).await;
            }
        });
        disk.clear_plan();
        let broke = disk.crash().broke_a_promise();
        life(async {
            let opened = open(after + 1, &disk).unwrap_or_else(|e| panic!("lie at {after}: {e}"));
            if let Err(e) = outside.check(&opened, false) {
                assert!(broke, "lie at {after}, no promise broken: {e}");
                lost += 1;
                outside
                    .forget_what_is_gone(&opened)
                    .unwrap_or_else(|e| panic!("lie at {after}: {e}"));
            }
            outside.settle(&opened);
            outside.work(&opened.dir, 20).await.expect("it works on");
        });
        disk.crash();
        life(async {
            let opened = open(after + 2, &disk).unwrap();
            outside
                .check_needles(&opened)
                .unwrap_or_else(|e| panic!("after a lie at {after}: {e}"));
        });
    }
    assert!(lost > 5, "lies hurt: {lost}");
}

#[test]
fn a_read_error_in_recovery_passes_or_is_told() {
    let disk = SimDisk::new(21, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let opened = open(21, &disk).unwrap();
        outside.work(&opened.dir, 40).await.unwrap();
    });
    for after in 0..30 {
        disk.crash();
        // One error passes; a block that stays bad is an error, not an empty journal.
        let stays = after % 2 == 1;
        for _ in 0..if stays { 60 } else { 1 } {
            disk.plan(Fault::new(FaultKind::ReadError, after / 2).on("journal"));
        }
        life(async {
            match open(22, &disk) {
                Ok(opened) => outside
                    .check(&opened, stays)
                    .unwrap_or_else(|e| panic!("read error {after}: {e}")),
                Err(e) => assert!(stays, "read error {after}: {e}"),
            }
        });
        disk.clear_plan();
    }
    disk.crash();
    life(async {
        let opened = open(23, &disk).unwrap();
        outside.check_needles(&opened).unwrap();
    });
}

impl Outside {
    fn check_needles(&self, opened: &Opened) -> Result<(), String> {
        for needle in &self.needles {
            check_needle(&opened.dir, needle, false)?;
        }
        Ok(())
    }

    /// Drops what a lie has lost; wrong bytes are no loss.
    fn forget_what_is_gone(&mut self, opened: &Opened) -> Result<(), String> {
        let mut kept = Vec::new();
        for needle in &self.needles {
            if check_needle(&opened.dir, needle, true)? {
                kept.push(*needle);
            }
        }
        self.needles = kept;
        self.sealed.clear();
        Ok(())
    }
}

/// Flips one bit in each byte of a small journal that was closed in order.
fn flips(step: usize) -> Result<(), String> {
    let disk = SimDisk::new(11, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let opened = open(11, &disk).unwrap();
        let consumer = opened.dir.journal().consumer("store");
        consumer.release(JournalSeq(0));
        let extent = outside.new_extent(&opened.dir).await.unwrap();
        for serial in 1..4 {
            let needle = outside
                .small(&opened.dir, extent, serial, 90, true)
                .await
                .unwrap();
            outside.needles.push(needle);
            outside.batch(&opened.dir).await.unwrap();
        }
        let needle = outside.large(&opened.dir, extent, 4, 66_000).await.unwrap();
        outside.needles.push(needle);
        let (done, outcome) = done();
        opened.dir.close(done);
        assert!(acked(outcome).await.is_ok());
    });
    disk.crash();
    let bytes = life(async {
        let file = Disk::open(&disk, "journal").unwrap();
        let mut bytes = vec![0; JOURNAL_BYTES as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    });
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    let mut reported = 0;
    // Of the padding, a byte here and there is enough.
    let padding = |at: usize| {
        bytes[at.saturating_sub(8)..used.min(at + 8)]
            .iter()
            .all(|b| *b == 0)
    };
    for at in (0..used).step_by(step).filter(|at| !padding(*at) || at % 97 == 0) {
        let glass = Arc::new(Overlay::new(Arc::new(disk.clone())));
        let file = glass.open("journal").unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        byte[0] ^= 1 << (at % 8);
        file.write_all_at(&byte, at as u64).unwrap();
        life(async {
            let opened = DataDir::open(&world(12), glass, config()).map_err(|e| e.to_string())?;
            reported += u64::from(!opened.report.lost.is_empty());
            outside
                .check(&opened, true)
                .map_err(|e| format!("flip at {at}: {e}"))
        })?;
    }
    assert!(reported > 0, "flips hit records");
    Ok(())
}

// I5
#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    flips(1).unwrap();
}

/// The tests above can fail: each class of bug, planted, is caught.
#[test]
fn planted_bugs_are_caught() {
    let caught = |plant, f: &dyn Fn() -> Result<(), String>| {
        plant_thread(Some(plant));
        let result = f();
        plant_thread(None);
        assert!(result.is_err(), "{plant:?} was not caught");
    };
    caught(Plant::SkipSync, &|| sweep(1, 7));
    caught(Plant::ReplayPreviousLap, &|| sweep(1, 7));
    caught(Plant::CutAtCorruption, &|| flips(5));
}
