//! DeleteBucket. Uploads that were begun and never ended do not keep a bucket, as in S3: they go with it.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use http::StatusCode;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    service
        .objects
        .delete_bucket(&request.caller, request.bucket())
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
