//! Who Cairn is measured beside: the peers at their defaults, nginx over static files, and the limit server.

use super::load::Target;
use super::rows::Who;
use super::stores::{ACCESS_KEY, BUCKET, SECRET_KEY, Store, bound, output, target};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Garage has its own form for both.
const GARAGE_KEY: &str = "GK31c2f218a2e44f485b94239e";
const GARAGE_SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";

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
    let process = bound(&weed, "KILL")
        .args(seaweedfs_arguments(dir, target.port)?)
        .arg(format!("-dir={}", data.display()))
        .arg(format!("-s3.config={}", identities.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("weed.log"))?)
        .spawn()
        .with_context(|| format!("{}", weed.display()))?;
    let store = Store {
        who: Who::SeaweedFS,
        about: format!("{}, `weed server -s3`, defaults", output(&weed, "version")),
        syncs: "not before it answers",
        target,
        process,
        ends_by: Signal::KILL,
    };
    store.wait()
}

/// Where it listens. What it chooses by itself it chooses badly: ports ten thousand above another, which may be none, and sockets in /tmp.
fn seaweedfs_arguments(dir: &Path, s3: u16) -> Result<Vec<String>> {
    let socket = |role: &str| {
        format!(
            "-{role}.localSocket={}",
            dir.join(role).with_extension("sock").display()
        )
    };
    let mut arguments: Vec<String> = [
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    .map(str::to_owned)
    .into();
    arguments.extend([socket("s3"), socket("filer")]);
    arguments.push(format!("-s3.port={s3}"));
    // The sockets that it makes beside these are named after their ports, and stay: always the same few.
    arguments.push(format!("-s3.port.grpc={}", free_low_port(26_000)?));
    for (role, from) in [("master", 20_000), ("volume", 22_000), ("filer", 24_000)] {
        let port = free_low_port(from)?;
        arguments.push(format!("-{role}.port={port}"));
        arguments.push(format!("-{role}.port.grpc={}", port + 10_000));
    }
    Ok(arguments)
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
    let process = bound(garage, "KILL")
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
        who: Who::Garage,
        about: format!("{}, one node, LMDB, defaults", output(garage, "--version")),
        syncs: "not before it answers",
        target: Target {
            port: s3,
            access_key: GARAGE_KEY.to_owned(),
            secret_key: GARAGE_SECRET.to_owned(),
        },
        process,
        ends_by: Signal::KILL,
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
        "daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile 65536;\npid {0}/pid;\nerror_log {0}/log;\nevents {{ worker_connections 1024; }}\n\
         http {{\n access_log off;\n sendfile on;\n tcp_nopush on;\n tcp_nodelay on;\n keepalive_requests 1000000000;\n\
         open_file_cache max=4000 inactive=5s;\n client_max_body_size 0;\n client_body_temp_path {0}/coming;\n proxy_temp_path {0}/t1;\n\
         fastcgi_temp_path {0}/t2;\n uwsgi_temp_path {0}/t3;\n scgi_temp_path {0}/t4;\n\
         server {{\n  listen 127.0.0.1:{1};\n  root {0}/files;\n  location = / {{ return 200; }}\n  location = /{BUCKET} {{ return 200; }}\n\
           location / {{ dav_methods PUT DELETE; create_full_put_path on; }}\n }}\n}}\n",
        root.display(),
        target.port
    );
    let path = root.join("conf");
    fs::write(&path, conf)?;
    let process = bound("nginx", "TERM")
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(root.join("stderr"))?)
        .spawn()
        .context("nginx")?;
    let version = Command::new("nginx").arg("-v").output()?;
    let store = Store {
        who: Who::Nginx,
        about: format!(
            "{}, static files by sendfile",
            String::from_utf8_lossy(&version.stderr).trim()
        ),
        syncs: "stores nothing",
        target,
        process,
        ends_by: Signal::TERM,
    };
    store.wait()
}

/// The limit server, on a directory of its own: crates/bench/examples/limit.rs.
pub(crate) fn limit(binary: &Path, dir: &Path) -> Result<Store> {
    let target = target()?;
    let data = dir.join("limit");
    fs::create_dir_all(&data)?;
    let process = bound(binary, "KILL")
        .arg(&data)
        .arg(target.port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| binary.display().to_string())?;
    let store = Store {
        who: Who::Limit,
        about: "appends to one file and syncs for all that wait, no account, no hash, no recovery (`crates/bench/examples/limit.rs`)".to_owned(),
        syncs: "before every answer",
        target,
        process,
        ends_by: Signal::KILL,
    };
    store.wait()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seaweedfs_chooses_neither_ports_nor_places() -> Result<()> {
        // Ten thousand above this is no port.
        let arguments = seaweedfs_arguments(Path::new("/cell"), 60_000)?;
        for role in ["s3", "master", "volume", "filer"] {
            let given = format!("-{role}.port.grpc=");
            let port = arguments.iter().find_map(|a| a.strip_prefix(&given));
            assert!(
                port.is_some_and(|p| p.parse::<u16>().is_ok()),
                "{role}: {arguments:?}"
            );
        }
        for socket in [
            "-s3.localSocket=/cell/s3.sock",
            "-filer.localSocket=/cell/filer.sock",
        ] {
            assert!(arguments.iter().any(|a| a == socket), "{socket}: {arguments:?}");
        }
        Ok(())
    }
}
