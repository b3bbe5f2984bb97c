//! Compaction on a real file system, under threads that read, append and checkpoint meanwhile.
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

use extent::{Appended, Body, DataDir, DataDirConfig, Done, ExtentError, Head, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use types::{BlobId, BucketId, Epoch, ExtentId, Generation, NeedleId, SessionId};
use world::World;
use world::real::RealDisk;

const X: ExtentId = ExtentId(0x1_0000_0000_0001);
const Y: ExtentId = ExtentId(0x1_0000_0000_0002);
const E1: Epoch = Epoch(1);
const LENGTH: usize = 5000;

fn open(path: &Path) -> DataDir {
    let config = DataDirConfig {
        journal_bytes: Some(8 << 20),
        extent_step_bytes: Some(1 << 20),
        ballast_bytes: Some(1 << 20),
        ..DataDirConfig::default()
    };
    let opened = DataDir::open(&World::real(), Arc::new(RealDisk::open(path).unwrap()), config).unwrap();
    assert_eq!(opened.report.damage, Vec::<String>::new());
    opened.dir
}

fn wait<T>(f: impl FnOnce(Done) -> Result<T, ExtentError>) -> Result<T, ExtentError> {
    let (tx, rx) = mpsc::channel();
    let out = f(Box::new(move |r| tx.send(r).unwrap()))?;
    rx.recv().unwrap()?;
    Ok(out)
}

fn put(dir: &DataDir, extent: ExtentId, serial: u64) -> Appended {
    let bytes = vec![serial as u8; LENGTH];
    let crcs = [crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32];
    let head = Head {
        blob: BlobId::new(SessionId(1), serial),
        bucket: BucketId(9),
        key: format!("k/{serial}"),
        upload: None,
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: LENGTH as u64,
        append_hlc: 5,
        session: SessionId(1),
    };
    let body = Body {
        bytes: &bytes,
        crcs: &crcs,
    };
    wait(|done| dir.append((extent, E1), head, body, Some(done))).unwrap()
}

fn read(dir: &DataDir, a: &Appended, serial: u64) -> Result<(), ExtentError> {
    let read = Read {
        extent: X,
        needle: a.needle,
        blob: BlobId::new(SessionId(1), serial),
        hint: (a.generation, a.offset),
        length: LENGTH as u64,
        first_block: 0,
        block_count: 1,
    };
    let (bytes, _) = dir.read(&read)?;
    assert!(bytes.iter().all(|b| *b == serial as u8), "another needle's bytes");
    Ok(())
}

/// Ends the threads whichever way the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn compact(dir: &DataDir, to: u64, dropped: &[NeedleId]) {
    let mut compaction = loop {
        match dir.begin_compaction(X, Generation(to), dropped) {
            // A checkpoint writes its footer.
            Err(ExtentError::Busy(_)) => std::thread::yield_now(),
            begun => break begun.unwrap().unwrap(),
        }
    };
    while !compaction.step(64 << 10).unwrap() {}
    wait(|done| compaction.finish(done)).unwrap();
    dir.sweep().unwrap();
}

// I3, I5
#[test]
fn readers_and_checkpoints_do_not_notice() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = open(tmp.path());
    for id in [X, Y] {
        wait(|done| dir.open_extent(id, E1, 64 << 20, done)).unwrap();
    }
    let all: Vec<Appended> = (1..=200).map(|serial| put(&dir, X, serial)).collect();
    wait(|done| dir.seal(X, E1, done)).unwrap();
    let stop = AtomicBool::new(false);
    let going_on = || !stop.load(Ordering::Relaxed);
    let reads = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while going_on() {
                        // Those of even numbers stay.
                        for a in all.iter().filter(|a| a.needle.0 % 2 == 0) {
                            read(&dir, a, a.needle.0).unwrap();
                            reads += 1;
                        }
                    }
                    reads
                })
            })
            .collect();
        scope.spawn(|| {
            let mut serial = 1000;
            while going_on() {
                put(&dir, Y, serial);
                serial += 1;
                dir.checkpoint().unwrap();
            }
        });
        let stopping = Stop(&stop);
        for to in 1..=20u64 {
            let dropped: Vec<NeedleId> = (1..to * 10).step_by(2).map(NeedleId).collect();
            compact(&dir, to, &dropped);
        }
        drop(stopping);
        readers.into_iter().map(|r| r.join().unwrap()).sum::<u64>()
    });
    assert!(reads > 100);
    // As a crash leaves it.
    drop(dir);
    let dir = open(tmp.path());
    let status = dir.status(X).unwrap();
    assert_eq!((status.generation, status.needles), (Generation(20), 100));
    for a in all.iter().filter(|a| a.needle.0 % 2 == 0) {
        read(&dir, a, a.needle.0).unwrap();
    }
    let files: Vec<_> = std::fs::read_dir(tmp.path().join("extents")).unwrap().collect();
    assert_eq!(files.len(), 2, "{files:?}");
}

/// Until an extent is compacted or removed an older build may have the directory; then it refuses it by its version. // I10
#[test]
fn the_first_compaction_raises_the_directorys_version() {
    let tmp = tempfile::tempdir().unwrap();
    let version = || std::fs::read(tmp.path().join("superblock")).unwrap()[8];
    let dir = open(tmp.path());
    wait(|done| dir.open_extent(X, E1, 64 << 20, done)).unwrap();
    put(&dir, X, 1);
    wait(|done| dir.seal(X, E1, done)).unwrap();
    dir.checkpoint().unwrap();
    assert_eq!(version(), 1);
    compact(&dir, 1, &[]);
    assert_eq!(version(), 2);
    drop(dir);
    assert_eq!(open(tmp.path()).status(X).unwrap().generation, Generation(1));
}
