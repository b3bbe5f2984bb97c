//! Blobs down and up again over an honest node in memory, with small sizes, failures and stalls.
#![allow(clippy::disallowed_methods, reason = "the paused clock is tokio's")]

mod memory;
mod pace;
mod reclaim;

use blob::{Blob, Config, PutError, Source};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use types::limits::BLOCK_BYTES;
use types::{BucketId, ByteRange, DiskId, Epoch, ErrorKind, ExtentId, NeedleId, NodeId, SessionId};
use wire::Fault;
use wire::control::{Control, Grant, Location};
use wire::double::{Failure, MemoryNode, On};
use wire::index::StoredChunks;
use wire::node::{Node, OwnerRef};
use world::{Clock, World};

/// The runtime's clock, which tests may pause.
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn wall_ms(&self) -> u64 {
        1_000_000 + self.mono().as_millis() as u64
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(d))
    }
}

fn world() -> World {
    World {
        clock: Arc::new(RuntimeClock(tokio::time::Instant::now())),
        ..World::real()
    }
}

const DISK: DiskId = DiskId(7);
const NODE: NodeId = NodeId(1);

/// Gives extents with growing numbers, as the control plane does.
struct Extents {
    node: MemoryNode,
    bytes_max: u64,
    last: AtomicU64,
    sealed: Mutex<BTreeSet<ExtentId>>,
    refuse: Mutex<Option<Fault>>,
}

#[async_trait::async_trait]
impl Control for Extents {
    async fn begin_session(&self, _host: &str) -> Result<SessionId, Fault> {
        Ok(SessionId(1))
    }
    async fn end_session(&self, _session: SessionId) -> Result<(), Fault> {
        Ok(())
    }
    async fn grant(&self, _session: SessionId) -> Result<Grant, Fault> {
        if let Some(fault) = self.refuse.lock().unwrap().clone() {
            return Err(fault);
        }
        let extent = ExtentId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        tokio::task::yield_now().await;
        self.node
            .open_extent(DISK, extent, Epoch(1), self.bytes_max)
            .await?;
        let (epoch, replicas, bytes_max) = (Epoch(1), vec![(NODE, DISK)], self.bytes_max);
        Ok(Grant {
            extent,
            epoch,
            replicas,
            bytes_max,
        })
    }
    async fn seal(&self, extent: ExtentId, epoch: Epoch) -> Result<(), Fault> {
        self.sealed.lock().unwrap().insert(extent);
        self.node.seal(extent, epoch.next()).await.map(|_| ())
    }
    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault> {
        if extent.0 == 0 || extent.0 > self.last.load(Ordering::Relaxed) {
            return Err(Fault::new(ErrorKind::NotFound, "never was"));
        }
        Ok(Location {
            extent,
            replicas: vec![(NODE, DISK)],
        })
    }
    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        Ok(Vec::new())
    }
}

struct Bench {
    node: MemoryNode,
    extents: Arc<Extents>,
    blob: Arc<Blob>,
}

/// Chunks of four frames of two blocks.
fn small() -> Config {
    Config {
        chunk_bytes_max: 8 * BLOCK_BYTES as u64,
        frame_bytes_max: 2 * BLOCK_BYTES,
        small_bytes_max: BLOCK_BYTES / 2,
        extents_max: 3,
        read_ahead_frames: 3,
        resend_bytes_max: 4 * BLOCK_BYTES,
        ..Config::default()
    }
}

fn bench_with(config: Config, extent_bytes: u64) -> Bench {
    let node = MemoryNode::new(DISK, extent_bytes);
    let extents = Arc::new(Extents {
        node: node.clone(),
        bytes_max: extent_bytes,
        last: AtomicU64::new(0),
        sealed: Mutex::default(),
        refuse: Mutex::default(),
    });
    let nodes: BTreeMap<NodeId, Arc<dyn Node>> =
        BTreeMap::from([(NODE, Arc::new(node.clone()) as Arc<dyn Node>)]);
    let control: Arc<dyn Control> = Arc::clone(&extents) as Arc<dyn Control>;
    let blob = Arc::new(Blob::with_config(world(), control, nodes, SessionId(3), config));
    Bench { node, extents, blob }
}

fn bench() -> Bench {
    bench_with(small(), 64 << 20)
}

fn owner() -> OwnerRef {
    OwnerRef {
        bucket: BucketId(1),
        key: "k".into(),
        upload: None,
    }
}

/// Bytes that differ everywhere.
fn bytes(length: usize) -> Bytes {
    let mut x = 0x2545_f491_4f6c_dd1du64 ^ length as u64;
    (0..length)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect::<Vec<u8>>()
        .into()
}

/// Gives pieces; a pause of this many milliseconds before some of them.
struct Pieces(VecDeque<(u64, Bytes)>);

impl Pieces {
    fn of(all: &Bytes, piece: usize) -> Self {
        let mut all = all.clone();
        let mut pieces = VecDeque::new();
        while !all.is_empty() {
            pieces.push_back((0, all.split_to(piece.min(all.len()))));
        }
        Self(pieces)
    }
}

impl Source for Pieces {
    type Error = ();
    async fn next(&mut self) -> Result<Option<Bytes>, ()> {
        let Some((pause_ms, piece)) = self.0.pop_front() else {
            return Ok(None);
        };
        if pause_ms > 0 {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        tokio::task::yield_now().await;
        if piece.is_empty() {
            Err(())
        } else {
            Ok(Some(piece))
        }
    }
}

async fn put(b: &Bench, all: &Bytes, piece: usize) -> Result<StoredChunks, PutError<()>> {
    b.blob
        .put(&owner(), all.len() as u64, &mut Pieces::of(all, piece))
        .await
}

async fn get(b: &Bench, stored: &StoredChunks, range: ByteRange) -> Result<Bytes, Fault> {
    let mut reader = b.blob.get(stored.blob, stored.chunks.clone(), range);
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await? {
        assert!(!piece.is_empty());
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}

async fn get_all(b: &Bench, stored: &StoredChunks) -> Result<Bytes, Fault> {
    let end = stored.chunks.iter().map(|c| c.length).sum();
    get(b, stored, ByteRange { start: 0, end }).await
}

/// Sizes at the edges of blocks, frames and chunks.
fn sizes() -> impl Strategy<Value = usize> {
    let edge = prop_oneof![
        Just(0),
        Just(BLOCK_BYTES / 2),
        Just(BLOCK_BYTES),
        Just(2 * BLOCK_BYTES),
        Just(8 * BLOCK_BYTES),
        Just(16 * BLOCK_BYTES)
    ];
    prop_oneof![
        0..20 * BLOCK_BYTES,
        (edge, -2..3i64).prop_map(|(e, d)| (e as i64 + d).max(0) as usize)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_range_comes_back(
        size in sizes(),
        piece in prop_oneof![1000..200_000usize, Just(usize::MAX)],
        (a, b) in any::<(u64, u64)>(),
        // What of each needle is in memory, and whether that is as it was written.
        warm in (prop_oneof![Just(0), 1..9usize, Just(usize::MAX)], any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = bench();
            let all = bytes(size);
            let stored = put(&bench, &all, piece).await.unwrap();
            bench.node.warm(warm.0, warm.1);
            prop_assert_eq!(stored.chunks.iter().map(|c| c.length).sum::<u64>(), size as u64);
            prop_assert_eq!(stored.chunks.len(), size.div_ceil(8 * BLOCK_BYTES));
            let (a, b) = (a % (size as u64 + 1), b % (size as u64 + 1));
            let range = ByteRange { start: a.min(b), end: a.max(b) };
            let part = get(&bench, &stored, range).await.unwrap();
            prop_assert_eq!(&part[..], &all[range.start as usize..range.end as usize]);
            prop_assert_eq!(get_all(&bench, &stored).await.unwrap(), all);
            Ok(())
        })?;
    }

    #[test]
    fn no_failure_breaks_what_is_answered(
        size in sizes(),
        failures in proptest::collection::vec((0..5usize, any::<bool>(), 0..4usize), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bench = bench();
            for (on, before, kind) in failures {
                let kind = [ErrorKind::Conflict, ErrorKind::Unavailable, ErrorKind::Unknown, ErrorKind::Busy][kind];
                let failure = if before { Failure::Before(kind) } else { Failure::After(kind) };
                bench.node.plan([On::Append, On::Begin, On::Frame, On::Finish, On::Seal][on], [failure]);
            }
            let all = bytes(size);
            match put(&bench, &all, 30_000).await {
                Ok(stored) => prop_assert_eq!(get_all(&bench, &stored).await.unwrap(), all),
                Err(PutError::Fault(f)) => prop_assert!(matches!(f.kind, ErrorKind::Unavailable | ErrorKind::Busy), "{f}"),
                Err(other) => prop_assert!(false, "{other}"),
            }
            Ok(())
        })?;
    }
}

/// What is in memory is read there, up to what is not; from there on all is asked for, and nothing twice.
#[tokio::test]
async fn what_is_in_memory_is_not_asked_for() {
    let b = bench();
    let all = bytes(8 * BLOCK_BYTES);
    let stored = put(&b, &all, usize::MAX).await.unwrap();
    for (blocks, reads) in [(usize::MAX, 0), (0, 4), (4, 2), (3, 3)] {
        b.node.warm(blocks, false);
        let before = b.node.calls(On::Read);
        assert_eq!(get_all(&b, &stored).await.unwrap(), all);
        assert_eq!(b.node.calls(On::Read) - before, reads, "{blocks} in memory");
    }
}

/// Copying and checking what is in memory takes time that others on this thread wait for, too.
#[tokio::test]
async fn others_have_their_turn_while_much_is_in_memory() {
    let b = bench();
    let all = bytes(64 * BLOCK_BYTES);
    let stored = put(&b, &all, usize::MAX).await.unwrap();
    b.node.warm(usize::MAX, false);
    let mut reading = pin!(get_all(&b, &stored));
    let mut turns = 0;
    let read = poll_fn(|cx| {
        turns += 1;
        reading.as_mut().poll(cx)
    });
    assert_eq!(read.await.unwrap(), all);
    assert_eq!(turns, 4, "32 frames, of which one does not wait for 8 others");
}

#[tokio::test]
async fn a_small_body_is_one_append_and_ordered() {
    let b = bench();
    let stored = put(&b, &bytes(100), 100).await.unwrap();
    assert_eq!((b.node.calls(On::Append), b.node.calls(On::Begin)), (1, 0));
    assert_eq!((stored.chunks.len(), stored.ordered.len()), (1, 1));
    assert_eq!(stored.blob.session(), SessionId(3));
    let again = put(&b, &bytes(100), 100).await.unwrap();
    assert_eq!(
        again.chunks[0].place, stored.chunks[0].place,
        "small appends share an extent"
    );
    assert_ne!(again.blob, stored.blob);
}

#[tokio::test]
async fn a_disk_whose_journal_has_no_log_is_waited_for() {
    let b = bench_with(
        Config {
            ordered_disks: Some(BTreeSet::new()),
            ..small()
        },
        64 << 20,
    );
    assert_eq!(put(&b, &bytes(100), 100).await.unwrap().ordered, []);
    assert_eq!(put(&b, &bytes(600_000), 100_000).await.unwrap().ordered, []);
}

#[tokio::test]
async fn the_newest_place_of_a_journal_stands_for_all() {
    let b = bench();
    let stored = put(&b, &bytes(20 * BLOCK_BYTES), 100_000).await.unwrap();
    assert_eq!((stored.chunks.len(), stored.ordered.len()), (3, 1));
    assert_eq!(stored.ordered[0].sequence.0, 3);
}

#[tokio::test]
async fn a_range_reads_only_its_blocks() {
    let b = bench();
    let stored = put(&b, &bytes(8 * BLOCK_BYTES), 100_000).await.unwrap();
    let (extent, needle, _) = b.node.needles_of(stored.blob)[0];
    b.node.damage(extent, needle, 5 * BLOCK_BYTES);
    let block = BLOCK_BYTES as u64;
    get(
        &b,
        &stored,
        ByteRange {
            start: 0,
            end: 5 * block,
        },
    )
    .await
    .unwrap();
    get(
        &b,
        &stored,
        ByteRange {
            start: 6 * block,
            end: 8 * block,
        },
    )
    .await
    .unwrap();
    let bad = get(
        &b,
        &stored,
        ByteRange {
            start: 5 * block + 9,
            end: 5 * block + 10,
        },
    )
    .await
    .unwrap_err();
    assert_eq!(bad.kind, ErrorKind::Corrupt);
    assert!(bad.what.contains("block 5"), "{bad}");
}

/// I5
#[tokio::test]
async fn no_damaged_byte_is_handed_out() {
    let b = bench();
    for size in [1, 100, BLOCK_BYTES + 1, 9 * BLOCK_BYTES] {
        let all = bytes(size);
        let stored = put(&b, &all, 100_000).await.unwrap();
        let (extent, needle, ordinal) = *b.node.needles_of(stored.blob).last().unwrap();
        b.node.damage(extent, needle, 0);
        let mut reader = b.blob.get(
            stored.blob,
            stored.chunks.clone(),
            ByteRange {
                start: 0,
                end: size as u64,
            },
        );
        let mut good = 0;
        let fault = loop {
            match reader.next().await {
                Ok(piece) => good += piece.expect("an error comes before the end").len(),
                Err(fault) => break fault,
            }
        };
        assert_eq!(
            (fault.kind, good as u64),
            (ErrorKind::Corrupt, u64::from(ordinal) * small().chunk_bytes_max)
        );
    }
}

/// I5: whole blocks of another needle fit their own crcs, but not the record.
#[tokio::test]
async fn another_needles_bytes_are_not_handed_out() {
    let b = bench();
    let one = put(&b, &bytes(3000), 3000).await.unwrap();
    let mut other = bytes(3000).to_vec();
    other.reverse();
    let two = put(&b, &other.into(), 3000).await.unwrap();
    let at = |s: &StoredChunks| (ExtentId(s.chunks[0].place), NeedleId(s.chunks[0].needle));
    b.node.confuse(at(&one).0, at(&one).1, at(&two).1);
    assert_eq!(get_all(&b, &one).await.unwrap_err().kind, ErrorKind::Corrupt);
    get_all(&b, &two).await.unwrap();
}

/// I5: a part of a needle fits no crc of the record's; its header says whose it is.
#[tokio::test]
async fn a_record_that_names_another_blobs_needle_gets_nothing() {
    let b = bench();
    let size = 2 * BLOCK_BYTES;
    let one = put(&b, &bytes(size), 3000).await.unwrap();
    let two = put(&b, &bytes(size), 3000).await.unwrap();
    let range = ByteRange { start: 5, end: 10 };
    let wrong = StoredChunks {
        blob: one.blob,
        ..two.clone()
    };
    assert_eq!(get(&b, &wrong, range).await.unwrap_err().kind, ErrorKind::Corrupt);
    assert_eq!(get(&b, &two, range).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_missing_needle_is_damage_not_absence() {
    let b = bench();
    let mut stored = put(&b, &bytes(3000), 3000).await.unwrap();
    stored.chunks[0].needle = 77;
    assert_eq!(get_all(&b, &stored).await.unwrap_err().kind, ErrorKind::Corrupt);
    stored.chunks[0].place = 77;
    assert_eq!(get_all(&b, &stored).await.unwrap_err().kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_body_of_which_only_the_end_tells_the_length() {
    let b = bench();
    let frame = 2 * BLOCK_BYTES;
    for sure in [
        0,
        1,
        10,
        frame,
        3 * frame,
        8 * BLOCK_BYTES,
        8 * BLOCK_BYTES + 1,
        700_000,
    ] {
        for more in [0, 1, 1000, frame - 1] {
            let all = bytes(sure + more);
            for piece in [777, 100_000, usize::MAX] {
                let mut source = Pieces::of(&all, piece);
                let (stored, length) = b
                    .blob
                    .put_to_end(&owner(), sure as u64, &mut source)
                    .await
                    .unwrap();
                assert_eq!(length, all.len() as u64, "{sure} + {more} by {piece}");
                assert!(
                    get_all(&b, &stored).await.unwrap() == all,
                    "{sure} + {more} by {piece}"
                );
                // Whoever rebuilds it from its needles must be able to see its end.
                let flags = b.node.last_flags(stored.blob);
                assert_eq!(flags.len(), stored.chunks.len());
                assert_eq!(
                    flags.iter().filter(|last| **last).count(),
                    usize::from(length > 0)
                );
                assert!(flags.last().is_none_or(|last| *last));
            }
        }
    }
    // More than a frame past what was sure, and less than what was.
    for (sure, size) in [(10, 10 + frame + 1), (1000, 900)] {
        let answer = b
            .blob
            .put_to_end(&owner(), sure as u64, &mut Pieces::of(&bytes(size), 500))
            .await;
        assert!(matches!(answer, Err(PutError::Length { .. })), "{sure} of {size}");
    }
}

#[tokio::test]
async fn bodies_that_lie_about_their_length_are_not_stored() {
    let b = bench();
    for size in [0, 10, 600_000] {
        let all = bytes(size);
        for said in [size as u64 + 1, (size as u64).saturating_sub(1)] {
            if said == size as u64 {
                continue;
            }
            let answer = b.blob.put(&owner(), said, &mut Pieces::of(&all, 1000)).await;
            assert!(
                matches!(answer, Err(PutError::Length { .. })),
                "{size} bytes where {said} were said"
            );
        }
    }
}

#[tokio::test]
async fn a_source_that_fails_fails_the_put_and_frees_its_extent() {
    let b = bench();
    let all = bytes(600_000);
    for _ in 0..5 {
        let mut source = Pieces::of(&all, 50_000);
        source.0[9].1 = Bytes::new();
        assert!(matches!(
            b.blob.put(&owner(), 600_000, &mut source).await,
            Err(PutError::Source(()))
        ));
    }
    assert_eq!(b.blob.open_extents(), 1, "what failed uploads held is used again");
    put(&b, &all, 50_000).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stalled_client_holds_no_extent() {
    let b = bench();
    let all = bytes(600_000);
    let mut source = Pieces::of(&all, 50_000);
    source.0[9].0 = 120_000;
    assert!(matches!(
        b.blob.put(&owner(), 600_000, &mut source).await,
        Err(PutError::Stalled)
    ));
    put(&b, &all, 50_000).await.unwrap();
    assert_eq!(b.blob.open_extents(), 1);
}

#[tokio::test]
async fn a_put_dropped_midway_frees_its_extent() {
    let b = bench();
    let all = bytes(600_000);
    for polls in 1..20 {
        let mut source = Pieces::of(&all, 50_000);
        let owner = owner();
        let mut put = Box::pin(b.blob.put(&owner, 600_000, &mut source));
        for _ in 0..polls {
            if futures_util::poll!(put.as_mut()).is_ready() {
                break;
            }
        }
    }
    put(&b, &all, 50_000).await.unwrap();
    assert!(b.blob.open_extents() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_costs_an_extent_not_a_byte() {
    let b = bench();
    b.node.plan(On::Append, [Failure::After(ErrorKind::Unknown)]);
    let all = bytes(100);
    let stored = put(&b, &all, 100).await.unwrap();
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
    assert_eq!(
        b.extents.sealed.lock().unwrap().len(),
        1,
        "after a failure the extent is sealed"
    );
    assert_eq!(b.node.needles_of(stored.blob).len(), 2, "the first is an orphan");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_past_the_kept_bytes_fails_instead_of_lying() {
    let b = bench();
    let all = bytes(8 * BLOCK_BYTES);
    b.node.plan(On::Finish, [Failure::Before(ErrorKind::Unavailable)]);
    let Err(PutError::Fault(fault)) = put(&b, &all, 50_000).await else {
        panic!("its bytes are gone")
    };
    assert_eq!(fault.kind, ErrorKind::Unavailable);
    let stored = put(&b, &all, 50_000).await.unwrap();
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_always_fails_is_given_up() {
    let b = bench();
    b.node
        .plan(On::Append, [Failure::Before(ErrorKind::Conflict); 20]);
    let Err(PutError::Fault(fault)) = put(&b, &bytes(100), 100).await else {
        panic!("it never took a byte")
    };
    assert_eq!(
        (fault.kind, b.node.calls(On::Append)),
        (ErrorKind::Unavailable, 5)
    );
}

#[tokio::test]
async fn full_is_told_as_full() {
    let b = bench();
    put(&b, &bytes(100), 100).await.unwrap();
    b.node.refuse(Some(Fault::new(ErrorKind::Full, "full")));
    *b.extents.refuse.lock().unwrap() = Some(Fault::new(ErrorKind::Full, "full"));
    for size in [100, 600_000] {
        let Err(PutError::Fault(fault)) = put(&b, &bytes(size), 1000).await else {
            panic!("the disk is full")
        };
        assert_eq!(fault.kind, ErrorKind::Full);
    }
    assert_eq!(b.node.calls(On::Seal), 0, "a full disk loses no extent");
    b.node.refuse(None);
    put(&b, &bytes(100), 100).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn small_extents_get_small_chunks_and_are_left_when_full() {
    let b = bench_with(small(), 6 * BLOCK_BYTES as u64);
    let all = bytes(30 * BLOCK_BYTES);
    let stored = put(&b, &all, 50_000).await.unwrap();
    assert!(stored.chunks.iter().all(|c| c.length <= 4 * BLOCK_BYTES as u64));
    assert_eq!(get_all(&b, &stored).await.unwrap(), all);
}

#[tokio::test]
async fn many_at_once_share_few_extents() {
    let b = bench();
    let sizes = [100, 600_000, 3000, 900_000, 200_000, 50];
    let puts = (0..60).map(|i| {
        let b = &b;
        async move {
            let all = bytes(sizes[i % sizes.len()] + i);
            let stored = put(b, &all, 40_000).await.unwrap();
            assert_eq!(get_all(b, &stored).await.unwrap(), all);
        }
    });
    futures_util::future::join_all(puts).await;
    assert!(b.blob.open_extents() <= small().extents_max);
}
