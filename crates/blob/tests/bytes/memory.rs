//! Memory that puts and gets take: all of it from one budget, and none of them for ever without.

use super::*;
use world::Budget;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// What a large put takes before it begins (memory.rs).
const PUT_LEAST: u64 = 3 * BLOCK + types::limits::CONNECTION_READ_BYTES_MAX as u64;

fn bench_within(bytes: u64) -> (Bench, Arc<Budget>) {
    let budget = Budget::new("test", bytes, world().clock);
    let b = bench_with(small(), 64 << 20);
    let blob = Arc::into_inner(b.blob).expect("nobody else has it yet");
    let blob = Arc::new(blob.with_budget(budget.clone()));
    (Bench { blob, ..b }, budget)
}

fn reader(b: &Bench, stored: &StoredChunks) -> blob::Reader {
    let end = stored.chunks.iter().map(|c| c.length).sum();
    b.blob
        .get(stored.blob, stored.chunks.clone(), ByteRange { start: 0, end })
}

/// I9: who takes nothing holds what is in flight to it, and the sum of it is bounded.
#[tokio::test(start_paused = true)]
async fn slow_readers_hold_a_block_each_where_memory_is_short() {
    let (b, budget) = bench_within(16 * BLOCK);
    let all = bytes(8 * BLOCK_BYTES);
    let stored = put(&b, &all, 100_000).await.unwrap();
    assert_eq!(budget.used(), 0, "a put that is over holds nothing");
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut slow = reader(&b, &stored);
        let piece = slow.next().await.unwrap().unwrap();
        assert_eq!(piece, all[..piece.len()]);
        held.push((slow, piece));
        assert!(
            budget.used() <= budget.bytes(),
            "{} bytes are taken",
            budget.used()
        );
    }
    let last = &held.last().expect("six of them").1;
    assert_eq!(last.len(), BLOCK_BYTES, "there was room for no more");
    // What is left of each is read on, one block at a time, in what it holds.
    for (mut slow, piece) in held {
        let mut got = piece.to_vec();
        drop(piece);
        while let Some(piece) = slow.next().await.unwrap() {
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, all);
    }
    assert_eq!(budget.used(), 0);
}

/// I9
#[tokio::test(start_paused = true)]
async fn who_gets_no_memory_in_time_is_told_that_the_store_is_busy() {
    let (b, budget) = bench_within(PUT_LEAST + BLOCK);
    let all = bytes(8 * BLOCK_BYTES);
    let stored = put(&b, &all, 100_000).await.unwrap();
    let mut stalled = Pieces::of(&all, BLOCK_BYTES);
    stalled.0[0].0 = 3_600_000;
    let owner = owner();
    let mut hangs = Box::pin(b.blob.put(&owner, all.len() as u64, &mut stalled));
    tokio::select! {
        biased;
        _ = &mut hangs => unreachable!("its client says nothing for an hour"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    let late = async {
        let second = put(&b, &all, 100_000).await.unwrap_err();
        let mut first = reader(&b, &stored);
        let piece = first.next().await.unwrap();
        let refused = reader(&b, &stored).next().await.unwrap_err();
        drop(piece);
        (second, refused)
    };
    let (second, refused) = tokio::select! {
        biased;
        told = late => told,
        _ = &mut hangs => unreachable!("it waits for its client first"),
    };
    assert!(
        matches!(&second, PutError::Fault(f) if f.kind == ErrorKind::Busy),
        "{second:?}"
    );
    assert_eq!(refused.kind, ErrorKind::Busy);
    drop(hangs);
    assert_eq!(budget.used(), 0);
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
}

/// I9: of very many at once each comes to its end, in the least there is.
#[tokio::test(start_paused = true)]
async fn a_crowd_gets_through_a_budget_of_one() {
    for budget_bytes in [PUT_LEAST, 2 * PUT_LEAST, 9 * PUT_LEAST] {
        let (b, budget) = bench_within(budget_bytes);
        let crowd = (0..40usize).map(|i| {
            let (b, budget) = (&b, &budget);
            async move {
                let size = [
                    1,
                    700,
                    BLOCK_BYTES,
                    2 * BLOCK_BYTES - 1,
                    300_000,
                    20 * BLOCK_BYTES + 5,
                ][i % 6];
                let all = bytes(size + i);
                let piece = [1_000, BLOCK_BYTES, 200_000][i % 3];
                let stored = put(b, &all, piece).await.unwrap();
                assert!(budget.used() <= budget.bytes(), "{} bytes", budget.used());
                assert_eq!(get_all(b, &stored).await.unwrap(), all, "{size} bytes");
            }
        });
        futures_util::future::join_all(crowd).await;
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }
}

/// A slow client whose memory is a block at a time sends chunks that are whole before they are sent, too.
#[tokio::test(start_paused = true)]
async fn chunks_are_cut_where_only_a_block_is_to_be_had() {
    let (b, _budget) = bench_within(PUT_LEAST);
    let all = bytes(6 * BLOCK_BYTES);
    let mut source = Pieces::of(&all, BLOCK_BYTES);
    source.0.iter_mut().for_each(|p| p.0 = 11_000);
    let stored = b.blob.put(&owner(), all.len() as u64, &mut source).await.unwrap();
    assert_eq!(stored.chunks.len(), 6, "a block each");
    let quick = put(&b, &all, BLOCK_BYTES).await.unwrap();
    assert_eq!(quick.chunks.len(), 1);
    for stored in [stored, quick] {
        assert_eq!(get_all(&b, &stored).await.unwrap(), all);
    }
}

/// A client is not blamed for a disk that takes its time.
#[tokio::test(start_paused = true)]
async fn whose_bytes_are_there_is_not_blamed_for_a_slow_disk() {
    let (b, _budget) = bench_within(PUT_LEAST);
    let all = bytes(8 * BLOCK_BYTES);
    b.node.fall_behind();
    let disk = async {
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            b.node.fall_behind();
        }
    };
    let stored = tokio::select! {
        stored = put(&b, &all, BLOCK_BYTES) => stored.unwrap(),
        () = disk => unreachable!("it goes on for ever"),
    };
    b.node.fall_behind();
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
}

/// I9: what is copied is counted until it is written, whoever holds it.
#[tokio::test(start_paused = true)]
async fn pieces_on_their_way_into_a_copy_are_counted() {
    let (b, budget) = bench_within(64 * BLOCK);
    let all = bytes(8 * BLOCK_BYTES);
    let stored = put(&b, &all, 100_000).await.unwrap();
    let mut reader = reader(&b, &stored).within();
    let piece = reader.next().await.unwrap().unwrap();
    drop(reader);
    assert_eq!(budget.used(), piece.len() as u64);
    assert!(
        piece.len() > BLOCK_BYTES,
        "there was room for more than its least"
    );
    drop(piece);
    assert_eq!(budget.used(), 0);
    // Where memory is short the next is read while the copy keeps this one.
    let all_taken = budget.take(world::Claim::Page, 64 * BLOCK).await.unwrap();
    let mut reader = self::reader(&b, &stored).within();
    let mut kept = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(piece.len() <= BLOCK_BYTES);
        kept.push(piece);
    }
    assert_eq!(kept.concat(), all);
    drop(all_taken);
}

/// I9: blocks are read whole, and an object of very many chunks has a long list of places.
#[tokio::test(start_paused = true)]
async fn a_read_is_counted_as_what_it_holds() {
    let (b, budget) = bench_within(256 * BLOCK);
    let stored = put(&b, &bytes(2 * BLOCK_BYTES), 100_000).await.unwrap();
    let one = ByteRange { start: 9, end: 10 };
    let used = async |chunks: Vec<_>, range| {
        let mut reader = b.blob.get(stored.blob, chunks, range);
        assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
        budget.used()
    };
    assert_eq!(used(stored.chunks.clone(), one).await, BLOCK);
    let small = put(&b, &bytes(700), 700).await.unwrap();
    let mut reader = b.blob.get(small.blob, small.chunks.clone(), one);
    assert_eq!(reader.next().await.unwrap().unwrap().len(), 1);
    assert_eq!(budget.used(), 700);
    drop(reader);
    let many: Vec<_> = (0..80_000).map(|_| stored.chunks[0]).collect();
    let end = 80_000 * 2 * BLOCK;
    let mut reader = b.blob.get(stored.blob, many.clone(), ByteRange { start: 0, end });
    let piece = reader.next().await.unwrap().unwrap();
    let of_chunks = (80_000 * size_of::<wire::records::Chunk>()) as u64;
    assert!(
        budget.used() >= of_chunks + piece.len() as u64,
        "{}",
        budget.used()
    );
    drop((reader, piece));
    // Of a range only those it is in.
    let late = ByteRange {
        start: end - 7 * BLOCK,
        end: end - 7 * BLOCK + 1,
    };
    assert_eq!(used(many, late).await, BLOCK);
}
