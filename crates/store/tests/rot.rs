//! Index files of which several pages rotted: every row of every other page is found, and every bad page is told. // I5

#[allow(dead_code, reason = "another test needs what this one does not")]
mod journal;

use bytes::Bytes;
use journal::TestJournal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::embedded::Embedded;
use store::{Batch, Places, Prepared, Scan, Snapshot, Store, StoreError, next_rows, readable_rows, suite};
use types::limits::{ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};
use types::{DiskId, PartitionId};
use world::real::RealDisk;
use world::{Disk, Exec, Overlay, World};

const ID: PartitionId = PartitionId::FIRST_DATA;
const PATH: &str = "index/0000000000000010.redb";
const PAGE: usize = 4096;
const ROWS: u64 = 700;

type Rows = BTreeMap<Bytes, Bytes>;

fn world() -> World {
    World {
        exec: Exec::Inline,
        ..World::real()
    }
}

fn empty_disk() -> (Arc<dyn Disk>, tempfile::TempDir) {
    let below = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(Overlay::new(Arc::new(RealDisk::open(below.path()).unwrap())));
    (disk, below)
}

/// Some keys are short, some long and alike for long.
fn key(n: u64) -> Bytes {
    match n % 3 {
        0 => format!("obj-{n:06}").into(),
        1 => format!("photos/{}{n:06}", "holidays/".repeat(12)).into(),
        _ => Bytes::copy_from_slice(
            &[&b"n"[..], &n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()].concat(),
        ),
    }
}

/// The bytes of an index file, and its rows.
async fn written() -> (Vec<u8>, Rows) {
    let (disk, _below) = empty_disk();
    let journal = TestJournal::new(DiskId(7), &world());
    let engine = Embedded::open_on(&world(), disk.clone(), journal.log(), Vec::new(), &[]).unwrap();
    let mut fence = engine.take(ID).await.unwrap();
    let all: Rows = (0..ROWS).map(|n| (key(n), vec![n as u8; 100].into())).collect();
    for some in all.iter().collect::<Vec<_>>().chunks(100) {
        let rows = some
            .iter()
            .map(|(k, v)| ((*k).clone(), Some((*v).clone())))
            .collect();
        let behind = Vec::new();
        suite::commit(&engine, &mut fence, Batch { rows, behind }).await;
    }
    engine.shutdown().await.unwrap();
    let file = disk.open(PATH).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    (bytes, all)
}

/// An engine over the file with a bit of each of `pages` flipped.
struct Rotten {
    engine: Embedded,
    _below: tempfile::TempDir,
}

fn rotten(file: &[u8], pages: &[usize]) -> Rotten {
    let mut bytes = file.to_vec();
    for page in pages {
        bytes[page * PAGE + 50] ^= 3;
    }
    let (disk, below) = empty_disk();
    disk.create_dir("index").unwrap();
    disk.create(PATH).unwrap().write_all_at(&bytes, 0).unwrap();
    let journal = TestJournal::new(DiskId(7), &world());
    let engine = Embedded::open_on(&world(), disk, journal.log(), Vec::new(), &[]).unwrap();
    Rotten {
        engine,
        _below: below,
    }
}

/// Which rows each page has, of those that have some and not all: the leaves, ascending by their rows.
async fn leaves(file: &[u8], rows: &Rows) -> Vec<(usize, BTreeSet<Bytes>)> {
    let mut leaves = Vec::new();
    for page in 6..file.len() / PAGE {
        let rotten = rotten(file, &[page]);
        let Ok(snapshot) = rotten.engine.snapshot(ID).await else {
            continue;
        };
        let mut bad = BTreeSet::new();
        for key in rows.keys() {
            match snapshot.get(std::slice::from_ref(key)).await {
                Ok(_) => {}
                Err(StoreError::Corrupt(_)) => drop(bad.insert(key.clone())),
                Err(e) => panic!("{e}"),
            }
        }
        if !bad.is_empty() && bad.len() < rows.len() / 3 {
            leaves.push((page, bad));
        }
    }
    leaves.sort_by(|a, b| a.1.first().cmp(&b.1.first()));
    leaves
}

/// All rows that are read past damage, a page of `max` at a time, those over it too (`over`), and what was told.
async fn read_past(snapshot: &dyn Snapshot, max: usize, over: bool) -> (Rows, BTreeSet<String>) {
    let (mut rows, mut lost) = (Rows::new(), BTreeSet::new());
    let mut places = Places::default();
    let end = Bytes::from_static(&[0xFF]);
    let mut start = Bytes::from_static(&[0]);
    while start < end {
        let scan = Scan {
            start,
            end: end.clone(),
            max,
        };
        let (found, told, next) = if over {
            let page = readable_rows(snapshot, scan, ROW_KEY_BYTES_MAX, &mut places)
                .await
                .unwrap();
            (page.rows, page.lost, page.next)
        } else {
            let page = next_rows(snapshot, scan, ROW_KEY_BYTES_MAX).await.unwrap();
            (page.rows, page.lost.into_iter().collect(), page.next)
        };
        rows.extend(found);
        lost.extend(told.iter().map(ToString::to_string));
        start = next;
    }
    (rows, lost)
}

#[tokio::test]
async fn the_rows_of_all_good_pages_are_found_past_several_bad_ones() {
    let (file, rows) = written().await;
    let leaves = leaves(&file, &rows).await;
    let count = leaves.len();
    assert!(count > 15, "{count} leaves");
    let pairs = (0..count).flat_map(|a| [1, 2, 3, 9].map(|b| vec![a, a + b]));
    let near = [[1, 2], [1, 3], [2, 3], [2, 4], [3, 6]];
    let triples = (0..count).flat_map(|a| near.map(|[b, c]| vec![a, a + b, a + c]));
    let all = (0..count).collect();
    for bad in pairs
        .chain(triples)
        .chain([all])
        .filter(|bad| bad.iter().all(|n| *n < count))
    {
        let pages: Vec<usize> = bad.iter().map(|n| leaves[*n].0).collect();
        let lost: BTreeSet<&Bytes> = bad.iter().flat_map(|n| &leaves[*n].1).collect();
        let mut want = rows.clone();
        want.retain(|key, _| !lost.contains(key));
        let rotten = rotten(&file, &pages);
        let (found, told) =
            read_past(&*rotten.engine.snapshot(ID).await.unwrap(), SCAN_ROWS_MAX, false).await;
        let missing = want.keys().filter(|key| !found.contains_key(*key)).count();
        assert!(found == want, "leaves {bad:?}: {missing} good rows are left out");
        assert_eq!(told.len(), pages.len(), "leaves {bad:?}: {told:?}");
        for page in pages {
            let place = format!("byte {} ", page * PAGE);
            assert!(told.iter().any(|told| told.contains(&place)), "{place}: {told:?}");
        }
    }
}

/// What was written since lies over the page, in memory or in newer files: it is read by its key, so it is among what can be read.
#[tokio::test]
async fn rows_over_a_bad_page_are_found() {
    let (file, rows) = written().await;
    let leaves = leaves(&file, &rows).await;
    for (n, (page, bad)) in leaves.iter().enumerate().step_by(4) {
        for (files, max) in [(0, 2), (1, 2), (2, 3), (2, SCAN_ROWS_MAX)] {
            let rotten = rotten(&file, &[*page]);
            let mut want = rows.clone();
            want.retain(|key, _| !bad.contains(key));
            let mut fence = rotten.engine.take(ID).await.unwrap();
            for step in 0..=files {
                let mut newer = Vec::new();
                for key in bad.iter().skip(step).step_by(3) {
                    newer.push((key.clone(), Some(vec![step as u8; 9].into())));
                    newer.push((
                        [key, &b" new"[..]].concat().into(),
                        Some(Bytes::from_static(b"n")),
                    ));
                }
                newer.extend(bad.iter().nth(step + 3).map(|key| (key.clone(), None)));
                let newer: BTreeMap<Bytes, Option<Bytes>> = newer.into_iter().collect();
                for (key, value) in &newer {
                    match value {
                        Some(value) => drop(want.insert(key.clone(), value.clone())),
                        None => drop(want.remove(key)),
                    }
                }
                let rows = newer.into_iter().collect();
                let behind = Vec::new();
                suite::commit(&rotten.engine, &mut fence, Batch { rows, behind }).await;
                if step < files {
                    rotten.engine.begin_over();
                    rotten.engine.checkpoint().await.unwrap();
                }
            }
            let (found, told) = read_past(&*rotten.engine.snapshot(ID).await.unwrap(), max, true).await;
            let missing = want.keys().filter(|key| !found.contains_key(*key)).count();
            assert!(
                found == want,
                "leaf {n}, {files} files over it: {missing} rows are left out"
            );
            assert_eq!(told.len(), 1, "{told:?}");
        }
    }
}

/// Two files, each with a bad page, and rows in memory: what is found is what is read by its key, no more and no less.
#[tokio::test]
async fn what_is_read_by_its_key_is_found_past_bad_pages_of_two_files() {
    const OVER: &str = "index/0000000000000010-1.redb";
    let (disk, _below) = empty_disk();
    let open = || {
        let journal = TestJournal::new(DiskId(7), &world());
        Embedded::open_on(&world(), disk.clone(), journal.log(), Vec::new(), &[]).unwrap()
    };
    let put = |numbers: std::ops::Range<u64>, step, value: u8| Batch {
        rows: (numbers.step_by(step))
            .map(|n| (key(n), Some(vec![value; 100].into())))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect(),
        behind: Vec::new(),
    };
    for (value, step) in [(1, 1), (2, 3)] {
        let engine = open();
        let mut fence = engine.take(ID).await.unwrap();
        suite::commit(&engine, &mut fence, put(0..ROWS, step, value)).await;
        if value > 1 {
            engine.begin_over();
        }
        engine.shutdown().await.unwrap();
    }
    let flip = |(path, page): (&str, u64)| {
        let file = disk.open(path).unwrap();
        let (mut byte, at) = ([0], page * PAGE as u64 + 50);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 3], at).unwrap();
    };
    let pages = |path: &str| 6..disk.open(path).unwrap().len().unwrap() / PAGE as u64;
    let (mut told_of, mut of_two) = (0, 0);
    for (n, upper) in pages(OVER).enumerate() {
        for lower in pages(PATH).skip(n % 17).step_by(17) {
            [(OVER, upper), (PATH, lower)].into_iter().for_each(flip);
            let engine = open();
            if let Ok(mut fence) = engine.take(ID).await {
                suite::commit(&engine, &mut fence, put(5..ROWS, 7, 3)).await;
                let snapshot = engine.snapshot(ID).await.unwrap();
                let mut want = Rows::new();
                for key in (0..ROWS).map(key) {
                    let value = snapshot.get(std::slice::from_ref(&key)).await;
                    want.extend(value.ok().and_then(|mut v| v.remove(0)).map(|value| (key, value)));
                }
                let (found, told) = read_past(&*snapshot, 50, true).await;
                let missing = want.keys().filter(|key| !found.contains_key(*key)).count();
                assert!(
                    found == want,
                    "pages {upper} and {lower}: {missing} rows are left out"
                );
                told_of += usize::from(!told.is_empty());
                of_two += usize::from(told.len() > 1);
            }
            engine.abandon().await;
            [(OVER, upper), (PATH, lower)].into_iter().for_each(flip);
        }
    }
    assert!(told_of > 10 && of_two > 3, "{told_of} told, {of_two} of both");
}

/// A start writes a catalogue anew of which one copy rotted.
#[tokio::test]
async fn a_start_mends_the_catalogue() {
    let (disk, _below) = empty_disk();
    let open = || {
        let journal = TestJournal::new(DiskId(7), &world());
        Embedded::open_on(&world(), disk.clone(), journal.log(), Vec::new(), &[]).unwrap()
    };
    let catalogue = || {
        let file = disk.open("index-catalogue").unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    open().shutdown().await.unwrap();
    let whole = catalogue();
    for at in [12, PAGE + 12] {
        let file = disk.open("index-catalogue").unwrap();
        file.write_all_at(&[whole[at] ^ 4], at as u64).unwrap();
        open().shutdown().await.unwrap();
        assert!(catalogue() == whole, "flipped at {at}");
    }
}

/// A leap does not need the pages that it leaps over, nor, where it is the last row that was asked for, those behind.
#[tokio::test]
async fn a_leap_goes_over_bad_pages() {
    let (file, rows) = written().await;
    let leaves = leaves(&file, &rows).await;
    let firsts: Vec<Bytes> = leaves
        .iter()
        .filter_map(|(_, rows)| rows.first().cloned())
        .collect();
    for n in (1..leaves.len() - 1).step_by(3) {
        let [before, bad, behind] = [n - 1, n, n + 1].map(|n| firsts[n].clone());
        let past = |row: &[u8]| (row < &behind[..]).then(|| behind.clone());
        let scan = |max| Scan {
            start: before.clone(),
            end: Bytes::from_static(&[0xFF]),
            max,
        };
        let keys = |rows: store::Rows| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let over = rotten(&file, &[leaves[n].0]);
        let leapt = over
            .engine
            .snapshot(ID)
            .await
            .unwrap()
            .leap(&scan(2), &past)
            .await;
        assert_eq!(
            leapt.map(keys),
            Ok(vec![before.clone(), behind.clone()]),
            "over leaf {n}, {bad:?}"
        );
        let to = rotten(&file, &[leaves[n + 1].0]);
        let leapt = to.engine.snapshot(ID).await.unwrap().leap(&scan(1), &past).await;
        assert_eq!(
            leapt.map(keys),
            Ok(vec![before.clone()]),
            "no row was asked for behind leaf {n}"
        );
    }
}

/// A file that lay over others is gone: a start refuses the partition, and who goes past damage has it as it was below that file, and hears so. // I5
#[tokio::test]
async fn a_file_that_lay_over_others_is_gone_past() {
    const OVER: &str = "index/0000000000000010-1.redb";
    let (disk, _below) = empty_disk();
    for value in [1, 2] {
        let journal = TestJournal::new(DiskId(7), &world());
        let engine = Embedded::open_on(&world(), disk.clone(), journal.log(), Vec::new(), &[]).unwrap();
        let mut fence = engine.take(ID).await.unwrap();
        let rows = vec![(key(value), Some(vec![value as u8].into()))];
        let behind = Vec::new();
        suite::commit(&engine, &mut fence, Batch { rows, behind }).await;
        if value > 1 {
            engine.begin_over();
        }
        engine.shutdown().await.unwrap();
    }
    let past = || Prepared::past_damage(&disk, DiskId(7), Vec::new(), &[]).unwrap();
    assert!(past().lost().is_empty());
    for harm in ["gone", "bad"] {
        match harm {
            "gone" => disk.remove(OVER).unwrap(),
            _ => drop(disk.create(OVER).unwrap().write_all_at(&[7; 8 * PAGE], 0)),
        }
        let strict = Prepared::new(disk.clone(), DiskId(7), Vec::new(), &[]).unwrap();
        assert_eq!(strict.broken().len(), 1, "{harm}");
        let past = past();
        let [(Some(ID), StoreError::Corrupt(why))] = past.lost() else {
            panic!("{harm}: {:?}", past.lost());
        };
        assert!(why.contains(OVER) && why.contains("as of batch"), "{why}");
        let rows = past.snapshot(ID).unwrap().get(&[key(1), key(2)]).await.unwrap();
        assert_eq!(rows, [Some(vec![1].into()), None], "{harm}");
    }
}
