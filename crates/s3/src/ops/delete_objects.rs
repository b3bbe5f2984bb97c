//! DeleteObjects: up to 1,000 keys of one bucket, each with an answer of its own.

use crate::condition;
use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::{Request, parse_document};
use crate::service::Service;
use crate::target::object_key;
use crate::version;
use crate::xml::{Element, XmlWriter};
use objects::DeleteObject;
use types::limits;
use wire::index::{Precondition, VersionRef};
use wire::records::DeleteAnswer;

/// One key as the document names it: deletable, or refused already.
pub(super) struct Named {
    key: String,
    version: Option<String>,
    checked: Result<DeleteObject, Error>,
    answer: DeleteAnswer,
}

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let (document, vouched) = request.document(service.world.clock.clone()).await?;
    if !vouched {
        // A flipped bit in a list of what to delete must not pass.
        return Err(Error::with(
            Code::InvalidRequest,
            "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
        ));
    }
    let (mut named, quiet) = read(&document)?;
    let deletes: Vec<_> = named.iter().filter_map(|n| n.checked.clone().ok()).collect();
    let answers = service
        .objects
        .delete_many(&request.caller, request.bucket(), deletes)
        .await?;
    let mut answers = answers.into_iter();
    for one in named.iter_mut().filter(|n| n.checked.is_ok()) {
        match answers.next() {
            Some(Ok(answer)) => one.answer = answer,
            Some(Err(e)) => one.checked = Err(e.into()),
            None => one.checked = Err(Code::InternalError.into()),
        }
    }
    Ok(reply::xml(write(&named, quiet)))
}

pub(super) fn read(document: &[u8]) -> Result<(Vec<Named>, bool), Error> {
    let root = parse_document(document, "Delete")?;
    let quiet = root
        .one("Quiet")?
        .is_some_and(|q| q.text().trim().eq_ignore_ascii_case("true"));
    let named: Vec<_> = root.all("Object").map(read_one).collect::<Result<_, _>>()?;
    if named.is_empty() || named.len() > limits::DELETE_KEYS_MAX {
        return Err(Code::MalformedXML.into());
    }
    Ok((named, quiet))
}

fn read_one(object: &Element) -> Result<Named, Error> {
    let key = object.required("Key")?.to_owned();
    let version = object
        .one("VersionId")?
        .map(|v| v.text().to_owned())
        .filter(|v| !v.is_empty());
    let precondition = condition(object)?;
    let checked = precondition.and_then(|p| match (&version, &p.if_match) {
        // As of one version by itself: S3 has conditions of this kind for the current one alone.
        (Some(_), Some(_)) => Err(Error::with(
            Code::NotImplemented,
            "ETag and VersionId of one object together are not implemented",
        )),
        _ => delete_of(&key, version.as_deref(), p),
    });
    Ok(Named {
        key,
        version,
        checked,
        answer: DeleteAnswer::default(),
    })
}

/// A key's own conditions, each given once; what is no condition is the key's error.
fn condition(object: &Element) -> Result<Result<Precondition, Error>, Error> {
    let text = |name| Ok::<_, Error>(object.one(name)?.map(|e| e.text().trim()));
    let (etag, modified, size) = (text("ETag")?, text("LastModifiedTime")?, text("Size")?);
    let modified = modified
        .map(|t| condition::seconds_of("LastModifiedTime", t))
        .transpose();
    let size = size.map(|t| condition::size_of("Size", t)).transpose();
    Ok(modified.and_then(|if_modified_s| {
        Ok(Precondition {
            if_match: etag.map(|t| condition::match_of("ETag", t)).transpose()?,
            if_modified_s,
            if_size: size?,
            ..Precondition::default()
        })
    }))
}

fn delete_of(key: &str, version: Option<&str>, precondition: Precondition) -> Result<DeleteObject, Error> {
    Ok(DeleteObject {
        key: object_key(key)?,
        version: match version {
            Some(version) => version::parse("VersionId", version)?,
            None => VersionRef::Current,
        },
        precondition,
    })
}

fn write(named: &[Named], quiet: bool) -> String {
    let mut x = XmlWriter::document();
    x.root("DeleteResult");
    for one in named {
        let element = match &one.checked {
            Ok(_) if quiet => continue,
            Ok(_) => "Deleted",
            Err(_) => "Error",
        };
        x.open(element);
        x.text("Key", &one.key);
        if let Some(version) = &one.version {
            x.text("VersionId", version);
        }
        if one.checked.is_ok() && one.answer.delete_marker {
            let made = version::name(&one.answer.version, one.answer.null_version);
            x.value("DeleteMarker", true);
            x.text("DeleteMarkerVersionId", &made);
        }
        if let Err(e) = &one.checked {
            x.text("Code", e.code().name());
            x.text("Message", e.message());
        }
        x.close(element);
    }
    x.close("DeleteResult");
    x.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let long = "k".repeat(1025);
        let given = format!(
            "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>v</Key><VersionId>null</VersionId></Object>\
             <Object><Key>w</Key><VersionId>1</VersionId></Object><Object><Key>{long}</Key></Object>\
             <Object><Key>e</Key><Size>x</Size></Object>\
             <Object><Key>m</Key><VersionId>null</VersionId><ETag>*</ETag></Object></Delete>"
        );
        let (named, quiet) = read(given.as_bytes()).unwrap();
        assert!(!quiet);
        let loud = write(&named, false);
        let body = loud.split_once("2006-03-01/\">").unwrap().1;
        assert!(body.starts_with(
            "<Deleted><Key>a&amp;b</Key></Deleted><Deleted><Key>v</Key><VersionId>null</VersionId></Deleted>\
             <Error><Key>w</Key><VersionId>1</VersionId><Code>InvalidArgument</Code>"
        ));
        assert!(body.contains("<Code>KeyTooLongError</Code>"));
        assert!(body.contains("<Key>m</Key><VersionId>null</VersionId><Code>NotImplemented</Code>"));
        let quiet = write(&named, true);
        assert!(!quiet.contains("<Deleted>") && quiet.contains("<Error>"));
    }

    #[test]
    fn refuses() {
        let object = "<Object><Key>k</Key></Object>";
        let many = format!("<Delete>{}</Delete>", object.repeat(1001));
        let cases = [
            ("", Code::MissingRequestBodyError),
            ("<Delete></Delete>", Code::MalformedXML),
            ("<Delete><Object/></Delete>", Code::MalformedXML),
            ("<Other/>", Code::MalformedXML),
            (many.as_str(), Code::MalformedXML),
        ];
        for (document, code) in cases {
            assert_eq!(read(document.as_bytes()).err().map(|e| e.code()), Some(code));
        }
        assert!(
            read(format!("<Delete>{}<Quiet>true</Quiet></Delete>", object.repeat(1000)).as_bytes())
                .unwrap()
                .1
        );
    }
}
