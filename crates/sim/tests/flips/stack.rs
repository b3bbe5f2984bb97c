//! Every role of one process on a disk in memory, wired as the server wires them, and what it answers.

use blob::Blob;
use bytes::Bytes;
use control::ControlPlane;
use extent::{DataDir, DataDirConfig, ExtentError, Found};
use index::IndexRole;
use node::LocalNode;
use objects::{
    Body, BodyError, Caller, DeleteObject, Expect, ListBuckets, ListObjects, ListUploads, ListVersions,
    Objects, ObjectsError, PutObject, PutPart, StartUpload,
};
use sim::{SimClock, SimRng};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use store::{Embedded, Prepared, Store};
use types::{AccountId, BucketName, NodeId, ObjectKey, StampId};
use wire::index::{Index, Precondition, VersionRef, Versioning};
use wire::node::Node;
use wire::records::ContentHeaders;
use world::{Clock, Disk, Exec, World};

const NODE: NodeId = NodeId(1);
const CALLER: Caller = Caller {
    account: AccountId::ROOT,
};

/// What was asked, and the answer, to be compared.
pub(crate) type Answers = Vec<(String, Result<String, ObjectsError>)>;

pub(crate) struct Stack {
    clock: Arc<SimClock>,
    world: World,
    control: Arc<ControlPlane>,
    node: Arc<LocalNode>,
    store: Arc<Embedded>,
    index: Arc<IndexRole>,
    objects: Arc<Objects>,
}

/// Opens what is there, as `cairn server` does; says why not.
pub(crate) async fn open(disk: Arc<dyn Disk>, seed: u64) -> Result<Stack, String> {
    let clock = Arc::new(SimClock::new(1_700_000_000_000 + seed));
    let world = World {
        clock: clock.clone(),
        rng: Arc::new(SimRng::new(seed)),
        exec: Exec::Inline,
    };
    let config = DataDirConfig {
        journal_bytes: Some(64 << 10),
        extent_bytes: Some(512 << 10),
        extent_step_bytes: Some(64 << 10),
        ballast_bytes: Some(16 << 10),
        ..DataDirConfig::default()
    };
    let (dir, store) = open_disk(&world, disk, config)?;
    let engine: Arc<dyn Store> = store.clone();
    let node = Arc::new(LocalNode::new(world.clone(), NODE, vec![dir]));
    let nodes: BTreeMap<NodeId, Arc<dyn Node>> = BTreeMap::from([(NODE, node.clone() as Arc<dyn Node>)]);
    let listed = nodes.clone().into_iter().collect();
    let told = |fault: wire::Fault| fault.to_string();
    let control = ControlPlane::open(world.clone(), engine.clone(), listed)
        .await
        .map_err(told)?;
    let index = IndexRole::open(world.clone(), engine, StampId::FIRST)
        .await
        .map_err(told)?;
    let index = Arc::new(index);
    let control = Arc::new(control);
    let session = wire::control::Control::begin_session(&*control, "local")
        .await
        .map_err(told)?;
    index.end_sessions_below(session).await.map_err(told)?;
    // The journal is small, too.
    let small = blob::Config {
        chunk_bytes_max: 256 << 10,
        frame_bytes_max: types::limits::BLOCK_BYTES,
        small_bytes_max: 8 << 10,
        ..blob::Config::default()
    };
    let blob = Arc::new(Blob::with_config(
        world.clone(),
        control.clone(),
        nodes,
        session,
        small,
    ));
    let named: Arc<dyn Index> = index.clone();
    let objects = Arc::new(Objects::new(world.clone(), blob, named, session));
    Ok(Stack {
        clock,
        world,
        control,
        node,
        store,
        index,
        objects,
    })
}

/// The directory and the index's engine; neither where any partition is not to be had.
fn open_disk(
    world: &World,
    disk: Arc<dyn Disk>,
    config: DataDirConfig,
) -> Result<(DataDir, Arc<Embedded>), String> {
    let mut prepared = None;
    let mut judge = |found: &Found<'_>| {
        let corrupt = |e: store::StoreError| ExtentError::Corrupt(e.to_string());
        let batches = found.batches.iter().cloned();
        let index = Prepared::new(disk.clone(), found.disk, batches, found.lost).map_err(corrupt)?;
        if let Some((_, e)) = index.broken().pop() {
            return Err(corrupt(e));
        }
        prepared = Some(index);
        Ok(())
    };
    let opened = DataDir::open_judged(world, disk.clone(), config, &mut judge).map_err(|e| e.to_string())?;
    let engine = Embedded::resume(world, prepared.expect("it was judged"), opened.dir.journal());
    Ok((opened.dir, Arc::new(engine)))
}

fn name(name: &str) -> BucketName {
    BucketName::new(name).unwrap()
}

fn key(key: &str) -> ObjectKey {
    ObjectKey::new(key).unwrap()
}

struct Once(Option<Bytes>);

#[async_trait::async_trait]
impl Body for Once {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(self.0.take())
    }
    fn trailer(&mut self) -> Vec<types::Checksum> {
        Vec::new()
    }
}

/// Bytes of a given length that no two objects share.
fn body(k: &str, n: u64, length: usize) -> Bytes {
    let seed = k
        .bytes()
        .fold(n + 1, |all, b| all.wrapping_mul(31).wrapping_add(u64::from(b)));
    let dice = SimRng::new(seed);
    (0..length).map(|_| dice.below(256) as u8).collect()
}

const OBJECTS: [(&str, &str, usize); 9] = [
    ("plain", "empty", 0),
    ("plain", "inline", 300),
    ("plain", "small", 2_000),
    ("plain", "dir/a", 700),
    ("plain", "dir/b", 5_000),
    ("plain", "large", 30_000),
    ("kept", "often", 400),
    ("kept", "gone", 900),
    ("kept", "once", 3_000),
];

impl Stack {
    async fn put(&self, bucket: &str, k: &str, bytes: Bytes) {
        let put = PutObject {
            bucket: name(bucket),
            key: key(k),
            length: bytes.len() as u64,
            body: Box::new(Once(Some(bytes).filter(|b| !b.is_empty()))),
            expect: Expect::default(),
            headers: ContentHeaders::default(),
            metadata: Vec::new(),
            tags: Vec::new(),
            checksum: None,
            precondition: Precondition::default(),
        };
        self.objects.put(&CALLER, put).await.unwrap();
    }

    /// Fills an empty store.
    pub(crate) async fn fill(&self) {
        for bucket in ["plain", "kept"] {
            self.objects.create_bucket(&CALLER, &name(bucket)).await.unwrap();
        }
        let kept = name("kept");
        self.objects
            .set_versioning(&CALLER, &kept, Versioning::Enabled)
            .await
            .unwrap();
        for (bucket, k, length) in OBJECTS {
            self.put(bucket, k, body(k, 0, length)).await;
        }
        self.put("kept", "often", body("often", 1, 2_500)).await;
        self.put("kept", "often", body("often", 2, 50)).await;
        for n in 0..20 {
            self.put("plain", &format!("many/{n:02}"), body("many", n, 100))
                .await;
        }
        let gone = DeleteObject::current(key("gone"));
        self.objects.delete(&CALLER, &kept, gone).await.unwrap();
        let gone = DeleteObject::current(key("many/07"));
        self.objects.delete(&CALLER, &name("plain"), gone).await.unwrap();
        let start = StartUpload {
            bucket: name("plain"),
            key: key("upload"),
            headers: ContentHeaders::default(),
            metadata: Vec::new(),
            tags: Vec::new(),
            checksum: None,
            checksum_kind: None,
        };
        let upload = self.objects.start_upload(&CALLER, start).await.unwrap();
        let part = PutPart {
            bucket: name("plain"),
            key: key("upload"),
            upload,
            number: 1,
            length: 1_000,
            body: Box::new(Once(Some(body("part", 1, 1_000)))),
            expect: Expect::default(),
        };
        self.objects.put_part(&CALLER, part).await.unwrap();
    }

    /// Everything that there is to ask.
    pub(crate) async fn answers(&self) -> Answers {
        let mut all = Answers::new();
        let mut told = |what: String, answer: Result<String, ObjectsError>| all.push((what, answer));
        told(
            "buckets".into(),
            text(self.objects.list_buckets(&CALLER, ListBuckets::default()).await),
        );
        let mut keys: Vec<(String, String)> = OBJECTS
            .iter()
            .map(|(b, k, _)| (b.to_string(), k.to_string()))
            .collect();
        keys.extend((0..20).map(|n| ("plain".to_owned(), format!("many/{n:02}"))));
        for (bucket, k) in &keys {
            let (bucket, k) = (name(bucket), key(k));
            let head = self.objects.head(&CALLER, &bucket, &k, VersionRef::Current).await;
            told(format!("HEAD {bucket}/{k:?}"), text(head));
            told(format!("GET {bucket}/{k:?}"), self.get(&bucket, &k).await);
        }
        for bucket in ["plain", "kept"] {
            for delimiter in ["", "/"] {
                let list = ListObjects {
                    bucket: name(bucket),
                    prefix: String::new(),
                    delimiter: delimiter.into(),
                    after: String::new(),
                    max: 1_000,
                };
                told(
                    format!("LIST {bucket} {delimiter}"),
                    text(self.objects.list(&CALLER, list).await),
                );
            }
            let versions = ListVersions {
                bucket: name(bucket),
                prefix: String::new(),
                delimiter: String::new(),
                after: (String::new(), None),
                max: 1_000,
            };
            told(
                format!("VERSIONS {bucket}"),
                text(self.objects.list_versions(&CALLER, versions).await),
            );
            let uploads = ListUploads {
                bucket: name(bucket),
                prefix: String::new(),
                delimiter: String::new(),
                after: (String::new(), None),
                max: 1_000,
            };
            told(
                format!("UPLOADS {bucket}"),
                text(self.objects.list_uploads(&CALLER, uploads).await),
            );
        }
        all
    }

    async fn get(&self, bucket: &BucketName, k: &ObjectKey) -> Result<String, ObjectsError> {
        let mut opened = self.objects.get(&CALLER, bucket, k, VersionRef::Current).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = opened.reader.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(format!("{:?} {bytes:?}", opened.record))
    }

    /// A second of rest.
    /// Lets time go on from a moment: until then it stands still for all but who sleeps.
    pub(crate) fn boot_at(&self, wall_ms: u64) {
        self.clock.boot();
        self.clock.jump_ms(wall_ms as i64 - self.clock.wall_ms() as i64);
    }

    /// What a scrub of it speaks to, and its world.
    pub(crate) fn scrubbed(&self) -> (World, worker::scrub::Roles) {
        let roles = worker::scrub::Roles {
            index: self.index.clone(),
            control: self.control.clone(),
            nodes: BTreeMap::from([(NODE, self.node.clone() as Arc<dyn Node>)]),
        };
        (self.world.clone(), roles)
    }

    pub(crate) async fn rest(&self) {
        self.clock.sleep(Duration::from_secs(1)).await;
    }

    /// Stops in order; what could not be written is in the journal.
    pub(crate) async fn stop(self) {
        self.objects.shutdown().await;
        self.index.shutdown().await;
        self.store.shutdown().await.ok();
        self.node.shutdown().await;
    }
}

fn text<T: Debug>(answer: Result<T, ObjectsError>) -> Result<String, ObjectsError> {
    answer.map(|answer| format!("{answer:?}"))
}
