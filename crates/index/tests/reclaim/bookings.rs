//! Garbage: handed over by pages, forgotten in steps, and nothing that was forgotten comes back.

use crate::gateway::{answer, key, record, stored};
use crate::store::{GARBAGE, K, MANIFESTS, Store, needles};
use std::task::Poll;
use types::{CommandId, ErrorKind, Hlc, SessionId};
use wire::index::{Call, Command, Index, Precondition, Reason, StoredData, VersionRef};
use wire::records::answer::Kind;

#[tokio::test]
async fn a_manifest_comes_page_by_page_whatever_the_size_of_a_page() {
    let s = Store::new().await;
    let (long, short) = (stored(s.g.blob(), 1700), stored(s.g.blob(), 3));
    for (k, data) in [("a", &long), ("b", &short)] {
        s.put(k, data).await.unwrap();
        assert!(s.g.delete(s.bucket, k).await);
    }
    for count_max in [1, 2, 3, 100] {
        let all = s.garbage(count_max).await;
        let told: Vec<_> = all.iter().map(|b| (b.row.blob, b.page, b.is_last)).collect();
        let (a, b) = (long.blob, short.blob);
        let pages = [
            (a, 0, false),
            (a, 1, false),
            (a, 2, false),
            (a, 3, true),
            (b, 0, true),
        ];
        assert_eq!(told, pages);
        let expected = needles(long.chunks.iter().chain(&short.chunks));
        assert_eq!(needles(all.iter().flat_map(|b| &b.chunks)), expected);
    }
    assert_eq!(s.rows(MANIFESTS).await, 4);
    s.collect(2).await;
    assert_eq!((s.rows(MANIFESTS).await, s.rows(GARBAGE).await), (0, 0));
    assert!(s.garbage(9).await.is_empty());
}

/// However few of its pages come at once: what is never forgotten would be handed over again and again. // I3
#[tokio::test]
async fn a_booking_that_cannot_be_read_to_its_end_is_not_begun() {
    let mut s = Store::new().await;
    let (long, short) = (stored(s.g.blob(), 5000), stored(s.g.blob(), 3));
    for (k, data) in [("a", &long), ("b", &short)] {
        s.put(k, data).await.unwrap();
        assert!(s.g.delete(s.bucket, k).await);
    }
    assert_eq!(s.rows(MANIFESTS).await, 10);
    s.lose_last(MANIFESTS).await;
    for count_max in [1, 2, 3, 9, 100] {
        let blobs: Vec<_> = s.garbage(count_max).await.iter().map(|b| b.row.blob).collect();
        assert_eq!(blobs, [short.blob], "{count_max} at once");
    }
}

/// Keys as long as they can be in a row, so that these bookings are too much for one commit: it ends within the last one's manifest.
async fn large(s: &Store) -> Vec<u64> {
    let mut all = Vec::new();
    for at in 0..490 {
        let k = format!("{at:03}{}", "\0".repeat(1021));
        let mut data = stored(s.g.blob(), if at == 489 { 30_000 } else { 1 });
        for (needle, chunk) in data.chunks.iter_mut().enumerate() {
            chunk.needle = (at << 20) + needle as u64;
        }
        s.put(&k, &data).await.unwrap();
        assert!(s.g.delete(s.bucket, &k).await);
        all.extend(needles(&data.chunks));
    }
    all
}

#[tokio::test]
async fn forgetting_goes_in_steps_and_a_crash_between_them_loses_no_needle() {
    let mut s = Store::new().await;
    let all = large(&s).await;
    let booked = s.garbage(9999).await;
    assert_eq!(needles(booked.iter().flat_map(|b| &b.chunks)), all);
    let pages = s.rows(MANIFESTS).await;
    let rows: Vec<_> = booked
        .iter()
        .filter(|b| b.is_last)
        .map(|b| b.row.clone())
        .collect();
    {
        // Nobody listens any more after the first step, and then the process is gone.
        let mut forgetting = std::pin::pin!(s.g.call(Command::ForgetGarbage { rows: rows.clone() }));
        while s.rows(MANIFESTS).await == pages {
            let polled =
                std::future::poll_fn(|cx| Poll::Ready(forgetting.as_mut().poll(cx).is_ready())).await;
            assert!(!polled, "all went in one step");
            tokio::task::yield_now().await;
        }
    }
    s.crash().await;
    let left = s.garbage(3).await;
    assert!(1 < left.len() && left.len() < pages, "a part of the manifest");
    let left = needles(left.iter().flat_map(|b| &b.chunks));
    assert!(
        left.iter().all(|n| all.contains(n)),
        "what is left is what was there"
    );
    let (named, walked) = s.needles().await;
    assert_eq!(
        (named.len(), walked.len()),
        (0, left.len()),
        "a walk finds the same"
    );
    s.g.call(Command::ForgetGarbage { rows }).await.unwrap();
    assert_eq!((s.rows(MANIFESTS).await, s.rows(GARBAGE).await), (0, 0));
}

#[tokio::test]
async fn only_the_booking_that_is_meant_is_forgotten() {
    let s = Store::new().await;
    s.put(K, &stored(s.g.blob(), 1)).await.unwrap();
    assert!(s.g.delete(s.bucket, K).await);
    let mut row = s.garbage(1).await[0].row.clone();
    row.booked = Hlc(row.booked.0 - 1);
    let rows = vec![row];
    s.g.call(Command::ForgetGarbage { rows }).await.unwrap();
    assert_eq!(s.rows(GARBAGE).await, 1);
    assert_eq!(s.collect(1).await.len(), 1);
    // Once more is nothing.
    assert_eq!(s.collect(1).await.len(), 0);
}

// I3, I11: the argument of commands/reclaim.rs. The bytes are gone; whatever comes late of the put that named them names nothing.
#[tokio::test]
async fn a_put_that_comes_again_after_its_bytes_were_forgotten_names_nothing() {
    let s = Store::new().await;
    let put = |serial: u64, done_below: u64| Call {
        id: CommandId::new(SessionId(1), (1 << 40) + serial),
        done_below,
        command: Command::Put {
            bucket: s.bucket,
            key: key(K),
            record: record(4096),
            data: StoredData::Chunks(stored(types::BlobId::new(SessionId(1), 1 << 40), 1)),
            precondition: Precondition::default(),
        },
    };
    let first = s.g.index.call(put(1, 0)).await.unwrap();
    assert!(matches!(first.kind, Some(Kind::Put(_))));
    assert!(s.g.delete(s.bucket, K).await);
    let call = Call {
        command: put(2, 0).command,
        ..put(2, 0)
    };
    let other = s.g.index.call(call).await.unwrap();
    assert_eq!(
        answer(other.kind.unwrap()),
        Err(Reason::BlobGone),
        "while it is booked"
    );
    assert_eq!(s.collect(1).await.len(), 1);

    assert_eq!(
        s.g.index.call(put(1, 0)).await.unwrap(),
        first,
        "it gets its old answer"
    );
    assert!(nothing_there(&s).await);
    let later = Call {
        id: CommandId::new(SessionId(1), (1 << 40) + 9),
        done_below: (1 << 40) + 9,
        command: Command::ForgetCondemned {
            after: Default::default(),
        },
    };
    s.g.index.call(later).await.unwrap();
    let late = s.g.index.call(put(1, 0)).await;
    assert_eq!(
        late.unwrap_err().kind,
        ErrorKind::Unknown,
        "its answer was let go: it is not decided"
    );
    assert!(nothing_there(&s).await);

    s.g.index.end_sessions_below(SessionId(2)).await.unwrap();
    let late = s.g.index.call(put(7, 0)).await.unwrap();
    assert_eq!(answer(late.kind.unwrap()), Err(Reason::SessionEnded));
    // Not even under a command of a session that lives on.
    let mut call = put(1, 0);
    call.id = CommandId::new(SessionId(2), 1);
    let late = s.g.index.call(call).await.unwrap();
    assert_eq!(answer(late.kind.unwrap()), Err(Reason::BlobGone));
    assert!(nothing_there(&s).await);
}

async fn nothing_there(s: &Store) -> bool {
    let found = s.g.index.get(s.bucket, &key(K), VersionRef::Current, true).await;
    found.unwrap() == Err(Reason::NoSuchKey)
}
