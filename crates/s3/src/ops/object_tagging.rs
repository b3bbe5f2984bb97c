//! GetObjectTagging.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::tags;

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let record = service
        .objects
        .head(&request.caller, bucket, key, version)
        .await?;
    Ok(reply::xml(tags::to_document(&record.tags)))
}
