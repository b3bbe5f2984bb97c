//! The real binary, driven from outside: clients, the fixture, kills and power cuts.
//!
//! The tests themselves are Python under tests/ (nobody here wrote their S3 clients); this builds the binary, tells them
//! where it is, and counts what they say.

use crate::machine;
use crate::repo::Repo;
use crate::stage::{self, Counts};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Power cuts that take what the device holds in a cache of its own, too.
const CACHED_CYCLES: &str = "22";
/// Power cuts that leave the device's cache.
const CUT_CYCLES: &str = "8";
/// Cycles of each kind within which a skipped sync must show.
const PLANTED_CYCLES: &str = "12";
/// What of a soak is part of every test, beside the half minute that it rests and is checked.
pub(crate) const SOAK_SHORT: &str = "20s";
/// Power cuts under load while everything that can be reclaimed is.
const RECLAIM_CYCLES: &str = "8";

/// Builds the binary as tests run it: for itself alone, so that no other package's features are in it.
pub(crate) fn build(repo: &Repo) -> Result<Counts> {
    stage::run(repo.cargo(&["build", "--package", "cairn-server", "--bin", "cairn"]))
}

/// Builds the simulation and the binary that bugs can be planted in, beside the whole workspace, so that what the tests
/// compiled is used again; then the real binary, which takes its place back.
pub(crate) fn build_all(repo: &Repo) -> Result<Counts> {
    let with_plants = [
        "build",
        "--workspace",
        "--bins",
        "--features",
        "cairn-server/plant",
    ];
    let mut counts = stage::run(repo.cargo(&with_plants))?;
    if counts.failed == 0 {
        let planted = planted(repo);
        if let Some(dir) = planted.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::copy(binary(repo), planted)?;
    }
    counts += build(repo)?;
    Ok(counts)
}

fn binary(repo: &Repo) -> PathBuf {
    repo.target("debug/cairn")
}

fn planted(repo: &Repo) -> PathBuf {
    repo.target("planted/cairn")
}

/// A Python of the tests' own, with what every test script needs to know in its environment.
fn python(repo: &Repo, binary: PathBuf) -> Result<Command> {
    script(repo, binary, &machine::python(repo)?)
}

/// The same with another Python.
fn script(repo: &Repo, binary: PathBuf, python: &Path) -> Result<Command> {
    ensure!(
        binary.exists(),
        "{} is not built: cargo build --package cairn-server",
        binary.display()
    );
    let mut c = repo.command(python);
    // Only what is said here: a leftover of the caller's would point the tests at another store, or set up the one under test.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_ours) {
            c.env_remove(name);
        }
    }
    c.env("CAIRN_BINARY", binary)
        .env("CAIRN_TEST_DIR", repo.target("test-data"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env(
            "PYTHONPATH",
            std::env::join_paths(["tests", "tests/crash"].map(|d| repo.root().join(d)))?,
        );
    if let Some(bin) = python.parent() {
        let path = std::env::var("PATH").unwrap_or_default();
        c.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()));
    }
    Ok(c)
}

/// Whether a variable is the binary's, or its tests'.
fn is_ours(name: &str) -> bool {
    name.starts_with("CAIRN_")
}

/// Real clients: aws-cli, rclone, boto3, raw sockets.
pub(crate) fn clients(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let mut c = python(repo, binary(repo))?;
    c.args(["-m", "pytest", "--config-file", "tests/pytest.ini"]);
    if arguments.is_empty() {
        c.arg("tests/blackbox");
    } else {
        c.args(arguments);
    }
    stage::run(c)
}

/// SIGKILLs and power cuts under load, after the harness has shown that it sees losses.
pub(crate) fn crash(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let mut harness = python(repo, binary(repo))?;
    harness.args([
        "-m",
        "pytest",
        "--config-file",
        "tests/pytest.ini",
        "tests/crash/test_harness.py",
    ]);
    let mut counts = stage::run(harness)?;
    if counts.failed == 0 {
        let mut c = python(repo, binary(repo))?;
        c.args(["tests/crash/run.py", "--cuts", CUT_CYCLES])
            .args(arguments);
        counts += stage::run(c)?;
        let mut c = python(repo, binary(repo))?;
        c.args(["tests/crash/run.py", "--cuts", CACHED_CYCLES])
            .args(arguments)
            .args(["--cached", "--kills", "0"]);
        counts += stage::run(c)?;
    }
    Ok(counts)
}

/// Resident memory under more at once than the budget holds, of the binary as it is released.
pub(crate) fn memory(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let built = stage::run(repo.released())?;
    if built.failed > 0 {
        return Ok(built);
    }
    let mut c = python(repo, repo.target("release/cairn"))?;
    c.arg("tests/memory/run.py").args(arguments);
    stage::run(c)
}

/// A small disk filled to the last byte and emptied, three times: as it is, and with the power cut in each phase; then reclaim beside
/// a slow reader, and under writes over the same keys.
pub(crate) fn full_disk(repo: &Repo) -> Result<Counts> {
    let mut counts = Counts::default();
    for arguments in [&[][..], &["--cuts"]] {
        let mut c = python(repo, binary(repo))?;
        c.arg("tests/crash/full.py").args(arguments);
        counts += stage::run(c)?;
    }
    let mut c = python(repo, binary(repo))?;
    c.arg("tests/crash/reclaim.py");
    counts += stage::run(c)?;
    let mut c = python(repo, binary(repo))?;
    c.args([
        "tests/crash/run.py",
        "--reclaim",
        "--cached",
        "--kills",
        "0",
        "--cuts",
        RECLAIM_CYCLES,
    ]);
    counts += stage::run(c)?;
    Ok(counts)
}

/// A soak; its arguments say for how long.
pub(crate) fn soak(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let mut c = python(repo, binary(repo))?;
    c.arg("tests/crash/soak.py").args(arguments);
    stage::run(c)
}

/// Power cuts with one sync left out of the binary, in each way of writing: it must be found out. What is written past the page cache
/// waits in the device's; where a file system refuses that way, in the page cache.
pub(crate) fn crash_planted(repo: &Repo) -> Result<Counts> {
    let mut counts = Counts::default();
    for (bugs, arguments) in [
        ("skip-sync", &["--cached", "--expect-loss"][..]),
        ("skip-extent-sync", &["--cached", "--expect-loss"]),
        ("refuse-direct,skip-sync", &["--expect-loss"]),
        ("refuse-direct,skip-extent-sync", &["--expect-loss"]),
        // Of a small disk, whose journal is soon let go.
        ("skip-page-sync", &["--reclaim", "--expect-loss"]),
        // And with none left out that way loses nothing.
        ("refuse-direct", &[]),
    ] {
        let mut c = python(repo, planted(repo))?;
        c.args(["tests/crash/run.py", "--kills", "0", "--cuts", PLANTED_CYCLES])
            .args(arguments)
            .env("CAIRN_PLANT", bugs);
        counts += stage::run(c)?;
    }
    Ok(counts)
}

/// Flipped bytes: all of a small store in one process, then with the real binary: all of a small store, and ten thousand of a large one, or
/// as many as the arguments say.
pub(crate) fn flips(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let mut all = repo.cargo(&[
        "test",
        "--release",
        "--package",
        "cairn-sim",
        "--test",
        "flips",
        "--",
        "--nocapture",
    ]);
    all.env("CAIRN_FLIPS", "1");
    let mut counts = stage::run(all)?;
    counts += build(repo)?;
    counts += flipped_binary(repo, arguments)?;
    Ok(counts)
}

/// Some flipped bytes with the real binary.
pub(crate) fn flipped_binary(repo: &Repo, arguments: &[String]) -> Result<Counts> {
    let mut c = python(repo, binary(repo))?;
    c.arg("tests/flips/run.py").args(arguments);
    stage::run(c)
}

/// The public suite, from a checkout that somebody made: nothing is cloned from here.
pub(crate) fn conformance(repo: &Repo, suite: &Path, arguments: &[String]) -> Result<Counts> {
    let suite = std::path::absolute(suite)?;
    ensure!(
        suite.join("s3tests.conf.SAMPLE").is_file(),
        "{} is no checkout of the suite: `git clone https://github.com/ceph/s3-tests` puts one anywhere, --suite says where",
        suite.display()
    );
    build(repo)?;
    let needs = repo.root().join("tests/conformance/requirements.txt");
    let mut c = script(
        repo,
        binary(repo),
        &machine::environment(repo, "conformance", &needs)?,
    )?;
    c.arg("tests/conformance/run.py")
        .arg(suite)
        .arg("docs/conformance.md")
        .args(arguments);
    stage::run(c)
}

/// Clients in Rust. They are another workspace with another lock file, so their artifacts stay apart, too.
pub(crate) fn rust_clients(repo: &Repo) -> Result<Counts> {
    build(repo)?;
    let target = repo.target("clients");
    let mut cargo = repo.cargo(&[
        "build",
        "--manifest-path",
        "clients/Cargo.toml",
        "--locked",
        "--target-dir",
    ]);
    cargo.arg(&target);
    let built = stage::run(cargo)?;
    if built.failed > 0 {
        return Ok(built);
    }
    let mut c = python(repo, binary(repo))?;
    c.arg("tests/rust_clients.py")
        .arg(target.join("debug/cairn-clients"));
    stage::run(c)
}

/// Opens what an earlier build wrote (I10).
pub(crate) fn replay_fixture(repo: &Repo) -> Result<Counts> {
    let mut c = python(repo, binary(repo))?;
    c.args(["tests/fixtures/replay.py"]);
    stage::run(c)
}

/// Writes what later builds must open.
pub(crate) fn write_fixture(repo: &Repo, again: bool) -> Result<Counts> {
    build(repo)?;
    let mut c = python(repo, binary(repo))?;
    c.args(["tests/fixtures/write.py"])
        .args(again.then_some("--again"));
    stage::run(c)
}
