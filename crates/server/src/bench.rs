//! `cairn bench`: flags into a plan, a report onto stdout.

use crate::config::Span;
use crate::memory::Bytes;
use ::bench::{Credentials, Endpoint, Operation, Payload, Plan};
use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;

/// Objects that reads choose from take no more than this unless --objects says so.
const PREPARED_BYTES: u64 = 1 << 30;
const PREPARED_OBJECTS: u64 = 1000;
/// None at all would be no connection.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

#[derive(Args)]
pub(crate) struct Flags {
    /// Who is asked: http://HOST:PORT or https://...
    endpoint: String,
    /// What each request is.
    #[arg(value_enum)]
    operation: What,
    /// Bytes of an object: 4KiB, 1MiB, 64MiB, 1000.
    #[arg(long, default_value = "4KiB", value_parser = bytes_or_number)]
    size: Bytes,
    /// Bytes of a part of a multipart upload.
    #[arg(long, default_value = "8MiB", value_parser = bytes_or_number)]
    part_size: Bytes,
    /// Connections that ask at the same time, each one request after another.
    #[arg(short, long, default_value_t = 16)]
    concurrency: usize,
    /// How long the clock runs: 15s, 2m.
    #[arg(long, default_value = "15s")]
    duration: Span,
    /// How long it is loaded before.
    #[arg(long, default_value = "1s")]
    warm_up: Span,
    /// A request that is not answered for so long has failed.
    #[arg(long, default_value = "60s")]
    timeout: Span,
    /// Acknowledges what comes at once (TCP_QUICKACK): for servers that wait for it in the middle of an answer.
    #[arg(long)]
    quick_ack: bool,
    /// What signatures say of bodies.
    #[arg(long, value_enum, default_value = "unsigned")]
    payload: Signs,
    /// Objects that reads choose from, and that a listing lists; default: 1,000, and no more than 1 GiB of them.
    #[arg(long)]
    objects: Option<usize>,
    /// The bucket; made if it is not there.
    #[arg(long, default_value = "cairn-bench")]
    bucket: String,
    #[arg(
        long,
        env = "AWS_ACCESS_KEY_ID",
        default_value = "",
        hide_default_value = true
    )]
    access_key: String,
    #[arg(
        long,
        env = "AWS_SECRET_ACCESS_KEY",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    secret_key: String,
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// The server's process, where it runs on this machine: what it takes is told, too.
    #[arg(long)]
    server_pid: Option<u32>,
    /// Leaves the objects there.
    #[arg(long)]
    keep: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// New objects
    Put,
    /// Objects that are there, whole; each is verified
    Get,
    /// Their heads
    Head,
    /// The first page of up to 1,000 keys
    List,
    /// Objects that are there; they are put in between, while the clock stands
    Delete,
    /// 70 gets, 20 puts, 5 heads, 5 deletes
    Mixed,
    /// Whole uploads, part by part
    Multipart,
}

#[derive(Clone, Copy, ValueEnum)]
enum Signs {
    /// Nothing
    Unsigned,
    /// Their SHA-256
    Signed,
    /// Signed frames of 64 KiB
    Streaming,
    /// Frames, and a CRC-32 behind them
    Trailer,
}

/// As other tools take sizes, a number alone is one of bytes.
fn bytes_or_number(text: &str) -> Result<Bytes, String> {
    text.parse::<u64>().map(Bytes).or_else(|_| text.parse())
}

#[allow(clippy::print_stdout, reason = "it is what the command is for")]
pub(crate) fn main(flags: Flags) -> Result<ExitCode> {
    let plan = plan(&flags)?;
    let report = ::bench::run(&plan).map_err(|e| anyhow!("{e}"))?;
    if flags.json {
        println!("{}", serde_json::to_string(&report).context("a report as JSON")?);
    } else {
        print!("{report}");
    }
    Ok(if report.errors + report.left > 0 || report.operations == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn plan(flags: &Flags) -> Result<Plan> {
    let bytes = |n: u64| usize::try_from(n).context("a size that this machine has no memory for");
    let operation = match flags.operation {
        What::Put => Operation::Put,
        What::Get => Operation::Get,
        What::Head => Operation::Head,
        What::List => Operation::List,
        What::Delete => Operation::Delete,
        What::Mixed => Operation::Mixed,
        What::Multipart => Operation::Multipart,
    };
    let usual = (PREPARED_BYTES / flags.size.0.max(1)).clamp(1, PREPARED_OBJECTS);
    Ok(Plan {
        endpoint: Endpoint::parse(&flags.endpoint)?
            .patient(flags.timeout.0.max(TIMEOUT_MIN))
            .quick(flags.quick_ack),
        credentials: Credentials {
            access_key: flags.access_key.clone(),
            secret_key: flags.secret_key.clone(),
            region: flags.region.clone(),
        },
        operation,
        bucket: flags.bucket.clone(),
        size: bytes(flags.size.0)?,
        part_size: bytes(flags.part_size.0)?,
        connections: flags.concurrency,
        duration: flags.duration.0,
        warm_up: flags.warm_up.0,
        payload: match flags.payload {
            Signs::Unsigned => Payload::Unsigned,
            Signs::Signed => Payload::Signed,
            Signs::Streaming => Payload::Streaming,
            Signs::Trailer => Payload::Trailer,
        },
        objects: flags.objects.map_or_else(|| bytes(usual), Ok)?,
        server: flags.server_pid,
        keep: flags.keep,
        progress: !flags.json,
    })
}
