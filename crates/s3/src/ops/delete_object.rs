//! DeleteObject: of a key, which where the bucket keeps versions puts a delete marker over it, or of a version. What is not
//! there is deleted: 204 all the same, but for a delete with `If-Match`, which is told NoSuchKey.

use crate::condition;
use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::version;
use http::StatusCode;
use objects::DeleteObject;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let precondition = condition::delete(&request.headers)?;
    if precondition.if_match.is_some() && request.query.get("versionId").is_some() {
        return Err(Error::header_not_implemented("If-Match"));
    }
    let delete = DeleteObject {
        key: request.key().clone(),
        version: request.version()?,
        precondition,
    };
    let answer = service
        .objects
        .delete(&request.caller, request.bucket(), delete)
        .await?;
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    if let Some(named) = request.query.get("versionId") {
        version::deleted(reply.headers_mut(), named.to_owned(), answer.delete_marker);
    } else if answer.delete_marker {
        let made = version::name(&answer.version, answer.null_version);
        version::deleted(reply.headers_mut(), made, true);
    }
    Ok(reply)
}
