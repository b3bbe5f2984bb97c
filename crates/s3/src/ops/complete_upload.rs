//! CompleteMultipartUpload.

use crate::body::parse_checksum;
use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::{Request, parse_document};
use crate::service::Service;
use crate::xml::{Element, XmlWriter};
use crate::{checksum, condition, version};
use http::HeaderMap;
use objects::CompleteUpload;
use types::{ChecksumAlgorithm, ChecksumKind, ETag, limits};
use wire::index::{Expected, NamedPart};
use wire::records::PutAnswer;

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let upload = request.upload()?;
    let precondition = condition::write(&request.headers)?;
    let document = request.document_of_object(service.world.clock.clone()).await?;
    let parts = parts(&document)?;
    let expected = expected(&request.headers, parts.len())?;
    let complete = CompleteUpload {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        upload,
        parts,
        precondition,
        expected,
    };
    let answer = service.objects.complete_upload(&request.caller, complete).await;
    let answer = answer.map_err(|e| Error::from(e).field("UploadId", upload.to_string()))?;
    let mut reply = reply::xml(write(&request, &answer));
    version::made(reply.headers_mut(), &answer);
    Ok(reply)
}

fn write(request: &Request, answer: &PutAnswer) -> String {
    let mut x = XmlWriter::document();
    x.root("CompleteMultipartUploadResult");
    let host = request.host.as_deref().unwrap_or_default();
    x.text(
        "Location",
        &format!("{}://{host}{}", request.scheme, request.path),
    );
    x.text("Bucket", request.bucket().as_str());
    x.text("Key", request.key().as_str());
    x.etag(&answer.etag_md5, answer.etag_parts);
    let kind = checksum::kind_of(answer.checksum_kind);
    checksum::to_xml(&mut x, &answer.checksums, kind, answer.etag_parts);
    if !answer.checksums.is_empty() {
        x.text("ChecksumType", checksum::kind_name(kind));
    }
    x.close("CompleteMultipartUploadResult");
    x.finish()
}

/// What the headers say the object must be. These checksums are the object's, not the document's.
fn expected(headers: &HeaderMap, parts: usize) -> Result<Expected, Error> {
    let invalid = |name: &str| {
        Error::with(
            Code::InvalidRequest,
            format!("Value for {name} header is invalid."),
        )
    };
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("\u{fffd}"));
    let size = match text("x-amz-mp-object-size") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid("x-amz-mp-object-size"))?),
    };
    let kind = match text("x-amz-checksum-type") {
        None => None,
        Some("FULL_OBJECT") => Some(ChecksumKind::FullObject as u32),
        Some("COMPOSITE") => Some(ChecksumKind::Composite as u32),
        Some(_) => return Err(invalid("x-amz-checksum-type")),
    };
    Ok(Expected {
        size,
        checksum: checksum::of_object(headers, parts)?.map(checksum::stored),
        kind,
    })
}

pub(super) fn parts(document: &[u8]) -> Result<Vec<NamedPart>, Error> {
    if document.is_empty() {
        // Of this document S3 says so, not that it is missing.
        return Err(Code::MalformedXML.into());
    }
    let root = parse_document(document, "CompleteMultipartUpload")?;
    let mut parts: Vec<NamedPart> = root.all("Part").map(part).collect::<Result<_, _>>()?;
    // Of a part that was sent again a client may name both, the one that counts last.
    parts.reverse();
    parts.dedup_by_key(|p| p.number);
    parts.reverse();
    if parts.is_empty() || parts.len() > limits::PART_NUMBER_MAX as usize {
        return Err(Code::MalformedXML.into());
    }
    Ok(parts)
}

fn part(element: &Element) -> Result<NamedPart, Error> {
    let number = element.required("PartNumber")?.trim();
    let number = number.parse().map_err(|_| Code::MalformedXML)?;
    if !(1..=limits::PART_NUMBER_MAX).contains(&number) {
        let message = "PartNumber must be >= 1 and <= 10000";
        return Err(Error::argument("partNumber", &number.to_string(), message));
    }
    let invalid = || Error::new(Code::InvalidPart).field("PartNumber", number.to_string());
    let etag = element.required("ETag")?.trim();
    let etag = ETag::parse(etag)
        .filter(|e| e.part_count == 0)
        .ok_or_else(invalid)?;
    let mut checksums = Vec::new();
    for algorithm in ChecksumAlgorithm::ALL {
        if let Some(given) = element.one(checksum::element_name(algorithm))? {
            let checksum = parse_checksum(algorithm, given.text().trim()).ok_or_else(invalid)?;
            checksums.push(checksum::stored(checksum));
        }
    }
    Ok(NamedPart {
        number,
        etag_md5: etag.md5,
        checksums,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn documents() {
        let given = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><ETag>&quot;{TAG}&quot;</ETag>\
             <PartNumber>1</PartNumber><ChecksumCRC32>AAAAAQ==</ChecksumCRC32></Part>\
             <Part><PartNumber>7</PartNumber><ETag>{TAG}</ETag></Part></CompleteMultipartUpload>"
        );
        let parts = parts(given.as_bytes()).unwrap();
        assert_eq!(parts.iter().map(|p| p.number).collect::<Vec<_>>(), [1, 7]);
        assert_eq!(parts[0].checksums[0].value, [0, 0, 0, 1]);
        assert_eq!(parts[0].etag_md5, parts[1].etag_md5);
    }

    #[test]
    fn of_a_part_named_again_the_last_counts() {
        let part = |number: u32, tag: &str| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        };
        let other = "0".repeat(32);
        let named = part(1, &other) + &part(1, TAG) + &part(2, &other);
        let parts = parts(format!("<CompleteMultipartUpload>{named}</CompleteMultipartUpload>").as_bytes());
        let parts: Vec<_> = parts.unwrap().iter().map(|p| (p.number, p.etag_md5[0])).collect();
        assert_eq!(parts, [(1, 0xd4), (2, 0)]);
    }

    #[test]
    fn refusals() {
        let part = |number: &str, rest: &str| {
            format!(
                "<CompleteMultipartUpload><Part><PartNumber>{number}</PartNumber>{rest}</Part></CompleteMultipartUpload>"
            )
        };
        let tag = format!("<ETag>{TAG}</ETag>");
        let cases = [
            (String::new(), Code::MalformedXML),
            ("<CompleteMultipartUpload/>".to_owned(), Code::MalformedXML),
            (part("x", &tag), Code::MalformedXML),
            (part("1", ""), Code::MalformedXML),
            (part("1", &format!("{tag}{tag}")), Code::MalformedXML),
            (part("0", &tag), Code::InvalidArgument),
            (part("10001", &tag), Code::InvalidArgument),
            (part("1", "<ETag>nonsense</ETag>"), Code::InvalidPart),
            (part("1", &format!("<ETag>{TAG}-2</ETag>")), Code::InvalidPart),
            (
                part("1", &format!("{tag}<ChecksumSHA1>AA==</ChecksumSHA1>")),
                Code::InvalidPart,
            ),
        ];
        for (document, code) in cases {
            assert_eq!(
                parts(document.as_bytes()).map_err(|e| e.code()),
                Err(code),
                "{document}"
            );
        }
    }

    #[test]
    fn expectations() {
        let headers: HeaderMap = [
            ("x-amz-mp-object-size", "12"),
            ("x-amz-checksum-type", "COMPOSITE"),
            ("x-amz-checksum-crc32", "AAAAAQ==-2"),
        ]
        .into_iter()
        .map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap()))
        .collect();
        let of_two = expected(&headers, 2).unwrap();
        assert_eq!((of_two.size, of_two.kind), (Some(12), Some(2)));
        assert_eq!(of_two.checksum.unwrap().value, [0, 0, 0, 1]);
        let of_three = expected(&headers, 3).map_err(|e| e.code());
        assert_eq!(of_three, Err(Code::BadDigest));
    }
}
