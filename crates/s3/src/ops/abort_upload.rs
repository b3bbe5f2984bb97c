//! AbortMultipartUpload.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use http::StatusCode;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let upload = request.upload()?;
    let (bucket, key) = (request.bucket(), request.key());
    service
        .objects
        .abort_upload(&request.caller, bucket, key, upload)
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
