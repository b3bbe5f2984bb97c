//! One random sequence.

use crate::calling::{call_all, give_up};
use crate::gateway::{bucket_name, key, part, record, stored};
use crate::gc::Gc;
use crate::state::{Model, Name, Object, id};
use crate::versions;
use bytes::Bytes;
use index::IndexRole;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::memory::Fault as MemoryFault;
use store::{Memory, Snapshot, Store};
use types::limits::PART_BYTES_MIN;
use types::{AccountId, BlobId, BucketId, CommandId, ETag, SessionId, StampId, UploadId, VersionId};
use wire::index::{
    BucketsQuery, Call, Command, Expected, Index, ListEntry, ListQuery, Match, Named, Precondition,
    SettingKind, StoredData, UploadsEntry, UploadsQuery, VersionRef, Versioning,
};
use wire::records::{
    BucketCopy, BucketRecord, BucketSetting, OwnershipControls, PublicAccessBlock, UsageRecord,
    bucket_setting,
};
use world::{Clock, Exec, World};

const KEYS: [&str; 4] = ["a", "a\0", "a/b", "a/c"];
const NAMES: [&str; 2] = ["aaa", "bbb"];

/// A small generator: the same numbers for the same seed, everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
    fn percent(&mut self, p: u64) -> bool {
        self.roll(100) < p
    }
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// A wall clock that the sequence sets; sleeping takes no time.
struct JumpyClock(AtomicU64);

impl Clock for JumpyClock {
    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn mono(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::task::yield_now())
    }
}

/// The store that the roles see: crashes replace what is behind it.
pub struct Run {
    pub dice: Dice,
    pub gc: Gc,
    memory: Arc<Memory>,
    clock: Arc<JumpyClock>,
    pub roles: Vec<Arc<IndexRole>>,
    pub model: Model,
    session: u64,
    serial: u64,
    /// Calls that were answered, for resending.
    history: VecDeque<Call>,
}

impl Run {
    pub async fn new(seed: u64) -> Self {
        let mut run = Self {
            dice: Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d)),
            gc: Gc::default(),
            memory: Arc::new(Memory::new()),
            clock: Arc::new(JumpyClock(AtomicU64::new(1_700_000_000_000))),
            roles: Vec::new(),
            model: Model::default(),
            session: 1,
            serial: 0,
            history: VecDeque::new(),
        };
        run.open().await;
        run
    }

    async fn open(&mut self) {
        let world = World {
            clock: self.clock.clone(),
            rng: Arc::new(world::real::RealRng),
            exec: Exec::Inline,
        };
        let store: Arc<dyn Store> = self.memory.clone();
        let role = IndexRole::open(world, store, StampId::FIRST).await.unwrap();
        self.roles.push(Arc::new(role));
    }

    pub async fn all(&mut self) {
        self.make_bucket("aaa").await;
        for _ in 0..14 {
            match self.dice.roll(100) {
                0..4 => self.crash().await,
                4..8 => self.end_session().await,
                8..12 => self.second_owner().await,
                12..18 => self.jump(),
                18..25 => self.configure("aaa").await,
                _ => self.group().await,
            }
            if self.dice.percent(25) {
                self.check_reads().await;
            }
        }
        self.check_reads().await;
        self.check_walk().await;
        self.check_rows().await;
    }

    async fn crash(&mut self) {
        self.memory = Arc::new(self.memory.crash());
        self.roles.clear();
        self.open().await;
        self.model.seen.count("crash");
    }

    async fn second_owner(&mut self) {
        self.model.seen.count("second owner");
        if self.roles.len() == 2 {
            self.roles.remove(0);
        }
        self.open().await;
    }

    async fn end_session(&mut self) {
        self.session += 1;
        self.serial = 0;
        let role = self.dice.pick(&[0, 1]).min(self.roles.len() - 1);
        // A fault that was asked for and not met yet may hit it once; ending sessions twice is ending them once.
        let mark = SessionId(self.session);
        if self.roles[role].end_sessions_below(mark).await.is_err() {
            self.roles[role].end_sessions_below(mark).await.unwrap();
        }
        self.model.end_sessions_below(self.session);
    }

    fn jump(&mut self) {
        let to = 1_700_000_000_000 + self.dice.roll(1_000_000_000);
        if to < self.clock.0.swap(to, Ordering::Relaxed) {
            self.model.seen.count("clock back");
        }
    }

    fn call(&mut self, command: Command) -> Call {
        self.serial += 1;
        // Some gateways are slow to say what they have.
        let done_below = if self.dice.percent(30) {
            self.serial
        } else {
            self.serial.saturating_sub(8)
        };
        let id = CommandId::new(SessionId(self.session), self.serial);
        Call {
            id,
            done_below,
            command,
        }
    }

    async fn make_bucket(&mut self, name: &str) {
        let create = self.create(name, AccountId::ROOT);
        self.send(vec![create]).await;
        let made = self.model.names[name].clone();
        let (bucket, turn) = (BucketId(made.bucket), made.turn);
        let open = self.call(Command::OpenBucket {
            bucket,
            copy: copy(&made, turn),
        });
        let opened = self.call(Command::BucketOpened {
            name: bucket_name(name),
            bucket,
            turn,
        });
        self.send(vec![open, opened]).await;
        if self.dice.percent(60) {
            self.configure(name).await;
        }
    }

    /// A whole change of versioning, as a gateway makes it.
    async fn configure(&mut self, name: &str) {
        let set = self.set_versioning(name);
        let set = self.call(set);
        self.send(vec![set]).await;
        let row = self.model.names.get(name).cloned().unwrap_or_default();
        let (bucket, turn) = (BucketId(row.bucket), row.turn);
        let open = Command::OpenBucket {
            bucket,
            copy: copy(&row, turn),
        };
        let open = self.call(open);
        self.send(vec![open]).await;
        let configured = self.call(Command::BucketConfigured {
            name: bucket_name(name),
            bucket,
            turn,
            configuration: row.configuration,
        });
        self.send(vec![configured]).await;
    }

    fn set_versioning(&mut self, name: &str) -> Command {
        Command::SetVersioning {
            name: bucket_name(name),
            bucket: BucketId(self.model.names.get(name).map_or(0, |row| row.bucket)),
            versioning: self.dice.pick(&[Versioning::Enabled, Versioning::Suspended]),
        }
    }

    fn create(&mut self, name: &str, owner: AccountId) -> Call {
        let region = String::new();
        self.call(Command::CreateBucket {
            name: bucket_name(name),
            owner,
            region,
            settings: Vec::new(),
        })
    }

    /// A few calls at once, perhaps with something going wrong.
    async fn group(&mut self) {
        let mut calls: Vec<Call> = Vec::new();
        let n = 1 + self.dice.roll(6);
        for _ in 0..n {
            let old = self.history.len();
            if old > 0 && self.dice.percent(15) {
                let at = self.dice.roll(old as u64) as usize;
                calls.push(self.history[at].clone());
            } else {
                let for_gc = if self.dice.percent(12) {
                    self.gc_command().await
                } else {
                    None
                };
                let command = for_gc.unwrap_or_else(|| self.command());
                let mut call = self.call(command);
                if self.session > 1 && self.dice.percent(3) {
                    // A gateway that does not know that it was declared gone.
                    call.id = CommandId::new(SessionId(self.session - 1), 1_000_000 + self.serial);
                }
                calls.push(call);
            }
        }
        // A watermark must not pass what was not answered yet: the group's own calls.
        let first = calls
            .iter()
            .filter(|c| c.id.session().0 == self.session)
            .map(|c| c.id.serial())
            .min();
        for call in &mut calls {
            call.done_below = call.done_below.min(first.unwrap_or(0));
        }
        match self.dice.roll(100) {
            0..8 => self.fail(MemoryFault::UnknownKept, "unknown kept"),
            8..16 => self.fail(MemoryFault::UnknownLost, "unknown lost"),
            16..20 => self.memory.fail_next(MemoryFault::Full),
            _ => {}
        }
        self.send(calls).await;
    }

    fn fail(&mut self, fault: MemoryFault, what: &str) {
        self.memory.fail_next(fault);
        self.model.seen.count(what);
    }

    /// Sends calls at once, and those that had no effect again, until all are answered.
    async fn send(&mut self, mut calls: Vec<Call>) {
        for attempt in 0.. {
            assert!(attempt < 20, "{calls:?} are never answered");
            let role = self.dice.pick(&[0, 1]).min(self.roles.len() - 1);
            let role = self.roles[role].clone();
            if self.dice.percent(6) {
                self.model.seen.count("vanished");
                let polls = self.dice.roll(5);
                let vanishing = call_all(&role, &calls);
                give_up(vanishing, polls).await;
            }
            let heard = call_all(&role, &calls).await;
            let mut again = Vec::new();
            for (call, heard) in calls.into_iter().zip(heard) {
                let directory = is_directory(&call.command);
                if self.model.hear(&call, &heard, directory) {
                    self.history.push_back(call);
                } else {
                    again.push(call);
                }
            }
            while self.history.len() > 24 {
                self.history.pop_front();
            }
            if again.is_empty() {
                return;
            }
            calls = again;
        }
    }

    fn bucket_id(&mut self) -> BucketId {
        let ids: Vec<u64> = self.model.copies.keys().copied().collect();
        match ids.last() {
            Some(last) if !self.dice.percent(8) => BucketId(*last),
            Some(_) if !self.dice.percent(30) => BucketId(self.dice.pick(&ids)),
            _ => BucketId(99),
        }
    }

    fn command(&mut self) -> Command {
        match self.dice.roll(100) {
            0..32 => self.put(),
            32..47 => self.delete(),
            47..53 => {
                let (bucket, key) = (self.bucket_id(), key(self.dice.pick(&KEYS)));
                Command::CreateUpload {
                    bucket,
                    key,
                    record: Box::default(),
                }
            }
            53..82 => self.on_upload(),
            _ => self.on_bucket(),
        }
    }

    fn put(&mut self) -> Command {
        let (bucket, k) = (self.bucket_id(), self.dice.pick(&KEYS));
        let data = match self.dice.roll(5) {
            0 => StoredData::Empty,
            1 => StoredData::Inline(Bytes::from(vec![7; self.dice.roll(40) as usize + 1])),
            _ => {
                let blob = self.blob((bucket.0, k.into()));
                StoredData::Chunks(stored(blob, chunks_of(blob)))
            }
        };
        let size = match &data {
            StoredData::Empty => 0,
            StoredData::Inline(b) => b.len() as u64,
            StoredData::Chunks(c) => c.chunks.iter().map(|c| c.length).sum(),
        };
        let mut record = record(size);
        record.etag_md5 = vec![self.dice.roll(3) as u8; 16];
        let precondition = self.precondition();
        Command::Put {
            bucket,
            key: key(k),
            record,
            data,
            precondition,
        }
    }

    /// Mostly a new blob; else one that this key named or names.
    fn blob(&mut self, name: Name) -> BlobId {
        if self.dice.percent(25) {
            let booked = self
                .model
                .garbage
                .iter()
                .filter(|(n, _)| *n == name)
                .map(|(_, b)| *b);
            let live = self
                .model
                .visible(&name)
                .and_then(|o| o.blob.filter(|_| o.parts == 0));
            let mut all: Vec<u128> = booked.chain(live).collect();
            all.retain(|blob| !self.gc.forgetting.contains(blob));
            if !all.is_empty() {
                let blob = self.dice.pick(&all);
                self.gc.reused.insert(blob);
                return BlobId(blob);
            }
        }
        let late = self.gc.late.iter().position(|(of, _)| *of == name);
        if let Some(late) = late.filter(|_| self.dice.percent(30)) {
            return self.gc.late.remove(late).1;
        }
        self.serial += 1;
        let blob = BlobId::new(SessionId(self.session), self.serial);
        if self.dice.percent(20) {
            // Another one's bytes are stored too, and are slow to get their name.
            self.serial += 1;
            let late = BlobId::new(SessionId(self.session), self.serial);
            self.gc.late.push((name, late));
        }
        blob
    }

    fn precondition(&mut self) -> Precondition {
        let tag = ETag {
            md5: [self.dice.roll(3) as u8; 16],
            part_count: 0,
        };
        let mut condition = Precondition::default();
        match self.dice.roll(10) {
            0 => condition.if_none_match = Some(Match::Any),
            1 => condition.if_none_match = Some(Match::Tags(vec![tag])),
            2 => condition.if_match = Some(Match::Tags(vec![tag])),
            3 => condition.if_match = Some(Match::Any),
            _ => {}
        }
        condition
    }

    fn delete(&mut self) -> Command {
        let (bucket, k) = (self.bucket_id(), self.dice.pick(&KEYS));
        let mut precondition = self.precondition();
        if self.dice.roll(5) == 0 {
            precondition.if_size = Some(self.dice.roll(3));
        }
        let mut versions = vec![VersionRef::Null, VersionRef::Id(VersionId(7))];
        let there = self.model.versions.get(&(bucket.0, k.to_owned()));
        let ids = there.into_iter().flatten();
        versions.extend(ids.map(|o| VersionRef::Id(VersionId(id(&o.version)))));
        let version = if self.dice.percent(45) {
            self.dice.pick(&versions)
        } else {
            VersionRef::Current
        };
        Command::Delete {
            bucket,
            key: key(k),
            version,
            precondition,
        }
    }

    fn on_upload(&mut self) -> Command {
        let all: Vec<(Name, u128)> = self.model.uploads.keys().cloned().collect();
        let at = self.dice.roll(all.len() as u64 + 1) as usize;
        // An upload that is there; else one that was completed, or never was.
        let (name, upload) = all.get(at).cloned().unwrap_or_else(|| {
            let visible = self.model.versions.iter().map(|(n, all)| (n, &all[0]));
            let made = visible.into_iter().find(|(_, o)| o.parts > 0);
            made.map_or(((1, "a".into()), 5), |(n, o)| (n.clone(), o.blob.unwrap_or(5)))
        });
        let (bucket, k, upload) = (BucketId(name.0), key(&name.1), UploadId(upload));
        match self.dice.roll(10) {
            0..6 => {
                let size = self.dice.pick(&[5, PART_BYTES_MIN, PART_BYTES_MIN]);
                let (record, _) = part(1 + self.dice.roll(3) as u32, size, self.dice.roll(2) as u8);
                // A part's bytes have never been an object's, whose pages would be nobody's then.
                let data = loop {
                    let blob = self.blob(name.clone());
                    if chunks_of(blob) == 1 {
                        break stored(blob, 1);
                    }
                };
                Command::PutPart {
                    bucket,
                    key: k,
                    upload,
                    record: Box::new(record),
                    data,
                }
            }
            6 => Command::AbortUpload {
                bucket,
                key: k,
                upload,
            },
            _ => {
                let there = self.model.uploads.get(&(name.clone(), upload.0));
                let mut parts: Vec<_> = there
                    .into_iter()
                    .flat_map(|parts| parts.values())
                    .map(|p| part(p.record.number, 0, p.record.etag_md5[0]).1)
                    .collect();
                if self.dice.percent(20) {
                    parts.reverse();
                }
                if self.dice.percent(20) {
                    parts.pop();
                }
                if self.dice.percent(15) {
                    parts.push(part(9, 0, 0).1);
                }
                let (precondition, expected) = (self.precondition(), Expected::default());
                Command::CompleteUpload {
                    bucket,
                    key: k,
                    upload,
                    parts,
                    precondition,
                    expected,
                }
            }
        }
    }

    fn setting(&mut self) -> (SettingKind, Option<BucketSetting>) {
        use bucket_setting::Kind::{Ownership, PublicAccess};
        let ownership = OwnershipControls {
            object_ownership: self.dice.roll(4) as u32,
        };
        let kind = match self.dice.roll(3) {
            0 => return (SettingKind::Ownership, None),
            1 => Ownership(ownership),
            _ => PublicAccess(PublicAccessBlock::default()),
        };
        let setting = BucketSetting { kind: Some(kind) };
        (SettingKind::of(&setting).unwrap(), Some(setting))
    }

    fn on_bucket(&mut self) -> Command {
        let text = self.dice.pick(&NAMES);
        let name = bucket_name(text);
        let row = self.model.names.get(text).cloned().unwrap_or_default();
        let bucket = BucketId(row.bucket);
        let turn = row.turn.saturating_sub(self.dice.pick(&[0, 0, 0, 1])).max(1);
        let owner = self
            .dice
            .pick(&[AccountId::ROOT, AccountId::ROOT, AccountId::ROOT, AccountId(2)]);
        // Mostly the step that comes next, so that buckets are open most of the time.
        let step = match row.state {
            _ if self.dice.percent(40) => self.dice.roll(11),
            0 => 0,
            1 => self.dice.pick(&[1, 5]),
            2 => self.dice.pick(&[2, 5, 5, 9, 10]),
            _ => self.dice.pick(&[3, 4, 4, 6, 5]),
        };
        match step {
            0 => Command::CreateBucket {
                name,
                owner,
                region: String::new(),
                settings: Vec::new(),
            },
            1 => Command::BucketOpened { name, bucket, turn },
            2 => Command::BeginDeleteBucket {
                name,
                bucket,
                turn,
                stale: self.dice.percent(if row.state == 3 { 80 } else { 20 }),
            },
            3 => Command::FinishDeleteBucket { name, bucket, turn },
            4 => Command::CancelDeleteBucket { name, bucket, turn },
            5 => Command::OpenBucket {
                bucket,
                copy: copy(&row, turn),
            },
            9 => self.set_versioning(text),
            10 => Command::BucketConfigured {
                name,
                bucket,
                turn,
                configuration: row.configuration,
            },
            6 => Command::CloseBucket { bucket, turn },
            _ => {
                let (kind, value) = self.setting();
                Command::PutBucketSetting {
                    name,
                    bucket,
                    kind,
                    value,
                }
            }
        }
    }

    /// The role that reads are asked of. An owner that another has taken over from does not know it before it commits (its
    /// lease would tell it): a command first.
    async fn reader(&mut self) -> Arc<IndexRole> {
        if self.roles.len() > 1 {
            let last = self.roles.len() - 1;
            self.roles.drain(..last);
            let touch = Precondition::default();
            let delete = Command::Delete {
                bucket: BucketId(98),
                key: key("x"),
                version: VersionRef::Current,
                precondition: touch,
            };
            let begin = Command::CancelDeleteBucket {
                name: bucket_name("touch"),
                bucket: BucketId(98),
                turn: 1,
            };
            let calls = vec![self.call(delete), self.call(begin)];
            self.send(calls).await;
        }
        self.roles[0].clone()
    }

    async fn check_reads(&mut self) {
        let role = self.reader().await;
        let buckets: Vec<u64> = self.model.copies.keys().copied().collect();
        for b in buckets {
            for k in KEYS {
                versions::check_found(&self.model, &role, b, k).await;
                let found = role
                    .get(BucketId(b), &key(k), VersionRef::Current, true)
                    .await
                    .unwrap()
                    .ok()
                    .filter(|found| !found.record.delete_marker);
                let object = self.model.visible(&(b, k.to_owned()));
                assert_eq!(found.is_some(), object.is_some(), "{k:?} in {b}");
                if let (Some(found), Some(object)) = (found, object) {
                    assert_eq!(found.record.version, object.version);
                    assert_eq!(found.record.modified_ms, object.modified_ms);
                    assert_eq!(
                        (&found.record.etag_md5, found.record.size),
                        (&object.md5, object.size)
                    );
                    assert_eq!(found.inline, object.inline);
                    assert_eq!(
                        found.manifest.iter().map(|p| p.chunks.len()).sum::<usize>() > 0,
                        object.chunks > 16
                    );
                }
            }
            self.check_lists(&role, b).await;
            versions::check_page(&self.model, &role, b, &mut self.dice).await;
            self.check_usage(&role, b).await;
        }
        for name in NAMES {
            let row = role.bucket(&bucket_name(name)).await.unwrap().ok();
            assert_eq!(row.as_ref(), self.model.names.get(name));
            for kind in [SettingKind::Ownership, SettingKind::PublicAccess] {
                // Of the bucket's number, whoever has it now and whether or not it is there still.
                let bucket = row.as_ref().map_or(1, |r| r.bucket);
                let told = role.bucket_setting(BucketId(bucket), kind).await.unwrap();
                assert_eq!(told.as_ref(), self.model.settings.get(&(bucket, kind as u32)));
            }
        }
        let mine = self
            .model
            .names
            .values()
            .filter(|b| b.owner == AccountId::ROOT.0)
            .cloned();
        assert_eq!(
            role.buckets(BucketsQuery::of(AccountId::ROOT)).await.unwrap(),
            mine.collect::<Vec<_>>()
        );
    }

    async fn check_lists(&mut self, role: &IndexRole, b: u64) {
        let (prefix, delimiter) = (self.dice.pick(&["", "a", "a/"]), self.dice.pick(&["", "/", "\0"]));
        let after = self.dice.pick(&["", "a", "a/", "a/b", "a\0", "zz"]);
        let max = 1 + self.dice.roll(4) as u32;
        let query = ListQuery {
            bucket: BucketId(b),
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            after: after.into(),
            max,
        };
        let page = role.list(query.clone()).await.unwrap().unwrap();
        let name = |e: ListEntry| match e {
            ListEntry::Object { key, .. } => key,
            ListEntry::Prefix(p) => format!("[{p}]"),
        };
        let names: Vec<String> = page.entries.into_iter().map(name).collect();
        let mut expected = self.model.list(b, (prefix, delimiter, after));
        let truncated = expected.len() > max as usize;
        expected.truncate(max as usize);
        assert_eq!((names, page.truncated), (expected, truncated), "{query:?}");

        let query = UploadsQuery {
            bucket: BucketId(b),
            prefix: String::new(),
            delimiter: String::new(),
            after: (String::new(), None),
            max: 1000,
        };
        let page = role.uploads(query).await.unwrap().unwrap();
        let uploads: Vec<(String, Vec<u8>)> = page
            .entries
            .into_iter()
            .map(|e| match e {
                UploadsEntry::Upload { key, record } => (key, record.upload),
                UploadsEntry::Prefix(p) => panic!("{p}"),
            })
            .collect();
        let there = self.model.uploads.keys().filter(|((bucket, _), _)| *bucket == b);
        let there: Vec<_> = there
            .map(|((_, k), u)| (k.clone(), u.to_be_bytes().to_vec()))
            .collect();
        assert_eq!(uploads, there);
    }

    async fn check_usage(&self, role: &IndexRole, b: u64) {
        let mut expected = UsageRecord::default();
        for (name, all) in self.model.versions.iter().filter(|(n, _)| n.0 == b) {
            expected.objects += i64::from(self.model.visible(name).is_some());
            expected.versions += all.len() as i64;
            expected.bytes += all.iter().map(|o| o.size as i64).sum::<i64>();
        }
        for (_, parts) in self.model.uploads.iter().filter(|((n, _), _)| n.0 == b) {
            expected.uploads += 1;
            expected.part_bytes += parts.values().map(|p| p.record.size as i64).sum::<i64>();
        }
        let usage = role.usage(BucketId(b)).await.unwrap();
        let told = usage.first().map(|(_, u)| *u).unwrap_or_default();
        assert_eq!(told, expected, "usage of {b}");
    }

    /// I3: everything that names bytes, and everything that is booked, and nothing else.
    async fn check_walk(&mut self) {
        let role = self.reader().await;
        let (mut objects, mut parts, mut garbage) = (0, 0, Vec::new());
        for named in crate::gateway::walked(&*role).await {
            match named {
                Named::Object { .. } => objects += 1,
                Named::Part { .. } => parts += 1,
                Named::Stray { what } => panic!("{what}"),
                Named::Garbage {
                    bucket,
                    key,
                    garbage: g,
                } => {
                    garbage.push(((bucket.0, key), u128::from_be_bytes(g.blob.try_into().unwrap())));
                }
            }
        }
        assert_eq!(objects, self.model.versions.values().map(Vec::len).sum::<usize>());
        assert_eq!(parts, self.model.uploads.values().map(|p| p.len()).sum::<usize>());
        assert_eq!(garbage, self.model.garbage.iter().cloned().collect::<Vec<_>>());
    }

    /// No inline row without its object, none that names a null version but where it stands among the older ones, no
    /// answer kept that was let go.
    async fn check_rows(&mut self) {
        let snapshot = self
            .memory
            .snapshot(types::PartitionId::FIRST_DATA)
            .await
            .unwrap();
        let count = async |snapshot: &dyn Snapshot, table: u8| {
            let scan = store::Scan {
                start: Bytes::copy_from_slice(&[table]),
                end: Bytes::copy_from_slice(&[table + 1]),
                max: 1024,
            };
            snapshot.scan(&scan).await.unwrap().len()
        };
        let all = self.model.versions.values();
        let inline = all.clone().flatten().filter(|o| o.inline.is_some()).count();
        assert_eq!(count(&*snapshot, 0x15).await, inline, "inline rows");
        let is_older = |(at, o): (usize, &Object)| o.is_null && (at > 0 || o.is_marker);
        let nulls = all.filter(|all| all.iter().enumerate().any(is_older)).count();
        assert_eq!(count(&*snapshot, 0x17).await, nulls, "rows of null versions");
        assert_eq!(
            count(&*snapshot, 0x03).await,
            self.model.data.done.len(),
            "answers kept"
        );
    }
}

fn copy(row: &BucketRecord, turn: u64) -> BucketCopy {
    BucketCopy {
        turn,
        configuration: row.configuration,
        versioning: row.versioning,
        owner: AccountId::ROOT.0,
        ..BucketCopy::default()
    }
}

fn is_directory(command: &Command) -> bool {
    let name = crate::state::command_name(command);
    matches!(
        name.as_str(),
        "CreateBucket"
            | "BucketOpened"
            | "BeginDeleteBucket"
            | "FinishDeleteBucket"
            | "CancelDeleteBucket"
            | "PutBucketSetting"
            | "SetVersioning"
            | "BucketConfigured"
    )
}

/// How many chunks a blob has, whoever names it: its pages, if it has any, are always the same.
fn chunks_of(blob: BlobId) -> u64 {
    if blob.0.is_multiple_of(4) { 17 } else { 1 }
}
