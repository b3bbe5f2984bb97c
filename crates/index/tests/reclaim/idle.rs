//! Uploads that nobody works on.

use crate::gateway::{key, part, stored};
use crate::store::Store;
use bytes::Bytes;
use types::UploadId;
use types::limits::PART_BYTES_MIN;
use wire::index::{Command, Index, Reason, Reclaim, UploadsEntry, UploadsQuery};
use wire::records::answer::Kind;

async fn idle(s: &Store, before_ms: u64) -> (Vec<UploadId>, usize) {
    let (mut all, mut cursor, mut pages) = (Vec::new(), Bytes::new(), 0);
    loop {
        let (page, next) = s.g.index.uploads_idle(cursor, before_ms).await.unwrap();
        assert!(page.iter().all(|u| u.bucket == s.bucket));
        all.extend(page.into_iter().map(|u| u.upload));
        pages += 1;
        if next.is_empty() {
            return (all, pages);
        }
        cursor = next;
    }
}

/// When the upload was begun.
async fn begun_ms(s: &Store, upload: UploadId) -> u64 {
    let query = UploadsQuery {
        bucket: s.bucket,
        prefix: String::new(),
        delimiter: String::new(),
        after: (String::new(), None),
        max: 1000,
    };
    let page = s.g.index.uploads(query).await.unwrap().unwrap();
    let of = |e: &UploadsEntry| match e {
        UploadsEntry::Upload { record, .. } if record.upload == upload.to_bytes() => {
            Some(record.initiated_ms)
        }
        _ => None,
    };
    page.entries.iter().find_map(of).unwrap()
}

#[tokio::test]
async fn an_upload_is_as_fresh_as_its_newest_part() {
    let s = Store::new().await;
    let (old, fed) = (s.g.upload(s.bucket, "a").await, s.g.upload(s.bucket, "b").await);
    for number in [7, 9000] {
        let (record, _) = part(number, PART_BYTES_MIN, 1);
        let at = (s.bucket, "a", old);
        s.g.part(at, record, stored(s.g.blob(), 1)).await.unwrap();
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "the roles of this test have the real clock"
    )]
    std::thread::sleep(std::time::Duration::from_millis(5));
    let (record, _) = part(8000, PART_BYTES_MIN, 1);
    let at = (s.bucket, "b", fed);
    let fed_at = match s.g.part(at, record, stored(s.g.blob(), 1)).await {
        Ok(Kind::Part(answer)) => answer.modified_ms,
        other => panic!("{other:?}"),
    };
    let fresh = s.g.upload(s.bucket, "c").await;
    let now = begun_ms(&s, fresh).await;
    assert_eq!(idle(&s, fed_at).await.0, [old], "b had a part after that");
    assert_eq!(idle(&s, now + 1).await.0, [old, fed, fresh]);
    assert!(idle(&s, 0).await.0.is_empty());
}

// I3: what gc saw may be old when it acts on it.
#[tokio::test]
async fn an_upload_that_somebody_works_on_is_not_aborted_as_idle() {
    let s = Store::new().await;
    let upload = s.g.upload(s.bucket, "k").await;
    let abort = |before_ms| Command::AbortIdleUpload {
        bucket: s.bucket,
        key: key("k"),
        upload,
        before_ms,
    };
    let begun = begun_ms(&s, upload).await;
    assert_eq!(
        s.g.call(abort(begun)).await,
        Err(Reason::UploadBusy),
        "just begun"
    );
    let mut newest = begun;
    for number in [7, 3] {
        let (record, _) = part(number, PART_BYTES_MIN, 1);
        let put = s.g.part((s.bucket, "k", upload), record, stored(s.g.blob(), 1));
        newest = match put.await {
            Ok(Kind::Part(answer)) => newest.max(answer.modified_ms),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(
        s.g.call(abort(newest)).await,
        Err(Reason::UploadBusy),
        "a part came"
    );
    let parts = s.g.index.parts(s.bucket, &key("k"), upload, 0, 9).await;
    assert_eq!(parts.unwrap().unwrap().parts.len(), 2, "with all it had");
    assert!(matches!(s.g.call(abort(newest + 1)).await, Ok(Kind::Nothing(_))));
    assert_eq!(s.g.call(abort(newest + 1)).await, Err(Reason::NoSuchUpload));
}

#[tokio::test]
async fn a_page_reads_no_more_than_a_page() {
    let s = Store::new().await;
    let mut all = Vec::new();
    for _ in 0..700 {
        all.push(s.g.upload(s.bucket, "many").await);
    }
    let large = s.g.upload(s.bucket, "z").await;
    for number in 1..=1300 {
        let (record, _) = part(number, PART_BYTES_MIN, 1);
        s.g.part((s.bucket, "z", large), record, stored(s.g.blob(), 1))
            .await
            .unwrap();
    }
    all.push(large);
    let (found, pages) = idle(&s, u64::MAX).await;
    assert_eq!(found, all, "each once");
    assert!(pages >= 4, "{pages} pages for 2,001 rows");
}
