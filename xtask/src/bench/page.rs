//! docs/BENCHMARKS.md: the table, and what each row is held to.

use super::rows::{FLUSHES_MAX, OF_LIMIT, Row};
use super::{Measured, Plan, Results, median, plot};
use crate::stage::Counts;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What stands around the table is written by hand and kept.
const BEGIN: &str = "<!-- written by `cargo xtask bench` -->";
const END: &str = "<!-- end of what is written -->";
const PEERS: [&str; 2] = ["SeaweedFS", "Garage"];

/// What came of one row.
pub(super) struct Verdict {
    pub(super) row: &'static Row,
    /// Operations a second.
    pub(super) cairn: f64,
    /// The faster peer, and its name.
    pub(super) peer: Option<(f64, &'static str)>,
    pub(super) limit: Option<f64>,
    pub(super) files: Option<f64>,
    /// Operations a second that it is held to, if it is.
    pub(super) floor: Option<f64>,
}

impl Verdict {
    pub(super) fn holds(&self) -> bool {
        self.floor.is_none_or(|floor| self.cairn >= floor)
    }

    /// Times the faster peer.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.peer.map(|(peer, _)| self.cairn / peer)
    }
}

/// Of each row what it came to.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    let of = |n: usize, name: &str| {
        let measured = results.cells[n].get(name)?;
        Some(median(measured.iter().map(|m| m.ops_per_second).collect()))
    };
    let verdict = |(n, row): (usize, &&'static Row)| {
        let peers = PEERS.iter().filter_map(|peer| Some((of(n, peer)?, *peer)));
        let peer = peers.max_by(|a, b| a.0.total_cmp(&b.0));
        let (limit, files) = (of(n, "limit"), of(n, "nginx"));
        let by_peer = row.floor.zip(peer).map(|(times, (peer, _))| times * peer);
        let by_files = row.of_files.zip(files).map(|(share, files)| share * files);
        let wanted = by_peer.into_iter().chain(by_files).reduce(f64::max);
        let floor = match (wanted, limit) {
            (Some(wanted), Some(limit)) => Some(wanted.min(OF_LIMIT * limit)),
            _ => wanted,
        };
        Verdict {
            row,
            cairn: of(n, "Cairn").unwrap_or_default(),
            peer,
            limit,
            files,
            floor,
        }
    };
    results.rows.iter().enumerate().map(verdict).collect()
}

fn cell(measured: Option<&Vec<Measured>>) -> String {
    let Some(all) = measured else {
        return " | |".to_owned();
    };
    let of = |field: fn(&Measured) -> f64| median(all.iter().map(field).collect());
    let (mut least, mut most) = (f64::INFINITY, 0_f64);
    for m in all {
        least = least.min(m.ops_per_second);
        most = most.max(m.ops_per_second);
    }
    format!(
        " {} ({} to {}) | {:.2} / {:.2} |",
        figure(of(|m| m.ops_per_second)),
        figure(least),
        figure(most),
        of(|m| m.p50_ms),
        of(|m| m.p99_ms),
    )
}

fn figure(n: f64) -> String {
    if n < 100.0 {
        format!("{n:.1}")
    } else {
        format!("{n:.0}")
    }
}

fn share(of: Option<f64>, cairn: f64) -> String {
    of.map_or(" |".to_owned(), |of| format!(" {:.2} |", cairn / of))
}

fn speeds(results: &Results, verdicts: &[Verdict], out: &mut String) {
    out.push_str("| | Cairn ops/s | p50 / p99 ms | SeaweedFS ops/s | p50 / p99 ms | Garage ops/s | p50 / p99 ms | times the faster peer | of the limit server | of nginx | floor |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n");
    for (n, v) in verdicts.iter().enumerate() {
        let _infallible = write!(out, "| {} |", v.row.what);
        for store in ["Cairn", PEERS[0], PEERS[1]] {
            out.push_str(&cell(results.cells[n].get(store)));
        }
        let ratio = v.ratio().map_or(String::new(), |ratio| format!("**{ratio:.1}**"));
        let _infallible = write!(
            out,
            " {ratio} |{}{}",
            share(v.limit, v.cairn),
            share(v.files, v.cairn)
        );
        let floor = match (v.floor, v.holds()) {
            (None, _) => String::new(),
            (Some(floor), true) => format!("{}: held", figure(floor)),
            (Some(floor), false) => format!("{}: **missed**", figure(floor)),
        };
        let _infallible = writeln!(out, " {floor} |");
    }
}

fn costs(results: &Results, out: &mut String) {
    out.push_str("\n| server's processor | Cairn | SeaweedFS | Garage |\n|---|---:|---:|---:|\n");
    for (row, cells) in results.rows.iter().zip(&results.cells) {
        let is_large = row.size == "64MiB";
        let _infallible = write!(
            out,
            "| {}, {} |",
            row.what,
            if is_large { "s a GiB" } else { "µs each" }
        );
        for store in ["Cairn", PEERS[0], PEERS[1]] {
            let all = cells.get(store).map_or(&[][..], Vec::as_slice);
            let cost = |m: &Measured| {
                if is_large {
                    m.cpu_s_per_gib
                } else {
                    Some(m.cpu_us_per_op)
                }
            };
            let cost = median(all.iter().filter_map(cost).collect());
            let _infallible = write!(out, " {cost:.2} |");
        }
        out.push('\n');
    }
}

fn flushes(results: &Results, out: &mut String) -> Counts {
    let mut counts = Counts::default();
    out.push_str("\nFlushes of the disk an acknowledged put of 4 KiB, by Cairn: ");
    let mut said = Vec::new();
    for (connections, most) in FLUSHES_MAX {
        let is_it = |row: &Row| {
            (row.operation, row.size, row.payload) == ("put", "4KiB", "unsigned")
                && row.connections == connections
        };
        let Some(n) = results.rows.iter().position(|row| is_it(row)) else {
            continue;
        };
        let all = results.cells[n].get("Cairn").map_or(&[][..], Vec::as_slice);
        let measured = median(all.iter().filter_map(|m| m.flushes_per_op).collect());
        counts += Counts::one(measured <= most);
        said.push(format!("{measured:.2} at c{connections} (at most {most})"));
    }
    let _infallible = writeln!(out, "{}.", said.join(", "));
    counts
}

/// What is written between the marks, and what of it is held.
pub(super) fn render(results: &Results, plan: &Plan) -> (String, Counts) {
    let mut out = format!(
        "`cargo xtask bench --rounds {} --seconds {}`: medians of {} interleaved rounds of {} s each, least and most in parentheses.\n\n- machine: {}\n",
        plan.rounds,
        plan.seconds,
        plan.rounds,
        plan.seconds,
        machine()
    );
    for (name, about, syncs, resident) in &results.stores {
        let resident = resident.map_or(String::new(), |bytes| {
            format!("; {} MiB in memory afterwards", bytes >> 20)
        });
        let _infallible = writeln!(out, "- {name}: {about}; syncs: {syncs}{resident}");
    }
    out.push_str("\n![times the faster peer](benchmarks.svg)\n\n");
    let verdicts = verdicts(results);
    let mut counts = Counts::default();
    for v in verdicts.iter().filter(|v| v.floor.is_some()) {
        counts += Counts::one(v.holds());
    }
    speeds(results, &verdicts, &mut out);
    costs(results, &mut out);
    counts += flushes(results, &mut out);
    let first = results.first_answer_ms;
    counts += Counts::one(first <= 100.0);
    let _infallible = writeln!(
        out,
        "\nFirst request served {first:.0} ms after the start on an empty directory (at most 100)."
    );
    (out, counts)
}

/// Puts the page's part and the plot into `docs`.
pub(super) fn write(docs: &Path, results: &Results, text: &str) -> Result<()> {
    let page = docs.join("BENCHMARKS.md");
    let old = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let (before, rest) = old
        .split_once(BEGIN)
        .with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    fs::write(&page, format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))?;
    fs::write(docs.join("benchmarks.svg"), plot::svg(&verdicts(results)))?;
    Ok(())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), Linux {}; stores and load generator share them",
        model.map_or("", |(_, model)| model),
        kernel.trim()
    )
}
