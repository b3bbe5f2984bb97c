//! `cargo xtask bench`: Cairn beside its peers and beside what the machine can do, the same load from `cairn bench`.
//!
//! Rounds, in each round rows, in each row the stores in an order of that round. Each cell has a store of its own, begun on an empty directory and
//! alone on the machine: nobody pays for what another left dirty, compacts or collects, and nothing fills the disk. What a cell came to is kept
//! as it comes (`ledger`), so a run that was stopped goes on; what goes wrong with a peer is told in a column of the page and is the end of nothing.
//!
//! The peers are installed: SeaweedFS from PyPI, Garage by `cargo install`, nginx from Debian. nginx over static files is the limit of a GET; the
//! limit of what is synced is a server of ours that only appends and syncs (crates/bench/examples/limit.rs).

mod cell;
mod ledger;
mod load;
mod million;
mod page;
mod peers;
mod plot;
mod rows;
mod second;
mod stores;
mod verdict;

use crate::machine;
use crate::repo::Repo;
use crate::stage::{self, Counts};
use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use cell::{Programs, WARM_UP_SECONDS};
use ledger::{Begun, Ledger};
pub(crate) use million::{Size, million};
use page::Page;
use rows::{ROWS, Row, Who};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to run.
pub(crate) struct Plan {
    /// How often each cell is measured, the stores taking turns.
    pub(crate) rounds: usize,
    /// How long each time.
    pub(crate) seconds: u64,
    /// Rows whose name has this in it.
    pub(crate) only: String,
    /// Only rows that are held to something.
    pub(crate) held: bool,
    /// Forgets what an earlier run came to.
    pub(crate) anew: bool,
    /// Writes no page.
    pub(crate) dry: bool,
}

const GARAGE_VERSION: &str = "2.5.0";
const STARTS: usize = 5;
/// Fewer or shorter rounds are no page.
const PAGE_ROUNDS_MIN: usize = 5;
const PAGE_SECONDS_MIN: u64 = 15;
/// No store here writes more in a second.
const WRITTEN_BYTES_PER_SECOND_MAX: u64 = 1 << 30;
/// What else a cell leaves on the disk while it is measured: the limit server's zeros, a journal, what is read.
const CELL_BYTES: u64 = 3 << 30;
/// With less than this share of the disk free Cairn gives back room at once, beside what is measured.
const FREE_SHARE: u64 = 10;
/// About what a cell takes beside its seconds: a start, what is read or deleted, an end.
const CELL_SECONDS: u64 = 6;

impl Plan {
    /// Whether there is to be a page: of all rows that are held, often and long enough.
    fn writes(&self) -> bool {
        !self.dry
            && self.only.is_empty()
            && self.rounds >= PAGE_ROUNDS_MIN
            && self.seconds >= PAGE_SECONDS_MIN
    }

    fn rows(&self) -> Vec<&'static Row> {
        let wanted = |row: &&Row| row.what.contains(&self.only) && (row.is_held() || !self.held);
        ROWS.iter().filter(wanted).collect()
    }
}

/// What is measured with.
struct Bench<'a> {
    plan: &'a Plan,
    programs: Programs,
    /// Of the cell that is being measured.
    dir: PathBuf,
}

/// Measures and, if asked, writes docs/BENCHMARKS.md.
pub(crate) fn bench(repo: &Repo, plan: &Plan) -> Result<Counts> {
    let rows = plan.rows();
    ensure!(!rows.is_empty(), "no row has `{}` in its name", plan.only);
    ensure!(
        plan.rounds > 0 && plan.seconds > 0,
        "rounds and seconds: one at least"
    );
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
    let requirements = repo.root().join("bench/requirements.txt");
    let python = machine::environment(repo, "bench", &requirements)?;
    machine::programs(&[("nginx", "nginx-light"), ("setpriv", "util-linux")])?;
    let bench = Bench {
        plan,
        programs: Programs {
            cairn: repo.target("release/cairn"),
            limit: repo.target("release/examples/limit"),
            garage: machine::cargo_installed(repo, "garage", GARAGE_VERSION)?,
            clients: second::Clients::find(repo, &python)?,
            python,
        },
        dir: repo.target("bench-data"),
    };
    let machine = page::machine();
    let begun = Begun {
        seconds: plan.seconds,
        cairn: sha256(&bench.programs.cairn)?,
        limit: sha256(&bench.programs.limit)?,
        machine: machine.clone(),
    };
    let mut ledger = Ledger::open(&repo.target("bench-results.jsonl"), begun, plan.anew)?;
    bench.measure(&rows, &mut ledger)?;
    let page = Page {
        plan,
        rows: &rows,
        kept: &ledger.kept,
        machine: &machine,
    };
    let (text, counts) = page.render();
    println!("\n{text}");
    if plan.writes() {
        page.write(&repo.root().join("docs"), &text)?;
    } else {
        println!(
            "No page: it is of all rows, {PAGE_ROUNDS_MIN} rounds and {PAGE_SECONDS_MIN} s a cell at least."
        );
    }
    Ok(counts)
}

impl Bench<'_> {
    fn measure(&self, rows: &[&'static Row], ledger: &mut Ledger) -> Result<()> {
        self.fresh_dir()?;
        self.has_room()?;
        while ledger.kept.starts_ms.len() < STARTS {
            let ms = self.first_answer_ms()?;
            ledger.keep_start(ms)?;
        }
        let todo: Vec<_> = cells(rows, self.plan.rounds)
            .into_iter()
            .filter(|(row, round, who)| !ledger.kept.has(row, *who, *round))
            .collect();
        let cell_seconds = self.plan.seconds + WARM_UP_SECONDS + CELL_SECONDS;
        println!(
            "     {} cells are left, about {} minutes",
            todo.len(),
            (todo.len() as u64 * cell_seconds).div_ceil(60)
        );
        for (row, round, who) in todo {
            self.has_room()?;
            self.cell(row, round, who, ledger)?;
        }
        fs::remove_dir_all(&self.dir).context("removing what was measured")
    }

    /// An empty directory, on a disk that has nothing left to write and a second of rest behind it.
    fn fresh_dir(&self) -> Result<()> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).with_context(|| self.dir.display().to_string())?;
        }
        fs::create_dir_all(&self.dir)?;
        rustix::fs::sync();
        Ok(())
    }

    fn has_room(&self) -> Result<()> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        let bytes = |blocks: u64| blocks * disk.f_frsize;
        let (free, all) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
        let wanted = room(all, self.plan.seconds);
        ensure!(
            free >= wanted,
            "{} GiB are free where {} is, and it takes {}: what one cell writes, above the tenth of the disk that Cairn leaves free",
            free >> 30,
            self.dir.display(),
            wanted.div_ceil(1 << 30)
        );
        Ok(())
    }

    fn first_answer_ms(&self) -> Result<f64> {
        self.fresh_dir()?;
        std::thread::sleep(cell::REST);
        let begun = std::time::Instant::now();
        let store = stores::cairn_begun(&self.programs.cairn, &self.dir)?;
        let first = stores::first_answer(&store, "PUT", "/first", Duration::from_secs(60))?;
        Ok(first.duration_since(begun).as_secs_f64() * 1e3)
    }
}

/// All cells, in order: round by round, so that a run which is stopped has whole rounds; what the page needs before what stands beside.
fn cells(rows: &[&'static Row], rounds: usize) -> Vec<(&'static Row, usize, Who)> {
    let (held, beside): (Vec<&Row>, Vec<&Row>) = rows.iter().copied().partition(|row| row.is_held());
    let mut all = Vec::new();
    for rows in [held, beside] {
        for round in 0..rounds {
            for row in &rows {
                all.extend(row.order(round).into_iter().map(|who| (*row, round, who)));
            }
        }
    }
    all
}

/// Bytes that must be free on a disk of `all`.
fn room(all: u64, seconds: u64) -> u64 {
    (seconds + WARM_UP_SECONDS) * WRITTEN_BYTES_PER_SECOND_MAX + CELL_BYTES + all / FREE_SHARE
}

fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let hash = digest::digest(&digest::SHA256, &bytes);
    Ok(hash.as_ref().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_of_all_that_is_held_often_and_long_enough() {
        let plan = |rounds, seconds, only: &str, held, dry| Plan {
            rounds,
            seconds,
            only: only.to_owned(),
            held,
            anew: false,
            dry,
        };
        assert!(plan(5, 15, "", false, false).writes());
        assert!(plan(5, 15, "", true, false).writes());
        for (rounds, seconds, only, dry) in [
            (4, 15, "", false),
            (5, 14, "", false),
            (5, 15, "put", false),
            (5, 15, "", true),
        ] {
            assert!(
                !plan(rounds, seconds, only, false, dry).writes(),
                "{rounds} {seconds} {only}"
            );
        }
        assert!(plan(5, 15, "", true, false).rows().len() < ROWS.len());
        assert_eq!(plan(5, 15, "", false, false).rows().len(), ROWS.len());
    }

    #[test]
    fn what_is_held_is_measured_first_and_round_by_round() {
        let rows: Vec<&Row> = ROWS.iter().collect();
        let all = cells(&rows, 3);
        let place = |(row, round, _): &(&'static Row, usize, Who)| (!row.is_held(), *round);
        assert!(all.is_sorted_by_key(place));
        let once: std::collections::BTreeSet<_> = all
            .iter()
            .map(|(row, round, who)| (row.what, round, who))
            .collect();
        let parties: usize = rows.iter().map(|row| row.parties().len()).sum();
        assert_eq!((all.len(), once.len()), (3 * parties, 3 * parties));
    }

    #[test]
    fn room_is_what_a_cell_writes_above_what_cairn_leaves_free() {
        assert_eq!(room(100 << 30, 15), (17 + 3 + 10) << 30);
    }
}
