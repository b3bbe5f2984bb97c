//! GetObject and HeadObject: the same head, with and without the bytes; of the object, a range of it, or one of its parts.

use super::upload_part::part_number;
use crate::condition::{self, Verdict};
use crate::error::{Code, Error};
use crate::reply::{self, Reply, ReplyBody, http_time, quoted};
use crate::request::Request;
use crate::service::{Service, flag};
use crate::{checksum, metadata, range, version};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use objects::{Headed, Opened};
use types::ByteRange;
use wire::records::{self, ObjectRecord, Part};

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let Opened {
        record,
        parts,
        versioned,
        mut reader,
    } = service.objects.get(&request.caller, bucket, key, version).await?;
    let mut head = Head::of(&record, &parts, &request)?;
    version::read(&mut head.headers, &record, versioned);
    // What is read is waited for without them: what they took is given back then.
    drop(parts);
    if head.status == StatusCode::NOT_MODIFIED {
        return Ok(head.reply(ReplyBody::empty()));
    }
    let length = head.length;
    if let Some(range) = head.range {
        reader.select(range)?;
    }
    let body = ReplyBody::stream(Box::new(reader), length).await?;
    Ok(head.reply(body))
}

pub(super) async fn head(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    // The part table may stand beside the record: only who asks for a part pays for it.
    let (headed, parts) = if request.query.get("partNumber").is_some() {
        let opened = service.objects.get(&request.caller, bucket, key, version).await?;
        let headed = Headed {
            record: opened.record,
            versioned: opened.versioned,
        };
        (headed, opened.parts)
    } else {
        let head = service.objects.head(&request.caller, bucket, key, version);
        (head.await?, Vec::new())
    };
    let mut head = Head::of(&headed.record, &parts, &request)?;
    version::read(&mut head.headers, &headed.record, headed.versioned);
    Ok(head.reply(ReplyBody::empty()))
}

/// Checksums of the `length` bytes that are answered, where they are the whole object or a part: beside a range of it, clients
/// would take the object's for the range's.
fn checksums(headers: &mut HeaderMap, record: &ObjectRecord, part: Option<&Part>, length: u64) {
    let kind = Some(checksum::kind_of(record.checksum_kind));
    let same = |c: &&records::Checksum| record.checksums.iter().any(|o| o.algorithm == c.algorithm);
    match part {
        Some(part) => {
            let own: Vec<_> = part.checksums.iter().filter(same).cloned().collect();
            checksum::to_headers(headers, &own, kind, 0);
        }
        None if length == record.size => {
            checksum::to_headers(headers, &record.checksums, kind, record.etag_parts);
        }
        None => {}
    }
}

/// The part that a read asks for. An object of one body is its own first part.
struct PartAsked<'a> {
    range: ByteRange,
    part: Option<&'a Part>,
}

impl<'a> PartAsked<'a> {
    fn find(number: &str, range: Option<&str>, size: u64, parts: &'a [Part]) -> Result<Self, Error> {
        let number = part_number(Some(number))?;
        if range.is_some() {
            let message = "Cannot specify both Range header and partNumber query parameter";
            return Err(Error::with(Code::InvalidRequest, message));
        }
        if parts.is_empty() && number == 1 {
            return Ok(Self {
                range: ByteRange { start: 0, end: size },
                part: None,
            });
        }
        let mut start = 0;
        for part in parts {
            let end = start + part.size;
            if part.number == number {
                return Ok(Self {
                    range: ByteRange { start, end },
                    part: Some(part),
                });
            }
            start = end;
        }
        Err(Error::new(Code::InvalidPart)
            .field("PartNumberRequested", number.to_string())
            .field("ActualPartCount", parts.len().max(1).to_string()))
    }
}

/// The head of a read's answer.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    range: Option<ByteRange>,
    length: u64,
}

impl Head {
    /// Decides conditions, then the range.
    fn of(record: &ObjectRecord, parts: &[Part], request: &Request) -> Result<Self, Error> {
        let part = match request.query.get("partNumber") {
            Some(number) => Some(PartAsked::find(
                number,
                request.header("range"),
                record.size,
                parts,
            )?),
            None => None,
        };
        let tag = quoted(&record.etag_md5, record.etag_parts);
        let bare = tag.trim_matches('"');
        let mut headers = HeaderMap::new();
        reply::set(&mut headers, header::ETAG, &tag);
        reply::set(&mut headers, header::LAST_MODIFIED, http_time(record.modified_ms));
        match condition::read(&request.headers, bare, record.modified_ms) {
            Verdict::Serve => {}
            Verdict::Failed(name) => {
                return Err(Error::new(Code::PreconditionFailed).field("Condition", name));
            }
            Verdict::NotModified => return Self::not_modified(headers, record, request),
        }
        let asked = request.header("range");
        let range = match &part {
            // Of no bytes where the part has none: the last may be empty, and is not the whole object.
            Some(part) => Some(part.range),
            None if condition::range_applies(&request.headers, bare, record.modified_ms) => {
                range::select(asked, record.size)?
            }
            None => None,
        };
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let kept = record.headers.clone().unwrap_or_default();
        metadata::to_headers(&mut headers, &kept, &record.metadata, &request.query)?;
        if !record.tags.is_empty() {
            reply::set(&mut headers, "x-amz-tagging-count", record.tags.len());
        }
        if part.is_some() && !parts.is_empty() {
            reply::set(&mut headers, "x-amz-mp-parts-count", parts.len());
        }
        let length = range.map_or(record.size, ByteRange::len);
        reply::set(&mut headers, header::CONTENT_LENGTH, length);
        let status = match range {
            Some(ByteRange { start, end }) if start < end => {
                let place = format!("bytes {start}-{}/{}", end - 1, record.size);
                reply::set(&mut headers, header::CONTENT_RANGE, place);
                StatusCode::PARTIAL_CONTENT
            }
            // No Content-Range can say where no bytes are.
            Some(_) | None => StatusCode::OK,
        };
        if flag(&request.headers, "x-amz-checksum-mode", "ENABLED") {
            checksums(&mut headers, record, part.and_then(|p| p.part), length);
        }
        Ok(Self {
            status,
            headers,
            range,
            length,
        })
    }

    /// What a cache keeps the object by (RFC 9110, section 15.4.5), and nothing else of it.
    fn not_modified(mut headers: HeaderMap, record: &ObjectRecord, request: &Request) -> Result<Self, Error> {
        let mut all = HeaderMap::new();
        let kept = record.headers.clone().unwrap_or_default();
        metadata::to_headers(&mut all, &kept, &[], &request.query)?;
        for name in [header::CACHE_CONTROL, header::EXPIRES] {
            if let Some(value) = all.remove(&name) {
                headers.insert(name, value);
            }
        }
        Ok(Self {
            status: StatusCode::NOT_MODIFIED,
            headers,
            range: None,
            length: 0,
        })
    }

    fn reply(self, body: ReplyBody) -> Reply {
        let mut reply = reply::of(body);
        *reply.status_mut() = self.status;
        *reply.headers_mut() = self.headers;
        reply
    }
}
