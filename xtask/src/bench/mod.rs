//! `cargo xtask bench-first`: Cairn beside SeaweedFS, the same load from the same generator, in interleaved rounds.
//!
//! A table, no floors: what is measured here is written to docs/BENCHMARKS.md with the command and the machine, and says how each store was set up.
//! Cairn syncs before every answer; SeaweedFS at its defaults does not.

mod load;
mod million;
mod stores;
mod table;

use crate::machine;
use crate::repo::Repo;
use crate::stage::{self, Counts};
use anyhow::{Context, Result};
use load::{Act, Target};
pub(crate) use million::{Size, million};
use std::fs;
use std::time::Duration;
use stores::Store;

/// What to run.
pub(crate) struct Plan {
    /// How often each cell is measured, the stores taking turns.
    pub(crate) rounds: usize,
    /// How long each time.
    pub(crate) seconds: f64,
    /// Whether to write the page.
    pub(crate) write: bool,
}

/// A row of the table.
struct Row {
    what: String,
    act: Act,
    connections: usize,
}

/// What one store did in one row in one round.
#[derive(Clone)]
pub(crate) struct Measured {
    ops_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the server, user and system.
    cpu_us_per_op: f64,
    /// Where the store tells.
    flushes_per_op: Option<f64>,
}

const SIZES: [(usize, &str); 2] = [(4 << 10, "4 KiB"), (1 << 20, "1 MiB")];
const CONNECTIONS: [usize; 2] = [1, 16];
/// Objects of each size that reads choose from.
const PREPARED: usize = 256;
/// Keys of the bucket that is listed.
const LISTED: usize = 1000;

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, acts) in [
        ("put", SIZES.map(|(size, label)| (label, Act::Put { size }))),
        ("get", SIZES.map(|(size, label)| (label, Act::Get { size }))),
    ] {
        for (label, act) in acts {
            for connections in CONNECTIONS {
                let what = format!("{name} {label}, c{connections}");
                rows.push(Row {
                    what,
                    act,
                    connections,
                });
            }
        }
    }
    for (name, act) in [("head", Act::Head), ("list 1,000 keys", Act::List)] {
        for connections in CONNECTIONS {
            let what = format!("{name}, c{connections}");
            rows.push(Row {
                what,
                act,
                connections,
            });
        }
    }
    rows
}

/// Measures and, if asked, writes docs/BENCHMARKS.md.
pub(crate) fn first(repo: &Repo, plan: &Plan) -> Result<Counts> {
    let built = stage::run(repo.cargo(&[
        "build",
        "--release",
        "--package",
        "cairn-server",
        "--bin",
        "cairn",
    ]))?;
    if built.failed > 0 {
        return Ok(built);
    }
    let peers = machine::environment(repo, "bench", &repo.root().join("bench/requirements.txt"))?;
    let dir = repo.target("bench-data");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let cairn = stores::cairn(&repo.target("release/cairn"), &dir)?;
    let weed = stores::seaweedfs(&peers, &dir)?;
    let stores: Vec<Store> = vec![cairn, weed];
    for store in &stores {
        prepare(store).with_context(|| format!("preparing {}", store.name))?;
    }
    let rows = rows();
    let mut measured: Vec<Vec<Vec<Measured>>> = vec![vec![Vec::new(); stores.len()]; rows.len()];
    for round in 0..plan.rounds {
        for (row, cells) in rows.iter().zip(&mut measured) {
            for turn in 0..stores.len() {
                // Who goes first changes, so that nobody always runs on a disk the other has just filled.
                let which = (round + turn) % stores.len();
                let m = measure(&stores[which], row, round, plan.seconds)
                    .with_context(|| format!("{} of {}", row.what, stores[which].name))?;
                println!(
                    "round {} {:<24} {:<10} {:>9.0} ops/s  p50 {:>7.2} ms  p99 {:>7.2} ms  {:>6.0} us cpu",
                    round + 1,
                    row.what,
                    stores[which].name,
                    m.ops_per_second,
                    m.p50_ms,
                    m.p99_ms,
                    m.cpu_us_per_op
                );
                cells[which].push(m);
            }
        }
    }
    let names: Vec<&str> = stores.iter().map(|s| s.name).collect();
    let labels: Vec<&str> = rows.iter().map(|r| r.what.as_str()).collect();
    let text = table::render(&names, &labels, &measured);
    println!("\n{text}");
    if plan.write {
        table::write_page(&repo.root().join("docs/BENCHMARKS.md"), &text, plan, &stores)?;
    }
    drop(stores);
    fs::remove_dir_all(&dir)?;
    Ok(Counts::one(true))
}

fn prepare(store: &Store) -> Result<()> {
    let mut c = load::Connection::open(&store.target)?;
    for bucket in ["bench", "listed"] {
        c.ask("PUT", &format!("/{bucket}"), "", b"")?;
    }
    for (size, _) in SIZES {
        let body = load::body(size);
        for n in 0..PREPARED {
            c.ask("PUT", &format!("/bench/get/{size}/{n}"), "", &body)?;
        }
    }
    for n in 0..LISTED {
        c.ask("PUT", &format!("/listed/key-{n:06}"), "", b"x")?;
    }
    Ok(())
}

fn measure(store: &Store, row: &Row, round: usize, seconds: f64) -> Result<Measured> {
    let target: &Target = &store.target;
    let is_put = matches!(row.act, Act::Put { .. });
    let flushes = || is_put.then(|| store.flushes()).flatten();
    let before = (flushes(), store.cpu()?);
    let ran = load::run(
        target,
        row.act,
        row.connections,
        round,
        Duration::from_secs_f64(seconds),
    )?;
    let after = (store.cpu()?, flushes());
    let ops = ran.latencies_us.len() as f64;
    let at = |share: f64| {
        let last = ran.latencies_us.len().saturating_sub(1);
        ran.latencies_us
            .get((last as f64 * share) as usize)
            .map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    Ok(Measured {
        ops_per_second: ops / ran.took.as_secs_f64(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        cpu_us_per_op: (after.0 - before.1).as_secs_f64() * 1e6 / ops.max(1.0),
        flushes_per_op: Option::zip(before.0, after.1).map(|(b, a)| (a - b) / ops.max(1.0)),
    })
}
