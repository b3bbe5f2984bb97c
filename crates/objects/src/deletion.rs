//! The deletion of a bucket: closed, emptied of uploads, removed; or opened again. `buckets.rs` has the picture.
//!
//! Uploads that were begun and never ended do not keep a bucket, as in S3: they go with it, and only with it. Where a
//! partition has more than uploads not one of them is touched. Where none has, none can get more any more (they are
//! closing: no puts, parts or completions), so the deletion can no longer be refused, whoever finishes it and at
//! whichever turn; and an abortion sent late finds an upload that is to go, or none.
//!
//! One request aborts [`ABORT_PAGES_MAX`] pages at most: what is left is left to the next, and others get the bucket's turn in between.
//! Where an upload cannot be read (the index rotted) the bucket is opened again: nobody could ever finish.

use crate::buckets::{DELETING, OPENING, bucket_of, overtaken};
use crate::commands::unexpected;
use crate::service::Objects;
use crate::{Caller, ObjectsError};
use futures_util::{TryStreamExt, stream};
use types::limits::{LIST_KEYS_MAX, RETRIES_MAX};
use types::{BucketId, BucketName, ErrorKind, Kind, ObjectKey, UploadId};
use wire::Fault;
use wire::index::{Command, Reason, UploadsEntry, UploadsQuery};
use wire::records::answer::Kind as AnswerKind;
use wire::records::{BucketRecord, CloseAnswer};

/// Uploads of a bucket that are aborted at once: they share commits, and leave room for others.
const ABORTS_AT_ONCE: usize = 16;
/// Pages of uploads that one request aborts.
const ABORT_PAGES_MAX: usize = 10;

impl Objects {
    /// Removes an empty bucket, and with it the uploads that were begun in it and never ended.
    ///
    /// # Errors
    /// `BucketNotEmpty`, and then no upload was touched; `NoSuchBucket`; [`ObjectsError::Denied`] when it is another account's.
    pub async fn delete_bucket(&self, caller: &Caller, name: &BucketName) -> Result<(), ObjectsError> {
        let _turn = self.turn(name).await?;
        let mut seen = self.bucket_row(caller, name).await?;
        let bucket = seen.bucket;
        for attempt in 0..=RETRIES_MAX {
            match self.delete_once(name, seen).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Reason::BucketNotEmpty.into()),
                Err(e) if overtaken(&e) => {}
                Err(e) => return Err(e),
            }
            self.pause(attempt).await;
            seen = self.bucket_row(caller, name).await?;
            // A deletion that this one began may be what another gateway finished: it removes one bucket, not two.
            if seen.bucket != bucket {
                return Err(Reason::NoSuchBucket.into());
            }
        }
        Err(Reason::BucketBusy.into())
    }

    /// One pass of the deletion of the bucket that was `seen`, at a turn of its own: whether it is gone; else it is open
    /// again. Refused ([`overtaken`]) when the row no longer says what was seen.
    pub(crate) async fn delete_once(
        &self,
        name: &BucketName,
        seen: BucketRecord,
    ) -> Result<bool, ObjectsError> {
        let seen = match seen.state {
            OPENING => self.finish_opening(name, seen).await?,
            _ => seen,
        };
        let begin = Command::BeginDeleteBucket {
            name: name.clone(),
            bucket: BucketId(seen.bucket),
            turn: seen.turn,
            stale: seen.state == DELETING,
        };
        let record = match self.commands.send(begin).await? {
            AnswerKind::Bucket(answer) => bucket_of(answer.bucket)?,
            other => return Err(unexpected(&other)),
        };
        let (bucket, turn) = (BucketId(record.bucket), record.turn);
        let mut has = self.close_partitions(bucket, turn).await?;
        if has.only_uploads {
            match self.abort_uploads(bucket).await {
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    self.give_up(name, &record).await?;
                    return Err(e);
                }
                other => other?,
            }
            has = self.close_partitions(bucket, turn).await?;
            // It never says so twice; if it did, the deletion is looked at again from its row.
            if has.only_uploads {
                return Err(Reason::BucketBusy.into());
            }
        }
        if has.empty {
            let name = name.clone();
            self.commands
                .send(Command::FinishDeleteBucket { name, bucket, turn })
                .await?;
        } else {
            self.give_up(name, &record).await?;
        }
        Ok(has.empty)
    }

    /// Opens the bucket again.
    async fn give_up(&self, name: &BucketName, record: &BucketRecord) -> Result<(), ObjectsError> {
        self.open_partitions(record).await?;
        let cancel = Command::CancelDeleteBucket {
            name: name.clone(),
            bucket: BucketId(record.bucket),
            turn: record.turn,
        };
        self.commands.send(cancel).await.map(drop)
    }

    /// Every partition of the bucket (there is one until partitions split) is closing from this turn on; what they have.
    async fn close_partitions(&self, bucket: BucketId, turn: u64) -> Result<CloseAnswer, ObjectsError> {
        match self.commands.send(Command::CloseBucket { bucket, turn }).await? {
            AnswerKind::Close(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Aborts all uploads of a bucket whose partitions are closing and have nothing else. What dies in between is gone on
    /// with by whoever finds the row.
    async fn abort_uploads(&self, bucket: BucketId) -> Result<(), ObjectsError> {
        let mut after = (String::new(), None);
        for _ in 0..ABORT_PAGES_MAX {
            let query = UploadsQuery {
                bucket,
                prefix: String::new(),
                delimiter: String::new(),
                after,
                max: LIST_KEYS_MAX,
            };
            let page = self.index.uploads(query).await??;
            let uploads = page.entries.iter().map(upload_of);
            let uploads: Vec<(ObjectKey, UploadId)> = uploads.collect::<Result<_, _>>()?;
            let last = uploads.last().cloned().filter(|_| page.truncated);
            stream::iter(uploads.into_iter().map(Ok))
                .try_for_each_concurrent(ABORTS_AT_ONCE, |(key, upload)| async move {
                    let abort = Command::AbortUpload { bucket, key, upload };
                    match self.commands.send(abort).await {
                        // Aborted by another deleter.
                        Err(e) if e.reason() == Some(Reason::NoSuchUpload) => Ok(()),
                        aborted => aborted.map(|_| ()),
                    }
                })
                .await?;
            match last {
                Some((key, upload)) => after = (key.as_str().to_owned(), Some(upload)),
                None => return Ok(()),
            }
        }
        let more = "the bucket has more uploads than are aborted at once";
        Err(Fault::new(ErrorKind::Busy, more).into())
    }
}

/// An upload as its listing names it.
fn upload_of(entry: &UploadsEntry) -> Result<(ObjectKey, UploadId), ObjectsError> {
    let named = match entry {
        UploadsEntry::Upload { key, record } => {
            let upload = UploadId::from_slice(&record.upload);
            ObjectKey::new(key).ok().zip(upload)
        }
        UploadsEntry::Prefix(_) => None,
    };
    let none = || Fault::new(ErrorKind::Fault, "the index answered an upload without its name");
    named.ok_or_else(|| none().into())
}
