//! The put of an object: bytes down, then the name.

use crate::commands::unexpected;
use crate::intake::Intake;
use crate::service::Objects;
use crate::{Body, BodyError, Caller, Expect, ObjectsError, PutObject};
use blob::{PutError, Source, Unnamed};
use bytes::Bytes;
use types::limits::{FRAME_BYTES_MAX, INLINE_BYTES_MAX, PUT_BYTES_MAX};
use types::{BucketId, ChecksumAlgorithm, ObjectKey};
use wire::index::{Command, Match, Precondition, Reason, StoredChunks, StoredData, VersionRef};
use wire::node::OwnerRef;
use wire::records::answer::Kind as AnswerKind;
use wire::records::{ObjectRecord, PutAnswer};
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
    /// Dropped before step 4 it leaves bytes that gc removes. Dropped within it, the command still gets its answer; so gc asks the index
    /// before it takes anything.
    ///
    /// # Errors
    /// [`ObjectsError`]; a fault of kind `Unknown` when the name may have been committed.
    pub async fn put(&self, caller: &Caller, put: PutObject) -> Result<PutAnswer, ObjectsError> {
        self.put_within(caller, put, 0).await
    }

    /// The same for a body of which only its end tells its length: it has at most `put.length` bytes, and at most `slack`
    /// fewer.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub async fn put_within(
        &self,
        caller: &Caller,
        put: PutObject,
        slack: u64,
    ) -> Result<PutAnswer, ObjectsError> {
        if put.length > PUT_BYTES_MAX {
            return Err(Reason::EntityTooLarge.into());
        }
        let bucket = BucketId(self.bucket(caller, &put.bucket).await?.bucket);
        if put.length > CHECKED_FIRST_BYTES_MIN {
            self.check_first(bucket, &put.key, &put.precondition).await?;
        }
        let mut intake = self
            .intake(put.body, put.length, put.expect, put.checksum)
            .with_slack(slack);
        let owner = OwnerRef {
            bucket,
            key: put.key.as_str().to_owned(),
            upload: None,
        };
        let (data, size) = self.bytes_down(&owner, put.length, slack, &mut intake).await?;
        let unnamed = self.unnamed(&owner, &data);
        let record = ObjectRecord {
            headers: put.headers.unless_none(),
            metadata: put.metadata,
            tags: put.tags,
            ..intake.finish().await?.record(size, put.checksum, caller.account)
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
            named(unnamed);
            return Ok(answer_of(&record));
        }
        match self.send_in(caller, &put.bucket, bucket, name).await? {
            AnswerKind::Put(answer) => {
                named(unnamed);
                Ok(answer)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// A body on its way in.
    pub(crate) fn intake(
        &self,
        body: Box<dyn Body>,
        length: u64,
        expect: Expect,
        also: Option<ChecksumAlgorithm>,
    ) -> Intake {
        Intake::new((body, length), expect, also, self.lanes.clone())
    }

    /// Answers for needles until they have a name; for none where there are none.
    pub(crate) fn unnamed(&self, owner: &OwnerRef, data: &StoredData) -> Option<Unnamed> {
        match data {
            StoredData::Chunks(stored) => Some(self.blob.unnamed(owner, stored)),
            StoredData::Empty | StoredData::Inline(_) => None,
        }
    }

    /// Stroke one: the bytes, and how many there were of the `length` less `slack` to `length` that there could be.
    async fn bytes_down(
        &self,
        owner: &OwnerRef,
        length: u64,
        slack: u64,
        intake: &mut Intake,
    ) -> Result<(StoredData, u64), ObjectsError> {
        let in_memory = if slack == 0 {
            INLINE_BYTES_MAX
        } else {
            FRAME_BYTES_MAX
        };
        if length <= in_memory as u64 {
            let memory = match slack {
                0 => None,
                _ => Some(self.blob.memory(length, length).await?),
            };
            let bytes = intake.whole().await?;
            let size = bytes.len() as u64;
            let data = match bytes.len() {
                0 => StoredData::Empty,
                1..=INLINE_BYTES_MAX => StoredData::Inline(bytes),
                _ => {
                    let mut whole = Whole(Some(bytes));
                    let stored = match memory {
                        Some(memory) => self.blob.put_in(memory, owner, size, &mut whole).await,
                        None => self.blob.put(owner, size, &mut whole).await,
                    };
                    StoredData::Chunks(stored.map_err(from_blob)?)
                }
            };
            return Ok((data, size));
        }
        let (stored, size) = if slack == 0 {
            (self.store(owner, length, intake).await?, length)
        } else {
            let sure = length.saturating_sub(slack);
            self.blob
                .put_to_end(owner, sure, intake)
                .await
                .map_err(from_blob)?
        };
        Ok((StoredData::Chunks(stored), size))
    }

    /// The bytes of a body, in the memory that was taken for it if it was.
    pub(crate) async fn store(
        &self,
        owner: &OwnerRef,
        length: u64,
        intake: &mut Intake,
    ) -> Result<StoredChunks, ObjectsError> {
        let stored = match intake.taken() {
            Some(memory) => self.blob.put_in(memory, owner, length, intake).await,
            None => self.blob.put(owner, length, intake).await,
        };
        stored.map_err(from_blob)
    }

    /// Spares a client from sending a large body that the commit would refuse anyway. The commit decides all the same.
    async fn check_first(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        precondition: &Precondition,
    ) -> Result<(), ObjectsError> {
        if precondition.if_none_match == Some(Match::Any)
            && self
                .index
                .get(bucket, key, VersionRef::Current, false)
                .await?
                .is_ok_and(|found| !found.record.delete_marker)
        {
            return Err(Reason::PreconditionFailed.into());
        }
        Ok(())
    }
}

/// Needles, if there were any, have a name now.
pub(crate) fn named(unnamed: Option<Unnamed>) {
    if let Some(unnamed) = unnamed {
        unnamed.named();
    }
}

/// Bytes that are all there.
struct Whole(Option<Bytes>);

impl Source for Whole {
    type Error = ObjectsError;

    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        Ok(self.0.take())
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
