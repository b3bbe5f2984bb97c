//! What the tests of this room stand on: an index in memory that keeps the contract of `wire::index::Index` for plain
//! objects and buckets and asserts its caller's side of it, and bodies.
#![allow(clippy::disallowed_methods, reason = "the paused clock is tokio's")]

use bytes::Bytes;
use objects::{Body, BodyError, Caller, Expect, Objects, PutObject};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use types::{
    AccountId, BucketId, BucketName, Checksum, CommandId, DiskId, Epoch, ErrorKind, ExtentId, NodeId,
    ObjectKey, SessionId, UploadId,
};
use wire::Fault;
use wire::control::{Control, Grant, Location};
use wire::double::{Failure, MemoryNode};
use wire::index::*;
use wire::node::Node;
use wire::records::answer::Kind;
use wire::records::object_record::Data;
use wire::records::*;
use world::{Budget, Clock, World};

pub(crate) const SESSION: SessionId = SessionId(5);
/// Of another gateway.
pub(crate) const OTHER_SESSION: SessionId = SessionId(6);
pub(crate) const CALLER: Caller = Caller {
    account: AccountId(1),
};

/// The first upload.
pub(crate) const UPLOAD: UploadId = UploadId(u128::from_be_bytes([9; 16]));

#[derive(Default)]
pub(crate) struct State {
    pub(crate) buckets: BTreeMap<String, BucketRecord>,
    /// The partition's copies: turn, and whether it takes puts.
    pub(crate) copies: BTreeMap<u64, (u64, bool)>,
    /// The versioning that the partition's copies say.
    pub(crate) versioning: BTreeMap<u64, u32>,
    pub(crate) objects: BTreeMap<(u64, String), Found>,
    pub(crate) uploads: BTreeSet<(u64, String, UploadId)>,
    pub(crate) parts: BTreeMap<u32, PartRecord>,
    pub(crate) done: BTreeMap<CommandId, Answer>,
    /// Highest `done_below` seen of each session: answers below it are forgotten.
    floors: BTreeMap<SessionId, u64>,
    /// What happens to the next calls, one each.
    pub(crate) planned: VecDeque<Option<Failure>>,
    pub(crate) calls: Vec<Call>,
    /// What the next look at a bucket's row is answered: the row as it was before another gateway went on.
    pub(crate) seen: Option<BucketRecord>,
    last_id: u64,
}

/// An index with one partition.
#[derive(Default)]
pub(crate) struct MemoryIndex {
    pub(crate) state: Mutex<State>,
    /// While locked, calls have had their effect but get no answer.
    pub(crate) answers: tokio::sync::Mutex<()>,
}

fn refused(reason: Reason) -> Kind {
    Kind::Refused(Refused {
        reason: reason as u32,
        ..Refused::default()
    })
}

fn bucket(record: &BucketRecord, existed: bool) -> Kind {
    Kind::Bucket(BucketAnswer {
        bucket: Some(record.clone()),
        existed,
    })
}

impl State {
    fn decide(&mut self, command: Command) -> Kind {
        match command {
            Command::CreateBucket {
                name, owner, region, ..
            } => self.create(name, owner, region),
            Command::BucketOpened { name, turn, .. } | Command::CancelDeleteBucket { name, turn, .. } => {
                match self.buckets.get_mut(name.as_str()) {
                    Some(r) if r.turn == turn => {
                        r.state = 2;
                        bucket(r, true)
                    }
                    Some(_) => refused(Reason::BucketBusy),
                    None => refused(Reason::NoSuchBucket),
                }
            }
            Command::BeginDeleteBucket {
                name,
                bucket: id,
                turn,
                stale,
            } => self.begin_delete(&name, (id.0, turn, if stale { 3 } else { 2 })),
            Command::FinishDeleteBucket { name, turn, .. } => match self.buckets.get(name.as_str()) {
                Some(r) if r.turn == turn && r.state == 3 => {
                    self.buckets.remove(name.as_str());
                    Kind::Nothing(Nothing {})
                }
                _ => refused(Reason::BucketBusy),
            },
            Command::PutBucketSetting { .. } => Kind::Nothing(Nothing {}),
            Command::SetVersioning { .. } | Command::BucketConfigured { .. } => self.configure(command),
            Command::OpenBucket { bucket, copy } => {
                self.versioning.insert(bucket.0, copy.versioning);
                let of = self.copies.entry(bucket.0).or_default();
                if copy.turn >= of.0 {
                    *of = (copy.turn, true);
                }
                Kind::Nothing(Nothing {})
            }
            Command::CloseBucket { bucket, turn } => {
                let of = self.copies.entry(bucket.0).or_default();
                if turn < of.0 {
                    return refused(Reason::BucketBusy);
                }
                *of = (turn, false);
                let objects = self.objects.keys().any(|(b, _)| *b == bucket.0);
                let uploads = self.uploads.iter().any(|(b, ..)| *b == bucket.0);
                Kind::Close(CloseAnswer {
                    empty: !objects && !uploads,
                    only_uploads: !objects && uploads,
                })
            }
            Command::Put {
                bucket,
                key,
                record,
                data,
                precondition,
            } => self.put((bucket, key), *record, data, &precondition),
            // What it would join is the index's business; tests look at what was asked.
            Command::Append { .. } => refused(Reason::AppendRaced),
            Command::SetTags { .. } => refused(Reason::NoSuchKey),
            Command::Delete { bucket, key, .. } => self.delete(bucket, key),
            on_upload => self.decide_on_upload(on_upload),
        }
    }

    fn decide_on_upload(&mut self, command: Command) -> Kind {
        match command {
            Command::CreateUpload { bucket, .. }
            | Command::PutPart { bucket, .. }
            | Command::CompleteUpload { bucket, .. }
                if !self.copies.get(&bucket.0).is_some_and(|c| c.1) =>
            {
                refused(Reason::BucketBusy)
            }
            Command::PutPart { record, data, .. } => {
                self.parts.insert(
                    record.number,
                    PartRecord {
                        chunks: data.chunks,
                        ..*record
                    },
                );
                Kind::Part(PartAnswer { modified_ms: 7 })
            }
            Command::CreateUpload { bucket, key, .. } => {
                let upload = UploadId(UPLOAD.0 + self.uploads.len() as u128);
                self.uploads.insert((bucket.0, key.as_str().into(), upload));
                Kind::Upload(UploadAnswer {
                    upload: upload.to_bytes().to_vec(),
                })
            }
            Command::CompleteUpload {
                bucket, key, upload, ..
            } => {
                let at = (bucket.0, key.as_str().to_owned(), upload);
                if !self.uploads.remove(&at) {
                    return refused(Reason::NoSuchUpload);
                }
                let found = Found {
                    record: ObjectRecord::default(),
                    inline: None,
                    manifest: Vec::new(),
                };
                self.objects.insert((at.0, at.1), found);
                Kind::Put(PutAnswer::default())
            }
            Command::AbortUpload { bucket, key, upload } => {
                match self.uploads.remove(&(bucket.0, key.as_str().into(), upload)) {
                    true => Kind::Nothing(Nothing {}),
                    false => refused(Reason::NoSuchUpload),
                }
            }
            other => panic!("{other:?} comes from no gateway"),
        }
    }

    fn begin_delete(&mut self, name: &BucketName, seen: (u64, u64, u32)) -> Kind {
        match self.buckets.get_mut(name.as_str()) {
            Some(r) if (r.bucket, r.turn, r.state) == seen => {
                (r.turn, r.state) = (r.turn + 1, 3);
                bucket(r, true)
            }
            Some(r) if r.bucket == seen.0 => refused(Reason::BucketBusy),
            _ => refused(Reason::NoSuchBucket),
        }
    }

    fn configure(&mut self, command: Command) -> Kind {
        let (Command::SetVersioning { name, .. } | Command::BucketConfigured { name, .. }) = &command else {
            panic!("{command:?} configures nothing");
        };
        let Some(record) = self.buckets.get_mut(name.as_str()) else {
            return refused(Reason::NoSuchBucket);
        };
        match command {
            Command::SetVersioning { versioning, .. } => {
                record.versioning = versioning as u32;
                record.configuration += 1;
            }
            Command::BucketConfigured { configuration, .. } => {
                let reached = self.versioning.get(&record.bucket);
                assert_eq!(reached, Some(&record.versioning), "the partition has it first");
                record.configured = configuration;
            }
            _ => {}
        }
        bucket(record, true)
    }

    fn delete(&mut self, bucket: BucketId, key: ObjectKey) -> Kind {
        let existed = self
            .objects
            .remove(&(bucket.0, key.as_str().to_owned()))
            .is_some();
        Kind::Delete(DeleteAnswer {
            existed,
            ..DeleteAnswer::default()
        })
    }

    fn create(&mut self, name: BucketName, owner: AccountId, region: String) -> Kind {
        match self.buckets.get(name.as_str()) {
            Some(r) if r.owner != owner.0 => refused(Reason::BucketExists),
            Some(r) if r.state == 3 => refused(Reason::BucketBusy),
            Some(r) => bucket(r, true),
            None => {
                self.last_id += 1;
                let record = BucketRecord {
                    bucket: self.last_id,
                    name: name.as_str().into(),
                    owner: owner.0,
                    region,
                    turn: 1,
                    state: 1,
                    configuration: 1,
                    ..BucketRecord::default()
                };
                self.buckets.insert(name.as_str().into(), record.clone());
                bucket(&record, false)
            }
        }
    }

    fn put(
        &mut self,
        at: (BucketId, ObjectKey),
        record: ObjectRecord,
        data: StoredData,
        p: &Precondition,
    ) -> Kind {
        if !self.copies.get(&at.0.0).is_some_and(|c| c.1) {
            return refused(Reason::NoSuchBucket);
        }
        let key = (at.0.0, at.1.as_str().to_owned());
        if p.if_none_match == Some(Match::Any) && self.objects.contains_key(&key) {
            return refused(Reason::PreconditionFailed);
        }
        let blob = match &data {
            StoredData::Chunks(c) => c.blob.to_bytes().to_vec(),
            _ => Vec::new(),
        };
        let (data, inline) = match data {
            StoredData::Empty => (None, None),
            StoredData::Inline(b) => {
                let crc32c = crc_fast::crc32_iscsi(&b);
                (
                    Some(Data::Inline(Inline {
                        length: b.len() as u32,
                        crc32c,
                    })),
                    Some(b),
                )
            }
            StoredData::Chunks(c) => (Some(Data::Chunks(Chunks { chunks: c.chunks })), None),
        };
        let answer = PutAnswer {
            etag_md5: record.etag_md5.clone(),
            size: record.size,
            ..PutAnswer::default()
        };
        self.objects.insert(
            key,
            Found {
                record: ObjectRecord { data, blob, ..record },
                inline,
                manifest: Vec::new(),
            },
        );
        Kind::Put(answer)
    }
}

impl MemoryIndex {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn plan(&self, failures: impl IntoIterator<Item = Failure>) {
        self.state().planned.extend(failures.into_iter().map(Some));
    }

    /// The call after the next `calls` ones fails.
    pub(crate) fn plan_after(&self, calls: usize, failure: Failure) {
        let mut state = self.state();
        state.planned.extend(vec![None; calls]);
        state.planned.push_back(Some(failure));
    }
}

#[async_trait::async_trait]
impl Index for MemoryIndex {
    async fn call(&self, call: Call) -> Answered {
        let answer = {
            let mut state = self.state();
            let failure = state.planned.pop_front().flatten();
            let session = call.id.session();
            assert!([SESSION, OTHER_SESSION].contains(&session));
            // I11: below the watermark nothing comes again, for its answer is forgotten.
            let floor = state.floors.get(&session).copied().unwrap_or(0);
            assert!(
                call.id.serial() >= floor,
                "{:?} after done_below {floor}",
                call.id
            );
            assert!(call.done_below <= call.id.serial());
            let floor = floor.max(call.done_below);
            state.floors.insert(session, floor);
            if let Some(old) = state.calls.iter().find(|c| c.id == call.id) {
                assert_eq!(old, &call, "a command is sent again unchanged");
            }
            state.calls.push(call.clone());
            if let Some(Failure::Before(kind)) = failure {
                return Err(Fault::new(kind, "planned before"));
            }
            let answer = match state.done.get(&call.id) {
                Some(answer) => answer.clone(),
                None => Answer {
                    kind: Some(state.decide(call.command)),
                },
            };
            state.done.insert(call.id, answer.clone());
            let is_kept = |id: &CommandId| id.session() != session || id.serial() >= floor;
            state.done.retain(|id, _| is_kept(id));
            if let Some(Failure::After(kind)) = failure {
                return Err(Fault::new(kind, "planned after"));
            }
            answer
        };
        tokio::task::yield_now().await;
        let _may_answer = self.answers.lock().await;
        Ok(answer)
    }

    async fn bucket(&self, name: &BucketName) -> ReadAnswer<BucketRecord> {
        let mut state = self.state();
        let seen = state.seen.take();
        let row = seen.or_else(|| state.buckets.get(name.as_str()).cloned());
        Ok(row.ok_or(Reason::NoSuchBucket))
    }
    async fn bucket_setting(&self, _: BucketId, _: SettingKind) -> Result<Option<BucketSetting>, Fault> {
        Ok(None)
    }

    async fn buckets(&self, query: BucketsQuery) -> Result<Vec<BucketRecord>, Fault> {
        Ok(self
            .state()
            .buckets
            .values()
            .filter(|b| b.owner == query.owner.0)
            .cloned()
            .collect())
    }
    async fn get(&self, b: BucketId, key: &ObjectKey, _: VersionRef, _: bool) -> ReadAnswer<Found> {
        Ok(self
            .state()
            .objects
            .get(&(b.0, key.as_str().into()))
            .cloned()
            .ok_or(Reason::NoSuchKey))
    }
    async fn list_versions(&self, _: VersionsQuery) -> ReadAnswer<VersionsPage> {
        Ok(Ok(VersionsPage::default()))
    }
    async fn list(&self, query: ListQuery) -> ReadAnswer<ListPage> {
        let state = self.state();
        let of = state
            .objects
            .iter()
            .filter(|((b, k), _)| *b == query.bucket.0 && k.starts_with(&query.prefix));
        let entry = |((_, k), f): (&(u64, String), &Found)| ListEntry::object(k.clone(), &f.record);
        Ok(Ok(ListPage {
            entries: of.map(entry).collect(),
            truncated: false,
        }))
    }
    async fn uploads(&self, query: UploadsQuery) -> ReadAnswer<UploadsPage> {
        assert!(query.prefix.is_empty() && query.delimiter.is_empty());
        let state = self.state();
        let is_after = |key: &str, upload| match (&query.after.0, query.after.1) {
            (after, Some(last)) => (key, upload) > (after.as_str(), last),
            (after, None) => key > after.as_str(),
        };
        let entry = |(_, key, upload): &(u64, String, UploadId)| UploadsEntry::Upload {
            key: key.clone(),
            record: UploadRecord {
                upload: upload.to_bytes().to_vec(),
                ..UploadRecord::default()
            },
        };
        let there = state.uploads.iter();
        let mut entries: Vec<_> = there
            .filter(|(b, key, upload)| *b == query.bucket.0 && is_after(key, *upload))
            .map(entry)
            .collect();
        let truncated = entries.len() > query.max as usize;
        entries.truncate(query.max as usize);
        Ok(Ok(UploadsPage { entries, truncated }))
    }
    async fn parts(
        &self,
        _: BucketId,
        _: &ObjectKey,
        upload: UploadId,
        _: u32,
        _: u32,
    ) -> ReadAnswer<PartsPage> {
        if !self.state().uploads.iter().any(|(.., u)| *u == upload) {
            return Ok(Err(Reason::NoSuchUpload));
        }
        let parts = self.state().parts.values().cloned().collect();
        Ok(Ok(PartsPage {
            upload: UploadRecord::default(),
            parts,
            truncated: false,
        }))
    }
    async fn usage(&self, _: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault> {
        Ok(Vec::new())
    }
    async fn walk(&self, _: Bytes) -> Result<(Vec<Named>, Bytes), Fault> {
        Ok((Vec::new(), Bytes::new()))
    }
}

/// One extent for all.
struct OneExtent;

#[async_trait::async_trait]
impl Control for OneExtent {
    async fn begin_session(&self, _: &str) -> Result<SessionId, Fault> {
        Ok(SESSION)
    }
    async fn end_session(&self, _: SessionId) -> Result<(), Fault> {
        Ok(())
    }
    async fn grant(&self, _: SessionId) -> Result<Grant, Fault> {
        Ok(Grant {
            extent: ExtentId(1),
            epoch: Epoch(1),
            replicas: vec![(NodeId(1), DiskId(7))],
            bytes_max: 1 << 30,
        })
    }
    async fn seal(&self, _: ExtentId, _: Epoch) -> Result<(), Fault> {
        Err(Fault::new(ErrorKind::Unavailable, "there is one extent"))
    }
    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault> {
        Ok(Location {
            extent,
            replicas: vec![(NodeId(1), DiskId(7))],
        })
    }
    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        Ok(Vec::new())
    }
}

/// The runtime's clock, which tests may pause.
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn wall_ms(&self) -> u64 {
        1_000_000
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(d))
    }
}

pub(crate) struct Bench {
    pub(crate) node: MemoryNode,
    pub(crate) index: Arc<MemoryIndex>,
    pub(crate) objects: Arc<Objects>,
}

/// A gateway of a session over an index and a node.
pub(crate) fn gateway(node: &MemoryNode, index: &Arc<MemoryIndex>, session: SessionId) -> Arc<Objects> {
    gateway_in(node, index, session, Budget::boundless(world().clock))
}

pub(crate) fn world() -> World {
    World {
        clock: Arc::new(RuntimeClock(tokio::time::Instant::now())),
        ..World::real()
    }
}

/// The same in so much memory.
pub(crate) fn gateway_in(
    node: &MemoryNode,
    index: &Arc<MemoryIndex>,
    session: SessionId,
    budget: Arc<Budget>,
) -> Arc<Objects> {
    let world = world();
    let nodes: BTreeMap<NodeId, Arc<dyn Node>> =
        BTreeMap::from([(NodeId(1), Arc::new(node.clone()) as Arc<dyn Node>)]);
    let control = Arc::new(OneExtent);
    let blob = blob::Blob::new(world.clone(), control, nodes, session).with_budget(budget);
    let index = Arc::clone(index) as Arc<dyn Index>;
    Arc::new(Objects::new(world, Arc::new(blob), index, session))
}

pub(crate) fn name() -> BucketName {
    BucketName::new("bucket").unwrap()
}

pub(crate) fn key(k: &str) -> ObjectKey {
    ObjectKey::new(k).unwrap()
}

/// Without a bucket.
pub(crate) async fn bare() -> Bench {
    let node = MemoryNode::new(DiskId(7), 1 << 30);
    node.open_extent(DiskId(7), ExtentId(1), Epoch(1), 1 << 30)
        .await
        .unwrap();
    let index = Arc::<MemoryIndex>::default();
    let objects = gateway(&node, &index, SESSION);
    Bench { node, index, objects }
}

/// With a bucket.
pub(crate) async fn bench() -> Bench {
    let b = bare().await;
    b.objects.create_bucket(&CALLER, &name()).await.unwrap();
    b
}

/// A body in pieces, then an error or the end; a trailer.
pub(crate) struct Pieces {
    pub(crate) pieces: VecDeque<Bytes>,
    pub(crate) error: Option<BodyError>,
    pub(crate) trailer: Vec<Checksum>,
    pub(crate) hang: bool,
}

#[async_trait::async_trait]
impl Body for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        tokio::task::yield_now().await;
        if let Some(piece) = self.pieces.pop_front() {
            return Ok(Some(piece));
        }
        if self.hang {
            std::future::pending::<()>().await;
        }
        self.error.take().map_or(Ok(None), Err)
    }
    fn trailer(&mut self) -> Vec<Checksum> {
        std::mem::take(&mut self.trailer)
    }
}

pub(crate) fn pieces(all: &[u8]) -> Pieces {
    Pieces {
        pieces: all.chunks(70_000).map(Bytes::copy_from_slice).collect(),
        error: None,
        trailer: Vec::new(),
        hang: false,
    }
}

pub(crate) fn put_of(k: &str, length: u64, body: Pieces) -> PutObject {
    PutObject {
        bucket: name(),
        key: key(k),
        length,
        body: Box::new(body),
        expect: Expect::default(),
        headers: ContentHeaders::default(),
        metadata: Vec::new(),
        tags: Vec::new(),
        checksum: None,
        precondition: Precondition::default(),
    }
}

/// Bytes that differ everywhere.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

impl Bench {
    pub(crate) async fn put(&self, k: &str, all: &[u8]) -> Result<PutAnswer, objects::ObjectsError> {
        self.objects
            .put(&CALLER, put_of(k, all.len() as u64, pieces(all)))
            .await
    }

    pub(crate) async fn get(&self, k: &str) -> Result<Vec<u8>, objects::ObjectsError> {
        let mut opened = self
            .objects
            .get(&CALLER, &name(), &key(k), VersionRef::Current)
            .await?;
        let mut all = Vec::new();
        while let Some(piece) = opened.reader.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}
