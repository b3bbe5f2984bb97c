//! A gateway for tests: gives commands their ids and makes the records that objects would.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use bytes::Bytes;
use index::IndexRole;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Memory, Store};
use types::{AccountId, BlobId, BucketId, BucketName, CommandId, ObjectKey, SessionId, StampId, UploadId};
use wire::index::{
    Call, Command, Index, ListEntry, ListQuery, NamedPart, Precondition, Reason, StoredChunks, StoredData,
    VersionRef,
};
use wire::records::{
    BucketAnswer, BucketCopy, BucketRecord, Chunk, ObjectRecord, PartRecord, UploadRecord, answer::Kind,
};
use world::World;

/// One session of a gateway.
pub struct Gateway {
    pub index: Arc<IndexRole>,
    pub session: SessionId,
    serial: AtomicU64,
}

pub fn key(s: &str) -> ObjectKey {
    ObjectKey::new(s).unwrap()
}

pub fn bucket_name(s: &str) -> BucketName {
    BucketName::new(s).unwrap()
}

/// A blob of `chunks` needles, 64 MiB each.
pub fn stored(blob: BlobId, chunks: u64) -> StoredChunks {
    StoredChunks {
        blob,
        chunks: (0..chunks)
            .map(|i| Chunk {
                // Sessions have extents of their own.
                place: 0x0001_0000_0000_0006 + blob.session().0,
                needle: ((blob.0 as u64) << 12) + i,
                stored_length: 5000,
                length: 4096,
                crc32c: 0xdead_beef,
                hint_offset: 1 << 28,
                ..Chunk::default()
            })
            .collect(),
        ordered: Vec::new(),
    }
}

pub fn record(size: u64) -> Box<ObjectRecord> {
    Box::new(ObjectRecord {
        size,
        etag_md5: vec![size as u8; 16],
        owner: AccountId::ROOT.0,
        ..ObjectRecord::default()
    })
}

impl Gateway {
    pub async fn over(store: Arc<dyn Store>, session: u64) -> Self {
        let index = IndexRole::open(World::real(), store, StampId::FIRST)
            .await
            .unwrap();
        Self::of(Arc::new(index), session)
    }

    pub fn of(index: Arc<IndexRole>, session: u64) -> Self {
        Self {
            index,
            session: SessionId(session),
            serial: AtomicU64::new(1),
        }
    }

    pub async fn new() -> Self {
        Self::over(Arc::new(Memory::new()), 1).await
    }

    pub fn next(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    pub fn blob(&self) -> BlobId {
        BlobId::new(self.session, self.next())
    }

    pub fn call_of(&self, command: Command) -> Call {
        Call {
            id: CommandId::new(self.session, self.next()),
            done_below: 0,
            command,
        }
    }

    pub async fn call(&self, command: Command) -> Result<Kind, Reason> {
        answer(
            self.index
                .call(self.call_of(command))
                .await
                .unwrap()
                .kind
                .unwrap(),
        )
    }

    pub async fn bucket(&self, name: &str) -> BucketRecord {
        let name = bucket_name(name);
        let made = self.create_bucket(name.as_str()).await.unwrap();
        let (bucket, turn) = (BucketId(made.bucket), made.turn);
        self.open_bucket(bucket, turn).await;
        match self
            .call(Command::BucketOpened { name, bucket, turn })
            .await
            .unwrap()
        {
            Kind::Bucket(BucketAnswer { bucket: Some(b), .. }) => b,
            other => panic!("{other:?}"),
        }
    }

    pub async fn create_bucket(&self, name: &str) -> Result<BucketRecord, Reason> {
        let command = Command::CreateBucket {
            name: bucket_name(name),
            owner: AccountId::ROOT,
            region: "us-east-1".into(),
            settings: Vec::new(),
        };
        match self.call(command).await? {
            Kind::Bucket(BucketAnswer { bucket: Some(b), .. }) => Ok(b),
            other => panic!("{other:?}"),
        }
    }

    pub async fn open_bucket(&self, bucket: BucketId, turn: u64) {
        let copy = BucketCopy {
            turn,
            configuration: 1,
            owner: AccountId::ROOT.0,
            ..BucketCopy::default()
        };
        self.call(Command::OpenBucket { bucket, copy }).await.unwrap();
    }

    pub async fn put(&self, bucket: BucketId, k: &str, data: StoredData) -> Result<Kind, Reason> {
        self.put_if(bucket, k, data, Precondition::default()).await
    }

    pub async fn put_if(
        &self,
        bucket: BucketId,
        k: &str,
        data: StoredData,
        precondition: Precondition,
    ) -> Result<Kind, Reason> {
        let size = match &data {
            StoredData::Empty => 0,
            StoredData::Inline(b) => b.len() as u64,
            StoredData::Chunks(c) => c.chunks.iter().map(|c| c.length).sum(),
        };
        let command = Command::Put {
            bucket,
            key: key(k),
            record: record(size),
            data,
            precondition,
        };
        self.call(command).await
    }

    pub async fn put_inline(&self, bucket: BucketId, k: &str, bytes: &'static str) {
        let data = StoredData::Inline(Bytes::from_static(bytes.as_bytes()));
        self.put(bucket, k, data).await.unwrap();
    }

    pub async fn delete(&self, bucket: BucketId, k: &str) -> bool {
        let command = Command::Delete {
            bucket,
            key: key(k),
            version: VersionRef::Current,
            precondition: Precondition::default(),
        };
        match self.call(command).await.unwrap() {
            Kind::Delete(d) => d.existed,
            other => panic!("{other:?}"),
        }
    }

    pub async fn upload(&self, bucket: BucketId, k: &str) -> UploadId {
        let record = Box::new(UploadRecord::default());
        let command = Command::CreateUpload {
            bucket,
            key: key(k),
            record,
        };
        match self.call(command).await.unwrap() {
            Kind::Upload(u) => UploadId::from_slice(&u.upload).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn part(
        &self,
        (bucket, k, upload): (BucketId, &str, UploadId),
        record: PartRecord,
        data: StoredChunks,
    ) -> Result<Kind, Reason> {
        let command = Command::PutPart {
            bucket,
            key: key(k),
            upload,
            record: Box::new(record),
            data,
        };
        self.call(command).await
    }

    pub async fn complete(
        &self,
        (bucket, k, upload): (BucketId, &str, UploadId),
        parts: Vec<NamedPart>,
    ) -> Result<Kind, Reason> {
        let command = Command::CompleteUpload {
            bucket,
            key: key(k),
            upload,
            parts,
            precondition: Precondition::default(),
            expected: wire::index::Expected::default(),
        };
        self.call(command).await
    }

    /// Keys, and common prefixes in brackets.
    pub async fn list(&self, bucket: BucketId, query: (&str, &str, &str, u32)) -> (Vec<String>, bool) {
        let (prefix, delimiter, after, max) = query;
        let query = ListQuery {
            bucket,
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            after: after.into(),
            max,
        };
        let page = self.index.list(query).await.unwrap().unwrap();
        let name = |e: &ListEntry| match e {
            ListEntry::Object { key, .. } => key.clone(),
            ListEntry::Prefix(p) => format!("[{p}]"),
        };
        (page.entries.iter().map(name).collect(), page.truncated)
    }
}

pub fn answer(kind: Kind) -> Result<Kind, Reason> {
    match kind {
        Kind::Refused(r) => Err(Reason::from_number(r.reason).unwrap()),
        kind => Ok(kind),
    }
}

/// A part of `size` bytes whose MD5 is `mark` 16 times.
pub fn part(number: u32, size: u64, mark: u8) -> (PartRecord, NamedPart) {
    let record = PartRecord {
        number,
        size,
        etag_md5: vec![mark; 16],
        ..PartRecord::default()
    };
    let named = NamedPart {
        number,
        etag_md5: [mark; 16],
        checksums: Vec::new(),
    };
    (record, named)
}

/// Everything that a walk finds, as text: deterministic, one line each.
pub async fn walked(index: &dyn Index) -> Vec<wire::index::Named> {
    let (mut all, mut cursor) = (Vec::new(), Bytes::new());
    loop {
        let (page, next) = index.walk(cursor).await.unwrap();
        all.extend(page);
        if next.is_empty() {
            return all;
        }
        cursor = next;
    }
}
