//! docs/BENCHMARKS.md: the tables, and what of them is held.

use super::ledger::Kept;
use super::rows::{PEERS, ROWS, Row, Who};
use super::verdict::{By, Floor, GOAL, Verdict, median};
use super::{Plan, costs, plot};
use crate::stage::Counts;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What stands around the table is written by hand and kept.
const BEGIN: &str = "<!-- written by `cargo xtask bench` -->";
const END: &str = "<!-- end of what is written -->";
/// Nobody reads more of an error.
pub(super) const TOLD_CHARS: usize = 160;
/// Of a SHA-256.
const HASH_CHARS: usize = 12;
pub(super) const STORES: [Who; 3] = [Who::Cairn, PEERS[0], PEERS[1]];

/// All that the page tells.
pub(super) struct Page<'a> {
    pub(super) plan: &'a Plan,
    pub(super) rows: &'a [&'static Row],
    pub(super) kept: &'a Kept,
}

/// Operations a second: the middle one, the least and the most, and how many where that is not all of them.
fn operations(kept: &Kept, row: &Row, who: Who) -> Option<String> {
    let all = kept.figures(row, who, |m| Some(m.ops_per_second));
    let middle = median(all.clone())?;
    let (least, most) = (
        all.iter().copied().reduce(f64::min)?,
        all.iter().copied().reduce(f64::max)?,
    );
    let few = if all.len() < kept.rounds {
        format!("; {} of {} rounds", all.len(), kept.rounds)
    } else {
        String::new()
    };
    Some(format!(
        "{} ({} to {}{few})",
        figure(middle),
        figure(least),
        figure(most)
    ))
}

fn cell(kept: &Kept, row: &Row, who: Who) -> String {
    let Some(operations) = operations(kept, row, who) else {
        return " | |".to_owned();
    };
    let of = |times: Vec<f64>| median(times).unwrap_or_default();
    format!(
        " {operations} | {:.2} / {:.2} |",
        of(kept.figures(row, who, |m| Some(m.p50_ms))),
        of(kept.figures(row, who, |m| Some(m.p99_ms))),
    )
}

/// What the limit of a row came to, and how much of it Cairn did.
fn limit_cell(kept: &Kept, v: &Verdict) -> String {
    let (who, share) = match v.limit {
        Some(_) => (Who::Limit, v.of_limit()),
        None => (Who::Nginx, v.of_files()),
    };
    match operations(kept, v.row, who) {
        Some(operations) => format!(" {}: {operations} | {} |", who.name(), told(share)),
        None => " | |".to_owned(),
    }
}

pub(super) fn figure(n: f64) -> String {
    if n < 100.0 {
        format!("{n:.1}")
    } else {
        format!("{n:.0}")
    }
}

fn told(n: Option<f64>) -> String {
    n.map_or(String::new(), |n| format!("{n:.2}"))
}

fn by(by: By) -> String {
    match by {
        By::Peer(times, who) => format!("{times} × {}", who.name()),
        By::Files(share) => format!("{share} × nginx"),
        By::Limit => format!("{} × limit", super::rows::OF_LIMIT),
    }
}

fn floor_text(v: &Verdict) -> String {
    let what = match v.floor {
        Some(Floor { ops, by: of, other }) => {
            let other = other.map_or(String::new(), |(ops, of)| {
                format!("; {}: {}", by(of), figure(ops))
            });
            format!("**{}** ({}{other})", figure(ops), by(of))
        }
        None if v.row.floor.is_some() => "no peer was measured".to_owned(),
        None => return String::new(),
    };
    let doubt = if v.doubts_limit() { ", limit in doubt" } else { "" };
    let missing = if v.missing.is_empty() {
        String::new()
    } else {
        let names: Vec<&str> = v.missing.iter().map(|who| who.name()).collect();
        format!(" (not measured in most rounds: {})", names.join(", "))
    };
    let verdict = if v.holds() { "held" } else { "**missed**" };
    format!("{what}: {verdict}{doubt}{missing}")
}

/// Of Cairn and its peers: requests that failed in all rounds, and rounds that came to nothing.
fn errors(kept: &Kept, row: &Row) -> String {
    let of = |who| {
        let (mut errors, mut lost) = (0, 0);
        for c in kept.cells(row, who) {
            errors += c.measured.as_ref().map_or(0, |m| m.errors);
            lost += u64::from(c.measured.is_none());
        }
        if lost == 0 {
            errors.to_string()
        } else {
            format!("{errors} (lost rounds: {lost})")
        }
    };
    STORES.map(of).join(" / ")
}

fn speeds(page: &Page<'_>, verdicts: &[Verdict], out: &mut String) {
    out.push_str("| | Cairn ops/s | p50 / p99 ms | SeaweedFS ops/s | p50 / p99 ms | Garage ops/s | p50 / p99 ms | times the faster peer | of 10 × the faster peer | the limit itself, ops/s | of the limit itself | floor, ops/s | errors: Cairn / SeaweedFS / Garage |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|---|---|\n");
    for v in verdicts {
        let _infallible = write!(out, "| {} |", v.row.what);
        for who in STORES {
            out.push_str(&cell(page.kept, v.row, who));
        }
        let ratio = v.ratio().map_or(String::new(), |ratio| format!("**{ratio:.1}**"));
        let _infallible = writeln!(
            out,
            " {ratio} | {} |{} {} | {} |",
            told(v.of_goal()),
            limit_cell(page.kept, v),
            floor_text(v),
            errors(page.kept, v.row)
        );
    }
    let _infallible = writeln!(
        out,
        "\nThe goal beyond the floors is {GOAL} times the faster peer, and the limit itself: 1.00 would be there. A floor is so many times the faster \
         peer or, where that lies above it, 0.6 of the limit server; the other of the two stands behind it. Of the limit server the best round counts: \
         what stalls it is no limit."
    );
    for v in verdicts.iter().filter(|v| v.doubts_limit()) {
        let _infallible = writeln!(
            out,
            "\nLimit in doubt: {}, where Cairn comes to {} of the limit server, and one that does less should do more. It lowers no floor: the peer's \
             counts alone.",
            v.row.what,
            told(v.of_limit())
        );
    }
}

fn failures(page: &Page<'_>, out: &mut String) {
    let mut any = false;
    for row in page.rows {
        for who in row.parties() {
            let Some((round, why)) = page
                .kept
                .cells(row, who)
                .find_map(|c| Some((c.round, c.why.as_ref()?)))
            else {
                continue;
            };
            if !any {
                out.push_str("\nWhat went wrong, the first of each:\n\n");
                any = true;
            }
            let why: String = why
                .replace(['\n', '|', '`'], " ")
                .chars()
                .take(TOLD_CHARS)
                .collect();
            let _infallible = writeln!(
                out,
                "- {}, {}, round {}: `{why}`",
                row.what,
                who.name(),
                round + 1
            );
        }
    }
}

fn parties(page: &Page<'_>, out: &mut String) {
    for who in [Who::Cairn, PEERS[0], PEERS[1], Who::Nginx, Who::Limit] {
        let all = page.rows.iter().flat_map(|row| page.kept.cells(row, who));
        if let Some(c) = all.into_iter().find(|c| !c.about.is_empty()) {
            let _infallible = writeln!(out, "- {}: {}; syncs: {}", who.name(), c.about, c.syncs);
        }
    }
}

/// What it was, when, of what.
fn head(page: &Page<'_>, out: &mut String) {
    let Plan { rounds, seconds, .. } = page.plan;
    let _infallible = writeln!(
        out,
        "`{}`: medians of {rounds} rounds of {seconds} s each, least and most in parentheses. The stores take turns in each row, each begun anew on an \
         empty directory and alone on the machine.\n",
        page.plan.command()
    );
    if let Some((first, last)) = page.kept.dates() {
        let _infallible = writeln!(out, "- measured: {first} to {last}");
    }
    if page.kept.runs.len() > 1 {
        let runs = page.kept.runs.iter();
        let runs: Vec<String> = runs.map(|r| format!("{} `{}`", r.at, r.command)).collect();
        let _infallible = writeln!(
            out,
            "- put together of {} runs of the same programs, each going on where the one before was stopped: {}",
            runs.len(),
            runs.join(", ")
        );
    }
    if let Some(begun) = &page.kept.begun {
        let hash: String = begun.cairn.chars().take(HASH_CHARS).collect();
        let _infallible = writeln!(
            out,
            "- of: commit {}; SHA-256 of `cairn`: {hash}…\n- machine: {}",
            begun.commit, begun.machine
        );
    }
}

/// What there are no figures of.
fn not_measured(page: &Page<'_>, out: &mut String) {
    let rows = ROWS.iter().filter_map(|row| {
        let lacks = |who: &Who| page.kept.cells(row, *who).next().is_none();
        let lacking: Vec<Who> = row.parties().into_iter().filter(lacks).collect();
        let names: Vec<&str> = lacking.iter().map(|who| who.name()).collect();
        match lacking.len() {
            0 => None,
            n if n == row.parties().len() => Some(row.what.to_owned()),
            _ => Some(format!("{} ({})", row.what, names.join(", "))),
        }
    });
    let rows: Vec<String> = rows.collect();
    if !rows.is_empty() {
        let _infallible = writeln!(out, "\nNot measured: {}.", rows.join("; "));
    }
}

impl Page<'_> {
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        self.rows.iter().map(|row| Verdict::of(row, self.kept)).collect()
    }

    /// What is written between the marks, and what of it is held.
    pub(super) fn render(&self) -> (String, Counts) {
        let mut out = String::new();
        head(self, &mut out);
        parties(self, &mut out);
        out.push_str("\n![times the faster peer](benchmarks.svg)\n\n");
        let verdicts = self.verdicts();
        let mut counts = Counts::default();
        for v in verdicts.iter().filter(|v| v.row.floor.is_some() || !v.holds()) {
            counts += Counts::one(v.holds());
        }
        speeds(self, &verdicts, &mut out);
        not_measured(self, &mut out);
        failures(self, &mut out);
        costs::costs(self, &mut out);
        counts += costs::held_flushes(self, &mut out);
        costs::memory(self, &mut out);
        counts += costs::first_answer(self, &mut out);
        counts += costs::second_clients(self, &mut out);
        (out, counts)
    }

    /// Puts the page's part and the plot into `docs`.
    pub(super) fn write(&self, docs: &Path, text: &str) -> Result<()> {
        let page = docs.join("BENCHMARKS.md");
        let old = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        let (before, rest) = old
            .split_once(BEGIN)
            .with_context(|| format!("no line {BEGIN}"))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
        fs::write(&page, format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))?;
        fs::write(docs.join("benchmarks.svg"), plot::svg(&self.verdicts()))?;
        Ok(())
    }
}

/// Processor and kernel.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({}), Linux {}; store and load generator share them",
        model.map_or("", |(_, model)| model),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{begun, cell, kept};
    use super::super::ledger::{Cell, Run};
    use super::*;

    // A peer that came to nothing is a column and no more.
    #[test]
    fn renders_with_cells_missing_and_cells_with_errors() {
        let row = &ROWS[1];
        let mut failed = cell(row, PEERS[0], 0, 5_000.0);
        failed.why = Some("503: slow | down".to_owned());
        failed.measured.as_mut().expect("figures").errors = 12;
        let lost = Cell {
            measured: None,
            why: Some("not ready".to_owned()),
            ..cell(row, PEERS[1], 0, 0.0)
        };
        let kept = kept(vec![cell(row, Who::Cairn, 0, 60_000.0), failed, lost], Vec::new());
        let plan = Plan {
            rounds: 1,
            seconds: 2,
            only: String::new(),
            held: false,
            anew: false,
            dry: true,
            cairn: None,
        };
        let page = Page {
            plan: &plan,
            rows: &[row],
            kept: &kept,
        };
        let (text, counts) = page.render();
        assert!(text.contains("| 0 / 12 / 0 (lost rounds: 1) |"), "{text}");
        assert!(text.contains("round 1: `503: slow   down`"), "{text}");
        let floor = "**40000** (8 × SeaweedFS): **missed** (not measured in most rounds: Garage, limit)";
        assert!(text.contains(floor), "{text}");
        // The flushes; neither the row nor a start.
        assert_eq!((counts.passed, counts.failed), (1, 2), "{text}");
    }

    // Issue 5 asks for each of these.
    #[test]
    fn the_page_tells_what_is_asked_of_it() {
        let mut cells = Vec::new();
        for row in ROWS.iter().filter(|row| row.what != "put 1 MiB, c16, streaming") {
            for who in row.parties() {
                let ops = |round: usize| {
                    1_000.0 * (1.0 + round as f64) / if who == Who::Cairn { 1.0 } else { 10.0 }
                };
                let rounds = if row.is_held() { 5 } else { 3 };
                cells.extend((0..rounds).map(|round| cell(row, who, round, ops(round))));
            }
        }
        for c in &mut cells {
            let m = c.measured.as_mut().expect("figures");
            m.cpu_s_per_gib = Some(2.5);
        }
        let mut kept = kept(cells, Vec::new());
        kept.begun = Some(begun(15));
        kept.starts_ms = vec![80.0, 90.0, 100.0];
        let run = |held: &str| Run {
            at: "2026-01-01 09:00 UTC".to_owned(),
            command: format!("cargo xtask bench{held}"),
        };
        kept.runs = vec![run(" --held"), run("")];
        let plan = Plan {
            rounds: 5,
            seconds: 15,
            only: String::new(),
            held: true,
            anew: false,
            dry: false,
            cairn: None,
        };
        let rows: Vec<&Row> = ROWS.iter().collect();
        let (text, _) = Page {
            plan: &plan,
            rows: &rows,
            kept: &kept,
        }
        .render();
        for told in [
            "`cargo xtask bench --rounds 5 --seconds 15 --held`",
            "measured: 2026-01-01 10:00 to 2026-01-05 10:00",
            "put together of 2 runs",
            "commit d; SHA-256 of `cairn`: a…",
            "; syncs: ",
            "nginx: 300 (100 to 500)",
            "limit: 300 (100 to 500)",
            "| **10.0** | 1.00 |",
            "limit in doubt",
            "| put 4 KiB, c16, signed | 2000 (1000 to 3000; 3 of 5 rounds)",
            "| put 1 MiB, c16, s a GiB | 2.50, 1 MiB | 2.50, 1 MiB | 2.50, 1 MiB |",
            "0.05 at c1 (at most 1.1: held), 0.05 at c16 (at most 0.25: held), 0.05 at c64",
            "First request served 90 ms (80 to 100, 3 starts)",
            "get 4 KiB, c16, wrk",
            "get 64 MiB, c4, s5cmd",
            "Not measured: put 1 MiB, c16, streaming.",
        ] {
            assert!(text.contains(told), "{told} in {text}");
        }
    }
}
