//! A page of the index that rotted: what needs it is told so, for ever; everything else goes on. // I5

mod store_machine;

use bytes::Bytes;
use sim::disk::{Fault, FaultKind};
use std::collections::BTreeSet;
use store::{Batch, Committed, Fence, Store, StoreError};
use store_machine::{DATA, Machine, Progress, Rows, Running, life};
use world::Disk;

const PATH: &str = "index/0000000000000010.redb";
const OVER: &str = "index/0000000000000010-1.redb";
const COMMITS: u64 = 60;
const PAGE: u64 = 4096;

/// A machine that was stopped in order, with enough rows for several pages.
fn stopped(seed: u64) -> (Machine, Rows) {
    stopped_on(Machine::new(seed))
}

fn stopped_on(machine: Machine) -> (Machine, Rows) {
    let mut progress = Progress::default();
    life(async {
        let running = machine.open().unwrap();
        progress.run(&running.engine, COMMITS, 7).await;
        assert_eq!(progress.ended, None);
        running.stop().await.unwrap();
    });
    machine.disk.kill();
    (machine, progress.done.remove(&DATA).unwrap())
}

fn flip(machine: &Machine, at: u64) {
    let file = machine.disk.open(PATH).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 4;
    file.write_all_at(&byte, at).unwrap();
    file.sync_data().unwrap();
}

fn pages(machine: &Machine) -> u64 {
    machine.disk.open(PATH).unwrap().len().unwrap() / PAGE
}

async fn read(running: &Running, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
    let snapshot = running.engine.snapshot(DATA).await?;
    Ok(snapshot.get(std::slice::from_ref(key)).await?.remove(0))
}

/// Which keys cannot be read. The others are right, also while others are not.
async fn bad_keys(running: &Running, want: &Rows) -> BTreeSet<Bytes> {
    let mut bad = BTreeSet::new();
    for (key, value) in want {
        match read(running, key).await {
            Ok(found) => assert_eq!(found.as_ref(), Some(value), "{key:?}"),
            Err(StoreError::Corrupt(what)) => {
                assert!(what.contains(PATH) && what.contains("byte"), "{what}");
                bad.insert(key.clone());
            }
            Err(e) => panic!("{key:?}: {e}"),
        }
    }
    bad
}

async fn commit(running: &Running, fence: &mut Fence, rows: Vec<(Bytes, Option<Bytes>)>) {
    let behind = Vec::new();
    match running.engine.commit(*fence, Batch { rows, behind }).await {
        Committed::Done(next) => *fence = next,
        other => panic!("refused: {other:?}"),
    }
}

fn used(machine: &Machine) -> u64 {
    let space = machine.disk.space().unwrap();
    space.total - space.free
}

/// One page at a time is flipped, polled, written around and over; nothing is refused, and nothing grows.
#[test]
fn a_polled_bad_page_refuses_nothing_else() {
    let (mut polled, mut continued) = (0, 0);
    for page in 6..pages(&stopped(3).0) {
        let (machine, mut rows) = stopped(3);
        flip(&machine, page * PAGE + 77);
        let bad = life(async {
            let running = machine.open().unwrap();
            match running.engine.take(DATA).await {
                Ok(_) => bad_keys(&running, &rows).await,
                // redb needs the page to open the file at all.
                Err(e) => {
                    assert!(e.to_string().contains(PATH), "{e}");
                    BTreeSet::new()
                }
            }
        });
        machine.disk.kill();
        if bad.is_empty() || bad.len() == rows.len() {
            continue;
        }
        polled += 1;
        let polls = if polled == 1 { 10_000 } else { 500 };
        life(poll(&machine, &mut rows, &bad, polls));
        continued += u64::from(machine.disk.exists(OVER).unwrap());
        // What was written is there for the next process, too, and what was bad is bad.
        machine.disk.crash();
        life(async {
            let running = machine.open().unwrap();
            running.engine.take(DATA).await.unwrap();
            let still = bad_keys(&running, &rows).await;
            assert!(still.is_subset(&bad), "{still:?}");
            running.stop().await.unwrap();
        });
    }
    assert!(polled > 2, "{polled} pages had some of the rows");
    assert!(continued > 2, "{continued} files were continued in another");
}

async fn poll(machine: &Machine, rows: &mut Rows, bad: &BTreeSet<Bytes>, polls: u64) {
    let running = machine.open().unwrap();
    let mut fence = running.engine.take(DATA).await.unwrap();
    let healthy: Vec<Bytes> = rows.keys().filter(|k| !bad.contains(*k)).cloned().collect();
    let lost = bad.first().unwrap();
    let mut warm = 0;
    for n in 0..polls {
        let told = read(&running, lost).await;
        assert!(
            matches!(&told, Err(StoreError::Corrupt(what)) if what.contains(PATH)),
            "{told:?}"
        );
        let key = &healthy[n as usize % healthy.len()];
        assert_eq!(read(&running, key).await.as_ref(), Ok(&rows.get(key).cloned()));
        let value = Bytes::from(vec![n as u8; (n % 300) as usize]);
        // Around the bad page, and between its keys.
        let between = Bytes::from([lost, &b"-between"[..]].concat());
        let batch = vec![
            (key.clone(), Some(value.clone())),
            (between.clone(), Some(value.clone())),
        ];
        commit(&running, &mut fence, batch).await;
        rows.insert(key.clone(), value.clone());
        rows.insert(between, value);
        if n % 50 == 49 {
            running.engine.checkpoint().await.unwrap();
        }
        if n == polls / 2 {
            warm = used(machine);
        }
    }
    assert!(
        used(machine) <= warm + (64 << 10),
        "{} bytes, and {warm} half way",
        used(machine)
    );
    // A row that is written anew, or removed, is no longer lost.
    let removed = bad.last().unwrap();
    commit(&running, &mut fence, vec![(lost.clone(), Some("new".into()))]).await;
    rows.insert(lost.clone(), "new".into());
    if removed != lost {
        commit(&running, &mut fence, vec![(removed.clone(), None)]).await;
        rows.remove(removed);
    }
    running.engine.checkpoint().await.unwrap();
    assert_eq!(read(&running, lost).await, Ok(Some("new".into())));
    if removed != lost {
        assert_eq!(read(&running, removed).await, Ok(None));
    }
}

/// A machine whose index goes on in a second file.
fn continued() -> (Machine, Rows, BTreeSet<Bytes>) {
    for page in 6..pages(&stopped(3).0) {
        let (machine, mut rows) = stopped(3);
        flip(&machine, page * PAGE + 77);
        let bad = life(async {
            let running = machine.open().unwrap();
            let Ok(mut fence) = running.engine.take(DATA).await else {
                return BTreeSet::new();
            };
            let bad = bad_keys(&running, &rows).await;
            for key in bad.iter().take(1) {
                commit(&running, &mut fence, vec![(key.clone(), Some("new".into()))]).await;
                rows.insert(key.clone(), "new".into());
            }
            running.stop().await.unwrap();
            bad
        });
        machine.disk.kill();
        if machine.disk.exists(OVER).unwrap() && !bad.is_empty() {
            return (machine, rows, bad);
        }
    }
    panic!("no page was needed")
}

/// The second file is missed as the first one is; what it held is not taken from the first.
#[test]
fn a_lost_file_over_another_is_missed() {
    for file in [OVER, PATH] {
        let (machine, rows, bad) = continued();
        life(async {
            let running = machine.open().unwrap();
            running.engine.take(DATA).await.unwrap();
            let still = bad_keys(&running, &rows).await;
            assert!(still.len() < bad.len(), "{still:?} of {bad:?}");
        });
        machine.disk.kill();
        machine.disk.remove(file).unwrap();
        for _ in 0..2 {
            life(async {
                let running = machine.open().unwrap();
                let told = running.engine.take(DATA).await.unwrap_err().to_string();
                assert!(told.contains(file) && told.contains("missing"), "{told}");
            });
            machine.disk.kill();
        }
    }
}

/// Scans and gets agree where one file lies over another, with rows that are removed, written anew, and new. // I2
#[test]
fn files_over_one_another_are_scanned_as_one() {
    let machine = Machine {
        journal_bytes: 1 << 20,
        ..Machine::new(3)
    };
    let mut progress = Progress::default();
    for round in 1..=6 {
        life(async {
            let running = machine.open().unwrap();
            progress.run(&running.engine, 40 * round, 1000).await;
            assert_eq!(progress.ended, None);
            progress.agree(&running.engine).await.unwrap();
            running.engine.begin_over();
            running.engine.checkpoint().await.unwrap();
            progress.agree(&running.engine).await.unwrap();
            running.stop().await.unwrap();
        });
        machine.disk.kill();
    }
    let files = machine.disk.list("index").unwrap();
    assert!(files.len() > 5, "{files:?}");
}

/// A snapshot taken before a writing failed is asked beside it: it is right, or it is to be taken anew. It is not told of the writer's page.
#[test]
fn a_reader_is_not_told_of_the_writers_trouble() {
    let mut asked = 0;
    for page in 6..pages(&roomy().0) {
        let (machine, rows) = roomy();
        flip(&machine, page * PAGE + 77);
        // In a life of its own: what was read once is in memory.
        let bad = life(async {
            let running = machine.open().unwrap();
            match running.engine.take(DATA).await {
                Ok(_) => bad_keys(&running, &rows).await,
                Err(_) => BTreeSet::new(),
            }
        });
        machine.disk.kill();
        life(async {
            let running = machine.open().unwrap();
            let Ok(mut fence) = running.engine.take(DATA).await else {
                return;
            };
            let cold = running.engine.snapshot(DATA).await.unwrap();
            if bad.is_empty() || bad.len() == rows.len() {
                return;
            }
            let lost = bad.first().unwrap();
            commit(&running, &mut fence, vec![(lost.clone(), Some("new".into()))]).await;
            running.engine.checkpoint().await.unwrap();
            for (key, value) in rows.iter().filter(|(k, _)| !bad.contains(*k)) {
                match cold.get(std::slice::from_ref(key)).await {
                    Ok(found) => assert_eq!(found, [Some(value.clone())]),
                    Err(e) => assert!(matches!(e, StoreError::Busy(_)), "{e}"),
                }
                asked += 1;
            }
        });
    }
    assert!(asked > 50, "{asked} rows were asked for");
}

/// A page that only a writer needs is bad: everything is read, and what is written goes into another file.
#[test]
fn a_file_that_cannot_be_written_is_read() {
    let (mut read_whole, mut refused) = (0, 0);
    for page in 6..pages(&stopped(3).0) {
        let (machine, mut rows) = stopped(3);
        flip(&machine, page * PAGE + 77);
        life(async {
            let running = machine.open().unwrap();
            let Ok(mut fence) = running.engine.take(DATA).await else {
                refused += 1;
                return;
            };
            if !bad_keys(&running, &rows).await.is_empty() {
                return;
            }
            let key = rows.keys().next().unwrap().clone();
            commit(&running, &mut fence, vec![(key.clone(), Some("new".into()))]).await;
            rows.insert(key, "new".into());
            running.engine.checkpoint().await.unwrap();
            read_whole += u64::from(machine.disk.exists(OVER).unwrap());
            running.stop().await.unwrap();
        });
        machine.disk.crash();
        life(async {
            let running = machine.open().unwrap();
            if running.engine.take(DATA).await.is_ok() && machine.disk.exists(OVER).unwrap() {
                let bad = bad_keys(&running, &rows).await;
                assert!(bad.len() < rows.len(), "{bad:?}");
            }
        });
    }
    assert!(
        read_whole > 1,
        "{read_whole} files were read that could not be written"
    );
    // The roots: of the tables, of the rows, of the mark.
    assert!(refused <= 3, "{refused} pages refused the partition");
}

/// A machine whose journal does not ask for room, so that only a checkpoint writes behind.
fn roomy() -> (Machine, Rows) {
    stopped_on(Machine {
        journal_bytes: 1 << 20,
        ..Machine::new(3)
    })
}

/// The power goes at each step of beginning a second file.
#[test]
fn a_cut_while_a_file_is_laid_over_another_loses_nothing() {
    let page = (6..pages(&roomy().0)).find(|page| {
        let (machine, rows) = roomy();
        flip(&machine, page * PAGE + 77);
        life(async {
            let running = machine.open().unwrap();
            running.engine.take(DATA).await.is_ok() && !bad_keys(&running, &rows).await.is_empty()
        })
    });
    let page = page.expect("some page has rows");
    let (mut cuts, mut begun) = (0, 0);
    loop {
        let (machine, mut rows) = roomy();
        flip(&machine, page * PAGE + 77);
        let (bad, met) = life(async {
            let running = machine.open().unwrap();
            let mut fence = running.engine.take(DATA).await.unwrap();
            let bad = bad_keys(&running, &rows).await;
            for key in &bad {
                commit(&running, &mut fence, vec![(key.clone(), Some("new".into()))]).await;
                rows.insert(key.clone(), "new".into());
            }
            machine.disk.plan(Fault::new(FaultKind::PowerOff, cuts));
            running.engine.checkpoint().await.ok();
            (bad, machine.disk.planned() == 0)
        });
        machine.disk.clear_plan();
        machine.disk.crash();
        begun += u64::from(machine.disk.exists(OVER).unwrap());
        life(async {
            let running = machine.open().unwrap();
            running
                .engine
                .take(DATA)
                .await
                .unwrap_or_else(|e| panic!("cut {cuts}: {e}"));
            assert_eq!(
                bad_keys(&running, &rows).await,
                BTreeSet::new(),
                "cut {cuts} of {bad:?}"
            );
            running.stop().await.unwrap();
        });
        if !met {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20 && begun > 5, "{cuts} cuts, {begun} with a second file");
}
