//! Settings that a bucket keeps (tags, CORS rules, ownership, public access): how each is read, told and taken back.
//!
//! What they differ in is the operation's own: its document, and what a bucket is that was told nothing.

use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use bytes::Bytes;
use http::StatusCode;
use wire::index::SettingKind;
use wire::records::BucketSetting;
use wire::records::bucket_setting::Kind;

/// What the bucket was told; `None`: nothing.
pub(super) async fn told(
    service: &Service,
    request: &Request,
    which: SettingKind,
) -> Result<Option<Kind>, Error> {
    let (caller, bucket) = (&request.caller, request.bucket());
    let setting = service.objects.bucket_setting(caller, bucket, which).await?;
    Ok(setting.and_then(|s| s.kind))
}

/// The document that tells it. That there is no such bucket comes before what is wrong with the document.
pub(super) async fn document(service: &Service, request: &mut Request) -> Result<Bytes, Error> {
    service
        .objects
        .head_bucket(&request.caller, request.bucket())
        .await?;
    let (document, _) = request.document(service.world.clock.clone()).await?;
    Ok(document)
}

/// Tells it, or takes it back, and answers with `status`.
pub(super) async fn tell(
    service: &Service,
    request: &Request,
    (which, value): (SettingKind, Option<Kind>),
    status: StatusCode,
) -> Result<Reply, Error> {
    let (caller, bucket) = (&request.caller, request.bucket());
    let value = value.map(|kind| BucketSetting { kind: Some(kind) });
    service
        .objects
        .put_bucket_setting(caller, bucket, which, value)
        .await?;
    Ok(reply::empty(status))
}
