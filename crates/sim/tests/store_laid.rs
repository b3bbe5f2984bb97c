//! An index laid into a directory that had another one, with the power cut at each step of it. // I10

mod store_machine;

use bytes::Bytes;
use extent::{DataDir, DataDirConfig};
use sim::disk::{Fault, FaultKind};
use std::sync::Arc;
use store::{OldLog, Prepared, Scan, Store, StoreError, lay};
use store_machine::{DATA, DIRECTORY, Machine, Model, Progress, every_row, life, with_all};
use types::limits::SCAN_ROWS_MAX;
use world::Disk;

const COMMITS: u64 = 60;

/// A machine that was killed: some of its index is in files, some in the journal alone.
fn killed() -> (Machine, Model) {
    let machine = Machine::new(11);
    let mut progress = Progress::default();
    life(async {
        let running = machine.open().unwrap();
        progress.run(&running.engine, COMMITS, 25).await;
        assert_eq!(progress.ended, None);
    });
    machine.disk.kill();
    (machine, with_all(&progress.done))
}

/// Rows of one partition: the other one is to be empty.
fn fresh() -> Model {
    let rows = (0..50).map(|n| (Bytes::from(format!("key-{n:03}")), Bytes::from(vec![n; 200])));
    Model::from([(DATA, rows.collect()), (DIRECTORY, store_machine::Rows::new())])
}

async fn lay_fresh(machine: &Machine) -> Result<u64, String> {
    lay_some(machine, &fresh(), usize::MAX).await
}

/// So many rows, and then there are no more to be had.
async fn lay_some(machine: &Machine, fresh: &Model, count: usize) -> Result<u64, String> {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    let config = DataDirConfig::default();
    let opened = DataDir::open(&machine.world, disk.clone(), config).map_err(|e| e.to_string())?;
    let rows = fresh.iter().flat_map(|(partition, rows)| {
        let row =
            |(key, value): (&Bytes, &Bytes)| Ok::<_, StoreError>((*partition, key.clone(), value.clone()));
        rows.iter().map(row)
    });
    let none_more = std::iter::once_with(|| Err(StoreError::Full("no more".into())));
    let mut rows = rows.take(count).chain(none_more.filter(|_| count < usize::MAX));
    let under = OldLog {
        batches: &opened.batches,
        next: opened.dir.journal().next(),
    };
    assert!(!opened.batches.is_empty(), "the journal has some of the old one");
    lay(&disk, opened.dir.disk_id(), under, &mut rows).map_err(|e| e.to_string())
}

#[test]
fn a_cut_while_an_index_is_laid_leaves_the_old_one_or_the_new_one() {
    let (mut cuts, mut old, mut new) = (0, 0, 0);
    loop {
        let (machine, before) = killed();
        machine.disk.plan(Fault::new(FaultKind::PowerOff, cuts));
        let laid = life(lay_fresh(&machine));
        let met = machine.disk.planned() == 0;
        machine.disk.clear_plan();
        machine.disk.crash();
        life(async {
            let running = machine.open().unwrap_or_else(|e| panic!("cut {cuts}: {e}"));
            let found = every_row(&running.engine).await;
            let found = found.unwrap_or_else(|e| panic!("cut {cuts}: {e}"));
            if found == before {
                old += 1;
                assert!(laid.is_err(), "cut {cuts}: it was said to be laid");
            } else {
                new += 1;
                assert!(
                    found == fresh(),
                    "cut {cuts}: {}",
                    store_machine::difference(&found, &fresh())
                );
            }
            // It takes more, whichever it is.
            for partition in [DIRECTORY, DATA] {
                running.engine.take(partition).await.unwrap();
            }
            running.stop().await.unwrap();
        });
        life(async {
            let running = machine
                .open()
                .unwrap_or_else(|e| panic!("cut {cuts}, again: {e}"));
            let found = every_row(&running.engine).await.unwrap();
            assert!(found == before || found == fresh(), "cut {cuts}, again");
            let left = machine.disk.list("index").unwrap();
            assert!(left.iter().all(|name| !name.ends_with(".laid")), "{left:?}");
            running.stop().await.unwrap();
        });
        if !met {
            break;
        }
        cuts += 1;
    }
    assert!(
        cuts > 30 && old > 10 && new > 5,
        "{cuts} cuts: {old} old, {new} new"
    );
}

/// A machine whose power was cut at this operation of a laying, if there are so many.
fn cut_off(cut: u64, laid: &Model) -> Option<(u64, Machine)> {
    let (machine, _) = killed();
    machine.disk.plan(Fault::new(FaultKind::PowerOff, cut));
    let _cut_off = life(lay_some(&machine, laid, usize::MAX));
    let is_over = machine.disk.planned() != 0;
    machine.disk.clear_plan();
    machine.disk.crash();
    (!is_over).then_some((cut, machine))
}

/// Machines whose power was cut at each operation of a laying, those on which it counts already.
fn cut_off_laid(laid: &Model) -> impl Iterator<Item = (u64, Machine)> {
    let is_laid = |(_, machine): &(u64, Machine)| machine.disk.exists("index-laid").unwrap();
    (0..).map_while(|cut| cut_off(cut, laid)).filter(is_laid)
}

/// Neither copy of what says which index counts can be read.
fn spoil_word(machine: &Machine) {
    let file = machine.disk.open("index-laid").unwrap();
    file.write_all_at(&vec![7; file.len().unwrap() as usize], 0)
        .unwrap();
    file.sync_data().unwrap();
}

/// What those have who go past damage.
async fn past_damage(machine: &Machine) -> Model {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    let opened = machine.directory().unwrap();
    let owner = opened.dir.disk_id();
    let index = Prepared::past_damage(&disk, owner, opened.batches, &opened.report.lost).unwrap();
    let scan = Scan {
        start: Bytes::from_static(b"a"),
        end: Bytes::from_static(b"z"),
        max: SCAN_ROWS_MAX,
    };
    let mut model = Model::new();
    for partition in [DIRECTORY, DATA] {
        let rows = index.snapshot(partition).unwrap().scan(&scan).await.unwrap();
        model.insert(partition, rows.into_iter().collect());
    }
    model
}

/// The power is cut while another index is laid over one of which nobody can say whether it counts: who goes past damage has one of the three, whole, and
/// never what half of a laying made; and an index that could not be laid to its end takes no room. // I10
#[test]
fn half_of_a_laying_is_taken_for_no_index() {
    let (_, before) = killed();
    let [laid, other] = [1_u8, 2].map(|n| {
        let rows = move |key| (Bytes::from(format!("key-{key:03}")), Bytes::from(vec![n; 5]));
        Model::from([DIRECTORY, DATA].map(|partition| (partition, (0..20).map(rows).collect())))
    });
    let (cut, _) = cut_off_laid(&laid).next().unwrap();
    let mut met = [0; 3];
    for operation in 0.. {
        let (_, machine) = cut_off(cut, &laid).unwrap();
        spoil_word(&machine);
        machine.disk.plan(Fault::new(FaultKind::PowerOff, operation));
        let _laid = life(lay_some(&machine, &other, usize::MAX));
        let is_over = machine.disk.planned() != 0;
        machine.disk.clear_plan();
        machine.disk.crash();
        // What says that the others are set aside may not be given either.
        if operation % 2 == 1 && machine.disk.exists("index-laid").unwrap() {
            spoil_word(&machine);
        }
        let found = life(past_damage(&machine));
        let which = [&before, &laid, &other].into_iter().position(|one| *one == found);
        let which = which.unwrap_or_else(|| {
            let [old, new] = [&before, &laid].map(|one| store_machine::difference(&found, one));
            panic!("operation {operation}: not as before: {old}; nor as laid: {new}")
        });
        met[which] += 1;
        if is_over {
            break;
        }
    }
    assert!(met.iter().all(|met| *met > 2), "{met:?}");
    let (_, machine) = cut_off(cut, &laid).unwrap();
    spoil_word(&machine);
    assert!(life(lay_some(&machine, &other, 30)).is_err());
    let left = machine.disk.list("index").unwrap();
    assert!(left.iter().all(|name| !name.ends_with(".laid")), "{left:?}");
}

/// Nobody can say whether the index that was being laid counts: the store is refused, never served as of before, and another can be laid over both.
#[test]
fn where_what_was_laid_is_not_known_to_count_another_is_laid() {
    let mut met = 0;
    for (cut, machine) in cut_off_laid(&fresh()) {
        spoil_word(&machine);
        let refused = life(async { machine.open().err().map(|e| e.to_string()) });
        assert!(refused.is_some_and(|e| e.contains("index-laid")), "cut {cut}");
        // A crash in the middle leaves it refused.
        for again in [Some(12), None] {
            if let Some(operations) = again {
                machine.disk.plan(Fault::new(FaultKind::PowerOff, operations));
            }
            let laid = life(lay_fresh(&machine));
            machine.disk.clear_plan();
            if again.is_none() {
                assert_eq!(laid.map(|rows| rows > 0), Ok(true), "cut {cut}");
                continue;
            }
            machine.disk.crash();
            let refused = life(async { machine.open().is_err() });
            assert!(refused, "cut {cut}: what was there before is served");
        }
        life(async {
            let running = machine.open().unwrap();
            assert!(every_row(&running.engine).await.unwrap() == fresh(), "cut {cut}");
            running.stop().await.unwrap();
        });
        met += 1;
    }
    assert!(met > 3, "{met}");
}

/// The word of what was laid comes back after that was set aside, as of a device that did not give it and gives it again: it counts no more, or the files of
/// before would be served for those that it spoke of. // I10
#[test]
fn a_word_that_comes_back_does_not_make_the_old_index_count() {
    let (mut met, mut refused) = (0, 0);
    for (cut, machine) in cut_off_laid(&fresh()) {
        let file = machine.disk.open("index-laid").unwrap();
        let mut word = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut word, 0).unwrap();
        file.write_all_at(&vec![7; word.len()], 0).unwrap();
        let laid = life(lay_some(&machine, &fresh(), cut as usize % 2 * 3));
        assert!(laid.as_ref().is_err_and(|e| e.contains("no more")), "{laid:?}");
        file.write_all_at(&word, 0).unwrap();
        file.sync_data().unwrap();
        life(async {
            let Ok(running) = machine.open() else {
                refused += 1;
                return;
            };
            match every_row(&running.engine).await {
                Ok(found) => assert!(found == fresh(), "cut {cut}: what was there before is served"),
                Err(_) => refused += 1,
            }
            running.stop().await.unwrap();
        });
        met += 1;
    }
    assert!(met > 3 && refused > 0, "{met}, {refused} refused");
}
