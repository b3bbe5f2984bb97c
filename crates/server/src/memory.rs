//! How the setting `memory` is divided (docs/operating, "Memory", has the arithmetic).

use anyhow::{Context, bail};
use index::{IndexRole, Rested};
use serde::Deserialize;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use store::Embedded;
use tokio::sync::mpsc::error::TrySendError;
use types::JournalSeq;
use types::limits::{
    CONNECTION_AWAKE_BYTES, CONNECTION_IDLE_BYTES, CONNECTION_SECURE_BYTES, CONNECTIONS_MAX,
    INDEX_CACHE_BYTES_MAX, ROW_CACHE_BYTES_MAX, WRITE_BEHIND_REST_MS,
};
use world::{Budget, Clock, Loop, World};

/// The least that a store works in: what is the same for every budget (the journal's queue and buffers, rows that wait for the index files) is up
/// to 88 MiB of it.
const BYTES_MIN: u64 = 256 << 20;
/// What is taken at most unless it is said: a quarter of what the machine, the container or the service has.
const BYTES_UNSAID_MAX: u64 = 512 << 20;

/// A number of bytes as an operator writes it: `512MiB`, `4GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(format!("{text:?} is not a number with B, KiB, MiB or GiB")),
        };
        let number = number.parse::<u64>().ok();
        let bytes = number.and_then(|n| n.checked_mul(1 << shift));
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a number of bytes"))
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What each part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes of objects, pages and documents on their way: a half.
    pub(crate) requests: u64,
    /// Connections on which something has come: an eighth.
    pub(crate) connections: u64,
    /// How many connections an eighth is enough for while nothing comes on them.
    pub(crate) connections_max: usize,
    /// Pages of an index file: a thirty-second.
    pub(crate) index_cache: usize,
    /// Rows of a partition: a sixty-fourth.
    pub(crate) row_cache: usize,
}

impl Memory {
    /// Divides so many bytes; secure connections cost more.
    pub(crate) fn divide(bytes: u64, is_secure: bool) -> anyhow::Result<Self> {
        if bytes < BYTES_MIN {
            bail!(
                "memory is {} KiB: a store needs {} MiB",
                bytes >> 10,
                BYTES_MIN >> 20
            );
        }
        let idle = match is_secure {
            true => CONNECTION_SECURE_BYTES,
            false => CONNECTION_IDLE_BYTES,
        };
        let share = |part: u64| usize::try_from(bytes / part).unwrap_or(usize::MAX);
        Ok(Self {
            requests: bytes / 2,
            connections: (bytes / 8).max(CONNECTION_AWAKE_BYTES as u64),
            connections_max: (share(8) / idle).min(CONNECTIONS_MAX),
            index_cache: share(32).min(INDEX_CACHE_BYTES_MAX),
            row_cache: share(64).min(ROW_CACHE_BYTES_MAX),
        })
    }

    /// Says so where there is hardly as much memory as it may come to.
    pub(crate) fn warn_of_little(self) {
        let wanted = self.requests * 2 / 4 * 5;
        match there() {
            Ok(there) if there < wanted => {
                tracing::warn!(
                    there,
                    wanted,
                    "there is less memory than the store may come to: it may be killed"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "how much memory there is cannot be told"),
        }
    }

    /// The budgets of requests and of connections.
    pub(crate) fn budgets(self, clock: &Arc<dyn Clock>) -> (Arc<Budget>, Arc<Budget>) {
        (
            Budget::new("requests", self.requests, clock.clone()),
            Budget::new("connections", self.connections, clock.clone()),
        )
    }
}

/// How long after a start what was replayed stays in memory.
const SETTLE_MS: u64 = 1_000;

/// Gives up what a store need not have in memory; for as long as it is polled.
pub(crate) async fn tend(world: World, store: Arc<Embedded>, index: Arc<IndexRole>) -> Infallible {
    // Rows are freed one by one: not where requests are served.
    let (free, _ends_with_us) = world.exec.run_loop("free-rows", 1, 1, Freed);
    let opened = store.at_rest(JournalSeq::default());
    let (mut before, mut last) = (opened, opened);
    let mut rows = Vec::new();
    // Who asks for something at once goes first.
    world.clock.sleep(Duration::from_millis(SETTLE_MS)).await;
    store.settle(opened);
    loop {
        let pause = Duration::from_millis(WRITE_BEHIND_REST_MS / 2);
        world.clock.sleep(pause).await;
        (before, last) = (last, store.at_rest(before));
        rows.extend(index.rest());
        store.rest();
        if !rows.is_empty() {
            rows = match free.try_send(rows) {
                Ok(()) => Vec::new(),
                // It is still at it.
                Err(TrySendError::Full(rows) | TrySendError::Closed(rows)) => rows,
            };
        }
    }
}

struct Freed;

impl Loop<Vec<Rested>> for Freed {
    fn apply(&mut self, rows: &mut Vec<Vec<Rested>>) {
        rows.clear();
    }
}

/// What the store has unless it is said.
pub(crate) fn unsaid() -> anyhow::Result<u64> {
    there().map(unsaid_of)
}

/// What the machine has, or the container or service may have.
fn there() -> anyhow::Result<u64> {
    let machine = machine()?;
    Ok(cgroup().map_or(machine, |bound| bound.min(machine)))
}

/// The same where there is so much.
fn unsaid_of(there: u64) -> u64 {
    (there / 4).clamp(BYTES_MIN, BYTES_UNSAID_MAX)
}

#[allow(clippy::disallowed_methods, reason = "the machine, before there is a world")]
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What the container, or the service, may have, if it is bounded.
fn cgroup() -> Option<u64> {
    let own = read("/proc/self/cgroup").unwrap_or_default();
    // The older form says "no bound" as a number that no machine has.
    let bounds = bound_files(&own)
        .into_iter()
        .filter_map(|path| read(&path)?.trim().parse::<u64>().ok());
    bounds.filter(|bytes| *bytes < 1 << 60).min()
}

/// The files that bound a process whose `/proc/self/cgroup` reads so: those of its own group, and of all around it.
fn bound_files(own: &str) -> Vec<String> {
    let mut files = vec![
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let names = group
        .into_iter()
        .flat_map(|path| path.split('/'))
        .filter(|name| !name.is_empty());
    let mut at = "/sys/fs/cgroup".to_owned();
    for name in names {
        at = format!("{at}/{name}");
        files.push(format!("{at}/memory.max"));
    }
    files
}

fn machine() -> anyhow::Result<u64> {
    let text = read("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(number.context("MemTotal in /proc/meminfo")? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_numbers_with_a_unit() {
        for (text, bytes) in [("512MiB", 512 << 20), ("4GiB", 4 << 30), ("0KiB", 0)] {
            assert_eq!(text.parse::<Bytes>().unwrap().0, bytes);
        }
        for text in ["", "512", "512MB", "1.5GiB", "-1MiB", "99999999999999GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_unsaid_fits_what_there_is() {
        for (there_mib, mib) in [(64, 256), (512, 256), (1024, 256), (1600, 400), (1 << 20, 512)] {
            assert_eq!(unsaid_of(there_mib << 20), mib << 20, "of {there_mib} MiB");
        }
        let files = bound_files("0::/system.slice/cairn.service\n");
        assert_eq!(
            files[2..],
            [
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/system.slice/cairn.service/memory.max"
            ]
        );
        assert_eq!(bound_files("3:memory:/x\n0::/\n").len(), 2);
    }

    #[test]
    fn the_parts_are_no_more_than_the_whole() {
        for mib in [256, 512, 4096, 1 << 20] {
            let bytes: u64 = mib << 20;
            for is_secure in [false, true] {
                let m = Memory::divide(bytes, is_secure).unwrap();
                let idle = match is_secure {
                    true => CONNECTION_SECURE_BYTES,
                    false => CONNECTION_IDLE_BYTES,
                };
                let sum = m.requests
                    + m.connections
                    + (m.connections_max * idle) as u64
                    + (2 * m.index_cache + 2 * m.row_cache) as u64;
                assert!(sum <= bytes / 8 * 7, "{m:?}");
            }
        }
        assert!(Memory::divide(BYTES_MIN - 1, false).is_err());
        let least = unsaid().unwrap();
        assert!(Memory::divide(least, true).is_ok());
    }
}
