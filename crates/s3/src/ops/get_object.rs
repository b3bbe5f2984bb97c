//! GetObject and HeadObject: the same head, with and without the bytes.

use crate::condition::{self, Verdict};
use crate::error::{Code, Error};
use crate::reply::{self, Reply, ReplyBody, http_time, quoted};
use crate::request::Request;
use crate::service::{Service, flag};
use crate::{checksum, metadata, range};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use types::ByteRange;
use wire::records::ObjectRecord;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let mut opened = service.objects.get(&request.caller, bucket, key, version).await?;
    let head = Head::of(&opened.record, &request)?;
    if head.status == StatusCode::NOT_MODIFIED {
        return Ok(head.reply(ReplyBody::empty()));
    }
    let length = head.length;
    if let Some(range) = head.range {
        opened.reader.select(range)?;
    }
    let body = ReplyBody::stream(Box::new(opened.reader), length).await?;
    Ok(head.reply(body))
}

pub(super) async fn head(service: &Service, request: Request) -> Result<Reply, Error> {
    let version = request.version()?;
    let (bucket, key) = (request.bucket(), request.key());
    let record = service
        .objects
        .head(&request.caller, bucket, key, version)
        .await?;
    Ok(Head::of(&record, &request)?.reply(ReplyBody::empty()))
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
    fn of(record: &ObjectRecord, request: &Request) -> Result<Self, Error> {
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
            Verdict::NotModified => {
                return Ok(Self {
                    status: StatusCode::NOT_MODIFIED,
                    headers,
                    range: None,
                    length: 0,
                });
            }
        }
        let asked = request.header("range");
        let range = match condition::range_applies(&request.headers, bare, record.modified_ms) {
            true => range::select(asked, record.size)?,
            false => None,
        };
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let kept = record.headers.clone().unwrap_or_default();
        metadata::to_headers(&mut headers, &kept, &record.metadata, &request.query)?;
        let length = range.map_or(record.size, ByteRange::len);
        reply::set(&mut headers, header::CONTENT_LENGTH, length);
        let status = match range {
            Some(ByteRange { start, end }) => {
                let place = format!("bytes {start}-{}/{}", end - 1, record.size);
                reply::set(&mut headers, header::CONTENT_RANGE, place);
                StatusCode::PARTIAL_CONTENT
            }
            None => StatusCode::OK,
        };
        // A checksum is of the whole object: beside a part of it, clients would take it for the part's.
        if range.is_none() && flag(&request.headers, "x-amz-checksum-mode", "ENABLED") {
            let kind = checksum::kind_of(record.checksum_kind);
            checksum::to_headers(&mut headers, &record.checksums, Some(kind), record.etag_parts);
        }
        Ok(Self {
            status,
            headers,
            range,
            length,
        })
    }

    fn reply(self, body: ReplyBody) -> Reply {
        let mut reply = Response::new(body);
        *reply.status_mut() = self.status;
        *reply.headers_mut() = self.headers;
        reply
    }
}
