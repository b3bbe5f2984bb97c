//! One cell: a store begun anew and alone, loaded by `cairn bench`, ended.

use super::Bench;
use super::ledger::{Cell, Ledger, Measured, Second};
use super::load;
use super::peers;
use super::room;
use super::rows::{Client, Row, Who};
use super::second::{Clients, Objects};
use super::stores::{self, BUCKET, Store};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long it is loaded before the clock runs.
pub(super) const WARM_UP_SECONDS: u64 = 1;
/// Between the disk's last write and a cell.
pub(super) const REST: Duration = Duration::from_millis(500);
/// A load that does not end by itself is ended: so many times its seconds, and so many more. Deletes put as many objects while the clock stands.
const ENDS_WITHIN_TIMES: u64 = 10;
const ENDS_WITHIN_MORE: Duration = Duration::from_secs(300);

/// What the load reports, and what it says beside.
const SAID: &str = "load.json";
const TOLD: &str = "load.log";

/// What is started.
pub(super) struct Programs {
    pub(super) cairn: PathBuf,
    pub(super) limit: PathBuf,
    pub(super) garage: PathBuf,
    /// Of the environment with SeaweedFS.
    pub(super) python: PathBuf,
    pub(super) clients: Clients,
}

/// What a try came to.
struct Tried {
    measured: Measured,
    why: Option<String>,
    about: String,
    syncs: &'static str,
    second: Option<Second>,
}

impl Programs {
    /// A store that can serve, and has. A Cairn that cannot be started at all is no store's fault: that is the outer error.
    fn begin(&self, who: Who, dir: &std::path::Path) -> Result<Result<Store>> {
        Ok(match who {
            Who::Cairn => stores::cairn_begun(&self.cairn, dir)?.wait(),
            Who::SeaweedFS => peers::seaweedfs(&self.python, dir),
            Who::Garage => peers::garage(&self.garage, dir),
            Who::Nginx => peers::files(dir),
            Who::Limit => peers::limit(&self.limit, dir),
        }
        .and_then(stores::served))
    }
}

/// Whether another try is wanted: never of Cairn, whose errors are what is looked for.
fn is_tried_again(who: Who, errors: Option<u64>) -> bool {
    who != Who::Cairn && errors != Some(0)
}

impl Bench<'_> {
    /// Measures one cell, twice where a peer fails, and keeps what it came to.
    pub(super) fn cell(&self, row: &'static Row, round: usize, who: Who, ledger: &mut Ledger) -> Result<()> {
        let mut tried = self.attempt(row, round, who)?;
        let errors = |tried: &Result<Tried>| tried.as_ref().ok().map(|t| t.measured.errors);
        if is_tried_again(who, errors(&tried)) {
            let why = match &tried {
                Ok(tried) => tried.why.clone().unwrap_or_default(),
                Err(e) => format!("{e:#}"),
            };
            println!(
                "{:<26} {:<10} {} tried again: {why}",
                row.what,
                who.name(),
                round + 1
            );
            let again = self.attempt(row, round, who)?;
            let worse = |t: &Result<Tried>| errors(t).unwrap_or(u64::MAX);
            if worse(&again) <= worse(&tried) {
                tried = again;
            }
        }
        let mut cell = Cell {
            row: row.what.to_owned(),
            who,
            round,
            at: super::now(),
            about: String::new(),
            syncs: String::new(),
            measured: None,
            why: None,
        };
        match tried {
            Ok(tried) => {
                tell(row, round, who, &tried);
                if let Some(second) = tried.second {
                    ledger.keep_second(second)?;
                }
                cell.about = tried.about;
                cell.syncs = tried.syncs.to_owned();
                cell.measured = Some(tried.measured);
                cell.why = tried.why;
            }
            Err(e) => {
                println!(
                    "{:<26} {:<10} {} came to nothing: {e:#}",
                    row.what,
                    who.name(),
                    round + 1
                );
                cell.why = Some(format!("{e:#}"));
            }
        }
        ledger.keep_cell(cell)
    }

    /// What a store came to in a cell, whose place is empty before and behind it. The outer error is of what is not the store: it ends the run, and
    /// is nobody's figure.
    fn attempt(&self, row: &'static Row, round: usize, who: Who) -> Result<Result<Tried>> {
        let seconds = self.plan.seconds + WARM_UP_SECONDS;
        room::fresh_for(&self.dir, (row, seconds), room::Disk::of)?;
        let tried = match self.programs.begin(who, &self.dir)? {
            Err(e) => Err(e),
            Ok(store) => {
                rustix::fs::sync();
                std::thread::sleep(REST);
                let load = self.load(&store, row)?;
                self.tried(&store, load, row, round)
            }
        };
        room::cleared(&self.dir)?;
        Ok(tried)
    }

    fn tried(&self, store: &Store, load: Child, row: &'static Row, round: usize) -> Result<Tried> {
        let report = self.report(load)?;
        let measured = measured(&report)?;
        let second = row.second.filter(|_| store.who == Who::Cairn).map(|client| {
            let asked = self.second(client, store, row, (&report, measured.ops_per_second));
            let (ops_per_second, why) = match asked {
                Ok(ops) => (Some(ops), None),
                Err(e) => (None, Some(format!("{e:#}"))),
            };
            Second {
                row: row.what.to_owned(),
                round,
                client,
                ops_per_second,
                why,
            }
        });
        Ok(Tried {
            why: report
                .get("first_error")
                .and_then(Value::as_str)
                .map(str::to_owned),
            measured,
            about: store.about.clone(),
            syncs: store.syncs,
            second,
        })
    }

    fn second(
        &self,
        client: Client,
        store: &Store,
        row: &Row,
        (report, ops_per_second): (&Value, f64),
    ) -> Result<f64> {
        let place = report.get("place").and_then(Value::as_str).context("a place")?;
        let objects = Objects {
            place,
            count: row.objects(),
            ops_per_second,
        };
        let load = (row, self.plan.seconds);
        self.programs
            .clients
            .measure(client, (store, &self.dir), load, &objects)
    }

    /// `cairn bench`, just started. What it puts stays: the store ends.
    fn load(&self, store: &Store, row: &Row) -> Result<Child> {
        let mut c = stores::bound(&self.programs.cairn, "KILL");
        c.args([
            "bench",
            &format!("http://127.0.0.1:{}", store.target.port),
            row.operation,
        ])
        .args(["--size", row.size, "--payload", row.payload, "--bucket", BUCKET])
        .args(["-c", &row.connections.to_string()])
        .args(["--duration", &format!("{}s", self.plan.seconds)])
        .args(["--warm-up", &format!("{WARM_UP_SECONDS}s")])
        .args(["--server-pid", &store.pid().to_string(), "--json", "--keep"])
        .env("AWS_ACCESS_KEY_ID", &store.target.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.target.secret_key)
        .env("AWS_REGION", load::REGION)
        .stdin(Stdio::null())
        .stdout(File::create(self.dir.join(SAID))?)
        .stderr(File::create(self.dir.join(TOLD))?);
        if matches!(row.operation, "get" | "head" | "list" | "mixed") {
            c.args(["--objects", &row.objects().to_string()]);
        }
        if store.who == Who::Garage {
            // It waits for it in the middle of an answer.
            c.arg("--quick-ack");
        }
        c.spawn().context("cairn bench")
    }

    /// What it reports.
    fn report(&self, load: Child) -> Result<Value> {
        let most = Duration::from_secs(self.plan.seconds * ENDS_WITHIN_TIMES) + ENDS_WITHIN_MORE;
        stores::ended(load, most).context("the load")?;
        // One that counts errors ends without success, and has a report.
        let report = std::fs::read(self.dir.join(SAID))?;
        serde_json::from_slice(&report).with_context(|| {
            std::fs::read_to_string(self.dir.join(TOLD))
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
    }
}

fn measured(report: &Value) -> Result<Measured> {
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_f64);
    let must = |name: &str| number(report, name).with_context(|| format!("no {name} in {report}"));
    let server = report.get("server").unwrap_or(&Value::Null);
    let count = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
    let ops_per_second = must("ops_per_second")?;
    if ops_per_second <= 0.0 {
        let why = report
            .get("first_error")
            .and_then(Value::as_str)
            .unwrap_or_default();
        bail!("nothing ended well: {why}");
    }
    Ok(Measured {
        ops_per_second,
        p50_ms: must("p50_ms")?,
        p99_ms: must("p99_ms")?,
        cpu_us_per_op: number(server, "cpu_us_per_op"),
        cpu_s_per_gib: number(server, "cpu_s_per_gib"),
        flushes_per_op: number(server, "flushes_per_op"),
        resident_bytes: count(server, "resident_bytes"),
        errors: count(report, "errors").context("no errors in a report")?,
    })
}

fn tell(row: &Row, round: usize, who: Who, tried: &Tried) {
    let m = &tried.measured;
    println!(
        "{:<26} {:<10} {} {:>9.1} ops/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>7.0} us cpu  {:>6.3} flushes  {} errors",
        row.what,
        who.name(),
        round + 1,
        m.ops_per_second,
        m.p50_ms,
        m.p99_ms,
        m.cpu_us_per_op.unwrap_or_default(),
        m.flushes_per_op.unwrap_or_default(),
        m.errors
    );
    if let Some(s) = &tried.second {
        let said = s.ops_per_second.map_or_else(
            || s.why.clone().unwrap_or_default(),
            |ops| format!("{ops:>9.1} ops/s, {:.2} of `cairn bench`", ops / m.ops_per_second),
        );
        println!("{:<26} {:<10} {} {said}", row.what, s.client.name(), round + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_peer_is_tried_again_and_cairn_never() {
        assert!(is_tried_again(Who::Garage, None));
        assert!(is_tried_again(Who::Limit, Some(3)));
        assert!(!is_tried_again(Who::SeaweedFS, Some(0)));
        assert!(!is_tried_again(Who::Cairn, None));
        assert!(!is_tried_again(Who::Cairn, Some(3)));
    }

    #[test]
    fn a_report_of_nothing_is_none() {
        let report = |ops: f64| {
            json!({"ops_per_second": ops, "p50_ms": 1.0, "p99_ms": 2.0, "errors": 3, "first_error": "503",
                "server": {"cpu_us_per_op": 5.0, "resident_bytes": 7}})
        };
        let m = measured(&report(10.0)).expect("figures");
        assert_eq!((m.errors, m.resident_bytes, m.flushes_per_op), (3, Some(7), None));
        assert!(measured(&report(0.0)).is_err());
        assert!(measured(&json!({})).is_err());
    }
}
