//! PutObject; with `x-amz-write-offset-bytes`, an append.

use crate::error::{Code, Error};
use crate::reply::{self, Reply, quoted};
use crate::request::{Request, refusal};
use crate::service::Service;
use crate::{checksum, condition, metadata, tags, version};
use http::{StatusCode, header};

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let length = request.plan.length()?;
    let offset = write_offset(&request, length)?;
    let expect = checksum::expect(&request.headers, &request.plan)?;
    let precondition = condition::write(&request.headers)?;
    let headers = metadata::content_headers(&request.headers);
    let metadata = metadata::user_metadata(&request.headers)?;
    let tags = tags::from_header(&request.headers)?;
    let (body, slot) = request.open_body(service.world.clock.clone());
    let put = objects::PutObject {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        length,
        body,
        expect,
        headers,
        metadata,
        tags,
        checksum: None,
        precondition,
    };
    let answer = match offset {
        None => service.objects.put(&request.caller, put).await,
        Some(offset) => service.objects.append(&request.caller, put, offset).await,
    };
    let answer = answer.map_err(|e| refusal(e, &slot))?;
    let mut reply = reply::empty(StatusCode::OK);
    let out = reply.headers_mut();
    reply::set(out, header::ETAG, quoted(&answer.etag_md5, answer.etag_parts));
    version::made(out, &answer);
    let kind = checksum::kind_of(answer.checksum_kind);
    checksum::to_headers(out, &answer.checksums, Some(kind), answer.etag_parts);
    if offset.is_some() {
        reply::set(out, "x-amz-object-size", answer.size);
    }
    Ok(reply)
}

/// Where an append begins; `None`: it is a put.
fn write_offset(request: &Request, length: u64) -> Result<Option<u64>, Error> {
    const NAME: &str = "x-amz-write-offset-bytes";
    let Some(value) = request.headers.get(NAME) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("\u{fffd}");
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let offset = text.parse().ok().filter(|_| digits);
    let offset =
        offset.ok_or_else(|| Error::argument(NAME, text, "The write offset must be a number of bytes."))?;
    if length == 0 {
        return Err(Error::with(
            Code::InvalidRequest,
            "Request body cannot be empty when 'write offset' is specified.",
        ));
    }
    Ok(Some(offset))
}
