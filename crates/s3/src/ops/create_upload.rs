//! CreateMultipartUpload.

use crate::checksum;
use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use crate::{metadata, tags};
use http::HeaderMap;
use objects::StartUpload;
use types::{ChecksumAlgorithm, ChecksumKind};

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let promised = checksums(&request.headers)?;
    let start = StartUpload {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        headers: metadata::content_headers(&request.headers),
        metadata: metadata::user_metadata(&request.headers)?,
        tags: tags::from_header(&request.headers)?,
        checksum: promised.map(|(algorithm, _)| algorithm),
        checksum_kind: promised.map(|(_, kind)| kind),
    };
    let upload = service.objects.start_upload(&request.caller, start).await?;
    let mut x = XmlWriter::document();
    x.root("InitiateMultipartUploadResult");
    x.text("Bucket", request.bucket().as_str());
    x.text("Key", request.key().as_str());
    x.value("UploadId", upload);
    x.close("InitiateMultipartUploadResult");
    let mut reply = reply::xml(x.finish());
    if let Some((algorithm, kind)) = promised {
        reply::set(reply.headers_mut(), "x-amz-checksum-algorithm", algorithm.name());
        reply::set(
            reply.headers_mut(),
            "x-amz-checksum-type",
            checksum::kind_name(kind),
        );
    }
    Ok(reply)
}

/// The checksum that parts will bring, and how the object's is made of theirs. The CRCs combine; SHAs cannot, and
/// CRC64NVME is only ever of the whole object.
fn checksums(headers: &HeaderMap) -> Result<Option<(ChecksumAlgorithm, ChecksumKind)>, Error> {
    let invalid = |message: String| Err(Error::with(Code::InvalidRequest, message));
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("\u{fffd}"));
    let kind = match text("x-amz-checksum-type") {
        None => None,
        Some("FULL_OBJECT") => Some(ChecksumKind::FullObject),
        Some("COMPOSITE") => Some(ChecksumKind::Composite),
        Some(_) => return invalid("Value for x-amz-checksum-type header is invalid.".into()),
    };
    let Some(name) = text("x-amz-checksum-algorithm") else {
        return match kind {
            None => Ok(None),
            Some(_) => invalid(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
                    .into(),
            ),
        };
    };
    let Some(algorithm) = checksum::algorithm(name) else {
        return Err(checksum::unsupported());
    };
    let whole_only = algorithm == ChecksumAlgorithm::Crc64Nvme;
    let default = if whole_only {
        ChecksumKind::FullObject
    } else {
        ChecksumKind::Composite
    };
    let kind = kind.unwrap_or(default);
    let possible = match kind {
        ChecksumKind::FullObject => algorithm.combines(),
        ChecksumKind::Composite => !whole_only,
    };
    if possible {
        Ok(Some((algorithm, kind)))
    } else {
        invalid(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            checksum::kind_name(kind),
            algorithm.name().to_ascii_lowercase()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn promises() {
        use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha256};
        use ChecksumKind::{Composite, FullObject};
        let cases = [
            (None, None, Ok(None)),
            (Some("CRC32"), None, Ok(Some((Crc32, Composite)))),
            (Some("crc32"), Some("FULL_OBJECT"), Ok(Some((Crc32, FullObject)))),
            (Some("SHA256"), None, Ok(Some((Sha256, Composite)))),
            (Some("CRC64NVME"), None, Ok(Some((Crc64Nvme, FullObject)))),
            (Some("CRC64NVME"), Some("COMPOSITE"), Err(Code::InvalidRequest)),
            (Some("SHA256"), Some("FULL_OBJECT"), Err(Code::InvalidRequest)),
            (Some("MD5"), None, Err(Code::InvalidRequest)),
            (None, Some("FULL_OBJECT"), Err(Code::InvalidRequest)),
            (Some("CRC32"), Some("PARTIAL"), Err(Code::InvalidRequest)),
        ];
        for (algorithm, kind, expected) in cases {
            let pairs = [
                ("x-amz-checksum-algorithm", algorithm),
                ("x-amz-checksum-type", kind),
            ];
            let headers: HeaderMap = pairs
                .into_iter()
                .filter_map(|(n, v)| Some((HeaderName::from_static(n), v?.parse().unwrap())))
                .collect();
            assert_eq!(
                checksums(&headers).map_err(|e| e.code()),
                expected,
                "{algorithm:?} {kind:?}"
            );
        }
    }
}
