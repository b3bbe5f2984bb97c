//! PutBucketTagging, GetBucketTagging, DeleteBucketTagging. No tags at all are as if none were ever put.

use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::tags;
use http::StatusCode;
use types::limits::BUCKET_TAGS_MAX;
use wire::index::SettingKind;
use wire::records::bucket_setting::Kind;
use wire::records::{BucketSetting, BucketTags, Pair};

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let setting = service
        .objects
        .bucket_setting(&request.caller, request.bucket(), SettingKind::Tags)
        .await?;
    match setting.and_then(|s| s.kind) {
        Some(Kind::Tags(BucketTags { tags })) => Ok(reply::xml(tags::to_document(&tags))),
        _ => Err(Code::NoSuchTagSet.into()),
    }
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    service
        .objects
        .head_bucket(&request.caller, request.bucket())
        .await?;
    let (document, _) = request.document(service.world.clock.clone()).await?;
    let tags = tags::from_document(&document, BUCKET_TAGS_MAX, "Bucket")?;
    tell(service, &request, setting(tags)).await
}

pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    tell(service, &request, None).await
}

/// Tags as a bucket keeps them.
pub(super) fn setting(tags: Vec<Pair>) -> Option<BucketSetting> {
    let kind = Kind::Tags(BucketTags { tags: tags.clone() });
    (!tags.is_empty()).then_some(BucketSetting { kind: Some(kind) })
}

async fn tell(service: &Service, request: &Request, value: Option<BucketSetting>) -> Result<Reply, Error> {
    let (caller, bucket) = (&request.caller, request.bucket());
    service
        .objects
        .put_bucket_setting(caller, bucket, SettingKind::Tags, value)
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
