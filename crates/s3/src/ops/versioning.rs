//! GetBucketVersioning and PutBucketVersioning. MFA delete is refused by name: nobody here has a second factor.

use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::{Request, parse_document};
use crate::service::Service;
use crate::xml::XmlWriter;
use http::StatusCode;
use wire::index::Versioning;

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    let bucket = service
        .objects
        .head_bucket(&request.caller, request.bucket())
        .await?;
    let mut x = XmlWriter::document();
    x.root("VersioningConfiguration");
    match Versioning::from_number(bucket.versioning) {
        Versioning::Never => {}
        Versioning::Enabled => x.text("Status", "Enabled"),
        Versioning::Suspended => x.text("Status", "Suspended"),
    }
    x.close("VersioningConfiguration");
    Ok(reply::xml(x.finish()))
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let (document, _) = request.document(service.world.clock.clone()).await?;
    let versioning = read(&document)?;
    service
        .objects
        .set_versioning(&request.caller, request.bucket(), versioning)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

pub(super) fn read(document: &[u8]) -> Result<Versioning, Error> {
    let root = parse_document(document, "VersioningConfiguration")?;
    match root.one("MfaDelete")?.map(|m| m.text().trim()) {
        None | Some("Disabled") => {}
        Some("Enabled") => {
            return Err(Error::with(
                Code::NotImplemented,
                "PutBucketVersioning with MfaDelete is not implemented",
            ));
        }
        Some(_) => return Err(Code::MalformedXML.into()),
    }
    match root.one("Status")?.map(|s| s.text().trim()) {
        Some("Enabled") => Ok(Versioning::Enabled),
        Some("Suspended") => Ok(Versioning::Suspended),
        Some(_) => Err(Code::MalformedXML.into()),
        None => Err(Code::IllegalVersioningConfigurationException.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let with = |inside: &str| format!("<VersioningConfiguration>{inside}</VersioningConfiguration>");
        let cases = [
            (with("<Status>Enabled</Status>"), Ok(Versioning::Enabled)),
            (
                with("<Status>Suspended</Status><MfaDelete>Disabled</MfaDelete>"),
                Ok(Versioning::Suspended),
            ),
            (with("<Status>enabled</Status>"), Err(Code::MalformedXML)),
            (with("<Status/>"), Err(Code::MalformedXML)),
            (
                with("<Status>Enabled</Status><Status>Enabled</Status>"),
                Err(Code::MalformedXML),
            ),
            (
                with("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"),
                Err(Code::NotImplemented),
            ),
            (
                with("<Status>Enabled</Status><MfaDelete>x</MfaDelete>"),
                Err(Code::MalformedXML),
            ),
            (with(""), Err(Code::IllegalVersioningConfigurationException)),
            (String::new(), Err(Code::MissingRequestBodyError)),
            ("<Other/>".to_owned(), Err(Code::MalformedXML)),
        ];
        for (document, expected) in cases {
            let got = read(document.as_bytes()).map_err(|e| e.code());
            assert_eq!(got, expected, "{document}");
        }
    }
}
