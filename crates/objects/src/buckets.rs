//! Buckets: made, found and removed by turns, so that a bucket is never removed while a put may still succeed in it.
//!
//! ```text
//!              CreateBucket            every partition: OpenBucket(n), then BucketOpened(n)
//!   (no row) ───────────────▶ opening(n) ───────────────────────────────────────────────────▶ open
//!                                                                                              │ BeginDeleteBucket
//!              FinishDeleteBucket(n)    every partition: CloseBucket(n) answered "empty"       ▼
//!   (no row) ◀────────────────────────────────────────────────────────────────────────── deleting(n) ◀─┐
//!                                                                                              │   │   │ closed again
//!                                                              none has more than uploads:     │   └───┘
//!                                                              AbortUpload of each             │
//!                                                                                              │ one has more:
//!                             open ◀───── CancelDeleteBucket(n) ◀── every partition: OpenBucket(n)
//! ```
//! Partitions ignore a lower turn than theirs and the row moves only if it still says `n`, so of two that work on a
//! bucket only the one with the newest turn gets anywhere. A row that says `opening` or `deleting` while nobody here
//! works on it was left by a caller that vanished or a process that died, or is another gateway's: whoever finds it
//! finishes it, a deletion at a turn of its own. So it is with a configuration above the last that every partition is
//! known to have. Partitions are reopened before the row says `open`, so `open` needs no second look.
//!
//! Every step names the bucket (its number, which is never given out again) and the turn that was seen, never just the
//! name: between a look at the row and the step that follows it another gateway may have removed the bucket, and made
//! another of that name. What the steps of an overtaken gateway come to:
//!
//! | seen, then sent | meanwhile | answer | so it |
//! |---|---|---|---|
//! | `deleting(n)`, begin(n, stale) | taken over, reopened | busy | looks again |
//! | `deleting(n)`, begin(n, stale) | removed; maybe made anew | no such bucket | looks again: what it settled is settled |
//! | `open(n)`, begin(n) | begun by another | busy | looks again, takes that deletion over |
//! | `open(n)`, begin(n) | removed; maybe made anew | no such bucket | is done: the new one is not what it was to remove |
//! | close, open, finish, cancel(n) | taken over | busy, ignored | looks again |
//!
//! A step whose answer is lost is sent again under its own id and gets its old answer; where tries end without one, the
//! operation ends unknown, and the row waits for who finds it.

use crate::commands::unexpected;
use crate::service::Objects;
use crate::{Caller, ListBuckets, ObjectsError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};
use types::limits::{BUCKET_TURN_MS_MAX, RETRIES_MAX};
use types::{BucketId, BucketName, ErrorKind};
use wire::Fault;
use wire::index::{BucketsQuery, Command, Reason, Versioning};
use wire::records::answer::Kind as AnswerKind;
use wire::records::{BucketCopy, BucketRecord, BucketSetting};

pub(crate) const OPENING: u32 = 1;
const OPEN: u32 = 2;
pub(crate) const DELETING: u32 = 3;
/// State of a partition's copy that takes puts.
const COPY_OPEN: u32 = 1;

/// One change of a bucket at a time in this process: what is found half done while holding the turn is stale. Names that nobody waits
/// for are not kept.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<std::sync::Mutex<BTreeMap<BucketName, Arc<Mutex<()>>>>>);

/// The turn of one name.
pub(crate) struct Turn {
    turns: Turns,
    name: BucketName,
    /// Given back before the name is looked at.
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    async fn take(&self, name: &BucketName) -> Turn {
        let mut turn = Turn {
            turns: self.clone(),
            name: name.clone(),
            held: None,
        };
        let of_name = {
            let mut all = self.0.lock().expect("no panic under this lock");
            all.entry(name.clone()).or_default().clone()
        };
        turn.held = Some(of_name.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut all = self.turns.0.lock().expect("no panic under this lock");
        if all
            .get(&self.name)
            .is_some_and(|of_name| Arc::strong_count(of_name) == 1)
        {
            all.remove(&self.name);
        }
    }
}

/// Whether the directory says that every partition takes puts, and in the way that is configured.
pub(crate) fn is_settled(record: &BucketRecord) -> bool {
    // A bucket's first configuration is the one it is opened with.
    record.state == OPEN && record.configuration <= record.configured.max(1)
}

impl Objects {
    /// The bucket's turn, which may be a while in coming: another request deletes what is in it.
    ///
    /// # Errors
    /// `Busy` where it does not come.
    pub(crate) async fn turn(&self, name: &BucketName) -> Result<Turn, ObjectsError> {
        let late = self.world.clock.sleep(Duration::from_millis(BUCKET_TURN_MS_MAX));
        tokio::select! {
            biased;
            turn = self.turns.take(name) => Ok(turn),
            () = late => Err(Fault::new(ErrorKind::Busy, "the bucket is being changed by another request").into()),
        }
    }

    /// Makes a bucket; `true` when the caller had it already.
    ///
    /// # Errors
    /// `BucketExists` when the name is another account's.
    pub async fn create_bucket(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<(BucketRecord, bool), ObjectsError> {
        self.create_bucket_told(caller, name, Vec::new()).await
    }

    /// Makes a bucket that is told `settings` from the start; one that is there already is not told them.
    ///
    /// # Errors
    /// As [`Objects::create_bucket`].
    pub async fn create_bucket_told(
        &self,
        caller: &Caller,
        name: &BucketName,
        settings: Vec<BucketSetting>,
    ) -> Result<(BucketRecord, bool), ObjectsError> {
        let _turn = self.turn(name).await?;
        for attempt in 0..=RETRIES_MAX {
            let create = Command::CreateBucket {
                name: name.clone(),
                owner: caller.account,
                region: self.region.clone(),
                settings: settings.clone(),
            };
            let error = match self.commands.send(create).await {
                Ok(AnswerKind::Bucket(answer)) => {
                    let record = bucket_of(answer.bucket)?;
                    let existed = answer.existed;
                    if is_settled(&record) {
                        return Ok((record, existed));
                    }
                    if record.state == OPENING {
                        return match self.finish_opening(name, record.clone()).await {
                            // Made, and by now removed or being removed by another gateway: what it is told is what was.
                            Err(e) if overtaken(&e) => Ok((record, existed)),
                            opened => Ok((opened?, existed)),
                        };
                    }
                    Reason::BucketBusy.into()
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(error) => error,
            };
            match error.reason() {
                Some(Reason::BucketOwned) => return Ok((self.settled(caller, name).await?, true)),
                Some(Reason::BucketBusy) => {}
                _ => return Err(error),
            }
            // Its deletion was left half done: finished, then the name is free or the bucket is there.
            match self.settled(caller, name).await {
                Ok(record) => return Ok((record, true)),
                Err(e) if e.reason() == Some(Reason::NoSuchBucket) => {}
                Err(ObjectsError::Denied) => return Err(Reason::BucketExists.into()),
                Err(e) => return Err(e),
            }
            self.pause(attempt).await;
        }
        Err(Reason::BucketBusy.into())
    }

    /// The caller's bucket.
    ///
    /// # Errors
    /// `NoSuchBucket`; [`ObjectsError::Denied`] when it is another account's.
    pub async fn head_bucket(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<BucketRecord, ObjectsError> {
        self.bucket(caller, name).await
    }

    /// Sets a bucket's versioning. Once it is answered no put or delete is decided by an earlier one.
    ///
    /// # Errors
    /// `NoSuchBucket`; [`ObjectsError::Denied`] when it is another account's.
    pub async fn set_versioning(
        &self,
        caller: &Caller,
        name: &BucketName,
        versioning: Versioning,
    ) -> Result<(), ObjectsError> {
        let _turn = self.turn(name).await?;
        for attempt in 0..=RETRIES_MAX {
            let record = self.settled(caller, name).await?;
            let set = Command::SetVersioning {
                name: name.clone(),
                bucket: BucketId(record.bucket),
                versioning,
            };
            match self.commands.send(set).await {
                Ok(AnswerKind::Bucket(_)) => {
                    return match self.settled(caller, name).await {
                        // It was set, and another gateway has removed the bucket since.
                        Err(e) if e.reason() == Some(Reason::NoSuchBucket) => Ok(()),
                        settled => settled.map(drop),
                    };
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(error) if overtaken(&error) => {}
                Err(error) => return Err(error),
            }
            self.pause(attempt).await;
        }
        Err(Reason::BucketBusy.into())
    }

    /// A page of the caller's buckets, by name.
    ///
    /// # Errors
    /// Faults only.
    pub async fn list_buckets(
        &self,
        caller: &Caller,
        query: ListBuckets,
    ) -> Result<Vec<BucketRecord>, ObjectsError> {
        let query = BucketsQuery {
            owner: caller.account,
            prefix: query.prefix,
            after: query.after,
            max: query.max,
        };
        Ok(self.index.buckets(query).await?)
    }

    /// The bucket's row, whatever its state, when it is the caller's.
    pub(crate) async fn bucket_row(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<BucketRecord, ObjectsError> {
        let record = self.index.bucket(name).await??;
        if record.owner != caller.account.0 {
            return Err(ObjectsError::Denied);
        }
        Ok(record)
    }

    /// The bucket, open: a change that is under way here is waited for, one that was left half done is finished.
    pub(crate) async fn settle(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<BucketRecord, ObjectsError> {
        let _turn = self.turn(name).await?;
        self.settled(caller, name).await
    }

    /// [`Objects::settle`] for who holds the bucket's turn.
    async fn settled(&self, caller: &Caller, name: &BucketName) -> Result<BucketRecord, ObjectsError> {
        for attempt in 0..=RETRIES_MAX {
            let record = self.bucket_row(caller, name).await?;
            let ended = match record.state {
                OPENING => self.finish_opening(name, record).await.map(Some),
                DELETING => {
                    tracing::info!(bucket = %name, turn = record.turn, "finishing a deletion that was left half done");
                    match self.delete_once(name, record).await {
                        Ok(true) => return Err(Reason::NoSuchBucket.into()),
                        other => other.map(|_| None),
                    }
                }
                _ if is_settled(&record) => return Ok(record),
                _ => self.finish_configuring(name, record).await.map(Some),
            };
            match ended {
                Ok(Some(record)) => return Ok(record),
                Ok(None) => {}
                Err(e) if overtaken(&e) => {}
                Err(e) => return Err(e),
            }
            self.pause(attempt).await;
        }
        Err(Reason::BucketBusy.into())
    }

    /// Every partition opens, then the row says so.
    pub(crate) async fn finish_opening(
        &self,
        name: &BucketName,
        record: BucketRecord,
    ) -> Result<BucketRecord, ObjectsError> {
        self.open_partitions(&record).await?;
        let opened = Command::BucketOpened {
            name: name.clone(),
            bucket: BucketId(record.bucket),
            turn: record.turn,
        };
        match self.commands.send(opened).await? {
            AnswerKind::Bucket(answer) => bucket_of(answer.bucket),
            AnswerKind::Nothing(_) => Ok(BucketRecord {
                state: OPEN,
                ..record
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Every partition has the configuration, then the row says so.
    async fn finish_configuring(
        &self,
        name: &BucketName,
        record: BucketRecord,
    ) -> Result<BucketRecord, ObjectsError> {
        self.open_partitions(&record).await?;
        let configured = Command::BucketConfigured {
            name: name.clone(),
            bucket: BucketId(record.bucket),
            turn: record.turn,
            configuration: record.configuration,
        };
        match self.commands.send(configured).await? {
            AnswerKind::Bucket(answer) => bucket_of(answer.bucket),
            other => Err(unexpected(&other)),
        }
    }

    /// Every partition of the bucket (there is one until partitions split) takes puts from this turn on.
    pub(crate) async fn open_partitions(&self, record: &BucketRecord) -> Result<(), ObjectsError> {
        let open = Command::OpenBucket {
            bucket: BucketId(record.bucket),
            copy: BucketCopy {
                turn: record.turn,
                state: COPY_OPEN,
                configuration: record.configuration,
                versioning: record.versioning,
                owner: record.owner,
            },
        };
        self.commands.send(open).await.map(|_| ())
    }
}

/// Whether another gateway has taken a higher turn since, or removed the bucket.
pub(crate) fn overtaken(error: &ObjectsError) -> bool {
    matches!(error.reason(), Some(Reason::NoSuchBucket | Reason::BucketBusy))
}

pub(crate) fn bucket_of(bucket: Option<BucketRecord>) -> Result<BucketRecord, ObjectsError> {
    let none = || Fault::new(ErrorKind::Fault, "the index answered without the bucket");
    bucket.ok_or_else(|| none().into())
}
