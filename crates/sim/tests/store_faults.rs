//! The embedded index on a disk that rots, fills up, fails or lies: right rows or an error, never wrong, never absent. // I5

mod store_machine;

use extent::Superblock;
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use std::collections::BTreeMap;
use store::StoreError;
use store_machine::{Machine, Model, Progress, Running, every_row, life, with_all};
use world::Disk;

const COMMITS: u64 = 60;

/// A machine after some commits, all in the files where `settled`, and stopped in order or not.
fn filled(seed: u64, settled: bool) -> (Machine, Progress) {
    let machine = Machine::new(seed);
    let mut progress = Progress::default();
    life(async {
        let running = machine.open().unwrap();
        progress.run(&running.engine, COMMITS, 7).await;
        if settled {
            running.engine.checkpoint().await.unwrap();
        }
    });
    machine.disk.crash();
    (machine, progress)
}

fn flip(disk: &SimDisk, path: &str, at: u64, bit: u8) {
    let file = disk.open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).unwrap();
    file.sync_data().unwrap();
}

/// What a reader finds: the right rows, or an error that is not "absent". Wrong rows panic.
fn judge(machine: &Machine, want: &Model) -> Result<(), String> {
    life(async {
        let running = machine.open()?;
        let found = every_row(&running.engine).await;
        let verdict = match found {
            Ok(rows) => {
                assert_eq!(rows, with_all(want), "wrong rows");
                Ok(())
            }
            Err(StoreError::Corrupt(what)) => {
                assert!(
                    what.contains("index/") || what.contains("journal"),
                    "it names the place: {what}"
                );
                Err(what)
            }
            Err(e) => panic!("{e} is not how corruption is told"),
        };
        // It ends without a panic, too.
        running.engine.shutdown().await.ok();
        verdict
    })
}

/// Every 4 KiB of a file of the index, in turn: one flipped bit. Pages that are used are seen to be bad.
fn flips(settled: bool) {
    let (machine, progress) = filled(3, settled);
    let path = "index/0000000000000010.redb";
    let length = machine.disk.open(path).unwrap().len().unwrap();
    let mut verdicts: BTreeMap<bool, u64> = BTreeMap::new();
    for page in 0..length / 4096 {
        let mut bytes = vec![0; 4096];
        let file = machine.disk.open(path).unwrap();
        file.read_exact_at(&mut bytes, page * 4096).unwrap();
        if bytes.iter().all(|b| *b == 0) {
            continue;
        }
        for (n, at) in [0, 40, 4000, 17, 64 + 4 * 9].into_iter().enumerate() {
            let (machine, _) = filled(3, settled);
            flip(&machine.disk, path, page * 4096 + at, n as u8);
            *verdicts
                .entry(judge(&machine, &progress.done).is_ok())
                .or_default() += 1;
        }
    }
    assert!(
        verdicts[&true] > 0 && verdicts[&false] > 0,
        "both ends were seen: {verdicts:?}"
    );
}

#[test]
fn a_flipped_bit_in_any_page_is_right_or_corrupt() {
    flips(true);
}

#[test]
fn a_flipped_bit_under_a_log_is_right_or_corrupt() {
    flips(false);
}

/// A file that is gone, or cut, is not an empty index.
#[test]
fn a_lost_file_is_not_an_empty_index() {
    for cut in [None, Some(0), Some(8192), Some(40_000)] {
        let (machine, progress) = filled(4, false);
        let path = "index/0000000000000010.redb";
        match cut {
            None => machine.disk.remove(path).unwrap(),
            Some(length) => machine.disk.open(path).unwrap().set_len(length).unwrap(),
        }
        assert!(judge(&machine, &progress.done).is_err(), "cut to {cut:?}");
    }
}

/// A machine that was stopped in order: everything is in the files, and the log is empty.
fn stopped(seed: u64, commits: u64) -> (Machine, Progress) {
    let machine = Machine::new(seed);
    let mut progress = Progress::default();
    life(async {
        let running = machine.open().unwrap();
        progress.run(&running.engine, commits, 7).await;
        running.stop().await.unwrap();
    });
    machine.disk.kill();
    (machine, progress)
}

/// A file that is gone while the log is empty is not a partition that was never begun.
#[test]
fn a_lost_file_without_a_log_is_not_a_new_partition() {
    for partition in ["0000000000000001", "0000000000000010"] {
        let (machine, progress) = stopped(4, COMMITS);
        let path = format!("index/{partition}.redb");
        machine.disk.remove(&path).unwrap();
        let told = judge(&machine, &progress.done).expect_err("it is gone");
        assert!(told.contains(&path) && told.contains("missing"), "{told}");
        // Told again, and not made anew in the meantime.
        machine.disk.kill();
        assert!(judge(&machine, &progress.done).is_err());
    }
}

/// A file that is gone while the log goes back to its beginning is made again.
#[test]
fn a_lost_file_is_rebuilt_from_a_log_that_has_everything() {
    let (mut rebuilt, mut refused) = (0, 0);
    for commits in 1..8 {
        let (machine, progress) = {
            let machine = Machine::new(commits);
            let mut progress = Progress::default();
            life(async {
                let running = machine.open().unwrap();
                progress.run(&running.engine, commits, 99).await;
                running.engine.checkpoint().await.unwrap();
            });
            machine.disk.kill();
            (machine, progress)
        };
        let path = "index/0000000000000010.redb";
        if !machine.disk.exists(path).unwrap() {
            continue;
        }
        machine.disk.remove(path).unwrap();
        match judge(&machine, &progress.done) {
            Ok(()) => rebuilt += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        rebuilt > 3 && refused == 0,
        "{rebuilt} rebuilt, {refused} refused"
    );
}

/// A directory of a build that kept no catalogue opens, and has one from then on; of a rotten one the other copy is used, and both written anew.
#[test]
fn the_catalogue_of_an_old_directory_is_made_and_a_rotten_one_is_told() {
    let path = "index-catalogue";
    let (machine, progress) = stopped(5, COMMITS);
    machine.disk.remove(path).unwrap();
    let told = judge(&machine, &progress.done).expect_err("the superblock knows that there was one");
    assert!(told.contains(path) && told.contains("missing"), "{told}");
    let mut superblock = Superblock::read(&machine.disk).unwrap().unwrap();
    superblock.catalogued = false;
    superblock.write(&machine.disk).unwrap();
    assert_eq!(judge(&machine, &progress.done), Ok(()));
    assert!(machine.disk.exists(path).unwrap());
    machine.disk.remove("index/0000000000000010.redb").unwrap();
    machine.disk.kill();
    assert!(judge(&machine, &progress.done).is_err());

    let (machine, _) = stopped(5, COMMITS);
    for (flips, whole) in [(&[4096 + 40][..], true), (&[33], true), (&[33, 4096 + 40], false)] {
        for at in flips {
            flip(&machine.disk, path, *at, 3);
        }
        machine.disk.kill();
        let told = life(async { machine.open().map(|_| ()) });
        match told {
            Ok(()) => assert!(whole),
            Err(told) => assert!(!whole && told.contains(path), "{told}"),
        }
    }
}

/// A sector that the device does not give costs one of two copies, or what the extents know as well; where there is neither it is told by
/// its file. // I5
#[test]
fn a_sector_beside_the_index_that_cannot_be_read_costs_a_copy() {
    let spoiled = |path: &str, pages: &[u64]| {
        let (machine, progress) = stopped(5, COMMITS);
        for page in pages {
            assert!(
                machine.disk.spoil_at(path, page * 4096 + 7),
                "{path}: page {page}"
            );
        }
        judge(&machine, &progress.done)
    };
    for path in ["index-catalogue", "superblock"] {
        assert_eq!(
            [spoiled(path, &[0]), spoiled(path, &[1])],
            [Ok(()), Ok(())],
            "{path}"
        );
        let told = spoiled(path, &[0, 1]).unwrap_err();
        assert!(told.contains(path), "{told}");
    }
    assert_eq!(spoiled("extent-table", &[0]), Ok(()));
    let (mut opened, mut refused) = (0, 0);
    for page in 0..(128 << 10) / 4096 {
        match spoiled("journal", &[page]) {
            Ok(()) => opened += 1,
            Err(told) => {
                let place = format!("at byte {}", page * 4096);
                assert!(
                    told.contains("journal") && (told.contains(&place) || told.contains("record")),
                    "{told}"
                );
                refused += 1;
            }
        }
    }
    assert!(
        opened > 20 && refused > 0,
        "{opened} opened, {refused} were refused"
    );
}

/// A full disk refuses and loses nothing; with room again it goes on.
#[test]
fn a_full_disk_is_a_normal_state() {
    let (mut refused, mut filled_up) = (0, 0);
    for seed in 0..12 {
        let machine = Machine::new(seed);
        let mut progress = Progress::default();
        life(async {
            let running = machine.open().unwrap();
            progress.run(&running.engine, 4, 9).await;
            machine.disk.set_capacity(machine.disk.used() + seed * 16_000);
            progress.run(&running.engine, 40, 3).await;
            let ended = progress.ended.clone();
            filled_up += u64::from(ended.is_some());
            refused += u64::from(ended.is_some_and(|e| e.contains("full")));
            progress.agree(&running.engine).await.unwrap();
            // Full or not: what was there can be read, and room makes it whole again.
            machine.disk.set_capacity(64 << 20);
            progress.run(&running.engine, 60, 9).await;
            assert_eq!(progress.ended, None);
            progress.agree(&running.engine).await.unwrap();
        });
        machine.disk.crash();
        assert_eq!(judge(&machine, &progress.done), Ok(()));
    }
    assert!(refused > 3 && refused == filled_up, "{refused} of {filled_up}");
}

/// One failing operation of each sort, at each place: whatever is answered stands after the next crash. How often
/// commits ended with it.
fn failing(kind: FaultKind, on: &str) -> u64 {
    let mut after = 0;
    let mut ended = 0;
    loop {
        let machine = Machine::new(after);
        let mut progress = Progress::default();
        let running = |machine: &Machine| -> Result<Running, String> { machine.open() };
        life(async {
            let first = running(&machine).unwrap();
            machine.disk.plan(Fault::new(kind, after).on(on));
            progress.run(&first.engine, COMMITS, 4).await;
            ended += u64::from(progress.ended.is_some());
            // Reads after it are right, or say that they cannot.
            if let Ok(rows) = every_row(&first.engine).await {
                assert_eq!(rows, with_all(&progress.done), "{kind:?} at {after}");
            }
            first.stop().await.ok();
        });
        let met = machine.disk.planned() == 0;
        machine.disk.clear_plan();
        machine.disk.crash();
        life(async {
            let again = running(&machine).unwrap_or_else(|e| panic!("{kind:?} at {after}: {e}"));
            progress
                .agree(&again.engine)
                .await
                .unwrap_or_else(|e| panic!("{kind:?} at {after}: {e}"));
            progress.run(&again.engine, COMMITS + 10, 4).await;
            assert_eq!(progress.ended, None, "{kind:?} at {after}");
        });
        if !met {
            return ended;
        }
        after += 1;
    }
}

#[test]
fn a_failed_write_of_the_index_loses_nothing() {
    assert!(failing(FaultKind::WriteError, "index/") > 5);
}

#[test]
fn a_failed_sync_of_the_index_loses_nothing() {
    assert!(failing(FaultKind::SyncError, "index/") > 5);
}

/// From each read of the index's files on so many fail. Right rows or an error, and all of them once it reads again. Answers how often it
/// was told, and how many reads there were.
fn failing_reads(count: u32) -> (u32, u64) {
    let (mut met, mut told) = (0, 0);
    loop {
        let (machine, progress) = filled(5, true);
        life(async {
            for _ in 0..count {
                let fault = Fault::new(FaultKind::ReadError, met);
                machine.disk.plan(fault.on("index/"));
            }
            let Ok(running) = machine.open() else {
                told += 1;
                return;
            };
            match every_row(&running.engine).await {
                Ok(rows) => assert_eq!(rows, with_all(&progress.done), "read {met}"),
                Err(_) => told += 1,
            }
            running.stop().await.ok();
        });
        let is_met = machine.disk.planned() == 0;
        machine.disk.clear_plan();
        machine.disk.crash();
        let files = machine.disk.list("index").unwrap();
        assert!(
            count > 1 || files.len() == 2,
            "read {met} began a file: {files:?}"
        );
        assert_eq!(judge(&machine, &progress.done), Ok(()), "read {met}");
        if !is_met {
            return (told, met);
        }
        met += 1;
    }
}

#[test]
fn failed_reads_of_the_index_lose_nothing() {
    let (told, met) = failing_reads(3);
    assert!(told > 0 && met > 3, "{met} reads failed, {told} were told");
}

/// It is read again: nobody is told of damage, and no file is begun over another.
#[test]
fn one_failed_read_of_the_index_is_no_damage() {
    let (told, met) = failing_reads(1);
    assert!(told == 0 && met > 3, "{met} reads failed, {told} were told");
}

/// What befalls the life after a failed sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing, until the power goes.
    Nothing,
    /// The power goes at this operation.
    Cut(u64),
    /// Another sync fails, and the machine still stays on.
    FailedSync(u64),
}

/// A sync of the index fails at each place. The machine stays on, so the next process sees in memory what is not on the disk; and later
/// the power goes. What was answered is there. // I1, I5
fn survives_a_failed_sync(next: impl Fn(u64) -> Next) -> u64 {
    let mut after = 0;
    let mut ended = 0;
    loop {
        let next = next(after);
        let machine = Machine::new(after);
        let mut progress = Progress::default();
        life(async {
            let first = machine.open().unwrap();
            machine
                .disk
                .plan(Fault::new(FaultKind::SyncError, after).on("index/"));
            progress.run(&first.engine, COMMITS, 4).await;
            ended += u64::from(progress.ended.is_some());
        });
        let met = machine.disk.planned() == 0;
        machine.disk.clear_plan();
        machine.disk.kill();
        match next {
            Next::Nothing => {}
            Next::Cut(place) => machine.disk.plan(Fault::new(FaultKind::PowerOff, place)),
            Next::FailedSync(place) => machine
                .disk
                .plan(Fault::new(FaultKind::SyncError, place).on("index/")),
        }
        life(async {
            let again = machine.open();
            if next != Next::Nothing && again.is_err() {
                return;
            }
            let again = again.unwrap_or_else(|e| panic!("failed at {after}: {e}"));
            let agreed = progress.agree(&again.engine).await;
            if machine.disk.planned() > 0 || next == Next::Nothing {
                agreed.unwrap_or_else(|e| panic!("failed at {after}: {e}"));
            }
            progress.run(&again.engine, progress.next + 12, 3).await;
            assert!(progress.ended.is_none() || next != Next::Nothing);
        });
        machine.disk.clear_plan();
        if let Next::FailedSync(_) = next {
            machine.disk.kill();
            life(async {
                let again = machine
                    .open()
                    .unwrap_or_else(|e| panic!("failed twice, at {after}: {e}"));
                let agreed = progress.agree(&again.engine).await;
                agreed.unwrap_or_else(|e| panic!("failed twice, at {after}: {e}"));
            });
        }
        machine.disk.crash();
        life(async {
            let again = machine
                .open()
                .unwrap_or_else(|e| panic!("failed at {after}, then cut: {e}"));
            let agreed = progress.agree(&again.engine).await;
            agreed.unwrap_or_else(|e| panic!("failed at {after}, then cut: {e}"));
            progress.run(&again.engine, progress.next + 10, 4).await;
            assert_eq!(progress.ended, None, "failed at {after}, then cut");
        });
        if !met {
            return ended;
        }
        after += 1;
    }
}

#[test]
fn a_failed_sync_is_not_believed_by_the_next_process() {
    assert!(survives_a_failed_sync(|_| Next::Nothing) > 5);
}

#[test]
fn a_cut_in_the_life_after_a_failed_sync_loses_nothing() {
    for round in 0..10 {
        assert!(survives_a_failed_sync(|after| Next::Cut(round * 21 + after % 21)) > 5);
    }
}

#[test]
fn a_second_failed_sync_in_the_next_process_loses_nothing() {
    for round in 0..4 {
        assert!(survives_a_failed_sync(|_| Next::FailedSync(round)) > 5);
    }
}

/// Syncs that were promised and not done: what is found is right, or an error, or, whole, a moment since then.
#[test]
fn a_lie_is_told_or_costs_only_what_came_after() {
    let (mut right, mut corrupt, mut older, mut broken) = (0, 0, 0, 0);
    for seed in 0..120 {
        let machine = Machine::new(seed);
        let lied = 20 + seed % 40;
        let mut moments = Vec::new();
        let mut progress = Progress::default();
        life(async {
            let running = machine.open().unwrap();
            for n in 0..lied + 1 + seed % 9 {
                if n == lied {
                    for _ in 0..1 + seed % 7 {
                        machine
                            .disk
                            .plan(Fault::new(FaultKind::LyingSync, 0).on("index/"));
                    }
                }
                progress.run(&running.engine, n + 1, 3).await;
                assert_eq!(progress.ended, None);
                if n >= lied {
                    moments.push(with_all(&progress.done));
                }
            }
        });
        machine.disk.clear_plan();
        broken += u64::from(machine.disk.crash().broke_a_promise());
        life(async {
            let running = machine.open().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            match every_row(&running.engine).await {
                Ok(rows) => {
                    let at = moments.iter().position(|m| *m == rows);
                    let at = at.unwrap_or_else(|| panic!("seed {seed}: rows of no moment since the lie"));
                    *(if at + 1 == moments.len() {
                        &mut right
                    } else {
                        &mut older
                    }) += 1;
                }
                Err(StoreError::Corrupt(_)) => corrupt += 1,
                Err(e) => panic!("seed {seed}: {e}"),
            }
        });
    }
    assert!(
        right > 0 && broken > 0,
        "{right} right, {older} older, {corrupt} corrupt, {broken} broken"
    );
}
