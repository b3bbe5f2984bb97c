//! One call of a client: through `objects`, as the S3 face would make it, and what came of it.

use crate::op::{Answer, Condition, KEYS, Line, Op, OpId, Outcome, PARTS, Query, Spoil, UPLOADS};
use crate::record::{Record, Recorder, mark_of};
use crate::value;
use bytes::Bytes;
use objects::{
    Body, BodyError, Caller, CompleteUpload, DeleteObject, Expect, ListBuckets, ListObjects, ListParts,
    ListUploads, Objects, ObjectsError, PutObject, PutPart, StartUpload,
};
use std::sync::Arc;
use std::time::Duration;
use types::{AccountId, BucketName, ByteRange, ETag, ErrorKind, ObjectKey, UploadId};
use wire::Fault;
use wire::index::{
    Expected, ListEntry, Match, NamedPart, Precondition, Reason, UploadsEntry, VersionRef, listed,
};
use wire::records::{ContentHeaders, Pair, PutAnswer};
use world::{Clock, OverBudget};

pub(crate) const CALLER: Caller = Caller {
    account: AccountId::ROOT,
};

/// A client of one gateway.
#[derive(Clone)]
pub struct Client {
    /// Its gateway.
    pub objects: Arc<Objects>,
    /// Where it writes down what it sees.
    pub recorder: Recorder,
    /// For bodies that take their time.
    pub clock: Arc<dyn Clock>,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes at once.
    pub piece_bytes: usize,
    /// Between pieces.
    pub pause_ms: u64,
}

struct SimBody {
    left: Bytes,
    /// Bytes after which the client goes away.
    until: usize,
    sent: usize,
    pace: Pace,
    clock: Arc<dyn Clock>,
}

#[async_trait::async_trait]
impl Body for SimBody {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.pace.pause_ms > 0 {
            self.clock.sleep(Duration::from_millis(self.pace.pause_ms)).await;
        }
        if self.sent >= self.until && !self.left.is_empty() {
            return Err(BodyError::Incomplete);
        }
        if self.left.is_empty() {
            return Ok(None);
        }
        let most = self.pace.piece_bytes.min(self.until - self.sent);
        let piece = self.left.split_to(most.min(self.left.len()));
        self.sent += piece.len();
        Ok(Some(piece))
    }

    fn trailer(&mut self) -> Vec<types::Checksum> {
        Vec::new()
    }
}

/// The name of a bucket.
pub fn bucket_name(bucket: usize) -> BucketName {
    BucketName::new(["bucket-0", "bucket-1"][bucket]).expect("a good name")
}

/// A key.
pub fn object_key(key: usize) -> ObjectKey {
    ObjectKey::new(KEYS[key]).expect("a good key")
}

/// What came of a call that was not a success.
pub(crate) fn outcome_of(error: &ObjectsError) -> Outcome {
    match error {
        ObjectsError::Deleted { .. } => Outcome::Refused(Reason::DeleteMarker),
        // Ask again: nothing was done. Bytes that were long in coming may be condemned by then.
        ObjectsError::Refused {
            reason: Reason::BucketBusy | Reason::BlobGone,
            ..
        } => Outcome::Failed(ErrorKind::Busy),
        ObjectsError::Refused { reason, .. } => Outcome::Refused(*reason),
        ObjectsError::Fault(fault) if fault.kind == ErrorKind::Unknown => Outcome::Unknown,
        ObjectsError::Fault(fault) => Outcome::Failed(fault.kind),
        ObjectsError::Body(_) | ObjectsError::BadDigest => Outcome::Spoiled,
        other => Outcome::Failed(types::Kind::kind(other)),
    }
}

impl Client {
    /// Does `op`, known as `id`, and says how it ended.
    pub async fn perform(&self, id: OpId, op: &Op, pace: Pace) -> Outcome {
        let called = self.call(id, op, pace).await;
        self.told(id, op, called)
    }

    /// How a call ended.
    pub(crate) fn told(&self, id: OpId, op: &Op, called: Result<Answer, ObjectsError>) -> Outcome {
        match called {
            Ok(answer) => {
                self.check_spoiled(id, op);
                Outcome::Answered(answer)
            }
            Err(error) => {
                self.recorder.note(format_args!("{id} error {error}"));
                if error.to_string().contains(&OverBudget.to_string()) {
                    self.recorder.count("memory.refused");
                }
                match (op, outcome_of(&error)) {
                    // Its first step may have been taken: whoever finds it finishes it.
                    (
                        Op::CreateBucket { .. } | Op::DeleteBucket { .. } | Op::SetVersioning { .. },
                        Outcome::Failed(_),
                    ) => Outcome::Unknown,
                    (_, outcome) => outcome,
                }
            }
        }
    }

    fn check_spoiled(&self, id: OpId, op: &Op) {
        if let Op::Put { spoil, .. } | Op::PutPart { spoil, .. } = op
            && *spoil != Spoil::Whole
        {
            self.recorder.violation(format!(
                "operation {id} succeeded with a body that was spoiled: {spoil:?}"
            ));
        }
    }

    async fn call(&self, id: OpId, op: &Op, pace: Pace) -> Result<Answer, ObjectsError> {
        let objects = &self.objects;
        match op {
            Op::CreateBucket { bucket } => {
                let (_, existed) = objects.create_bucket(&CALLER, &bucket_name(*bucket)).await?;
                Ok(Answer::Existed(existed))
            }
            Op::HeadBucket { bucket } => {
                let head = objects.head_bucket(&CALLER, &bucket_name(*bucket)).await?;
                Ok(Answer::Set(head.versioning))
            }
            Op::DeleteBucket { bucket } => {
                objects.delete_bucket(&CALLER, &bucket_name(*bucket)).await?;
                Ok(Answer::Done)
            }
            Op::ListBuckets => {
                let buckets = objects.list_buckets(&CALLER, ListBuckets::default()).await?;
                let there = |b: usize| buckets.iter().any(|r| r.name == bucket_name(b).as_str());
                Ok(Answer::Set(u32::from(there(0)) | u32::from(there(1)) << 1))
            }
            Op::Put { bucket, key, .. } => self.put(id, op, (*bucket, *key), pace).await,
            Op::Get { bucket, key, range } => {
                self.get(id, (*bucket, *key), (VersionRef::Current, *range), pace)
                    .await
            }
            Op::Head { bucket, key } => {
                let headed = self.head(*bucket, *key).await?;
                let seen = self.recorder.get().identify(*bucket, *key, &headed);
                Ok(self.answer_value(seen))
            }
            Op::List { bucket, query } => self.list(*bucket, query).await,
            Op::Delete { .. }
            | Op::SetVersioning { .. }
            | Op::GetVersion { .. }
            | Op::DeleteVersion { .. }
            | Op::ListVersions { .. }
            | Op::SetTags { .. }
            | Op::GetTags { .. } => self.call_on_version(id, op, pace).await,
            _ => self.call_on_upload(id, op, pace).await,
        }
    }

    async fn call_on_upload(&self, id: OpId, op: &Op, pace: Pace) -> Result<Answer, ObjectsError> {
        let objects = &self.objects;
        let upload_id = |upload: usize| -> Result<UploadId, ObjectsError> {
            let known = self.recorder.get().uploads[upload];
            // Its beginning has not been answered: the client asks again later.
            known.ok_or_else(|| Fault::new(ErrorKind::Busy, "an upload that is not known yet").into())
        };
        match op {
            Op::StartUpload { bucket, key, upload } => {
                let start = StartUpload {
                    bucket: bucket_name(*bucket),
                    key: object_key(*key),
                    headers: ContentHeaders::default(),
                    metadata: mark(id),
                    tags: Vec::new(),
                    checksum: None,
                    checksum_kind: None,
                };
                let started = objects.start_upload(&CALLER, start).await?;
                self.recorder.get().uploads[*upload] = Some(started);
                Ok(Answer::Done)
            }
            Op::PutPart { upload, part, .. } => {
                self.put_part(id, op, upload_id(*upload)?, (*upload, *part), pace)
                    .await
            }
            Op::CompleteUpload { upload, .. } => self.complete(id, op, upload_id(*upload)?).await,
            Op::AbortUpload { bucket, key, upload } => {
                let (bucket, key) = (bucket_name(*bucket), object_key(*key));
                objects
                    .abort_upload(&CALLER, &bucket, &key, upload_id(*upload)?)
                    .await?;
                Ok(Answer::Done)
            }
            Op::ListParts { bucket, key, upload } => {
                let query = ListParts {
                    bucket: bucket_name(*bucket),
                    key: object_key(*key),
                    upload: upload_id(*upload)?,
                    after: 0,
                    max: 1000,
                };
                let page = objects.list_parts(&CALLER, query).await?;
                Ok(self.answer_parts(*upload, &page.parts))
            }
            Op::ListUploads { bucket } => self.list_uploads(*bucket).await,
            other => unreachable!("{other:?} is not on an upload"),
        }
    }

    /// A body, and what it is said to be.
    fn body(&self, id: OpId, size: u64, spoil: Spoil, pace: Pace) -> (Box<dyn Body>, Expect) {
        let bytes = Bytes::from(value::bytes(id, 0, size as usize));
        let md5 = match spoil {
            Spoil::WrongMd5 => Some([0; 16]),
            // Half of the clients say what they send.
            _ if id.is_multiple_of(2) => Some(self.recorder.get().md5(id)),
            _ => None,
        };
        let until = if spoil == Spoil::Vanishes {
            size as usize / 2
        } else {
            usize::MAX
        };
        let body = SimBody {
            left: bytes,
            until,
            sent: 0,
            pace,
            clock: self.clock.clone(),
        };
        let expect = Expect {
            md5,
            ..Expect::default()
        };
        (Box::new(body), expect)
    }

    /// Removes many keys of a bucket in one call; each is an operation.
    pub async fn delete_many(&self, bucket: usize, keys: &[usize], ids: &[OpId]) -> Vec<Outcome> {
        let deletes = keys.iter().map(|key| DeleteObject::current(object_key(*key)));
        match self
            .objects
            .delete_many(&CALLER, &bucket_name(bucket), deletes.collect())
            .await
        {
            Ok(answers) => (answers.iter().zip(ids))
                .map(|(answer, id)| match answer {
                    Ok(answer) => Outcome::Answered(self.answer_deleted(*id, answer)),
                    Err(error) => outcome_of(error),
                })
                .collect(),
            Err(error) => keys.iter().map(|_| outcome_of(&error)).collect(),
        }
    }

    async fn put(&self, id: OpId, op: &Op, at: (usize, usize), pace: Pace) -> Result<Answer, ObjectsError> {
        let Op::Put {
            size,
            condition,
            spoil,
            ..
        } = op
        else {
            unreachable!("a put")
        };
        let (body, expect) = self.body(id, *size, *spoil, pace);
        let put = PutObject {
            bucket: bucket_name(at.0),
            key: object_key(at.1),
            length: *size,
            body,
            expect,
            headers: ContentHeaders::default(),
            metadata: mark(id),
            tags: Vec::new(),
            checksum: None,
            precondition: self.precondition(*condition),
        };
        let answer = self.objects.put(&CALLER, put).await?;
        Ok(self.answer_put(id, &answer))
    }

    /// What was stored is what was sent, or copied.
    pub(crate) fn answer_put(&self, id: OpId, answer: &PutAnswer) -> Answer {
        let record = &mut *self.recorder.get();
        if answer.etag_md5 != record.md5(id) || answer.size != record.book.size(id) {
            record
                .violations
                .push(format!("operation {id} was answered {answer:?}"));
        }
        if let Err(what) = record.see_version(id, &answer.version) {
            record.violations.push(what);
        }
        Answer::Done
    }

    pub(crate) fn precondition(&self, condition: Condition) -> Precondition {
        let mut precondition = Precondition::default();
        match condition {
            Condition::Always => {}
            Condition::Absent => precondition.if_none_match = Some(Match::Any),
            Condition::Is(id) => {
                let record = &mut *self.recorder.get();
                let part_count = match record.book.op(id) {
                    Op::CompleteUpload { parts, .. } => parts.iter().filter(|p| **p > 0).count() as u32,
                    _ => 0,
                };
                let md5 = record.md5(id);
                precondition.if_match = Some(Match::Tags(vec![ETag { md5, part_count }]));
            }
        }
        precondition
    }

    /// Gets a version of a key, at a pace, and holds every byte against what was stored.
    pub(crate) async fn get(
        &self,
        id: OpId,
        at: (usize, usize),
        (version, range): (VersionRef, Option<(u64, u64)>),
        pace: Pace,
    ) -> Result<Answer, ObjectsError> {
        let (bucket, key) = (bucket_name(at.0), object_key(at.1));
        let mut opened = self.objects.get(&CALLER, &bucket, &key, version).await?;
        let seen = self.recorder.get().identify(at.0, at.1, &opened.record);
        let size = opened.record.size;
        let (start, end) = range.map_or((0, size), |(start, len)| {
            (start.min(size), (start + len).min(size))
        });
        if range.is_some() {
            opened.reader.select(ByteRange { start, end })?;
        }
        let mut got = Vec::new();
        let read = loop {
            // A reader that takes its time: what it reads may lose its name meanwhile, and be reclaimed around it.
            if pace.pause_ms > 0 {
                self.clock.sleep(Duration::from_millis(pace.pause_ms)).await;
            }
            match opened.reader.next().await {
                Ok(Some(bytes)) => got.extend_from_slice(&bytes),
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        let Ok(value) = seen else {
            return Ok(self.answer_value(seen));
        };
        let pieces = self.recorder.get().pieces(value);
        if let Some(at) = value::first_wrong(&pieces, start, &got) {
            self.recorder.violation(format!(
                "operation {id} was given a wrong byte at {at} of what {value} stored"
            ));
        }
        match read {
            Ok(()) if got.len() as u64 != end - start => {
                let what = format!("operation {id} was given {} bytes of {start}..{end}", got.len());
                self.recorder.violation(what);
            }
            Ok(()) => {}
            Err(error) => {
                let chunks = chunks_of(&opened.record);
                self.recorder
                    .get()
                    .unreadable
                    .push((id, chunks, outcome_of(&error)));
                self.recorder.note(format_args!("{id} cannot read: {error}"));
            }
        }
        Ok(Answer::Value(value))
    }

    /// A value, or what is wrong with it.
    pub(crate) fn answer_value(&self, seen: Result<OpId, String>) -> Answer {
        match seen {
            Ok(value) => Answer::Value(value),
            Err(what) => {
                self.recorder.violation(what);
                Answer::Value(0)
            }
        }
    }

    async fn list(&self, bucket: usize, query: &Query) -> Result<Answer, ObjectsError> {
        let page = self
            .objects
            .list(
                &CALLER,
                ListObjects {
                    bucket: bucket_name(bucket),
                    prefix: query.prefix.to_owned(),
                    delimiter: query.delimiter.to_owned(),
                    after: query.after.clone(),
                    max: query.max,
                },
            )
            .await?;
        let mut lines = Vec::new();
        for entry in page.entries {
            lines.push(match entry {
                ListEntry::Prefix(prefix) => Line::Prefix(prefix),
                ListEntry::Object { key, record } => {
                    let Some(key) = KEYS.iter().position(|k| *k == key) else {
                        self.recorder.violation(format!("a listing names {key:?}"));
                        continue;
                    };
                    let record = listed(KEYS[key], &record)?;
                    let seen = self.recorder.get().identify(bucket, key, &record);
                    match self.answer_value(seen) {
                        Answer::Value(value) => Line::Key(key, value),
                        _ => unreachable!("a value"),
                    }
                }
            });
        }
        Ok(Answer::Page(lines, page.truncated))
    }

    async fn put_part(
        &self,
        id: OpId,
        op: &Op,
        known: UploadId,
        (upload, part): (usize, usize),
        pace: Pace,
    ) -> Result<Answer, ObjectsError> {
        let Op::PutPart {
            bucket,
            key,
            size,
            spoil,
            ..
        } = op
        else {
            unreachable!("a part")
        };
        let (body, expect) = self.body(id, *size, *spoil, pace);
        let put = PutPart {
            bucket: bucket_name(*bucket),
            key: object_key(*key),
            upload: known,
            number: PARTS[part],
            length: *size,
            body,
            expect,
        };
        let (etag, _) = self.objects.put_part(&CALLER, put).await?;
        let record = &mut *self.recorder.get();
        if etag.md5 != record.md5(id) {
            record.violations.push(format!("part {id} was answered {etag}"));
        }
        record.parts[upload][part] = id;
        Ok(Answer::Done)
    }

    async fn complete(&self, id: OpId, op: &Op, known: UploadId) -> Result<Answer, ObjectsError> {
        let Op::CompleteUpload {
            bucket,
            key,
            parts,
            condition,
            ..
        } = op
        else {
            unreachable!("a completion")
        };
        let precondition = self.precondition(*condition);
        let named = {
            let record = &mut *self.recorder.get();
            let parts = PARTS.iter().zip(parts).filter(|(_, part)| **part > 0);
            parts
                .map(|(number, part)| NamedPart {
                    number: *number,
                    etag_md5: record.md5(*part),
                    checksums: Vec::new(),
                })
                .collect()
        };
        let complete = CompleteUpload {
            bucket: bucket_name(*bucket),
            key: object_key(*key),
            upload: known,
            parts: named,
            precondition,
            expected: Expected::default(),
        };
        let answer = self.objects.complete_upload(&CALLER, complete).await?;
        let record = &mut *self.recorder.get();
        let stored = record.book.stores(id);
        if answer.etag_md5 != record.md5(id) {
            record
                .violations
                .push(format!("operation {id} was answered {answer:?}"));
        }
        if let Err(what) = record.see_version(stored, &answer.version) {
            record.violations.push(what);
        }
        Ok(Answer::Done)
    }

    fn answer_parts(&self, upload: usize, parts: &[wire::records::PartRecord]) -> Answer {
        let record = &mut *self.recorder.get();
        let mut seen = [0; PARTS.len()];
        for part in parts {
            let slot = PARTS.iter().position(|n| *n == part.number);
            let candidates: Vec<OpId> = (record.book.ids())
                .filter(|id| matches!(record.book.op(*id), Op::PutPart { upload: u, part: p, .. } if *u == upload && Some(*p) == slot))
                .collect();
            let found = candidates
                .into_iter()
                .find(|id| record.md5(*id)[..] == part.etag_md5[..] && record.book.size(*id) == part.size);
            match (slot, found) {
                (Some(slot), Some(id)) => seen[slot] = id,
                _ => record
                    .violations
                    .push(format!("upload {upload} has a part that nobody sent: {part:?}")),
            }
        }
        Answer::Parts(seen)
    }

    async fn list_uploads(&self, bucket: usize) -> Result<Answer, ObjectsError> {
        let query = ListUploads {
            bucket: bucket_name(bucket),
            prefix: String::new(),
            delimiter: String::new(),
            after: (String::new(), None),
            max: 1000,
        };
        let page = self.objects.list_uploads(&CALLER, query).await?;
        let record = &mut *self.recorder.get();
        let mut seen = 0;
        for entry in page.entries {
            let UploadsEntry::Upload { key, record: found } = entry else {
                continue;
            };
            match upload_of(record, bucket, &key, &found) {
                Some(upload) => {
                    record.uploads[upload] = UploadId::from_slice(&found.upload);
                    seen |= 1 << upload;
                }
                None => record
                    .violations
                    .push(format!("an upload that nobody began: {key:?} {found:?}")),
            }
        }
        Ok(Answer::Set(seen))
    }
}

/// The number of an upload that is listed, when its id is the one it always had.
fn upload_of(
    record: &Record,
    bucket: usize,
    key: &str,
    found: &wire::records::UploadRecord,
) -> Option<usize> {
    let mark = mark_of(&found.metadata).filter(|m| record.book.ids().contains(m))?;
    let Op::StartUpload {
        bucket: b,
        key: k,
        upload,
    } = record.book.op(mark)
    else {
        return None;
    };
    let id = UploadId::from_slice(&found.upload)?;
    let same = record.uploads[*upload].is_none_or(|known| known == id);
    (*b == bucket && KEYS[*k] == key && same && *upload < UPLOADS).then_some(*upload)
}

pub(crate) fn mark(id: OpId) -> Vec<Pair> {
    vec![Pair {
        name: "op".into(),
        value: id.to_string(),
    }]
}

/// The chunks of an object.
pub fn chunks_of(record: &wire::records::ObjectRecord) -> Vec<wire::records::Chunk> {
    match &record.data {
        Some(wire::records::object_record::Data::Chunks(chunks)) => chunks.chunks.clone(),
        _ => Vec::new(),
    }
}
