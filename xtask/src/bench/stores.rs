//! The stores that are measured: started on a directory of their own, stopped by their process.

use super::load::{Connection, Target};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ACCESS_KEY: &str = "bench";
const SECRET_KEY: &str = "a-secret-for-measuring";
/// Linux' unit of process times.
const TICKS_PER_SECOND: f64 = 100.0;
/// Longer than Cairn takes to bring its counters up to date.
const TICK: Duration = Duration::from_millis(1500);
/// Cairn's counter of the journal's syncs.
const FLUSHES: &str = "cairn_journal_flushes_total";

/// A running store; killed when dropped.
pub(crate) struct Store {
    pub(crate) name: &'static str,
    /// Version and how it was set up, for the page.
    pub(crate) about: String,
    pub(crate) target: Target,
    process: Child,
    tells_flushes: bool,
}

impl Drop for Store {
    fn drop(&mut self) {
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

    /// Syncs since its start, where it tells.
    pub(crate) fn flushes(&self) -> Option<f64> {
        if !self.tells_flushes {
            return None;
        }
        std::thread::sleep(TICK);
        let page = fetch(self.target.port, "/-/metrics").ok()?;
        let lines = page.lines().filter(|l| l.starts_with(FLUSHES));
        let values: Vec<f64> = lines.filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    fn wait(mut self) -> Result<Self> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            if Connection::open(&self.target).is_ok_and(|mut c| c.ask("GET", "/", "", b"").is_ok()) {
                return Ok(self);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("{} is not ready after a minute", self.name)
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

fn target() -> Result<Target> {
    Ok(Target {
        port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
    })
}

fn output(program: &Path, argument: &str) -> String {
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

/// Cairn, as it comes; it can serve.
pub(crate) fn cairn(binary: &Path, dir: &Path) -> Result<Store> {
    cairn_begun(binary, dir)?.wait()
}

/// Cairn, just started.
pub(crate) fn cairn_begun(binary: &Path, dir: &Path) -> Result<Store> {
    let target = target()?;
    let process = Command::new(binary)
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
        name: "Cairn",
        about: format!(
            "{}, release build, defaults: syncs before every answer",
            output(binary, "--version")
        ),
        target,
        process,
        tells_flushes: true,
    })
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

/// SeaweedFS, all its roles in one process, at its defaults.
pub(crate) fn seaweedfs(python: &Path, dir: &Path) -> Result<Store> {
    let weed: PathBuf = python.with_file_name("weed");
    let target = target()?;
    let data = dir.join("weed");
    fs::create_dir_all(&data)?;
    let identities = dir.join("weed-identities.json");
    let identity = serde_json::json!({"identities": [{
        "name": "bench", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    }]});
    fs::write(&identities, identity.to_string())?;
    let mut c = Command::new(&weed);
    c.arg("server")
        .arg(format!("-dir={}", data.display()))
        .args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ])
        .arg(format!("-s3.port={}", target.port))
        .arg(format!("-s3.config={}", identities.display()));
    for (role, from) in [("master", 20_000), ("volume", 22_000), ("filer", 24_000)] {
        let port = free_low_port(from)?;
        c.arg(format!("-{role}.port={port}"))
            .arg(format!("-{role}.port.grpc={}", port + 10_000));
    }
    let process = c
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("weed.log"))?)
        .spawn()
        .with_context(|| format!("{}", weed.display()))?;
    let store = Store {
        name: "SeaweedFS",
        about: format!(
            "{}, `weed server -s3`, defaults: does not sync before answering",
            output(&weed, "version")
        ),
        target,
        process,
        tells_flushes: false,
    };
    store.wait()
}

/// A free port whose gRPC companion ten thousand above is a port, too.
fn free_low_port(from: u16) -> Result<u16> {
    (from..from + 2000)
        .step_by(37)
        .map(|base| base + u16::try_from(std::process::id() % 37).unwrap_or(0))
        .find(|p| {
            [*p, p + 10_000]
                .iter()
                .all(|p| TcpListener::bind(("127.0.0.1", *p)).is_ok())
        })
        .context("no free port")
}
