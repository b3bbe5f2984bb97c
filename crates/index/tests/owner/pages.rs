//! What pages of large rows read.

use crate::gateway::{Gateway, record};
use crate::put;
use crate::slow::Slow;
use std::sync::atomic::Ordering;
use types::BucketId;
use types::limits::{LIST_KEYS_MAX, list_rows_at_once};
use wire::index::{Command, Index, ListQuery, VersionsQuery};
use wire::records::Pair;

// I9: what is read beyond a page is in memory too while it is made.
#[tokio::test]
async fn a_page_of_large_rows_reads_little_more_than_it_holds() {
    let slow = Slow::new(1);
    let g = Gateway::over(slow.clone(), 1).await;
    let bucket = BucketId(g.bucket("bucket").await.bucket);
    for n in 0..300 {
        let mut command = put(bucket, &format!("{n:03}"), 1);
        if let Command::Put { record: of, .. } = &mut command {
            *of = record(1);
            of.metadata = vec![Pair {
                name: "n".into(),
                value: "v".repeat(20 << 10),
            }];
        }
        g.call(command).await.unwrap();
    }
    for max in [1, 100, LIST_KEYS_MAX] {
        for delimiter in ["", "/"] {
            let query = ListQuery {
                bucket,
                prefix: String::new(),
                delimiter: delimiter.into(),
                after: String::new(),
                max,
            };
            slow.scanned.store(0, Ordering::Relaxed);
            let page = g.index.list(query).await.unwrap().unwrap();
            is_little(&slow, page.entries.len(), max);
        }
        let query = VersionsQuery {
            bucket,
            prefix: String::new(),
            delimiter: String::new(),
            after: (String::new(), None),
            max,
        };
        slow.scanned.store(0, Ordering::Relaxed);
        let page = g.index.list_versions(query).await.unwrap().unwrap();
        is_little(&slow, page.entries.len(), max);
    }
}

fn is_little(slow: &Slow, lines: usize, max: u32) {
    let read = slow.scanned.load(Ordering::Relaxed) as usize;
    let most = lines + list_rows_at_once(max) + 1;
    assert!(read <= most, "{read} rows for {lines} lines of {max}");
}
