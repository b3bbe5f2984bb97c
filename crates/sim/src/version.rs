//! What a client does with versions and tags, and what it is told of them.

use crate::client::{CALLER, Client, Pace, bucket_name, object_key};
use crate::op::{Answer, KEYS, Line, Op, OpId, Query, Which};
use crate::record::{Record, mark_of};
use crate::stack::Entry;
use objects::{DeleteObject, ListVersions, ObjectsError};
use types::{ErrorKind, VersionId};
use wire::Fault;
use wire::index::{Precondition, VersionRef, Versioning, VersionsEntry};
use wire::records::{DeleteAnswer, ObjectRecord, Pair};

impl Client {
    /// An operation on versions or tags.
    pub(crate) async fn call_on_version(
        &self,
        id: OpId,
        op: &Op,
        pace: Pace,
    ) -> Result<Answer, ObjectsError> {
        match op {
            Op::SetVersioning { bucket, versioning } => {
                let versioning = Versioning::from_number(*versioning);
                let name = bucket_name(*bucket);
                self.objects.set_versioning(&CALLER, &name, versioning).await?;
                Ok(Answer::Done)
            }
            Op::GetVersion { bucket, key, which } => {
                let version = self.version(*which)?;
                self.get(id, (*bucket, *key), (version, None), pace).await
            }
            Op::Delete {
                bucket,
                key,
                condition,
            } => {
                let precondition = self.precondition(*condition);
                let answer = self
                    .delete((*bucket, *key), VersionRef::Current, precondition)
                    .await?;
                Ok(self.answer_deleted(id, &answer))
            }
            Op::DeleteVersion { bucket, key, which } => {
                let version = self.version(*which)?;
                let answer = self
                    .delete((*bucket, *key), version, Precondition::default())
                    .await?;
                Ok(Answer::Existed(answer.existed))
            }
            Op::ListVersions { bucket, query } => self.list_versions(*bucket, query).await,
            Op::SetTags { bucket, key } => {
                let (bucket, key) = (bucket_name(*bucket), object_key(*key));
                let tag = Pair {
                    name: "op".into(),
                    value: id.to_string(),
                };
                let at = (&key, VersionRef::Current);
                self.objects.set_tags(&CALLER, &bucket, at, vec![tag]).await?;
                Ok(Answer::Done)
            }
            Op::GetTags { bucket, key } => {
                let headed = self.head(*bucket, *key).await?;
                Ok(Answer::Value(mark_of(&headed.tags).unwrap_or(0)))
            }
            other => unreachable!("{other:?} is not on a version"),
        }
    }

    pub(crate) async fn head(&self, bucket: usize, key: usize) -> Result<ObjectRecord, ObjectsError> {
        let (bucket, key) = (bucket_name(bucket), object_key(key));
        let headed = self.objects.head(&CALLER, &bucket, &key, VersionRef::Current);
        Ok(headed.await?.record)
    }

    async fn delete(
        &self,
        (bucket, key): (usize, usize),
        version: VersionRef,
        precondition: Precondition,
    ) -> Result<DeleteAnswer, ObjectsError> {
        let delete = DeleteObject {
            key: object_key(key),
            version,
            precondition,
        };
        self.objects.delete(&CALLER, &bucket_name(bucket), delete).await
    }

    /// What the delete of a key did.
    pub(crate) fn answer_deleted(&self, id: OpId, answer: &DeleteAnswer) -> Answer {
        if !answer.delete_marker {
            return Answer::Existed(answer.existed);
        }
        let seen = self.recorder.get().see_version(id, &answer.version);
        if let Err(what) = seen {
            self.recorder.violation(what);
        }
        Answer::Marked(answer.existed)
    }

    fn version(&self, which: Which) -> Result<VersionRef, ObjectsError> {
        let Which::Of(op) = which else {
            return Ok(VersionRef::Null);
        };
        let id = self.recorder.get().version_of(op);
        let id = id.as_deref().and_then(VersionId::from_slice);
        // Its making has not been answered: the client asks again later.
        let unknown = || Fault::new(ErrorKind::Busy, "a version that is not known yet").into();
        id.map(VersionRef::Id).ok_or_else(unknown)
    }

    async fn list_versions(&self, bucket: usize, query: &Query) -> Result<Answer, ObjectsError> {
        let asked = ListVersions {
            bucket: bucket_name(bucket),
            prefix: query.prefix.to_owned(),
            delimiter: query.delimiter.to_owned(),
            after: (query.after.clone(), None),
            max: query.max,
        };
        let page = self.objects.list_versions(&CALLER, asked).await?;
        let mut lines = Vec::new();
        for entry in page.entries {
            lines.push(match entry {
                VersionsEntry::Prefix(prefix) => Line::Prefix(prefix),
                VersionsEntry::Version {
                    key,
                    record,
                    is_latest,
                } => {
                    let Some(key) = KEYS.iter().position(|k| *k == key) else {
                        self.recorder
                            .violation(format!("a listing of versions names {key:?}"));
                        continue;
                    };
                    let seen = entry_of(&mut self.recorder.get(), (bucket, key), &record);
                    let entry = seen.unwrap_or_else(|what| {
                        self.recorder.violation(what);
                        Entry {
                            op: 0,
                            marker: false,
                            null: false,
                            tags: 0,
                        }
                    });
                    Line::Version(key, entry, is_latest)
                }
            });
        }
        Ok(Answer::Page(lines, page.truncated))
    }
}

/// A version as a listing shows it.
fn entry_of(record: &mut Record, at: (usize, usize), seen: &ObjectRecord) -> Result<Entry, String> {
    let op = match seen.delete_marker {
        true => record.op_of_version(&seen.version).unwrap_or(0),
        false => record.identify(at.0, at.1, seen)?,
    };
    Ok(Entry {
        op,
        marker: seen.delete_marker,
        null: seen.null_version,
        tags: mark_of(&seen.tags).unwrap_or(0),
    })
}
