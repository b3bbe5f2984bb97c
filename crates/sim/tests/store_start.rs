//! Starts that are refused change nothing, and a full disk still starts. // I10

mod store_machine;

use extent::ExtentError;
use sim::SimDisk;
use sim::disk::{Fault, FaultKind};
use store::Store;
use store_machine::{DATA, Machine, Progress, life};
use types::ErrorKind;
use types::Kind as _;
use world::Disk;

const PATH: &str = "index/0000000000000010.redb";
const CATALOGUE: &str = "index-catalogue";

fn stopped(commits: u64) -> (Machine, Progress) {
    let machine = Machine::new(4);
    let mut progress = Progress::default();
    life(async {
        let running = machine.open_whole().unwrap();
        progress.run(&running.engine, commits, 7).await;
        running.stop().await.unwrap();
    });
    machine.disk.kill();
    (machine, progress)
}

fn bytes(machine: &Machine, path: &str) -> Vec<u8> {
    let file = machine.disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn refusal(machine: &Machine) -> ExtentError {
    life(async { machine.open_whole().map(|_| ()).expect_err("it is refused") })
}

/// A partition is gone, and somebody starts the store again and again: the journal is as it was, and mended it serves.
#[test]
fn refused_starts_do_not_fill_the_journal() {
    for commits in [3, 40] {
        let (machine, mut progress) = stopped(commits);
        let kept = bytes(&machine, PATH);
        let journal = bytes(&machine, "journal");
        machine.disk.remove(PATH).unwrap();
        for _ in 0..100 {
            let told = refusal(&machine);
            assert!(
                told.kind() == ErrorKind::Corrupt && told.to_string().contains(PATH),
                "{told}"
            );
            machine.disk.kill();
        }
        assert!(bytes(&machine, "journal") == journal, "nothing was added");
        let file = machine.disk.create(PATH).unwrap();
        file.write_all_at(&kept, 0).unwrap();
        file.sync_data().unwrap();
        machine.disk.sync_dir("index").unwrap();
        life(async {
            let running = machine.open_whole().unwrap();
            progress.agree(&running.engine).await.unwrap();
        });
    }
}

/// Index and catalogue are gone at once: the superblock knows that there was one. // I10
#[test]
fn a_directory_without_catalogue_and_index_was_one_before() {
    let (machine, _) = stopped(40);
    for name in machine.disk.list("index").unwrap() {
        machine.disk.remove(&format!("index/{name}")).unwrap();
    }
    machine.disk.remove(CATALOGUE).unwrap();
    let before = bytes(&machine, "journal");
    for _ in 0..3 {
        let told = refusal(&machine).to_string();
        assert!(told.contains(CATALOGUE) && told.contains("missing"), "{told}");
        machine.disk.kill();
    }
    assert!(!machine.disk.exists(CATALOGUE).unwrap() && bytes(&machine, "journal") == before);
}

/// The power goes at each operation of the first start: the next one is not refused for what was not finished.
#[test]
fn a_cut_first_start_is_no_loss() {
    let mut cuts = 0;
    loop {
        let machine = Machine::new(cuts);
        machine.disk.plan(Fault::new(FaultKind::PowerOff, cuts));
        life(async {
            let _cut = machine.open_whole();
        });
        let met = machine.disk.planned() == 0;
        machine.disk.clear_plan();
        machine.disk.crash();
        life(async {
            let running = machine
                .open_whole()
                .unwrap_or_else(|e| panic!("cut at {cuts}: {e}"));
            running.engine.take(DATA).await.unwrap();
        });
        if !met {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 15, "{cuts} cuts");
}

/// Not a byte is free when a store is started after a crash at any moment: what was kept back is given, and it serves reads.
#[test]
fn a_full_disk_starts() {
    let (mut cuts, mut given) = (0, 0);
    loop {
        let machine = Machine::on(SimDisk::new(cuts, 64 << 20), cuts);
        let mut progress = Progress::default();
        machine.disk.plan(Fault::new(FaultKind::PowerOff, 40 + 7 * cuts));
        life(async {
            let Ok(running) = machine.open_whole() else { return };
            progress.run(&running.engine, 60, 7).await;
        });
        let met = machine.disk.planned() == 0;
        machine.disk.clear_plan();
        machine.disk.crash();
        let space = machine.disk.space().unwrap();
        let ballast = |machine: &Machine| machine.disk.open("ballast").map_or(0, |f| f.len().unwrap());
        let whole = ballast(&machine);
        machine.disk.set_capacity(space.total - space.free);
        life(async {
            let running = machine.open_whole().unwrap_or_else(|e| panic!("cut {cuts}: {e}"));
            progress.agree(&running.engine).await.unwrap();
        });
        given += u64::from(ballast(&machine) < whole);
        if !met {
            break;
        }
        cuts += 1;
    }
    assert!(
        cuts > 20 && given > 2,
        "{cuts} cuts, ballast was given {given} times"
    );
}
