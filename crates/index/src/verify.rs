//! Reading every row of a partition, past what is damaged: what `check` asks where a listing would give up.

use crate::fetch::{corrupt, first_rows};
use crate::handle::Handle;
use crate::owner::fault;
use crate::past::past;
use crate::rows::{BadRow, Range, Row, after, decode};
use crate::walk::walk_page;
use bytes::Bytes;
use std::sync::Arc;
use store::{Snapshot, StoreError};
use wire::Fault;
use wire::index::{Named, Verified};
use wire::records::{
    BucketCopy, BucketRecord, BucketSetting, CondemnedRecord, DoneRecord, EndedUpload, GarbageRecord,
    IntentRecord, ManifestPage, ObjectRecord, PartRecord, PartitionState, SessionFloor, UploadRecord,
    UsageRecord,
};
use wire::scrub::{Damage, Reread};

/// Rows of one page.
const PAGE_ROWS: usize = 256;

impl Handle {
    /// [`Handle::walk`], row by row where a page cannot be had, and past rows that cannot: those are told.
    pub(crate) async fn walk_on(&self, cursor: Bytes) -> Result<(Vec<Named>, Vec<String>, Bytes), Fault> {
        self.at_one_moment(|snapshot| walk_on(snapshot, cursor.clone()))
            .await
    }

    /// Reads a piece of the engine's files, of whatever partition.
    pub(crate) async fn verify_files(&self, cursor: &[u8]) -> Result<Reread, Fault> {
        let read = self.shared.store.verify(cursor).await.map_err(|e| fault(&e))?;
        let damage = read.damage.into_iter().map(|(rot, what)| Damage { rot, what });
        Ok(Reread {
            bytes: read.bytes,
            of_bytes: read.of_bytes,
            damage: damage.collect(),
            next: read.next,
        })
    }

    /// Reads a page of all rows from `cursor` (a row key; empty: the start).
    pub(crate) async fn verify(&self, cursor: Bytes) -> Result<Verified, Fault> {
        self.at_one_moment(|snapshot| verify(snapshot, cursor.clone()))
            .await
    }
}

pub(crate) async fn walk_on(
    snapshot: Arc<dyn Snapshot>,
    cursor: Bytes,
) -> Result<(Vec<Named>, Vec<String>, Bytes), StoreError> {
    for max in [PAGE_ROWS, 1] {
        match walk_page(snapshot.clone(), cursor.clone(), max).await {
            Err(StoreError::Corrupt(_)) => {}
            other => return other.map(|(named, next)| (named, Vec::new(), next)),
        }
    }
    let Some(range) = Range::walked().into_iter().find(|range| cursor < range.end) else {
        return Ok((Vec::new(), Vec::new(), Bytes::new()));
    };
    let range = Range {
        start: range.start.max(cursor),
        ..range
    };
    match first_rows(&*snapshot, &range, 1).await {
        // The row is there, and what it names is not.
        Ok(rows) => {
            let why = walk_page(snapshot.clone(), range.start.clone(), 1).await.err();
            let next = rows.last().map_or(range.end, |(key, _)| after(key));
            Ok((Vec::new(), why.iter().map(ToString::to_string).collect(), next))
        }
        Err(e @ StoreError::Corrupt(_)) => {
            let next = past(&*snapshot, &range).await?;
            Ok((Vec::new(), vec![e.to_string()], next))
        }
        Err(e) => Err(e),
    }
}

pub(crate) async fn verify(snapshot: Arc<dyn Snapshot>, cursor: Bytes) -> Result<Verified, StoreError> {
    let all = Range {
        start: cursor.max(Bytes::from_static(&[0])),
        end: Bytes::from_static(&[0xFF]),
    };
    let mut found = Verified::default();
    for max in [PAGE_ROWS, 1] {
        match first_rows(&*snapshot, &all, max).await {
            Ok(rows) => {
                found.rows = rows.len() as u64;
                let bad = rows.iter().filter_map(|(key, value)| judge(key, value).err());
                found.damage = bad.map(|bad| corrupt(&bad).to_string()).collect();
                found.next = rows.last().map_or(Bytes::new(), |(key, _)| after(key));
                return Ok(found);
            }
            Err(StoreError::Corrupt(_)) if max > 1 => {}
            Err(e @ StoreError::Corrupt(_)) => {
                found.damage.push(e.to_string());
                found.next = past(&*snapshot, &all).await?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Whether a row is one of ours and its value its message.
fn judge(key: &[u8], value: &Bytes) -> Result<(), BadRow> {
    match Row::parse(key)? {
        Row::State => decode::<PartitionState>(key, value).map(drop),
        Row::Bucket(_) => decode::<BucketCopy>(key, value).map(drop),
        Row::Done(_) => decode::<DoneRecord>(key, value).map(drop),
        Row::Session(_) => decode::<SessionFloor>(key, value).map(drop),
        Row::Usage(..) => decode::<UsageRecord>(key, value).map(drop),
        Row::Current(..) | Row::Version(..) => decode::<ObjectRecord>(key, value).map(drop),
        Row::Upload(..) => decode::<UploadRecord>(key, value).map(drop),
        Row::Part(..) => decode::<PartRecord>(key, value).map(drop),
        Row::Manifest(..) => decode::<ManifestPage>(key, value).map(drop),
        Row::Ended(..) => decode::<EndedUpload>(key, value).map(drop),
        Row::Garbage(..) => decode::<GarbageRecord>(key, value).map(drop),
        Row::Condemned(..) => decode::<CondemnedRecord>(key, value).map(drop),
        Row::Intent(..) => decode::<IntentRecord>(key, value).map(drop),
        Row::BucketName(_) => decode::<BucketRecord>(key, value).map(drop),
        Row::BucketSetting(..) => decode::<BucketSetting>(key, value).map(drop),
        Row::Inline(..) | Row::Null(..) | Row::AccountBucket(..) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{RowRef, encode};
    use std::collections::BTreeMap;
    use store::Scan;
    use types::{BucketId, CommandId};

    /// Rows of which some lie on a page that cannot be read.
    struct Holed {
        rows: BTreeMap<Bytes, Bytes>,
        bad: std::ops::Range<Bytes>,
    }

    #[async_trait::async_trait]
    impl Snapshot for Holed {
        async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
            if keys.iter().any(|key| self.bad.contains(key)) {
                return Err(StoreError::Corrupt("the page at byte 7".into()));
            }
            Ok(keys.iter().map(|key| self.rows.get(key).cloned()).collect())
        }
        async fn scan(&self, scan: &Scan) -> Result<store::Rows, StoreError> {
            let mut rows = store::Rows::new();
            for (key, value) in self
                .rows
                .range(scan.start.clone()..scan.end.clone())
                .take(scan.max)
            {
                if self.bad.contains(key) {
                    return Err(StoreError::Corrupt("the page at byte 7".into()));
                }
                rows.push((key.clone(), value.clone()));
            }
            Ok(rows)
        }
    }

    fn done(n: u128) -> Bytes {
        RowRef::Done(CommandId(n)).key()
    }

    fn holed(bad: std::ops::Range<u128>) -> Arc<Holed> {
        let mut rows: BTreeMap<Bytes, Bytes> = (0..1_000).map(|n| (done(n), Bytes::new())).collect();
        for n in 0..500 {
            let name = format!("bucket-{n}");
            rows.insert(RowRef::BucketName(&name).key(), encode(&BucketRecord::default()));
            rows.insert(
                RowRef::Current(BucketId(1), &name).key(),
                encode(&ObjectRecord::default()),
            );
        }
        Arc::new(Holed {
            rows,
            bad: done(bad.start)..done(bad.end),
        })
    }

    async fn all(holed: &Arc<Holed>) -> (u64, Vec<String>) {
        let (mut cursor, mut rows, mut damage) = (Bytes::new(), 0, Vec::new());
        loop {
            let found = verify(holed.clone(), cursor).await.unwrap();
            rows += found.rows;
            damage.extend(found.damage);
            if found.next.is_empty() {
                return (rows, damage);
            }
            cursor = found.next;
        }
    }

    #[tokio::test]
    async fn a_bad_page_is_told_and_gone_past() {
        let whole = all(&holed(0..0)).await;
        assert_eq!(whole, (2_000, Vec::new()));
        for bad in [0..5, 300..320, 990..1_000] {
            let (rows, damage) = all(&holed(bad.clone())).await;
            let missed = (bad.end - bad.start) as u64;
            assert_eq!(rows, 2_000 - missed, "{bad:?}");
            assert!(damage.iter().any(|d| d.contains("byte 7")), "{damage:?}");
        }
    }

    #[tokio::test]
    async fn a_row_that_is_not_ours_is_told() {
        let mut holed = Arc::into_inner(holed(0..0)).unwrap();
        holed.rows.insert(
            RowRef::Session(types::SessionId(1)).key(),
            Bytes::from_static(b"\xff\xff"),
        );
        holed.rows.insert(Bytes::from_static(b"\xee"), Bytes::new());
        let (rows, damage) = all(&Arc::new(holed)).await;
        assert_eq!((rows, damage.len()), (2_002, 2), "{damage:?}");
    }

    #[tokio::test]
    async fn a_walk_goes_past_rows_that_cannot_be_read() {
        let mut holed = Arc::into_inner(holed(0..0)).unwrap();
        let at = |n: u32| RowRef::Current(BucketId(1), &format!("bucket-{n}")).key();
        // Eleven of them: 20, and 200 to 209.
        holed.bad = at(20)..at(21);
        let holed = Arc::new(holed);
        let (mut cursor, mut named, mut damage) = (Bytes::new(), 0, Vec::new());
        loop {
            let (page, bad, next) = walk_on(holed.clone(), cursor).await.unwrap();
            named += page.len();
            damage.extend(bad);
            if next.is_empty() {
                break;
            }
            cursor = next;
        }
        assert!(named == 489 && damage.len() == 1, "{named} {damage:?}");
    }
}
