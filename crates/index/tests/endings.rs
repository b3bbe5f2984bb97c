//! Uploads whose end is too much for one commit.

mod gateway;

use bytes::Bytes;
use gateway::{Gateway, key, part, stored, walked};
use std::sync::Arc;
use store::{Memory, Scan, Store};
use types::limits::PART_BYTES_MIN;
use types::{BucketId, CommandId, PartitionId, SessionId, UploadId, VersionId};
use wire::index::{
    AppendData, Call, Command, Expected, Found, Index, Named, NamedPart, Precondition, Reason, StoredData,
    VersionRef,
};
use wire::records::{UsageRecord, answer::Kind};

const PARTS: u32 = 10_000;
const UPLOADS: u8 = 0x12;
const PART_ROWS: u8 = 0x13;
const MANIFESTS: u8 = 0x14;
const ENDED: u8 = 0x18;

struct Large {
    memory: Arc<Memory>,
    g: Gateway,
    bucket: BucketId,
    key: String,
    upload: UploadId,
    named: Vec<NamedPart>,
}

impl Large {
    /// An upload of as many parts as may be, under a key as long as may be, of `chunks` chunks each.
    async fn new(parts: u32, chunks: u64) -> Self {
        let memory = Arc::new(Memory::new());
        let g = Gateway::over(memory.clone(), 1).await;
        let bucket = BucketId(g.bucket("bucket").await.bucket);
        let key = "k".repeat(1024);
        let upload = g.upload(bucket, &key).await;
        let mut named = Vec::new();
        for number in 1..=parts {
            let (record, name) = part(number, PART_BYTES_MIN, 1);
            let at = (bucket, key.as_str(), upload);
            g.part(at, record, stored(g.blob(), chunks)).await.unwrap();
            named.push(name);
        }
        Self {
            memory,
            g,
            bucket,
            key,
            upload,
            named,
        }
    }

    fn at(&self) -> (BucketId, &str, UploadId) {
        (self.bucket, &self.key, self.upload)
    }

    fn completion(&self, serial: u64, parts: &[NamedPart]) -> Call {
        Call {
            id: CommandId::new(SessionId(1), serial),
            done_below: 0,
            command: Command::CompleteUpload {
                bucket: self.bucket,
                key: key(&self.key),
                upload: self.upload,
                parts: parts.to_vec(),
                precondition: Precondition::default(),
                expected: Expected::default(),
            },
        }
    }

    async fn found(&self) -> Found {
        let key = key(&self.key);
        let found = self.g.index.get(self.bucket, &key, VersionRef::Current, true);
        found.await.unwrap().unwrap()
    }

    /// Puts `chunks` chunks behind the object, and says how many it has then.
    async fn append(&self, chunks: u64) -> usize {
        let seen = self.found().await.record;
        let data = StoredData::Chunks(stored(self.g.blob(), chunks));
        let command = Command::Append {
            bucket: self.bucket,
            key: key(&self.key),
            piece: gateway::record(chunks * 4096),
            data: Box::new(AppendData {
                offset: seen.size,
                seen: VersionId::from_slice(&seen.version),
                data,
                whole: false,
            }),
            precondition: Precondition::default(),
        };
        self.g.call(command).await.unwrap();
        self.chunks().await
    }

    /// Chunks in the object's pages.
    async fn chunks(&self) -> usize {
        self.found().await.manifest.iter().map(|p| p.chunks.len()).sum()
    }

    async fn usage(&self) -> UsageRecord {
        self.g.index.usage(self.bucket).await.unwrap()[0].1
    }

    /// What names bytes: objects, parts, booked blobs.
    async fn names(&self) -> (usize, usize, usize) {
        let mut count = (0, 0, 0);
        for named in walked(&*self.g.index).await {
            match named {
                Named::Object { .. } => count.0 += 1,
                Named::Part { .. } => count.1 += 1,
                Named::Garbage { .. } => count.2 += 1,
                Named::Stray { what } => panic!("{what}"),
            }
        }
        count
    }

    /// Rows of a table.
    async fn rows(&self, table: u8) -> usize {
        let snapshot = self.memory.snapshot(PartitionId::FIRST_DATA).await.unwrap();
        let scan = Scan {
            start: Bytes::copy_from_slice(&[table]),
            end: Bytes::copy_from_slice(&[table + 1]),
            max: 1024,
        };
        snapshot.scan(&scan).await.unwrap().len()
    }

    /// Another process has the partition now: this one stopped, having done all it had begun.
    async fn restarted(mut self) -> Self {
        self.g.index.shutdown().await;
        self.g = Gateway::over(self.memory.clone(), 2).await;
        self
    }

    /// Another process has the partition now: this one went at once.
    async fn crashed(mut self) -> Self {
        self.memory = Arc::new(self.memory.crash());
        self.g = Gateway::over(self.memory.clone(), 2).await;
        self
    }
}

#[tokio::test]
async fn ten_thousand_parts_of_the_longest_key_complete() {
    let large = Large::new(PARTS, 1).await;
    let done = large.g.complete(large.at(), large.named.clone()).await.unwrap();
    let Kind::Put(answer) = &done else {
        panic!("{done:?}")
    };
    assert_eq!((answer.etag_parts, answer.size), (PARTS, 10_000 * PART_BYTES_MIN));
    // From the answer on the upload is gone and nothing is counted or named twice, whatever is not swept yet.
    assert_eq!(large.names().await, (1, 0, 0));
    let usage = large.usage().await;
    assert_eq!((usage.uploads, usage.part_bytes, usage.objects), (0, 0, 1));
    let again = large.g.complete(large.at(), large.named.clone()).await;
    assert_eq!(again, Ok(done), "the trace in the record");
    assert_eq!(large.rows(UPLOADS).await, 0);
    let found = large
        .g
        .index
        .get(large.bucket, &key(&large.key), VersionRef::Current, true)
        .await;
    let pages = found.unwrap().unwrap().manifest;
    assert_eq!(pages.iter().map(|p| p.chunks.len()).sum::<usize>(), 10_000);

    let large = large.restarted().await;
    assert_eq!((large.rows(PART_ROWS).await, large.rows(ENDED).await), (0, 0));
    assert_eq!(large.names().await, (1, 0, 0));
}

// I3: the sweep leaves what an append has written under the upload's id since, though its parts did not fill a page.
#[tokio::test]
async fn an_append_before_the_sweep_keeps_its_pages() {
    for (taken, chunks, pages) in [(16, 1, 1), (512, 1, 2)] {
        for is_crash in [false, true] {
            let large = Large::new(3_000, 1).await;
            large
                .g
                .complete(large.at(), large.named[..taken].to_vec())
                .await
                .unwrap();
            // The first commit of a new owner is the append's; of the old one, it is among those of the sweep.
            let large = if is_crash { large.crashed().await } else { large };
            assert_eq!(large.append(chunks).await, taken + 1);
            let large = large.restarted().await;
            assert_eq!((large.rows(PART_ROWS).await, large.rows(ENDED).await), (0, 0));
            assert_eq!(
                large.rows(MANIFESTS).await,
                pages,
                "{taken} parts, crash: {is_crash}"
            );
            assert_eq!(large.chunks().await, taken + 1);
            assert_eq!(large.names().await, (1, 0, 3_000 - taken));
        }
    }
}

// I3: what is booked of an object that was appended to and deleted before the sweep is there to be reclaimed.
#[tokio::test]
async fn a_deleted_append_before_the_sweep_is_booked_whole() {
    let large = Large::new(3_000, 1).await;
    large
        .g
        .complete(large.at(), large.named[..16].to_vec())
        .await
        .unwrap();
    let large = large.crashed().await;
    assert_eq!(large.append(1).await, 17);
    assert!(large.g.delete(large.bucket, &large.key).await);
    let large = large.restarted().await;
    assert_eq!(large.rows(ENDED).await, 0);
    assert_eq!(large.names().await, (0, 0, 3_000 - 16 + 1));
}

// What a completion laid and did not keep still goes, past what an append has written meanwhile.
#[tokio::test]
async fn pages_past_those_of_an_append_are_swept() {
    let large = Large::new(30, 4_000).await;
    let index = large.g.index.clone();
    let completion = index.call(large.completion(1 << 32, &large.named));
    let mut completion = std::pin::pin!(completion);
    while large.rows(MANIFESTS).await == 0 {
        assert!(asked(completion.as_mut()).await.is_none(), "it was done at once");
        tokio::task::yield_now().await;
    }
    let large = large.crashed().await;
    let laid = large.rows(MANIFESTS).await;
    large
        .g
        .complete(large.at(), large.named[..2].to_vec())
        .await
        .unwrap();
    let large = large.crashed().await;
    assert_eq!(large.append(1_000).await, 9_000);
    let large = large.restarted().await;
    assert!(laid > 9_000_usize.div_ceil(512), "{laid} pages to begin with");
    assert_eq!(large.rows(MANIFESTS).await, 9_000_usize.div_ceil(512));
    assert_eq!((large.chunks().await, large.rows(ENDED).await), (9_000, 0));
}

// I3: what a crash between the steps leaves is swept by the next owner.
#[tokio::test]
async fn parts_that_were_not_named_are_booked_even_over_a_crash() {
    let large = Large::new(PARTS, 1).await;
    let named: Vec<NamedPart> = large.named.iter().skip(1).step_by(2).cloned().collect();
    large.g.complete(large.at(), named).await.unwrap();
    let large = large.crashed().await;
    let (objects, parts, booked) = large.names().await;
    assert_eq!(
        (objects, parts + booked),
        (1, 5_000),
        "{parts} parts, {booked} booked"
    );
    let large = large.restarted().await;
    assert_eq!(large.names().await, (1, 0, 5_000));
    assert_eq!((large.rows(PART_ROWS).await, large.rows(ENDED).await), (0, 0));
    assert!(large.g.delete(large.bucket, &large.key).await);
    assert_eq!(large.names().await, (0, 0, 5_001));
}

#[tokio::test]
async fn many_small_chunks_complete_in_steps() {
    // As slow clients leave them: more in the manifest than one commit takes.
    let large = Large::new(45, 4_000).await;
    let done = large.g.complete(large.at(), large.named.clone()).await;
    assert!(done.is_ok(), "{done:?}");
    let found = large
        .g
        .index
        .get(large.bucket, &key(&large.key), VersionRef::Current, true)
        .await;
    let pages = found.unwrap().unwrap().manifest;
    assert_eq!(pages.iter().map(|p| p.chunks.len()).sum::<usize>(), 45 * 4_000);
}

#[tokio::test]
async fn of_two_completions_at_once_one_is_done() {
    let large = Large::new(30, 4_000).await;
    let low = large.completion(1 << 32, &large.named);
    let high = large.completion((1 << 32) + 1, &large.named[1..]);
    let index = &large.g.index;
    let (low, high) = tokio::join!(index.call(low), index.call(high));
    let answer = |heard: wire::index::Answered| gateway::answer(heard.unwrap().kind.unwrap());
    assert_eq!(answer(low), Err(Reason::UploadBusy));
    let Ok(Kind::Put(answer)) = answer(high) else {
        panic!("neither is done")
    };
    assert_eq!(answer.etag_parts, 29);
    let large = large.restarted().await;
    assert_eq!(large.names().await, (1, 0, 1));
}

#[tokio::test]
async fn an_upload_too_large_for_one_commit_is_aborted() {
    let large = Large::new(PARTS, 1).await;
    let abort = Command::AbortUpload {
        bucket: large.bucket,
        key: key(&large.key),
        upload: large.upload,
    };
    assert!(large.g.call(abort.clone()).await.is_ok());
    assert_eq!(large.g.call(abort).await, Err(Reason::NoSuchUpload));
    assert_eq!(large.usage().await, UsageRecord::default());
    let large = large.restarted().await;
    assert_eq!(large.names().await, (0, 0, 10_000));
    assert_eq!((large.rows(PART_ROWS).await, large.rows(ENDED).await), (0, 0));
}

#[tokio::test]
async fn pages_of_a_completion_that_never_decided_are_swept() {
    let large = Large::new(30, 4_000).await;
    // Its caller goes away and so does its owner, after the first step.
    let index = large.g.index.clone();
    let completion = index.call(large.completion(1 << 32, &large.named));
    let mut completion = std::pin::pin!(completion);
    while large.rows(MANIFESTS).await == 0 {
        let polled = asked(completion.as_mut()).await;
        assert!(polled.is_none(), "it was done at once");
        tokio::task::yield_now().await;
    }
    let large = large.crashed().await;
    assert!(large.rows(MANIFESTS).await > 0);
    large
        .g
        .complete(large.at(), large.named[..2].to_vec())
        .await
        .unwrap();
    let large = large.restarted().await;
    assert_eq!(large.rows(MANIFESTS).await, 8_000_usize.div_ceil(512));
    assert_eq!(large.rows(ENDED).await, 0);
    assert_eq!(large.names().await, (1, 0, 28));
}

/// What a future says when it is asked once.
async fn asked<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
