//! aws-sdk-s3 as it comes, over plain HTTP, in every column.

use crate::Endpoint;
use crate::table::Table;
use crate::trees::{LARGE_BYTES, MANY, ODD_KEYS, PART_BYTES, bytes, many, tree};
use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RuntimeComponents, retry::RetryConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier,
    VersioningConfiguration,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NAME: &str = "aws-sdk-s3";
const BUCKET: &str = "rust-sdk";
const AT_ONCE: usize = 8;

/// Every column, each on its own.
pub(crate) async fn columns(endpoint: &Endpoint, table: &mut Table) -> Result<()> {
    let sent = Sent::default();
    let s3 = client(endpoint, sent.clone());
    s3.create_bucket().bucket(BUCKET).send().await?;
    table.tell(NAME, "default checksums", checksums(&s3, &sent).await);
    table.tell(NAME, "multipart", multipart(&s3).await);
    table.tell(NAME, "parallel ranges", ranges(&s3).await);
    table.tell(NAME, "sync both ways", sync(&s3).await);
    table.tell(NAME, "many keys", many_keys(&s3).await);
    table.tell(NAME, "batch delete", batch_delete(&s3).await);
    table.tell(NAME, "odd keys", odd_keys(&s3).await);
    table.tell(NAME, "presign", presign(&s3).await);
    table.tell(NAME, "versions", versions(&s3).await);
    table.tell(NAME, "conditional put", conditional_put(&s3).await);
    Ok(())
}

/// What the last request's head said, as it went out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Mutex<BTreeMap<String, String>>>);

impl Sent {
    fn header(&self, name: &str) -> Option<String> {
        self.0.lock().ok()?.get(name).cloned()
    }
}

impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "Sent"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request().headers().iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        if let Ok(mut seen) = self.0.lock() {
            *seen = headers.collect();
        }
        Ok(())
    }
}

/// A client with the SDK's defaults, but for retries: an answer is an answer.
pub(crate) fn client(endpoint: &Endpoint, sent: Sent) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&endpoint.url)
        .force_path_style(true)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(
            &endpoint.access_key,
            &endpoint.secret_key,
            None,
            None,
            "given",
        ))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .interceptor(sent)
        .build();
    Client::from_conf(config)
}

async fn get(s3: &Client, key: &str) -> Result<Vec<u8>> {
    let answer = s3.get_object().bucket(BUCKET).key(key).send().await?;
    Ok(answer.body.collect().await?.to_vec())
}

async fn put(s3: &Client, key: &str, body: &[u8]) -> Result<()> {
    let body = ByteStream::from(body.to_vec());
    s3.put_object().bucket(BUCKET).key(key).body(body).send().await?;
    Ok(())
}

async fn checksums(s3: &Client, sent: &Sent) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    let body = bytes(1, 300_000);
    std::fs::write(file.path(), &body)?;
    let stream = ByteStream::from_path(file.path()).await?;
    s3.put_object()
        .bucket(BUCKET)
        .key("checked")
        .body(stream)
        .send()
        .await?;
    let trailer = sent.header("x-amz-trailer").context("no trailer was sent")?;
    ensure!(
        sent.header("content-encoding")
            .is_some_and(|e| e.contains("aws-chunked")),
        "not aws-chunked"
    );
    let head = s3
        .head_object()
        .bucket(BUCKET)
        .key("checked")
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await?;
    ensure!(
        head.checksum_crc32().is_some() || head.checksum_crc64_nvme().is_some(),
        "the checksum is not kept: {head:?}"
    );
    ensure!(get(s3, "checked").await? == body, "other bytes");
    Ok(format!("ok: {trailer} in a trailer"))
}

async fn multipart(s3: &Client) -> Result<String> {
    let body = bytes(2, LARGE_BYTES);
    let begun = s3
        .create_multipart_upload()
        .bucket(BUCKET)
        .key("large")
        .send()
        .await?;
    let id = begun.upload_id().context("an upload id")?;
    let numbered = (1..).zip(body.chunks(PART_BYTES));
    let mut parts: Vec<CompletedPart> = stream::iter(numbered.map(|(number, part)| async move {
        let stream = ByteStream::from(part.to_vec());
        let asked = s3.upload_part().bucket(BUCKET).key("large").upload_id(id);
        let done = asked.part_number(number).body(stream).send().await?;
        anyhow::Ok(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(done.e_tag)
                .set_checksum_crc32(done.checksum_crc32)
                .set_checksum_crc64_nvme(done.checksum_crc64_nvme)
                .build(),
        )
    }))
    .buffer_unordered(AT_ONCE)
    .try_collect()
    .await?;
    parts.sort_by_key(CompletedPart::part_number);
    let count = parts.len();
    let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let done = s3
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("large")
        .upload_id(id)
        .multipart_upload(all)
        .send()
        .await?;
    ensure!(
        done.e_tag().is_some_and(|t| t.ends_with(&format!("-{count}\""))),
        "{done:?}"
    );
    ensure!(get(s3, "large").await? == body, "other bytes");
    Ok(format!("ok: {count} parts at once"))
}

async fn ranges(s3: &Client) -> Result<String> {
    let body = bytes(3, LARGE_BYTES);
    put(s3, "ranges", &body).await?;
    let starts: Vec<usize> = (0..LARGE_BYTES).step_by(PART_BYTES).collect();
    let count = starts.len();
    let read: Vec<Vec<u8>> = stream::iter(starts.into_iter().map(|start| async move {
        let range = format!("bytes={start}-{}", start + PART_BYTES - 1);
        let answer = s3
            .get_object()
            .bucket(BUCKET)
            .key("ranges")
            .range(range)
            .send()
            .await?;
        anyhow::Ok(answer.body.collect().await?.to_vec())
    }))
    .buffered(AT_ONCE)
    .try_collect()
    .await?;
    ensure!(read.concat() == body, "other bytes");
    Ok(format!("ok: {count} ranges at once"))
}

async fn keys(s3: &Client, prefix: &str) -> Result<Vec<String>> {
    let mut pages = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix(prefix)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        found.extend(page?.contents().iter().filter_map(|o| o.key().map(str::to_owned)));
    }
    Ok(found)
}

/// A library without a sync: each file by itself, all of them compared.
async fn sync(s3: &Client) -> Result<String> {
    let tree = tree();
    stream::iter(tree.iter().map(|(key, body)| put(s3, key, body)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let listed = keys(s3, "tree/").await?;
    let mut expected: Vec<_> = tree.iter().map(|(key, _)| key.clone()).collect();
    expected.sort();
    ensure!(listed == expected, "listed {listed:?}");
    for (key, body) in &tree {
        ensure!(get(s3, key).await? == *body, "{key}: other bytes");
    }
    Ok(format!(
        "n/a: {NAME} has no sync; {} files each by itself, byte for byte",
        tree.len()
    ))
}

async fn fill(s3: &Client) -> Result<Vec<String>> {
    let names = many();
    stream::iter(names.iter().map(|key| put(s3, key, key.as_bytes())))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(names)
}

async fn many_keys(s3: &Client) -> Result<String> {
    let names = fill(s3).await?;
    ensure!(keys(s3, "many/").await? == names, "the listing differs");
    Ok(format!("ok: {MANY} keys, page by page"))
}

async fn batch_delete(s3: &Client) -> Result<String> {
    let names = keys(s3, "many/").await?;
    ensure!(names.len() == MANY, "{} keys to delete", names.len());
    for batch in names.chunks(1000) {
        let objects = batch.iter().map(|k| ObjectIdentifier::builder().key(k).build());
        let delete = Delete::builder()
            .set_objects(Some(objects.collect::<Result<_, _>>()?))
            .build()?;
        let answer = s3.delete_objects().bucket(BUCKET).delete(delete).send().await?;
        ensure!(
            answer.errors().is_empty() && answer.deleted().len() == batch.len(),
            "{answer:?}"
        );
    }
    ensure!(keys(s3, "many/").await?.is_empty(), "keys are left");
    Ok(format!("ok: {MANY} keys in 2 requests"))
}

async fn odd_keys(s3: &Client) -> Result<String> {
    for key in ODD_KEYS {
        put(s3, key, key.as_bytes()).await?;
    }
    let listed = keys(s3, "").await?;
    for key in ODD_KEYS {
        ensure!(listed.iter().any(|k| k == key), "{key} is not listed");
        ensure!(get(s3, key).await? == key.as_bytes(), "{key}: other bytes");
    }
    Ok(format!("ok: {} keys", ODD_KEYS.len()))
}

async fn presign(s3: &Client) -> Result<String> {
    put(s3, "a b/ü.txt", b"for whoever has the link").await?;
    let soon = PresigningConfig::expires_in(Duration::from_secs(300))?;
    let signed = s3
        .get_object()
        .bucket(BUCKET)
        .key("a b/ü.txt")
        .presigned(soon)
        .await?;
    crate::store::fetch_and_falsify(signed.uri(), b"for whoever has the link").await?;
    Ok("ok: fetched, and refused when falsified".to_owned())
}

async fn versions(s3: &Client) -> Result<String> {
    const KEPT: &str = "rust-sdk-versions";
    s3.create_bucket().bucket(KEPT).send().await?;
    let on = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    s3.put_bucket_versioning()
        .bucket(KEPT)
        .versioning_configuration(on)
        .send()
        .await?;
    for text in ["first", "second"] {
        let body = ByteStream::from_static(text.as_bytes());
        s3.put_object().bucket(KEPT).key("k").body(body).send().await?;
    }
    let listed = s3.list_object_versions().bucket(KEPT).send().await?;
    let ids: Vec<_> = listed.versions().iter().filter_map(|v| v.version_id()).collect();
    ensure!(ids.len() == 2, "{listed:?}");
    for (id, text) in ids.iter().zip(["second", "first"]) {
        let answer = s3
            .get_object()
            .bucket(KEPT)
            .key("k")
            .version_id(*id)
            .send()
            .await?;
        ensure!(
            answer.body.collect().await?.to_vec() == text.as_bytes(),
            "{id} is not {text}"
        );
    }
    let marker = s3.delete_object().bucket(KEPT).key("k").send().await?;
    ensure!(marker.delete_marker() == Some(true), "{marker:?}");
    let gone = s3.get_object().bucket(KEPT).key("k").send().await;
    ensure!(gone.is_err_and(|e| e.code() == Some("NoSuchKey")), "still there");
    let id = marker.version_id().context("the marker's id")?;
    s3.delete_object()
        .bucket(KEPT)
        .key("k")
        .version_id(id)
        .send()
        .await?;
    let answer = s3.get_object().bucket(KEPT).key("k").send().await?;
    ensure!(
        answer.body.collect().await?.to_vec() == b"second",
        "not what was there before"
    );
    Ok("ok: on, list, read, delete, undelete".to_owned())
}

async fn conditional_put(s3: &Client) -> Result<String> {
    let once = |body: &'static [u8]| {
        let body = ByteStream::from_static(body);
        s3.put_object()
            .bucket(BUCKET)
            .key("once")
            .if_none_match("*")
            .body(body)
    };
    let first = once(b"first").send().await?;
    let second = once(b"second").send().await;
    ensure!(
        second.is_err_and(|e| e.code() == Some("PreconditionFailed")),
        "the second was not refused"
    );
    let tag = first.e_tag().context("a tag")?;
    let body = ByteStream::from_static(b"third");
    let asked = s3.put_object().bucket(BUCKET).key("once").if_match(tag);
    asked.body(body).send().await?;
    ensure!(get(s3, "once").await? == b"third", "other bytes");
    Ok("ok: If-None-Match and If-Match".to_owned())
}
