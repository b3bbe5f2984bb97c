//! What buckets are told about themselves and no partition needs to know: tags, CORS rules, ownership, public access.

use crate::commands::unexpected;
use crate::service::Objects;
use crate::{Caller, ObjectsError};
use types::{BucketId, BucketName};
use wire::index::{Command, Reason, SettingKind};
use wire::records::BucketSetting;
use wire::records::answer::Kind as AnswerKind;

impl Objects {
    /// What the caller's bucket was told; `None` where it is as a new one.
    ///
    /// # Errors
    /// `NoSuchBucket`; [`ObjectsError::Denied`] when it is another account's.
    pub async fn bucket_setting(
        &self,
        caller: &Caller,
        name: &BucketName,
        kind: SettingKind,
    ) -> Result<Option<BucketSetting>, ObjectsError> {
        let bucket = BucketId(self.bucket(caller, name).await?.bucket);
        Ok(self.index.bucket_setting(bucket, kind).await?)
    }

    /// The same for whoever asks, who may learn nothing of it: for rules that are about strangers.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn bucket_setting_for_anyone(
        &self,
        name: &BucketName,
        kind: SettingKind,
    ) -> Result<Option<BucketSetting>, ObjectsError> {
        let bucket = BucketId(self.index.bucket(name).await??.bucket);
        Ok(self.index.bucket_setting(bucket, kind).await?)
    }

    /// Whether there is a bucket of that name, anyone's.
    ///
    /// # Errors
    /// Faults only.
    pub async fn bucket_exists(&self, name: &BucketName) -> Result<bool, ObjectsError> {
        Ok(self.index.bucket(name).await?.is_ok())
    }

    /// Tells the caller's bucket something, or with `None` lets it be as a new one again.
    ///
    /// # Errors
    /// `NoSuchBucket`; [`ObjectsError::Denied`] when it is another account's.
    pub async fn put_bucket_setting(
        &self,
        caller: &Caller,
        name: &BucketName,
        kind: SettingKind,
        value: Option<BucketSetting>,
    ) -> Result<(), ObjectsError> {
        let put = Command::PutBucketSetting {
            name: name.clone(),
            bucket: BucketId(self.bucket(caller, name).await?.bucket),
            kind,
            value,
        };
        match self.commands.send(put).await {
            Ok(AnswerKind::Nothing(_)) => Ok(()),
            Ok(other) => Err(unexpected(&other)),
            // Removed since, and perhaps made anew: it is not the bucket that was meant.
            Err(e) if e.reason() == Some(Reason::NoSuchBucket) => Err(Reason::NoSuchBucket.into()),
            Err(e) => Err(e),
        }
    }
}
