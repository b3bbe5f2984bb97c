//! A data directory on a real file system: what is appended reads back, before and after it is opened again.
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

#[path = "directory/stalled.rs"]
mod stalled;

use bytes::Bytes;
use extent::{Body, Cursor, DataDir, DataDirConfig, ExtentError, Head, LogBatch, Opened, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{BlobId, BucketId, Epoch, ErrorKind, ExtentId, Kind, LogSeq, PartitionId, SessionId, UploadId};
use world::World;
use world::real::RealDisk;

const X: ExtentId = ExtentId(0x1_0000_0000_0001);
const E1: Epoch = Epoch(1);

fn config() -> DataDirConfig {
    DataDirConfig {
        journal_bytes: Some(1 << 20),
        extent_step_bytes: Some(1 << 20),
        ballast_bytes: Some(1 << 20),
        ..DataDirConfig::default()
    }
}

fn try_open(path: &Path) -> Result<Opened, ExtentError> {
    DataDir::open(&World::real(), Arc::new(RealDisk::open(path).unwrap()), config())
}

fn open(path: &Path) -> Opened {
    let opened = try_open(path).unwrap();
    assert_eq!(opened.report.lost, vec![]);
    assert_eq!(opened.report.damage, Vec::<String>::new());
    opened
}

fn wait<T>(f: impl FnOnce(extent::Done) -> Result<T, ExtentError>) -> Result<T, ExtentError> {
    let (tx, rx) = mpsc::channel();
    let out = f(Box::new(move |r| tx.send(r).unwrap()))?;
    rx.recv().unwrap()?;
    Ok(out)
}

fn head(serial: u64, length: usize) -> Head {
    Head {
        blob: BlobId::new(SessionId(1), serial),
        bucket: BucketId(9),
        key: format!("k/{serial}"),
        upload: None,
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: length as u64,
        append_hlc: 5,
        session: SessionId(1),
    }
}

fn body(serial: u64, length: usize) -> (Vec<u8>, Vec<u32>) {
    let bytes: Vec<u8> = (0..length)
        .map(|i| (i as u64 * 31 + serial * 7 + (i as u64 >> 8)) as u8)
        .collect();
    let crcs = bytes.chunks(BLOCK_BYTES).map(crc).collect();
    (bytes, crcs)
}

fn crc(block: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, block) as u32
}

fn put_small(dir: &DataDir, serial: u64, length: usize) -> extent::Appended {
    put_under(dir, head(serial, length), serial)
}

fn put_under(dir: &DataDir, head: Head, serial: u64) -> extent::Appended {
    let (bytes, crcs) = body(serial, head.length as usize);
    wait(|done| {
        dir.append(
            (X, E1),
            head,
            Body {
                bytes: &bytes,
                crcs: &crcs,
            },
            Some(done),
        )
    })
    .unwrap()
}

fn put_large(dir: &DataDir, serial: u64, length: usize) -> extent::Appended {
    let (bytes, _) = body(serial, length);
    let mut large = dir.begin(X, E1, head(serial, length)).unwrap();
    for frame in bytes.chunks(FRAME_BYTES_MAX) {
        let crcs: Vec<u32> = frame.chunks(BLOCK_BYTES).map(crc).collect();
        large.frame(frame, &crcs).unwrap();
    }
    wait(|done| large.finish(Some(done))).unwrap()
}

fn assert_reads(dir: &DataDir, a: &extent::Appended, serial: u64, length: usize) {
    let (bytes, crcs) = body(serial, length);
    let frame = FRAME_BYTES_MAX / BLOCK_BYTES;
    for hint in [a.offset, 0, a.offset + 8] {
        for first in (0..crcs.len()).step_by(frame) {
            let count = (crcs.len() - first).min(frame);
            let read = Read {
                extent: X,
                needle: a.needle,
                blob: head(serial, length).blob,
                hint: (a.generation, hint),
                length: length as u64,
                first_block: first as u32,
                block_count: count as u32,
            };
            let (got, got_crcs) = dir.read(&read).unwrap();
            let to = (length).min((first + count) * BLOCK_BYTES);
            assert!(
                got == bytes[first * BLOCK_BYTES..to],
                "needle {} block {first}",
                a.needle
            );
            assert_eq!(got_crcs, crcs[first..first + count]);
            // Of a part, no more stays in memory than that.
            let (part, _) = dir
                .read(&Read {
                    block_count: 1,
                    ..read
                })
                .unwrap();
            let kept = part.try_into_mut().map(|kept| kept.capacity());
            assert!(count == 1 || kept == Ok(BLOCK_BYTES), "{kept:?}");
        }
    }
}

/// A record, or a hint, that leads to another blob's needle gets an error, never its bytes; an upload's bytes are found by the upload. // I5
#[test]
fn another_blobs_needle_is_never_given() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = open(tmp.path()).dir;
    wait(|done| dir.open_extent(X, E1, 64 << 20, done)).unwrap();
    let length = 4096;
    let mut appended = vec![put_small(&dir, 1, length), put_small(&dir, 2, length)];
    let upload = UploadId(77 << 100);
    let sent = Head {
        upload: Some((upload, 5)),
        ..head(3, length)
    };
    appended.push(put_under(&dir, sent, 3));
    let blob = |serial| head(serial, length).blob;
    let cases = [
        (0, 0, blob(1), true),
        (0, 0, blob(2), false),
        (0, 1, blob(2), false),
        (1, 0, blob(2), true),
        (1, 1, blob(1), false),
        (2, 2, blob(3), true),
        (2, 2, BlobId(upload.0), true),
        (1, 1, BlobId(upload.0), false),
        (2, 2, BlobId(upload.0 + 1), false),
    ];
    for (needle, hint, blob, is_given) in cases {
        let read = Read {
            extent: X,
            needle: appended[needle].needle,
            blob,
            hint: (appended[hint].generation, appended[hint].offset),
            length: length as u64,
            first_block: 0,
            block_count: 1,
        };
        match dir.read(&read) {
            Ok(_) => assert!(is_given, "{read:?}"),
            Err(e) => assert!(!is_given && matches!(e, ExtentError::Corrupt(_)), "{read:?}: {e}"),
        }
    }
}

#[test]
fn what_is_appended_reads_back_now_and_after_every_kind_of_end() {
    let tmp = tempfile::tempdir().unwrap();
    let lengths = [0, 1, 4096, 65536, 65537, 128 << 10, 200_000, (3 << 20) + 17];
    let mut appended = Vec::new();
    for life in 0..4u64 {
        let Opened { dir, report, .. } = open(tmp.path());
        assert_eq!(report.created, life == 0);
        for (a, serial, length) in &appended {
            assert_reads(&dir, a, *serial, *length);
        }
        wait(|done| dir.open_extent(X, E1, 64 << 20, done)).unwrap();
        for (i, length) in lengths.iter().enumerate() {
            let serial = life * 100 + i as u64;
            let a = if *length <= 128 << 10 {
                put_small(&dir, serial, *length)
            } else {
                put_large(&dir, serial, *length)
            };
            assert_reads(&dir, &a, serial, *length);
            appended.push((a, serial, *length));
        }
        let walked = dir.walk(X, Cursor::default(), true, 1000).unwrap().0;
        assert_eq!(walked.len(), appended.len());
        assert!(walked.iter().all(|w| w.damage.is_none()), "{walked:?}");
        for (w, (_, serial, length)) in walked.iter().zip(&appended) {
            assert_eq!(w.crc32c, Some(crc(&body(*serial, *length).0)));
        }
        match life {
            0 => {} // dropped as by a crash of the process
            1 => dir.checkpoint().unwrap(),
            _ => {
                dir.checkpoint().unwrap();
                wait(|done| {
                    dir.close(done);
                    Ok(())
                })
                .unwrap();
            }
        }
    }
    let Opened { dir, .. } = open(tmp.path());
    wait(|done| dir.seal(X, E1, done)).unwrap();
    dir.checkpoint().unwrap();
    for (a, serial, length) in &appended {
        assert_reads(&dir, a, *serial, *length);
    }
}

#[test]
fn a_second_process_is_refused_in_a_sentence() {
    let tmp = tempfile::tempdir().unwrap();
    let first = open(tmp.path());
    let e = try_open(tmp.path()).err().unwrap();
    assert!(matches!(e, ExtentError::Locked(_)), "{e}");
    drop(first);
    open(tmp.path());
}

// I10
#[test]
fn a_newer_directory_is_refused_and_not_changed() {
    let tmp = tempfile::tempdir().unwrap();
    drop(open(tmp.path()));
    let path = tmp.path().join("superblock");
    let mut sb = std::fs::read(&path).unwrap();
    for copy in sb.chunks_mut(4096) {
        copy[8] = 9;
    }
    std::fs::write(&path, &sb).unwrap();
    let before = std::fs::read(tmp.path().join("journal")).unwrap();
    let e = try_open(tmp.path()).err().unwrap();
    assert!(matches!(e, ExtentError::Newer { found: 9, .. }), "{e}");
    assert_eq!(std::fs::read(&path).unwrap(), sb);
    assert_eq!(std::fs::read(tmp.path().join("journal")).unwrap(), before);
}

#[test]
fn a_directory_that_lost_its_superblock_is_not_made_over() {
    let tmp = tempfile::tempdir().unwrap();
    drop(open(tmp.path()));
    std::fs::remove_file(tmp.path().join("superblock")).unwrap();
    assert_eq!(try_open(tmp.path()).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn the_ring_goes_round_and_batches_live_until_they_are_released() {
    let tmp = tempfile::tempdir().unwrap();
    let batch = |n: u64| LogBatch {
        partition: PartitionId(16),
        epoch: E1,
        sequence: LogSeq(n),
        members: vec![],
        previous_crc: n as u32,
        payload: Bytes::from(vec![n as u8; 20_000]),
    };
    let mut next = 1;
    for _life in 0..3 {
        let Opened { dir, batches, .. } = open(tmp.path());
        let found: Vec<u64> = batches.iter().map(|(_, b)| b.sequence.0).collect();
        let kept: Vec<u64> = (next - found.len() as u64..next).collect();
        assert_eq!(found, kept);
        assert!(next == 1 || found.len() >= 10, "the last ten were not released");
        assert!(batches.iter().all(|(_, b)| *b == batch(b.sequence.0)));
        let consumer = dir.journal().consumer("store");
        let mut places = Vec::new();
        for _ in 0..300 {
            places.push(wait(|done| dir.journal().submit_batch(batch(next), done)).unwrap());
            next += 1;
            if places.len() > 10 {
                consumer.release(places[places.len() - 10]);
                dir.checkpoint().unwrap();
            }
        }
    }
}

#[test]
fn appends_are_fenced_and_idempotent() {
    let tmp = tempfile::tempdir().unwrap();
    let Opened { dir, .. } = open(tmp.path());
    wait(|done| dir.open_extent(X, E1, 1 << 20, done)).unwrap();
    let a = put_small(&dir, 1, 100);
    assert_eq!(put_small(&dir, 1, 100), a, "sent again, it is the same needle");
    let (bytes, crcs) = body(2, 100);
    // I6
    let stale = wait(|done| {
        dir.append(
            (X, Epoch(0)),
            head(2, 100),
            Body {
                bytes: &bytes,
                crcs: &crcs,
            },
            Some(done),
        )
    });
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Conflict);
    let large = dir.begin(X, E1, head(3, 300_000)).unwrap();
    let busy = wait(|done| {
        dir.append(
            (X, E1),
            head(2, 100),
            Body {
                bytes: &bytes,
                crcs: &crcs,
            },
            Some(done),
        )
    });
    assert_eq!(busy.unwrap_err().kind(), ErrorKind::Busy);
    drop(large);
    let after = put_small(&dir, 4, 100);
    assert_eq!(after.needle.0, a.needle.0 + 2, "a void spends a needle id");
    assert_eq!(dir.walk(X, Cursor::default(), true, 10).unwrap().0.len(), 2);
    // A writer that was fenced in the middle of a large needle neither writes nor names it.
    let mut large = dir.begin(X, E1, head(5, 300_000)).unwrap();
    let status = wait(|done| dir.open_extent(X, Epoch(2), 1 << 20, done)).unwrap();
    assert_eq!(status.epoch, Epoch(2));
    let (b5, _) = body(5, 300_000);
    let c5: Vec<u32> = b5.chunks(BLOCK_BYTES).map(crc).collect();
    assert_eq!(large.frame(&b5, &c5).unwrap_err().kind(), ErrorKind::Conflict);
    drop(large);
    let status = wait(|done| dir.seal(X, Epoch(2), done)).unwrap();
    assert_eq!((status.sealed, status.needles), (true, 2));
    let refused = wait(|done| {
        dir.append(
            (X, Epoch(2)),
            head(6, 100),
            Body {
                bytes: &bytes,
                crcs: &crcs,
            },
            Some(done),
        )
    });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    drop(dir);
    let Opened { dir, .. } = open(tmp.path());
    assert_eq!(dir.status(X).unwrap(), status);
    assert_eq!(
        wait(|done| dir.open_extent(X, Epoch(3), 1 << 20, done))
            .unwrap_err()
            .kind(),
        ErrorKind::Conflict
    );
    assert_reads(&dir, &a, 1, 100);
}

#[test]
fn an_extent_has_an_end() {
    let tmp = tempfile::tempdir().unwrap();
    let Opened { dir, .. } = open(tmp.path());
    wait(|done| dir.open_extent(X, E1, 300_000, done)).unwrap();
    put_small(&dir, 1, 100_000);
    put_small(&dir, 2, 100_000);
    let (bytes, crcs) = body(3, 100_000);
    let e = wait(|done| {
        dir.append(
            (X, E1),
            head(3, 100_000),
            Body {
                bytes: &bytes,
                crcs: &crcs,
            },
            Some(done),
        )
    })
    .unwrap_err();
    assert_eq!(e, ExtentError::NoRoom);
    put_small(&dir, 3, 50_000);
}

#[test]
fn a_damaged_table_is_rebuilt_from_the_extents() {
    let tmp = tempfile::tempdir().unwrap();
    let Opened { dir, .. } = open(tmp.path());
    wait(|done| dir.open_extent(X, E1, 8 << 20, done)).unwrap();
    let a = put_small(&dir, 1, 5000);
    let b = put_large(&dir, 2, 300_000);
    dir.checkpoint().unwrap();
    drop(dir);
    let path = tmp.path().join("extent-table");
    let mut table = std::fs::read(&path).unwrap();
    table[60] ^= 1;
    std::fs::write(&path, &table).unwrap();
    let Opened { dir, report, .. } = try_open(tmp.path()).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_reads(&dir, &a, 1, 5000);
    assert_reads(&dir, &b, 2, 300_000);
    assert!(dir.status(X).unwrap().sealed, "no id or place is given out twice");
}
