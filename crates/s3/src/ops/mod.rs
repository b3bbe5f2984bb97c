//! The operations, one file each; those that differ in little share one.

mod abort_upload;
mod acl;
mod bucket_cors;
mod bucket_setting;
mod bucket_tagging;
mod complete_upload;
mod copy_object;
mod create_bucket;
mod create_upload;
mod delete_bucket;
mod delete_object;
mod delete_objects;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod get_object;
mod get_object_attributes;
mod head_bucket;
mod list_buckets;
mod list_objects;
mod list_parts;
mod list_uploads;
mod list_versions;
mod object_tagging;
mod ownership;
mod post_object;
mod public_access;
mod put_object;
mod unconfigured;
mod upload_part;
mod upload_part_copy;
mod versioning;

use crate::condition;
use crate::error::Error;
use crate::operation::Operation as Op;
use crate::reply::Reply;
use crate::request::Request;
use crate::service::Service;

pub(crate) use ownership::BUCKET_OWNER_ENFORCED;
pub(crate) use post_object::{is_form, run as post_object};

/// Runs a request's operation.
pub(crate) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    if matches!(
        request.operation,
        Op::PutObject | Op::CopyObject | Op::CreateMultipartUpload
    ) {
        crate::acl::check_write(service, &request).await?;
    }
    let condition = condition::of_write(&request.headers);
    let outcome = run_any(service, request).await;
    outcome.map_err(|e| condition::named(e, condition))
}

async fn run_any(service: &Service, request: Request) -> Result<Reply, Error> {
    match request.operation {
        Op::ListBuckets => list_buckets::run(service, request).await,
        Op::CreateBucket => create_bucket::run(service, request).await,
        Op::HeadBucket => head_bucket::run(service, request).await,
        Op::GetBucketLocation => head_bucket::location(service, request).await,
        Op::GetBucketTagging => bucket_tagging::get(service, request).await,
        Op::PutBucketTagging => bucket_tagging::put(service, request).await,
        Op::DeleteBucketTagging => bucket_tagging::delete(service, request).await,
        Op::GetBucketCors => bucket_cors::get(service, request).await,
        Op::PutBucketCors => bucket_cors::put(service, request).await,
        Op::DeleteBucketCors => bucket_cors::delete(service, request).await,
        Op::GetBucketOwnershipControls => ownership::get(service, request).await,
        Op::PutBucketOwnershipControls => ownership::put(service, request).await,
        Op::DeleteBucketOwnershipControls => ownership::delete(service, request).await,
        Op::GetPublicAccessBlock => public_access::get(service, request).await,
        Op::PutPublicAccessBlock => public_access::put(service, request).await,
        Op::DeletePublicAccessBlock => public_access::delete(service, request).await,
        Op::GetBucketAcl | Op::GetObjectAcl => acl::get(service, request).await,
        Op::PutBucketAcl | Op::PutObjectAcl => acl::put(service, request).await,
        Op::DeleteBucket => delete_bucket::run(service, request).await,
        Op::ListObjects => list_objects::v1(service, request).await,
        Op::ListObjectsV2 => list_objects::v2(service, request).await,
        Op::PutObject => put_object::run(service, request).await,
        Op::CopyObject => copy_object::run(service, request).await,
        Op::GetObject => get_object::run(service, request).await,
        Op::HeadObject => get_object::head(service, request).await,
        Op::GetObjectAttributes => get_object_attributes::run(service, request).await,
        Op::GetObjectTagging => object_tagging::get(service, request).await,
        Op::PutObjectTagging => object_tagging::put(service, request).await,
        Op::DeleteObjectTagging => object_tagging::delete(service, request).await,
        Op::DeleteObject => delete_object::run(service, request).await,
        Op::DeleteObjects => delete_objects::run(service, request).await,
        Op::CreateMultipartUpload => create_upload::run(service, request).await,
        Op::UploadPart => upload_part::run(service, request).await,
        Op::UploadPartCopy => upload_part_copy::run(service, request).await,
        Op::CompleteMultipartUpload => complete_upload::run(service, request).await,
        Op::AbortMultipartUpload => abort_upload::run(service, request).await,
        Op::ListParts => list_parts::run(service, request).await,
        Op::ListMultipartUploads => list_uploads::run(service, request).await,
        Op::ListObjectVersions => list_versions::run(service, request).await,
        Op::GetBucketVersioning => versioning::get(service, request).await,
        Op::PutBucketVersioning => versioning::put(service, request).await,
        _ => unconfigured::run(service, request).await,
    }
}
