//! docs/BENCHMARKS.md: the tables, and what of them is held.

use super::ledger::Kept;
use super::rows::{AGREES_WITHIN, PEERS, Row, Who};
use super::verdict::{By, Floor, GOAL, Verdict, agreement, flushes, median};
use super::{Plan, plot};
use crate::stage::Counts;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What stands around the table is written by hand and kept.
const BEGIN: &str = "<!-- written by `cargo xtask bench` -->";
const END: &str = "<!-- end of what is written -->";
/// From a start on an empty directory.
const FIRST_ANSWER_MS_MAX: f64 = 100.0;
/// Nobody reads more of an error.
const TOLD_CHARS: usize = 160;

/// All that the page tells.
pub(super) struct Page<'a> {
    pub(super) plan: &'a Plan,
    pub(super) rows: &'a [&'static Row],
    pub(super) kept: &'a Kept,
    pub(super) machine: &'a str,
}

fn cell(kept: &Kept, row: &Row, who: Who) -> String {
    let all = kept.figures(row, who, |m| Some(m.ops_per_second));
    let Some(middle) = median(all.clone()) else {
        return " | |".to_owned();
    };
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    let of = |times: Vec<f64>| median(times).unwrap_or_default();
    format!(
        " {} ({} to {}) | {:.2} / {:.2} |",
        figure(middle),
        figure(least),
        figure(most),
        of(kept.figures(row, who, |m| Some(m.p50_ms))),
        of(kept.figures(row, who, |m| Some(m.p99_ms))),
    )
}

fn figure(n: f64) -> String {
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
    format!("{what}: {}", if v.holds() { "held" } else { "**missed**" })
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
    [Who::Cairn, PEERS[0], PEERS[1]].map(of).join(" / ")
}

fn speeds(page: &Page<'_>, verdicts: &[Verdict], out: &mut String) {
    out.push_str("| | Cairn ops/s | p50 / p99 ms | SeaweedFS ops/s | p50 / p99 ms | Garage ops/s | p50 / p99 ms | times the faster peer | of 10 × the faster peer | of the limit server | of nginx | floor, ops/s | errors: Cairn / SeaweedFS / Garage |\n");
    out.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|\n");
    for v in verdicts {
        let _infallible = write!(out, "| {} |", v.row.what);
        for who in [Who::Cairn, PEERS[0], PEERS[1]] {
            out.push_str(&cell(page.kept, v.row, who));
        }
        let ratio = v.ratio().map_or(String::new(), |ratio| format!("**{ratio:.1}**"));
        let _infallible = writeln!(
            out,
            " {ratio} | {} | {} | {} | {} | {} |",
            told(v.of_goal()),
            told(v.of_limit()),
            told(v.of_files()),
            floor_text(v),
            errors(page.kept, v.row)
        );
    }
    let _infallible = writeln!(
        out,
        "\nThe goal beyond the floors is {GOAL} times the faster peer, and the limit itself: 1.00 would be there. A floor is so many times the faster \
         peer or, where that lies above it, 0.6 of the limit server; the other of the two stands behind it."
    );
    for v in verdicts.iter().filter(|v| v.doubts_limit()) {
        let _infallible = writeln!(
            out,
            "\nIn doubt: {}, where Cairn comes to {} of the limit server: a server that does less should do more. Do not trust that limit.",
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

fn costs(page: &Page<'_>, out: &mut String) {
    out.push_str("\n| server's processor | Cairn | SeaweedFS | Garage |\n|---|---:|---:|---:|\n");
    for row in page.rows {
        let is_large = row.size != "4KiB";
        let unit = if is_large { "s a GiB" } else { "µs each" };
        let _infallible = write!(out, "| {}, {unit} |", row.what);
        for who in [Who::Cairn, PEERS[0], PEERS[1]] {
            let cost = page.kept.figures(row, who, |m| {
                if is_large {
                    m.cpu_s_per_gib
                } else {
                    m.cpu_us_per_op
                }
            });
            let _infallible = write!(out, " {} |", told(median(cost)));
        }
        out.push('\n');
    }
}

fn memory(page: &Page<'_>, out: &mut String) {
    out.push_str("\nIn memory when the clock stopped, each store begun anew for each cell: ");
    let mut said = Vec::new();
    for who in [Who::Cairn, PEERS[0], PEERS[1]] {
        let most = page.rows.iter().filter_map(|row| {
            let bytes = median(
                page.kept
                    .figures(row, who, |m| m.resident_bytes.map(|b| b as f64)),
            );
            Some((bytes?, row.what))
        });
        if let Some((bytes, what)) = most.max_by(|a, b| a.0.total_cmp(&b.0)) {
            let mib = bytes / f64::from(1 << 20);
            said.push(format!(
                "{} at most {mib:.0} MiB (median of `{what}`)",
                who.name()
            ));
        }
    }
    let _infallible = writeln!(out, "{}.", said.join(", "));
}

fn held_flushes(page: &Page<'_>, out: &mut String) -> Counts {
    let mut counts = Counts::default();
    let mut said = Vec::new();
    for row in page.rows {
        let Some(most) = row.flushes_max() else {
            continue;
        };
        let (measured, held) = flushes(row, most, page.kept);
        counts += Counts::one(held);
        said.push(format!(
            "{} at c{} (at most {most}: {})",
            measured.map_or("not measured".to_owned(), |n| format!("{n:.2}")),
            row.connections,
            if held { "held" } else { "**missed**" }
        ));
    }
    if !said.is_empty() {
        let _infallible = writeln!(
            out,
            "\nFlushes of this machine's disks an acknowledged put of 4 KiB, by Cairn: {}.",
            said.join(", ")
        );
    }
    counts
}

fn second_clients(page: &Page<'_>, out: &mut String) -> Counts {
    let mut counts = Counts::default();
    for row in page.rows {
        let Some(client) = row.second else {
            continue;
        };
        let (both, agrees) = agreement(row, page.kept);
        counts += Counts::one(agrees);
        let said = both.map_or("came to nothing".to_owned(), |(theirs, share)| {
            format!("{} ops/s, {:.2} of `cairn bench`", figure(theirs), share)
        });
        let why = page.kept.seconds(row).find_map(|s| s.why.as_deref());
        let why = why.map_or(String::new(), |why| {
            format!(
                " ({})",
                why.replace('\n', " ")
                    .chars()
                    .take(TOLD_CHARS)
                    .collect::<String>()
            )
        });
        let _infallible = writeln!(
            out,
            "\nA client that is not ours, on the same objects of the same Cairn right after: {}, {}: {said}{why} (within {:.0} %: {}).",
            row.what,
            client.name(),
            AGREES_WITHIN * 100.0,
            if agrees { "agrees" } else { "**does not agree**" }
        );
    }
    counts
}

fn parties(page: &Page<'_>, out: &mut String) {
    for who in [Who::Cairn, PEERS[0], PEERS[1], Who::Nginx, Who::Limit] {
        let all = page.rows.iter().flat_map(|row| page.kept.cells(row, who));
        if let Some(c) = all.into_iter().find(|c| !c.about.is_empty()) {
            let _infallible = writeln!(out, "- {}: {}; syncs: {}", who.name(), c.about, c.syncs);
        }
    }
}

impl Page<'_> {
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        self.rows.iter().map(|row| Verdict::of(row, self.kept)).collect()
    }

    /// What is written between the marks, and what of it is held.
    pub(super) fn render(&self) -> (String, Counts) {
        let Plan { rounds, seconds, .. } = self.plan;
        let mut out = format!(
            "`cargo xtask bench --rounds {rounds} --seconds {seconds}`: medians of {rounds} rounds of {seconds} s each, least and most in parentheses. The stores take \
             turns in each row, each begun anew on an empty directory and alone on the machine.\n\n- machine: {}\n",
            self.machine
        );
        parties(self, &mut out);
        out.push_str("\n![times the faster peer](benchmarks.svg)\n\n");
        let verdicts = self.verdicts();
        let mut counts = Counts::default();
        for v in verdicts.iter().filter(|v| v.row.floor.is_some() || !v.holds()) {
            counts += Counts::one(v.holds());
        }
        speeds(self, &verdicts, &mut out);
        failures(self, &mut out);
        costs(self, &mut out);
        counts += held_flushes(self, &mut out);
        memory(self, &mut out);
        let first = median(self.kept.starts_ms.clone());
        let held = first.is_some_and(|ms| ms <= FIRST_ANSWER_MS_MAX);
        counts += Counts::one(held);
        let _infallible = writeln!(
            out,
            "\nFirst request served {} ms after the start on an empty directory (at most {FIRST_ANSWER_MS_MAX}: {}).",
            first.map_or("unknown".to_owned(), |ms| format!("{ms:.0}")),
            if held { "held" } else { "**missed**" }
        );
        counts += second_clients(self, &mut out);
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
    use super::super::ledger::Cell;
    use super::super::ledger::tests::{cell, kept};
    use super::super::rows::ROWS;
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
        };
        let page = Page {
            plan: &plan,
            rows: &[row],
            kept: &kept,
            machine: "one",
        };
        let (text, counts) = page.render();
        assert!(text.contains("| 0 / 12 / 0 (lost rounds: 1) |"), "{text}");
        assert!(text.contains("round 1: `503: slow   down`"), "{text}");
        assert!(text.contains("**40000** (8 × SeaweedFS): held"), "{text}");
        // The row and its flushes; no start was measured.
        assert_eq!((counts.passed, counts.failed), (2, 1), "{text}");
    }
}
