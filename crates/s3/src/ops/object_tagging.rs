//! GetObjectTagging.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::{tags, version};

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let headed = service
        .objects
        .head(&request.caller, bucket, key, version)
        .await?;
    let mut reply = reply::xml(tags::to_document(&headed.record.tags));
    version::read(reply.headers_mut(), &headed.record, headed.versioned);
    Ok(reply)
}
