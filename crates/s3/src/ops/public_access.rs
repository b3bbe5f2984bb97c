//! PutPublicAccessBlock, GetPublicAccessBlock, DeletePublicAccessBlock. Nothing here is public, whatever is unblocked; what
//! is blocked is refused as S3 refuses it (`acl`).

use super::bucket_setting;
use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::{Request, parse_document};
use crate::service::Service;
use crate::xml::{Element, XmlWriter};
use http::StatusCode;
use wire::index::SettingKind;
use wire::records::PublicAccessBlock;
use wire::records::bucket_setting::Kind;

const ROOT: &str = "PublicAccessBlockConfiguration";

/// What a bucket is that was told nothing (S3, since April 2023).
const ALL: PublicAccessBlock = PublicAccessBlock {
    removed: false,
    block_public_acls: true,
    ignore_public_acls: true,
    block_public_policy: true,
    restrict_public_buckets: true,
};

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let block = match bucket_setting::told(service, &request, SettingKind::PublicAccess).await? {
        Some(Kind::PublicAccess(block)) => block,
        _ => ALL,
    };
    if block.removed {
        return Err(Code::NoSuchPublicAccessBlockConfiguration.into());
    }
    let mut x = XmlWriter::document();
    x.root(ROOT);
    x.value("BlockPublicAcls", block.block_public_acls);
    x.value("IgnorePublicAcls", block.ignore_public_acls);
    x.value("BlockPublicPolicy", block.block_public_policy);
    x.value("RestrictPublicBuckets", block.restrict_public_buckets);
    x.close(ROOT);
    Ok(reply::xml(x.finish()))
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let document = bucket_setting::document(service, &mut request).await?;
    let block = Kind::PublicAccess(from_document(&document)?);
    let told = (SettingKind::PublicAccess, Some(block));
    bucket_setting::tell(service, &request, told, StatusCode::OK).await
}

/// Taken away is not the same as never given: the row says so.
pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    let removed = Kind::PublicAccess(PublicAccessBlock {
        removed: true,
        ..PublicAccessBlock::default()
    });
    let taken_away = (SettingKind::PublicAccess, Some(removed));
    bucket_setting::tell(service, &request, taken_away, StatusCode::NO_CONTENT).await
}

/// What is not named is not blocked.
pub(super) fn from_document(document: &[u8]) -> Result<PublicAccessBlock, Error> {
    let root = parse_document(document, ROOT)?;
    let mut block = PublicAccessBlock::default();
    for (name, _) in root.children() {
        let field = match name {
            "BlockPublicAcls" => &mut block.block_public_acls,
            "IgnorePublicAcls" => &mut block.ignore_public_acls,
            "BlockPublicPolicy" => &mut block.block_public_policy,
            "RestrictPublicBuckets" => &mut block.restrict_public_buckets,
            _ => return Err(Code::MalformedXML.into()),
        };
        *field = match root.one(name)?.map(Element::text) {
            Some("true" | "TRUE" | "True") => true,
            Some("false" | "FALSE" | "False") => false,
            _ => return Err(Code::MalformedXML.into()),
        };
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let read = |inside: &str| {
            let document = format!("<{ROOT}>{inside}</{ROOT}>");
            from_document(document.as_bytes()).map_err(|e| e.code())
        };
        let one = |name: &str, value: &str| format!("<{name}>{value}</{name}>");
        assert_eq!(read(""), Ok(PublicAccessBlock::default()));
        let some = read(&(one("BlockPublicAcls", "true") + &one("IgnorePublicAcls", "false"))).unwrap();
        assert!(some.block_public_acls && !some.ignore_public_acls && !some.removed);
        for bad in [
            one("BlockPublicAcls", "yes"),
            one("BlockPublicAcls", ""),
            one("Removed", "true"),
            one("BlockPublicAcls", "true").repeat(2),
        ] {
            assert_eq!(read(&bad), Err(Code::MalformedXML), "{bad}");
        }
    }
}
