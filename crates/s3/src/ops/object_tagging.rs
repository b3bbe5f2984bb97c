//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging: of the current object or of a version. A delete marker has no tags, and says so
//! (MethodNotAllowed) also where no version is named, as S3 does here and not for reads of the object.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::{tags, version};
use http::StatusCode;
use objects::ObjectsError;
use types::limits::OBJECT_TAGS_MAX;
use wire::records::Pair;

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let headed = service
        .objects
        .head(&request.caller, bucket, key, version)
        .await
        .map_err(|e| match e {
            ObjectsError::Deleted { marker, .. } => ObjectsError::Deleted {
                marker,
                is_current: false,
            },
            other => other,
        })?;
    let mut reply = reply::xml(tags::to_document(&headed.record.tags));
    version::read(reply.headers_mut(), &headed.record, headed.versioned);
    Ok(reply)
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let (document, _) = request.document(service.world.clock.clone()).await?;
    let tags = tags::from_document(&document, OBJECT_TAGS_MAX, "Object")?;
    set(service, &request, tags, StatusCode::OK).await
}

pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    set(service, &request, Vec::new(), StatusCode::NO_CONTENT).await
}

async fn set(
    service: &Service,
    request: &Request,
    tags: Vec<Pair>,
    status: StatusCode,
) -> Result<Reply, Error> {
    let meant = (request.key(), request.version()?);
    let answer = service
        .objects
        .set_tags(&request.caller, request.bucket(), meant, tags)
        .await?;
    let mut reply = reply::empty(status);
    version::made(reply.headers_mut(), &answer);
    Ok(reply)
}
