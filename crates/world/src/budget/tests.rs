//! Who waits, who is served, and what is left behind by those who go away.

#![allow(
    clippy::disallowed_methods,
    reason = "the test's clock is the runtime's paused one"
)]

use super::*;
use std::collections::VecDeque;
use std::pin::Pin;

struct TestClock;

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        0
    }
    fn mono(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(d))
    }
}

fn budget(bytes: u64) -> Arc<Budget> {
    Budget::new("test", bytes, Arc::new(TestClock))
}

fn taking(
    budget: &Arc<Budget>,
    claim: Claim,
    bytes: u64,
) -> tokio::task::JoinHandle<Result<Share, OverBudget>> {
    let budget = budget.clone();
    tokio::spawn(async move { budget.take(claim, bytes).await })
}

async fn settled() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// I9
#[tokio::test(start_paused = true)]
async fn past_the_budget_they_wait_and_then_are_refused() {
    let b = budget(100);
    let all = b.take(Claim::Write, 100).await.unwrap();
    let in_time = taking(&b, Claim::Read, 10);
    settled().await;
    assert_eq!((b.used(), b.waiting()), (100, 1));
    drop(all);
    let share = in_time.await.unwrap().unwrap();
    assert_eq!((share.bytes(), b.used(), b.waiting()), (10, 10, 0));
    let rest = b.take(Claim::Read, 90).await.unwrap();
    assert_eq!(b.take(Claim::Read, 1).await.err(), Some(OverBudget));
    assert_eq!((b.used(), b.waiting()), (100, 0));
    drop((share, rest));
    // More than there is goes alone.
    let alone = b.take(Claim::Write, 1000).await.unwrap();
    assert_eq!((alone.bytes(), b.used()), (100, 100));
    drop(alone);
    assert_eq!(b.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_leaves_nothing_behind() {
    let b = budget(100);
    let all = b.take(Claim::Write, 60).await.unwrap();
    let large = taking(&b, Claim::Write, 50);
    settled().await;
    let small = taking(&b, Claim::Write, 40);
    settled().await;
    assert_eq!(b.waiting(), 2, "who is next is waited for");
    large.abort();
    drop(small.await.unwrap().unwrap());
    drop(all);
    assert_eq!((b.used(), b.waiting()), (0, 0));
    // A share that comes when its taker has just gone comes back.
    let all = b.take(Claim::Write, 100).await.unwrap();
    let gone = taking(&b, Claim::Read, 100);
    settled().await;
    drop(all);
    gone.abort();
    drop(gone.await);
    assert_eq!((b.used(), b.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_kind_starves_another_and_none_takes_what_is_kept() {
    let b = budget(120);
    let mut writes = Vec::new();
    for _ in 0..12 {
        writes.push(b.take(Claim::Write, 10).await.unwrap());
    }
    let more: Vec<_> = (0..30).map(|_| taking(&b, Claim::Write, 10)).collect();
    settled().await;
    let read = taking(&b, Claim::Read, 10);
    settled().await;
    assert!(b.try_take(Claim::Read, 0).is_none(), "not before who waits");
    // The 31st to wait, and the first to be served.
    drop(writes.pop());
    let read = read.await.unwrap().unwrap();
    assert_eq!(b.waiting(), 30);
    more.iter().for_each(tokio::task::JoinHandle::abort);
    drop((writes, read));
    settled().await;
    assert_eq!(b.used(), 0);
    let most = b.try_take(Claim::Read, 90).unwrap();
    assert!(
        b.try_take(Claim::Read, 1).is_none(),
        "a quarter is for those who begin"
    );
    drop((b.take(Claim::Page, 30).await.unwrap(), most));
}

/// I9: nor does it wait for ever.
#[tokio::test(start_paused = true)]
async fn a_large_one_does_not_stop_the_small() {
    let b = budget(12_800);
    let mut writes = Vec::new();
    for _ in 0..127 {
        writes.push(b.take(Claim::Write, 100).await.unwrap());
    }
    let _read = b.take(Claim::Read, 100).await.unwrap();
    let page = taking(&b, Claim::Page, 2_000);
    settled().await;
    let reads: Vec<_> = (0..200).map(|_| taking(&b, Claim::Read, 50)).collect();
    settled().await;
    while !page.is_finished() {
        drop(writes.pop().expect("it is served before all are gone"));
        settled().await;
    }
    let served = || reads.iter().filter(|read| read.is_finished()).count();
    assert_eq!(
        (writes.len(), served()),
        (127 - 39, 38),
        "half of what came before it had enough, in 50s"
    );
    // What is saved for who goes away is the others'.
    drop(page.await.unwrap());
    settled().await;
    assert_eq!((served(), b.used()), (78, 12_800));
    let gone = taking(&b, Claim::Page, 2_000);
    settled().await;
    drop((writes.pop(), writes.pop()));
    settled().await;
    assert_eq!((served(), b.used()), (80, 12_800 - 100));
    gone.abort();
    settled().await;
    assert_eq!((served(), b.used()), (82, 12_800));
    reads.iter().for_each(tokio::task::JoinHandle::abort);
}

/// In which turn a page of 2,000 is served, while another listing holds more than the reads do. In each turn 100 bytes of writes end, and
/// two reads of `bytes` come and go one after the other: each of them is before the page.
async fn turns_beside_reads_of(bytes: u64) -> Option<usize> {
    let b = budget(12_800);
    let _listing = b.take(Claim::Page, 200).await.unwrap();
    let mut held = VecDeque::new();
    for _ in 0..126 {
        held.push_back(b.take(Claim::Write, 100).await.unwrap());
    }
    let page = taking(&b, Claim::Page, 2_000);
    settled().await;
    let (mut writes, mut read) = (VecDeque::new(), None);
    for turn in 1..=400 {
        while writes.len() < 20 {
            writes.push_back(taking(&b, Claim::Write, 25));
        }
        settled().await;
        let mut ended = 0;
        while ended < 100 {
            ended += held.pop_front().expect("writes go on").bytes();
            settled().await;
        }
        for _ in 0..2 {
            let reading = read.take().unwrap_or_else(|| taking(&b, Claim::Read, bytes));
            settled().await;
            match reading.is_finished() {
                true => drop(reading.await.unwrap().unwrap()),
                false => read = Some(reading),
            }
            settled().await;
        }
        if page.is_finished() {
            return Some(turn);
        }
        while writes.front().is_some_and(|write| write.is_finished()) {
            held.push_back(writes.pop_front().unwrap().await.unwrap().unwrap());
        }
    }
    None
}

/// I9
#[tokio::test(start_paused = true)]
async fn the_small_of_another_kind_only_borrow_what_is_saved() {
    let mut turns = Vec::new();
    for bytes in [1, 50, 150] {
        turns.push(turns_beside_reads_of(bytes).await);
    }
    assert_eq!(
        turns,
        [Some(39), Some(39), Some(38)],
        "as if none came; nor do large ones take it"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_borrowed_comes_back_whole_or_is_forgotten_with_whom_it_is_owed_to() {
    let b = budget(12_800);
    let _listing = b.take(Claim::Page, 200).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..126 {
        held.push(b.take(Claim::Write, 100).await.unwrap());
    }
    let page = taking(&b, Claim::Page, 2_000);
    settled().await;
    let writes: Vec<_> = (0..100).map(|_| taking(&b, Claim::Write, 25)).collect();
    settled().await;
    let served = || writes.iter().filter(|write| write.is_finished()).count();
    drop(held.pop());
    settled().await;
    assert_eq!((served(), b.used()), (2, 12_750));
    // Its share comes when it has just gone: the half that was borrowed comes back whole, the other is halved.
    let gone = taking(&b, Claim::Read, 100);
    settled().await;
    drop(held.pop());
    assert_eq!(b.used(), 12_750, "served, of what is saved too");
    gone.abort();
    settled().await;
    assert_eq!((served(), b.used()), (3, 12_800 - 125));
    // What turned out to be more is owed as well.
    held[0].settle(200);
    settled().await;
    assert_eq!((served(), b.used()), (3, 12_800 - 25));
    held[0].settle(100);
    settled().await;
    assert_eq!((served(), b.used()), (3, 12_800 - 125));
    // So it is when another large one behind it has left meanwhile.
    let read = taking(&b, Claim::Read, 100);
    let behind = taking(&b, Claim::Page, 2_000);
    settled().await;
    behind.abort();
    settled().await;
    drop(read.await.unwrap().unwrap());
    settled().await;
    assert_eq!((served(), b.used()), (3, 12_800 - 125));
    // The large one leaves, of whose bytes some are lent: the next of its kind is owed nothing.
    let read = taking(&b, Claim::Read, 100);
    settled().await;
    assert_eq!(b.used(), 12_800 - 25);
    page.abort();
    settled().await;
    assert_eq!((served(), b.used()), (4, 12_800));
    let _next = taking(&b, Claim::Page, 2_000);
    settled().await;
    drop(read.await.unwrap().unwrap());
    settled().await;
    assert_eq!((served(), b.used()), (6, 12_800 - 50));
}

#[tokio::test(start_paused = true)]
async fn no_crowd_takes_anothers_places_in_the_queue() {
    let b = budget(100);
    let all = b.take(Claim::Write, 100).await.unwrap();
    let crowd: Vec<_> = (0..BUDGET_WAITING_MAX)
        .map(|_| taking(&b, Claim::Write, 10))
        .collect();
    while b.waiting() < BUDGET_WAITING_MAX {
        tokio::task::yield_now().await;
    }
    let refused = b.take(Claim::Write, 10);
    assert!(refused.await.is_err(), "there are bounds");
    assert_eq!(b.waiting(), BUDGET_WAITING_MAX, "at once");
    let read = taking(&b, Claim::Read, 10);
    settled().await;
    drop(all);
    assert!(read.await.unwrap().is_ok());
    crowd.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn what_it_turned_out_to_be_counts() {
    let b = budget(100);
    let mut page = b.take(Claim::Page, 50).await.unwrap();
    page.settle(120);
    let next = taking(&b, Claim::Page, 50);
    settled().await;
    assert_eq!((b.used(), b.waiting()), (120, 1));
    assert!(!page.try_more(1), "not before who waits");
    page.settle(20);
    assert_eq!(next.await.unwrap().unwrap().bytes(), 50);
    assert!(page.try_more(30) && !page.try_more(30));
    assert_eq!((page.bytes(), b.used()), (50, 50));
    page.settle(20);
    let bytes = held(Bytes::from_static(b"abc"), page);
    let some = bytes.slice(1..2);
    drop(bytes);
    assert_eq!(b.used(), 20, "some of them are still had");
    drop(some);
    assert_eq!(b.used(), 0);
}
