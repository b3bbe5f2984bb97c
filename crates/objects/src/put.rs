//! The put of an object: bytes down, then the name.

use crate::commands::unexpected;
use crate::digests::Digested;
use crate::intake::Intake;
use crate::service::Objects;
use crate::{BodyError, Caller, ObjectsError, PutObject};
use blob::PutError;
use types::limits::{FRAME_BYTES_MAX, INLINE_BYTES_MAX, PUT_BYTES_MAX};
use types::{BucketId, Checksum, ChecksumKind, ObjectKey};
use wire::index::{Command, Match, Precondition, Reason, StoredData};
use wire::node::OwnerRef;
use wire::records::answer::Kind as AnswerKind;
use wire::records::{self, ObjectRecord, PutAnswer};
use world::plant::{Plant, is_planted};

/// Bodies above this are not read before a precondition that fails already is told.
const CHECKED_FIRST_BYTES_MIN: u64 = FRAME_BYTES_MAX as u64;

impl Objects {
    /// Stores an object. Steps:
    ///
    /// 1. The bucket is found and is the caller's.
    /// 2. The bytes come in, measured and digested. A few ride along in the commit; more go down as needles, durable or
    ///    ordered, that nothing names yet.
    /// 3. The body has ended: its length, MD5 and checksums are what was said, or nothing is named.
    /// 4. The index decides the precondition and commits the name. Only its answer is an answer.
    ///
    /// Dropped before step 4 it leaves bytes that gc removes. Dropped within it, the command still gets its answer.
    ///
    /// # Errors
    /// [`ObjectsError`]; a fault of kind `Unknown` when the name may have been committed.
    pub async fn put(&self, caller: &Caller, put: PutObject) -> Result<PutAnswer, ObjectsError> {
        if put.length > PUT_BYTES_MAX {
            return Err(Reason::EntityTooLarge.into());
        }
        let bucket = BucketId(self.bucket(caller, &put.bucket).await?.bucket);
        if put.length > CHECKED_FIRST_BYTES_MIN {
            self.check_first(bucket, &put.key, &put.precondition).await?;
        }
        let mut intake = Intake::new(put.body, put.length, put.expect, put.checksum);
        let data = if put.length <= INLINE_BYTES_MAX as u64 {
            let bytes = intake.whole().await?;
            if bytes.is_empty() {
                StoredData::Empty
            } else {
                StoredData::Inline(bytes)
            }
        } else {
            let owner = OwnerRef {
                bucket,
                key: put.key.as_str().to_owned(),
                upload: None,
            };
            let stored = self.blob.put(&owner, put.length, &mut intake).await;
            StoredData::Chunks(stored.map_err(from_blob)?)
        };
        let Digested { md5, mut checksums } = intake.finish()?;
        checksums.retain(|c| put.checksum.is_none_or(|kept| kept == c.algorithm));
        let record = ObjectRecord {
            size: put.length,
            etag_md5: md5.to_vec(),
            owner: caller.account.0,
            checksum_kind: ChecksumKind::FullObject as u32,
            checksums: recorded(checksums),
            headers: Some(put.headers).filter(|h| *h != records::ContentHeaders::default()),
            metadata: put.metadata,
            tags: put.tags,
            ..ObjectRecord::default()
        };
        let name = || Command::Put {
            bucket,
            key: put.key.clone(),
            record: Box::new(record.clone()),
            data: data.clone(),
            precondition: put.precondition.clone(),
        };
        if is_planted(Plant::AckBeforeIndex) {
            self.commands.send_some_time(name())?;
            return Ok(answer_of(&record));
        }
        match self.send_in(caller, &put.bucket, bucket, name).await? {
            AnswerKind::Put(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Spares a client from sending a large body that the commit would refuse anyway. The commit decides all the same.
    async fn check_first(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        precondition: &Precondition,
    ) -> Result<(), ObjectsError> {
        if precondition.if_none_match == Some(Match::Any)
            && self.index.get(bucket, key, None, false).await?.is_ok()
        {
            return Err(Reason::PreconditionFailed.into());
        }
        Ok(())
    }
}

/// What the index would answer, but for what only it can say.
fn answer_of(record: &ObjectRecord) -> PutAnswer {
    PutAnswer {
        etag_md5: record.etag_md5.clone(),
        size: record.size,
        checksums: record.checksums.clone(),
        checksum_kind: record.checksum_kind,
        ..PutAnswer::default()
    }
}

/// Checksums as records keep them.
pub(crate) fn recorded(checksums: Vec<Checksum>) -> Vec<records::Checksum> {
    let record = |c: Checksum| records::Checksum {
        algorithm: c.algorithm as u32,
        value: c.value,
    };
    checksums.into_iter().map(record).collect()
}

/// The byte path's failure as the operation's.
pub(crate) fn from_blob(error: PutError<ObjectsError>) -> ObjectsError {
    match error {
        PutError::Source(error) => error,
        PutError::Stalled => BodyError::TimedOut.into(),
        PutError::Length { said, given } if given < said => BodyError::Incomplete.into(),
        PutError::Length { .. } => {
            BodyError::Refused("the body is longer than it was said to be".into()).into()
        }
        PutError::Fault(fault) => fault.into(),
    }
}
