//! PutBucketTagging, GetBucketTagging, DeleteBucketTagging. No tags at all are as if none were ever put.

use super::bucket_setting;
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
    match bucket_setting::told(service, &request, SettingKind::Tags).await? {
        Some(Kind::Tags(BucketTags { tags })) => Ok(reply::xml(tags::to_document(&tags))),
        _ => Err(Code::NoSuchTagSet.into()),
    }
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let document = bucket_setting::document(service, &mut request).await?;
    let tags = kept(tags::from_document(&document, BUCKET_TAGS_MAX, "Bucket")?);
    bucket_setting::tell(
        service,
        &request,
        (SettingKind::Tags, tags),
        StatusCode::NO_CONTENT,
    )
    .await
}

pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    bucket_setting::tell(
        service,
        &request,
        (SettingKind::Tags, None),
        StatusCode::NO_CONTENT,
    )
    .await
}

fn kept(tags: Vec<Pair>) -> Option<Kind> {
    (!tags.is_empty()).then_some(Kind::Tags(BucketTags { tags }))
}

/// Tags as a bucket keeps them.
pub(super) fn setting(tags: Vec<Pair>) -> Option<BucketSetting> {
    kept(tags).map(|kind| BucketSetting { kind: Some(kind) })
}
