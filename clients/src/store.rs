//! object_store in every column.

use crate::Endpoint;
use crate::table::Table;
use crate::trees::{LARGE_BYTES, MANY, ODD_KEYS, PART_BYTES, bytes, many, tree};
use anyhow::{Context, Result, ensure};
use aws_sdk_s3::types::{BucketVersioningStatus, ChecksumMode, VersioningConfiguration};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3CopyIfNotExists};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion, WriteMultipart,
};
use std::time::Duration;

const NAME: &str = "object_store";
const BUCKET: &str = "rust-store";
const AT_ONCE: usize = 8;

/// Every column, each on its own. The other client looks at what was kept.
pub(crate) async fn columns(endpoint: &Endpoint, table: &mut Table) -> Result<()> {
    let sdk = crate::sdk::client(endpoint, crate::sdk::Sent::default());
    sdk.create_bucket().bucket(BUCKET).send().await?;
    let store = builder(endpoint, BUCKET).build()?;
    let checked = builder(endpoint, BUCKET)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .build()?;
    table.tell(NAME, "default checksums", checksums(&store, &checked, &sdk).await);
    table.tell(NAME, "multipart", multipart(&store).await);
    table.tell(NAME, "parallel ranges", ranges(&store).await);
    table.tell(NAME, "sync both ways", sync(&store).await);
    table.tell(NAME, "many keys", many_keys(&store).await);
    table.tell(NAME, "batch delete", batch_delete(&store).await);
    table.tell(NAME, "odd keys", odd_keys(&store).await);
    table.tell(NAME, "presign", presign(&store).await);
    table.tell(NAME, "versions", versions(endpoint, &sdk).await);
    table.tell(NAME, "conditional put", conditional_put(&store).await);
    Ok(())
}

/// The builder with its defaults, but for retries: an answer is an answer.
pub(crate) fn builder(endpoint: &Endpoint, bucket: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(&endpoint.url)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(&endpoint.access_key)
        .with_secret_access_key(&endpoint.secret_key)
        .with_bucket_name(bucket)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        })
}

async fn get(store: &AmazonS3, path: &Path) -> Result<Bytes> {
    Ok(store.get(path).await?.bytes().await?)
}

async fn put(store: &AmazonS3, key: &str, body: Vec<u8>) -> Result<()> {
    store.put(&Path::from(key), body.into()).await?;
    Ok(())
}

/// It sends its checksum in a header, and only when it is told to.
async fn checksums(store: &AmazonS3, checked: &AmazonS3, sdk: &aws_sdk_s3::Client) -> Result<String> {
    let head = async |key: &str| {
        let asked = sdk.head_object().bucket(BUCKET).key(key);
        asked.checksum_mode(ChecksumMode::Enabled).send().await
    };
    put(store, "plain", bytes(1, 300_000)).await?;
    let plain = head("plain").await?;
    put(checked, "checked", bytes(1, 300_000)).await?;
    let kept = head("checked").await?;
    ensure!(
        kept.checksum_crc64_nvme().is_some(),
        "the checksum is not kept: {kept:?}"
    );
    ensure!(
        plain.checksum_sha256().is_none() && plain.checksum_crc32().is_none(),
        "{plain:?}"
    );
    ensure!(
        get(store, &Path::from("checked")).await? == bytes(1, 300_000),
        "other bytes"
    );
    Ok(format!(
        "n/a: {NAME} has no trailers; signed SHA-256, and told to, CRC64NVME in a header"
    ))
}

async fn multipart(store: &AmazonS3) -> Result<String> {
    let body = bytes(2, LARGE_BYTES);
    let path = Path::from("large");
    let upload = store.put_multipart(&path).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    for piece in body.chunks(1 << 20) {
        writer.wait_for_capacity(AT_ONCE).await?;
        writer.write(piece);
    }
    let done = writer.finish().await?;
    ensure!(
        done.e_tag.as_deref().is_some_and(|t| t.contains("-5")),
        "{done:?}"
    );
    ensure!(get(store, &path).await? == body, "other bytes");
    Ok("ok: 5 parts at once".to_owned())
}

async fn ranges(store: &AmazonS3) -> Result<String> {
    let body = bytes(3, LARGE_BYTES);
    put(store, "ranges", body.clone()).await?;
    let path = &Path::from("ranges");
    let starts = (0..LARGE_BYTES).step_by(PART_BYTES);
    let read: Vec<Bytes> = stream::iter(starts.map(|start| async move {
        let end = (start + PART_BYTES).min(LARGE_BYTES);
        store.get_range(path, start as u64..end as u64).await
    }))
    .buffered(AT_ONCE)
    .try_collect()
    .await?;
    ensure!(read.concat() == body, "other bytes");
    // Its own way to ask for several: what is near is read as one.
    let both = store
        .get_ranges(path, &[0..10, 20 << 20..(20 << 20) + 10])
        .await?;
    ensure!(
        both[0] == body[..10] && both[1] == body[20 << 20..(20 << 20) + 10],
        "other bytes"
    );
    Ok(format!("ok: {} ranges at once, and get_ranges", read.len()))
}

async fn names(store: &AmazonS3, prefix: &str) -> Result<Vec<String>> {
    let found: Vec<_> = store.list(Some(&Path::from(prefix))).try_collect().await?;
    Ok(found.into_iter().map(|o| o.location.to_string()).collect())
}

/// A library without a sync: each file by itself, all of them compared.
async fn sync(store: &AmazonS3) -> Result<String> {
    let tree = tree();
    stream::iter(tree.iter().map(|(key, body)| put(store, key, body.clone())))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let mut expected: Vec<_> = tree
        .iter()
        .map(|(key, _)| Path::from(key.as_str()).to_string())
        .collect();
    expected.sort();
    ensure!(names(store, "tree").await? == expected, "the listing differs");
    for (key, body) in &tree {
        ensure!(
            get(store, &Path::from(key.as_str())).await? == *body,
            "{key}: other bytes"
        );
    }
    Ok(format!(
        "n/a: {NAME} has no sync; {} files each by itself, byte for byte",
        tree.len()
    ))
}

async fn many_keys(store: &AmazonS3) -> Result<String> {
    let keys = many();
    stream::iter(keys.iter().map(|key| put(store, key, key.clone().into_bytes())))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    ensure!(names(store, "many").await? == keys, "the listing differs");
    Ok(format!("ok: {MANY} keys in one stream"))
}

async fn batch_delete(store: &AmazonS3) -> Result<String> {
    let found = store
        .list(Some(&Path::from("many")))
        .map_ok(|o| o.location)
        .boxed();
    let deleted: Vec<_> = store.delete_stream(found).try_collect().await?;
    ensure!(deleted.len() == MANY, "{} deleted", deleted.len());
    ensure!(names(store, "many").await?.is_empty(), "keys are left");
    Ok(format!("ok: {MANY} keys by delete_stream"))
}

async fn odd_keys(store: &AmazonS3) -> Result<String> {
    for key in ODD_KEYS {
        put(store, key, key.as_bytes().to_vec()).await?;
    }
    let listed = names(store, "").await?;
    for key in ODD_KEYS {
        let path = Path::from(key);
        ensure!(
            listed.iter().any(|k| *k == path.to_string()),
            "{key} is not listed"
        );
        ensure!(get(store, &path).await? == key.as_bytes(), "{key}: other bytes");
    }
    Ok(format!("ok: {} keys, as it encodes them", ODD_KEYS.len()))
}

/// Gets `url`, then the same with its last character changed.
pub(crate) async fn fetch_and_falsify(url: &str, body: &[u8]) -> Result<()> {
    let answer = reqwest::get(url).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    ensure!(answer.bytes().await? == body, "other bytes");
    let signature =
        url.find("X-Amz-Signature=").context("no signature in the link")? + "X-Amz-Signature=".len();
    let mut falsified = url.to_owned();
    let changed = if falsified[signature..].starts_with('0') {
        "1"
    } else {
        "0"
    };
    falsified.replace_range(signature..=signature, changed);
    let answer = reqwest::get(falsified).await?;
    ensure!(
        answer.status() == 403,
        "falsified, it answers {}",
        answer.status()
    );
    Ok(())
}

async fn presign(store: &AmazonS3) -> Result<String> {
    let path = Path::from("a b/ü.txt");
    store.put(&path, "for whoever has the link".into()).await?;
    let get = reqwest::Method::GET;
    let url = store.signed_url(get, &path, Duration::from_secs(300)).await?;
    fetch_and_falsify(url.as_str(), b"for whoever has the link").await?;
    Ok("ok: fetched, and refused when falsified".to_owned())
}

/// It reads versions by id; it neither lists them nor turns them on.
async fn versions(endpoint: &Endpoint, sdk: &aws_sdk_s3::Client) -> Result<String> {
    const KEPT: &str = "rust-store-versions";
    sdk.create_bucket().bucket(KEPT).send().await?;
    let on = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let asked = sdk.put_bucket_versioning().bucket(KEPT);
    asked.versioning_configuration(on).send().await?;
    let store = builder(endpoint, KEPT).build()?;
    let path = Path::from("k");
    let first = store.put(&path, "first".into()).await?;
    let second = store.put(&path, "second".into()).await?;
    for (version, text) in [(first.version, "first"), (second.version, "second")] {
        ensure!(version.is_some(), "a put without a version");
        let options = GetOptions {
            version,
            ..GetOptions::default()
        };
        let read = store.get_opts(&path, options).await?.bytes().await?;
        ensure!(read == text, "{read:?} is not {text}");
    }
    store.delete(&path).await?;
    let gone = store.get(&path).await;
    ensure!(matches!(gone, Err(Error::NotFound { .. })), "still there");
    Ok(format!(
        "ok: written and read by id; n/a: {NAME} has no listing of versions"
    ))
}

async fn conditional_put(store: &AmazonS3) -> Result<String> {
    let path = Path::from("once");
    let with = |mode| PutOptions {
        mode,
        ..PutOptions::default()
    };
    let once = async |body: &'static str| {
        let body = PutPayload::from(body);
        store.put_opts(&path, body, with(PutMode::Create)).await
    };
    let first = once("first").await?;
    ensure!(
        matches!(once("second").await, Err(Error::AlreadyExists { .. })),
        "the second was not refused"
    );
    let update = UpdateVersion {
        e_tag: first.e_tag,
        version: first.version,
    };
    let third = store
        .put_opts(&path, "third".into(), with(PutMode::Update(update.clone())))
        .await;
    ensure!(third.is_ok(), "{third:?}");
    let stale = store
        .put_opts(&path, "fourth".into(), with(PutMode::Update(update)))
        .await;
    ensure!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    ensure!(get(store, &path).await? == "third", "other bytes");
    Ok("ok: Create and Update".to_owned())
}
