//! `cargo xtask bench`: Cairn beside its peers and beside what the machine can do, the same load from `cairn bench`.
//!
//! Rounds, in each round rows, in each row the stores in an order of that round. Each cell has a store of its own, begun on an empty directory and
//! alone on the machine: nobody pays for what another left dirty, compacts or collects, and nothing fills the disk. What a cell came to is kept
//! as it comes (`ledger`), so a run that was stopped goes on; what goes wrong with a peer is told in a column of the page and is the end of nothing.
//!
//! The peers are installed: SeaweedFS from PyPI, Garage by `cargo install`, nginx from Debian. nginx over static files is the limit of a GET; the
//! limit of what is synced is a server of ours that only appends and syncs (crates/bench/examples/limit.rs).

mod cell;
mod costs;
mod ledger;
mod load;
mod million;
mod page;
mod peers;
mod plot;
mod room;
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
use ledger::{Begun, Kept, Ledger, Run};
pub(crate) use million::{Size, million};
use page::Page;
use rows::{ROWS, Row, Who};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::macros::format_description;

/// What to run.
pub(crate) struct Plan {
    /// How often each cell is measured, the stores taking turns.
    pub(crate) rounds: usize,
    /// How long each time.
    pub(crate) seconds: u64,
    /// Rows whose name has this in it.
    pub(crate) only: String,
    /// Only what is held to something, and who it takes for that.
    pub(crate) held: bool,
    /// Forgets what an earlier run came to.
    pub(crate) anew: bool,
    /// Writes no page.
    pub(crate) dry: bool,
    /// A Cairn that was built elsewhere, to try this with.
    pub(crate) cairn: Option<PathBuf>,
}

const GARAGE_VERSION: &str = "2.5.0";
const STARTS: usize = 5;
/// Fewer or shorter rounds are no page.
const PAGE_ROUNDS_MIN: usize = 5;
const PAGE_SECONDS_MIN: u64 = 15;
/// About what a cell takes beside its seconds: a start, what is read, an end.
const CELL_SECONDS: u64 = 4;
/// What one of deletes takes beside that: the clock stands while what is deleted is put.
const FILL_SECONDS: u64 = 30;

impl Plan {
    /// Whether what it measures is of a page, once there are rounds enough. What is only tried is kept apart from it.
    fn counts(&self) -> bool {
        !self.dry && self.only.is_empty() && self.cairn.is_none() && self.seconds >= PAGE_SECONDS_MIN
    }

    /// Whether there is to be a page: of all that is held, often and long enough.
    fn writes(&self) -> bool {
        self.counts() && self.rounds >= PAGE_ROUNDS_MIN
    }

    fn ledger(&self) -> &'static str {
        if self.counts() {
            "bench-results.jsonl"
        } else {
            "bench-tried.jsonl"
        }
    }

    /// As it was given.
    fn command(&self) -> String {
        let mut command = format!(
            "cargo xtask bench --rounds {} --seconds {}",
            self.rounds, self.seconds
        );
        for (flag, is_given) in [("--held", self.held), ("--anew", self.anew), ("--dry", self.dry)] {
            if is_given {
                command = format!("{command} {flag}");
            }
        }
        if !self.only.is_empty() {
            command = format!("{command} --only '{}'", self.only);
        }
        if let Some(cairn) = &self.cairn {
            command = format!("{command} --cairn {}", cairn.display());
        }
        command
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
    let lock = Alone::hold(&repo.target("bench.lock"))?;
    if let Some(failed) = built(repo, plan)? {
        return Ok(failed);
    }
    let requirements = repo.root().join("bench/requirements.txt");
    let python = machine::environment(repo, "bench", &requirements)?;
    machine::programs(&[("nginx", "nginx-light"), ("setpriv", "util-linux")])?;
    let bench = Bench {
        plan,
        programs: Programs {
            cairn: plan.cairn.clone().unwrap_or_else(|| repo.target("release/cairn")),
            limit: repo.target("release/examples/limit"),
            garage: machine::cargo_installed(repo, "garage", GARAGE_VERSION)?,
            clients: second::Clients::find(repo, &python)?,
            python,
        },
        dir: repo.target("bench-data"),
    };
    let begun = Begun {
        seconds: plan.seconds,
        cairn: sha256(&bench.programs.cairn)?,
        limit: sha256(&bench.programs.limit)?,
        tools: sha256(Path::new("/proc/self/exe"))? + &sha256(&requirements)?,
        machine: page::machine(),
        commit: commit(repo),
    };
    let mut ledger = Ledger::open(&repo.target(plan.ledger()), begun, plan.anew)?;
    let measured = bench.measure(&rows, &mut ledger);
    room::cleared(&bench.dir)?;
    measured?;
    drop(lock);
    let kept = ledger.kept.within(plan.rounds);
    let page = Page {
        plan,
        rows: &told(&rows, &kept),
        kept: &kept,
    };
    let (text, counts) = page.render();
    println!("\n{text}");
    if plan.writes() {
        page.write(&repo.root().join("docs"), &text)?;
    } else {
        println!(
            "No page: it is of all rows that are held, {PAGE_ROUNDS_MIN} rounds and {PAGE_SECONDS_MIN} s a cell at least."
        );
    }
    Ok(counts)
}

impl Bench<'_> {
    fn measure(&self, rows: &[&'static Row], ledger: &mut Ledger) -> Result<()> {
        let starts = STARTS.saturating_sub(ledger.kept.starts_ms.len());
        let todo: Vec<_> = cells(rows, self.plan.rounds)
            .into_iter()
            .filter(|(row, _, who)| !self.plan.held || row.needs(*who))
            .filter(|(row, round, who)| !ledger.kept.has(row, *who, *round))
            .collect();
        if starts > 0 || !todo.is_empty() {
            let command = self.plan.command();
            ledger.keep_run(Run { at: now(), command })?;
        }
        for _ in 0..starts {
            let ms = self.first_answer_ms()?;
            ledger.keep_start(ms)?;
        }
        println!(
            "     {} cells are left, about {} minutes",
            todo.len(),
            self.seconds_of(&todo).div_ceil(60)
        );
        for (n, (row, round, who)) in todo.iter().enumerate() {
            let begun = Instant::now();
            self.cell(row, *round, *who, ledger)?;
            if n > 0 && todo.get(n + 1).is_some_and(|(_, next, _)| next != round) {
                println!(
                    "     round {} is done, the last cell took {} s; about {} minutes are left",
                    round + 1,
                    begun.elapsed().as_secs(),
                    self.seconds_of(&todo[n + 1..]).div_ceil(60)
                );
            }
        }
        Ok(())
    }

    /// About what cells take.
    fn seconds_of(&self, cells: &[(&'static Row, usize, Who)]) -> u64 {
        let of = |(row, _, who): &(&Row, usize, Who)| {
            let fill = if row.operation == "delete" {
                FILL_SECONDS
            } else {
                0
            };
            let is_asked_twice = row.second.is_some() && *who == Who::Cairn;
            self.plan.seconds * (1 + u64::from(is_asked_twice)) + WARM_UP_SECONDS + CELL_SECONDS + fill
        };
        cells.iter().map(of).sum()
    }

    fn first_answer_ms(&self) -> Result<f64> {
        room::fresh(&self.dir)?;
        std::thread::sleep(cell::REST);
        let begun = Instant::now();
        let store = stores::cairn_begun(&self.programs.cairn, &self.dir)?;
        let first = stores::first_answer(&store, "PUT", "/first", Duration::from_secs(60))?;
        Ok(first.duration_since(begun).as_secs_f64() * 1e3)
    }
}

/// Builds what is measured; what failed of it.
fn built(repo: &Repo, plan: &Plan) -> Result<Option<Counts>> {
    let limit = [
        "build",
        "--release",
        "--package",
        "cairn-bench",
        "--example",
        "limit",
    ];
    let cairn = plan.cairn.is_none().then(|| repo.released());
    for build in cairn.into_iter().chain([repo.cargo(&limit)]) {
        let built = stage::run(build)?;
        if built.failed > 0 {
            return Ok(Some(built));
        }
    }
    Ok(None)
}

/// Held while one measures: two would measure each other, and one would remove the other's stores.
struct Alone(File);

impl Alone {
    fn hold(path: &Path) -> Result<Self> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("{}: another bench runs", path.display()))?;
        Ok(Self(lock))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread is just starting has the file, too, until it is another program.
        let _closed_anyway = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// What the page tells of: what was asked for, and all that was measured before.
fn told(asked: &[&'static Row], kept: &Kept) -> Vec<&'static Row> {
    let is_told = |row: &&Row| kept.has_row(row) || asked.iter().any(|a| a.what == row.what);
    ROWS.iter().filter(is_told).collect()
}

/// All cells, in order: round by round, so that a run which is stopped has whole rounds; what is needed for what is held before what stands beside.
fn cells(rows: &[&'static Row], rounds: usize) -> Vec<(&'static Row, usize, Who)> {
    let mut all = Vec::new();
    for is_needed in [true, false] {
        for round in 0..rounds {
            for row in rows {
                let parties = row.order(round).into_iter();
                let now = parties.filter(|who| row.needs(*who) == is_needed);
                all.extend(now.map(|who| (*row, round, who)));
            }
        }
    }
    all
}

/// A moment, for a page.
fn now() -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

/// What is checked out.
fn commit(repo: &Repo) -> String {
    let said = repo
        .command("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    said.map_or_else(
        |_| String::new(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
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
            cairn: None,
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
        let elsewhere = Plan {
            cairn: Some("/cairn".into()),
            ..plan(5, 15, "", true, false)
        };
        assert!(!elsewhere.writes());
        // What is tried is not of the page's rounds; what is stopped early is.
        assert_eq!(plan(5, 15, "put", false, false).ledger(), "bench-tried.jsonl");
        assert_eq!(elsewhere.ledger(), "bench-tried.jsonl");
        assert_eq!(plan(3, 15, "", true, false).ledger(), "bench-results.jsonl");
        assert_eq!(
            plan(5, 15, "put", true, false).command(),
            "cargo xtask bench --rounds 5 --seconds 15 --held --only 'put'"
        );
        assert!(plan(5, 15, "", true, false).rows().len() < ROWS.len());
        assert_eq!(plan(5, 15, "", false, false).rows().len(), ROWS.len());
    }

    #[test]
    fn what_is_held_is_measured_first_and_round_by_round() {
        let rows: Vec<&Row> = ROWS.iter().collect();
        let all = cells(&rows, 3);
        let place = |(row, round, who): &(&'static Row, usize, Who)| (!row.needs(*who), *round);
        assert!(all.is_sorted_by_key(place));
        let once: std::collections::BTreeSet<_> = all
            .iter()
            .map(|(row, round, who)| (row.what, round, who))
            .collect();
        let parties: usize = rows.iter().map(|row| row.parties().len()).sum();
        assert_eq!((all.len(), once.len()), (3 * parties, 3 * parties));
    }

    #[test]
    fn the_page_has_all_that_was_measured() {
        let row = |what: &str| ROWS.iter().find(|row| row.what == what).expect("a row");
        let signed = row("put 4 KiB, c16, signed");
        let before = ledger::tests::kept(vec![ledger::tests::cell(signed, Who::Cairn, 0, 1.0)], Vec::new());
        let names = |asked: &[&'static Row]| -> Vec<&str> {
            told(asked, &before).iter().map(|row| row.what).collect()
        };
        assert_eq!(names(&[row("head, c16")]), ["head, c16", signed.what]);
    }

    #[test]
    fn two_do_not_measure_at_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("lock");
        let first = Alone::hold(&path)?;
        assert!(Alone::hold(&path).is_err());
        // As a process has it that is just being started.
        let _inherited = first.0.try_clone()?;
        drop(first);
        Alone::hold(&path).map(drop)
    }
}
