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
/// Garage has its own form for both.
const GARAGE_KEY: &str = "GK31c2f218a2e44f485b94239e";
const GARAGE_SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";
/// The bucket of all runs.
pub(crate) const BUCKET: &str = "bench";
/// Linux' unit of process times.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running store; killed when dropped.
pub(crate) struct Store {
    pub(crate) name: &'static str,
    /// Version and how it was set up, for the page.
    pub(crate) about: String,
    /// Whether what it answered is on the disk.
    pub(crate) syncs: &'static str,
    pub(crate) target: Target,
    process: Child,
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

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
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
        about: format!("{}, release build, defaults", output(binary, "--version")),
        syncs: "before every answer",
        target,
        process,
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
        about: format!("{}, `weed server -s3`, defaults", output(&weed, "version")),
        syncs: "not before it answers",
        target,
        process,
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

/// Garage, one node, at its defaults: `garage` was built by `cargo install`.
pub(crate) fn garage(garage: &Path, dir: &Path) -> Result<Store> {
    let (s3, rpc) = (free_port()?, free_port()?);
    let conf = dir.join("garage.toml");
    let data = dir.join("garage");
    let text = format!(
        "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
         rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{1}\"\n\
         [s3_api]\ns3_region = \"us-east-1\"\napi_bind_addr = \"127.0.0.1:{s3}\"\nroot_domain = \".s3.localhost\"\n",
        data.display(),
        "5a".repeat(32),
    );
    fs::write(&conf, text)?;
    let process = Command::new(garage)
        .arg("-c")
        .arg(&conf)
        .arg("server")
        .env("RUST_LOG", "garage=warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("garage.log"))?)
        .spawn()
        .with_context(|| garage.display().to_string())?;
    let store = Store {
        name: "Garage",
        about: format!("{}, one node, LMDB, defaults", output(garage, "--version")),
        syncs: "not before it answers",
        target: Target {
            port: s3,
            access_key: GARAGE_KEY.to_owned(),
            secret_key: GARAGE_SECRET.to_owned(),
        },
        process,
    };
    let ask = |arguments: &[&str]| -> Result<String> {
        let out = Command::new(garage)
            .arg("-c")
            .arg(&conf)
            .args(arguments)
            .output()?;
        let told = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "garage {arguments:?}: {told}");
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let begun = Instant::now();
    let node = loop {
        match ask(&["node", "id", "-q"]).and_then(|node| ask(&["status"]).map(|_| node)) {
            Ok(node) => break node,
            Err(e) if begun.elapsed() > Duration::from_secs(60) => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let node = node.trim().split('@').next().unwrap_or_default().to_owned();
    ask(&["layout", "assign", "-z", "here", "-c", "100G", &node])?;
    ask(&["layout", "apply", "--version", "1"])?;
    ask(&["key", "import", "--yes", GARAGE_KEY, GARAGE_SECRET])?;
    ask(&["key", "allow", "--create-bucket", GARAGE_KEY])?;
    store.wait()
}

/// nginx over files that are put into a directory: what the kernel gives from its page cache. It signs and lists nothing.
pub(crate) fn files(dir: &Path) -> Result<Store> {
    let target = target()?;
    let root = dir.join("nginx");
    fs::create_dir_all(root.join("files").join(BUCKET))?;
    let conf = format!(
        "daemon off;\nuser root;\nworker_processes auto;\npid {0}/pid;\nerror_log {0}/log;\nevents {{ worker_connections 1024; }}\n\
         http {{\n access_log off;\n sendfile on;\n tcp_nopush on;\n tcp_nodelay on;\n keepalive_requests 1000000000;\n\
         open_file_cache max=20000;\n client_max_body_size 0;\n client_body_temp_path {0}/coming;\n proxy_temp_path {0}/t1;\n\
         fastcgi_temp_path {0}/t2;\n uwsgi_temp_path {0}/t3;\n scgi_temp_path {0}/t4;\n\
         server {{\n  listen 127.0.0.1:{1};\n  root {0}/files;\n  location = / {{ return 200; }}\n  location = /{BUCKET} {{ return 200; }}\n\
           location / {{ dav_methods PUT DELETE; create_full_put_path on; }}\n }}\n}}\n",
        root.display(),
        target.port
    );
    let path = root.join("conf");
    fs::write(&path, conf)?;
    let process = Command::new("nginx")
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(root.join("stderr"))?)
        .spawn()
        .context("nginx")?;
    let version = Command::new("nginx").arg("-v").output()?;
    let store = Store {
        name: "nginx",
        about: format!(
            "{}, static files by sendfile",
            String::from_utf8_lossy(&version.stderr).trim()
        ),
        syncs: "stores nothing",
        target,
        process,
    };
    store.wait()
}

/// The limit server, on a directory of its own: crates/bench/examples/limit.rs.
pub(crate) fn limit(binary: &Path, dir: &Path) -> Result<Store> {
    let target = target()?;
    let data = dir.join("limit");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    fs::create_dir_all(&data)?;
    let process = Command::new(binary)
        .arg(&data)
        .arg(target.port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| binary.display().to_string())?;
    let store = Store {
        name: "limit",
        about: "appends to one file and syncs for all that wait, no account, no hash, no recovery (`crates/bench/examples/limit.rs`)".to_owned(),
        syncs: "before every answer",
        target,
        process,
    };
    store.wait()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
