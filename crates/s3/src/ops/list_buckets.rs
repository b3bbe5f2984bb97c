//! ListBuckets: the caller's own, by name.

use crate::error::Error;
use crate::listing::Token;
use crate::owner;
use crate::page::BUCKETS_AT_FIRST;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use objects::ListBuckets;
use types::limits::LIST_BUCKETS_MAX;
use wire::records::BucketRecord;

/// Buckets that are read at once after the first.
const BUCKETS_MORE: u32 = 512;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let query = &request.query;
    let max = page(query)?;
    let prefix = query.get("prefix").unwrap_or_default();
    let region = query.get("bucket-region").unwrap_or_default();
    let after = query
        .get("continuation-token")
        .filter(|t| !t.is_empty())
        .map(Token::open)
        .transpose()?
        .unwrap_or_default();
    let (mut buckets, more) = read(service, &request, (prefix, after), max).await?;
    // Of those left out for their region too: the next page begins after it.
    let last = buckets.last().map(|b| b.name.clone()).unwrap_or_default();
    let region_of = |own: &str| {
        if own.is_empty() {
            service.config.region.clone()
        } else {
            own.to_owned()
        }
    };
    buckets.retain(|b| region.is_empty() || region_of(&b.region) == region);

    let mut x = XmlWriter::document();
    x.root("ListAllMyBucketsResult");
    owner::write(&mut x, "Owner", request.caller.account);
    x.open("Buckets");
    for bucket in &buckets {
        x.open("Bucket");
        x.text("Name", &bucket.name);
        x.time("CreationDate", bucket.created_ms);
        x.text("BucketRegion", &region_of(&bucket.region));
        x.text("BucketArn", &owner::bucket_arn(&bucket.name));
        x.close("Bucket");
    }
    x.close("Buckets");
    if !prefix.is_empty() {
        x.text("Prefix", prefix);
    }
    if more {
        x.text("ContinuationToken", &Token::seal(&last));
    }
    x.close("ListAllMyBucketsResult");
    Ok(reply::xml(x.finish()))
}

/// The buckets of a page, and whether there are more: all that are asked for, where there is memory for them.
async fn read(
    service: &Service,
    request: &Request,
    (prefix, mut after): (&str, String),
    max: u32,
) -> Result<(Vec<BucketRecord>, bool), Error> {
    let mut buckets = Vec::new();
    let (mut left, mut window) = (max, max.min(BUCKETS_AT_FIRST));
    loop {
        let wanted = ListBuckets {
            prefix: prefix.to_owned(),
            after,
            max: window + 1,
        };
        let mut some = service.objects.list_buckets(&request.caller, wanted).await?;
        let more = some.len() > window as usize;
        some.truncate(window as usize);
        after = some.last().map(|b| b.name.clone()).unwrap_or_default();
        buckets.append(&mut some);
        left -= window;
        window = left.min(BUCKETS_MORE);
        if !more || window == 0 || !request.paged.more_buckets(window) {
            return Ok((buckets, more));
        }
    }
}

/// `max-buckets`: unlike `max-keys` it is refused where it is over S3's page.
fn page(query: &Query) -> Result<u32, Error> {
    match query.get("max-buckets") {
        None => Ok(LIST_BUCKETS_MAX),
        Some(text) => match text.parse() {
            Ok(max) if (1..=LIST_BUCKETS_MAX).contains(&max) => Ok(max),
            _ => Err(Error::argument(
                "max-buckets",
                text,
                "Argument max-buckets must be an integer between 1 and 10000",
            )),
        },
    }
}
