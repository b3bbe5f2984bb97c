//! Corners of a node on a simulated disk.

use bytes::Bytes;
use extent::{DataDir, DataDirConfig};
use node::LocalNode;
use sim::{SimClock, SimDisk, SimRng};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use types::{BlobId, BucketId, DiskId, Epoch, ErrorKind, ExtentId, NodeId, SessionId};
use wire::Fault;
use wire::node::{Ack, Appended, Checked, NeedleHead, Node, OwnerRef, ReadNeedle};
use world::{Exec, World};

const X: ExtentId = ExtentId(0x1_0000_0000_0001);
const E1: Epoch = Epoch(1);

fn life<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(f)
}

fn start(disk: &SimDisk) -> (LocalNode, DiskId) {
    let clock = SimClock::new(1_700_000_000_000);
    clock.boot();
    let world = World {
        clock: Arc::new(clock),
        rng: Arc::new(SimRng::new(7)),
        exec: Exec::Inline,
    };
    let config = DataDirConfig {
        journal_bytes: Some(1 << 20),
        extent_bytes: Some(1 << 20),
        extent_step_bytes: Some(64 << 10),
        ballast_bytes: Some(64 << 10),
        ..DataDirConfig::default()
    };
    let opened = DataDir::open(&world, Arc::new(disk.clone()), config).unwrap();
    let id = opened.dir.disk_id();
    (LocalNode::new(world, NodeId(1), vec![opened.dir]), id)
}

/// A needle of one byte.
async fn put(node: &LocalNode, serial: u64) -> Result<Appended, Fault> {
    let head = NeedleHead {
        blob: BlobId::new(SessionId(1), serial),
        owner: OwnerRef {
            bucket: BucketId(1),
            key: "k".into(),
            upload: None,
        },
        ordinal: 0,
        logical_offset: 0,
        last: true,
        length: 1,
        append_hlc: 1,
        session: SessionId(1),
    };
    let body = Checked {
        bytes: Bytes::from_static(&[0]),
        // The crc32c of one zero byte.
        crcs: vec![0x527d_5351],
    };
    node.append(X, E1, head, body, Ack::Durable).await
}

/// Without room for a checkpoint a stop is still a stop: the journal is marked, and nothing is taken after it.
#[test]
fn a_full_disk_stops_in_order() {
    let disk = SimDisk::new(1, 64 << 20);
    life(async {
        let (node, id) = start(&disk);
        node.open_extent(id, X, E1, 1 << 20).await.unwrap();
        put(&node, 1).await.unwrap();
        disk.set_capacity(0);
        put(&node, 2).await.expect("there is room in the extent still");
        node.shutdown().await;
        assert_eq!(put(&node, 3).await.unwrap_err().kind, ErrorKind::Fault);
    });
}

/// A read whose hint is right is answered on the caller; one whose hint is wrong walks the extent, elsewhere.
#[test]
fn an_extent_is_not_walked_on_the_caller() {
    let disk = SimDisk::new(2, 64 << 20);
    life(async {
        let (node, id) = start(&disk);
        node.open_extent(id, X, E1, 1 << 20).await.unwrap();
        put(&node, 1).await.unwrap();
        let there = put(&node, 2).await.unwrap();
        for (hint, at_once) in [(there.offset, true), (4096, false)] {
            let mut read = pin!(node.read(ReadNeedle {
                extent: X,
                needle: there.needle,
                blob: BlobId::new(SessionId(1), 2),
                hint: (there.generation, hint),
                length: 1,
                first_block: 0,
                block_count: 1,
            }));
            let polled = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled.is_ready(), at_once, "hint {hint}");
            if !at_once {
                assert_eq!(read.await.unwrap().bytes.as_ref(), [0]);
            }
        }
        node.shutdown().await;
    });
}
