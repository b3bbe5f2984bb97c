//! object_store's own integration suite, as its authors run it against S3.
//!
//! Its functions panic where something is wrong: each runs as a task of its own, and a panic is its failure.

use crate::Endpoint;
use crate::store::builder;
use crate::table::Table;
use anyhow::{Result, anyhow};
use object_store::aws::{AmazonS3, Checksum};
use object_store::integration as suite;
use object_store::path::Path;
use object_store::{Error, ObjectStore};
use std::sync::Arc;

const BUCKET: &str = "rust-suite";

/// Every function that the suite exposes and runs against S3.
pub(crate) async fn functions(endpoint: &Endpoint, table: &mut Table) -> Result<()> {
    let sdk = crate::sdk::client(endpoint, crate::sdk::Sent::default());
    sdk.create_bucket().bucket(BUCKET).send().await?;
    let store = Arc::new(builder(endpoint, BUCKET).build()?);
    macro_rules! run {
        ($($name:ident($($more:expr),*)),* $(,)?) => {
            $({
                let store = Arc::clone(&store);
                let task = tokio::spawn(async move { suite::$name(&*store, $($more(&store)),*).await });
                table.other(concat!("object_store::integration::", stringify!($name)), ended(task.await));
            })*
        };
    }
    fn itself(store: &AmazonS3) -> &AmazonS3 {
        store
    }
    fn yes(_: &AmazonS3) -> bool {
        true
    }
    run!(
        put_get_delete_list(),
        list_with_offset_exclusivity(),
        get_opts(),
        list_uses_directories_correctly(),
        list_with_delimiter(),
        rename_and_copy(),
        copy_if_not_exists(),
        copy_rename_nonexistent_object(),
        stream_get(),
        multipart(itself),
        multipart_with_opts(itself),
        multipart_put_part_out_of_order(itself),
        multipart_race_condition(yes),
        multipart_out_of_order(),
        put_get_attributes(),
        list_paginated(itself),
        put_opts(yes),
    );
    for (name, store) in [
        (
            "put_get_delete_list, unsigned payload",
            builder(endpoint, BUCKET).with_unsigned_payload(true),
        ),
        (
            "put_get_delete_list, SHA256",
            builder(endpoint, BUCKET).with_checksum_algorithm(Checksum::SHA256),
        ),
        (
            "put_get_delete_list, CRC64NVME",
            builder(endpoint, BUCKET).with_checksum_algorithm(Checksum::CRC64NVME),
        ),
    ] {
        let store = store.build()?;
        let task = tokio::spawn(async move { suite::put_get_delete_list(&store).await });
        table.other(name, ended(task.await));
    }
    table.other(
        "object_store: nothing where nothing is",
        nowhere(endpoint, &store).await,
    );
    Ok(())
}

fn ended(joined: Result<(), tokio::task::JoinError>) -> Result<()> {
    joined.map_err(|e| match e.try_into_panic() {
        Ok(panic) => anyhow!(
            "{}",
            panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("panicked")
        ),
        Err(e) => anyhow!(e),
    })
}

/// No key and no bucket are both NotFound.
async fn nowhere(endpoint: &Endpoint, store: &AmazonS3) -> Result<()> {
    let path = Path::from("nonexistentname");
    let missing = suite::get_nonexistent_object(store, Some(path.clone())).await;
    anyhow::ensure!(
        matches!(missing, Err(Error::NotFound { .. })),
        "no key: {missing:?}"
    );
    let other = builder(endpoint, "nonexistentname").build()?;
    let missing = other.get_opts(&path, Default::default()).await;
    anyhow::ensure!(
        matches!(missing, Err(Error::NotFound { .. })),
        "no bucket: {missing:?}"
    );
    Ok(())
}
