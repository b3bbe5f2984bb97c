//! The simulated disk: it conforms, what was synced survives a power cut, and each fault does what it says.

use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use std::io::ErrorKind;
use std::sync::Arc;
use world::{Disk, DiskFile};

const SEEDS: u64 = 200;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(seed, 1 << 30)
}

fn read(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A file `a` that is durable, with `bytes` in it.
fn durable(disk: &SimDisk, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create("a").unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    file
}

#[test]
fn it_conforms() {
    world::suite::disk(&|| Arc::new(disk(1)));
}

#[test]
fn what_was_synced_survives() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 9000]);
        file.write_all_at(&[2; 4096], 4096).unwrap();
        file.sync_data().unwrap();
        let crash = disk.crash();
        assert!(crash.files.is_empty() && crash.names == 0 && !crash.broke_a_promise());
        let bytes = read(&disk, "a");
        assert!(bytes.len() == 9000 && bytes[4096..8192] == [2; 4096] && bytes[8192..] == [1; 808]);
        assert!(file.len().is_err(), "handles from before a cut are dead");
    }
}

/// Writes that were not synced survive whole, in part or not at all; a sector is never torn.
#[test]
fn what_was_not_synced_may_be_lost() {
    let (mut none, mut some, mut all, mut middle) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 8192]);
        file.write_all_at(&[2; 8192], 0).unwrap();
        file.write_all_at(&[3; 8192], 0).unwrap();
        disk.crash();
        let bytes = read(&disk, "a");
        let sectors: Vec<u8> = bytes.chunks(512).map(|s| s[0]).collect();
        assert!(bytes.chunks(512).all(|s| s.iter().all(|b| *b == s[0])));
        match sectors.iter().filter(|s| **s == 3).count() {
            0 => none += 1,
            16 => all += 1,
            _ => some += 1,
        }
        middle += u32::from(sectors.contains(&2));
    }
    assert!(
        none > 0 && some > 0 && all > 0 && middle > 0,
        "{none} {some} {all} {middle}"
    );
}

#[test]
fn lengths_and_names_need_their_syncs() {
    let (mut shorter, mut unnamed, mut unmoved, mut back) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 1000]);
        file.write_all_at(&[1; 9000], 0).unwrap();
        disk.create("b").unwrap();
        disk.create_dir("d").unwrap();
        disk.create("d/x").unwrap().sync_data().unwrap();
        disk.crash();
        shorter += u32::from(read(&disk, "a").len() == 1000);
        unnamed += u32::from(!disk.exists("b").unwrap() && !disk.exists("d/x").unwrap());
        assert!(disk.exists("d").unwrap() || !disk.exists("d/x").unwrap());

        disk.rename("a", "c").unwrap();
        disk.crash();
        let (a, c) = (disk.exists("a").unwrap(), disk.exists("c").unwrap());
        assert!(a != c, "a rename is done or not");
        unmoved += u32::from(a);
        let name = if a { "a" } else { "c" };
        disk.remove(name).unwrap();
        disk.crash();
        back += u32::from(disk.exists(name).unwrap());
    }
    assert!(
        [shorter, unnamed, unmoved, back]
            .iter()
            .all(|n| (1..200).contains(n)),
        "{shorter} {unnamed} {unmoved} {back}"
    );
}

#[test]
fn a_rename_over_a_file_keeps_one_of_the_two() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable(&disk, &[1; 600]);
        let new = disk.create("new").unwrap();
        new.write_all_at(&[2; 600], 0).unwrap();
        new.sync_data().unwrap();
        disk.rename("new", "a").unwrap();
        if seed % 2 == 0 {
            disk.sync_dir("").unwrap();
        }
        disk.crash();
        let bytes = read(&disk, "a");
        assert!(bytes == [2; 600] || (bytes == [1; 600] && seed % 2 == 1));
    }
}

#[test]
fn errors_come_at_their_operation() {
    let disk = disk(3);
    let file = durable(&disk, &[1; 4096]);
    disk.plan(Fault::new(FaultKind::ReadError, 1));
    disk.plan(Fault::new(FaultKind::WriteError, 2).on("a"));
    disk.plan(Fault::new(FaultKind::WriteError, 0).on("other"));
    let mut buf = [0; 10];
    file.read_exact_at(&mut buf, 0).unwrap();
    file.read_exact_at(&mut buf, 0).unwrap_err();
    file.read_exact_at(&mut buf, 0).unwrap();
    for _ in 0..2 {
        file.write_all_at(&[1; 10], 0).unwrap();
    }
    file.write_all_at(&[1; 10], 0).unwrap_err();
    file.write_all_at(&[1; 10], 0).unwrap();
    assert_eq!(disk.planned(), 1);
    let counts = disk.counts();
    assert_eq!(
        (counts.get("disk.read_error"), counts.get("disk.write_error")),
        (1, 1)
    );
}

/// It stays so until it is written, and, where that was lost, after it.
#[test]
fn a_spoiled_sector_is_not_given_until_it_is_written() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 8192]);
        let read = |at: u64, n: usize| disk.open("a").unwrap().read_exact_at(&mut vec![0; n], at);
        assert!(disk.spoil_at("a", 4100) && !disk.spoil_at("none", 0));
        read(4000, 200).unwrap_err();
        read(4096, 10).unwrap_err();
        read(0, 4096).unwrap();
        read(4608, 512).unwrap();
        file.write_all_at(&[2; 512], 4096).unwrap();
        read(0, 8192).unwrap();
        if seed % 2 == 0 {
            file.sync_data().unwrap();
        }
        disk.crash();
        let mut bytes = [0; 512];
        let is_read = disk.open("a").unwrap().read_exact_at(&mut bytes, 4096).is_ok();
        assert_eq!(is_read, bytes == [2; 512]);
        assert!(is_read || seed % 2 == 1);
    }
}

/// After a failed sync reads show what was written and later syncs answer ok, but a power cut shows that it is gone.
#[test]
fn a_failed_sync_loses_in_silence() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 8192]);
        file.write_all_at(&[2; 8192], 0).unwrap();
        disk.plan(Fault::new(FaultKind::SyncError, 0));
        file.sync_data().unwrap_err();
        assert_eq!(read(&disk, "a"), [2; 8192]);
        file.sync_data().unwrap();
        disk.crash();
        lost += u32::from(read(&disk, "a") != [2; 8192]);
    }
    assert!(lost > 100, "{lost}");
}

#[test]
fn a_lying_sync_is_known_when_it_cost_something() {
    let (mut broke, mut held) = (0, 0);
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 8192]);
        file.write_all_at(&[2; 8192], 0).unwrap();
        disk.plan(Fault::new(FaultKind::LyingSync, 0));
        file.sync_data().unwrap();
        assert!(disk.is_lied_to());
        if seed % 4 == 0 {
            file.sync_data().unwrap();
            assert!(!disk.is_lied_to(), "an honest sync makes it good");
        }
        let crash = disk.crash();
        let whole = read(&disk, "a") == [2; 8192];
        assert_eq!(crash.broke_a_promise(), !whole);
        assert!(whole || seed % 4 > 0);
        (broke, held) = (broke + u32::from(!whole), held + u32::from(whole));
    }
    assert!(broke > 0 && held > 50);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new(1, 64 << 10);
    let file = durable(&disk, &[1; 32 << 10]);
    let other = disk.create("b").unwrap();
    let full = |r: std::io::Result<()>| r.unwrap_err().kind() == ErrorKind::StorageFull;
    assert!(full(other.allocate(0, 40 << 10)));
    assert!(full(other.write_all_at(&[1; 40 << 10], 0)));
    file.write_all_at(&[2; 32 << 10], 0).unwrap();
    other.write_all_at(&[1; 4096], 0).unwrap();
    disk.remove("a").unwrap();
    other.write_all_at(&[1; 40 << 10], 0).unwrap();
    assert!(disk.space().unwrap().free <= 24 << 10);
    assert_eq!(disk.counts().get("disk.full"), 2);
    other.set_len(0).unwrap();
    assert_eq!(disk.used(), 0);
}

#[test]
fn a_flip_changes_one_bit_for_good() {
    let disk = disk(9);
    let file = durable(&disk, &[1; 8192]);
    let flip = disk.flip("a").unwrap();
    assert_eq!(disk.flip("none"), None);
    file.sync_data().unwrap();
    disk.crash();
    let bytes = read(&disk, "a");
    let ones: u32 = bytes.iter().map(|b| (b ^ 1).count_ones()).sum();
    assert_eq!(ones, 1);
    assert_ne!(bytes[flip.offset as usize], 1);
}

#[test]
fn the_power_goes_and_comes_back() {
    let disk = disk(4);
    let file = durable(&disk, &[1; 512]);
    let _lock = disk.lock("lock").unwrap();
    disk.plan(Fault::new(FaultKind::PowerOff, 1));
    file.write_all_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap_err();
    assert!(disk.is_off());
    assert!(file.len().is_err() && disk.open("a").is_err() && disk.create("c").is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(disk.until_off());
    disk.crash();
    assert!(disk.lock("lock").is_ok());
    assert!(disk.open("a").is_ok());
}

#[test]
fn a_seed_is_a_history() {
    let run = |seed| {
        let disk = disk(seed);
        let file = durable(&disk, &[1; 100_000]);
        file.write_all_at(&[2; 100_000], 0).unwrap();
        let crash = disk.crash();
        (crash, read(&disk, "a"), disk.trace())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert!((0..20).any(|seed| run(seed).1 != run(0).1));
}
