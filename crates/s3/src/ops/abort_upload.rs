//! AbortMultipartUpload.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use http::StatusCode;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let upload = request.upload()?;
    let (bucket, key) = (request.bucket(), request.key());
    let aborted = service
        .objects
        .abort_upload(&request.caller, bucket, key, upload)
        .await;
    aborted.map_err(|e| Error::from(e).field("UploadId", upload.to_string()))?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
