//! Multipart uploads.

use crate::append::check_algorithm;
use crate::commands::unexpected;
use crate::digests::{Digested, recorded};
use crate::service::Objects;
use crate::{Caller, CompleteUpload, ListParts, ListUploads, ObjectsError, PutPart, StartUpload};
use types::limits::{LIST_KEYS_MAX, PART_NUMBER_MAX, PUT_BYTES_MAX};
use types::{BucketId, BucketName, ChecksumAlgorithm, ETag, ErrorKind, ObjectKey, UploadId};
use wire::Fault;
use wire::index::{Command, PartsPage, Reason, UploadsPage, UploadsQuery};
use wire::node::OwnerRef;
use wire::records::answer::Kind as AnswerKind;
use wire::records::{PartRecord, PutAnswer, UploadRecord};

impl Objects {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub async fn start_upload(&self, caller: &Caller, start: StartUpload) -> Result<UploadId, ObjectsError> {
        let bucket = BucketId(self.bucket(caller, &start.bucket).await?.bucket);
        let record = UploadRecord {
            owner: caller.account.0,
            headers: start.headers.unless_none(),
            metadata: start.metadata,
            tags: start.tags,
            checksum_algorithm: start.checksum.map_or(0, |a| a as u32),
            checksum_kind: start.checksum_kind.map_or(0, |k| k as u32),
            ..UploadRecord::default()
        };
        let create = || Command::CreateUpload {
            bucket,
            key: start.key.clone(),
            record: Box::new(record.clone()),
        };
        match self.send_in(caller, &start.bucket, bucket, create).await? {
            AnswerKind::Upload(answer) => UploadId::from_slice(&answer.upload).ok_or_else(|| {
                Fault::new(ErrorKind::Fault, "the index answered without an upload id").into()
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Stores a part, as [`Objects::put`] stores an object: bytes down, then the name. Its checksums are those that came
    /// with it and the upload's own, so that the object's can be made of them.
    ///
    /// # Errors
    /// [`ObjectsError`]; `NoSuchUpload`, and [`ObjectsError::OtherChecksum`] than the upload's own, before a byte of the body is read.
    pub async fn put_part(&self, caller: &Caller, put: PutPart) -> Result<(ETag, PartRecord), ObjectsError> {
        if put.number == 0 || put.number > PART_NUMBER_MAX {
            let what = format!("part numbers are 1 to {PART_NUMBER_MAX}");
            return Err(Fault::new(ErrorKind::Invalid, what).into());
        }
        if put.length > PUT_BYTES_MAX {
            return Err(Reason::EntityTooLarge.into());
        }
        // Before the upload is looked for: what is found is not given up as idle while the part comes, however slowly.
        let _in_hand = self.uploads.begin(put.upload);
        let bucket = BucketId(self.bucket(caller, &put.bucket).await?.bucket);
        let page = self.page_of_parts(
            caller,
            (&put.bucket, bucket),
            &put.key,
            (put.upload, PART_NUMBER_MAX, 1),
        );
        let upload = page.await?.upload;
        // Without an algorithm of the upload's own the object gets a CRC-64/NVME, as a plain put does.
        let own = ChecksumAlgorithm::from_number(upload.checksum_algorithm);
        check_algorithm(&put.expect, own)?;
        let mut intake = self.intake(
            put.body,
            put.length,
            put.expect,
            Some(own.unwrap_or(ChecksumAlgorithm::Crc64Nvme)),
        );
        let owner = OwnerRef {
            bucket,
            key: put.key.as_str().to_owned(),
            upload: Some((put.upload, put.number)),
        };
        let stored = self.store(&owner, put.length, &mut intake).await?;
        let unnamed = self.blob.unnamed(&owner, &stored);
        let Digested { md5, checksums } = intake.finish().await?;
        let mut record = PartRecord {
            number: put.number,
            size: put.length,
            etag_md5: md5.to_vec(),
            checksums: recorded(checksums),
            ..PartRecord::default()
        };
        let name = || Command::PutPart {
            bucket,
            key: put.key.clone(),
            upload: put.upload,
            record: Box::new(record.clone()),
            data: stored.clone(),
        };
        match self.send_in(caller, &put.bucket, bucket, name).await? {
            AnswerKind::Part(answer) => {
                unnamed.named();
                record.modified_ms = answer.modified_ms;
                Ok((ETag { md5, part_count: 0 }, record))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// An upload and a page of its parts.
    ///
    /// # Errors
    /// `NoSuchUpload` and others.
    pub async fn list_parts(&self, caller: &Caller, query: ListParts) -> Result<PartsPage, ObjectsError> {
        let bucket = BucketId(self.bucket(caller, &query.bucket).await?.bucket);
        let page = (query.upload, query.after, query.max.min(LIST_KEYS_MAX));
        self.page_of_parts(caller, (&query.bucket, bucket), &query.key, page)
            .await
    }

    /// An upload and its parts after a number, so many at most.
    async fn page_of_parts(
        &self,
        caller: &Caller,
        (name, bucket): (&BucketName, BucketId),
        key: &ObjectKey,
        (upload, after, max): (UploadId, u32, u32),
    ) -> Result<PartsPage, ObjectsError> {
        match self.index.parts(bucket, key, upload, after, max).await? {
            Ok(page) => Ok(page),
            Err(reason) => {
                self.unless_deleted((caller, name), bucket, Err(reason.into()))
                    .await
            }
        }
    }

    /// A page of a bucket's uploads.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub async fn list_uploads(
        &self,
        caller: &Caller,
        query: ListUploads,
    ) -> Result<UploadsPage, ObjectsError> {
        let bucket = BucketId(self.bucket(caller, &query.bucket).await?.bucket);
        let page = self.index.uploads(UploadsQuery {
            bucket,
            prefix: query.prefix,
            delimiter: query.delimiter,
            after: query.after,
            max: query.max,
        });
        let page = page.await?.map_err(ObjectsError::from);
        self.unless_deleted((caller, &query.bucket), bucket, page).await
    }

    /// Makes the object of its parts, in one commit: no byte moves.
    ///
    /// # Errors
    /// What the commit decided: `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall`, `NoSuchUpload`, `BadChecksum`,
    /// `PreconditionFailed`, ...
    pub async fn complete_upload(
        &self,
        caller: &Caller,
        complete: CompleteUpload,
    ) -> Result<PutAnswer, ObjectsError> {
        let _in_hand = self.uploads.begin(complete.upload);
        let bucket = BucketId(self.bucket(caller, &complete.bucket).await?.bucket);
        let command = || Command::CompleteUpload {
            bucket,
            key: complete.key.clone(),
            upload: complete.upload,
            parts: complete.parts.clone(),
            precondition: complete.precondition.clone(),
            expected: complete.expected.clone(),
        };
        match self.send_in(caller, &complete.bucket, bucket, command).await? {
            AnswerKind::Put(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives an upload up; its parts are garbage.
    ///
    /// # Errors
    /// `NoSuchUpload` and others.
    pub async fn abort_upload(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), ObjectsError> {
        let bucket = BucketId(self.bucket(caller, name).await?.bucket);
        let abort = || Command::AbortUpload {
            bucket,
            key: key.clone(),
            upload,
        };
        match self.send_in(caller, name, bucket, abort).await {
            Ok(_) => Ok(()),
            Err(error) if error.reason() == Some(Reason::NoSuchUpload) => {
                self.unless_deleted((caller, name), bucket, Err(error)).await
            }
            Err(error) => Err(error),
        }
    }
}
