//! Objects of very many chunks: their list of places is memory that is counted, and kept no longer than it is read by (I9).

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use objects::{CopyObject, Opened};
use support::*;
use types::ByteRange;
use types::limits::{BLOCK_BYTES, CONNECTION_READ_BYTES_MAX};
use wire::index::{Precondition, VersionRef};
use wire::records::object_record::Data;
use wire::records::{Chunk, ContentHeaders, Manifest, ManifestPage};

const CHUNKS: u64 = 1_000;
const CHUNK_LENGTH: u64 = 2_000;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A bench with an object `k` of the same chunk over and over.
async fn bench_with_many() -> Bench {
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
            parts: 0,
        };
        found.record.data = Some(Data::Manifest(manifest));
        found.manifest = vec![ManifestPage {
            chunks: (0..CHUNKS).map(|_| chunk).collect(),
            ..ManifestPage::default()
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

/// Who waits holds nothing.
#[tokio::test]
async fn a_copy_takes_its_sources_places_with_its_own_memory() {
    let b = bench_with_many().await;
    let source = open(&b).await;
    let copy = CopyObject {
        bucket: name(),
        key: key("copy"),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        precondition: Precondition::default(),
    };
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
    let (done, seen) = tokio::join!(b.objects.copy(&CALLER, source, copy), watched);
    done.unwrap();
    let of_chunks = CHUNKS * size_of::<Chunk>() as u64;
    assert!(begun > 2 * of_chunks);
    let least = of_chunks + 4 * BLOCK + CONNECTION_READ_BYTES_MAX as u64;
    assert!(seen.iter().any(|used| *used >= least), "{seen:?}");
    assert_eq!(b.objects.budget().used(), 0);
}
