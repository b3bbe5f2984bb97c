//! The superblock stands in its file twice: one bad copy is told, costs nothing, and is whole again after the start.

use crate::stage::*;
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use std::sync::Arc;
use world::Disk;

const NAME: &str = "superblock";
const COPY: u64 = 4096;

fn bytes(disk: &SimDisk) -> Vec<u8> {
    let file = Disk::open(disk, NAME).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn flip(disk: &SimDisk, at: u64) {
    let before = bytes(disk)[at as usize];
    let file = Disk::open(disk, NAME).unwrap();
    file.write_all_at(&[before ^ 8], at).unwrap();
    file.sync_data().unwrap();
}

/// A directory with a needle, after a crash.
fn made(seed: u64) -> (SimDisk, Outside) {
    let disk = SimDisk::new(seed, 64 << 20);
    let mut outside = Outside::default();
    life(async {
        let dir = open_whole(seed, &disk).unwrap();
        open_extent(&dir, X).await.unwrap();
        outside.put(&dir, X, 500).await.unwrap();
    });
    disk.crash();
    (disk, outside)
}

/// Opens; what it says of the superblock.
fn told(seed: u64, disk: &SimDisk, outside: &Outside) -> Vec<String> {
    let told = life(async {
        let opened = open(seed, Arc::new(disk.clone())).unwrap_or_else(|e| panic!("it is refused: {e}"));
        outside
            .needles
            .iter()
            .for_each(|needle| check_needle(&opened.dir, needle).unwrap());
        opened.report.damage
    });
    disk.crash();
    told
}

// I5
#[test]
fn a_bad_copy_is_told_and_written_anew() {
    for (seed, at) in (70..).zip([0, 8, 9, 12, 17, 41, 60, 500, 2000, 4095]) {
        for place in [0, COPY] {
            let (disk, outside) = made(seed);
            let whole = bytes(&disk);
            assert_eq!(whole.len() as u64, 2 * COPY);
            flip(&disk, place + at);
            let damage = told(seed, &disk, &outside);
            let place = format!("superblock: the copy at byte {place} is bad");
            assert!(
                damage.len() == 1 && damage[0].contains(&place),
                "flip at {at}, {place}: {damage:?}"
            );
            assert!(
                bytes(&disk) == whole,
                "flip at {at}, {place}: both copies are whole again"
            );
            assert_eq!(told(seed, &disk, &outside), Vec::<String>::new());
        }
    }
}

/// The power goes at each operation of the start that writes it anew.
#[test]
fn a_power_cut_leaves_one_that_is_whole() {
    for place in [0, COPY] {
        let mut cuts = 0;
        loop {
            let (disk, outside) = made(90 + cuts);
            let whole = bytes(&disk);
            flip(&disk, place + 100);
            disk.plan(Fault::new(FaultKind::PowerOff, cuts));
            life(async { drop(open(91, Arc::new(disk.clone()))) });
            let met = disk.planned() == 0;
            disk.clear_plan();
            disk.crash();
            told(92, &disk, &outside);
            assert_eq!(told(93, &disk, &outside), Vec::<String>::new(), "cut at {cuts}");
            assert!(bytes(&disk) == whole, "cut at {cuts}");
            if !met {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 10, "{cuts} cuts");
    }
}

/// An older build wrote it once. It is no damage; where there is no room for a second copy, there is none yet. // I10
#[test]
fn a_single_copy_gets_its_second() {
    let (disk, outside) = made(110);
    let whole = bytes(&disk);
    let file = Disk::open(&disk, NAME).unwrap();
    file.set_len(COPY).unwrap();
    file.sync_data().unwrap();
    disk.set_capacity(disk.used());
    assert_eq!(told(111, &disk, &outside), Vec::<String>::new());
    disk.set_capacity(64 << 20);
    assert_eq!(told(112, &disk, &outside), Vec::<String>::new());
    assert!(bytes(&disk) == whole);
    // As that build would have it, which reads the first copy alone.
    assert!(whole[..COPY as usize] == whole[COPY as usize..]);
}
