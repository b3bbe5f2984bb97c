//! S3 as its documentation has it, kept in memory in the plainest way: a bucket is a map from key to versions, newest first.
//!
//! It decides what an operation must answer, and changes only when told that it was done: version ids, upload ids and times
//! are the store's to give. Where several things are wrong with a request, S3 does not say which of them is told: any may be.

use crate::value::{PART_BYTES_MIN, PART_NUMBER_MAX, Value, md5_of};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use types::{BucketName, ETag, UploadId};
use wire::index::{Match, NamedPart, Precondition};

/// Why not: S3's codes, of which one is to be told.
pub(crate) type No = Vec<&'static str>;

/// What is to be answered.
pub(crate) type Said<T> = Result<T, No>;

/// Refused for that alone.
pub(crate) fn no<T>(code: &'static str) -> Said<T> {
    Err(vec![code])
}

/// All that is wrong; nothing, if nothing is.
pub(crate) fn all_of(checks: impl IntoIterator<Item = Said<()>>) -> Said<()> {
    let wrong: No = checks.into_iter().filter_map(Result::err).flatten().collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// A bucket's versioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Never,
    Enabled,
    Suspended,
}

/// What a client tells of an object beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub content_type: String,
    pub metadata: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
}

/// Which version is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Current,
    Null,
    Id(u128),
}

/// A version of an object, or a delete marker.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// As the store calls it; what clients call it unless it is null.
    pub id: u128,
    pub null: bool,
    pub marker: bool,
    /// Unknown of a delete marker, whose answer does not tell.
    pub modified_ms: Option<u64>,
    pub bytes: Bytes,
    pub etag: ETag,
    /// Numbers and sizes of the parts it was uploaded in, and of what was appended.
    pub parts: Vec<(u32, u64)>,
    pub told: Told,
    /// Which upload it was made by.
    pub upload: Option<usize>,
    pub appended: bool,
}

/// A part of an upload.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub value: Value,
    pub modified_ms: Option<u64>,
}

/// How an upload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    Aborted,
    /// Made of these parts.
    Completed(Vec<(u32, [u8; 16])>),
}

#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub id: UploadId,
    pub key: String,
    pub told: Told,
    pub parts: BTreeMap<u32, Part>,
    pub stage: Stage,
}

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub name: BucketName,
    pub keeps: Keeps,
    /// Newest first; no key without a version.
    pub keys: BTreeMap<String, Vec<Version>>,
    /// In the order in which they began.
    pub uploads: Vec<Upload>,
    /// Every version id there ever was, none of which comes twice, with how many there were before it.
    pub born: BTreeMap<u128, usize>,
}

impl Version {
    /// One body's.
    pub(crate) fn new(value: &Value, told: Told) -> Self {
        Self {
            id: 0,
            null: false,
            marker: false,
            modified_ms: None,
            bytes: value.bytes.clone(),
            etag: ETag {
                md5: value.md5,
                part_count: 0,
            },
            parts: Vec::new(),
            told,
            upload: None,
            appended: false,
        }
    }

    pub(crate) fn marker() -> Self {
        Self {
            marker: true,
            ..Self::new(&Value::of(Bytes::new()), Told::default())
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its last part has the highest number that a part may have, and it has bytes: the first ones of an empty object are a put.
    pub(crate) fn is_at_last_part(&self) -> bool {
        let last = self.parts.last().filter(|_| !self.bytes.is_empty());
        last.is_some_and(|(number, _)| *number == PART_NUMBER_MAX)
    }

    /// With new bytes behind its own. The ETag is Cairn's own rule (docs/design/0014-appends.md): S3 promises nothing of it.
    pub(crate) fn with_more(&self, more: &Value) -> Self {
        let mut next = Self::new(more, self.told.clone());
        if self.bytes.is_empty() {
            return next;
        }
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes.extend_from_slice(&more.bytes);
        next.bytes = bytes.freeze();
        next.etag = ETag {
            md5: md5_of(&[self.etag.md5, more.md5].concat()),
            part_count: self.etag.part_count.max(1) + 1,
        };
        next.parts = match &self.parts[..] {
            [] => vec![(1, self.size())],
            parts => parts.to_vec(),
        };
        let number = next.parts.last().map_or(1, |(number, _)| number + 1);
        next.parts.push((number, more.size()));
        next.appended = true;
        next
    }
}

fn matches(condition: &Match, etag: Option<ETag>) -> bool {
    match condition {
        Match::Any => true,
        Match::Tags(tags) => etag.is_some_and(|etag| tags.contains(&etag)),
    }
}

/// If-Match asks for an object that is there (404 where there is none) and as named, If-None-Match for none such.
pub(crate) fn check_write(condition: &Precondition, current: Option<&Version>) -> Said<()> {
    let etag = current.map(|c| c.etag);
    if let Some(wanted) = &condition.if_match {
        if current.is_none() {
            return no("NoSuchKey");
        }
        if !matches(wanted, etag) {
            return no("PreconditionFailed");
        }
    }
    match &condition.if_none_match {
        Some(unwanted) if current.is_some() && matches(unwanted, etag) => no("PreconditionFailed"),
        _ => Ok(()),
    }
}

/// A delete's conditions are on what is meant. Where there is nothing, If-Match finds no key; size and time, which are directory
/// buckets', are not asked.
pub(crate) fn check_delete(condition: &Precondition, meant: Option<&Version>) -> Said<()> {
    let Some(meant) = meant else {
        return check_write(condition, None);
    };
    let etag = (!meant.marker).then_some(meant.etag);
    let tag_fits = condition.if_match.as_ref().is_none_or(|m| matches(m, etag));
    let size_fits = condition.if_size.is_none_or(|size| size == meant.size());
    let time = meant.modified_ms.map(|ms| ms / 1000);
    let time_fits = condition.if_modified_s.is_none_or(|at| time == Some(at));
    if tag_fits && size_fits && time_fits {
        Ok(())
    } else {
        no("PreconditionFailed")
    }
}

impl Bucket {
    pub(crate) fn new(name: BucketName) -> Self {
        Self {
            name,
            keeps: Keeps::Never,
            keys: BTreeMap::new(),
            uploads: Vec::new(),
            born: BTreeMap::new(),
        }
    }

    pub(crate) fn versions(&self, key: &str) -> &[Version] {
        self.keys.get(key).map_or(&[], Vec::as_slice)
    }

    /// What a plain read of the key sees.
    pub(crate) fn current(&self, key: &str) -> Option<&Version> {
        self.versions(key).first().filter(|v| !v.marker)
    }

    pub(crate) fn is_deleted(&self, key: &str) -> bool {
        self.versions(key).first().is_some_and(|v| v.marker)
    }

    fn place(&self, key: &str, which: Which) -> Option<usize> {
        let all = self.versions(key);
        match which {
            Which::Current => (!all.is_empty()).then_some(0),
            Which::Null => all.iter().position(|v| v.null),
            Which::Id(id) => all.iter().position(|v| v.id == id && !v.null),
        }
    }

    /// The version that a request means, delete markers too.
    pub(crate) fn version(&self, key: &str, which: Which) -> Option<&Version> {
        self.place(key, which).map(|at| &self.versions(key)[at])
    }

    /// What a read gets.
    pub(crate) fn read(&self, key: &str, which: Which) -> Said<&Version> {
        match (which, self.version(key, which)) {
            (Which::Current, None) => no("NoSuchKey"),
            (Which::Current, Some(v)) if v.marker => no("NoSuchKey"),
            (_, None) => no("NoSuchVersion"),
            (_, Some(v)) if v.marker => no("MethodNotAllowed"),
            (_, Some(v)) => Ok(v),
        }
    }

    /// A new version, or a delete marker, is the newest from here on. One that is not made under enabled versioning is the null
    /// version, in place of the one before.
    pub(crate) fn add(&mut self, key: &str, version: Version) {
        let all = self.keys.entry(key.to_owned()).or_default();
        assert_eq!(
            version.null,
            self.keeps != Keeps::Enabled,
            "made while versioning is {:?}",
            self.keeps
        );
        if version.null {
            all.retain(|v| !v.null);
        }
        let before = self.born.len();
        assert_eq!(
            self.born.insert(version.id, before),
            None,
            "a version id came twice"
        );
        all.insert(0, version);
    }

    /// Whether versions of the key go by the next one that is made.
    pub(crate) fn replaces_older_null(&self, key: &str) -> bool {
        self.keeps == Keeps::Suspended && self.versions(key).iter().skip(1).any(|v| v.null)
    }

    /// Removes just that version.
    pub(crate) fn remove(&mut self, key: &str, which: Which) {
        let Some(at) = self.place(key, which) else { return };
        let all = self.keys.get_mut(key).expect("it has a version");
        all.remove(at);
        if all.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Replaces the tags.
    pub(crate) fn tag(&mut self, key: &str, which: Which, tags: Vec<(String, String)>) {
        let at = self.place(key, which).expect("it was read before");
        self.keys.get_mut(key).expect("it has a version")[at].told.tags = tags;
    }

    /// An upload that takes parts.
    pub(crate) fn open_upload(&self, key: &str, upload: UploadId) -> Said<usize> {
        let is_it = |u: &Upload| u.id == upload && u.key == key && u.stage == Stage::Open;
        self.uploads.iter().position(is_it).ok_or(vec!["NoSuchUpload"])
    }

    /// What a completion makes; `Ok(Err)`: it made that before, and that is still what the key names.
    pub(crate) fn complete(
        &self,
        key: &str,
        (upload, named): (UploadId, &[NamedPart]),
        condition: &Precondition,
        size: Option<u64>,
    ) -> Said<Result<Version, Version>> {
        let Some(at) = self.uploads.iter().position(|u| u.id == upload && u.key == key) else {
            return no("NoSuchUpload");
        };
        let begun = &self.uploads[at];
        let said: Vec<(u32, [u8; 16])> = named.iter().map(|n| (n.number, n.etag_md5)).collect();
        match &begun.stage {
            Stage::Open => {}
            Stage::Completed(parts) if *parts == said => {
                let still = self.current(key).filter(|v| v.upload == Some(at) && !v.appended);
                return still.cloned().map(Err).ok_or(vec!["NoSuchUpload"]);
            }
            _ => return no("NoSuchUpload"),
        }
        let is_there = |n: &(u32, [u8; 16])| begun.parts.get(&n.0).is_some_and(|p| p.value.md5 == n.1);
        let taken: Vec<&Value> = (said.iter().filter_map(|n| begun.parts.get(&n.0)))
            .map(|p| &p.value)
            .collect();
        let before = &taken[..taken.len().saturating_sub(1)];
        let all: u64 = taken.iter().map(|v| v.size()).sum();
        let or = |fine: bool, code| if fine { Ok(()) } else { no(code) };
        all_of([
            or(said.is_sorted_by(|a, b| a.0 < b.0), "InvalidPartOrder"),
            or(said.iter().all(is_there), "InvalidPart"),
            or(
                before.iter().all(|v| v.size() >= PART_BYTES_MIN),
                "EntityTooSmall",
            ),
            or(size.is_none_or(|size| size == all), "InvalidRequest"),
            check_write(condition, self.current(key)),
        ])?;
        let mut bytes = BytesMut::new();
        taken.iter().for_each(|v| bytes.extend_from_slice(&v.bytes));
        let md5s: Vec<u8> = taken.iter().flat_map(|v| v.md5).collect();
        let mut made = Version::new(
            &Value {
                bytes: bytes.freeze(),
                md5: md5_of(&md5s),
            },
            begun.told.clone(),
        );
        made.etag.part_count = taken.len() as u32;
        made.parts = said.iter().zip(&taken).map(|(n, v)| (n.0, v.size())).collect();
        made.upload = Some(at);
        Ok(Ok(made))
    }

    /// Whether it may be removed: it has no objects, no versions and no delete markers. Uploads go with it.
    pub(crate) fn may_go(&self) -> Said<()> {
        if self.keys.is_empty() {
            Ok(())
        } else {
            no("BucketNotEmpty")
        }
    }
}
