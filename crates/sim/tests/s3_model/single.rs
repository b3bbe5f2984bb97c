//! Operations on one object: put, append, get, delete, tags; and a bucket's versioning.

use crate::alike::{id_of, same, same_checksums, short};
use crate::model::{Keeps, Said, Told, Version, Which, all_of, check_delete, check_write, no};
use crate::sequence::{Sequence, Whole, headers_of, key_of, pairs, version_ref};
use crate::stack::{CALLER, Stack};
use crate::value::Value;
use objects::{DeleteObject, Expect, ObjectsError, PutObject};
use types::{ByteRange, ETag};
use wire::index::{Precondition, Versioning};
use wire::records::{DeleteAnswer, PutAnswer};
use world::Clock as _;

fn put_of(
    (bucket, key): (&types::BucketName, &str),
    value: &Value,
    told: &Told,
    precondition: &Precondition,
) -> PutObject {
    PutObject {
        bucket: bucket.clone(),
        key: key_of(key),
        length: value.size(),
        body: Box::new(Whole(Some(value.bytes.clone()))),
        expect: Expect::default(),
        headers: headers_of(told),
        metadata: pairs(&told.metadata),
        tags: pairs(&told.tags),
        checksum: None,
        precondition: precondition.clone(),
    }
}

impl Sequence {
    /// What an answer says of a version that was made, which it then is.
    #[track_caller]
    pub(crate) fn made(
        &mut self,
        (b, key): (usize, &str),
        answer: &PutAnswer,
        mut version: Version,
        times: (u64, u64),
    ) {
        let etag = ETag {
            md5: answer.etag_md5[..].try_into().expect("an MD5"),
            part_count: answer.etag_parts,
        };
        assert_eq!(
            (etag, answer.size),
            (version.etag, version.size()),
            "what was stored"
        );
        assert_eq!(
            answer.versioning,
            self.versioning_number(b),
            "the bucket's versioning"
        );
        same_checksums(&answer.checksums, &version.bytes);
        assert!(
            (times.0..=times.1).contains(&answer.modified_ms),
            "modified now: {answer:?} {times:?}"
        );
        version.id = id_of(&answer.version);
        version.null = answer.null_version;
        version.modified_ms = Some(answer.modified_ms);
        self.add((b, key), version);
    }

    /// A version stands over the others.
    pub(crate) fn add(&mut self, (b, key): (usize, &str), version: Version) {
        let bucket = &mut self.buckets[b];
        let replaces = bucket.replaces_older_null(key);
        let over_marker = bucket.is_deleted(key) && !version.marker;
        self.covered
            .count_if(replaces, "versions", "an older null version is replaced");
        self.covered
            .count_if(over_marker, "versions", "put over a delete marker");
        let null = bucket.versions(key).iter().find(|v| v.null).map(|v| v.id);
        self.gone_versions.extend(null.filter(|_| version.null));
        bucket.add(key, version);
    }

    pub(crate) async fn put(&mut self, stack: &mut Stack) {
        let (b, key) = self.place();
        let (value, told) = (Value::draw(&self.dice), self.told());
        let condition = self.condition(b, key);
        let spoiled = self.dice.percent(3);
        self.note(format!(
            "put {b} {key:?} {} {told:?} {condition:?} {spoiled}",
            short(&value)
        ));
        let mut put = put_of((&self.buckets[b].name, key), &value, &told, &condition);
        put.expect.md5 = spoiled
            .then_some([7; 16])
            .or(self.dice.percent(50).then_some(value.md5));
        let holds = check_write(&condition, self.buckets[b].current(key));
        let wanted = all_of([if spoiled { no("BadDigest") } else { Ok(()) }, holds]);
        let before = stack.clock.wall_ms();
        let got = stack.objects.put(&CALLER, put).await;
        let times = (before, stack.clock.wall_ms());
        if let Some(answer) = self.agree("put", got, &wanted) {
            self.made((b, key), &answer, Version::new(&value, told), times);
        }
    }

    pub(crate) async fn append(&mut self, stack: &mut Stack) {
        let (b, key) = self.place_there();
        // A bucket that keeps versions takes none: seen often enough.
        if self.buckets[b].keeps != Keeps::Never && self.dice.percent(85) {
            return self.put(stack).await;
        }
        let mut value = Value::draw(&self.dice);
        if value.bytes.is_empty() {
            value = Value::of_size(&self.dice, 1);
        }
        let there = self.buckets[b].current(key).cloned();
        let size = there.as_ref().map_or(0, Version::size);
        let offset = match self.dice.below(8) {
            0 => size + self.dice.between(1, 3),
            1 => size.saturating_sub(1),
            _ => size,
        };
        let told = if there.is_none() || self.dice.percent(5) {
            self.told()
        } else {
            Told::default()
        };
        let condition = self.condition(b, key);
        self.note(format!(
            "append {b} {key:?} at {offset} {} {told:?} {condition:?}",
            short(&value)
        ));
        let put = put_of((&self.buckets[b].name, key), &value, &told, &condition);
        let or = |fine: bool, code| if fine { Ok(()) } else { no(code) };
        let untold = told.metadata.is_empty() && told.tags.is_empty();
        let wanted = all_of([
            or(self.buckets[b].keeps == Keeps::Never, "NotImplemented"),
            or(offset == size, "InvalidWriteOffset"),
            or(there.is_none() || untold, "InvalidRequest"),
            // A part number past the last is a part too many (docs/design/0014-appends.md).
            or(
                !there.as_ref().is_some_and(Version::is_at_last_part),
                "TooManyParts",
            ),
            check_write(&condition, there.as_ref()),
        ]);
        let before = stack.clock.wall_ms();
        let got = stack.objects.append(&CALLER, put, offset).await;
        let times = (before, stack.clock.wall_ms());
        let Some(answer) = self.agree("append", got, &wanted) else {
            return;
        };
        let (what, version) = match &there {
            None => ("makes the object", Version::new(&value, told)),
            Some(old) if old.size() == 0 => ("to an empty object", old.with_more(&value)),
            Some(old) if old.parts.is_empty() => ("to an object of one body", old.with_more(&value)),
            Some(old) if old.appended => ("to an object with appends", old.with_more(&value)),
            Some(old) => ("to an object of parts", old.with_more(&value)),
        };
        self.covered.count("append", what);
        self.made((b, key), &answer, version, times);
    }

    /// Reads a version and holds everything of it against the model.
    pub(crate) async fn read(
        &mut self,
        stack: &mut Stack,
        (b, key): (usize, &str),
        which: Which,
        range: Option<ByteRange>,
    ) {
        let bucket = &self.buckets[b];
        let wanted: Said<Version> = bucket.read(key, which).cloned();
        let got = stack
            .objects
            .get(&CALLER, &bucket.name, &key_of(key), version_ref(which))
            .await;
        let got = got.map(Opened);
        let Some(Opened(mut opened)) =
            self.agree("get", got, &wanted.as_ref().map(|_| ()).map_err(Clone::clone))
        else {
            return;
        };
        let version = wanted.expect("they agree");
        same(&opened.record, &version);
        assert_eq!(opened.versioned, self.buckets[b].keeps != Keeps::Never);
        let parts: Vec<(u32, u64)> = opened.parts.iter().map(|p| (p.number, p.size)).collect();
        assert_eq!(parts, version.parts, "its parts");
        let size = version.size();
        let range = range.unwrap_or(ByteRange { start: 0, end: size });
        if range.end > size {
            assert_eq!(opened.reader.select(range), Err(ObjectsError::BadRange(size)));
            self.covered.count("get", "BadRange");
            return;
        }
        opened.reader.select(range).expect("a range inside");
        let mut got = Vec::new();
        while let Some(piece) = opened.reader.next().await.expect("its bytes") {
            got.extend_from_slice(&piece);
        }
        assert!(
            got == version.bytes[range.start as usize..range.end as usize],
            "its bytes"
        );
        self.covered
            .count_if(!range.is_empty() && range.len() < size, "get", "a range");
    }

    pub(crate) async fn get(&mut self, stack: &mut Stack) {
        let (b, key) = self.place_there();
        let which = if self.dice.percent(55) {
            Which::Current
        } else {
            self.which(b, key)
        };
        let size = self.buckets[b].version(key, which).map_or(0, Version::size);
        let range = self.dice.percent(40).then(|| {
            let (a, z) = (self.dice.below(size + 2), self.dice.below(size + 2));
            ByteRange {
                start: a.min(z),
                end: a.max(z),
            }
        });
        self.note(format!("get {b} {key:?} {which:?} {range:?}"));
        self.read(stack, (b, key), which, range).await;
    }

    pub(crate) async fn delete(&mut self, stack: &mut Stack, which: Which) {
        let place = self.place_there();
        self.delete_of(stack, place, which).await;
    }

    fn deletion(&mut self, (b, key): (usize, &str), which: Which) -> (DeleteObject, Said<()>) {
        let bucket = &self.buckets[b];
        let meant = match which {
            Which::Current => bucket.current(key),
            _ => bucket.version(key, which),
        };
        let mut precondition = self.delete_condition(b, key, meant);
        if which != Which::Current {
            // S3 takes it of the current object alone.
            precondition.if_match = None;
        }
        let wanted = check_delete(&precondition, meant);
        let delete = DeleteObject {
            key: key_of(key),
            version: version_ref(which),
            precondition,
        };
        (delete, wanted)
    }

    /// A deletion was answered: it was what it should be, and the model goes along.
    fn deleted(&mut self, (b, key): (usize, &str), which: Which, answer: &DeleteAnswer) {
        let bucket = &self.buckets[b];
        assert_eq!(
            answer.versioning,
            self.versioning_number(b),
            "the bucket's versioning"
        );
        if which == Which::Current && bucket.keeps != Keeps::Never {
            assert!(answer.delete_marker, "a delete marker is made: {answer:?}");
            assert_eq!(answer.existed, bucket.current(key).is_some());
            let over_marker = bucket.is_deleted(key);
            self.covered
                .count_if(over_marker, "versions", "a delete marker over another");
            let mut marker = Version::marker();
            (marker.id, marker.null) = (id_of(&answer.version), answer.null_version);
            self.add((b, key), marker);
            return;
        }
        let meant = bucket.version(key, which);
        assert_eq!(answer.existed, meant.is_some(), "{answer:?}");
        let Some(meant) = meant.cloned() else { return };
        let told = (answer.delete_marker, answer.null_version, id_of(&answer.version));
        assert_eq!(told, (meant.marker, meant.null, meant.id), "what was removed");
        let newest = bucket.versions(key).first().is_some_and(|v| v.id == meant.id);
        let was_marker = newest && meant.marker;
        self.gone_versions.push(meant.id);
        self.buckets[b].remove(key, which);
        let seen = self.buckets[b].current(key).is_some();
        self.covered.count_if(
            was_marker && seen,
            "versions",
            "a delete marker removed, the object is back",
        );
        self.covered.count_if(
            newest && !meant.marker && seen,
            "versions",
            "the newest removed, an older one is seen",
        );
        let deleted = self.buckets[b].is_deleted(key);
        self.covered.count_if(
            newest && deleted,
            "versions",
            "the newest removed, a delete marker is seen",
        );
        self.covered.count_if(!newest, "versions", "an older one removed");
    }

    pub(crate) async fn delete_of(&mut self, stack: &mut Stack, (b, key): (usize, &str), which: Which) {
        let (delete, wanted) = self.deletion((b, key), which);
        self.note(format!("delete {b} {delete:?}"));
        let got = stack.objects.delete(&CALLER, &self.buckets[b].name, delete).await;
        let operation = if which == Which::Current {
            "delete"
        } else {
            "delete of a version"
        };
        if let Some(answer) = self.agree(operation, got, &wanted) {
            self.deleted((b, key), which, &answer);
        }
    }

    pub(crate) async fn delete_many(&mut self, stack: &mut Stack) {
        let b = self.place().0;
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(self.dice.between(1, 3) as usize);
        let all: Vec<_> = (keys.into_iter())
            .map(|key| {
                let which = if self.dice.percent(70) {
                    Which::Current
                } else {
                    self.which(b, key)
                };
                (key, which, self.deletion((b, key), which))
            })
            .collect();
        self.note(format!("delete many {b} {all:?}"));
        let deletes = all.iter().map(|(_, _, (delete, _))| delete.clone()).collect();
        let got = stack
            .objects
            .delete_many(&CALLER, &self.buckets[b].name, deletes)
            .await;
        let got = got.expect("an answer for each");
        assert_eq!(got.len(), all.len(), "an answer for each");
        for (got, (key, which, (_, wanted))) in got.into_iter().zip(all) {
            if let Some(answer) = self.agree("delete of many", got, &wanted) {
                self.deleted((b, key), which, &answer);
            }
        }
    }

    pub(crate) async fn set_tags(&mut self, stack: &mut Stack) {
        let (b, key) = self.place_there();
        let which = if self.dice.percent(60) {
            Which::Current
        } else {
            self.which(b, key)
        };
        let tags = self.told().tags;
        self.note(format!("tag {b} {key:?} {which:?} {tags:?}"));
        let bucket = &self.buckets[b];
        let meant = if which == Which::Current && bucket.is_deleted(key) {
            // Unlike a read it means the delete marker, which has no tags.
            no("MethodNotAllowed")
        } else {
            bucket.read(key, which).cloned()
        };
        let place = (&key_of(key), version_ref(which));
        let got = stack
            .objects
            .set_tags(&CALLER, &bucket.name, place, pairs(&tags))
            .await;
        let wanted = meant.as_ref().map(|_| ()).map_err(Clone::clone);
        let Some(answer) = self.agree("tag", got, &wanted) else {
            return;
        };
        let meant = meant.expect("they agree");
        assert_eq!(
            (id_of(&answer.version), answer.null_version),
            (meant.id, meant.null)
        );
        self.buckets[b].tag(key, which, tags);
    }

    pub(crate) async fn set_versioning(&mut self, stack: &mut Stack) {
        let b = self.place().0;
        let (keeps, versioning) = if self.buckets[b].keeps == Keeps::Enabled && self.dice.percent(80) {
            (Keeps::Suspended, Versioning::Suspended)
        } else {
            (Keeps::Enabled, Versioning::Enabled)
        };
        self.note(format!("versioning {b} {keeps:?}"));
        let done = stack
            .objects
            .set_versioning(&CALLER, &self.buckets[b].name, versioning)
            .await;
        self.agree("versioning", done, &Ok(()));
        self.buckets[b].keeps = keeps;
        let state = if keeps == Keeps::Enabled {
            "enabled"
        } else {
            "suspended"
        };
        self.covered.count("versioning", state);
    }
}

/// For `agree`, which shows what it does not expect.
struct Opened(objects::Opened);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.record)
    }
}
