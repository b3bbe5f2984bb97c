//! The node over a real directory, through its trait alone.
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

use bytes::Bytes;
use extent::{DataDir, DataDirConfig};
use node::LocalNode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use types::{BlobId, BucketId, DiskId, Epoch, ErrorKind, ExtentId, NodeId, SessionId};
use wire::Fault;
use wire::node::{Ack, Appended, Checked, NeedleHead, Node, OwnerRef, ReadNeedle, WalkCursor, WalkDepth};
use world::World;
use world::real::RealDisk;

const X: ExtentId = ExtentId(0x1_0000_0000_0001);
const E: Epoch = Epoch(3);

fn open(path: &Path) -> DataDir {
    let config = DataDirConfig {
        journal_bytes: Some(2 << 20),
        ..DataDirConfig::default()
    };
    let disk = Arc::new(RealDisk::open(path).unwrap());
    let opened = DataDir::open(&World::real(), disk, config).unwrap();
    assert!(opened.report.damage.is_empty() && opened.report.lost.is_empty());
    opened.dir
}

fn start(path: &Path) -> (LocalNode, DiskId) {
    let dir = open(path);
    let id = dir.disk_id();
    (LocalNode::new(World::real(), NodeId(1), vec![dir]), id)
}

fn checked(bytes: Vec<u8>) -> Checked {
    let crc = |b: &[u8]| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, b) as u32;
    let crcs = bytes.chunks(BLOCK_BYTES).map(crc).collect();
    Checked {
        bytes: Bytes::from(bytes),
        crcs,
    }
}

fn body(serial: u64, length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i as u64 * 131 + serial + (i as u64 >> 9)) as u8)
        .collect()
}

fn head(serial: u64, length: usize) -> NeedleHead {
    NeedleHead {
        blob: BlobId::new(SessionId(1), serial),
        owner: OwnerRef {
            bucket: BucketId(1),
            key: "k".into(),
            upload: None,
        },
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: length as u64,
        append_hlc: 1,
        session: SessionId(1),
    }
}

async fn put(node: &LocalNode, serial: u64, length: usize, ack: Ack) -> Result<Appended, Fault> {
    let bytes = body(serial, length);
    if length <= 128 << 10 {
        return node.append(X, E, head(serial, length), checked(bytes), ack).await;
    }
    let mut appending = node.begin(X, E, head(serial, length)).await?;
    for frame in bytes.chunks(FRAME_BYTES_MAX) {
        appending.frame(checked(frame.to_vec())).await?;
    }
    appending.finish(ack).await
}

async fn assert_reads(node: &LocalNode, a: &Appended, serial: u64, length: usize) {
    let blocks = length.div_ceil(BLOCK_BYTES);
    let mut got = Vec::new();
    for first in (0..blocks).step_by(16) {
        let read = ReadNeedle {
            extent: X,
            needle: a.needle,
            blob: head(serial, length).blob,
            hint: (a.generation, a.offset),
            length: length as u64,
            first_block: first as u32,
            block_count: (blocks - first).min(16) as u32,
        };
        let part = node.read(read).await.unwrap();
        assert_eq!(checked(part.bytes.to_vec()).crcs, part.crcs);
        got.extend_from_slice(&part.bytes);
    }
    assert!(got == body(serial, length), "needle {}", a.needle);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

#[test]
fn needles_of_all_sizes_survive_two_lives() {
    let tmp = tempfile::tempdir().unwrap();
    let lengths = [1, 4096, 100_000, 300_000, 5 << 20];
    let mut appended = Vec::new();
    for life in 0..3u64 {
        runtime().block_on(async {
            let (node, disk) = start(tmp.path());
            node.open_extent(disk, X, E, 256 << 20).await.unwrap();
            for (a, serial, length) in &appended {
                assert_reads(&node, a, *serial, *length).await;
            }
            for (i, length) in lengths.into_iter().enumerate() {
                let serial = life * 10 + i as u64;
                let ordered = put(&node, serial, length, Ack::Ordered).await.unwrap();
                let a = put(&node, serial, length, Ack::Durable).await.unwrap();
                assert_eq!(a.ordered, None);
                assert_eq!(a.needle, ordered.needle, "sent again, it is the same needle");
                assert_reads(&node, &a, serial, length).await;
                appended.push((a, serial, length));
            }
            node.shutdown().await;
            let late = put(&node, 99, 10, Ack::Durable).await.unwrap_err();
            assert_eq!(late.kind, ErrorKind::Fault);
        });
    }
}

/// What is in the page cache is read there, in pieces, and is what was written; nobody waits there for what is not.
#[test]
fn what_is_in_memory_is_read_without_waiting() {
    let tmp = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (node, disk) = start(tmp.path());
        node.open_extent(disk, X, E, 256 << 20).await.unwrap();
        let read = |a: &Appended, serial, length: usize, first_block, block_count| ReadNeedle {
            extent: X,
            needle: a.needle,
            blob: head(serial, length).blob,
            hint: (a.generation, a.offset),
            length: length as u64,
            first_block,
            block_count,
        };
        for (serial, length) in [(1, 4096), (2, 300_000), (3, 900_000)] {
            let a = put(&node, serial, length, Ack::Durable).await.unwrap();
            let blocks = length.div_ceil(BLOCK_BYTES) as u32;
            let mut got = Vec::new();
            for first in (0..blocks).step_by(4) {
                let part = node.read_cached(&read(&a, serial, length, first, (blocks - first).min(4)));
                let part = part.expect("it was written just now, through the page cache");
                assert_eq!(checked(part.bytes.to_vec()).crcs, part.crcs);
                got.extend_from_slice(&part.bytes);
            }
            assert!(got == body(serial, length), "{length}");
            let another = read(&a, serial + 50, length, 0, 1);
            assert!(node.read_cached(&another).is_none(), "another blob's");
        }
        let (serial, length) = (4, 900_000);
        let a = put(&node, serial, length, Ack::Durable).await.unwrap();
        let path = file_in(&tmp.path().join("extents"));
        let file = std::fs::File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(
            node.read_cached(&read(&a, serial, length, 8, 4)).is_none(),
            "on the disk"
        );
        assert_reads(&node, &a, serial, length).await;
        node.shutdown().await;
    });
}

#[test]
fn an_append_that_is_dropped_is_given_up() {
    let tmp = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (node, disk) = start(tmp.path());
        node.open_extent(disk, X, E, 256 << 20).await.unwrap();
        let mut appending = node.begin(X, E, head(1, 2 << 20)).await.unwrap();
        appending.frame(checked(body(1, FRAME_BYTES_MAX))).await.unwrap();
        drop(appending);
        // The frame may still be under way for a moment; then the extent takes appends again.
        let a = loop {
            match put(&node, 2, 1000, Ack::Durable).await {
                Err(e) if e.kind == ErrorKind::Busy => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        };
        assert_eq!(a.needle.0, 2);
        let from = WalkCursor::default();
        let walked = node.walk(X, from, WalkDepth::Bytes, 10).await.unwrap().found;
        assert_eq!(walked.len(), 1);
        assert_eq!(walked[0].damage, None);
        // I7
        let sealed = node.seal(X, E).await.unwrap();
        assert_eq!((sealed.sealed, sealed.needles), (true, 1));
        // I6
        assert_eq!(
            put(&node, 3, 10, Ack::Durable).await.unwrap_err().kind,
            ErrorKind::Conflict
        );
        assert_eq!(
            node.extent(ExtentId(77)).await.unwrap_err().kind,
            ErrorKind::NotFound
        );
        node.shutdown().await;
    });
}

fn file_in(dir: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(dir).unwrap();
    files.next().unwrap().unwrap().path()
}

/// What `cairn check` walks tells of damage around the needles, too; they are read all the same. // I5
#[test]
fn damage_around_needles_is_told_with_its_place() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, end) = runtime().block_on(async {
        let (node, disk) = start(tmp.path());
        node.open_extent(disk, X, E, 256 << 20).await.unwrap();
        let a = put(&node, 1, 300_000, Ack::Durable).await.unwrap();
        let end = node.seal(X, E).await.unwrap().end;
        node.shutdown().await;
        (a, end)
    });
    // Its map is made in pieces, beside all else: whatever of it that life left.
    let dir = open(tmp.path());
    while dir.map_extents(1 << 20).unwrap() {}
    dir.checkpoint().unwrap();
    let (told, closed) = std::sync::mpsc::channel();
    dir.close(Box::new(move |done| told.send(done).unwrap()));
    closed.recv().unwrap().unwrap();
    drop(dir);
    let path = file_in(&tmp.path().join("extents"));
    let whole = std::fs::read(&path).unwrap();
    for (at, what, place) in [
        (0, None, 0),
        (20, Some("header block"), 0),
        (end + 5, Some("needle map"), end),
        (whole.len() as u64 - 1, None, 0),
    ] {
        let mut bytes = whole.clone();
        if what.is_some() {
            bytes[at as usize] ^= 0x11;
        }
        std::fs::write(&path, &bytes).unwrap();
        runtime().block_on(async {
            let (node, _) = start(tmp.path());
            assert_reads(&node, &a, 1, 300_000).await;
            let walked = node.walk(X, WalkCursor::default(), WalkDepth::Bytes, 10).await;
            let bad: Vec<_> = walked
                .unwrap()
                .found
                .into_iter()
                .filter(|w| w.damage.is_some())
                .collect();
            match what {
                None => assert_eq!(bad, []),
                Some(what) => {
                    assert!(bad.len() == 1 && bad[0].offset == place, "{bad:?}");
                    assert!(bad[0].damage.as_ref().unwrap().contains(what), "{bad:?}");
                }
            }
            node.shutdown().await;
        });
    }
}
