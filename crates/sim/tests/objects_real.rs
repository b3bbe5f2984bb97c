//! The real roles on a real directory: what is put comes back, also after a clean stop and after a kill.
#![allow(
    clippy::disallowed_methods,
    reason = "the test copies directories as a kill leaves them"
)]

use blob::Blob;
use bytes::Bytes;
use control::ControlPlane;
use extent::{DataDir, DataDirConfig};
use index::IndexRole;
use node::LocalNode;
use objects::{
    Body, BodyError, Caller, CompleteUpload, DeleteObject, Expect, ListBuckets, ListObjects, Objects,
    PutObject, PutPart, StartUpload,
};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store::{Embedded, Store};
use types::{AccountId, BucketName, ByteRange, ErrorKind, Kind as _, NodeId, ObjectKey, StampId};
use wire::control::Control;
use wire::index::{Expected, Index, ListEntry, Match, NamedPart, Precondition, Reason, VersionRef};
use wire::node::Node;
use wire::records::ContentHeaders;
use world::World;
use world::real::RealDisk;

const NODE: NodeId = NodeId(1);
const CALLER: Caller = Caller {
    account: AccountId::ROOT,
};
const MIB: usize = 1 << 20;

/// Every role of one process.
struct Stack {
    dir: DataDir,
    node: Arc<LocalNode>,
    store: Arc<Embedded>,
    index: Arc<IndexRole>,
    objects: Arc<Objects>,
}

async fn open(path: &Path) -> Stack {
    let world = World::real();
    let disk = Arc::new(RealDisk::open(path).unwrap());
    let config = DataDirConfig {
        node: NODE,
        journal_bytes: Some(32 * MIB as u64),
        ballast_bytes: Some(4 * MIB as u64),
        ..DataDirConfig::default()
    };
    let opened = DataDir::open(&world, disk.clone(), config).unwrap();
    let dir = opened.dir;
    let lost = &opened.report.lost;
    let store = Arc::new(Embedded::open(&world, disk, dir.journal().clone(), opened.batches, lost).unwrap());
    let engine: Arc<dyn Store> = store.clone();
    let node = Arc::new(LocalNode::new(world.clone(), NODE, vec![dir.clone()]));
    let nodes: Vec<(NodeId, Arc<dyn Node>)> = vec![(NODE, node.clone())];
    let control = ControlPlane::open(world.clone(), engine.clone(), nodes.clone())
        .await
        .unwrap();
    let session = control.begin_session("here").await.unwrap();
    let index = Arc::new(
        IndexRole::open(world.clone(), engine, StampId::FIRST)
            .await
            .unwrap(),
    );
    index.end_sessions_below(session).await.unwrap();
    let nodes: BTreeMap<NodeId, Arc<dyn Node>> = nodes.into_iter().collect();
    let blob = Arc::new(Blob::new(world.clone(), Arc::new(control), nodes, session));
    let named: Arc<dyn Index> = index.clone();
    let objects = Arc::new(Objects::new(world, blob, named, session));
    Stack {
        dir,
        node,
        store,
        index,
        objects,
    }
}

impl Stack {
    async fn shutdown(self) {
        self.objects.shutdown().await;
        self.index.shutdown().await;
        self.store.shutdown().await.unwrap();
        self.node.shutdown().await;
    }

    fn flushes(&self) -> u64 {
        self.dir.journal().stats().flushes.load(Ordering::Relaxed)
    }

    async fn put(&self, k: &str, all: &Bytes) {
        let put = put_of(k, all);
        let answer = self.objects.put(&CALLER, put).await.unwrap();
        assert_eq!(answer.size, all.len() as u64);
    }

    async fn get(&self, k: &str, range: Option<ByteRange>) -> Result<Bytes, objects::ObjectsError> {
        let mut opened = self
            .objects
            .get(&CALLER, &name(), &key(k), VersionRef::Current)
            .await?;
        if let Some(range) = range {
            opened.reader.select(range)?;
        }
        let mut all = Vec::new();
        while let Some(piece) = opened.reader.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    async fn keys(&self) -> Vec<String> {
        let query = ListObjects {
            bucket: name(),
            prefix: String::new(),
            delimiter: String::new(),
            after: String::new(),
            max: 1000,
        };
        let page = self.objects.list(&CALLER, query).await.unwrap();
        let key = |entry| match entry {
            ListEntry::Object { key, .. } => key,
            ListEntry::Prefix(prefix) => prefix,
        };
        page.entries.into_iter().map(key).collect()
    }
}

/// Copies a data directory as it is on the file system now: what a kill at this moment leaves.
fn killed(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

struct Pieces(VecDeque<Bytes>);

#[async_trait::async_trait]
impl Body for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(self.0.pop_front())
    }
    fn trailer(&mut self) -> Vec<types::Checksum> {
        Vec::new()
    }
}

fn pieces(all: &Bytes) -> Box<dyn Body> {
    let mut left = all.clone();
    let mut pieces = VecDeque::new();
    while !left.is_empty() {
        pieces.push_back(left.split_to(left.len().min(100_000)));
    }
    Box::new(Pieces(pieces))
}

fn put_of(k: &str, all: &Bytes) -> PutObject {
    PutObject {
        bucket: name(),
        key: key(k),
        length: all.len() as u64,
        body: pieces(all),
        expect: Expect::default(),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        precondition: Precondition::default(),
    }
}

fn name() -> BucketName {
    BucketName::new("bucket").unwrap()
}

fn key(k: &str) -> ObjectKey {
    ObjectKey::new(k).unwrap()
}

fn bytes(length: usize) -> Bytes {
    let mut x = 0x9e37_79b9_7f4a_7c15u64 ^ length as u64;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    let mut all: Vec<u8> = std::iter::repeat_with(next)
        .take(length.div_ceil(8))
        .flatten()
        .collect();
    all.truncate(length);
    all.into()
}

const SIZES: [usize; 11] = [
    0,
    1,
    512,
    513,
    4096,
    65_536,
    131_072,
    131_073,
    MIB,
    5 * MIB + 7,
    70 * MIB + 3,
];

async fn check(stack: &Stack) {
    for size in SIZES {
        let all = bytes(size);
        assert_eq!(stack.get(&format!("k{size}"), None).await.unwrap(), all, "{size}");
        let (third, half) = (size / 3, size / 2);
        let range = ByteRange {
            start: third as u64,
            end: half as u64,
        };
        let part = stack.get(&format!("k{size}"), Some(range)).await.unwrap();
        assert_eq!(part, all.slice(third..half), "{size}");
    }
    assert_eq!(stack.keys().await.len(), SIZES.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_comes_back_after_a_stop_and_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let stack = open(home.path()).await;
    stack.objects.create_bucket(&CALLER, &name()).await.unwrap();
    for size in SIZES {
        stack.put(&format!("k{size}"), &bytes(size)).await;
    }
    check(&stack).await;
    let copy = killed(home.path());
    stack.shutdown().await;

    let stack = open(home.path()).await;
    check(&stack).await;
    stack.put("again", &bytes(3000)).await;
    stack.shutdown().await;

    let stack = open(copy.path()).await;
    check(&stack).await;
    stack.put("k4096", &bytes(4096)).await;
    check(&stack).await;
    stack.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_preconditions_and_buckets() {
    let home = tempfile::tempdir().unwrap();
    let stack = open(home.path()).await;
    let objects = &stack.objects;
    assert!(!objects.create_bucket(&CALLER, &name()).await.unwrap().1);
    assert!(objects.create_bucket(&CALLER, &name()).await.unwrap().1);
    stack.put("k", &bytes(2000)).await;
    let mut put = put_of("k", &bytes(10));
    put.precondition.if_none_match = Some(Match::Any);
    let refused = objects.put(&CALLER, put).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::PreconditionFailed));
    let refused = objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::BucketNotEmpty));
    stack.put("k2", &bytes(2000)).await;
    let gone = objects
        .delete_many(
            &CALLER,
            &name(),
            ["k", "k2", "none"]
                .map(|k| DeleteObject::current(key(k)))
                .to_vec(),
        )
        .await
        .unwrap();
    assert!(gone.iter().all(Result::is_ok));
    assert_eq!(
        stack.get("k", None).await.unwrap_err().reason(),
        Some(Reason::NoSuchKey)
    );
    objects.delete_bucket(&CALLER, &name()).await.unwrap();
    assert_eq!(
        stack.get("k", None).await.unwrap_err().reason(),
        Some(Reason::NoSuchBucket)
    );
    let copy = killed(home.path());
    stack.shutdown().await;
    let stack = open(copy.path()).await;
    assert_eq!(
        stack
            .objects
            .list_buckets(&CALLER, ListBuckets::default())
            .await
            .unwrap(),
        []
    );
    assert!(!stack.objects.create_bucket(&CALLER, &name()).await.unwrap().1);
    assert_eq!(stack.keys().await, Vec::<String>::new());
    stack.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_parts() {
    let home = tempfile::tempdir().unwrap();
    let stack = open(home.path()).await;
    let objects = &stack.objects;
    objects.create_bucket(&CALLER, &name()).await.unwrap();
    let start = StartUpload {
        bucket: name(),
        key: key("k"),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        checksum_kind: None,
    };
    let upload = objects.start_upload(&CALLER, start).await.unwrap();
    let all = bytes(12 * MIB + 5);
    let mut parts = Vec::new();
    for (i, part) in [
        all.slice(..5 * MIB),
        all.slice(5 * MIB..10 * MIB),
        all.slice(10 * MIB..),
    ]
    .iter()
    .enumerate()
    {
        let number = i as u32 + 1;
        let put = PutPart {
            bucket: name(),
            key: key("k"),
            upload,
            number,
            length: part.len() as u64,
            body: pieces(part),
            expect: Expect::default(),
        };
        let (etag, _) = objects.put_part(&CALLER, put).await.unwrap();
        parts.push(NamedPart {
            number,
            etag_md5: etag.md5,
            checksums: Vec::new(),
        });
    }
    let complete = CompleteUpload {
        bucket: name(),
        key: key("k"),
        upload,
        parts,
        precondition: Precondition::default(),
        expected: Expected::default(),
    };
    let answer = objects.complete_upload(&CALLER, complete).await.unwrap();
    assert_eq!((answer.size, answer.etag_parts), (all.len() as u64, 3));
    assert_eq!(stack.get("k", None).await.unwrap(), all);
    let opened = objects
        .get(&CALLER, &name(), &key("k"), VersionRef::Current)
        .await
        .unwrap();
    let crc = crc_of(&all);
    assert_eq!(
        opened
            .record
            .checksums
            .iter()
            .map(|c| (c.algorithm, c.value.clone()))
            .collect::<Vec<_>>(),
        [(3, crc)]
    );
    stack.shutdown().await;
}

/// CRC-64/NVME, bit by bit: reflected polynomial 9a6c9329ac4bc9b5, all ones before and after.
fn crc_of(all: &[u8]) -> Vec<u8> {
    let mut table = [0u64; 256];
    for (i, entry) in table.iter_mut().enumerate() {
        *entry = (0..8).fold(i as u64, |c, _| {
            (c >> 1) ^ (0x9a6c_9329_ac4b_c9b5 & (c & 1).wrapping_neg())
        });
    }
    let crc = all.iter().fold(!0u64, |c, b| {
        (c >> 8) ^ table[((c ^ u64::from(*b)) & 0xff) as usize]
    });
    (!crc).to_be_bytes().to_vec()
}

/// DESIGN, "One sync for both": bytes and name of a small put share one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_put_costs_one_sync_and_many_share_it() {
    let home = tempfile::tempdir().unwrap();
    let stack = open(home.path()).await;
    stack.objects.create_bucket(&CALLER, &name()).await.unwrap();
    let all = bytes(4096);
    stack.put("first", &all).await;
    // Marks and zeroing ahead come by the clock, and a slow disk gives the clock time: the best of a few rounds is the cost.
    let (mut alone, mut shared) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let before = stack.flushes();
        for i in 0..50 {
            stack.put(&format!("one{round}-{i}"), &all).await;
        }
        alone.push(stack.flushes() - before);
        let before = stack.flushes();
        for _ in 0..4 {
            let puts = (0..64).map(|i| {
                let (stack, all) = (&stack, &all);
                async move { stack.put(&format!("many{i}"), all).await }
            });
            futures_util::future::join_all(puts).await;
        }
        shared.push(stack.flushes() - before);
    }
    assert!(
        alone.iter().all(|n| *n >= 50),
        "{alone:?} flushes of 50 puts, one after another"
    );
    assert!(
        alone.iter().any(|n| *n <= 55),
        "{alone:?} flushes of 50 puts, one after another"
    );
    assert!(
        shared.iter().any(|n| *n <= 64),
        "{shared:?} flushes of 256 puts, 64 at once"
    );
    stack.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_an_ended_session_have_no_effect() {
    let home = tempfile::tempdir().unwrap();
    let stack = open(home.path()).await;
    stack.objects.create_bucket(&CALLER, &name()).await.unwrap();
    stack
        .index
        .end_sessions_below(types::SessionId(1000))
        .await
        .unwrap();
    let refused = stack
        .objects
        .put(&CALLER, put_of("k", &bytes(10)))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::SessionEnded));
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(stack.keys().await, Vec::<String>::new());
    stack.shutdown().await;
}
