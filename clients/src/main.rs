//! S3 clients in Rust that nobody here wrote, run against an endpoint: `cairn-clients ENDPOINT ACCESS_KEY SECRET_KEY`.
//!
//! The columns are those of the matrix in tests/blackbox/test_matrix.py. A cell is a sentence; one that cannot be filled fails the run. The last
//! line is `N passed, N failed`.

mod sdk;
mod store;
mod suite;
mod table;
mod trees;

use anyhow::{Context, Result};
use std::process::ExitCode;
use table::Table;

/// What every column may need.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

async fn run() -> Result<Table> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what| {
        arguments
            .next()
            .with_context(|| format!("missing argument: {what}"))
    };
    let endpoint = Endpoint {
        url: next("ENDPOINT")?,
        access_key: next("ACCESS_KEY")?,
        secret_key: next("SECRET_KEY")?,
    };
    let mut table = Table::default();
    sdk::columns(&endpoint, &mut table).await?;
    store::columns(&endpoint, &mut table).await?;
    suite::functions(&endpoint, &mut table).await?;
    Ok(table)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(table) if table.finish() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("clients: {e:#}");
            ExitCode::FAILURE
        }
    }
}
