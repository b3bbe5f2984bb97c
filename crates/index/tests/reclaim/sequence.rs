//! Random sequences through every path that names or unnames needles, with gc among them, crashes, and commands that come again.
//!
//! I3: every needle that an accepted command named is, at every moment, named, booked, or was handed over by gc: exactly one of
//! these, so none leaks and none is booked twice; what is condemned is none of them, ever after. And what `reached` says of a needle is what a
//! walk over everything finds.

use crate::gateway::{Gateway, answer, key, part, record};
use crate::store::{CONDEMNED, Store, needles};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::limits::PART_BYTES_MIN;
use types::{BlobId, ErrorKind, UploadId, VersionId};
use wire::index::{
    AppendData, Call, Command, Doubt, Expected, Index, NamedPart, Precondition, Reach, Reason, Reclaim,
    StoredChunks, StoredData, VersionRef,
};
use wire::records::{Answer, Chunk, Pair, answer::Kind, object_record::Data};

/// As long as a key can be in a row: what is left of an upload of some hundred parts is too much for one commit.
const LONG: &str = match std::str::from_utf8(&[0; 1024]) {
    Ok(key) => key,
    Err(_) => panic!(),
};
const KEYS: [&str; 2] = ["a", LONG];
const ENDED: u8 = 0x18;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// A blob on its way: stored, and not named.
struct Sent {
    k: &'static str,
    upload: Option<(UploadId, u32)>,
    stored: StoredChunks,
}

struct Upload {
    k: &'static str,
    parts: BTreeMap<u32, NamedPart>,
}

struct Sequence {
    dice: Dice,
    s: Store,
    keeps_versions: bool,
    blobs: u64,
    /// Whose each needle says it is.
    doubts: BTreeMap<u64, Doubt>,
    ever_named: BTreeSet<u64>,
    handed_over: BTreeSet<u64>,
    condemned: BTreeSet<u64>,
    /// Puts that are slow to come.
    late: Vec<Sent>,
    uploads: BTreeMap<UploadId, Upload>,
    /// Calls with their answers: they may come again.
    answered: Vec<(Call, Answer)>,
    seen: BTreeMap<&'static str, u64>,
}

impl Sequence {
    async fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let s = Store::new().await;
        let keeps_versions = dice.roll(2) == 0;
        if keeps_versions {
            s.versioning(1).await;
        }
        Self {
            dice,
            s,
            keeps_versions,
            blobs: 0,
            doubts: BTreeMap::new(),
            ever_named: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            condemned: BTreeSet::new(),
            late: Vec::new(),
            uploads: BTreeMap::new(),
            answered: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Bytes down.
    fn store(&mut self, k: &'static str, upload: Option<(UploadId, u32)>, chunks: u64) -> Sent {
        self.blobs += 1;
        let first = self.blobs << 16;
        let chunks = (0..chunks).map(|i| Chunk {
            place: 7,
            needle: first + i,
            stored_length: 5000,
            length: 4096,
            hint_offset: 1 << 28,
            crc32c: 7,
            ..Chunk::default()
        });
        let stored = StoredChunks {
            blob: self.s.g.blob(),
            chunks: chunks.collect(),
            ordered: Vec::new(),
        };
        for chunk in &stored.chunks {
            let doubt = self.s.doubt(k, upload, stored.blob, chunk);
            self.doubts.insert(chunk.needle, doubt);
        }
        Sent { k, upload, stored }
    }

    async fn send(&mut self, command: Command) -> Result<Kind, Reason> {
        let call = self.s.g.call_of(command);
        let heard = self.s.g.index.call(call.clone()).await.unwrap();
        self.answered.push((call, heard.clone()));
        answer(heard.kind.unwrap())
    }

    /// A command that names needles: it is refused if one of them is condemned, and else they are named.
    async fn name(&mut self, command: Command, stored: &StoredChunks) -> bool {
        let needles = needles(&stored.chunks);
        let gone = needles.iter().any(|n| self.condemned.contains(n));
        match self.send(command).await {
            Ok(_) => {
                assert!(!gone, "I3: a condemned needle of {} has a name", stored.blob);
                self.ever_named.extend(needles);
                true
            }
            Err(Reason::BlobGone) => {
                let ended = stored.blob.session() < self.s.g.session;
                assert!(gone || ended, "{} was refused for nothing", stored.blob);
                self.count("refused");
                false
            }
            Err(other) => {
                let expected = [
                    Reason::NoSuchUpload,
                    Reason::AppendRaced,
                    Reason::InvalidWriteOffset,
                ];
                assert!(expected.contains(&other), "{other:?}");
                false
            }
        }
    }

    async fn step(&mut self) {
        match self.dice.roll(100) {
            0..22 => self.put().await,
            22..32 => self.delete().await,
            32..38 => self.tag().await,
            38..56 => self.upload().await,
            56..62 if !self.keeps_versions => self.append().await,
            56..62 => {
                let versioning = self.dice.pick(&[1, 2]);
                self.s.versioning(versioning).await;
            }
            62..70 => self.hold_back(),
            70..76 => self.come_late().await,
            76..84 => self.come_again().await,
            84..90 => self.collect().await,
            90..96 => self.condemn().await,
            96 => self.large_upload().await,
            _ => self.crash().await,
        }
    }

    async fn put(&mut self) {
        let k = self.dice.pick(&KEYS);
        let (data, sent) = match self.dice.roll(6) {
            0 => (StoredData::Empty, None),
            1 => (StoredData::Inline(Bytes::from_static(b"inline")), None),
            n => {
                let chunks = [1, 2, 17, 600][n as usize - 2];
                let sent = self.store(k, None, chunks);
                (StoredData::Chunks(sent.stored.clone()), Some(sent.stored))
            }
        };
        let put = self.put_of(k, data);
        match sent {
            Some(stored) => drop(self.name(put, &stored).await),
            None => drop(self.send(put).await),
        }
    }

    fn put_of(&self, k: &str, data: StoredData) -> Command {
        let size = match &data {
            StoredData::Empty => 0,
            StoredData::Inline(b) => b.len() as u64,
            StoredData::Chunks(c) => c.chunks.iter().map(|c| c.length).sum(),
        };
        Command::Put {
            bucket: self.s.bucket,
            key: key(k),
            record: record(size),
            data,
            precondition: Precondition::default(),
        }
    }

    /// The current object, the null version, or any other.
    async fn which(&mut self, k: &str) -> VersionRef {
        let (bucket, max) = (self.s.bucket, 100);
        let query = wire::index::VersionsQuery {
            bucket,
            prefix: k.into(),
            delimiter: String::new(),
            after: (String::new(), None),
            max,
        };
        let page = self.s.g.index.list_versions(query).await.unwrap().unwrap();
        let ids = page.entries.iter().filter_map(|e| match e {
            wire::index::VersionsEntry::Version { key, record, .. } if key == k => {
                VersionId::from_slice(&record.version)
            }
            _ => None,
        });
        let mut all = vec![VersionRef::Current, VersionRef::Null];
        all.extend(ids.map(VersionRef::Id));
        self.dice.pick(&all)
    }

    async fn delete(&mut self) {
        let k = self.dice.pick(&KEYS);
        let version = self.which(k).await;
        let delete = Command::Delete {
            bucket: self.s.bucket,
            key: key(k),
            version,
            precondition: Precondition::default(),
        };
        self.send(delete).await.unwrap();
    }

    async fn tag(&mut self) {
        let k = self.dice.pick(&KEYS);
        let version = self.which(k).await;
        let tags = vec![Pair {
            name: "n".into(),
            value: self.dice.roll(9).to_string(),
        }];
        let set = Command::SetTags {
            bucket: self.s.bucket,
            key: key(k),
            version,
            tags,
        };
        drop(self.send(set).await);
    }

    async fn upload(&mut self) {
        let open: Vec<UploadId> = self.uploads.keys().copied().collect();
        if open.is_empty() || self.dice.roll(5) == 0 {
            let k = self.dice.pick(&KEYS);
            let upload = self.s.g.upload(self.s.bucket, k).await;
            let parts = BTreeMap::new();
            self.uploads.insert(upload, Upload { k, parts });
            return;
        }
        let upload = self.dice.pick(&open);
        let k = self.uploads[&upload].k;
        match self.dice.roll(8) {
            0..5 => {
                let number = 1 + self.dice.roll(7) as u32;
                let chunks = self.dice.pick(&[1, 1, 20]);
                let sent = self.store(k, Some((upload, number)), chunks);
                self.put_part(sent).await;
            }
            5 => {
                let abort = Command::AbortUpload {
                    bucket: self.s.bucket,
                    key: key(k),
                    upload,
                };
                self.send(abort).await.unwrap();
                self.uploads.remove(&upload);
                self.count("aborted");
            }
            _ => self.complete(upload).await,
        }
    }

    /// One whose end is too much for a commit, left in the middle of it.
    async fn large_upload(&mut self) {
        let upload = self.s.g.upload(self.s.bucket, LONG).await;
        let parts = BTreeMap::new();
        self.uploads.insert(upload, Upload { k: LONG, parts });
        for number in 1..=400 {
            let sent = self.store(LONG, Some((upload, number)), 1);
            self.put_part(sent).await;
        }
        if self.dice.roll(2) == 0 {
            let abort = Command::AbortUpload {
                bucket: self.s.bucket,
                key: key(LONG),
                upload,
            };
            self.send(abort).await.unwrap();
            self.uploads.remove(&upload);
        } else {
            self.complete(upload).await;
        }
        // The next process has the partition, and has written nothing yet.
        self.s.memory = Arc::new(self.s.memory.crash());
        self.s.g = Gateway::over(self.s.memory.clone(), self.s.g.session.0).await;
        if self.s.rows(ENDED).await > 0 {
            self.count("unswept");
        }
        self.check().await;
        self.crash().await;
    }

    async fn put_part(&mut self, sent: Sent) {
        let (upload, number) = sent.upload.unwrap();
        let (record, named) = part(number, PART_BYTES_MIN, number as u8);
        let put = Command::PutPart {
            bucket: self.s.bucket,
            key: key(sent.k),
            upload,
            record: Box::new(record),
            data: sent.stored.clone(),
        };
        if self.name(put, &sent.stored).await
            && let Some(open) = self.uploads.get_mut(&upload)
        {
            open.parts.insert(number, named);
        }
    }

    async fn complete(&mut self, upload: UploadId) {
        let open = &self.uploads[&upload];
        let mut parts: Vec<NamedPart> = open.parts.values().cloned().collect();
        let dice = &mut self.dice;
        parts.retain(|_| dice.roll(4) > 0);
        let complete = Command::CompleteUpload {
            bucket: self.s.bucket,
            key: key(open.k),
            upload,
            parts,
            precondition: Precondition::default(),
            expected: Expected::default(),
        };
        if self.send(complete).await.is_ok() {
            self.uploads.remove(&upload);
            self.count("completed");
        }
    }

    async fn append(&mut self) {
        let k = self.dice.pick(&KEYS);
        let found = self
            .s
            .g
            .index
            .get(self.s.bucket, &key(k), VersionRef::Current, true)
            .await;
        let seen = found.unwrap().ok();
        let of = seen.as_ref().filter(|f| f.record.size > 0);
        let joined = of.and_then(|f| BlobId::from_slice(&f.record.blob));
        let joined = joined.map(|blob| {
            (
                UploadId(blob.0),
                1 + seen.as_ref().unwrap().record.etag_parts.max(1),
            )
        });
        let chunks = self.dice.pick(&[1, 20, 600]);
        let sent = self.store(k, joined, chunks);
        let offset = seen.as_ref().map_or(0, |f| f.record.size);
        let whole = matches!(seen.as_ref().map(|f| &f.record.data), Some(Some(Data::Inline(_))));
        let size = sent.stored.chunks.iter().map(|c| c.length).sum::<u64>() - if whole { offset } else { 0 };
        let data = AppendData {
            offset,
            seen: seen.and_then(|f| VersionId::from_slice(&f.record.version)),
            data: StoredData::Chunks(sent.stored.clone()),
            whole,
        };
        let append = Command::Append {
            bucket: self.s.bucket,
            key: key(k),
            piece: record(size),
            data: Box::new(data),
            precondition: Precondition::default(),
        };
        if self.name(append, &sent.stored).await {
            self.count("appended");
        }
    }

    fn hold_back(&mut self) {
        let k = self.dice.pick(&KEYS);
        let open: Vec<UploadId> = self.uploads.keys().copied().collect();
        let sent = if open.is_empty() || self.dice.roll(2) == 0 {
            self.store(k, None, 2)
        } else {
            let upload = self.dice.pick(&open);
            let k = self.uploads[&upload].k;
            self.store(k, Some((upload, 1)), 2)
        };
        self.late.push(sent);
    }

    async fn come_late(&mut self) {
        let Some(sent) = self.late.pop() else { return };
        if sent.upload.is_some() {
            return self.put_part(sent).await;
        }
        let put = self.put_of(sent.k, StoredData::Chunks(sent.stored.clone()));
        if self.name(put, &sent.stored).await {
            self.count("named late");
        }
    }

    /// I11: a call that comes again changes nothing, whatever became of what it named.
    async fn come_again(&mut self) {
        if self.answered.is_empty() {
            return;
        }
        let at = self.dice.roll(self.answered.len() as u64) as usize;
        let (call, old) = self.answered[at].clone();
        let ended = call.id.session() < self.s.g.session;
        let before = self.s.needles().await;
        match self.s.g.index.call(call).await {
            Ok(heard) => {
                let refused = answer(heard.kind.clone().unwrap()) == Err(Reason::SessionEnded);
                assert!(heard == old || (ended && refused), "I11");
            }
            Err(fault) => assert_eq!(fault.kind, ErrorKind::Unknown),
        }
        // A step of a sweep may have come along: it books what was named by a part.
        let after = self.s.needles().await;
        assert_eq!(&before.0 | &before.1, &after.0 | &after.1, "I11");
        self.count("came again");
    }

    async fn collect(&mut self) {
        let count_max = 1 + self.dice.roll(4) as usize;
        if self.dice.roll(3) == 0 {
            // It dies before it forgets.
            let booked = self.s.garbage(count_max).await;
            let given = needles(booked.iter().flat_map(|b| &b.chunks));
            assert!(given.iter().all(|n| !self.handed_over.contains(n)));
            return;
        }
        for needle in self.s.collect(count_max).await {
            assert!(
                self.handed_over.insert(needle),
                "I3: {needle:x} was handed over before"
            );
            self.count("handed over");
        }
    }

    async fn condemn(&mut self) {
        let mut asked: Vec<Doubt> = Vec::new();
        for sent in &self.late {
            if self.dice.roll(3) == 0 {
                asked.extend(sent.stored.chunks.iter().map(|c| self.doubts[&c.needle].clone()));
            }
        }
        let known: Vec<u64> = self.doubts.keys().copied().collect();
        for _ in 0..20.min(known.len()) {
            let needle = self.dice.pick(&known);
            asked.push(self.doubts[&needle].clone());
        }
        let reached = self.s.g.index.reached(asked.clone()).await.unwrap();
        let unnamed = if self.dice.roll(4) == 0 {
            wire::index::Unnamed::unknown(asked)
        } else {
            // Others go on in between.
            for _ in 0..self.dice.roll(3) {
                Box::pin(self.put()).await;
                Box::pin(self.come_late()).await;
            }
            reached.unnamed
        };
        let told = self.s.condemn(unnamed.clone()).await;
        let mut new = 0;
        for (doubt, reach) in unnamed.doubts().iter().zip(told) {
            if reach == Reach::Condemned {
                new += u64::from(self.condemned.insert(doubt.needle.0));
            }
        }
        *self.seen.entry("condemned").or_default() += new;
    }

    async fn crash(&mut self) {
        self.count("crash");
        if self.dice.roll(2) == 0 {
            self.s.crash().await;
        } else {
            self.s.restart().await;
        }
        let mut after = Bytes::new();
        loop {
            match self.s.g.call(Command::ForgetCondemned { after }).await.unwrap() {
                Kind::ForgetCondemned(a) if a.next.is_empty() => break,
                Kind::ForgetCondemned(a) => after = a.next.into(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.s.rows(CONDEMNED).await, 0);
        // What this process took for its own is of a session that has ended.
        self.uploads.clear();
    }

    async fn check(&mut self) {
        let (named, booked) = self.s.needles().await;
        let there = &named | &booked;
        assert!(there.is_disjoint(&self.condemned), "I3: condemned");
        let handed_over: BTreeSet<u64> = self.handed_over.iter().copied().collect();
        assert!(there.is_disjoint(&handed_over), "I3: handed over");
        assert_eq!(
            &there | &handed_over,
            self.ever_named,
            "I3: none is lost, none is left"
        );
        self.check_reached(&named, &booked).await;
    }

    async fn check_reached(&mut self, named: &BTreeSet<u64>, booked: &BTreeSet<u64>) {
        let unswept = self.s.rows(ENDED).await > 0;
        let all: Vec<&Doubt> = self.doubts.values().collect();
        let from = self.dice.roll(all.len() as u64 + 1) as usize;
        let some: Vec<Doubt> = all.into_iter().skip(from).take(512).cloned().collect();
        let reached = self.s.g.index.reached(some.clone()).await.unwrap();
        for (doubt, reach) in some.iter().zip(reached.each) {
            let needle = doubt.needle.0;
            let ended = doubt.blob.session() < self.s.g.session;
            let expected = match needle {
                n if named.contains(&n) => Reach::Named,
                n if booked.contains(&n) => Reach::Booked,
                n if ended || self.condemned.contains(&n) => Reach::Condemned,
                _ => Reach::Unnamed,
            };
            // A part that an object took names its needles until it is swept, whatever becomes of the object.
            let taken = unswept && reach == Reach::Named && doubt.owner.upload.is_some();
            assert!(
                reach == expected || taken,
                "{doubt:?} is {reach:?}, not {expected:?}"
            );
        }
    }
}

/// Says which seed it was when a sequence panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "again: CAIRN_RECLAIM_SEED={} cargo test -p cairn-index --test reclaim",
                self.0
            );
        }
    }
}

#[test]
fn no_needle_leaks_and_none_is_booked_twice() {
    let one = std::env::var("CAIRN_RECLAIM_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let (from, to) = one.map_or((0, 120), |seed: u64| (seed, seed + 1));
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in from..to {
        let _named = Named(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Sequence::new(seed).await;
            for step in 0..50 {
                run.step().await;
                if step % 6 == 0 {
                    run.check().await;
                }
            }
            run.check().await;
            for (what, n) in run.seen {
                *seen.entry(what).or_default() += n;
            }
        });
    }
    println!("{seen:?}");
    let covered = [
        "refused",
        "aborted",
        "completed",
        "unswept",
        "appended",
        "named late",
        "came again",
        "handed over",
        "condemned",
        "crash",
    ];
    for what in covered.iter().filter(|_| one.is_none()) {
        assert!(seen.get(what).is_some_and(|n| *n >= 10), "{what} was not covered");
    }
}
