//! A partition with one bucket, and the gc of it, step by step.

use crate::gateway::{Gateway, key, record, walked};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Batch, Committed, Memory, Scan, Store as _};
use types::{BlobId, BucketId, ExtentId, NeedleId, PartitionId, UploadId, VersionId};
use wire::index::{
    AppendData, Booked, Command, Doubt, Index, Named, Precondition, Reach, Reason, Reclaim, StoredChunks,
    StoredData, Unnamed, VersionRef,
};
use wire::node::OwnerRef;
use wire::records::{BucketCopy, Chunk, answer::Kind, object_record::Data};

pub const K: &str = "k";
pub const BUCKETS: u8 = 0x02;
pub const MANIFESTS: u8 = 0x14;
pub const GARBAGE: u8 = 0x20;
pub const CONDEMNED: u8 = 0x21;

pub struct Store {
    pub memory: Arc<Memory>,
    pub g: Gateway,
    pub bucket: BucketId,
}

impl Store {
    pub async fn new() -> Self {
        let memory = Arc::new(Memory::new());
        let g = Gateway::over(memory.clone(), 1).await;
        let bucket = BucketId(g.bucket("bucket").await.bucket);
        Self { memory, g, bucket }
    }

    /// The process is gone and another one is there, under a session of its own.
    pub async fn crash(&mut self) {
        self.memory = Arc::new(self.memory.crash());
        self.restart().await;
    }

    /// The next process; commands of the ones before are refused.
    pub async fn restart(&mut self) {
        self.g = Gateway::over(self.memory.clone(), self.g.session.0 + 1).await;
        self.g.index.end_sessions_below(self.g.session).await.unwrap();
    }

    /// As the partition hears it: 1 enabled, 2 suspended.
    pub async fn versioning(&self, versioning: u32) {
        let copy = BucketCopy {
            turn: 1,
            configuration: 1 + self.g.next(),
            versioning,
            ..BucketCopy::default()
        };
        let open = Command::OpenBucket {
            bucket: self.bucket,
            copy,
        };
        self.g.call(open).await.unwrap();
    }

    pub async fn put(&self, k: &str, stored: &StoredChunks) -> Result<Kind, Reason> {
        self.g
            .put(self.bucket, k, StoredData::Chunks(stored.clone()))
            .await
    }

    pub async fn delete_version(&self, k: &str, version: VersionId) {
        let delete = Command::Delete {
            bucket: self.bucket,
            key: key(k),
            version: VersionRef::Id(version),
            precondition: Precondition::default(),
        };
        self.g.call(delete).await.unwrap();
    }

    /// As a gateway does that has just looked. Bytes of an object that stands inline are taken to come along.
    pub async fn append(&self, k: &str, data: StoredData) -> Result<Kind, Reason> {
        let found = self
            .g
            .index
            .get(self.bucket, &key(k), VersionRef::Current, true)
            .await;
        let seen = found.unwrap().ok();
        let is_inline = matches!(seen.as_ref().map(|f| &f.record.data), Some(Some(Data::Inline(_))));
        let size = match &data {
            StoredData::Empty => 0,
            StoredData::Inline(b) => b.len() as u64,
            StoredData::Chunks(c) => c.chunks.iter().map(|c| c.length).sum(),
        };
        let data = AppendData {
            offset: seen.as_ref().map_or(0, |f| f.record.size),
            whole: is_inline && matches!(data, StoredData::Chunks(_)),
            seen: seen.and_then(|f| VersionId::from_slice(&f.record.version)),
            data,
        };
        let size = size - if data.whole { data.offset } else { 0 };
        let append = Command::Append {
            bucket: self.bucket,
            key: key(k),
            piece: record(size),
            data: Box::new(data),
            precondition: Precondition::default(),
        };
        self.g.call(append).await
    }

    /// All bookings, `count_max` entries at a time.
    pub async fn garbage(&self, count_max: usize) -> Vec<Booked> {
        let (mut all, mut cursor) = (Vec::new(), Bytes::new());
        loop {
            let (page, next) = self.g.index.garbage(cursor, count_max).await.unwrap();
            assert!(page.len() <= count_max);
            all.extend(page);
            if next.is_empty() {
                return all;
            }
            cursor = next;
        }
    }

    /// Takes every booking through: its needles, then its row.
    pub async fn collect(&self, count_max: usize) -> Vec<u64> {
        let booked = self.garbage(count_max).await;
        let last = booked.iter().filter(|b| b.is_last);
        let rows = last.map(|b| b.row.clone()).collect();
        self.g.call(Command::ForgetGarbage { rows }).await.unwrap();
        needles(booked.iter().flat_map(|b| &b.chunks))
    }

    /// Needles that something names, and needles that are booked. None is there twice (I3).
    pub async fn needles(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let (mut named, mut booked) = (BTreeSet::new(), BTreeSet::new());
        for one in walked(&*self.g.index).await {
            let (set, chunks) = match one {
                Named::Object { found, .. } => match found.record.data {
                    Some(Data::Chunks(c)) => (&mut named, c.chunks),
                    _ => (
                        &mut named,
                        found.manifest.into_iter().flat_map(|p| p.chunks).collect(),
                    ),
                },
                Named::Part { part, .. } => (&mut named, part.chunks),
                Named::Garbage { garbage, .. } => (&mut booked, garbage.chunks),
                Named::Stray { what } => panic!("{what}"),
            };
            for chunk in chunks {
                assert!(set.insert(chunk.needle), "I3: needle {:x} twice", chunk.needle);
            }
        }
        assert!(named.is_disjoint(&booked), "I3: named and booked");
        (named, booked)
    }

    pub async fn rows(&self, table: u8) -> usize {
        let snapshot = self.memory.snapshot(PartitionId::FIRST_DATA).await.unwrap();
        let scan = Scan {
            start: Bytes::copy_from_slice(&[table]),
            end: Bytes::copy_from_slice(&[table + 1]),
            max: 1024,
        };
        snapshot.scan(&scan).await.unwrap().len()
    }

    /// The last row of a table is lost, and the process begins anew.
    pub async fn lose_last(&mut self, table: u8) {
        let scan = Scan {
            start: Bytes::copy_from_slice(&[table]),
            end: Bytes::copy_from_slice(&[table + 1]),
            max: 1024,
        };
        let partition = PartitionId::FIRST_DATA;
        let snapshot = self.memory.snapshot(partition).await.unwrap();
        let last = snapshot.scan(&scan).await.unwrap().pop().unwrap().0;
        let fence = self.memory.take(partition).await.unwrap();
        let batch = Batch {
            rows: vec![(last, None)],
            behind: Vec::new(),
        };
        let committed = self.memory.commit(fence, batch).await;
        assert!(matches!(committed, Committed::Done(_)), "{committed:?}");
        self.restart().await;
    }

    pub fn doubt(&self, k: &str, upload: Option<(UploadId, u32)>, blob: BlobId, chunk: &Chunk) -> Doubt {
        Doubt {
            owner: OwnerRef {
                bucket: self.bucket,
                key: k.into(),
                upload,
            },
            blob,
            extent: ExtentId(chunk.place),
            needle: NeedleId(chunk.needle),
        }
    }

    /// Of the first needle of a plain blob.
    pub fn of(&self, k: &str, stored: &StoredChunks) -> Doubt {
        self.doubt(k, None, stored.blob, &stored.chunks[0])
    }

    pub async fn reach(&self, doubt: &Doubt) -> Reach {
        let reached = self.g.index.reached(vec![doubt.clone()]).await.unwrap();
        reached.each[0]
    }

    pub async fn condemn(&self, unnamed: Unnamed) -> Vec<Reach> {
        reach_of(self.g.call(Command::Condemn { unnamed }).await)
    }

    /// Without a look before.
    pub async fn condemn_unknown(&self, doubts: &[Doubt]) -> Vec<Reach> {
        self.condemn(Unnamed::unknown(doubts.to_vec())).await
    }

    pub async fn condemn_one(&self, doubt: &Doubt) -> Vec<Reach> {
        self.condemn_unknown(std::slice::from_ref(doubt)).await
    }

    /// As gc does: asks, then condemns what is unnamed.
    pub async fn ask_and_condemn(&self, doubts: &[Doubt]) -> Vec<Reach> {
        let reached = self.g.index.reached(doubts.to_vec()).await.unwrap();
        let mut told = self.condemn(reached.unnamed).await.into_iter();
        let known = reached.each.into_iter().map(|reach| match reach {
            Reach::Unnamed => told.next().unwrap(),
            known => known,
        });
        known.collect()
    }
}

pub fn reach_of(answer: Result<Kind, Reason>) -> Vec<Reach> {
    match answer {
        Ok(Kind::Condemn(answer)) => answer
            .reach
            .iter()
            .map(|n| Reach::from_number(*n).unwrap())
            .collect(),
        other => panic!("{other:?}"),
    }
}

pub fn needles<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Vec<u64> {
    chunks.into_iter().map(|c| c.needle).collect()
}
