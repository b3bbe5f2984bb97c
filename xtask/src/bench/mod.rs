//! `cargo xtask bench`: Cairn beside its peers and beside what the machine can do, the same load from `cairn bench`, in interleaved rounds.
//!
//! The peers are installed: SeaweedFS from PyPI, Garage by `cargo install`, nginx from Debian. nginx over static files is the limit of a GET; the
//! limit of what is synced is a server of ours that only appends and syncs (crates/bench/examples/limit.rs), begun anew for each time that it is
//! measured, so that it always writes where zeros were written before. docs/BENCHMARKS.md has the medians and, of Cairn and the peers, the spread.

mod load;
mod million;
mod page;
mod plot;
mod rows;
mod stores;

use crate::machine;
use crate::repo::Repo;
use crate::stage::{self, Counts};
use anyhow::{Context, Result, ensure};
pub(crate) use million::{Size, million};
use rows::{ROWS, Row, Shown};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stores::{BUCKET, Store};

/// What to run.
pub(crate) struct Plan {
    /// How often each cell is measured, the stores taking turns.
    pub(crate) rounds: usize,
    /// How long each time.
    pub(crate) seconds: u64,
    /// Rows whose name has this in it.
    pub(crate) only: String,
    /// Whether to write the page.
    pub(crate) write: bool,
}

const GARAGE_VERSION: &str = "2.5.0";
const STARTS: usize = 5;

/// What one store did in one row in one round.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    ops_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the server, user and system.
    cpu_us_per_op: f64,
    cpu_s_per_gib: Option<f64>,
    flushes_per_op: Option<f64>,
}

/// Of each row, by the store's name, what it did in each round.
pub(crate) type Cells = Vec<BTreeMap<&'static str, Vec<Measured>>>;

/// All that was measured.
pub(crate) struct Results {
    rows: Vec<&'static Row>,
    cells: Cells,
    /// Name, what it is, when it syncs, bytes in memory when all was over.
    stores: Vec<(&'static str, String, &'static str, Option<u64>)>,
    /// From its start to the first answer of Cairn on an empty directory, in milliseconds.
    first_answer_ms: f64,
}

/// What is measured with.
struct Bench<'a> {
    repo: &'a Repo,
    plan: &'a Plan,
    cairn: PathBuf,
    limit: PathBuf,
    dir: PathBuf,
}

/// Measures and, if asked, writes docs/BENCHMARKS.md.
pub(crate) fn bench(repo: &Repo, plan: &Plan) -> Result<Counts> {
    let limit = [
        "build",
        "--release",
        "--package",
        "cairn-bench",
        "--example",
        "limit",
    ];
    for build in [repo.released(), repo.cargo(&limit)] {
        let built = stage::run(build)?;
        if built.failed > 0 {
            return Ok(built);
        }
    }
    let dir = repo.target("bench-data");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let bench = Bench {
        repo,
        plan,
        cairn: repo.target("release/cairn"),
        limit: repo.target("release/examples/limit"),
        dir,
    };
    let results = bench.results()?;
    fs::remove_dir_all(&bench.dir)?;
    let (text, counts) = page::render(&results, plan);
    println!("\n{text}");
    if plan.write {
        page::write(&repo.root().join("docs"), &results, &text)?;
    }
    Ok(counts)
}

impl Bench<'_> {
    fn results(&self) -> Result<Results> {
        let python = machine::environment(
            self.repo,
            "bench",
            &self.repo.root().join("bench/requirements.txt"),
        )?;
        machine::programs(&[("nginx", "nginx-light")])?;
        let garage = machine::cargo_installed(self.repo, "garage", GARAGE_VERSION)?;
        let first_answer_ms = self.first_answer_ms()?;
        let mut stores = vec![
            stores::cairn(&self.cairn, &self.dir)?,
            stores::seaweedfs(&python, &self.dir)?,
            stores::garage(&garage, &self.dir)?,
            stores::files(&self.dir)?,
        ];
        let rows: Vec<&Row> = ROWS.iter().filter(|r| r.what.contains(&self.plan.only)).collect();
        let mut cells: Cells = vec![BTreeMap::new(); rows.len()];
        let mut about: Vec<_> = stores
            .iter()
            .map(|s| (s.name, s.about.clone(), s.syncs))
            .collect();
        for round in 0..self.plan.rounds {
            for (row, cells) in rows.iter().zip(&mut cells) {
                for turn in 0..stores.len() {
                    // Who goes first changes, so that nobody always runs on a disk the other has just filled.
                    let store = &stores[(round + turn) % stores.len()];
                    if store.name != "nginx" || row.shown == Shown::Files {
                        self.measure(store, row, cells)?;
                    }
                }
                if row.shown == Shown::Limit {
                    let limit = stores::limit(&self.limit, &self.dir)?;
                    self.measure(&limit, row, cells)?;
                    if about.iter().all(|(name, ..)| *name != limit.name) {
                        about.push((limit.name, limit.about.clone(), limit.syncs));
                    }
                }
            }
        }
        let resident = |name| {
            let store = stores.iter().find(|s| s.name == name)?;
            store.resident().ok()
        };
        let told = about
            .into_iter()
            .map(|(name, about, syncs)| (name, about, syncs, resident(name)))
            .collect();
        stores.clear();
        Ok(Results {
            rows,
            cells,
            stores: told,
            first_answer_ms,
        })
    }

    fn first_answer_ms(&self) -> Result<f64> {
        let mut took = Vec::new();
        for n in 0..STARTS {
            let dir = self.dir.join(format!("start-{n}"));
            fs::create_dir_all(&dir)?;
            let begun = Instant::now();
            let store = stores::cairn_begun(&self.cairn, &dir)?;
            let first = stores::first_answer(&store, "PUT", "/first", Duration::from_secs(60))?;
            took.push(first.duration_since(begun).as_secs_f64() * 1e3);
        }
        Ok(median(took))
    }

    fn measure(
        &self,
        store: &Store,
        row: &Row,
        cells: &mut BTreeMap<&'static str, Vec<Measured>>,
    ) -> Result<()> {
        let mut c = self.repo.command(&self.cairn);
        c.args([
            "bench",
            &format!("http://127.0.0.1:{}", store.target.port),
            row.operation,
        ])
        .args(["--size", row.size, "--payload", row.payload, "--bucket", BUCKET])
        .args(["-c", &row.connections.to_string()])
        .args([
            "--duration",
            &format!("{}s", self.plan.seconds),
            "--warm-up",
            "2s",
        ])
        .args(["--server-pid", &store.pid().to_string(), "--json"])
        .env("AWS_ACCESS_KEY_ID", &store.target.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.target.secret_key);
        if store.name == "Garage" {
            // It waits for it in the middle of an answer.
            c.arg("--quick-ack");
        }
        let what = || format!("{} of {}", row.what, store.name);
        let out = c.output().with_context(what)?;
        let told = String::from_utf8_lossy(&out.stderr);
        let report: Value =
            serde_json::from_slice(&out.stdout).with_context(|| format!("{}: {told}", what()))?;
        ensure!(out.status.success(), "{}: {report}", what());
        let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_f64);
        let server = report.get("server").unwrap_or(&Value::Null);
        let m = Measured {
            ops_per_second: number(&report, "ops_per_second").with_context(what)?,
            p50_ms: number(&report, "p50_ms").with_context(what)?,
            p99_ms: number(&report, "p99_ms").with_context(what)?,
            cpu_us_per_op: number(server, "cpu_us_per_op").unwrap_or_default(),
            cpu_s_per_gib: number(server, "cpu_s_per_gib"),
            flushes_per_op: number(server, "flushes_per_op"),
        };
        println!(
            "{:<26} {:<10} {:>9.0} ops/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>7.0} us cpu",
            row.what, store.name, m.ops_per_second, m.p50_ms, m.p99_ms, m.cpu_us_per_op
        );
        cells.entry(store.name).or_default().push(m);
        Ok(())
    }
}

/// The middle one.
pub(crate) fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v.get(v.len() / 2).copied().unwrap_or(0.0)
}
