//! What SDKs and tools ask of a bucket that nobody configured: S3's definite answers, which are true of every bucket here
//! until issue by issue they can be configured.

use crate::error::{Code, Error};
use crate::operation::Operation as Op;
use crate::owner;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use types::AccountId;

/// What is answered once the bucket is known to be there.
enum Answer {
    /// An empty element of this name.
    Empty(&'static str),
    /// An error that says "not configured".
    Not(Code),
    /// Elements inside this one.
    Inside(&'static str, &'static [(&'static str, &'static str)]),
    /// The owner, with full control.
    Acl,
}

fn answer(operation: Op) -> Option<Answer> {
    Some(match operation {
        Op::GetBucketLogging => Answer::Empty("BucketLoggingStatus"),
        Op::GetBucketNotificationConfiguration => Answer::Empty("NotificationConfiguration"),
        Op::GetBucketAccelerateConfiguration => Answer::Empty("AccelerateConfiguration"),
        Op::GetBucketRequestPayment => {
            Answer::Inside("RequestPaymentConfiguration", &[("Payer", "BucketOwner")])
        }
        Op::GetBucketPolicy => Answer::Not(Code::NoSuchBucketPolicy),
        Op::GetBucketLifecycleConfiguration => Answer::Not(Code::NoSuchLifecycleConfiguration),
        Op::GetBucketCors => Answer::Not(Code::NoSuchCORSConfiguration),
        Op::GetBucketTagging => Answer::Not(Code::NoSuchTagSet),
        Op::GetBucketWebsite => Answer::Not(Code::NoSuchWebsiteConfiguration),
        Op::GetBucketReplication => Answer::Not(Code::ReplicationConfigurationNotFoundError),
        Op::GetObjectLockConfiguration => Answer::Not(Code::ObjectLockConfigurationNotFoundError),
        Op::GetBucketOwnershipControls => Answer::Not(Code::OwnershipControlsNotFoundError),
        Op::GetPublicAccessBlock => Answer::Not(Code::NoSuchPublicAccessBlockConfiguration),
        Op::GetBucketAcl | Op::GetObjectAcl => Answer::Acl,
        _ => return None,
    })
}

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let operation = request.operation;
    let answer = answer(operation).ok_or_else(|| Error::operation_not_implemented(operation.name()))?;
    let owner = match &request.key {
        Some(key) => {
            let version = request.version()?;
            service
                .objects
                .head(&request.caller, request.bucket(), key, version)
                .await?
                .record
                .owner
        }
        None => {
            service
                .objects
                .head_bucket(&request.caller, request.bucket())
                .await?
                .owner
        }
    };
    let mut x = XmlWriter::document();
    match answer {
        Answer::Not(code) => return Err(code.into()),
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
        Answer::Acl => acl(&mut x, AccountId(owner)),
    }
    Ok(reply::xml(x.finish()))
}

fn acl(x: &mut XmlWriter, account: AccountId) {
    x.root("AccessControlPolicy");
    owner::write(x, "Owner", account);
    x.open("AccessControlList");
    x.open("Grant");
    x.open_typed("Grantee", "CanonicalUser");
    x.text("ID", &owner::canonical_id(account));
    x.text("DisplayName", &owner::display_name(account));
    x.close("Grantee");
    x.text("Permission", "FULL_CONTROL");
    x.close("Grant");
    x.close("AccessControlList");
    x.close("AccessControlPolicy");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route;

    #[test]
    fn what_is_routed_here_has_an_answer() {
        for operation in Op::ALL.iter().filter(|o| answer(**o).is_some()) {
            assert!(
                route::built(*operation),
                "{operation:?} is answered but not routed"
            );
        }
    }
}
