//! Clients of every pace: what they hold, and whom they hold up.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_slow_client_sends_chunks_that_are_whole_before_they_are_sent() {
    let b = bench();
    let all = bytes(8 * BLOCK_BYTES);
    let mut source = Pieces::of(&all, BLOCK_BYTES);
    source.0.iter_mut().for_each(|p| p.0 = 40_000);
    let stored = b.blob.put(&owner(), all.len() as u64, &mut source).await.unwrap();
    assert_eq!(stored.chunks.len(), 4, "a frame each");
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
    let mut source = Pieces::of(&all, BLOCK_BYTES);
    source.0.iter_mut().for_each(|p| p.0 = 2_500);
    let stored = b.blob.put(&owner(), all.len() as u64, &mut source).await.unwrap();
    assert_eq!(stored.chunks.len(), 2, "two frames in ten seconds");
}

/// Chunks of up to 64 frames, two extents for large ones.
fn wide() -> Config {
    Config {
        chunk_bytes_max: 128 * BLOCK_BYTES as u64,
        ..small()
    }
}

/// 64 frames: the first at once, each other after `pause_ms`.
fn dawdling(pause_ms: u64) -> (u64, Pieces) {
    let all = bytes(128 * BLOCK_BYTES);
    let mut source = Pieces::of(&all, 2 * BLOCK_BYTES);
    source.0.iter_mut().skip(1).for_each(|p| p.0 = pause_ms);
    (all.len() as u64, source)
}

async fn dawdle(b: &Bench, pause_ms: u64) -> Result<StoredChunks, PutError<()>> {
    let (length, mut source) = dawdling(pause_ms);
    b.blob.put(&owner(), length, &mut source).await
}

#[tokio::test(start_paused = true)]
async fn those_who_dawdle_give_way_to_those_who_wait() {
    let b = bench_with(wide(), 64 << 20);
    let begun = tokio::time::Instant::now();
    let dawdlers = async { tokio::join!(dawdle(&b, 14_000), dawdle(&b, 14_000)) };
    let quick = async {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let all = bytes(600_000);
        let stored = put(&b, &all, 50_000).await.unwrap();
        assert_eq!(get_all(&b, &stored).await.unwrap(), all);
        begun.elapsed()
    };
    let (dawdlers, waited) = tokio::join!(dawdlers, quick);
    assert!(waited < Duration::from_secs(31), "{waited:?}");
    assert!(
        matches!(
            dawdlers,
            (Err(PutError::Stalled), _) | (_, Err(PutError::Stalled))
        ),
        "{dawdlers:?}"
    );
}

/// As uploads do that share a line: all of them at once, and each of them slowly.
#[tokio::test(start_paused = true)]
async fn a_crowd_on_a_slow_line_is_not_told_that_it_dawdles() {
    let b = bench_with(wide(), 64 << 20);
    let first = async { tokio::join!(dawdle(&b, 150), dawdle(&b, 150)) };
    let crowd = async {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        futures_util::future::join_all((0..6).map(|_| dawdle(&b, 700))).await
    };
    let (first, crowd) = tokio::join!(first, crowd);
    assert!(first.0.is_ok() && first.1.is_ok(), "{first:?}");
    assert!(crowd.iter().all(Result::is_ok), "{crowd:?}");
}

#[tokio::test(start_paused = true)]
async fn who_holds_nobody_up_may_dawdle() {
    let b = bench_with(wide(), 64 << 20);
    let stored = dawdle(&b, 14_000).await.unwrap();
    assert_eq!(stored.chunks.len(), 1);
}

/// Of a copy.
struct Ours(Pieces);

impl Source for Ours {
    type Error = ();
    async fn next(&mut self) -> Result<Option<Bytes>, ()> {
        self.0.next().await
    }
    fn is_ours(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hurries_our_own_disks_but_who_waits() {
    let b = bench_with(wide(), 64 << 20);
    let copy = async || {
        let (length, source) = dawdling(20_000);
        b.blob.put(&owner(), length, &mut Ours(source)).await
    };
    assert!(
        matches!(dawdle(&b, 20_000).await, Err(PutError::Stalled)),
        "a client"
    );
    copy().await.unwrap();
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        put(&b, &bytes(600_000), 50_000).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(copy(), copy(), waiting);
    let stalled = |r: &Result<_, _>| matches!(r, Err(PutError::Stalled));
    assert!(stalled(&first) || stalled(&second), "{first:?} {second:?}");
}

/// What takes its digests is slow with each frame.
struct Laboured(Pieces);

impl Source for Laboured {
    type Error = ();
    async fn next(&mut self) -> Result<Option<Bytes>, ()> {
        self.0.next().await
    }
    async fn frame(&mut self, _frame: &Bytes) -> Result<(), ()> {
        tokio::time::sleep(Duration::from_millis(4_000)).await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_slow_because_the_process_is() {
    let b = bench();
    let all = bytes(24 * BLOCK_BYTES);
    let mut source = Pieces::of(&all, BLOCK_BYTES);
    let quick = b.blob.put(&owner(), all.len() as u64, &mut source).await.unwrap();
    let mut source = Laboured(Pieces::of(&all, BLOCK_BYTES));
    let slow = b.blob.put(&owner(), all.len() as u64, &mut source).await.unwrap();
    assert_eq!(slow.chunks.len(), quick.chunks.len());
}

/// Whoever takes its digests waits before one of its frames for longer than any call may take.
struct Hashed {
    pieces: Pieces,
    /// How many frames come before that one.
    before: usize,
    shown: Vec<u8>,
}

impl Source for Hashed {
    type Error = ();
    async fn next(&mut self) -> Result<Option<Bytes>, ()> {
        self.pieces.next().await
    }
    async fn frame(&mut self, frame: &Bytes) -> Result<(), ()> {
        if self.before == 0 {
            tokio::time::sleep(Duration::from_millis(types::limits::CALL_MS_MAX + 1_000)).await;
        }
        self.before = self.before.wrapping_sub(1);
        self.shown.extend_from_slice(frame);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn no_frame_is_lost_while_the_process_is_slow_to_hash() {
    // Twelve frames in three chunks.
    let all = bytes(24 * BLOCK_BYTES);
    for before in 0..12 {
        let b = bench();
        let mut source = Hashed {
            pieces: Pieces::of(&all, BLOCK_BYTES),
            before,
            shown: Vec::new(),
        };
        let stored = b.blob.put(&owner(), all.len() as u64, &mut source).await;
        let stored = stored.unwrap_or_else(|e| panic!("frame {before}: {e:?}"));
        assert!(source.shown == all, "frame {before}: shown once, in order");
        assert!(get_all(&b, &stored).await.unwrap() == all, "frame {before}");
        assert!(
            b.extents.sealed.lock().unwrap().is_empty(),
            "frame {before}: nothing is wrong with its extent"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_extent_for_ever() {
    let b = bench_with(wide(), 64 << 20);
    let begun = tokio::time::Instant::now();
    let all = futures_util::future::join_all((0..12).map(|_| dawdle(&b, 10_000))).await;
    let busy = |r: &Result<_, _>| matches!(r, Err(PutError::Fault(f)) if f.kind == ErrorKind::Busy);
    assert!(all.iter().any(busy), "{all:?}");
    assert!(all.iter().any(Result::is_ok), "whoever is left is served");
    let most = Duration::from_secs(2 * 45 + 64 * 10);
    assert!(begun.elapsed() <= most, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_waited_for_us_says_nothing_of_the_pace() {
    let b = bench_with(wide(), 64 << 20);
    let all = bytes(256 * BLOCK_BYTES);
    let mut source = Pieces::of(&all, 2 * BLOCK_BYTES);
    // The first frame of each full chunk stands in the socket's buffer already.
    let late = source.0.iter_mut().enumerate().filter(|(i, _)| i % 64 != 0);
    late.for_each(|(_, p)| p.0 = 1_000);
    let stored = b.blob.put(&owner(), all.len() as u64, &mut source).await.unwrap();
    let frames: Vec<u64> = stored
        .chunks
        .iter()
        .map(|c| c.length / (2 * BLOCK_BYTES as u64))
        .collect();
    assert_eq!(frames, [64, 10, 10, 10, 10, 10, 10, 4]);
}
