//! CreateBucket. Creating one's own again answers 200 in us-east-1 and 409 elsewhere, as S3 does.

use super::{bucket_tagging, ownership};
use crate::acl::{self, Asked};
use crate::error::{Code, Error};
use crate::owner;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::tags;
use crate::xml::Element;
use http::{StatusCode, header};
use types::limits::BUCKET_TAGS_MAX;
use wire::records::{BucketSetting, Pair};

const FIRST_REGION: &str = "us-east-1";

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let (document, _) = request.document(service.world.clock.clone()).await?;
    let tags = read_configuration(&document, &service.config.region)?;
    let ownership = ownership(&request)?;
    check_acl(&request, ownership.as_ref())?;
    let name = request.bucket();
    let tagged = !tags.is_empty();
    let told = ownership.into_iter().chain(bucket_tagging::setting(tags));
    let (_, existed) = service
        .objects
        .create_bucket_told(&request.caller, name, told.collect())
        .await?;
    if existed && (tagged || service.config.region != FIRST_REGION) {
        return Err(Code::BucketAlreadyOwnedByYou.into());
    }
    let mut reply = reply::empty(StatusCode::OK);
    let out = reply.headers_mut();
    reply::set(out, header::LOCATION, format_args!("/{name}"));
    reply::set(out, "x-amz-bucket-arn", owner::bucket_arn(name.as_str()));
    Ok(reply)
}

fn ownership(request: &Request) -> Result<Option<BucketSetting>, Error> {
    const HEADER: &str = "x-amz-object-ownership";
    let Some(value) = request.headers.get(HEADER) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or("\u{fffd}");
    match ownership::setting(name) {
        Some(setting) => Ok(Some(setting)),
        None => Err(Error::argument(
            HEADER,
            name,
            format!("Invalid x-amz-object-ownership header: {name}"),
        )),
    }
}

/// A new bucket has no lists, or blocks public ones, which it is made with.
fn check_acl(request: &Request, told: Option<&BucketSetting>) -> Result<(), Error> {
    let enforced = told.is_none_or(|s| Some(s) == ownership::setting("BucketOwnerEnforced").as_ref());
    match acl::from_headers(&request.headers, request.caller.account)? {
        Asked::Nothing | Asked::OwnerOnly => Ok(()),
        Asked::More { .. } if enforced => Err(Code::InvalidBucketAclWithObjectOwnership.into()),
        Asked::More { public: true } => Err(Code::InvalidBucketAclWithBlockPublicAccessError.into()),
        Asked::More { public: false } => Err(acl::not_implemented()),
    }
}

/// The document may name our region or none, and tags; a bucket elsewhere or of another type is not what we can make.
pub(super) fn read_configuration(document: &[u8], region: &str) -> Result<Vec<Pair>, Error> {
    if document.is_empty() {
        return Ok(Vec::new());
    }
    let root = Element::parse(document, "CreateBucketConfiguration")?;
    let known = ["LocationConstraint", "Tags"];
    if let Some((name, _)) = root.children().find(|(name, _)| !known.contains(name)) {
        return Err(Error::with(
            Code::NotImplemented,
            format!("CreateBucketConfiguration with {name} is not implemented"),
        ));
    }
    match root.one("LocationConstraint")?.map(Element::text) {
        Some(asked) if !asked.is_empty() && asked != region => {
            return Err(Error::new(Code::InvalidLocationConstraint).field("LocationConstraint", asked));
        }
        _ => {}
    }
    match root.one("Tags")? {
        None => Ok(Vec::new()),
        Some(set) => tags::from_set(set, BUCKET_TAGS_MAX, "Bucket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        let constraint =
            |s: &str| format!("<CreateBucketConfiguration xmlns=\"x\">{s}</CreateBucketConfiguration>");
        let cases = [
            (String::new(), None),
            (constraint(""), None),
            (constraint("<LocationConstraint/>"), None),
            (
                constraint("<LocationConstraint>eu-west-1</LocationConstraint>"),
                None,
            ),
            (
                constraint("<LocationConstraint>eu-west-2</LocationConstraint>"),
                Some(Code::InvalidLocationConstraint),
            ),
            (
                constraint("<Bucket><Type>Directory</Type></Bucket>"),
                Some(Code::NotImplemented),
            ),
            (constraint("<Tags/>"), None),
            (
                constraint("<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"),
                None,
            ),
            (
                constraint("<Tags><Tag><Key>a</Key></Tag></Tags>"),
                Some(Code::MalformedXML),
            ),
            (
                constraint("<Tags><Tag><Key>aws:a</Key><Value/></Tag></Tags>"),
                Some(Code::InvalidTag),
            ),
            ("<Other/>".to_owned(), Some(Code::MalformedXML)),
            ("nonsense".to_owned(), Some(Code::MalformedXML)),
        ];
        for (document, code) in cases {
            let got = read_configuration(document.as_bytes(), "eu-west-1")
                .err()
                .map(|e| e.code());
            assert_eq!(got, code, "{document}");
        }
    }
}
