//! A store that is measured: started on a directory of its own, stopped by its process. Cairn; the others are in `peers`.

use super::load::{Connection, Target};
use super::rows::Who;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub(super) const ACCESS_KEY: &str = "bench";
pub(super) const SECRET_KEY: &str = "a-secret-for-measuring";
/// The bucket of all runs.
pub(crate) const BUCKET: &str = "bench";
/// Linux' unit of process times.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long one that was asked to end is waited for.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks at one that comes up or ends.
const BETWEEN_ASKS: Duration = Duration::from_millis(20);

/// A running store; ended when dropped.
pub(crate) struct Store {
    pub(crate) who: Who,
    /// Version and how it was set up, for the page.
    pub(crate) about: String,
    /// Whether what it answered is on the disk.
    pub(crate) syncs: &'static str,
    pub(crate) target: Target,
    pub(super) process: Child,
    /// What ends it. nginx' workers outlive a master that was killed.
    pub(super) ends_by: Signal,
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.ends_by != Signal::KILL
            && let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
            && kill_process(pid, self.ends_by).is_ok()
        {
            let asked = Instant::now();
            while asked.elapsed() < ENDS_WITHIN {
                if matches!(self.process.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // Already gone is as good.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Store {
    /// Processor time it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit(") ").next().context("a process' times")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// Its resident memory.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|l| l.trim().strip_suffix(" kB"))
            .context("a resident size")?;
        Ok(kib.parse::<u64>()? << 10)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn wait(mut self) -> Result<Self> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended: {status}", self.who.name());
            }
            if Connection::open(&self.target).is_ok_and(|mut c| c.ask("GET", "/", "", b"").is_ok()) {
                return Ok(self);
            }
            std::thread::sleep(BETWEEN_ASKS);
        }
        bail!("{} is not ready after a minute", self.who.name())
    }
}

fn fetch(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{path}: {text:.200}");
    Ok(text)
}

pub(super) fn target() -> Result<Target> {
    Ok(Target {
        port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
    })
}

pub(super) fn output(program: &Path, argument: &str) -> String {
    Command::new(program)
        .arg(argument)
        .output()
        .map(|o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .unwrap_or_default()
}

/// A program that gets a signal when this one ends, however that comes: a store that nobody measures any more would be measured by the next run.
pub(super) fn bound(program: impl AsRef<OsStr>, ends_by: &str) -> Command {
    let mut c = Command::new("setpriv");
    c.args(["--pdeathsig", ends_by, "--"]).arg(program);
    c
}

/// How `child` ended; what does not end `within` that is ended, and is an error.
pub(super) fn ended(mut child: Child, within: Duration) -> Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > within {
            child.kill()?;
            child.wait()?;
            bail!("it did not end within {} s", within.as_secs());
        }
        std::thread::sleep(BETWEEN_ASKS);
    }
}

/// Cairn, as it comes; it can serve.
pub(crate) fn cairn(binary: &Path, dir: &Path) -> Result<Store> {
    cairn_begun(binary, dir)?.wait()
}

/// Cairn, just started.
pub(crate) fn cairn_begun(binary: &Path, dir: &Path) -> Result<Store> {
    let target = target()?;
    let process = bound(binary, "KILL")
        .arg("server")
        .arg(dir.join("cairn"))
        .args(["--listen", &format!("127.0.0.1:{}", target.port)])
        .env("CAIRN_ROOT_ACCESS_KEY", ACCESS_KEY)
        .env("CAIRN_ROOT_SECRET_KEY", SECRET_KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("cairn.log"))?)
        .spawn()?;
    Ok(Store {
        who: Who::Cairn,
        about: format!("{}, release build, defaults", output(binary, "--version")),
        syncs: "before every answer",
        target,
        process,
        ends_by: Signal::KILL,
    })
}

/// `store` with the bucket of all runs and an object in it: SeaweedFS makes what it keeps a bucket in when the first put comes, which takes it seconds
/// that are not of the load.
pub(super) fn served(store: Store) -> Result<Store> {
    let mut connection = Connection::open(&store.target)?;
    let bucket = format!("/{BUCKET}");
    connection.ask("PUT", &bucket, "", b"").context("the bucket")?;
    let first = format!("{bucket}/first");
    connection
        .ask("PUT", &first, "", &[7; 4096])
        .context("the first put")?;
    Ok(store)
}

/// When `store` first answered a request with success.
pub(crate) fn first_answer(store: &Store, method: &str, path: &str, within: Duration) -> Result<Instant> {
    first(within, || {
        Connection::open(&store.target)
            .and_then(|mut c| c.ask(method, path, "", b""))
            .map(|_| ())
    })
}

/// When `store` first said that it can serve a write.
pub(crate) fn first_ready(store: &Store, within: Duration) -> Result<Instant> {
    first(within, || fetch(store.target.port, "/-/health/ready").map(|_| ()))
}

fn first(within: Duration, ask: impl Fn() -> Result<()>) -> Result<Instant> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(()) => return Ok(Instant::now()),
            Err(e) if begun.elapsed() > within => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_end_is_ended() -> Result<()> {
        let sleeps = |seconds| Command::new("sleep").arg(seconds).spawn();
        let day = sleeps("86400")?;
        assert!(ended(day, Duration::ZERO).is_err());
        assert!(ended(sleeps("0")?, Duration::from_secs(3600))?.success());
        Ok(())
    }
}
