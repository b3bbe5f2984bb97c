//! HeadBucket and GetBucketLocation.

use crate::error::Error;
use crate::owner;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use http::StatusCode;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    service
        .objects
        .head_bucket(&request.caller, request.bucket())
        .await?;
    let mut reply = reply::empty(StatusCode::OK);
    reply::set(reply.headers_mut(), "x-amz-bucket-region", &service.config.region);
    reply::set(reply.headers_mut(), "x-amz-access-point-alias", false);
    let arn = owner::bucket_arn(request.bucket().as_str());
    reply::set(reply.headers_mut(), "x-amz-bucket-arn", arn);
    Ok(reply)
}

/// The first region is named by an empty element.
pub(super) async fn location(service: &Service, request: Request) -> Result<Reply, Error> {
    service
        .objects
        .head_bucket(&request.caller, request.bucket())
        .await?;
    let mut x = XmlWriter::document();
    x.root("LocationConstraint");
    let region = service.config.region.as_str();
    x.content(if region == "us-east-1" { "" } else { region });
    x.close("LocationConstraint");
    Ok(reply::xml(x.finish()))
}
