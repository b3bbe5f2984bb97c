//! What the page tells beside speeds: processor time and memory, flushes, first answers, and what other clients say.

use super::ledger::Kept;
use super::page::{Page, STORES, TOLD_CHARS, figure};
use super::rows::{AGREES_WITHIN, Row, Who};
use super::verdict::{agreement, flushes, median};
use crate::stage::Counts;
use std::fmt::Write;

/// From a start on an empty directory.
const FIRST_ANSWER_MS_MAX: f64 = 100.0;

fn in_memory(kept: &Kept, row: &Row, who: Who) -> String {
    let bytes = kept.figures(row, who, |m| m.resident_bytes.map(|b| b as f64));
    median(bytes).map_or(String::new(), |bytes| {
        format!(", {:.0} MiB", bytes / f64::from(1 << 20))
    })
}

pub(super) fn costs(page: &Page<'_>, out: &mut String) {
    out.push_str("\n| server's processor, and MiB in memory when the clock stopped | Cairn | SeaweedFS | Garage |\n|---|---:|---:|---:|\n");
    for row in page.rows {
        let is_large = row.size != "4KiB";
        let unit = if is_large { "s a GiB" } else { "µs each" };
        let _infallible = write!(out, "| {}, {unit} |", row.what);
        for who in STORES {
            let cost = page.kept.figures(row, who, |m| {
                if is_large {
                    m.cpu_s_per_gib
                } else {
                    m.cpu_us_per_op
                }
            });
            let _infallible = match median(cost) {
                Some(cost) => write!(out, " {cost:.2}{} |", in_memory(page.kept, row, who)),
                None => write!(out, " |"),
            };
        }
        out.push('\n');
    }
}

pub(super) fn memory(page: &Page<'_>, out: &mut String) {
    out.push_str("\nIn memory when the clock stopped, each store begun anew for each cell: ");
    let mut said = Vec::new();
    for who in STORES {
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

pub(super) fn held_flushes(page: &Page<'_>, out: &mut String) -> Counts {
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

pub(super) fn first_answer(page: &Page<'_>, out: &mut String) -> Counts {
    let all = &page.kept.starts_ms;
    let least = all.iter().copied().reduce(f64::min);
    let most = all.iter().copied().reduce(f64::max);
    let told = match (median(all.clone()), least, most) {
        (Some(ms), Some(least), Some(most)) => {
            format!("{ms:.0} ms ({least:.0} to {most:.0}, {} starts)", all.len())
        }
        _ => "unknown time".to_owned(),
    };
    let held = median(all.clone()).is_some_and(|ms| ms <= FIRST_ANSWER_MS_MAX);
    let _infallible = writeln!(
        out,
        "\nFirst request served {told} after the start on an empty directory (at most {FIRST_ANSWER_MS_MAX}: {}).",
        if held { "held" } else { "**missed**" }
    );
    Counts::one(held)
}

pub(super) fn second_clients(page: &Page<'_>, out: &mut String) -> Counts {
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
