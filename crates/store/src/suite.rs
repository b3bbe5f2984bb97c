//! What every engine must do, as code: run by each engine's tests over a [`Rig`] of its own.
//!
//! Each check takes a fresh rig and panics with what it found. [`all`] runs them in order.

use crate::{Batch, Committed, Fence, Rows, Scan, Snapshot, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use types::limits::{BATCH_BYTES_MAX, ROW_KEY_BYTES_MAX, SCAN_ROWS_MAX};
use types::{LogSeq, PartitionId};

/// An engine and the means to crash it.
#[async_trait::async_trait]
pub trait Rig: Send {
    /// The engine now.
    fn store(&self) -> Arc<dyn Store>;
    /// Kills the engine without warning and opens it again on what its disk holds. Engines got from [`Rig::store`] before are dead.
    async fn crash(&mut self);
    /// Moves what waits in memory or log to its resting place, where the engine has one.
    async fn settle(&mut self);
    /// Makes the next commit end unknown, its batch kept or lost as the engine likes. `false` where it cannot.
    fn next_commit_unknown(&mut self) -> bool;
}

const P: PartitionId = PartitionId::FIRST_DATA;

/// Runs every check, each on a rig of its own.
///
/// # Panics
/// When the engine breaks a promise.
pub async fn all<R: Rig, F: Future<Output = R>>(make: impl Fn() -> F) {
    rows_are_kept_in_order(make().await).await;
    absent_is_not_empty(make().await).await;
    fences_are_exact(make().await).await;
    a_taken_partition_refuses_its_old_owner(make().await).await;
    a_batch_is_whole(make().await).await;
    snapshots_stand_still(make().await).await;
    snapshots_stand_still_while_rows_settle(make().await).await;
    scans_page(make().await).await;
    partitions_are_apart(make().await).await;
    done_survives_crashes(make().await).await;
    unknown_is_settled_by_take(make().await).await;
    too_large_is_refused_and_harmless(make().await).await;
    a_model_agrees(make().await).await;
}

fn key(n: u64) -> Bytes {
    Bytes::from(format!("k{n:06}"))
}

fn put(rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Batch {
    Batch {
        rows: rows.into_iter().map(|(k, v)| (k, Some(v))).collect(),
        behind: Vec::new(),
    }
}

/// Commits and expects it done.
///
/// # Panics
/// When it is not.
pub async fn commit(store: &dyn Store, fence: &mut Fence, batch: Batch) {
    match store.commit(*fence, batch).await {
        Committed::Done(next) => {
            assert_eq!(next.sequence.0, fence.sequence.0 + 1, "sequences are dense");
            assert_eq!((next.epoch, next.partition), (fence.epoch, fence.partition));
            *fence = next;
        }
        other => panic!("the commit is {other:?}"),
    }
}

/// Every row of a snapshot, page by page.
///
/// # Errors
/// What the engine says.
pub async fn every_row(snapshot: &dyn Snapshot, page: usize) -> Result<Rows, StoreError> {
    let mut rows = Rows::new();
    let mut start = Bytes::from_static(b"\0");
    loop {
        let scan = Scan {
            start: start.clone(),
            end: Bytes::from_static(&[0xff; 8]),
            max: page,
        };
        let found = snapshot.scan(&scan).await?;
        let last = found.len() < page;
        rows.extend(found);
        if last {
            return Ok(rows);
        }
        let (k, _) = rows.last().expect("a full page has rows");
        start = [k, &b"\0"[..]].concat().into();
    }
}

async fn rows_now(store: &dyn Store, partition: PartitionId) -> Rows {
    let snapshot = store.snapshot(partition).await.expect("a snapshot");
    every_row(snapshot.as_ref(), 7).await.expect("rows")
}

/// Keys come in the order of their bytes, whatever order they were written in and wherever they rest.
pub async fn rows_are_kept_in_order(mut rig: impl Rig) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    let keys: Vec<Bytes> = [
        &b"a"[..],
        b"a\0",
        b"a\0\x01",
        b"a/",
        b"a/b",
        b"ab",
        b"b",
        b"\x01",
        b"\xf0\x9f\x98\x80",
        b"\xfe\xff",
    ]
    .into_iter()
    .map(Bytes::from_static)
    .collect();
    for (i, k) in keys.iter().enumerate() {
        commit(store.as_ref(), &mut fence, put([(k.clone(), k.clone())])).await;
        if i % 3 == 0 {
            rig.settle().await;
        }
    }
    let mut sorted = keys.clone();
    sorted.sort();
    let found: Vec<Bytes> = rows_now(store.as_ref(), P)
        .await
        .into_iter()
        .map(|(k, _)| k)
        .collect();
    assert_eq!(found, sorted);
}

/// An empty value is there, a removed row is not, and neither comes back from where rows rest.
pub async fn absent_is_not_empty(mut rig: impl Rig) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    let both = put([(key(1), Bytes::new()), (key(2), Bytes::from_static(b"x"))]);
    commit(store.as_ref(), &mut fence, both).await;
    for settled in [false, true] {
        if settled {
            rig.settle().await;
        }
        let snapshot = store.snapshot(P).await.expect("a snapshot");
        let got = snapshot.get(&[key(2), key(1), key(3)]).await.expect("rows");
        assert_eq!(got, [Some(Bytes::from_static(b"x")), Some(Bytes::new()), None]);
    }
    let remove = Batch {
        rows: vec![(key(1), None), (key(9), None)],
        behind: Vec::new(),
    };
    commit(store.as_ref(), &mut fence, remove).await;
    for step in 0..3 {
        match step {
            1 => rig.settle().await,
            2 => rig.crash().await,
            _ => {}
        }
        let store = rig.store();
        let snapshot = store.snapshot(P).await.expect("a snapshot");
        assert_eq!(snapshot.get(&[key(1)]).await.expect("rows"), [None]);
        assert_eq!(
            rows_now(store.as_ref(), P).await,
            [(key(2), Bytes::from_static(b"x"))]
        );
    }
}

/// A fence is good for one batch: the same sequence twice, or one that was never given, is refused. // I6
pub async fn fences_are_exact(rig: impl Rig) {
    let store = rig.store();
    let first = store.take(P).await.expect("taken");
    let mut fence = first;
    commit(store.as_ref(), &mut fence, put([(key(1), key(1))])).await;
    let ahead = Fence {
        sequence: LogSeq(fence.sequence.0 + 1),
        ..fence
    };
    let newer = Fence {
        epoch: fence.epoch.next(),
        ..fence
    };
    for bad in [first, ahead, newer] {
        let got = store.commit(bad, put([(key(2), key(2))])).await;
        assert_eq!(got, Committed::Refused, "{bad:?} against {fence:?}");
    }
    let stranger = Fence {
        partition: PartitionId(77),
        ..fence
    };
    assert_eq!(store.commit(stranger, Batch::default()).await, Committed::Refused);
    assert_eq!(rows_now(store.as_ref(), P).await, [(key(1), key(1))]);
    // Two at once under one fence: exactly one is in.
    let (a, b) = tokio::join!(
        store.commit(fence, put([(key(3), key(3))])),
        store.commit(fence, put([(key(4), key(4))])),
    );
    let done = [&a, &b]
        .iter()
        .filter(|c| matches!(c, Committed::Done(_)))
        .count();
    let refused = [&a, &b]
        .iter()
        .filter(|c| matches!(c, Committed::Refused))
        .count();
    assert_eq!((done, refused), (1, 1), "{a:?} and {b:?}");
    assert_eq!(rows_now(store.as_ref(), P).await.len(), 2);
}

/// After a take the old owner commits nothing, ever: not after a crash either. // I6
pub async fn a_taken_partition_refuses_its_old_owner(mut rig: impl Rig) {
    let store = rig.store();
    let mut old = store.take(P).await.expect("taken");
    commit(store.as_ref(), &mut old, put([(key(1), key(1))])).await;
    let new = store.take(P).await.expect("taken");
    assert!(new.epoch > old.epoch);
    assert_eq!(
        store.commit(old, put([(key(2), key(2))])).await,
        Committed::Refused
    );
    let forged = Fence {
        sequence: new.sequence,
        ..old
    };
    assert_eq!(
        store.commit(forged, put([(key(2), key(2))])).await,
        Committed::Refused
    );
    rig.crash().await;
    let store = rig.store();
    for stale in [old, forged] {
        assert_eq!(
            store.commit(stale, put([(key(2), key(2))])).await,
            Committed::Refused
        );
    }
    let newest = store.take(P).await.expect("taken");
    assert!(newest.epoch > new.epoch, "an epoch is given once");
    assert_eq!(
        store.commit(new, put([(key(2), key(2))])).await,
        Committed::Refused
    );
    assert_eq!(rows_now(store.as_ref(), P).await, [(key(1), key(1))]);
}

/// All rows of a batch are seen, or none.
pub async fn a_batch_is_whole(mut rig: impl Rig) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    for round in 0..20_u64 {
        let value = Bytes::from(round.to_string());
        let batch = put((0..50).map(|n| (key(n), value.clone())));
        let watch = async {
            for _ in 0..8 {
                let rows = rows_now(store.as_ref(), P).await;
                assert!(rows.is_empty() || rows.len() == 50, "{} of 50 rows", rows.len());
                assert!(rows.windows(2).all(|w| w[0].1 == w[1].1), "half a batch is seen");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(commit(store.as_ref(), &mut fence, batch), watch);
    }
    rig.crash().await;
    let rows = rows_now(rig.store().as_ref(), P).await;
    assert!(rows.len() == 50 && rows.iter().all(|(_, v)| v == "19"));
}

/// A snapshot answers from its moment while commits go on. // I2
pub async fn snapshots_stand_still(rig: impl Rig) {
    stand_still(rig, false).await;
}

/// The same while rows move to where they rest. // I2
pub async fn snapshots_stand_still_while_rows_settle(rig: impl Rig) {
    stand_still(rig, true).await;
}

async fn stand_still(mut rig: impl Rig, settle: bool) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    let mut held: Vec<(Arc<dyn Snapshot>, Rows)> = Vec::new();
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for round in 0..12_u64 {
        let mut batch = Batch::default();
        for n in 0..10 {
            let k = key((round * 3 + n) % 20);
            if (round + n) % 4 == 0 {
                model.remove(&k);
                batch.rows.push((k, None));
            } else {
                let v = Bytes::from(format!("{round}-{n}"));
                model.insert(k.clone(), v.clone());
                batch.rows.push((k, Some(v)));
            }
        }
        commit(store.as_ref(), &mut fence, batch).await;
        let snapshot = store.snapshot(P).await.expect("a snapshot");
        let rows: Rows = model.clone().into_iter().collect();
        held.push((snapshot, rows));
        if settle && round % 3 == 1 {
            rig.settle().await;
        }
        if round == 8 {
            held.drain(2..5);
        }
        for (snapshot, rows) in &held {
            assert_eq!(&every_row(snapshot.as_ref(), 6).await.expect("rows"), rows);
            let keys: Vec<Bytes> = (0..20).map(key).collect();
            let want: Vec<Option<Bytes>> = keys
                .iter()
                .map(|k| rows.iter().find(|(rk, _)| rk == k).map(|(_, v)| v.clone()))
                .collect();
            assert_eq!(snapshot.get(&keys).await.expect("rows"), want);
        }
    }
}

/// A page is full unless the range ends; removals and bounds do not shorten it.
pub async fn scans_page(mut rig: impl Rig) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    let many = 3 * SCAN_ROWS_MAX as u64;
    for from in (0..many).step_by(512) {
        let rows = (from..(from + 512).min(many)).map(|n| (key(n), key(n)));
        commit(store.as_ref(), &mut fence, put(rows)).await;
    }
    rig.settle().await;
    // Two of three removed, above what has settled.
    for from in (0..many).step_by(512) {
        let rows = (from..(from + 512).min(many))
            .filter(|n| n % 3 != 0)
            .map(|n| (key(n), None));
        let batch = Batch {
            rows: rows.collect(),
            behind: Vec::new(),
        };
        commit(store.as_ref(), &mut fence, batch).await;
    }
    let left: Vec<u64> = (0..many).filter(|n| n % 3 == 0).collect();
    let snapshot = store.snapshot(P).await.expect("a snapshot");
    for page in [1, 10, 1000, SCAN_ROWS_MAX] {
        if page > 1 {
            let rows = every_row(snapshot.as_ref(), page).await.expect("rows");
            assert!(
                rows.iter()
                    .map(|(k, _)| k.clone())
                    .eq(left.iter().map(|n| key(*n))),
                "pages of {page}"
            );
        }
        let scan = |start, end| Scan {
            start,
            end,
            max: page,
        };
        let rows = snapshot.scan(&scan(key(3), key(9))).await.expect("rows");
        let want: Rows = [3, 6].into_iter().take(page).map(|n| (key(n), key(n))).collect();
        assert_eq!(rows, want, "the end is not in the range");
        for nothing in [scan(key(4), key(6)), scan(key(6), key(6)), scan(key(9), key(3))] {
            assert!(snapshot.scan(&nothing).await.expect("no rows").is_empty());
        }
    }
}

/// Partitions share nothing.
pub async fn partitions_are_apart(mut rig: impl Rig) {
    let store = rig.store();
    let ids = [
        PartitionId::DIRECTORY,
        PartitionId::CONTROL,
        PartitionId::FIRST_DATA,
    ];
    let mut fences = Vec::new();
    for id in ids {
        assert!(
            rows_now(store.as_ref(), id).await.is_empty(),
            "a new partition is empty"
        );
        fences.push(store.take(id).await.expect("taken"));
    }
    for round in 0..3 {
        for fence in &mut fences {
            let value = Bytes::from(format!("{}-{round}", fence.partition));
            commit(store.as_ref(), fence, put([(key(1), value)])).await;
        }
        if round == 1 {
            rig.settle().await;
        }
    }
    rig.crash().await;
    for id in ids {
        let rows = rows_now(rig.store().as_ref(), id).await;
        assert_eq!(rows, [(key(1), Bytes::from(format!("{id}-2")))]);
    }
}

/// Whatever was done is there after each of many crashes, settled or not. // I1
pub async fn done_survives_crashes(mut rig: impl Rig) {
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    for life in 0..6_u64 {
        let store = rig.store();
        assert_eq!(
            rows_now(store.as_ref(), P).await,
            model.clone().into_iter().collect::<Rows>()
        );
        let mut fence = store.take(P).await.expect("taken");
        for n in 0..15 {
            let k = key((life * 7 + n) % 40);
            if n % 5 == 4 {
                model.remove(&k);
                let batch = Batch {
                    rows: vec![(k, None)],
                    behind: Vec::new(),
                };
                commit(store.as_ref(), &mut fence, batch).await;
            } else {
                let v = Bytes::from(vec![life as u8; 300]);
                model.insert(k.clone(), v.clone());
                commit(store.as_ref(), &mut fence, put([(k, v)])).await;
            }
            if n == life * 3 {
                rig.settle().await;
            }
        }
        rig.crash().await;
    }
    assert_eq!(
        rows_now(rig.store().as_ref(), P).await,
        model.into_iter().collect::<Rows>()
    );
}

/// After an unknown commit, a take settles whether its batch is in: it stays so. // I11
pub async fn unknown_is_settled_by_take(mut rig: impl Rig) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    commit(store.as_ref(), &mut fence, put([(key(1), key(1))])).await;
    if !rig.next_commit_unknown() {
        return;
    }
    let got = store
        .commit(fence, put([(key(1), key(2)), (key(2), key(2))]))
        .await;
    assert!(matches!(got, Committed::Unknown(_)), "{got:?}");
    // Where the disk is out of service after that, only a new life can take.
    let mut fence = match store.take(P).await {
        Ok(fence) => fence,
        Err(_) => {
            rig.crash().await;
            rig.store().take(P).await.expect("taken")
        }
    };
    let store = rig.store();
    let settled = rows_now(store.as_ref(), P).await;
    let kept: Rows = vec![(key(1), key(2)), (key(2), key(2))];
    assert!(settled == kept || settled == [(key(1), key(1))], "{settled:?}");
    commit(store.as_ref(), &mut fence, put([(key(3), key(3))])).await;
    rig.crash().await;
    let mut want = settled;
    want.push((key(3), key(3)));
    assert_eq!(rows_now(rig.store().as_ref(), P).await, want);
}

/// What no engine can hold is refused, and the fence stands. // I9
pub async fn too_large_is_refused_and_harmless(rig: impl Rig) {
    let store = rig.store();
    let mut fence = store.take(P).await.expect("taken");
    let long = Bytes::from(vec![b'k'; ROW_KEY_BYTES_MAX + 1]);
    let heavy = Bytes::from(vec![b'v'; BATCH_BYTES_MAX]);
    for batch in [
        put([(long, key(1))]),
        put([(Bytes::new(), key(1))]),
        put([(key(1), heavy)]),
    ] {
        let got = store.commit(fence, batch).await;
        assert!(
            matches!(got, Committed::NotDone(StoreError::TooLarge(_))),
            "{got:?}"
        );
    }
    let fits = Bytes::from(vec![b'v'; BATCH_BYTES_MAX - 4096 - 64]);
    let longest = Bytes::from(vec![b'k'; ROW_KEY_BYTES_MAX]);
    commit(store.as_ref(), &mut fence, put([(longest.clone(), fits.clone())])).await;
    let snapshot = store.snapshot(P).await.expect("a snapshot");
    assert!(snapshot.get(&[longest]).await.expect("a row") == [Some(fits)]);
}

/// A long mixed run agrees with an ordinary map.
pub async fn a_model_agrees(mut rig: impl Rig) {
    let mut model: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = move |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    let mut fence = rig.store().take(P).await.expect("taken");
    for _ in 0..300 {
        let store = rig.store();
        match roll(40) {
            0 => rig.settle().await,
            1 => {
                rig.crash().await;
                fence = rig.store().take(P).await.expect("taken");
            }
            2 => fence = store.take(P).await.expect("taken"),
            _ => {
                let mut rows = BTreeMap::new();
                for _ in 0..roll(30) {
                    let length = roll(400) as usize;
                    let value = (roll(3) > 0).then(|| Bytes::from(vec![roll(256) as u8; length]));
                    rows.insert(key(roll(200)), value);
                }
                for (k, v) in &rows {
                    match v {
                        Some(v) => model.insert(k.clone(), v.clone()),
                        None => model.remove(k),
                    };
                }
                let batch = Batch {
                    rows: rows.into_iter().collect(),
                    behind: Vec::new(),
                };
                commit(store.as_ref(), &mut fence, batch).await;
            }
        }
        let store = rig.store();
        let snapshot = store.snapshot(P).await.expect("a snapshot");
        let (from, to, max) = (key(roll(200)), key(roll(200)), 1 + roll(50) as usize);
        let want: Rows = if from < to {
            let range = model.range(from.clone()..to.clone());
            range.take(max).map(|(k, v)| (k.clone(), v.clone())).collect()
        } else {
            Rows::new()
        };
        let scan = Scan {
            start: from,
            end: to,
            max,
        };
        assert_eq!(snapshot.scan(&scan).await.expect("rows"), want);
        leaps_agree(snapshot.as_ref(), &model, &scan, [roll(4), roll(3)]).await;
        let k = key(roll(200));
        assert_eq!(
            snapshot.get(std::slice::from_ref(&k)).await.expect("a row"),
            [model.get(&k).cloned()]
        );
    }
}

/// Of two groups of three the first row, of the third all.
async fn leaps_agree(
    snapshot: &dyn Snapshot,
    model: &BTreeMap<Bytes, Bytes>,
    scan: &Scan,
    [size, all_of]: [u64; 2],
) {
    let size = [1, 3, 10, 40][size as usize];
    let leaps = |row: &[u8]| {
        let number: u64 = std::str::from_utf8(&row[1..]).ok()?.parse().ok()?;
        (number / size % 3 != all_of).then(|| key((number / size + 1) * size))
    };
    let (mut want, mut from) = (Rows::new(), scan.start.clone());
    while want.len() < scan.max && from < scan.end {
        let Some((k, v)) = model.range(from.clone()..scan.end.clone()).next() else {
            break;
        };
        from = leaps(k).unwrap_or_else(|| [&k[..], b"\0"].concat().into());
        want.push((k.clone(), v.clone()));
    }
    let leapt = snapshot.leap(scan, &leaps).await.expect("rows");
    assert_eq!(leapt, want, "groups of {size}, all of {all_of}");
}
