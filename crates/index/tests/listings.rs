//! Pages of rows that are large: each ends by its bytes, and the next goes on behind it (I9).

mod gateway;

use gateway::{Gateway, key, part, record, stored};
use types::limits::{LIST_KEYS_MAX, PART_BYTES_MIN, list_page_bytes};
use types::{BucketId, UploadId, VersionId};
use wire::index::{
    Command, Index, ListEntry, ListQuery, Precondition, StoredData, UploadsEntry, UploadsQuery, VersionRef,
    VersionsEntry, VersionsQuery,
};
use wire::records::{Pair, UploadRecord};

/// Metadata of a row.
const LARGE: usize = 20 << 10;

fn metadata(bytes: usize) -> Vec<Pair> {
    vec![Pair {
        name: "n".into(),
        value: "v".repeat(bytes),
    }]
}

async fn put(g: &Gateway, bucket: BucketId, name: &str, bytes: usize) {
    let mut record = record(0);
    record.metadata = metadata(bytes);
    let command = Command::Put {
        bucket,
        key: key(name),
        record,
        data: StoredData::Empty,
        precondition: Precondition::default(),
    };
    g.call(command).await.unwrap();
}

/// What is told of a page: its lines, how many bytes they are, and whether there are more.
struct Page<L> {
    lines: Vec<L>,
    bytes: usize,
    truncated: bool,
}

/// All lines, page by page: no page is larger than was bargained for unless it has one line, and some end for their bytes.
async fn all<L: Clone>(max: u32, page: impl AsyncFn(Option<&L>) -> Page<L>) -> Vec<L> {
    let (mut all, mut ended_early) = (Vec::new(), 0);
    loop {
        let page = page(all.last()).await;
        let lines = page.lines.len();
        assert!(
            page.bytes <= list_page_bytes(max) || lines == 1,
            "{} bytes in {lines} lines of {max}",
            page.bytes
        );
        ended_early += usize::from(page.truncated && lines < max as usize);
        all.extend(page.lines);
        if !page.truncated {
            break;
        }
        assert!(lines > 0, "it goes on");
    }
    assert!(
        max < 10 || ended_early > 0,
        "no page of {max} ended for its bytes"
    );
    all
}

async fn objects(g: &Gateway, bucket: BucketId, delimiter: &str, max: u32) -> Vec<String> {
    all(max, async |after: Option<&String>| {
        let query = ListQuery {
            bucket,
            prefix: String::new(),
            delimiter: delimiter.into(),
            after: after.cloned().unwrap_or_default(),
            max,
        };
        let page = g.index.list(query).await.unwrap().unwrap();
        let bytes = page.bytes();
        let lines = page.entries.into_iter().map(|entry| match entry {
            ListEntry::Object { key, .. } | ListEntry::Prefix(key) => key,
        });
        Page {
            lines: lines.collect(),
            bytes,
            truncated: page.truncated,
        }
    })
    .await
}

#[tokio::test]
async fn every_key_and_prefix_is_on_one_page() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let (mut keys, mut lines) = (Vec::new(), Vec::new());
    for n in 0..60 {
        for name in [format!("{n:02}/a"), format!("{n:02}/b"), format!("{n:02}k")] {
            put(&g, bucket, &name, LARGE).await;
            keys.push(name);
        }
        lines.extend([format!("{n:02}/"), format!("{n:02}k")]);
    }
    for max in [1, 2, 3, 10, LIST_KEYS_MAX] {
        assert_eq!(objects(&g, bucket, "", max).await, keys, "pages of {max}");
        assert_eq!(objects(&g, bucket, "/", max).await, lines, "pages of {max}");
    }
}

#[tokio::test]
async fn a_thousand_keys_of_usual_length_are_one_page() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    for n in 0..=LIST_KEYS_MAX {
        put(&g, bucket, &format!("photos/2026/11/22/IMG_{n:08}.jpeg"), 200).await;
    }
    let (names, truncated) = g.list(bucket, ("", "", "", LIST_KEYS_MAX)).await;
    assert_eq!((names.len(), truncated), (LIST_KEYS_MAX as usize, true));
}

/// A key, and the version where it is no common prefix.
type Version = (String, Option<VersionId>);

async fn versions(g: &Gateway, bucket: BucketId, delimiter: &str, max: u32) -> Vec<Version> {
    all(max, async |after: Option<&Version>| {
        let (key, version) = after.cloned().unwrap_or_default();
        let query = VersionsQuery {
            bucket,
            prefix: String::new(),
            delimiter: delimiter.into(),
            after: (key, version.map(VersionRef::Id)),
            max,
        };
        let page = g.index.list_versions(query).await.unwrap().unwrap();
        let bytes = page.bytes();
        let lines = page.entries.into_iter().map(|entry| match entry {
            VersionsEntry::Version { key, record, .. } => (key, VersionId::from_slice(&record.version)),
            VersionsEntry::Prefix(prefix) => (prefix, None),
        });
        Page {
            lines: lines.collect(),
            bytes,
            truncated: page.truncated,
        }
    })
    .await
}

#[tokio::test]
async fn every_version_is_on_one_page() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let copy = wire::records::BucketCopy {
        turn: 1,
        configuration: 2,
        versioning: 1,
        ..Default::default()
    };
    g.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    for n in 0..30 {
        for name in [format!("{n:02}/a"), format!("{n:02}k")] {
            for _ in 0..3 {
                put(&g, bucket, &name, LARGE).await;
            }
        }
    }
    for max in [1, 2, 10, LIST_KEYS_MAX] {
        let told = versions(&g, bucket, "", max).await;
        let names: Vec<&str> = told.iter().map(|v| v.0.as_str()).collect();
        let three = |name: String| vec![name; 3];
        let wanted: Vec<String> = (0..30)
            .flat_map(|n| [three(format!("{n:02}/a")), three(format!("{n:02}k"))].concat())
            .collect();
        assert_eq!(names, wanted, "pages of {max}");
        let mut ids: Vec<_> = told.iter().map(|v| v.1).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 180, "each once");
        let told = versions(&g, bucket, "/", max).await;
        let names: Vec<String> = told.into_iter().map(|v| v.0).collect();
        let wanted: Vec<String> = (0..30)
            .flat_map(|n| [vec![format!("{n:02}/")], three(format!("{n:02}k"))].concat())
            .collect();
        assert_eq!(names, wanted, "pages of {max}");
    }
}

/// A key, and the upload where it is no common prefix.
type Upload = (String, Option<UploadId>);

async fn uploads(g: &Gateway, bucket: BucketId, delimiter: &str, max: u32) -> Vec<Upload> {
    all(max, async |after: Option<&Upload>| {
        let query = UploadsQuery {
            bucket,
            prefix: String::new(),
            delimiter: delimiter.into(),
            after: after.cloned().unwrap_or_default(),
            max,
        };
        let page = g.index.uploads(query).await.unwrap().unwrap();
        let bytes = page.bytes();
        let lines = page.entries.into_iter().map(|entry| match entry {
            UploadsEntry::Upload { key, record } => (key, UploadId::from_slice(&record.upload)),
            UploadsEntry::Prefix(prefix) => (prefix, None),
        });
        Page {
            lines: lines.collect(),
            bytes,
            truncated: page.truncated,
        }
    })
    .await
}

#[tokio::test]
async fn every_upload_is_on_one_page() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    for n in 0..60 {
        for name in [format!("{n:02}/a"), format!("{n:02}k"), format!("{n:02}k")] {
            let record = UploadRecord {
                metadata: metadata(LARGE),
                ..UploadRecord::default()
            };
            let command = Command::CreateUpload {
                bucket,
                key: key(&name),
                record: Box::new(record),
            };
            g.call(command).await.unwrap();
        }
    }
    let names = |told: Vec<Upload>| -> Vec<String> { told.into_iter().map(|u| u.0).collect() };
    let wanted = |slash: &str| -> Vec<String> {
        (0..60)
            .flat_map(|n| [format!("{n:02}{slash}"), format!("{n:02}k"), format!("{n:02}k")])
            .collect()
    };
    for max in [1, 2, 10, LIST_KEYS_MAX] {
        let told = uploads(&g, bucket, "", max).await;
        let mut ids: Vec<_> = told.iter().map(|u| u.1).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 180, "each once");
        assert_eq!(names(told), wanted("/a"), "pages of {max}");
        assert_eq!(
            names(uploads(&g, bucket, "/", max).await),
            wanted("/"),
            "pages of {max}"
        );
    }
}

#[tokio::test]
async fn every_part_is_on_one_page() {
    let g = Gateway::new().await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    let at = (bucket, "k", g.upload(bucket, "k").await);
    for number in 1..=100 {
        let (record, _) = part(number, PART_BYTES_MIN, 1);
        g.part(at, record, stored(g.blob(), 500)).await.unwrap();
    }
    for max in [1, 2, 10, LIST_KEYS_MAX] {
        let numbers = all(max, async |above: Option<&u32>| {
            let above = above.copied().unwrap_or(0);
            let page = g.index.parts(bucket, &key("k"), at.2, above, max).await;
            let page = page.unwrap().unwrap();
            Page {
                lines: page.parts.iter().map(|p| p.number).collect(),
                bytes: page.bytes(),
                truncated: page.truncated,
            }
        });
        let numbers = numbers.await;
        assert_eq!(numbers, (1..=100).collect::<Vec<u32>>(), "pages of {max}");
    }
}
