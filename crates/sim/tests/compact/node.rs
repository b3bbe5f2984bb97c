//! The node's side: one compaction a disk, next to reads and appends, stopped in the middle; and walks and reads across generations.

use crate::stage::{X, Y, Z, body, check_files, config, life, open_whole, world};
use crate::watched::Watched;
use bytes::Bytes;
use extent::DataDir;
use node::LocalNode;
use sim::SimDisk;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use types::{BlobId, BucketId, Epoch, ErrorKind, ExtentId, Generation, NeedleId, NodeId, SessionId};
use wire::Fault;
use wire::node::{
    Ack, Appended, Checked, NeedleHead, Node, OwnerRef, Pace, ReadNeedle, WalkCursor, WalkDepth, WalkPage,
};
use world::{Disk, World};

const E1: Epoch = Epoch(1);
const G1: Generation = Generation(1);

pub(crate) async fn start(disk: &SimDisk, extents: &[ExtentId]) -> LocalNode {
    let world = world(7);
    let opened = DataDir::open(&world, Arc::new(disk.clone()), config()).unwrap();
    assert_eq!(opened.report.damage, Vec::<String>::new());
    let id = opened.dir.disk_id();
    let node = LocalNode::new(world, NodeId(1), vec![opened.dir]);
    for extent in extents {
        node.open_extent(id, *extent, E1, 4 << 20).await.unwrap();
    }
    node
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

pub(crate) async fn put(
    node: &LocalNode,
    extent: ExtentId,
    serial: u64,
    length: usize,
) -> Result<Appended, Fault> {
    let (bytes, crcs) = body(serial, length);
    let bytes = Bytes::from(bytes);
    node.append(
        extent,
        E1,
        head(serial, length),
        Checked { bytes, crcs },
        Ack::Durable,
    )
    .await
}

async fn get(node: &LocalNode, a: &Appended, serial: u64, length: usize) -> Result<Checked, Fault> {
    get_of(node, (X, a), serial, length).await
}

pub(crate) async fn get_of(
    node: &LocalNode,
    (extent, a): (ExtentId, &Appended),
    serial: u64,
    length: usize,
) -> Result<Checked, Fault> {
    let read = ReadNeedle {
        extent,
        needle: a.needle,
        blob: BlobId::new(SessionId(1), serial),
        hint: (a.generation, a.offset),
        length: length as u64,
        first_block: 0,
        block_count: 1,
    };
    node.read(read).await
}

/// `count` needles of `length` in X, which is sealed then.
pub(crate) async fn fill(node: &LocalNode, count: u64, length: usize) -> Vec<Appended> {
    let mut all = Vec::new();
    for serial in 1..=count {
        all.push(put(node, X, serial, length).await.unwrap());
    }
    node.seal(X, E1).await.unwrap();
    all
}

/// No pauses.
fn full() -> Pace {
    Pace::of(100)
}

fn every_other(all: &[Appended]) -> Vec<NeedleId> {
    all.iter().step_by(2).map(|a| a.needle).collect()
}

#[test]
fn each_call_comes_twice_and_the_wrong_ones_are_refused() {
    let disk = SimDisk::new(1, 64 << 20);
    life(async {
        let node = start(&disk, &[X, Y, Z]).await;
        let all = fill(&node, 20, 500).await;
        put(&node, Y, 100, 10).await.unwrap();
        let kind = |r: Result<_, Fault>| r.map(|_: ()| ()).unwrap_err().kind;
        // Not sealed, not there.
        let open = node.compact(Y, G1, vec![], &full()).await.map(drop);
        assert_eq!(kind(open), ErrorKind::Conflict);
        assert_eq!(kind(node.remove(Y).await), ErrorKind::Conflict);
        assert_eq!(kind(node.remove(X).await), ErrorKind::Conflict);
        let unknown = node.compact(ExtentId(5), G1, vec![], &full()).await.map(drop);
        assert_eq!(kind(unknown), ErrorKind::NotFound);
        node.remove(ExtentId(5)).await.unwrap();
        // Numbers that are not there, not in order, twice.
        let mut dropped = every_other(&all);
        dropped.extend([NeedleId(1000), NeedleId(1), NeedleId(3)]);
        let status = node.compact(X, G1, dropped, &full()).await.unwrap();
        assert_eq!((status.needles, status.generation), (10, G1));
        for to in [0, 1] {
            let again = node
                .compact(X, Generation(to), vec![NeedleId(2)], &full())
                .await
                .unwrap();
            assert_eq!(again, status);
        }
        let rest: Vec<NeedleId> = all.iter().map(|a| a.needle).collect();
        let status = node.compact(X, Generation(2), rest, &full()).await.unwrap();
        assert_eq!(status.needles, 0);
        node.remove(X).await.unwrap();
        node.remove(X).await.unwrap();
        assert_eq!(node.extent(X).await.unwrap_err().kind, ErrorKind::NotFound);
        let there = node.disks().await.unwrap().remove(0);
        assert_eq!(there.extents.0, 2);
        assert_eq!((there.compacted.done, there.compacted.removed), (2, 1));
        assert!(there.compacted.reclaimed_bytes > 20 * 500);
        node.shutdown().await;
    });
    life(async {
        let dir = open_whole(8, &disk).unwrap();
        check_files(&disk, &dir).unwrap();
        assert_eq!(dir.extents().len(), 2);
    });
}

/// Reads and appends are answered while an extent is compacted, and a second compaction of the disk is refused. // I3
#[test]
fn reads_and_appends_go_on_meanwhile() {
    let disk = SimDisk::new(2, 64 << 20);
    life(async {
        let node = start(&disk, &[X, Y]).await;
        let all = fill(&node, 400, 8000).await;
        let pace = full();
        let mut compaction = pin!(node.compact(X, G1, every_other(&all), &pace));
        let mut pieces = 0;
        let status = loop {
            let polled = compaction.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let std::task::Poll::Ready(done) = polled {
                break done.unwrap();
            }
            pieces += 1;
            let kept = &all[pieces % 200 * 2 + 1];
            get(&node, kept, kept.needle.0, 8000).await.unwrap();
            put(&node, Y, 10_000 + pieces as u64, 100).await.unwrap();
            let second = node.compact(X, Generation(9), vec![], &full()).await;
            assert!(second.is_err_and(|e| e.kind == ErrorKind::Busy) || pieces > 5);
            tokio::task::yield_now().await;
        };
        assert!(pieces >= 4, "{pieces} pieces");
        assert!(pace.pieces() >= 4, "{pace:?}");
        assert_eq!((status.generation, status.needles), (G1, 200));
        node.shutdown().await;
    });
}

/// A caller that goes away, or a stop, leaves everything as it was, but for a file that goes. // I3
#[test]
fn a_compaction_that_is_cut_off_leaves_nothing() {
    let disk = SimDisk::new(3, 64 << 20);
    for polls in 1..14 {
        life(async {
            let node = start(&disk, &[]).await;
            let all = if node.extent(X).await.is_err() {
                let id = node.disks().await.unwrap()[0].disk;
                node.open_extent(id, X, E1, 4 << 20).await.unwrap();
                fill(&node, 300, 8000).await
            } else {
                Vec::new()
            };
            let from = node.extent(X).await.unwrap().generation;
            {
                let to = Generation(from.0 + 1);
                let pace = full();
                let mut compaction = pin!(node.compact(X, to, every_other(&all), &pace));
                for _ in 0..polls {
                    if compaction
                        .as_mut()
                        .poll(&mut Context::from_waker(Waker::noop()))
                        .is_ready()
                    {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            node.shutdown().await;
            let late = node
                .compact(X, Generation(100), vec![], &full())
                .await
                .unwrap_err();
            assert_eq!(late.kind, ErrorKind::Unavailable);
        });
        disk.kill();
        life(async {
            let dir = open_whole(polls, &disk).unwrap();
            check_files(&disk, &dir).unwrap();
            let (walked, _) = dir.walk(X, extent::Cursor::default(), true, 1000).unwrap();
            assert!(walked.iter().all(|w| w.damage.is_none()) && walked.len() >= 150);
        });
        disk.kill();
    }
}

/// A walk that was begun before a compaction goes on behind the needle it had come to.
#[test]
fn a_walk_goes_on_across_generations() {
    let disk = SimDisk::new(4, 64 << 20);
    life(async {
        let node = start(&disk, &[X]).await;
        let all = fill(&node, 100, 700).await;
        let dropped = every_other(&all);
        let kept: BTreeSet<NeedleId> = (all.iter().map(|a| a.needle))
            .filter(|n| !dropped.contains(n))
            .collect();
        for depth in [WalkDepth::Heads, WalkDepth::Bytes] {
            let first = node.walk(X, WalkCursor::default(), depth, 31).await.unwrap();
            let to = Generation(node.extent(X).await.unwrap().generation.0 + 1);
            node.compact(X, to, dropped.clone(), &full()).await.unwrap();
            let mut seen: BTreeSet<NeedleId> = first.found.iter().map(|w| w.needle).collect();
            let mut next = first.next;
            while let Some(from) = next {
                let page: WalkPage = node.walk(X, from, depth, 7).await.unwrap();
                for walked in &page.found {
                    assert_eq!(walked.damage, None);
                    assert_eq!(walked.crc32c.is_some(), depth == WalkDepth::Bytes);
                    assert!(seen.insert(walked.needle), "{walked:?} twice");
                }
                next = page.next;
            }
            assert!(kept.is_subset(&seen), "{seen:?}");
        }
        node.shutdown().await;
    });
}

/// What a hint of an older generation costs: the map's head, a read for each halving, a page of it, the needle; and once known the
/// needle alone. Walking would read the whole extent.
#[test]
fn an_old_hint_costs_the_logarithm() {
    const COUNT: u64 = 3000;
    let disk = SimDisk::new(5, 64 << 20);
    life(async {
        let node = start(&disk, &[X]).await;
        let all = fill(&node, COUNT, 600).await;
        node.compact(X, G1, every_other(&all), &full()).await.unwrap();
        let mut most = 0;
        for a in all.iter().skip(1).step_by(2).step_by(13) {
            let mut costs = Vec::new();
            for _ in 0..2 {
                let before = disk.trace().0;
                get(&node, a, a.needle.0, 600).await.unwrap();
                costs.push(disk.trace().0 - before);
            }
            // 1,500 entries: three halvings down to a page of 256.
            assert!(costs[0] <= 6, "{costs:?}");
            assert_eq!(costs[1], 1);
            most = most.max(costs[0]);
        }
        #[allow(clippy::print_stdout, reason = "what it measured")]
        {
            println!("{COUNT} needles, half of them dropped: an old hint costs at most {most} reads, then 1");
        }
        node.shutdown().await;
    });
}

/// A scrub that reads a whole journal keeps nobody from the room of what is removed meanwhile.
#[test]
fn room_is_given_back_beside_a_scrub() {
    let watched = Watched::new(Arc::new(SimDisk::new(17, 64 << 20)));
    // Of real threads and time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let world = World::real();
        let opened = DataDir::open(&world, Arc::new(watched.clone()), config()).unwrap();
        let id = opened.dir.disk_id();
        let node = LocalNode::new(world, NodeId(1), vec![opened.dir]);
        node.open_extent(id, X, E1, 4 << 20).await.unwrap();
        node.seal(X, E1).await.unwrap();
        watched.shut(Some("journal"));
        let mut scrub = pin!(node.verify_frame(id));
        let removed = tokio::select! {
            biased;
            _ = scrub.as_mut() => panic!("its journal was not read"),
            // Else the test would never end.
            removed = tokio::time::timeout(Duration::from_secs(60), node.remove(X)) => removed,
        };
        let gone = !watched.exists(&format!("extents/{X}")).unwrap();
        watched.shut(None);
        removed.expect("it stands behind the scrub").unwrap();
        assert!(gone);
        assert_eq!(scrub.await.unwrap().damage, vec![]);
        node.shutdown().await;
    });
}
