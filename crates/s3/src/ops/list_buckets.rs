//! ListBuckets: the caller's own, by name.

use crate::error::Error;
use crate::listing::Token;
use crate::owner;
use crate::reply::{self, Reply, iso_time};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;

/// Buckets of one page (S3).
const PAGE_MAX: u32 = 10_000;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let query = &request.query;
    let max = query.number("max-buckets", PAGE_MAX, PAGE_MAX)? as usize;
    if max == 0 {
        let message = "Argument max-buckets must be an integer between 1 and 10000";
        return Err(Error::argument("max-buckets", "0", message));
    }
    let prefix = query.get("prefix").unwrap_or_default();
    let region = query.get("bucket-region").unwrap_or_default();
    let after = query
        .get("continuation-token")
        .map(Token::open)
        .transpose()?
        .unwrap_or_default();
    let mut buckets = service.objects.list_buckets(&request.caller).await?;
    let region_of = |own: &str| {
        if own.is_empty() {
            service.config.region.clone()
        } else {
            own.to_owned()
        }
    };
    buckets.retain(|b| {
        b.name.starts_with(prefix) && b.name > after && (region.is_empty() || region_of(&b.region) == region)
    });
    let more = buckets.len() > max;
    buckets.truncate(max);

    let mut x = XmlWriter::document();
    x.root("ListAllMyBucketsResult");
    owner::write(&mut x, "Owner", request.caller.account);
    x.open("Buckets");
    for bucket in &buckets {
        x.open("Bucket");
        x.text("Name", &bucket.name);
        x.text("CreationDate", &iso_time(bucket.created_ms));
        x.text("BucketRegion", &region_of(&bucket.region));
        x.close("Bucket");
    }
    x.close("Buckets");
    if !prefix.is_empty() {
        x.text("Prefix", prefix);
    }
    if let (true, Some(last)) = (more, buckets.last()) {
        x.text("ContinuationToken", &Token::seal(&last.name));
    }
    x.close("ListAllMyBucketsResult");
    Ok(reply::xml(x.finish()))
}
