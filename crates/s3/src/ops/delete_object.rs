//! DeleteObject. What is not there is deleted: 204 all the same.

use crate::condition;
use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use http::StatusCode;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let precondition = condition::write(&request.headers)?;
    if precondition.if_none_match.is_some() {
        return Err(Error::header_not_implemented("If-None-Match"));
    }
    let (bucket, key) = (request.bucket(), request.key());
    if request.version()?.is_some() {
        // No bucket has versions but null, so this one is gone already; the current object is not what was named.
        service.objects.head_bucket(&request.caller, bucket).await?;
    } else {
        service
            .objects
            .delete(&request.caller, bucket, key, precondition)
            .await?;
    }
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
