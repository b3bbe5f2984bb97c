//! What was measured, kept as it comes: a JSON line each in target/bench-results.jsonl (what is only tried: in bench-tried.jsonl), so that a run which ends too early goes on where it stopped.
//!
//! ```text
//! {"Begun": ...}    first: what it was measured with; a ledger of another build is not gone on with
//! {"Run": ...}      one of the commands that it is put together of
//! {"Start": 12.3}   from a start to the first answer, in milliseconds
//! {"Second": ...}   what another client said of Cairn, before the cell that it is about: who was stopped between the two does both again
//! {"Cell": ...}     one store in one row in one round; of two lines the later one counts. Cairn has one, whatever it came to
//! ```
//! A last line without an end is of a write that was cut off: it is cut away.

use super::rows::{Client, Row, Who};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// What was measured with: figures of two of these are not of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// How long each cell.
    pub(crate) seconds: u64,
    /// SHA-256 of the released binary, and of the limit server.
    pub(crate) cairn: String,
    pub(crate) limit: String,
    /// Of this program, which says how all of them are set up, and of the list of what is installed.
    pub(crate) tools: String,
    /// Processor and kernel.
    pub(crate) machine: String,
    /// What `git describe` says. The same program may be of two.
    pub(crate) commit: String,
}

impl Begun {
    /// Whether what both measured are figures of one run.
    fn is_one_with(&self, other: &Self) -> bool {
        let parts = |b: &Self| {
            (
                b.seconds,
                b.cairn.clone(),
                b.limit.clone(),
                b.tools.clone(),
                b.machine.clone(),
            )
        };
        parts(self) == parts(other)
    }
}

/// A command that measured some of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// When it began.
    pub(crate) at: String,
    pub(crate) command: String,
}

/// What one store did in one row in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) ops_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of the server, user and system.
    pub(crate) cpu_us_per_op: Option<f64>,
    pub(crate) cpu_s_per_gib: Option<f64>,
    pub(crate) flushes_per_op: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) errors: u64,
}

/// A cell of the table in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) row: String,
    pub(crate) who: Who,
    pub(crate) round: usize,
    /// When it ended.
    pub(crate) at: String,
    /// Version and how it was set up; empty where it never ran.
    pub(crate) about: String,
    pub(crate) syncs: String,
    pub(crate) measured: Option<Measured>,
    /// The first thing that went wrong.
    pub(crate) why: Option<String>,
}

/// What another client measured of Cairn's objects of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    pub(crate) row: String,
    pub(crate) round: usize,
    pub(crate) client: Client,
    /// Nothing where it did not run to its end; `why` says it.
    pub(crate) ops_per_second: Option<f64>,
    pub(crate) why: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Line {
    Begun(Begun),
    Run(Run),
    Start(f64),
    Second(Second),
    Cell(Cell),
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Kept {
    /// How many rounds there are to be of each cell.
    pub(crate) rounds: usize,
    pub(crate) runs: Vec<Run>,
    /// Of the first of them.
    pub(crate) begun: Option<Begun>,
    pub(crate) starts_ms: Vec<f64>,
    cells: Vec<Cell>,
    seconds: Vec<Second>,
}

/// The file, and what stands in it.
pub(crate) struct Ledger {
    file: File,
    pub(crate) kept: Kept,
}

impl Kept {
    /// What `who` did in each round of `row`.
    pub(crate) fn cells<'k>(&'k self, row: &Row, who: Who) -> impl Iterator<Item = &'k Cell> {
        let what = row.what;
        self.cells.iter().filter(move |c| c.row == what && c.who == who)
    }

    /// One figure of it, of each round that has it.
    pub(crate) fn figures<T>(&self, row: &Row, who: Who, figure: impl Fn(&Measured) -> Option<T>) -> Vec<T> {
        let measured = self.cells(row, who).filter_map(|c| c.measured.as_ref());
        measured.filter_map(figure).collect()
    }

    /// What another client said of Cairn in `row`.
    pub(crate) fn seconds<'k>(&'k self, row: &Row) -> impl Iterator<Item = &'k Second> {
        let what = row.what;
        self.seconds.iter().filter(move |s| s.row == what)
    }

    /// Without what later rounds came to.
    pub(crate) fn within(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self.cells.retain(|c| c.round < rounds);
        self.seconds.retain(|s| s.round < rounds);
        self
    }

    /// Whether anybody was measured in `row`.
    pub(crate) fn has_row(&self, row: &Row) -> bool {
        self.cells.iter().any(|c| c.row == row.what)
    }

    /// When the first and the last cell ended.
    pub(crate) fn dates(&self) -> Option<(&str, &str)> {
        let dates = || self.cells.iter().map(|c| c.at.as_str());
        Some((dates().min()?, dates().max()?))
    }

    /// Whether there is nothing to do any more. What has no figures is tried again by the next run, but for Cairn: running again is not how it
    /// comes to hold after it was gone.
    pub(crate) fn has(&self, row: &Row, who: Who, round: usize) -> bool {
        self.cells(row, who)
            .any(|c| c.round == round && (c.measured.is_some() || who == Who::Cairn))
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Begun(begun) => self.begun = Some(begun),
            Line::Run(run) => self.runs.push(run),
            Line::Start(ms) => self.starts_ms.push(ms),
            Line::Second(new) => {
                self.seconds
                    .retain(|s| (&s.row, s.round) != (&new.row, new.round));
                self.seconds.push(new);
            }
            Line::Cell(new) => {
                let place = |c: &Cell| (c.row.clone(), c.who, c.round);
                self.cells.retain(|c| place(c) != place(&new));
                self.cells.push(new);
            }
        }
    }
}

impl Ledger {
    /// Goes on with the file if it is of what `begun` says, and begins one where there is none or `anew` says so: then the old one is called `.old`.
    pub(crate) fn open(path: &Path, begun: Begun, anew: bool) -> Result<Self> {
        if anew && path.exists() {
            fs::rename(path, path.with_extension("jsonl.old"))?;
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        };
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| path.display().to_string())?;
        file.set_len(whole as u64)?;
        let mut ledger = Self {
            file,
            kept: Kept::default(),
        };
        let mut lines = text[..whole].lines().enumerate().map(|(n, line)| {
            serde_json::from_str::<Line>(line).with_context(|| format!("{}:{}", path.display(), n + 1))
        });
        match lines.next() {
            None => ledger.keep(Line::Begun(begun))?,
            Some(Ok(Line::Begun(was))) if was.is_one_with(&begun) => ledger.kept.take(Line::Begun(was)),
            Some(_) => bail!(
                "{} has what another build, other seconds or another machine came to: --anew begins anew",
                path.display()
            ),
        }
        for line in lines {
            ledger.kept.take(line?);
        }
        Ok(ledger)
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line)?;
        Ok(self.file.write_all(format!("{text}\n").as_bytes())?)
    }

    fn keep(&mut self, line: Line) -> Result<()> {
        self.write(&line)?;
        self.kept.take(line);
        Ok(())
    }

    pub(crate) fn keep_run(&mut self, run: Run) -> Result<()> {
        self.keep(Line::Run(run))
    }

    pub(crate) fn keep_start(&mut self, ms: f64) -> Result<()> {
        self.keep(Line::Start(ms))
    }

    pub(crate) fn keep_second(&mut self, second: Second) -> Result<()> {
        self.keep(Line::Second(second))
    }

    pub(crate) fn keep_cell(&mut self, cell: Cell) -> Result<()> {
        self.keep(Line::Cell(cell))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::rows::ROWS;
    use super::*;

    pub(in super::super) fn measured(ops_per_second: f64) -> Measured {
        Measured {
            ops_per_second,
            p50_ms: 1.0,
            p99_ms: 2.0,
            cpu_us_per_op: Some(10.0),
            cpu_s_per_gib: None,
            flushes_per_op: Some(0.05),
            resident_bytes: Some(1 << 20),
            errors: 0,
        }
    }

    pub(in super::super) fn cell(row: &Row, who: Who, round: usize, ops_per_second: f64) -> Cell {
        Cell {
            row: row.what.to_owned(),
            who,
            round,
            at: format!("2026-01-0{} 10:00", round + 1),
            about: format!("{} 1", who.name()),
            syncs: "no".to_owned(),
            measured: Some(measured(ops_per_second)),
            why: None,
        }
    }

    pub(in super::super) fn kept(cells: Vec<Cell>, seconds: Vec<Second>) -> Kept {
        let mut kept = Kept::default();
        seconds.into_iter().for_each(|s| kept.take(Line::Second(s)));
        cells.into_iter().for_each(|c| kept.take(Line::Cell(c)));
        kept.rounds = kept.cells.iter().map(|c| c.round + 1).max().unwrap_or(0);
        kept
    }

    pub(in super::super) fn begun(seconds: u64) -> Begun {
        Begun {
            seconds,
            cairn: "a".to_owned(),
            limit: "b".to_owned(),
            tools: "t".to_owned(),
            machine: "c".to_owned(),
            commit: "d".to_owned(),
        }
    }

    #[test]
    fn what_cairn_did_not_live_through_is_not_forgotten_by_running_again() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("results.jsonl");
        let row = &ROWS[0];
        let gone = |who| Cell {
            measured: None,
            ..cell(row, who, 0, 0.0)
        };
        let mut ledger = Ledger::open(&path, begun(15), false)?;
        ledger.keep_cell(gone(Who::Cairn))?;
        ledger.keep_cell(gone(Who::Garage))?;
        drop(ledger);
        let another_commit = Begun {
            commit: "e".to_owned(),
            ..begun(15)
        };
        let kept = Ledger::open(&path, another_commit, false)?.kept;
        assert!(kept.has(row, Who::Cairn, 0), "once");
        assert!(!kept.has(row, Who::Garage, 0), "a peer is tried again");
        Ok(())
    }

    #[test]
    fn later_rounds_are_not_of_a_page_of_fewer() {
        let row = &ROWS[0];
        let of = |round| cell(row, Who::Cairn, round, 100.0 + round as f64);
        let kept = kept((0..7).map(of).collect(), Vec::new()).within(5);
        let figures = kept.figures(row, Who::Cairn, |m| Some(m.ops_per_second));
        assert_eq!((figures.len(), kept.rounds), (5, 5));
        assert_eq!(kept.dates(), Some(("2026-01-01 10:00", "2026-01-05 10:00")));
    }

    #[test]
    fn a_run_that_was_cut_off_goes_on_where_it_stopped() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("results.jsonl");
        let row = &ROWS[0];
        let mut ledger = Ledger::open(&path, begun(15), false)?;
        ledger.keep_start(7.0)?;
        ledger.keep_cell(cell(row, Who::Cairn, 0, 100.0))?;
        ledger.keep_cell(Cell {
            measured: None,
            why: Some("it is gone".to_owned()),
            ..cell(row, Who::Garage, 0, 0.0)
        })?;
        drop(ledger);
        let whole = fs::read(&path)?;
        fs::write(&path, [&whole[..], b"{\"Cell\":{\"row\":\"put"].concat())?;

        let mut ledger = Ledger::open(&path, begun(15), false)?;
        assert_eq!(fs::read(&path)?, whole, "what was cut off is cut away");
        assert_eq!(ledger.kept.starts_ms, [7.0]);
        assert!(ledger.kept.has(row, Who::Cairn, 0));
        assert!(!ledger.kept.has(row, Who::Cairn, 1), "another round");
        assert!(!ledger.kept.has(&ROWS[1], Who::Cairn, 0), "another row");
        assert!(!ledger.kept.has(row, Who::Garage, 0), "it has no figures");
        ledger.keep_cell(cell(row, Who::Garage, 0, 50.0))?;
        drop(ledger);

        let ledger = Ledger::open(&path, begun(15), false)?;
        let figures = ledger.kept.figures(row, Who::Garage, |m| Some(m.ops_per_second));
        assert_eq!(figures, [50.0], "the later line counts, once");
        Ok(())
    }

    #[test]
    fn what_another_build_did_is_not_gone_on_with() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("results.jsonl");
        Ledger::open(&path, begun(2), false)?.keep_start(7.0)?;
        assert!(Ledger::open(&path, begun(15), false).is_err());
        let other_tools = Begun {
            tools: "u".to_owned(),
            ..begun(2)
        };
        assert!(Ledger::open(&path, other_tools, false).is_err());
        let ledger = Ledger::open(&path, begun(15), true)?;
        assert!(ledger.kept.starts_ms.is_empty(), "begun anew");
        let old = fs::read_to_string(dir.path().join("results.jsonl.old"))?;
        assert!(old.contains("\"Start\":7"), "the old one stays: {old}");
        Ok(())
    }
}
