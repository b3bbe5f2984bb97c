//! PutBucketOwnershipControls, GetBucketOwnershipControls, DeleteBucketOwnershipControls.
//!
//! Only a bucket's own account can write to it, so whichever is chosen, it owns what is written. What the choice changes is
//! how an access control list is refused (`acl`).

use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::{Request, parse_document};
use crate::service::Service;
use crate::xml::XmlWriter;
use http::StatusCode;
use wire::index::SettingKind;
use wire::records::bucket_setting::Kind;
use wire::records::{BucketSetting, OwnershipControls};

/// What a bucket is that was told nothing.
pub(crate) const BUCKET_OWNER_ENFORCED: u32 = 1;
const NAMES: &[(u32, &str)] = &[
    (BUCKET_OWNER_ENFORCED, "BucketOwnerEnforced"),
    (2, "BucketOwnerPreferred"),
    (3, "ObjectWriter"),
];

/// The setting of that name; `None` for a name that is none.
pub(super) fn setting(name: &str) -> Option<BucketSetting> {
    let (number, _) = NAMES.iter().find(|(_, n)| *n == name)?;
    Some(numbered(*number))
}

fn numbered(object_ownership: u32) -> BucketSetting {
    BucketSetting {
        kind: Some(Kind::Ownership(OwnershipControls { object_ownership })),
    }
}

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let setting = service
        .objects
        .bucket_setting(&request.caller, request.bucket(), SettingKind::Ownership)
        .await?;
    let number = match setting.and_then(|s| s.kind) {
        Some(Kind::Ownership(controls)) => controls.object_ownership,
        _ => BUCKET_OWNER_ENFORCED,
    };
    let (_, name) = NAMES
        .iter()
        .find(|(n, _)| *n == number)
        .ok_or(Code::OwnershipControlsNotFoundError)?;
    let mut x = XmlWriter::document();
    x.root("OwnershipControls");
    x.open("Rule");
    x.text("ObjectOwnership", name);
    x.close("Rule");
    x.close("OwnershipControls");
    Ok(reply::xml(x.finish()))
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    service
        .objects
        .head_bucket(&request.caller, request.bucket())
        .await?;
    let (document, _) = request.document(service.world.clock.clone()).await?;
    let root = parse_document(&document, "OwnershipControls")?;
    let rule = root.one("Rule")?.ok_or(Code::MalformedXML)?;
    let value = setting(rule.required("ObjectOwnership")?).ok_or(Code::MalformedXML)?;
    tell(service, &request, value).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// Taken away is not the same as never given: the row says so.
pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    tell(service, &request, numbered(0)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn tell(service: &Service, request: &Request, value: BucketSetting) -> Result<(), Error> {
    let (caller, bucket) = (&request.caller, request.bucket());
    service
        .objects
        .put_bucket_setting(caller, bucket, SettingKind::Ownership, Some(value))
        .await?;
    Ok(())
}
