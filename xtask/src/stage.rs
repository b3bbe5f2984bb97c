//! Stages: run in order, timed, counted, told at the end.
//!
//! A stage's counts come from what its child said (`test result:` lines of cargo test, a closing `N passed, N failed`),
//! or are one for the stage as a whole. A child that exits non-zero always counts at least one failure, and a test that
//! was ignored or skipped is a failure: a skip in silence is a bug.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How many tests of a stage held and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// A stage that is one test.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        }
    }

    /// What a line of a test runner adds. `None` when it is no summary.
    fn of_line(line: &str) -> Option<Self> {
        let line = line.trim().trim_matches('=').trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            let (_, numbers) = rest.split_once(". ")?;
            return Some(Self {
                passed: number_before(numbers, " passed")?,
                failed: number_before(numbers, " failed")? + number_before(numbers, " ignored")?,
            });
        }
        let is_summary = line.split(", ").all(|piece| {
            let mut words = piece.split(' ');
            words
                .next()
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
                && words.next().is_some_and(|w| {
                    matches!(
                        w,
                        "passed"
                            | "failed"
                            | "skipped"
                            | "error"
                            | "errors"
                            | "xfailed"
                            | "xpassed"
                            | "deselected"
                            | "warning"
                            | "warnings"
                    )
                })
        });
        if !is_summary {
            return None;
        }
        let count = |what| number_before(line, what).unwrap_or(0);
        Some(Self {
            passed: count(" passed"),
            // A failure that was expected and did not come is one too. What -k leaves out was left out by whoever said so.
            failed: [" failed", " skipped", " error", " xfailed", " xpassed"]
                .map(count)
                .iter()
                .sum(),
        })
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The number that stands right before the first ` word` of `line`.
fn number_before(line: &str, word: &str) -> Option<u64> {
    line.match_indices(word).find_map(|(at, _)| {
        let digits = line[..at].rsplit(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    })
}

/// Runs `command`, shows its output as it comes, and counts the tests it tells of.
pub(crate) fn run(mut command: Command) -> Result<Counts> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let stdout = child.stdout.take().context("a piped stdout")?;
    let mut counts = Counts::default();
    let mut told = false;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading a child's output")?;
        let text = String::from_utf8_lossy(&line);
        println!("{text}");
        if let Some(more) = Counts::of_line(&text) {
            counts += more;
            told = true;
        }
    }
    let status = child.wait()?;
    if !told {
        counts = Counts::one(status.success());
    } else if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    } else if status.success() && counts == Counts::default() {
        bail!("{shown} ran no test");
    }
    Ok(counts)
}

struct Done {
    name: &'static str,
    took: Duration,
    counts: Counts,
}

/// Stages that have run.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<Done>,
}

impl Stages {
    /// Runs one. A stage that could not do its work counts as failed and says why. Whether it passed.
    pub(crate) fn stage(&mut self, name: &'static str, work: impl FnOnce() -> Result<Counts>) -> bool {
        println!("\n== {name}");
        let begun = Instant::now();
        let counts = work().unwrap_or_else(|e| {
            println!("{name}: {e:#}");
            Counts::one(false)
        });
        self.done.push(Done {
            name,
            took: begun.elapsed(),
            counts,
        });
        counts.failed == 0
    }

    /// Counts a stage that another one's failure made impossible.
    pub(crate) fn impossible(&mut self, name: &'static str, why: &str) {
        self.stage(name, || bail!("not run: {why}"));
    }

    /// Tells the times and, last, the summary. Whether all passed.
    pub(crate) fn finish(self) -> bool {
        let mut total = Counts::default();
        let mut took = Duration::ZERO;
        println!(
            "\n{:<28} {:>9} {:>8} {:>8}",
            "stage", "seconds", "passed", "failed"
        );
        for d in &self.done {
            println!(
                "{:<28} {:>9.1} {:>8} {:>8}",
                d.name,
                d.took.as_secs_f64(),
                d.counts.passed,
                d.counts.failed
            );
            total += d.counts;
            took += d.took;
        }
        println!("{:<28} {:>9.1}\n", "all", took.as_secs_f64());
        println!("{} passed, {} failed", total.passed, total.failed);
        // A closed terminal must not hide the verdict in the exit code.
        let _flushed = std::io::stdout().flush();
        total.failed == 0 && total.passed > 0
    }
}

/// Runs a single stage as a command of its own.
pub(crate) fn alone(name: &'static str, work: impl FnOnce() -> Result<Counts>) -> bool {
    let mut stages = Stages::default();
    stages.stage(name, work);
    stages.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted() {
        let cases = [
            (
                "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                Some((7, 0)),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
                Some((3, 2)),
            ),
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
                Some((3, 1)),
            ),
            ("========= 41 passed in 3.21s =========", Some((41, 0))),
            (
                "==== 1 failed, 40 passed, 2 skipped, 3 warnings in 9.00s (0:00:09) ====",
                Some((40, 3)),
            ),
            ("=== 1 error in 0.1s ===", Some((0, 1))),
            ("2 passed, 5 deselected in 0.3s", Some((2, 0))),
            ("= 2 passed, 1 xpassed in 0.3s =", Some((2, 1))),
            ("12 passed, 0 failed", Some((12, 0))),
            ("3 warnings and a line", None),
            ("12 files", None),
            ("passed", None),
        ];
        for (line, want) in cases {
            let want = want.map(|(passed, failed)| Counts { passed, failed });
            assert_eq!(
                Counts::of_line(line).filter(|c| *c != Counts::default()),
                want,
                "{line}"
            );
        }
    }

    #[test]
    fn a_child_that_fails_is_never_counted_as_passed() {
        let shell = |script: &str| {
            let mut c = Command::new("sh");
            c.args(["-c", script]);
            run(c).unwrap()
        };
        assert_eq!(shell("exit 0"), Counts::one(true));
        assert_eq!(shell("exit 3"), Counts::one(false));
        let c = shell("echo 5 passed, 0 failed; exit 1");
        assert_eq!(c, Counts { passed: 5, failed: 1 });
        let mut none = Command::new("sh");
        none.args(["-c", "echo 0 passed, 0 failed"]);
        assert!(run(none).is_err());
    }
}
