//! CopyObject: another object's bytes under this name, with its metadata and tags or with new ones.

use crate::copy_source::{CopySource, check_size};
use crate::error::{Code, Error};
use crate::patience::{self, Done};
use crate::reply::Reply;
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use crate::{checksum, condition, metadata, tags, version};
use http::HeaderMap;
use objects::CopyObject;
use std::sync::Arc;
use types::ChecksumAlgorithm;
use wire::index::VersionRef;
use wire::records::{ContentHeaders, ObjectRecord, Pair, PutAnswer};

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let headers = &request.headers;
    let source = CopySource::read(headers)?;
    let new_metadata = is_replaced(headers, "x-amz-metadata-directive", "Unknown metadata directive.")?;
    let new_tags = is_replaced(headers, "x-amz-tagging-directive", "Unknown tagging directive.")?;
    let checksum = algorithm(headers)?;
    let precondition = condition::write(headers)?;
    let named_tags = tags::from_header(headers)?;
    if !new_tags && !named_tags.is_empty() {
        let message = "The x-amz-tagging header can only be used with the tagging directive REPLACE.";
        return Err(Error::with(Code::InvalidRequest, message));
    }
    let changes =
        new_metadata || new_tags || checksum.is_some() || headers.contains_key("x-amz-storage-class");
    let onto_itself = source.version == VersionRef::Current
        && source.bucket == *request.bucket()
        && source.key == *request.key();
    if onto_itself && !changes {
        return Err(Error::with(
            Code::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
             metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let opened = source.open(service, &request).await?;
    check_size(opened.record.size)?;
    let record = &opened.record;
    let (content, pairs) = if new_metadata {
        (
            metadata::content_headers(headers),
            metadata::user_metadata(headers)?,
        )
    } else {
        kept(record)
    };
    let copy = CopyObject {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        headers: content,
        metadata: pairs,
        tags: if new_tags { named_tags } else { record.tags.clone() },
        checksum,
        precondition,
    };
    let mut done = HeaderMap::new();
    version::copied(&mut done, &opened);
    let (objects, caller) = (Arc::clone(&service.objects), request.caller.clone());
    let work = async move {
        let answer = objects.copy(&caller, opened, copy).await?;
        version::made(&mut done, &answer);
        Ok(Done {
            headers: done,
            document: write(&answer),
        })
    };
    patience::answer(service, &request, work).await
}

fn kept(record: &ObjectRecord) -> (ContentHeaders, Vec<Pair>) {
    (
        record.headers.clone().unwrap_or_default(),
        record.metadata.clone(),
    )
}

/// Whether a directive says `REPLACE`; `COPY` unless given.
fn is_replaced(headers: &HeaderMap, name: &str, message: &'static str) -> Result<bool, Error> {
    match headers.get(name).map(|v| v.to_str().unwrap_or("\u{fffd}")) {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(Error::argument(name, other, message)),
    }
}

fn algorithm(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, Error> {
    let Some(value) = headers.get("x-amz-checksum-algorithm") else {
        return Ok(None);
    };
    let named = value.to_str().ok().and_then(checksum::algorithm);
    named.map(Some).ok_or_else(checksum::unsupported)
}

fn write(answer: &PutAnswer) -> String {
    let mut x = XmlWriter::document();
    x.root("CopyObjectResult");
    x.time("LastModified", answer.modified_ms);
    x.etag(&answer.etag_md5, answer.etag_parts);
    let kind = checksum::kind_of(answer.checksum_kind);
    checksum::to_xml(&mut x, &answer.checksums, kind, answer.etag_parts);
    if !answer.checksums.is_empty() {
        x.text("ChecksumType", checksum::kind_name(kind));
    }
    x.close("CopyObjectResult");
    x.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        let name = "x-amz-metadata-directive";
        let given = |value: &str| {
            let headers: HeaderMap = [(http::HeaderName::from_static(name), value.parse().unwrap())]
                .into_iter()
                .collect();
            is_replaced(&headers, name, "no").map_err(|e| e.code())
        };
        assert_eq!(is_replaced(&HeaderMap::new(), name, "no"), Ok(false));
        assert_eq!(given("COPY"), Ok(false));
        assert_eq!(given("REPLACE"), Ok(true));
        assert_eq!(given("replace"), Err(Code::InvalidArgument));
        assert_eq!(given(""), Err(Code::InvalidArgument));
    }
}
