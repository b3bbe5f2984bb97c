//! Flipped bits before a compaction: what is to be kept and is damaged stops it and is told by its place; what is dropped does not.

use crate::stage::*;
use control::ControlPlane;
use extent::{DataDir, ExtentError};
use node::LocalNode;
use sim::SimDisk;
use std::sync::Arc;
use store::Memory;
use types::{ErrorKind, Generation, Kind, NeedleId, NodeId};
use wire::control::{Control, Reclaim, Stage};
use wire::node::Node;
use world::plant::{Plant, plant_thread};
use world::{Disk, Overlay};

/// A directory closed in order, and what is in it; half of X is dropped.
fn staged(seed: u64) -> (SimDisk, Outside) {
    let disk = SimDisk::new(seed, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let dir = open_whole(seed, &disk).unwrap();
        outside.set_up(&dir).await;
        outside.drop_some(X, 2);
        close(&dir).await;
    });
    disk.crash();
    (disk, outside)
}

fn flipped(disk: &SimDisk, places: &[u64]) -> Arc<Overlay> {
    let glass = Arc::new(Overlay::new(Arc::new(disk.clone())));
    let file = glass.open(&format!("extents/{X}")).unwrap();
    for at in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, *at).unwrap();
        byte[0] ^= 4;
        file.write_all_at(&byte, *at).unwrap();
    }
    glass
}

fn dir_on(glass: &Arc<Overlay>) -> DataDir {
    open(9, glass.clone()).unwrap().dir
}

/// Compacts X with a flipped needle in it, and holds what came of it against what should.
fn compact_over(disk: &SimDisk, outside: &Outside, bad: &Needle, places: &[u64]) -> Result<(), String> {
    let glass = flipped(disk, places);
    life(async {
        let dir = dir_on(&glass);
        let dropped = outside.dropped(X);
        let result = compact(&dir, X, 1, &dropped).await;
        let id = bad.appended.needle;
        if bad.dropped {
            result.map_err(|e| format!("what is dropped hinders: {e}"))?;
            return kept_are_right(&dir, outside, None);
        }
        match result {
            Err(ExtentError::Corrupt(what)) if what.contains(&format!("extent {X}: needle {id} at ")) => {}
            other => return Err(format!("{other:?} over needle {id}")),
        }
        dir.sweep().map_err(|e| e.to_string())?;
        let files = glass.list("extents").unwrap();
        if files.len() != 3 || dir.status(X).unwrap().generation != Generation(0) {
            return Err(format!("something changed: {files:?}"));
        }
        kept_are_right(&dir, outside, Some(id))?;
        // Once it is dropped too, nothing hinders.
        let mut more = dropped.clone();
        more.push(id);
        more.sort();
        let status = compact(&dir, X, 1, &more).await.map_err(|e| e.to_string())?;
        if status.needles + more.len() as u64
            != outside.needles.iter().filter(|n| n.extent == X).count() as u64
        {
            return Err(format!("{status:?}"));
        }
        kept_are_right(&dir, outside, Some(id))
    })
}

/// Every kept needle but `bad` reads right.
fn kept_are_right(dir: &DataDir, outside: &Outside, bad: Option<NeedleId>) -> Result<(), String> {
    let kept = outside.needles.iter().filter(|n| n.extent == X && !n.dropped);
    for needle in kept.filter(|n| Some(n.appended.needle) != bad) {
        check_needle(dir, needle)?;
    }
    Ok(())
}

/// Places in a needle: its header, its bytes from the first to the last, its checksums.
fn places(needle: &Needle) -> Vec<u64> {
    let from = needle.appended.offset;
    let header = (160 + format!("key {}", needle.serial).len()).next_multiple_of(8) as u64;
    let length = needle.length as u64;
    let body = from + header;
    vec![
        from + 2,
        from + 25,
        from + 100,
        from + 161,
        body,
        body + length / 2,
        body + length - 1,
        body + length + 1,
    ]
}

fn flips() -> Result<(), String> {
    let (disk, outside) = staged(31);
    for needle in outside.needles.iter().filter(|n| n.extent == X) {
        for at in places(needle) {
            compact_over(&disk, &outside, needle, &[at])
                .map_err(|e| format!("flip at {at} of {needle:?}: {e}"))?;
        }
    }
    Ok(())
}

// I5
#[test]
fn a_damaged_needle_stops_a_compaction_that_keeps_it() {
    flips().unwrap();
}

#[test]
fn a_compaction_over_a_bad_needle_is_caught() {
    plant_thread(Some(Plant::CompactOverBad));
    let result = flips();
    plant_thread(None);
    assert!(result.is_err());
}

/// Without a map that holds the needles are walked; then a bad header hides what stood there, and only what was dropped may be hidden.
#[test]
fn a_damaged_map_is_done_without() {
    let (disk, outside) = staged(32);
    let end = life(async { dir_on(&flipped(&disk, &[])).status(X).unwrap().end });
    for in_map in [end + 1, end + 25, end + 33, end + 40, end + 60] {
        let nothing = outside.needles[0];
        assert!(nothing.dropped);
        compact_over(&disk, &outside, &nothing, &[in_map]).unwrap();
        for needle in outside.needles.iter().filter(|n| n.extent == X) {
            let header = needle.appended.offset + 25;
            let result = compact_over(&disk, &outside, needle, &[in_map, header]);
            result.unwrap_or_else(|e| panic!("{needle:?}, map at {in_map}: {e}"));
        }
    }
}

/// A read of a needle that a compaction dropped is an error, not another needle's bytes. // I5
#[test]
fn a_dropped_needle_is_absent() {
    let (disk, outside) = staged(33);
    life(async {
        let dir = open_whole(34, &disk).unwrap();
        compact(&dir, X, 1, &outside.dropped(X)).await.unwrap();
        for needle in outside.needles.iter().filter(|n| n.dropped) {
            for hint in [(Generation(0), needle.appended.offset), (Generation(1), 4096)] {
                let whole = body(needle.serial, needle.length);
                let e = read_needle(&dir, needle, &whole, hint).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Corrupt);
            }
        }
    });
}

/// Flips a bit of each place in a file where `what` stands.
fn flip_where(disk: &SimDisk, path: &str, what: &str) -> usize {
    let file = Disk::open(disk, path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let places: Vec<usize> = (bytes.windows(what.len()).enumerate())
        .filter(|(_, window)| *window == what.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in &places {
        file.write_all_at(&[bytes[*at] ^ 4], *at as u64).unwrap();
    }
    file.sync_data().unwrap();
    places.len()
}

/// The records of the last needles of an open extent are lost, and of these the first is damaged where it stands, too. The one behind
/// it is whole and its file is all that is left of it: no compaction and no removal takes it away, and a read finds it. // I3, I7
#[test]
fn what_stands_behind_damage_is_not_compacted_away() {
    for (kept_before, seed) in [(true, 41), (false, 42)] {
        let disk = SimDisk::new(seed, 64 << 20);
        let mut outside = Outside::default();
        let before = life(async {
            let dir = open_whole(seed, &disk).unwrap();
            open_extent(&dir, X).await.unwrap();
            if kept_before {
                outside.put(&dir, X, 400).await.unwrap();
            }
            dir.checkpoint().unwrap();
            let before = outside.needles.len();
            outside.put(&dir, X, 300).await.unwrap();
            outside.put(&dir, X, 90_000).await.unwrap();
            close(&dir).await;
            before
        });
        let lost = outside.needles.split_off(before);
        for needle in &lost {
            let key = format!("key {}", needle.serial);
            assert_eq!(flip_where(&disk, "journal", &key), 1);
        }
        let (bad, whole) = (lost[0], lost[1]);
        assert_eq!(
            flip_where(&disk, &format!("extents/{X}"), &format!("key {}", bad.serial)),
            1
        );
        disk.crash();
        // Found anew, and as the table has it then.
        for again in [false, true] {
            life(async {
                let opened = open(seed + 1, Arc::new(disk.clone())).unwrap();
                let told = opened.report.damage.iter().any(|d| d.contains("frozen"));
                assert!(told || again, "{:?}", opened.report);
                let dir = opened.dir;
                check_needle(&dir, &whole).unwrap();
                let (done, _) = done();
                let e = dir.remove(X, done).unwrap_err();
                assert!(matches!(e, ExtentError::NotEmpty(_)), "{e}");
                // All that anybody knew of goes, and gc may know of the last one, too.
                let mut dropped: Vec<NeedleId> = outside.needles.iter().map(|n| n.appended.needle).collect();
                for also in [None, Some(whole)] {
                    dropped.extend(also.map(|n| n.appended.needle));
                    let e = compact(&dir, X, 1, &dropped).await.unwrap_err();
                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                }
                dir.sweep().unwrap();
                check_files(&disk, &dir).unwrap();
                dir.checkpoint().unwrap();
                check_needle(&dir, &whole).unwrap();
                if again {
                    // Nobody misses what is bad.
                    dropped.pop();
                    dropped.push(bad.appended.needle);
                    dropped.sort();
                    let status = compact(&dir, X, 1, &dropped).await.unwrap();
                    assert_eq!(status.needles, 1);
                    check_needle(&dir, &whole).unwrap();
                }
                close(&dir).await;
            });
            disk.crash();
        }
    }
}

/// What is in a file of which nothing is known is not made room of for a new extent.
#[test]
fn an_extent_is_not_made_over_needles() {
    let disk = SimDisk::new(65, 64 << 20);
    let mut outside = Outside::default();
    let early = life(async {
        let dir = open_whole(65, &disk).unwrap();
        close(&dir).await;
        ["journal", "extent-table"].map(|path| (path, glance(&disk, path)))
    });
    life(async {
        let dir = open_whole(66, &disk).unwrap();
        open_extent(&dir, X).await.unwrap();
        outside.put(&dir, X, 500).await.unwrap();
        outside.put(&dir, X, 90_000).await.unwrap();
        dir.checkpoint().unwrap();
        close(&dir).await;
    });
    // As if both had been put back from a copy.
    for (path, bytes) in early {
        put_back(&disk, path, &bytes);
    }
    let path = format!("extents/{X}");
    // Damage in front of the second needle hides none.
    for flip in [None, Some(outside.needles[0].appended.offset + 25), Some(33)] {
        if let Some(at) = flip {
            let file = Disk::open(&disk, &path).unwrap();
            file.write_all_at(b"?", at).unwrap();
            file.sync_data().unwrap();
        }
        let before = glance(&disk, &path);
        disk.kill();
        life(async {
            let dir = open(67, Arc::new(disk.clone())).unwrap().dir;
            assert!(dir.status(X).is_err(), "nothing knows of it");
            let e = open_extent(&dir, X).await.unwrap_err();
            assert_eq!(e, ExtentError::Taken(X), "flip at {flip:?}");
            close(&dir).await;
        });
        assert!(glance(&disk, &path) == before, "flip at {flip:?}");
    }
}

fn glance(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = Disk::open(disk, path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn put_back(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let file = Disk::open(disk, path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
}

/// A node that has lost all that it knew of an extent, and has its file: the control plane takes it for neither empty nor gone, and grants
/// another. Once the node knows it again, it is as it was. // I3, I6
#[test]
fn an_extent_of_which_only_the_file_is_left_is_not_ended() {
    let disk = SimDisk::new(68, 64 << 20);
    let files = ["journal", "extent-table"];
    let early = life(async {
        let dir = open_whole(68, &disk).unwrap();
        close(&dir).await;
        files.map(|path| glance(&disk, path))
    });
    disk.kill();
    let plane = async |store: &Arc<Memory>, disk: &SimDisk| {
        let dir = open(69, Arc::new(disk.clone())).unwrap().dir;
        let node = Arc::new(LocalNode::new(world(69), NodeId(1), vec![dir]));
        let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NodeId(1), node.clone())];
        let plane = ControlPlane::open(world(69), store.clone(), nodes).await.unwrap();
        let session = plane.begin_session("here").await.unwrap();
        (plane, node, session)
    };
    let store = Arc::new(Memory::new());
    let (lost, needle) = life(async {
        let (plane, node, session) = plane(&store, &disk).await;
        let grant = plane.grant(session).await.unwrap();
        let needle = crate::node::put(&node, grant.extent, 1, 500).await.unwrap();
        node.shutdown().await;
        (grant.extent, needle)
    });
    disk.kill();
    let late = files.map(|path| glance(&disk, path));
    files
        .iter()
        .zip(&early)
        .for_each(|(path, bytes)| put_back(&disk, path, bytes));
    let store = Arc::new(store.crash());
    life(async {
        let (plane, node, session) = plane(&store, &disk).await;
        for _ in 0..3 {
            assert_ne!(plane.grant(session).await.unwrap().extent, lost);
            let e = plane.gone(lost).await.unwrap_err();
            assert_eq!(e.kind, ErrorKind::Conflict, "{e}");
            plane.locate(lost).await.unwrap();
            let uses = plane.uses().await.unwrap();
            let usage = uses.iter().find(|u| u.extent == lost).unwrap();
            assert_eq!(usage.stage, Stage::Sealing);
        }
        node.shutdown().await;
    });
    disk.kill();
    // Its node is put right: what it had is known again.
    files
        .iter()
        .zip(&late)
        .for_each(|(path, bytes)| put_back(&disk, path, bytes));
    let store = Arc::new(store.crash());
    life(async {
        let (plane, node, session) = plane(&store, &disk).await;
        plane.grant(session).await.unwrap();
        let uses = plane.uses().await.unwrap();
        let usage = uses.iter().find(|u| u.extent == lost).unwrap();
        assert!(usage.stage == Stage::Sealed && usage.bytes > 0, "{usage:?}");
        let read = crate::node::get_of(&node, (lost, &needle), 1, 500).await;
        assert!(read.unwrap().bytes == body(1, 500).0);
    });
}

/// The head of an extent that was torn when it was made is no needle: its file goes, and the extent can be made. One that has anything
/// behind such a head stays.
#[test]
fn a_torn_head_with_nothing_behind_it_holds_nothing() {
    for (behind, seed) in [(false, 80), (true, 81)] {
        let disk = SimDisk::new(seed, 64 << 20);
        life(async { close(&open_whole(seed, &disk).unwrap()).await });
        disk.kill();
        let path = format!("extents/{X}");
        let file = Disk::create(&disk, &path).unwrap();
        file.allocate(0, 64 << 10).unwrap();
        file.write_all_at(b"CEXT half of a head", 0).unwrap();
        if behind {
            file.write_all_at(b"?", 60 << 10).unwrap();
        }
        file.sync_data().unwrap();
        Disk::sync_dir(&disk, "extents").unwrap();
        drop(file);
        life(async {
            let dir = open_whole(seed, &disk).unwrap();
            assert_eq!(Disk::exists(&disk, &path).unwrap(), behind);
            let opened = open_extent(&dir, X).await;
            let wanted = if behind {
                Err(ExtentError::Taken(X))
            } else {
                Ok(())
            };
            assert_eq!(opened, wanted);
        });
    }
}
