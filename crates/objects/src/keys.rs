//! What is done to keys without their bytes: delete, tag, list.

use crate::commands::unexpected;
use crate::service::Objects;
use crate::{Caller, DeleteObject, ListObjects, ListVersions, ObjectsError};
use futures_util::{StreamExt, stream};
use types::limits::DELETE_KEYS_MAX;
use types::{BucketId, BucketName, ErrorKind, ObjectKey};
use wire::Fault;
use wire::index::{Command, ListPage, ListQuery, VersionRef, VersionsPage, VersionsQuery};
use wire::records::answer::Kind as AnswerKind;
use wire::records::{DeleteAnswer, Pair, PutAnswer};

/// Deletes of one batch under way at once: they share commits, and leave room for others.
const DELETES_AT_ONCE: usize = 64;

impl Objects {
    /// Removes an object or a version of it, or puts a delete marker over it. Nothing there is an answer, not an error.
    ///
    /// # Errors
    /// [`ObjectsError`]; `PreconditionFailed` when the commit decided so.
    pub async fn delete(
        &self,
        caller: &Caller,
        name: &BucketName,
        delete: DeleteObject,
    ) -> Result<DeleteAnswer, ObjectsError> {
        let bucket = BucketId(self.bucket(caller, name).await?.bucket);
        self.delete_in(caller, (name, bucket), &delete).await
    }

    /// Removes many objects, each on its own: answers in the order of the keys.
    ///
    /// # Errors
    /// What concerns the bucket or the batch; what concerns one key is in its place.
    pub async fn delete_many(
        &self,
        caller: &Caller,
        name: &BucketName,
        deletes: Vec<DeleteObject>,
    ) -> Result<Vec<Result<DeleteAnswer, ObjectsError>>, ObjectsError> {
        if deletes.len() > DELETE_KEYS_MAX {
            let what = format!("{} keys in one batch, at most {DELETE_KEYS_MAX}", deletes.len());
            return Err(Fault::new(ErrorKind::Invalid, what).into());
        }
        let bucket = BucketId(self.bucket(caller, name).await?.bucket);
        // A key named twice is removed once before the other: two commands on one key may be decided in either order,
        // and both answers are right in either.
        Ok(stream::iter(deletes)
            .map(|delete| async move { self.delete_in(caller, (name, bucket), &delete).await })
            .buffered(DELETES_AT_ONCE)
            .collect()
            .await)
    }

    async fn delete_in(
        &self,
        caller: &Caller,
        (name, bucket): (&BucketName, BucketId),
        delete: &DeleteObject,
    ) -> Result<DeleteAnswer, ObjectsError> {
        let command = || Command::Delete {
            bucket,
            key: delete.key.clone(),
            version: delete.version,
            precondition: delete.precondition.clone(),
        };
        match self.send_in(caller, name, bucket, command).await? {
            AnswerKind::Delete(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Replaces the tags of an object, or of a version of it.
    ///
    /// # Errors
    /// `NoSuchKey`, `NoSuchVersion`, `DeleteMarker` and others.
    pub async fn set_tags(
        &self,
        caller: &Caller,
        name: &BucketName,
        (key, version): (&ObjectKey, VersionRef),
        tags: Vec<Pair>,
    ) -> Result<PutAnswer, ObjectsError> {
        let bucket = BucketId(self.bucket(caller, name).await?.bucket);
        let set = || Command::SetTags {
            bucket,
            key: key.clone(),
            version,
            tags: tags.clone(),
        };
        match self.send_in(caller, name, bucket, set).await? {
            AnswerKind::Put(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// A page of a bucket's objects: a consistent snapshot.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub async fn list(&self, caller: &Caller, query: ListObjects) -> Result<ListPage, ObjectsError> {
        let bucket = self.bucket_to_read(caller, &query.bucket).await?;
        let page = self.index.list(ListQuery {
            bucket: BucketId(bucket.bucket),
            prefix: query.prefix,
            delimiter: query.delimiter,
            after: query.after,
            max: query.max,
        });
        Ok(page.await??)
    }

    /// A page of a bucket's versions and delete markers: a consistent snapshot.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub async fn list_versions(
        &self,
        caller: &Caller,
        query: ListVersions,
    ) -> Result<VersionsPage, ObjectsError> {
        let bucket = self.bucket_to_read(caller, &query.bucket).await?;
        let page = self.index.list_versions(VersionsQuery {
            bucket: BucketId(bucket.bucket),
            prefix: query.prefix,
            delimiter: query.delimiter,
            after: query.after,
            max: query.max,
        });
        Ok(page.await??)
    }
}
