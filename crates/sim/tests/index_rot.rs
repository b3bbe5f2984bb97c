//! The index's owner over an engine of which a page rotted. // I5, I11

#[path = "../../index/tests/gateway/mod.rs"]
mod gateway;
mod store_machine;

use bytes::Bytes;
use gateway::{Gateway, key};
use index::IndexRole;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use store::{Scan, Snapshot, Store, StoreError};
use store_machine::{DATA, Machine, Running, life};
use types::{BucketId, ErrorKind, ObjectKey, SessionId, StampId};
use wire::index::{Call, Command, Index, ListQuery, Reason, Reclaim, StoredData, VersionRef};
use wire::records::answer::Kind;
use world::Disk;

const PATH: &str = "index/0000000000000010.redb";
const PAGE: u64 = 4096;
const OBJECTS: u64 = 300;
const BUCKET: &str = "bucket";

fn name(n: u64) -> String {
    format!("key-{n:04}")
}

async fn gateway_of(machine: &Machine, running: &Running, session: u64) -> Gateway {
    let engine: Arc<dyn Store> = running.engine.clone();
    let index = IndexRole::open(machine.world.clone(), engine, StampId::FIRST).await;
    Gateway::of(Arc::new(index.unwrap()), session)
}

/// What a life left: the machine, its bucket, and the command that put the first object.
struct Left {
    machine: Machine,
    bucket: BucketId,
    first: Call,
}

/// Every object was put by a command of its own, and half of them put again: answers, objects and bookings in many pages.
fn left() -> Left {
    let machine = Machine {
        journal_bytes: 1 << 20,
        ..Machine::new(5)
    };
    let (bucket, first) = life(async {
        let running = machine.open().unwrap();
        let g = gateway_of(&machine, &running, 1).await;
        let bucket = BucketId(g.bucket(BUCKET).await.bucket);
        let mut first = None;
        for n in (0..OBJECTS).chain(0..OBJECTS / 2) {
            let data = StoredData::Chunks(gateway::stored(g.blob(), 1));
            let call = g.call_of(Command::Put {
                bucket,
                key: key(&name(n)),
                record: gateway::record(4096),
                data,
                precondition: Default::default(),
            });
            first.get_or_insert(call.clone());
            g.index.call(call).await.unwrap();
        }
        g.index.shutdown().await;
        running.stop().await.unwrap();
        (bucket, first.unwrap())
    });
    machine.disk.kill();
    Left {
        machine,
        bucket,
        first,
    }
}

fn flip(machine: &Machine, page: u64) {
    let file = machine.disk.open(PATH).unwrap();
    let at = page * PAGE + 77;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x14;
    file.write_all_at(&byte, at).unwrap();
    file.sync_data().unwrap();
}

async fn is_bad(snapshot: &dyn Snapshot, table: u8) -> bool {
    let mut start = Bytes::copy_from_slice(&[table]);
    loop {
        let scan = Scan {
            start,
            end: Bytes::copy_from_slice(&[table + 1]),
            max: 64,
        };
        match snapshot.scan(&scan).await {
            Err(StoreError::Corrupt(_)) => return true,
            other => match other.unwrap().last() {
                Some((last, _)) => start = [&last[..], &[0]].concat().into(),
                None => return false,
            },
        }
    }
}

/// Which table's rows, and no other's, cannot be read without a page.
fn tables_of_pages() -> BTreeMap<u64, u8> {
    let mut left = left();
    let pages = left.machine.disk.open(PATH).unwrap().len().unwrap() / PAGE;
    let mut found = BTreeMap::new();
    for page in 6..pages {
        // Each start takes a block of the journal.
        if page % 8 == 0 {
            left = self::left();
        }
        flip(&left.machine, page);
        let bad = life(async {
            let running = left.machine.open().unwrap();
            let Ok(snapshot) = running.engine.snapshot(DATA).await else {
                return Vec::new();
            };
            let mut bad = Vec::new();
            for table in [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x20] {
                if is_bad(&*snapshot, table).await {
                    bad.push(table);
                }
            }
            bad
        });
        left.machine.disk.kill();
        // As it was.
        flip(&left.machine, page);
        if let [table] = bad[..] {
            found.insert(page, table);
        }
    }
    found
}

/// Some stores without rows of one table, and of no other.
fn lefts_without(table: u8) -> Vec<(Left, u64)> {
    static PAGES: OnceLock<BTreeMap<u64, u8>> = OnceLock::new();
    let pages = PAGES.get_or_init(tables_of_pages);
    let of_table = pages.iter().filter(|(_, of)| **of == table).take(3);
    let found: Vec<_> = of_table
        .map(|(page, _)| {
            let left = left();
            flip(&left.machine, *page);
            (left, *page)
        })
        .collect();
    assert!(
        !found.is_empty(),
        "no page has rows of table {table:02x} alone: {pages:?}"
    );
    found
}

async fn got(g: &Gateway, bucket: BucketId, n: u64) -> Result<bool, ErrorKind> {
    let object: ObjectKey = key(&name(n));
    let found = g.index.get(bucket, &object, VersionRef::Current, false).await;
    found.map(|found| found.is_ok()).map_err(|fault| fault.kind)
}

/// Answers that rotted belong to sessions that are over: a start ends those, and goes on without them.
#[test]
fn lost_answers_of_ended_sessions_stop_nobody() {
    for (left, page) in lefts_without(0x03) {
        for life_number in 2..5 {
            life(async {
                let running = left.machine.open().unwrap();
                let g = gateway_of(&left.machine, &running, life_number).await;
                let early = g.index.call(g.call_of(left.first.command.clone())).await;
                assert_eq!(early.unwrap_err().kind, ErrorKind::Unavailable, "page {page}");
                g.index.end_sessions_below(SessionId(life_number)).await.unwrap();
                g.put_inline(left.bucket, &format!("new {life_number}"), "1")
                    .await;
                // What took effect once never does again, whether its answer is known or not.
                let again = g.index.call(left.first.clone()).await.unwrap().kind.unwrap();
                let ended = matches!(&again, Kind::Refused(r) if r.reason == Reason::SessionEnded as u32);
                assert!(ended || matches!(again, Kind::Put(_)), "{again:?}");
                let listed = g.list(left.bucket, ("key", "", "", 1000)).await.0;
                assert_eq!(listed.len() as u64, OBJECTS);
                for n in 0..OBJECTS {
                    assert_eq!(got(&g, left.bucket, n).await, Ok(true));
                }
                g.index.shutdown().await;
                running.stop().await.unwrap();
            });
            left.machine.disk.kill();
        }
    }
}

/// A bucket with a page that cannot be read is not empty, and not taken away by somebody who tries to remove it.
#[test]
fn a_bucket_that_cannot_be_read_is_not_empty() {
    for (left, page) in lefts_without(0x10) {
        life(async {
            let running = left.machine.open().unwrap();
            let g = gateway_of(&left.machine, &running, 2).await;
            g.index.end_sessions_below(SessionId(2)).await.unwrap();
            let bucket = left.bucket;
            let close = Command::CloseBucket { bucket, turn: 2 };
            match g.call(close).await.unwrap() {
                Kind::Close(answer) => assert!(!answer.empty && !answer.only_uploads, "page {page}"),
                other => panic!("{other:?}"),
            }
            g.open_bucket(bucket, 2).await;
            g.put_inline(bucket, "other", "1").await;
            // A listing never leaves rows out: it is refused where it comes to them.
            let query = ListQuery {
                bucket,
                prefix: String::new(),
                delimiter: String::new(),
                after: String::new(),
                max: 1000,
            };
            let told = g.index.list(query).await.unwrap_err();
            assert!(
                told.kind == ErrorKind::Corrupt && told.to_string().contains(PATH),
                "{told}"
            );
            let mut bad = 0;
            for n in 0..OBJECTS {
                match got(&g, bucket, n).await {
                    Ok(there) => assert!(there, "{n}"),
                    Err(kind) => {
                        assert_eq!(kind, ErrorKind::Corrupt);
                        bad += 1;
                    }
                }
            }
            assert!(bad > 0 && bad < OBJECTS, "{bad}");
        });
        left.machine.disk.kill();
    }
}

/// Bookings behind one that cannot be read are still found.
#[test]
fn bookings_behind_a_bad_page_are_found() {
    let all = OBJECTS / 2;
    for (left, page) in lefts_without(0x20) {
        life(async {
            let running = left.machine.open().unwrap();
            let g = gateway_of(&left.machine, &running, 2).await;
            let (mut cursor, mut booked) = (Bytes::new(), 0);
            loop {
                let (some, next) = g.index.garbage(cursor, 7).await.unwrap();
                booked += some.len() as u64;
                if next.is_empty() {
                    break;
                }
                cursor = next;
            }
            assert!(booked > 0 && booked < all, "page {page}: {booked} of {all}");
        });
        left.machine.disk.kill();
    }
}
