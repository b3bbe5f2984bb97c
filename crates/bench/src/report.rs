//! What a run came to.

use crate::plan::{Operation, Payload};
use serde::Serialize;
use std::fmt;

/// What a run came to. Times are of the clock from a request's first byte to its answer's last.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked.
    pub operation: Operation,
    /// Bytes of an object.
    pub size: usize,
    /// Connections.
    pub connections: usize,
    /// What signatures said of bodies.
    pub payload: Payload,
    /// How long the clock ran.
    pub seconds: f64,
    /// Operations that ended well while it did.
    pub operations: u64,
    /// Those that did not.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Operations a second.
    pub ops_per_second: f64,
    /// Bytes of objects a second, in units of 2^20.
    pub mib_per_second: f64,
    /// Half were not slower, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were not slower.
    pub p99_ms: f64,
    /// 999 of 1,000 were not slower.
    pub p999_ms: f64,
    /// The slowest, or what had been under way for longest when the clock stopped.
    pub max_ms: f64,
    /// Bucket and beginning of the names of this run's objects.
    pub place: String,
    /// Of them, and of uploads, how many could not be removed.
    pub left: u64,
    /// Processor time of this program an operation, in microseconds.
    pub client_cpu_us_per_op: Option<f64>,
    /// Of the server, where its process is known.
    pub server: Option<ServerReport>,
}

/// What the server took.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// Processor time an operation, in microseconds.
    pub cpu_us_per_op: f64,
    /// Processor time for 2^30 bytes of objects, in seconds.
    pub cpu_s_per_gib: Option<f64>,
    /// Bytes in memory when the clock stopped.
    pub resident_bytes: u64,
    /// The most that ever were.
    pub resident_peak_bytes: u64,
    /// Flushes of this machine's disks an operation.
    pub flushes_per_op: Option<f64>,
}

/// 4096 as `4KiB`.
pub(crate) fn size_text(bytes: usize) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} c{} {}, {:.1} s: {:.0} ops/s, {:.1} MiB/s, {} errors",
            self.operation.name(),
            size_text(self.size),
            self.connections,
            self.payload.name(),
            self.seconds,
            self.ops_per_second,
            self.mib_per_second,
            self.errors
        )?;
        writeln!(
            f,
            "latency: p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
            self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        if let Some(cpu) = self.client_cpu_us_per_op {
            writeln!(f, "client: {cpu:.1} us of processor an operation")?;
        }
        if let Some(server) = &self.server {
            write!(
                f,
                "server: {:.1} us of processor an operation",
                server.cpu_us_per_op
            )?;
            if let Some(s) = server.cpu_s_per_gib {
                write!(f, ", {s:.2} s a GiB")?;
            }
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            write!(
                f,
                ", {:.0} MiB resident (peak {:.0})",
                mib(server.resident_bytes),
                mib(server.resident_peak_bytes)
            )?;
            if let Some(flushes) = server.flushes_per_op {
                write!(f, ", {flushes:.3} disk flushes an operation")?;
            }
            writeln!(f)?;
        }
        if self.left > 0 {
            writeln!(f, "{} objects or uploads stay in {}", self.left, self.place)?;
        }
        if let Some(error) = &self.first_error {
            writeln!(f, "first error: {error}")?;
        }
        Ok(())
    }
}
