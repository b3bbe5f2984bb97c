//! The table and its page.

use super::stores::Store;
use super::{Measured, Plan};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What stands around the table is written by hand and kept.
const BEGIN: &str = "<!-- table: written by `cargo xtask bench-first` -->";
const END: &str = "<!-- end of table -->";

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut v: Vec<f64> = values.collect();
    v.sort_by(f64::total_cmp);
    v.get(v.len() / 2).copied().unwrap_or(0.0)
}

/// A Markdown table: medians over the rounds.
pub(super) fn render(stores: &[&str], rows: &[&str], measured: &[Vec<Vec<Measured>>]) -> String {
    let mut out = String::from("| |");
    for s in stores {
        let _infallible = write!(out, " {s} ops/s | p50 / p99 ms | server CPU µs |");
    }
    out.push_str(" flushes per op |\n|---|");
    for _ in stores {
        out.push_str("---:|---:|---:|");
    }
    out.push_str("---:|\n");
    for (row, cells) in rows.iter().zip(measured) {
        let _infallible = write!(out, "| {row} |");
        for m in cells {
            let _infallible = write!(
                out,
                " {:.0} | {:.2} / {:.2} | {:.0} |",
                median(m.iter().map(|m| m.ops_per_second)),
                median(m.iter().map(|m| m.p50_ms)),
                median(m.iter().map(|m| m.p99_ms)),
                median(m.iter().map(|m| m.cpu_us_per_op)),
            );
        }
        let flushes: Vec<f64> = cells.iter().flatten().filter_map(|m| m.flushes_per_op).collect();
        let flushes = match flushes.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.2}", median(flushes.into_iter())),
        };
        let _infallible = writeln!(out, " {flushes} |");
    }
    out
}

/// Puts the table into its page, between the marks.
pub(super) fn write_page(page: &Path, table: &str, plan: &Plan, stores: &[Store]) -> Result<()> {
    let old = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (before, rest) = old
        .split_once(BEGIN)
        .with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    let mut about = format!(
        "`cargo xtask bench-first --rounds {} --seconds {}`: medians of {} interleaved rounds of {} s each.\n\n",
        plan.rounds, plan.seconds, plan.rounds, plan.seconds
    );
    let _infallible = writeln!(about, "- machine: {}", machine());
    for s in stores {
        let _infallible = writeln!(about, "- {}: {}", s.name, s.about);
    }
    fs::write(page, format!("{before}{BEGIN}\n\n{about}\n{table}\n{END}{after}"))?;
    Ok(())
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|t| {
            Some(
                t.lines()
                    .find(|l| l.starts_with("model name"))?
                    .split_once(": ")?
                    .1
                    .to_owned(),
            )
        })
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({model}), Linux {}; stores and load generator share them",
        kernel.trim()
    )
}
