//! Objects of very many chunks: their list of places is memory that is counted, and kept no longer than it is read by (I9).

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use objects::{CopyObject, Opened};
use support::*;
use types::ByteRange;
use types::limits::{BLOCK_BYTES, CONNECTION_READ_BYTES_MAX};
use wire::index::{Precondition, VersionRef};
use wire::records::object_record::Data;
use wire::records::{Chunk, ContentHeaders, Manifest, ManifestPage, Part};
use world::{Budget, Claim};

const CHUNKS: u64 = 1_000;
const CHUNK_LENGTH: u64 = 2_000;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A bench with an object `k` of the same chunk over and over.
async fn bench_with_many() -> Bench {
    bench_with(0).await
}

async fn bench_with(parts: u64) -> Bench {
    let b = bench().await;
    b.put("k", &bytes(CHUNK_LENGTH as usize)).await.unwrap();
    {
        let mut state = b.index.state();
        let found = state.objects.values_mut().next().expect("an object");
        let Some(Data::Chunks(chunks)) = found.record.data.take() else {
            panic!("it has a chunk");
        };
        let chunk = chunks.chunks[0];
        found.record.size = CHUNKS * chunk.length;
        found.record.etag_md5.clear();
        found.record.checksums.clear();
        let manifest = Manifest {
            pages: 1,
            chunks: CHUNKS,
            parts,
        };
        found.record.data = Some(Data::Manifest(manifest));
        found.manifest = vec![ManifestPage {
            chunks: (0..CHUNKS).map(|_| chunk).collect(),
            parts: (0..parts).map(|_| Part::default()).collect(),
        }];
    }
    b
}

async fn open(b: &Bench) -> Opened {
    let (bucket, key) = (name(), key("k"));
    let opened = b.objects.get(&CALLER, &bucket, &key, VersionRef::Current);
    opened.await.unwrap()
}

#[tokio::test]
async fn places_are_counted_and_those_of_a_range_alone_are_kept() {
    let b = bench_with_many().await;
    let of_chunks = CHUNKS * size_of::<Chunk>() as u64;
    let used = || b.objects.budget().used();
    let mut opened = open(&b).await;
    assert!(
        used() >= BLOCK + 2 * of_chunks,
        "as decoded, and as a list: {}",
        used()
    );
    opened.reader.next().await.unwrap().unwrap();
    assert!(used() >= BLOCK + of_chunks, "{}", used());
    drop(opened);
    assert_eq!(used(), 0);
    let mut opened = open(&b).await;
    let start = CHUNK_LENGTH * (CHUNKS - 1) + 5;
    opened
        .reader
        .select(ByteRange {
            start,
            end: start + 1,
        })
        .unwrap();
    let got = opened.reader.next().await.unwrap().unwrap();
    assert_eq!((&got[..], used()), (&bytes(6)[5..], BLOCK));
    drop((got, opened));
    assert_eq!(used(), 0);
}

fn to_copy() -> CopyObject {
    CopyObject {
        bucket: name(),
        key: key("copy"),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        precondition: Precondition::default(),
    }
}

/// Who waits holds nothing.
#[tokio::test]
async fn a_copy_takes_its_sources_places_with_its_own_memory() {
    let b = bench_with_many().await;
    let source = open(&b).await;
    let begun = b.objects.budget().used();
    let watched = async {
        tokio::task::yield_now().await;
        let mut seen = Vec::new();
        while seen.len() < 50 {
            tokio::task::yield_now().await;
            seen.push(b.objects.budget().used());
        }
        seen
    };
    let (done, seen) = tokio::join!(b.objects.copy(&CALLER, source, to_copy()), watched);
    done.unwrap();
    let of_chunks = CHUNKS * size_of::<Chunk>() as u64;
    assert!(begun > 2 * of_chunks);
    let least = of_chunks + 4 * BLOCK + CONNECTION_READ_BYTES_MAX as u64;
    assert!(seen.iter().any(|used| *used >= least), "{seen:?}");
    assert_eq!(b.objects.budget().used(), 0);
}

/// It takes once, before its source's tables are read, and goes on in that past whoever waits; the parts it has no use for.
#[tokio::test(start_paused = true)]
async fn a_copy_waits_once_and_then_has_all_that_it_needs() {
    const PARTS: u64 = 10_000;
    let b = bench_with(PARTS).await;
    let budget = Budget::new("test", 16 << 20, world().clock);
    let objects = gateway_in(&b.node, &b.index, OTHER_SESSION, budget.clone());
    let (bucket, source) = (name(), key("k"));
    let all = budget.take(Claim::Read, budget.bytes()).await.unwrap();
    let opening = objects.get_to_copy(&CALLER, &bucket, &source, VersionRef::Current);
    let given_back = async {
        tokio::task::yield_now().await;
        drop(all);
    };
    let (opened, ()) = tokio::join!(opening, given_back);
    let opened = opened.unwrap();
    assert!(opened.parts.is_empty());
    let tables = CHUNKS * size_of::<Chunk>() as u64 + PARTS * size_of::<Part>() as u64;
    let least = 4 * BLOCK + CONNECTION_READ_BYTES_MAX as u64;
    assert!(budget.used() >= tables + least, "{}", budget.used());
    let mut behind = Box::pin(budget.take(Claim::Read, budget.bytes()));
    assert!(futures_util::poll!(&mut behind).is_pending());
    objects.copy(&CALLER, opened, to_copy()).await.unwrap();
    drop(behind.await.unwrap());
    assert_eq!(budget.used(), 0);
}
