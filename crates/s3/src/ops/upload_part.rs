//! UploadPart.

use crate::checksum;
use crate::error::Error;
use crate::reply::{self, Reply};
use crate::request::{Request, refusal};
use crate::service::Service;
use http::{StatusCode, header};
use objects::PutPart;
use types::limits::PART_NUMBER_MAX;

pub(super) async fn run(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let upload = request.upload()?;
    let number = part_number(request.query.get("partNumber"))?;
    let length = request.plan.length()?;
    let expect = checksum::expect(&request.headers, &request.plan)?;
    let (body, slot) = request.open_body(service.world.clock.clone());
    let put = PutPart {
        bucket: request.bucket().clone(),
        key: request.key().clone(),
        upload,
        number,
        length,
        body,
        expect,
    };
    let answer = service.objects.put_part(&request.caller, put).await;
    let (etag, record) = answer.map_err(|e| refusal(e, &slot).field("UploadId", upload.to_string()))?;
    let mut reply = reply::empty(StatusCode::OK);
    let out = reply.headers_mut();
    reply::set(out, header::ETAG, format_args!("\"{etag}\""));
    checksum::to_headers(out, &record.checksums, None, 0);
    Ok(reply)
}

pub(super) fn part_number(text: Option<&str>) -> Result<u32, Error> {
    let text = text.unwrap_or_default();
    let number = text.parse().ok().filter(|n| (1..=PART_NUMBER_MAX).contains(n));
    number.ok_or_else(|| {
        let message = format!("Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive");
        Error::argument("partNumber", text, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_numbers() {
        assert_eq!(part_number(Some("1")), Ok(1));
        assert_eq!(part_number(Some("10000")), Ok(10_000));
        for bad in [
            None,
            Some(""),
            Some("0"),
            Some("10001"),
            Some("-1"),
            Some("1.5"),
            Some("x"),
        ] {
            assert!(part_number(bad).is_err(), "{bad:?}");
        }
    }
}
