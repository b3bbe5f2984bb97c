//! GetBucketAcl, PutBucketAcl, GetObjectAcl, PutObjectAcl: the one list there is (`acl`).

use crate::acl::{self, Asked};
use crate::error::{Code, Error};
use crate::owner;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use http::StatusCode;
use types::AccountId;

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let owner = owner_of(service, &request).await?;
    let mut x = XmlWriter::document();
    x.root("AccessControlPolicy");
    owner::write(&mut x, "Owner", owner);
    x.open("AccessControlList");
    x.open("Grant");
    x.open_typed("Grantee", "CanonicalUser");
    x.text("ID", &owner::canonical_id(owner));
    x.text("DisplayName", &owner::display_name(owner));
    x.close("Grantee");
    x.text("Permission", "FULL_CONTROL");
    x.close("Grant");
    x.close("AccessControlList");
    x.close("AccessControlPolicy");
    Ok(reply::xml(x.finish()))
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let owner = owner_of(service, &request).await?;
    let in_headers = acl::from_headers(&request.headers, owner)?;
    let (document, _) = request.document(service.world.clock.clone()).await?;
    let asked = match (in_headers, document.is_empty()) {
        (Asked::Nothing, true) => {
            return Err(Error::new(Code::MissingSecurityHeader).field("MissingHeaderName", "x-amz-acl"));
        }
        (Asked::Nothing, false) => acl::from_document(&document, owner)?,
        (asked, true) => asked,
        (_, false) => return Err(Code::UnexpectedContent.into()),
    };
    acl::check(service, &request.caller, request.bucket(), asked).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// Whose the bucket or object is, which must be there.
async fn owner_of(service: &Service, request: &Request) -> Result<AccountId, Error> {
    let (caller, bucket) = (&request.caller, request.bucket());
    let owner = match &request.key {
        None => service.objects.head_bucket(caller, bucket).await?.owner,
        Some(key) => {
            let version = request.version()?;
            service
                .objects
                .head(caller, bucket, key, version)
                .await?
                .record
                .owner
        }
    };
    Ok(AccountId(owner))
}
