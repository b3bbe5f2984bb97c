//! PutBucketOwnershipControls, GetBucketOwnershipControls, DeleteBucketOwnershipControls.
//!
//! Only a bucket's own account can write to it, so whichever is chosen, it owns what is written. What the choice changes is
//! how an access control list is refused (`acl`).

use super::bucket_setting;
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

fn number(name: &str) -> Option<u32> {
    NAMES.iter().find(|(_, n)| *n == name).map(|(number, _)| *number)
}

/// The setting of that name; `None` for a name that is none.
pub(super) fn setting(name: &str) -> Option<BucketSetting> {
    let kind = Some(controls(number(name)?));
    Some(BucketSetting { kind })
}

fn controls(object_ownership: u32) -> Kind {
    Kind::Ownership(OwnershipControls { object_ownership })
}

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let number = match bucket_setting::told(service, &request, SettingKind::Ownership).await? {
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
    let document = bucket_setting::document(service, &mut request).await?;
    let root = parse_document(&document, "OwnershipControls")?;
    let rule = root.one("Rule")?.ok_or(Code::MalformedXML)?;
    let number = number(rule.required("ObjectOwnership")?).ok_or(Code::MalformedXML)?;
    let told = (SettingKind::Ownership, Some(controls(number)));
    bucket_setting::tell(service, &request, told, StatusCode::OK).await
}

/// Taken away is not the same as never given: the row says so.
pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    let taken_away = (SettingKind::Ownership, Some(controls(0)));
    bucket_setting::tell(service, &request, taken_away, StatusCode::NO_CONTENT).await
}
