//! ListParts.

use crate::checksum;
use crate::error::Error;
use crate::owner;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use objects::ListParts;
use types::{AccountId, ChecksumAlgorithm, ChecksumKind, limits};
use wire::index::PartsPage;
use wire::records::UploadRecord;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let upload = request.upload()?;
    let max = request
        .query
        .number("max-parts", limits::LIST_KEYS_MAX, limits::LIST_KEYS_MAX)?;
    let after = request.query.number("part-number-marker", u32::MAX, 0)?;
    let query = ListParts {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        upload,
        after,
        max,
    };
    let page = service.objects.list_parts(&request.caller, query).await;
    let page = page.map_err(|e| Error::from(e).field("UploadId", upload.to_string()))?;
    request.paged.rows(page.bytes());

    let mut x = XmlWriter::document();
    x.root("ListPartsResult");
    x.text("Bucket", request.bucket().as_str());
    x.text("Key", request.key().as_str());
    x.value("UploadId", upload);
    let account = AccountId(page.upload.owner);
    owner::write(&mut x, "Initiator", account);
    owner::write(&mut x, "Owner", account);
    x.text("StorageClass", "STANDARD");
    x.value("PartNumberMarker", after);
    x.value("NextPartNumberMarker", page.parts.last().map_or(0, |p| p.number));
    x.value("MaxParts", max);
    x.value("IsTruncated", page.truncated);
    parts(&mut x, &page);
    promised(&mut x, &page.upload);
    x.close("ListPartsResult");
    Ok(reply::xml(x.finish()))
}

fn parts(x: &mut XmlWriter, page: &PartsPage) {
    for part in &page.parts {
        x.open("Part");
        x.value("PartNumber", part.number);
        x.time("LastModified", part.modified_ms);
        x.etag(&part.etag_md5, 0);
        x.value("Size", part.size);
        checksum::to_xml(x, &part.checksums, ChecksumKind::FullObject, 0);
        x.close("Part");
    }
}

/// The checksum that an upload was begun with.
pub(super) fn promised(x: &mut XmlWriter, upload: &UploadRecord) {
    if let Some(algorithm) = ChecksumAlgorithm::from_number(upload.checksum_algorithm) {
        x.text("ChecksumAlgorithm", algorithm.name());
        x.text(
            "ChecksumType",
            checksum::kind_name(checksum::kind_of(upload.checksum_kind)),
        );
    }
}
