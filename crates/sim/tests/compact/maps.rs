//! Needle maps of sealed extents: made beside the checkpoints, piece by piece, also where there was no room for one at first.

use crate::node::{fill, start};
use crate::room::Filling;
use crate::stage::*;
use crate::watched::Watched;
use extent::DataDir;
use sim::SimDisk;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use types::{ErrorKind, Kind};
use wire::node::Node;
use world::real::RealClock;
use world::{Clock, Disk};

/// X with `count` needles and sealed; how many operations the checkpoint takes then.
async fn sealed(outside: &mut Outside, disk: &SimDisk, dir: &DataDir, count: usize) -> u64 {
    for id in [X, Y, Z] {
        open_extent(dir, id).await.unwrap();
    }
    for n in 0..count {
        outside.put(dir, X, 600).await.unwrap();
        if n % 10 == 0 {
            // The journal is small.
            dir.checkpoint().unwrap();
        }
    }
    seal(dir, X).await.unwrap();
    cost(disk, || dir.checkpoint().unwrap())
}

fn cost(disk: &SimDisk, f: impl FnOnce()) -> u64 {
    let before = disk.trace().0;
    f();
    disk.trace().0 - before
}

/// However long an extent is that was sealed, the journal is let go before anybody walks it.
#[test]
fn a_checkpoint_costs_what_the_table_costs() {
    let costs = [10, 1000].map(|count| {
        let disk = SimDisk::new(51, 64 << 20);
        let mut outside = Outside::default();
        let cost = life(async {
            let dir = open_whole(51, &disk).unwrap();
            sealed(&mut outside, &disk, &dir, count).await
        });
        disk.crash();
        life(async {
            let opened = open(52, Arc::new(disk.clone())).unwrap();
            assert_eq!((opened.report.replayed, opened.report.damage), (0, vec![]));
        });
        cost
    });
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn a_map_is_made_in_pieces_and_once() {
    let disk = SimDisk::new(53, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let dir = open_whole(53, &disk).unwrap();
        sealed(&mut outside, &disk, &dir, 1000).await;
        let mut pieces = 0;
        let mut most = 0;
        loop {
            let mut left = false;
            let cost = cost(&disk, || left = dir.map_extents(64 << 10).unwrap());
            if !left {
                break;
            }
            most = most.max(cost);
            pieces += 1;
        }
        assert!(pieces >= 3 && most <= 4, "{pieces} pieces of {most} operations");
        assert!(dir.is_map_unsaid());
        // With nothing else to say.
        dir.checkpoint().unwrap();
        assert!(!dir.is_map_unsaid());
        outside.check(&dir).unwrap();
    });
    disk.crash();
    life(async {
        let dir = open_whole(54, &disk).unwrap();
        let again = cost(&disk, || assert!(!dir.map_extents(1).unwrap()));
        assert_eq!(again, 0, "the table says that the map is there");
        outside.check(&dir).unwrap();
    });
}

/// Without room nothing is walked again, and nothing is lost.
#[test]
fn a_map_without_room_waits_as_it_is() {
    let disk = SimDisk::new(55, 64 << 20);
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let mut outside = Outside::default();
    life(async {
        let filling = Filling {
            disk: disk.clone(),
            left: left.clone(),
        };
        let dir = open(55, Arc::new(filling)).unwrap().dir;
        sealed(&mut outside, &disk, &dir, 1000).await;
        left.store(0, Ordering::Relaxed);
        let e = dir.map_extents(64 << 20).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Full, "{e}");
        outside.check(&dir).unwrap();
        let written = cost(&disk, || assert!(dir.map_extents(1).unwrap()));
        assert!(written <= 4, "{written} operations: it was walked again");
        assert!(!dir.map_extents(1).unwrap());
        outside.check(&dir).unwrap();
    });
}

/// An extent that is compacted or removed while it is walked gets no map of what it was.
#[test]
fn a_compaction_in_the_middle_of_a_walk_comes_first() {
    let disk = SimDisk::new(56, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let dir = open_whole(56, &disk).unwrap();
        outside.fill(&dir).await;
        assert!(dir.map_extents(1).unwrap());
        outside.compact(&dir, X, 1, 2).await.unwrap();
        while dir.map_extents(1).unwrap() {}
        outside.check(&dir).unwrap();
        check_files(&disk, &dir).unwrap();
    });
    disk.crash();
    life(async { outside.check(&open_whole(57, &disk).unwrap()).unwrap() });
}

/// A full disk waits for the room of a file that is walked: it is closed with the next piece, not at the end of the walk.
#[test]
fn what_is_compacted_or_removed_is_not_held_open_by_a_walk() {
    let disk = SimDisk::new(57, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let watched = Watched::new(Arc::new(disk.clone()));
        let dir = open(57, Arc::new(watched.clone())).unwrap().dir;
        outside.fill(&dir).await;
        // The walk of X is under way.
        assert!(dir.map_extents(1).unwrap());
        let path = format!("extents/{X}");
        outside.compact(&dir, X, 1, 2).await.unwrap();
        assert!(!disk.exists(&path).unwrap());
        assert!(dir.map_extents(1).unwrap());
        assert_eq!(watched.handles(&path), 0, "its room is given back");
        // That of Z is.
        let path = format!("extents/{Z}");
        outside.drop_some(Z, 1);
        let dropped = outside.dropped(Z);
        compact(&dir, Z, 1, &dropped).await.unwrap();
        assert!(!disk.exists(&path).unwrap());
        dir.map_extents(1).unwrap();
        assert_eq!(watched.handles(&path), 0);
    });
}

#[test]
fn a_node_makes_the_maps_of_what_was_sealed() {
    let disk = SimDisk::new(58, 64 << 20);
    life(async {
        let node = start(&disk, &[X]).await;
        fill(&node, 300, 8000).await;
        RealClock::new().sleep(Duration::from_secs(30)).await;
        assert!(node.extent(X).await.unwrap().sealed);
        drop(node);
    });
    disk.crash();
    life(async {
        let dir = open_whole(59, &disk).unwrap();
        assert!(!dir.map_extents(1).unwrap(), "its map was made, and said");
    });
}
