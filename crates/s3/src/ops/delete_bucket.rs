//! DeleteBucket. Uploads that were begun and never ended do not keep a bucket, as in S3: they are given up with it.
//!
//! Only of a bucket without any version or marker: one that cannot be deleted anyway keeps its uploads. What comes in between is
//! the caller's own race, as if it had given the uploads up itself and then asked again.

use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use http::StatusCode;
use objects::{ListUploads, ListVersions, ObjectsError};
use types::{ObjectKey, UploadId, limits};
use wire::index::{Reason, UploadsEntry};

/// Pages of uploads that one request gives up: no other client keeps it going by beginning more.
const UPLOAD_PAGES_MAX: usize = 100;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    for _ in 0..UPLOAD_PAGES_MAX {
        let deleted = service.objects.delete_bucket(&request.caller, request.bucket());
        match deleted.await {
            Ok(()) => return Ok(reply::empty(StatusCode::NO_CONTENT)),
            Err(e) if e.reason() == Some(Reason::BucketNotEmpty) => {
                if !give_up_uploads(service, &request).await? {
                    return Err(e.into());
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(Error::new(Code::OperationAborted))
}

/// Gives up a page of the uploads of a bucket that has nothing else; whether there was one.
async fn give_up_uploads(service: &Service, request: &Request) -> Result<bool, ObjectsError> {
    let (objects, caller, bucket) = (&service.objects, &request.caller, request.bucket());
    let any_version = ListVersions {
        bucket: bucket.clone(),
        prefix: String::new(),
        delimiter: String::new(),
        after: (String::new(), None),
        max: 1,
    };
    let versions = objects.list_versions(caller, any_version).await?;
    if !versions.entries.is_empty() {
        return Ok(false);
    }
    let begun = ListUploads {
        bucket: bucket.clone(),
        prefix: String::new(),
        delimiter: String::new(),
        after: (String::new(), None),
        max: limits::LIST_KEYS_MAX,
    };
    let page = objects.list_uploads(caller, begun).await?;
    let mut some = false;
    for entry in page.entries {
        let UploadsEntry::Upload { key, record } = entry else {
            continue;
        };
        let (Ok(key), Some(upload)) = (ObjectKey::new(&key), UploadId::from_slice(&record.upload)) else {
            continue;
        };
        match objects.abort_upload(caller, bucket, &key, upload).await {
            Ok(()) => some = true,
            // Ended meanwhile: as good.
            Err(e) if e.reason() == Some(Reason::NoSuchUpload) => some = true,
            Err(e) => return Err(e),
        }
    }
    Ok(some)
}
