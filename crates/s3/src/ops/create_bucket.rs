//! CreateBucket. Creating one's own again answers 200 in us-east-1 and 409 elsewhere, as S3 does.

use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::Element;
use http::{StatusCode, header};

const FIRST_REGION: &str = "us-east-1";

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let (document, _) = request.document(service.world.clock.clone()).await?;
    check_configuration(&document, &service.config.region)?;
    let name = request.bucket();
    let (_, existed) = service.objects.create_bucket(&request.caller, name).await?;
    if existed && service.config.region != FIRST_REGION {
        return Err(Code::BucketAlreadyOwnedByYou.into());
    }
    let mut reply = reply::empty(StatusCode::OK);
    reply::set(reply.headers_mut(), header::LOCATION, format_args!("/{name}"));
    Ok(reply)
}

/// The document may name our region or none; a bucket elsewhere, of another type or with tags was not what we can make.
fn check_configuration(document: &[u8], region: &str) -> Result<(), Error> {
    if document.is_empty() {
        return Ok(());
    }
    let root = Element::parse(document, "CreateBucketConfiguration")?;
    if let Some((name, _)) = root.children().find(|(name, _)| *name != "LocationConstraint") {
        return Err(Error::with(
            Code::NotImplemented,
            format!("CreateBucketConfiguration with {name} is not implemented"),
        ));
    }
    match root.one("LocationConstraint")?.map(Element::text) {
        None | Some("") => Ok(()),
        Some(asked) if asked == region => Ok(()),
        Some(asked) => Err(Error::new(Code::InvalidLocationConstraint).field("LocationConstraint", asked)),
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
            (constraint("<Tags/>"), Some(Code::NotImplemented)),
            ("<Other/>".to_owned(), Some(Code::MalformedXML)),
            ("nonsense".to_owned(), Some(Code::MalformedXML)),
        ];
        for (document, code) in cases {
            let got = check_configuration(document.as_bytes(), "eu-west-1")
                .err()
                .map(|e| e.code());
            assert_eq!(got, code, "{document}");
        }
    }
}
