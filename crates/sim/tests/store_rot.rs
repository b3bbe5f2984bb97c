//! A page of the index that rotted, or that the device does not give: what needs it is told so, for ever; everything else goes on. // I5

mod store_machine;

use bytes::Bytes;
use control::Given;
use restore::{Seen, given_before};
use sim::disk::{Fault, FaultKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Batch, Committed, Fence, Scan, Store, StoreError, next_rows};
use store_machine::{DATA, DIRECTORY, Machine, Progress, Rows, Running, life};
use types::limits::ROW_KEY_BYTES_MAX;
use types::{BucketId, DiskId, Epoch, ExtentId, Generation, Hlc, NodeId, PartitionId, SessionId};
use wire::node::ExtentStatus;
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

/// What becomes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Flipped,
    Unread,
}

const HARMS: [Harm; 2] = [Harm::Flipped, Harm::Unread];

impl Harm {
    fn to(self, machine: &Machine, page: u64) {
        let at = page * PAGE + 77;
        if self == Self::Unread {
            assert!(machine.disk.spoil_at(PATH, at), "page {page}");
            return;
        }
        let file = machine.disk.open(PATH).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 4;
        file.write_all_at(&byte, at).unwrap();
        file.sync_data().unwrap();
    }
}

/// Each page behind heads and crc pages, with each harm.
fn harms(machine: &Machine) -> impl Iterator<Item = (Harm, u64)> {
    let pages = pages(machine);
    HARMS
        .into_iter()
        .flat_map(move |harm| (6..pages).map(move |page| (harm, page)))
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
    for (harm, page) in harms(&stopped(3).0) {
        let (machine, mut rows) = stopped(3);
        harm.to(&machine, page);
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
    assert!(polled > 4, "{polled} pages had some of the rows");
    assert!(continued > 4, "{continued} files were continued in another");
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
    for (harm, page) in harms(&stopped(3).0) {
        let (machine, mut rows) = stopped(3);
        harm.to(&machine, page);
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

/// What a start tells of the files, and what it cannot serve.
fn judged(machine: &Machine) -> (Vec<String>, Vec<(PartitionId, StoreError)>) {
    let judged = life(async {
        let prepared = machine.prepare().unwrap();
        (prepared.damage(), prepared.broken())
    });
    machine.disk.kill();
    judged
}

/// A copy of a head or of a crc page that is not given leaves the other. It is told, once: it is written anew.
#[test]
fn a_copy_that_cannot_be_read_is_told_and_written_anew() {
    for page in 0..6 {
        let (machine, rows) = stopped(3);
        Harm::Unread.to(&machine, page);
        // A head is two pages.
        let at = if page < 4 { page / 2 * 2 } else { page } * PAGE;
        let (told, broken) = judged(&machine);
        assert!(
            told.len() == 1
                && told[0].contains(PATH)
                && told[0].contains(&format!("byte {at} cannot be read")),
            "{told:?}"
        );
        assert_eq!(broken, []);
        assert_eq!(judged(&machine), (vec![], vec![]), "page {page}");
        life(async {
            let running = machine.open_whole().unwrap();
            running.engine.take(DATA).await.unwrap();
            assert_eq!(bad_keys(&running, &rows).await, BTreeSet::new());
            running.stop().await.unwrap();
        });
    }
}

/// Where both are not given the partition is refused by name, and no other.
#[test]
fn two_copies_that_cannot_be_read_refuse_their_partition_alone() {
    for (pages, what) in [
        ([0, 3], "both heads are bad"),
        ([4, 5], "crc pages at byte 16384 are bad"),
    ] {
        let (machine, rows) = stopped(3);
        for page in pages {
            Harm::Unread.to(&machine, page);
        }
        for _ in 0..2 {
            let (_, broken) = judged(&machine);
            let [(DATA, StoreError::Corrupt(told))] = &broken[..] else {
                panic!("{broken:?}");
            };
            assert!(told.contains(PATH) && told.contains(what), "{told}");
        }
        life(async {
            let running = machine.open().unwrap();
            running.engine.take(DIRECTORY).await.unwrap();
            let told = read(&running, rows.keys().next().unwrap()).await;
            assert!(matches!(told, Err(StoreError::Corrupt(_))), "{told:?}");
        });
    }
}

/// All rows but those of the page are found behind it, and it is told.
#[test]
fn rows_are_found_past_a_page_that_cannot_be_read() {
    let mut passed = 0;
    for (harm, page) in harms(&stopped(3).0) {
        let (machine, rows) = stopped(3);
        harm.to(&machine, page);
        life(async {
            let running = machine.open().unwrap();
            if running.engine.take(DATA).await.is_err() {
                return;
            }
            let bad = bad_keys(&running, &rows).await;
            let snapshot = running.engine.snapshot(DATA).await.unwrap();
            let (mut found, mut told) = (Rows::new(), BTreeSet::new());
            let (mut start, end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0xFF]));
            while start < end {
                let (end, max) = (end.clone(), 100);
                let next = next_rows(&*snapshot, Scan { start, end, max }, ROW_KEY_BYTES_MAX).await;
                let next = next.unwrap();
                found.extend(next.rows);
                told.extend(next.lost.map(|lost| lost.to_string()));
                start = next.next;
            }
            let want: Rows = rows.into_iter().filter(|(key, _)| !bad.contains(key)).collect();
            assert!(found == want, "{harm:?} of page {page}");
            assert_eq!(told.len(), usize::from(!bad.is_empty()), "{told:?}");
            passed += told.len();
        });
    }
    assert!(passed > 4, "{passed} pages were gone past");
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
    for (harm, page) in harms(&roomy().0) {
        let (machine, rows) = roomy();
        harm.to(&machine, page);
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
    assert!(asked > 100, "{asked} rows were asked for");
}

/// A page that only a writer needs is bad: everything is read, and what is written goes into another file.
#[test]
fn a_file_that_cannot_be_written_is_read() {
    let (mut read_whole, mut refused) = (0, 0);
    for (harm, page) in harms(&stopped(3).0) {
        let (machine, mut rows) = stopped(3);
        harm.to(&machine, page);
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
        read_whole > 3,
        "{read_whole} files were read that could not be written"
    );
    // The roots: of the tables, of the rows, of the mark; twice.
    assert!(refused <= 6, "{refused} pages refused the partition");
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
    HARMS.into_iter().for_each(cut_while_laid_over);
}

fn cut_while_laid_over(harm: Harm) {
    let page = (6..pages(&roomy().0)).find(|page| {
        let (machine, rows) = roomy();
        harm.to(&machine, *page);
        life(async {
            let running = machine.open().unwrap();
            running.engine.take(DATA).await.is_ok() && !bad_keys(&running, &rows).await.is_empty()
        })
    });
    let page = page.expect("some page has rows");
    let (mut cuts, mut begun) = (0, 0);
    loop {
        let (machine, mut rows) = roomy();
        harm.to(&machine, page);
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
                "{harm:?}, cut {cuts} of {bad:?}"
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

/// A machine with the rows that say which numbers were given.
fn counted() -> Machine {
    let machine = Machine {
        journal_bytes: 1 << 20,
        ..Machine::new(3)
    };
    let extents: Vec<_> = (1..400).map(|n| (status(n), 5)).collect();
    let control = control::fresh_rows(&control::Ground {
        node: NodeId(1),
        disk: DiskId(7),
        extents: &extents,
        last_extent: ExtentId(70_000),
        last_session: SessionId(80),
        why: "a test",
        now_ms: 1,
    });
    let state = index::begun(&index::Floors {
        hlc: Hlc(900),
        first_session: SessionId(50),
        bucket: BucketId(3),
        serial: 77,
    });
    life(async {
        let running = machine.open().unwrap();
        let of = [
            (DIRECTORY, vec![state.clone()]),
            (PartitionId::CONTROL, control),
            (DATA, vec![state]),
        ];
        for (partition, rows) in of {
            let mut fence = running.engine.take(partition).await.unwrap();
            let rows = rows.into_iter().map(|(key, value)| (key, Some(value)));
            commit(&running, &mut fence, rows.collect()).await;
        }
        running.stop().await.unwrap();
    });
    machine.disk.kill();
    machine
}

fn status(n: u64) -> ExtentStatus {
    ExtentStatus {
        extent: ExtentId(n),
        epoch: Epoch(3),
        sealed: true,
        end: 77,
        needles: 1,
        generation: Generation(0),
        salt: 0,
    }
}

fn given(machine: &Machine) -> (Given, Seen) {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    life(async {
        let (opened, mut seen) = (machine.directory().unwrap(), Seen::default());
        let given = given_before(&disk, &opened, &mut seen).await.unwrap();
        (given, seen)
    })
}

/// Each page of an index in turn is not given, and another index takes its place: what the other partitions say is heard, and of this one what can
/// be read. // I11
#[test]
fn a_bad_page_hides_no_number_that_another_tells() {
    let (whole, all) = given(&counted());
    assert!(
        whole.session.0 > 80 && whole.extent.0 > 70_000 && all.serial > 77,
        "{whole:?} {all:?}"
    );
    let mut past = 0;
    for partition in [DIRECTORY, PartitionId::CONTROL, DATA] {
        let path = format!("index/{partition}.redb");
        for page in 6..counted().disk.open(&path).unwrap().len().unwrap() / PAGE {
            let machine = counted();
            assert!(machine.disk.spoil_at(&path, page * PAGE));
            let (given, seen) = given(&machine);
            if partition == PartitionId::CONTROL {
                assert_eq!(seen, all, "{path}: page {page}");
                past += u64::from(given == whole);
            } else {
                assert_eq!(given, whole, "{path}: page {page}");
                assert_eq!(seen, all, "the other has the same: {path}: page {page}");
            }
        }
    }
    assert!(past > 4, "{past} pages of the control partition were gone past");
}
