//! UploadPartCopy: a part made of another object's bytes, or of a range of them.

use super::upload_part::part_number;
use crate::copy_source::{self, CopySource};
use crate::error::Error;
use crate::patience::{self, Done};
use crate::reply::Reply;
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use crate::{checksum, version};
use http::HeaderMap;
use objects::CopyPart;
use std::sync::Arc;
use types::{ByteRange, ChecksumKind};
use wire::records::PartRecord;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let upload = request.upload()?;
    let number = part_number(request.query.get("partNumber"))?;
    let source = CopySource::read(&request.headers)?;
    let opened = source.open(service, &request).await?;
    let range = copy_source::range(&request.headers, opened.record.size)?;
    copy_source::check_size(range.map_or(opened.record.size, ByteRange::len))?;
    let copy = CopyPart {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        upload,
        number,
        range,
    };
    let mut done = HeaderMap::new();
    version::copied(&mut done, &opened);
    let (objects, caller) = (Arc::clone(&service.objects), request.caller.clone());
    let work = async move {
        let answer = objects.copy_part(&caller, opened, copy).await;
        let (_, part) = answer.map_err(|e| Error::from(e).field("UploadId", upload.to_string()))?;
        Ok(Done {
            headers: done,
            document: write(&part),
        })
    };
    patience::answer(service, &request, work).await
}

fn write(part: &PartRecord) -> String {
    let mut x = XmlWriter::document();
    x.root("CopyPartResult");
    x.time("LastModified", part.modified_ms);
    x.etag(&part.etag_md5, 0);
    checksum::to_xml(&mut x, &part.checksums, ChecksumKind::FullObject, 0);
    x.close("CopyPartResult");
    x.finish()
}
