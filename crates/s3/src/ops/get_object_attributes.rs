//! GetObjectAttributes: what is known of an object and its parts, without its bytes.

use crate::error::{Code, Error};
use crate::reply::{self, Reply, http_time, quoted};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use crate::{checksum, version};
use http::{HeaderMap, header};
use objects::Opened;
use types::{ChecksumKind, limits};
use wire::records::{ObjectRecord, Part};

const ATTRIBUTES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

/// Which page of the parts.
struct Page {
    after: u32,
    max: u32,
}

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let wanted = wanted(&request.headers)?;
    let page = Page {
        after: number(&request.headers, "x-amz-part-number-marker", 0)?,
        max: number(&request.headers, "x-amz-max-parts", limits::LIST_KEYS_MAX)?.min(limits::LIST_KEYS_MAX),
    };
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let Opened {
        record,
        parts,
        versioned,
        ..
    } = service.objects.get(&request.caller, bucket, key, version).await?;
    let mut reply = reply::xml(write(&wanted, &record, &parts, &page));
    reply::set(
        reply.headers_mut(),
        header::LAST_MODIFIED,
        http_time(record.modified_ms),
    );
    version::read(reply.headers_mut(), &record, versioned);
    Ok(reply)
}

/// The attributes asked for; some, and none unknown.
fn wanted(headers: &HeaderMap) -> Result<Vec<&'static str>, Error> {
    let mut wanted = Vec::new();
    for value in headers.get_all("x-amz-object-attributes") {
        let text = value.to_str().unwrap_or("\u{fffd}");
        for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let known = ATTRIBUTES.into_iter().find(|a| *a == name);
            wanted.push(known.ok_or_else(|| {
                Error::argument(
                    "x-amz-object-attributes",
                    text,
                    "Invalid attribute name specified.",
                )
            })?);
        }
    }
    if wanted.is_empty() {
        return Err(Error::with(
            Code::InvalidRequest,
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    Ok(wanted)
}

fn number(headers: &HeaderMap, name: &str, default: u32) -> Result<u32, Error> {
    let Some(value) = headers.get(name) else {
        return Ok(default);
    };
    let text = value.to_str().unwrap_or("\u{fffd}");
    match text.parse::<i32>() {
        Ok(n) if n >= 0 => Ok(n as u32),
        _ => Err(Error::argument(
            name,
            text,
            format!("Provided {name} not an integer or within integer range"),
        )),
    }
}

fn write(wanted: &[&str], record: &ObjectRecord, parts: &[Part], page: &Page) -> String {
    let has = |name: &str| wanted.contains(&name);
    let mut x = XmlWriter::document();
    x.root("GetObjectAttributesResponse");
    if has("ETag") {
        x.text(
            "ETag",
            quoted(&record.etag_md5, record.etag_parts).trim_matches('"'),
        );
    }
    if has("Checksum") && !record.checksums.is_empty() {
        let kind = checksum::kind_of(record.checksum_kind);
        x.open("Checksum");
        checksum::to_xml(&mut x, &record.checksums, kind, record.etag_parts);
        x.text("ChecksumType", checksum::kind_name(kind));
        x.close("Checksum");
    }
    if has("ObjectParts") && !parts.is_empty() {
        write_parts(&mut x, parts, page);
    }
    if has("StorageClass") {
        x.text("StorageClass", "STANDARD");
    }
    if has("ObjectSize") {
        x.value("ObjectSize", record.size);
    }
    x.close("GetObjectAttributesResponse");
    x.finish()
}

fn write_parts(x: &mut XmlWriter, parts: &[Part], page: &Page) {
    let mut rest = parts.iter().filter(|p| p.number > page.after);
    let shown: Vec<_> = rest.by_ref().take(page.max as usize).collect();
    x.open("ObjectParts");
    x.value("PartsCount", parts.len());
    x.value("PartNumberMarker", page.after);
    x.value("NextPartNumberMarker", shown.last().map_or(0, |p| p.number));
    x.value("MaxParts", page.max);
    x.value("IsTruncated", rest.next().is_some());
    for part in shown {
        x.open("Part");
        checksum::to_xml(x, &part.checksums, ChecksumKind::FullObject, 0);
        x.value("PartNumber", part.number);
        x.value("Size", part.size);
        x.close("Part");
    }
    x.close("ObjectParts");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32) -> Part {
        Part {
            number,
            size: u64::from(number) * 10,
            ..Part::default()
        }
    }

    #[test]
    fn attributes_are_named() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-amz-object-attributes", value.parse().unwrap());
            }
            wanted(&headers).map_err(|e| e.code())
        };
        assert_eq!(read(&["ETag, ObjectSize"]), Ok(vec!["ETag", "ObjectSize"]));
        assert_eq!(read(&["ETag", "Checksum"]), Ok(vec!["ETag", "Checksum"]));
        assert_eq!(read(&[]), Err(Code::InvalidRequest));
        assert_eq!(read(&[" ,"]), Err(Code::InvalidRequest));
        assert_eq!(read(&["ETag,etag"]), Err(Code::InvalidArgument));
    }

    #[test]
    fn parts_come_in_pages() {
        let parts = [part(1), part(2), part(7)];
        let page = |after, max| {
            let document = write(
                &["ObjectParts"],
                &ObjectRecord::default(),
                &parts,
                &Page { after, max },
            );
            let inside = document
                .split_once("<PartsCount>3</PartsCount>")
                .unwrap()
                .1
                .to_owned();
            inside.replace("</ObjectParts></GetObjectAttributesResponse>", "")
        };
        assert_eq!(
            page(0, 2),
            "<PartNumberMarker>0</PartNumberMarker><NextPartNumberMarker>2</NextPartNumberMarker><MaxParts>2</MaxParts>\
             <IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber><Size>10</Size></Part><Part><PartNumber>2\
             </PartNumber><Size>20</Size></Part>"
        );
        assert!(page(2, 2).contains("<IsTruncated>false</IsTruncated><Part><PartNumber>7"));
        assert!(page(7, 2).contains("<NextPartNumberMarker>0<"));
        assert!(page(0, 0).contains("<IsTruncated>true</IsTruncated>"));
    }

    #[test]
    fn only_what_was_asked() {
        let record = ObjectRecord {
            size: 9,
            etag_md5: vec![0xab; 16],
            ..ObjectRecord::default()
        };
        let page = Page { after: 0, max: 1 };
        let inside = |wanted: &[&str]| {
            let document = write(wanted, &record, &[], &page);
            let inside = document.split_once("2006-03-01/\">").unwrap().1;
            inside
                .strip_suffix("</GetObjectAttributesResponse>")
                .unwrap()
                .to_owned()
        };
        assert_eq!(inside(&["ObjectSize"]), "<ObjectSize>9</ObjectSize>");
        assert_eq!(inside(&["ETag"]), format!("<ETag>{}</ETag>", "ab".repeat(16)));
        assert_eq!(inside(&["Checksum", "ObjectParts"]), "");
        assert_eq!(inside(&["StorageClass"]), "<StorageClass>STANDARD</StorageClass>");
    }
}
