//! Whether needles can be reached: exactly, at one moment, without a commit.
//!
//! A needle can only be named under the key that its owner ref says: by a part of the upload it was sent in, by the visible object or a
//! version, or by a booking. Point rows of all needles are read at once; versions of a key, and manifest pages, one page after
//! another and once for all needles of the key. What is found unnamed here stays so only if a commit says so, which
//! looks at nothing but what came later (commands/condemn.rs).

use crate::commands::DoubtRows;
use crate::fetch::corrupt;
use crate::handle::Handle;
use crate::rows::{BadRow, Range, RowRef, after, decode};
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Scan, Snapshot, StoreError};
use types::limits::DOUBTS_MAX;
use types::{BlobId, BucketId, ErrorKind, Hlc, SessionId};
use wire::Fault;
use wire::index::{Doubt, Reach, Reached};
use wire::records::{
    BucketCopy, Chunk, GarbageRecord, Manifest, ManifestPage, ObjectRecord, PartRecord, PartitionState,
    object_record::Data,
};

/// Versions read at once.
const VERSIONS_ROWS: usize = 256;

impl Handle {
    /// See [`wire::index::Reclaim::reached`].
    pub(crate) async fn reached(&self, doubts: &[Doubt]) -> Result<Reached, Fault> {
        if doubts.len() > DOUBTS_MAX {
            let what = format!("{} needles are asked about at once", doubts.len());
            return Err(Fault::new(ErrorKind::Invalid, what));
        }
        self.at_one_moment(|snapshot| async move {
            let rows = point_rows(&*snapshot, doubts).await?;
            let asked = Asked::new(snapshot, rows, doubts);
            asked.answer().await
        })
        .await
    }
}

type Rows = BTreeMap<Bytes, Bytes>;

/// Rows that are there, of those that the doubts name.
async fn point_rows(snapshot: &dyn Snapshot, doubts: &[Doubt]) -> Result<Rows, StoreError> {
    let mut keys: Vec<Bytes> = doubts.iter().flat_map(|d| DoubtRows(d).keys()).collect();
    keys.push(RowRef::State.key());
    keys.sort();
    keys.dedup();
    let values = snapshot.get(&keys).await?;
    Ok(keys
        .into_iter()
        .zip(values)
        .filter_map(|(k, v)| Some((k, v?)))
        .collect())
}

/// Doubts of one moment, and what is known of them so far.
struct Asked<'a> {
    snapshot: Arc<dyn Snapshot>,
    rows: Rows,
    doubts: &'a [Doubt],
    each: Vec<Reach>,
    /// By place; a needle that is asked about twice has two entries.
    places: BTreeMap<(u64, u64), Vec<usize>>,
}

impl<'a> Asked<'a> {
    fn new(snapshot: Arc<dyn Snapshot>, rows: Rows, doubts: &'a [Doubt]) -> Self {
        let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, doubt) in doubts.iter().enumerate() {
            places
                .entry((doubt.extent.0, doubt.needle.0))
                .or_default()
                .push(at);
        }
        Self {
            snapshot,
            rows,
            doubts,
            each: vec![Reach::Unnamed; doubts.len()],
            places,
        }
    }

    fn get<M: Message + Default>(&self, row: &RowRef) -> Result<Option<M>, StoreError> {
        let key = row.key();
        let value = self.rows.get(&key).map(|v| decode(&key, v)).transpose();
        value.map_err(|e| corrupt(&e))
    }

    async fn answer(mut self) -> Result<Reached, StoreError> {
        let mut by_key: BTreeMap<(BucketId, &str), Vec<usize>> = BTreeMap::new();
        for (at, doubt) in self.doubts.iter().enumerate() {
            by_key
                .entry((doubt.owner.bucket, &doubt.owner.key))
                .or_default()
                .push(at);
        }
        for (name, of_key) in &by_key {
            self.bookings(*name, of_key).await?;
            // What is named is no garbage, so this comes later and has the last word.
            self.parts(of_key)?;
            self.objects(*name, of_key).await?;
        }
        let state: PartitionState = self.get(&RowRef::State)?.unwrap_or_default();
        let ended_below = SessionId(state.sessions_ended_below);
        for (doubt, reach) in self.doubts.iter().zip(&mut self.each) {
            let row = DoubtRows(doubt).condemned().key();
            let never = doubt.blob.session() < ended_below || self.rows.contains_key(&row);
            if *reach == Reach::Unnamed && never {
                *reach = Reach::Condemned;
            }
        }
        Ok(Reached::new(Hlc(state.hlc), self.doubts.to_vec(), self.each))
    }

    /// Says of the needles that these chunks are, if they were asked about under this key.
    fn found(&mut self, (bucket, key): (BucketId, &str), chunks: &[Chunk], reach: Reach) {
        for chunk in chunks {
            for at in self
                .places
                .get(&(chunk.place, chunk.needle))
                .into_iter()
                .flatten()
            {
                let owner = &self.doubts[*at].owner;
                if owner.bucket == bucket && owner.key == key {
                    self.each[*at] = reach;
                }
            }
        }
    }

    async fn bookings(&mut self, name: (BucketId, &str), of_key: &[usize]) -> Result<(), StoreError> {
        let doubts = self.doubts;
        let rows = of_key.iter().flat_map(|at| DoubtRows(&doubts[*at]).garbage());
        let mut rows: Vec<Bytes> = rows.map(|row| row.key()).collect();
        rows.sort();
        rows.dedup();
        for row in rows {
            let Some(value) = self.rows.get(&row) else {
                continue;
            };
            let garbage: GarbageRecord = decode(&row, value).map_err(|e| corrupt(&e))?;
            self.found(name, &garbage.chunks, Reach::Booked);
            if let Some(manifest) = &garbage.manifest {
                self.pages(name, &garbage.blob, manifest, Reach::Booked).await?;
            }
        }
        Ok(())
    }

    fn parts(&mut self, of_key: &[usize]) -> Result<(), StoreError> {
        for at in of_key {
            let doubt = DoubtRows(&self.doubts[*at]);
            if let Some(row) = doubt.part()
                && let Some(part) = self.get::<PartRecord>(&row)?
                && doubt.is_among(&part.chunks)
            {
                self.each[*at] = Reach::Named;
            }
        }
        Ok(())
    }

    async fn objects(&mut self, name: (BucketId, &str), of_key: &[usize]) -> Result<(), StoreError> {
        if let Some(current) = self.get::<ObjectRecord>(&RowRef::Current(name.0, name.1))? {
            self.object(name, of_key, &current).await?;
        }
        let copy: Option<BucketCopy> = self.get(&RowRef::Bucket(name.0))?;
        // A bucket that nothing is known of may have kept versions: its copy can have been left out of a restored index.
        if copy.is_some_and(|c| c.versioning == 0) {
            return Ok(());
        }
        let Range { mut start, end } = Range::versions(name.0, name.1);
        loop {
            let scan = Scan {
                start,
                end: end.clone(),
                max: VERSIONS_ROWS,
            };
            let rows = self.snapshot.scan(&scan).await?;
            for (row, value) in &rows {
                let version: ObjectRecord = decode(row, value).map_err(|e| corrupt(&e))?;
                self.object(name, of_key, &version).await?;
            }
            match rows.last() {
                Some((last, _)) if rows.len() == VERSIONS_ROWS => start = after(last),
                _ => return Ok(()),
            }
        }
    }

    async fn object(
        &mut self,
        name: (BucketId, &str),
        of_key: &[usize],
        record: &ObjectRecord,
    ) -> Result<(), StoreError> {
        match &record.data {
            Some(Data::Chunks(c)) => self.found(name, &c.chunks, Reach::Named),
            Some(Data::Manifest(manifest)) => {
                let doubts = self.doubts;
                let is_meant = |at: &usize| DoubtRows(&doubts[*at]).is_blob(&record.blob);
                if of_key.iter().any(is_meant) {
                    self.pages(name, &record.blob, manifest, Reach::Named).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks through a manifest's pages, one at a time.
    async fn pages(
        &mut self,
        name: (BucketId, &str),
        blob: &[u8],
        manifest: &Manifest,
        reach: Reach,
    ) -> Result<(), StoreError> {
        let blob = BlobId::from_slice(blob);
        let blob = blob.ok_or_else(|| corrupt(&BadRow::new("a manifest without blob id")))?;
        for page in 0..manifest.pages {
            let row = RowRef::Manifest(name.0, name.1, blob, page);
            let page = read_page(&*self.snapshot, &row).await?;
            self.found(name, &page.chunks, reach);
        }
        Ok(())
    }
}

/// A manifest's page, which must be there.
pub(crate) async fn read_page(snapshot: &dyn Snapshot, row: &RowRef<'_>) -> Result<ManifestPage, StoreError> {
    let key = row.key();
    let value = snapshot.get(std::slice::from_ref(&key)).await?.pop().flatten();
    let value = value.ok_or_else(|| corrupt(&BadRow::new(format!("{row:?} is not there"))))?;
    decode(&key, &value).map_err(|e| corrupt(&e))
}
