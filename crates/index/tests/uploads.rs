//! Multipart uploads through the whole role.

mod gateway;

use gateway::{Gateway, key, part, stored, walked};
use types::limits::PART_BYTES_MIN;
use types::{BlobId, BucketId, UploadId};
use wire::index::{Command, Index, Named, NamedPart, Reason, UploadsEntry, UploadsQuery, VersionRef};
use wire::records::{PartRecord, answer::Kind};

type At<'a> = (BucketId, &'a str, UploadId);

/// Puts a part of its own blob.
async fn put_part(g: &Gateway, at: At<'_>, (record, named): (PartRecord, NamedPart)) -> (NamedPart, BlobId) {
    let blob = g.blob();
    g.part(at, record, stored(blob, 1)).await.unwrap();
    (named, blob)
}

#[tokio::test]
async fn parts_become_an_object() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let at = (bucket, "k", g.upload(bucket, "k").await);
    let (one, _) = put_part(&g, at, part(1, PART_BYTES_MIN, 1)).await;
    let (_, replaced) = put_part(&g, at, part(3, PART_BYTES_MIN, 9)).await;
    let (three, _) = put_part(&g, at, part(3, 10, 3)).await;
    let (_, unused) = put_part(&g, at, part(7, PART_BYTES_MIN, 7)).await;
    let page = g
        .index
        .parts(bucket, &key("k"), at.2, 1, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (page.parts[0].number, page.parts.len(), page.truncated),
        (3, 1, true)
    );

    let done = g.complete(at, vec![one.clone(), three.clone()]).await.unwrap();
    let Kind::Put(answer) = &done else {
        panic!("{done:?}")
    };
    assert_eq!((answer.etag_parts, answer.size), (2, PART_BYTES_MIN + 10));
    let found = g
        .index
        .get(bucket, &key("k"), VersionRef::Current, true)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        found.record.parts.iter().map(|p| p.number).collect::<Vec<_>>(),
        [1, 3]
    );
    // Again under another command id: the same answer, by the trace in the record.
    assert_eq!(g.complete(at, vec![one.clone(), three]).await.as_ref(), Ok(&done));
    assert_eq!(g.complete(at, vec![one]).await, Err(Reason::NoSuchUpload));

    // I3: the replaced and the unused part are booked, and only they.
    let booked = booked(&g).await;
    let mut expected = [replaced, unused].map(|b| b.to_bytes().to_vec());
    expected.sort();
    assert_eq!(booked, expected);
    let usage = g.index.usage(bucket).await.unwrap()[0].1;
    assert_eq!((usage.uploads, usage.part_bytes, usage.objects), (0, 0, 1));
    assert_eq!(usage.bytes as u64, PART_BYTES_MIN + 10);
}

async fn booked(g: &Gateway) -> Vec<Vec<u8>> {
    let all = walked(&*g.index).await.into_iter();
    let mut booked: Vec<_> = all
        .filter_map(|n| match n {
            Named::Garbage { garbage, .. } => Some(garbage.blob),
            _ => None,
        })
        .collect();
    booked.sort();
    booked
}

#[tokio::test]
async fn completions_that_s3_refuses() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let at = (bucket, "k", g.upload(bucket, "k").await);
    let (one, _) = put_part(&g, at, part(1, PART_BYTES_MIN, 1)).await;
    let (small, _) = put_part(&g, at, part(2, PART_BYTES_MIN - 1, 2)).await;
    let (three, _) = put_part(&g, at, part(3, 0, 3)).await;
    let wrong = NamedPart {
        etag_md5: [8; 16],
        ..one.clone()
    };
    let missing = NamedPart {
        number: 9,
        ..one.clone()
    };
    let unsummed = NamedPart {
        checksums: vec![wire::records::Checksum {
            algorithm: 1,
            value: vec![0; 4],
        }],
        ..one.clone()
    };
    for (parts, reason) in [
        (vec![], Reason::InvalidPart),
        (vec![wrong], Reason::InvalidPart),
        (vec![missing], Reason::InvalidPart),
        (vec![unsummed], Reason::InvalidPart),
        (vec![three.clone(), one.clone()], Reason::InvalidPartOrder),
        (vec![one.clone(), one.clone()], Reason::InvalidPartOrder),
        (
            vec![one.clone(), small.clone(), three.clone()],
            Reason::EntityTooSmall,
        ),
    ] {
        assert_eq!(g.complete(at, parts.clone()).await, Err(reason), "{parts:?}");
    }
    let late = (bucket, "k", UploadId(1));
    assert_eq!(
        g.complete(late, vec![one.clone()]).await,
        Err(Reason::NoSuchUpload)
    );
    assert!(g.complete(at, vec![one, small]).await.is_ok());
}

#[tokio::test]
async fn an_aborted_upload_books_its_parts() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let at = (bucket, "k", g.upload(bucket, "k").await);
    let mut blobs = Vec::new();
    for number in 1..4 {
        blobs.push(put_part(&g, at, part(number, 5, 1)).await.1.to_bytes().to_vec());
    }
    let abort = Command::AbortUpload {
        bucket,
        key: key("k"),
        upload: at.2,
    };
    assert!(g.call(abort.clone()).await.is_ok());
    assert_eq!(g.call(abort).await, Err(Reason::NoSuchUpload));
    assert_eq!(booked(&g).await, blobs);
    let (record, _) = part(4, 5, 1);
    assert_eq!(
        g.part(at, record, stored(g.blob(), 1)).await,
        Err(Reason::NoSuchUpload)
    );
    assert_eq!(
        g.index.parts(bucket, &key("k"), at.2, 0, 9).await.unwrap(),
        Err(Reason::NoSuchUpload)
    );
    assert_eq!(g.index.usage(bucket).await.unwrap()[0].1, Default::default());
}

#[tokio::test]
async fn ten_thousand_parts() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let long = "k".repeat(100);
    let at = (bucket, long.as_str(), g.upload(bucket, &long).await);
    let mut named = Vec::new();
    for number in 1..=10_000 {
        let (mut record, name) = part(number, PART_BYTES_MIN, 1);
        record.checksums = vec![wire::records::Checksum {
            algorithm: 3,
            value: vec![number as u8; 8],
        }];
        g.part(at, record, stored(g.blob(), 1)).await.unwrap();
        named.push(name);
    }
    let done = g.complete(at, named.clone()).await.unwrap();
    assert_eq!(g.complete(at, named).await, Ok(done));
    let found = g
        .index
        .get(bucket, &key(&long), VersionRef::Current, true)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.record.size, 10_000 * PART_BYTES_MIN);
    assert_eq!(
        found.manifest.iter().map(|p| p.parts.len()).sum::<usize>(),
        10_000
    );
    assert_eq!(
        found.manifest.iter().map(|p| p.chunks.len()).sum::<usize>(),
        10_000
    );
    assert!(g.delete(bucket, &long).await);
    let all = walked(&*g.index).await;
    assert!(matches!(&all[..], [Named::Garbage { garbage, .. }] if garbage.chunks.len() == 10_000));
}

#[tokio::test]
async fn uploads_are_listed_by_key_and_age() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let mut uploads = Vec::new();
    for k in ["b", "a/1", "b", "a/2", "c", "b"] {
        uploads.push((k, g.upload(bucket, k).await));
    }
    let list = async |delimiter: &str, after: (&str, Option<UploadId>), max| {
        let query = UploadsQuery {
            bucket,
            prefix: String::new(),
            delimiter: delimiter.into(),
            after: (after.0.into(), after.1),
            max,
        };
        let page = g.index.uploads(query).await.unwrap().unwrap();
        let name = |e| match e {
            UploadsEntry::Upload { key, record } => {
                let id = UploadId::from_slice(&record.upload).unwrap();
                format!("{key}{}", uploads.iter().position(|u| u.1 == id).unwrap())
            }
            UploadsEntry::Prefix(p) => format!("[{p}]"),
        };
        let names: Vec<String> = page.entries.into_iter().map(name).collect();
        (names.join(" "), page.truncated)
    };
    let is = |s: &str, more| (s.to_owned(), more);
    assert_eq!(list("", ("", None), 10).await, is("a/11 a/23 b0 b2 b5 c4", false));
    assert_eq!(list("/", ("", None), 2).await, is("[a/] b0", true));
    assert_eq!(list("/", ("a/", None), 10).await, is("b0 b2 b5 c4", false));
    assert_eq!(list("/", ("a/1", None), 10).await, is("b0 b2 b5 c4", false));
    assert_eq!(
        list("/", ("a/1", Some(uploads[1].1)), 10).await,
        is("b0 b2 b5 c4", false)
    );
    assert_eq!(list("/", ("b", Some(uploads[0].1)), 2).await, is("b2 b5", true));
    assert_eq!(list("", ("b", Some(uploads[5].1)), 2).await, is("c4", false));
    assert_eq!(list("", ("b", None), 2).await, is("c4", false));
    assert_eq!(list("", ("", None), 0).await, is("", false));
}

// I9: a part that came slowly names its bytes in thousands of places.
#[tokio::test]
async fn a_page_of_large_parts_ends_early() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let at = (bucket, "k", g.upload(bucket, "k").await);
    for number in 1..=100 {
        let (record, _) = part(number, PART_BYTES_MIN, 1);
        let chunks = if number > 20 { 3_000 } else { 1 };
        g.part(at, record, stored(g.blob(), chunks)).await.unwrap();
    }
    let page = async |above, max| {
        let page = g.index.parts(bucket, &key("k"), at.2, above, max).await;
        let page = page.unwrap().unwrap();
        let numbers: Vec<u32> = page.parts.iter().map(|p| p.number).collect();
        (numbers, page.truncated)
    };
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let (numbers, more) = page(all.last().copied().unwrap_or(0), 1000).await;
        all.extend(numbers);
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!(all, (1..=100).collect::<Vec<_>>());
    assert!(pages > 1, "one page of all");
    assert_eq!(page(0, 20).await, ((1..=20).collect(), true));
    assert_eq!(page(0, 0).await, (Vec::new(), false));
    assert_eq!(page(97, 3).await, (vec![98], true), "one at least");
    assert_eq!(page(99, 3).await, (vec![100], false));
}

/// What a partition answers a CloseBucket: empty, or of uploads alone.
async fn close(g: &Gateway, bucket: BucketId, turn: u64) -> Result<(bool, bool), Reason> {
    match g.call(Command::CloseBucket { bucket, turn }).await? {
        Kind::Close(c) => Ok((c.empty, c.only_uploads)),
        other => panic!("{other:?}"),
    }
}

fn create(bucket: BucketId) -> Command {
    Command::CreateUpload {
        bucket,
        key: key("k"),
        record: Box::default(),
    }
}

fn abort((bucket, k, upload): At<'_>) -> Command {
    let key = key(k);
    Command::AbortUpload { bucket, key, upload }
}

#[tokio::test]
async fn a_closing_bucket_leaves_its_uploads_as_they_are() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let at = (bucket, "k", g.upload(bucket, "k").await);
    let (one, _) = put_part(&g, at, part(1, PART_BYTES_MIN, 1)).await;
    assert_eq!(close(&g, bucket, 2).await, Ok((false, true)), "an upload alone");
    // Whatever comes now is refused, so the answer holds for as long as the bucket is closing.
    let begun = g.call(create(bucket)).await;
    assert_eq!(begun, Err(Reason::BucketBusy), "begins none");
    let (two, named_two) = part(2, 5, 2);
    let late = g.part(at, two.clone(), stored(g.blob(), 1)).await;
    assert_eq!(late, Err(Reason::BucketBusy), "takes no part");
    let late = g.complete(at, vec![one.clone()]).await;
    assert_eq!(late, Err(Reason::BucketBusy), "completes none");
    assert_eq!(close(&g, bucket, 2).await, Ok((false, true)), "asked again");
    // The deletion is given up: the upload goes on with the part it had, and only that.
    g.open_bucket(bucket, 2).await;
    let page = g
        .index
        .parts(bucket, &key("k"), at.2, 0, 9)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.parts.iter().map(|p| p.number).collect::<Vec<_>>(), [1]);
    g.part(at, two, stored(g.blob(), 1)).await.unwrap();
    g.complete(at, vec![one, named_two]).await.unwrap();
    // A completion that came first is an object: with another upload beside it there is more than uploads.
    g.upload(bucket, "k").await;
    assert_eq!(close(&g, bucket, 3).await, Ok((false, false)));
}

#[tokio::test]
async fn a_closing_bucket_is_empty_once_its_uploads_are_aborted() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let one = (bucket, "k", g.upload(bucket, "k").await);
    let two = (bucket, "l", g.upload(bucket, "l").await);
    put_part(&g, one, part(1, 5, 1)).await;
    put_part(&g, two, part(1, 5, 2)).await;
    assert_eq!(close(&g, bucket, 2).await, Ok((false, true)));
    g.call(abort(one)).await.unwrap();
    assert_eq!(close(&g, bucket, 2).await, Ok((false, true)), "one is left");
    // Another deleter takes over at a turn of its own and finds what is left.
    assert_eq!(close(&g, bucket, 3).await, Ok((false, true)));
    g.call(abort(two)).await.unwrap();
    assert_eq!(g.call(abort(two)).await, Err(Reason::NoSuchUpload), "as good");
    assert_eq!(close(&g, bucket, 2).await, Err(Reason::BucketBusy), "overtaken");
    assert_eq!(close(&g, bucket, 3).await, Ok((true, false)));
    let page = g.index.parts(bucket, &key("k"), one.2, 0, 9).await.unwrap();
    assert_eq!(page, Err(Reason::NoSuchUpload));
    assert_eq!(booked(&g).await.len(), 2, "I3: both parts");
    assert_eq!(g.index.usage(bucket).await.unwrap()[0].1, Default::default());
}

/// A delete marker alone keeps a bucket, and with it its uploads.
#[tokio::test]
async fn a_marker_beside_an_upload_is_more_than_uploads() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let copy = wire::records::BucketCopy {
        turn: 1,
        configuration: 2,
        versioning: 1,
        ..Default::default()
    };
    g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    g.upload(bucket, "k").await;
    g.delete(bucket, "k").await;
    assert_eq!(close(&g, bucket, 2).await, Ok((false, false)));
}

/// The removals of ten thousand rows under the longest keys fit one commit: their keys differ in the last bytes only.
#[tokio::test]
async fn ten_thousand_parts_of_the_longest_key_complete() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    // Each \u{0} takes two bytes of a row key: no key makes longer ones.
    for name in ["k".repeat(1024), "\0".repeat(1024)] {
        let at = (bucket, name.as_str(), g.upload(bucket, &name).await);
        let mut named = Vec::new();
        for number in 1..=10_000 {
            named.push(put_part(&g, at, part(number, PART_BYTES_MIN, 1)).await.0);
        }
        let done = g.complete(at, named).await.unwrap();
        assert!(
            matches!(&done, Kind::Put(answer) if answer.etag_parts == 10_000),
            "{done:?}"
        );
        let usage = g.index.usage(bucket).await.unwrap()[0].1;
        assert_eq!((usage.uploads, usage.part_bytes), (0, 0));
    }
}
