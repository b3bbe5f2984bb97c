//! What SDKs and tools ask of a bucket that nobody configured: S3's definite answers, which are true of every bucket here
//! until issue by issue they can be configured. Taking away what is not there answers as S3 does, too.
//!
//! docs/operating/unconfigured.md is the same table for people; a test holds them together.

use crate::error::{Code, Error};
use crate::operation::Operation as Op;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use http::StatusCode;

/// What is answered once the bucket (and object) is known to be there.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// An empty element of this name.
    Empty(&'static str),
    /// An error that says "not configured".
    Not(Code),
    /// Elements inside this one.
    Inside(&'static str, &'static [(&'static str, &'static str)]),
    /// An empty list of this name; with an `id`, "no such configuration".
    List(&'static str),
    /// Nothing was there to be taken away, and S3 says that it was.
    Gone,
    /// InvalidRequest: the bucket has no object lock.
    NoLock,
}

fn answer(operation: Op) -> Option<Answer> {
    Some(match operation {
        Op::GetBucketLogging => Answer::Empty("BucketLoggingStatus"),
        Op::GetBucketNotificationConfiguration => Answer::Empty("NotificationConfiguration"),
        Op::GetBucketAccelerateConfiguration => Answer::Empty("AccelerateConfiguration"),
        Op::GetBucketRequestPayment => {
            Answer::Inside("RequestPaymentConfiguration", &[("Payer", "BucketOwner")])
        }
        Op::GetBucketPolicy | Op::GetBucketPolicyStatus => Answer::Not(Code::NoSuchBucketPolicy),
        Op::GetBucketLifecycleConfiguration => Answer::Not(Code::NoSuchLifecycleConfiguration),
        Op::GetBucketWebsite => Answer::Not(Code::NoSuchWebsiteConfiguration),
        Op::GetBucketReplication => Answer::Not(Code::ReplicationConfigurationNotFoundError),
        Op::GetObjectLockConfiguration => Answer::Not(Code::ObjectLockConfigurationNotFoundError),
        Op::GetBucketEncryption => Answer::Not(Code::ServerSideEncryptionConfigurationNotFoundError),
        Op::GetBucketAnalyticsConfiguration => Answer::List("ListBucketAnalyticsConfigurationResult"),
        Op::GetBucketIntelligentTieringConfiguration => {
            Answer::List("ListBucketIntelligentTieringConfigurationsOutput")
        }
        Op::GetBucketInventoryConfiguration => Answer::List("ListInventoryConfigurationsResult"),
        Op::GetBucketMetricsConfiguration => Answer::List("ListMetricsConfigurationsResult"),
        Op::DeleteBucketAnalyticsConfiguration
        | Op::DeleteBucketIntelligentTieringConfiguration
        | Op::DeleteBucketInventoryConfiguration
        | Op::DeleteBucketMetricsConfiguration => Answer::Not(Code::NoSuchConfiguration),
        Op::DeleteBucketEncryption
        | Op::DeleteBucketLifecycle
        | Op::DeleteBucketPolicy
        | Op::DeleteBucketReplication
        | Op::DeleteBucketWebsite => Answer::Gone,
        Op::GetObjectRetention | Op::GetObjectLegalHold => Answer::NoLock,
        _ => return None,
    })
}

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let operation = request.operation;
    let answer = answer(operation).ok_or_else(|| Error::operation_not_implemented(operation.name()))?;
    let (caller, bucket) = (&request.caller, request.bucket());
    match &request.key {
        Some(key) => {
            let version = request.version()?;
            service.objects.head(caller, bucket, key, version).await?;
        }
        None => {
            service.objects.head_bucket(caller, bucket).await?;
        }
    }
    let mut x = XmlWriter::document();
    match answer {
        Answer::Not(code) => return Err(code.into()),
        Answer::Gone => return Ok(reply::empty(StatusCode::NO_CONTENT)),
        Answer::NoLock => {
            return Err(Error::with(
                Code::InvalidRequest,
                "Bucket is missing Object Lock Configuration",
            ));
        }
        Answer::List(_) if request.query.get("id").is_some() => return Err(Code::NoSuchConfiguration.into()),
        Answer::List(root) => {
            x.root(root);
            x.text("IsTruncated", "false");
            x.close(root);
        }
        Answer::Empty(root) => {
            x.root(root);
            x.close(root);
        }
        Answer::Inside(root, elements) => {
            x.root(root);
            for (name, value) in elements {
                x.text(name, value);
            }
            x.close(root);
        }
    }
    Ok(reply::xml(x.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route;

    const PAGE: &str = include_str!("../../../../docs/operating/unconfigured.md");

    #[test]
    fn what_is_routed_here_has_an_answer() {
        for operation in Op::ALL.iter().filter(|o| answer(**o).is_some()) {
            assert!(
                route::built(*operation),
                "{operation:?} is answered but not routed"
            );
        }
    }

    #[test]
    fn the_page_says_what_is_answered() {
        let (table, _what_can_be_configured) = PAGE.split_once("## What a new bucket has").unwrap();
        for operation in Op::ALL {
            let line = table
                .lines()
                .find(|l| l.starts_with(&format!("| {} |", operation.name())));
            let Some(answer) = answer(*operation) else {
                assert_eq!(line, None, "{operation:?} is on the page and not answered here");
                continue;
            };
            let line = line.unwrap_or_else(|| panic!("{operation:?} is not on the page"));
            let said = match answer {
                Answer::Empty(root) | Answer::Inside(root, _) | Answer::List(root) => root,
                Answer::Not(code) => code.name(),
                Answer::Gone => "204",
                Answer::NoLock => Code::InvalidRequest.name(),
            };
            assert!(line.contains(said), "{line} does not say {said}");
        }
    }
}
