//! PutObject.

use crate::error::Error;
use crate::reply::{self, Reply, quoted};
use crate::request::{Request, refusal};
use crate::service::Service;
use crate::{checksum, condition, metadata, tags};
use http::{StatusCode, header};

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let length = request.plan.length()?;
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
    let answer = service
        .objects
        .put(&request.caller, put)
        .await
        .map_err(|e| refusal(e, &slot))?;
    let mut reply = reply::empty(StatusCode::OK);
    let out = reply.headers_mut();
    reply::set(out, header::ETAG, quoted(&answer.etag_md5, answer.etag_parts));
    let kind = checksum::kind_of(answer.checksum_kind);
    checksum::to_headers(out, &answer.checksums, Some(kind), answer.etag_parts);
    Ok(reply)
}
