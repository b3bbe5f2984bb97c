//! What gc hears of readers: whoever holds needles of a record is told of, from before the record is read until the last of them (I3).

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use objects::{CopyObject, DeleteObject, Expect, Opened, PutPart, StartUpload};
use std::collections::BTreeSet;
use support::*;
use types::{BlobId, ByteRange};
use wire::gateway::{Gateway, Readers};
use wire::index::{Precondition, VersionRef};
use wire::records::ContentHeaders;

const LARGE: usize = 5 << 20;

async fn open(b: &Bench, k: &str) -> Opened {
    let (bucket, key) = (name(), key(k));
    let opened = b.objects.get(&CALLER, &bucket, &key, VersionRef::Current);
    opened.await.unwrap()
}

fn readers(b: &Bench) -> Readers {
    b.objects.readers_below(b.objects.readers_mark())
}

fn only(blob: BlobId) -> Readers {
    Readers {
        anywhere: 0,
        on: BTreeSet::from([blob]),
    }
}

#[tokio::test]
async fn who_has_nothing_to_read_holds_nothing_back() {
    let b = bench().await;
    b.put("empty", &[]).await.unwrap();
    b.put("inline", b"few").await.unwrap();
    let opened = [open(&b, "empty").await, open(&b, "inline").await];
    assert_eq!(readers(&b), Readers::default());
    drop(opened);
}

#[tokio::test]
async fn a_slow_reader_holds_its_blob_while_the_object_is_deleted_and_to_its_last_needle() {
    let b = bench().await;
    let all = bytes(LARGE);
    b.put("k", &all).await.unwrap();
    let Opened {
        record, mut reader, ..
    } = open(&b, "k").await;
    let blob = BlobId::from_slice(&record.blob).unwrap();
    let delete = DeleteObject::current(key("k"));
    b.objects.delete(&CALLER, &name(), delete).await.unwrap();
    // gc read the booking, and asks from here on. Who begins later finds no such object.
    let mark = b.objects.readers_mark();
    b.put("k", &all).await.unwrap();
    let later = open(&b, "k").await;
    let mut got = Vec::new();
    while got.len() < all.len() {
        assert_eq!(
            b.objects.readers_below(mark),
            only(blob),
            "after {} bytes",
            got.len()
        );
        got.extend(reader.next().await.unwrap().unwrap());
    }
    assert!(reader.next().await.unwrap().is_none());
    assert_eq!(b.objects.readers_below(mark), Readers::default());
    assert!(got == all, "and what it read is what was there");
    assert_eq!(readers(&b).on.len(), 1);
    drop(later);
    assert_eq!(readers(&b), Readers::default());
}

#[tokio::test]
async fn a_client_that_vanishes_and_a_range_let_go() {
    let b = bench().await;
    b.put("k", &bytes(LARGE)).await.unwrap();
    let mut opened = open(&b, "k").await;
    opened.reader.next().await.unwrap();
    assert_eq!(readers(&b).on.len(), 1);
    drop(opened);
    assert_eq!(readers(&b), Readers::default());
    let mut ranged = open(&b, "k").await;
    ranged
        .reader
        .select(ByteRange {
            start: 70_000,
            end: 70_001,
        })
        .unwrap();
    assert_eq!(ranged.reader.next().await.unwrap().unwrap().len(), 1);
    assert!(ranged.reader.next().await.unwrap().is_none());
    assert_eq!(readers(&b), Readers::default());
}

#[tokio::test]
async fn who_touches_no_needle_is_no_reader() {
    let b = bench().await;
    b.put("inline", b"short").await.unwrap();
    b.put("k", &bytes(LARGE)).await.unwrap();
    let _inline = open(&b, "inline").await;
    let (bucket, there, none) = (name(), key("k"), key("none"));
    let head = b.objects.head(&CALLER, &bucket, &there, VersionRef::Current);
    let _head = head.await.unwrap();
    let none = b.objects.get(&CALLER, &bucket, &none, VersionRef::Current);
    assert!(none.await.is_err());
    assert_eq!(readers(&b), Readers::default());
}

#[tokio::test]
async fn a_copy_reads_its_source() {
    let b = bench().await;
    b.put("from", &bytes(LARGE)).await.unwrap();
    let source = open(&b, "from").await;
    let blob = BlobId::from_slice(&source.record.blob).unwrap();
    let to = CopyObject {
        bucket: name(),
        key: key("to"),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        precondition: Precondition::default(),
    };
    let mut copying = Box::pin(b.objects.copy(&CALLER, source, to));
    let mut held = 0;
    loop {
        let done = std::future::poll_fn(|cx| std::task::Poll::Ready(copying.as_mut().poll(cx).is_ready()));
        if done.await {
            break;
        }
        held += usize::from(readers(&b) == only(blob));
        tokio::task::yield_now().await;
    }
    assert!(held > 1, "while its frames came: {held}");
    assert_eq!(readers(&b), Readers::default());
}

/// A body that does not come.
struct Never;

#[async_trait::async_trait]
impl objects::Body for Never {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, objects::BodyError> {
        std::future::pending().await
    }
    fn trailer(&mut self) -> Vec<types::Checksum> {
        Vec::new()
    }
}

// However long a part takes: the index hears of it at its end only.
#[tokio::test]
async fn an_upload_is_under_way_while_a_part_of_it_comes() {
    let b = bench().await;
    let start = StartUpload {
        bucket: name(),
        key: key("k"),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        checksum_kind: None,
    };
    assert_eq!(b.objects.start_upload(&CALLER, start).await.unwrap(), UPLOAD);
    let part = PutPart {
        bucket: name(),
        key: key("k"),
        upload: UPLOAD,
        number: 1,
        length: 100,
        body: Box::new(Never),
        expect: Expect::default(),
    };
    let mut putting = Box::pin(b.objects.put_part(&CALLER, part));
    assert!(futures_util::poll!(&mut putting).is_pending());
    assert_eq!(b.objects.uploads_under_way(), BTreeSet::from([UPLOAD]));
    drop(putting);
    assert_eq!(b.objects.uploads_under_way(), BTreeSet::new());
}
