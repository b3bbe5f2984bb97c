//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, guided by coverage.
//!
//! A stable rustc can count where the program has been (fuzz/instrument); what it cannot do is AddressSanitizer, for which a nightly one is
//! needed. Cairn has no unsafe code, so that looks at what others wrote alone. What a run finds worth keeping stays in
//! target/fuzz/corpus and is begun from the next time; fuzz/corpus is what is kept for everybody.

use crate::repo::Repo;
use crate::stage::{self, Counts};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest input.
const BYTES_MAX: usize = 8192;
/// Memory of one target, MiB: what reads input holds little.
const MEMORY_MIB_MAX: usize = 1024;
/// One input that takes longer is a finding.
const INPUT_SECONDS_MAX: u64 = 10;

/// What to run.
pub(crate) struct Plan {
    /// All where none is named.
    pub(crate) targets: Vec<String>,
    /// For how long each.
    pub(crate) seconds: u64,
    /// Also leaves in fuzz/corpus the few inputs that reach what all of them reach.
    pub(crate) keep: bool,
}

/// Runs targets one after the other; each is a test.
pub(crate) fn fuzz(repo: &Repo, plan: &Plan) -> Result<Counts> {
    let nightly = say_what_is_used(repo)?;
    let known = list(repo)?;
    let targets = if plan.targets.is_empty() {
        &known
    } else {
        &plan.targets
    };
    for target in targets {
        ensure!(
            known.contains(target),
            "no target {target}; there are: {}",
            known.join(", ")
        );
    }
    let mut counts = build(repo, targets, nightly)?;
    if counts.failed > 0 {
        return Ok(counts);
    }
    counts = Counts::default();
    for target in targets {
        println!("\n-- {target}, {} s", plan.seconds);
        counts += Counts::one(run(repo, target, plan, nightly)?);
    }
    Ok(counts)
}

/// Whether the toolchain is a nightly one; says plainly what follows.
fn say_what_is_used(repo: &Repo) -> Result<bool> {
    let told = repo
        .command("rustc")
        .arg("--version")
        .output()
        .context("rustc --version")?;
    let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    let nightly = version.contains("nightly");
    if nightly {
        println!("{version}: coverage-guided, with AddressSanitizer");
    } else {
        println!(
            "NO NIGHTLY TOOLCHAIN IS HERE ({version}): coverage-guided all the same (Cairn's crates are compiled with LLVM's sancov-module), \
             but without AddressSanitizer. For that: a nightly toolchain, and `cargo +nightly xtask fuzz` or cargo-fuzz in fuzz/."
        );
    }
    Ok(nightly)
}

fn list(repo: &Repo) -> Result<Vec<String>> {
    let mut c = repo.cargo(&["run", "--quiet", "--package", "cairn-fuzz", "--", "list"]);
    let told = c.output().context("the list of targets")?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    Ok(String::from_utf8_lossy(&told.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

/// The same target directory as everything else, and the same versions: of what others wrote, nothing is compiled again.
fn build(repo: &Repo, targets: &[String], nightly: bool) -> Result<Counts> {
    fs::copy(
        repo.root().join("Cargo.lock"),
        repo.root().join("fuzz/Cargo.lock"),
    )?;
    let mut c = repo.cargo(&["build", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    c.arg(directory(repo, nightly))
        .env("RUSTC_WRAPPER", repo.root().join("fuzz/instrument"));
    if nightly {
        c.env("CAIRN_FUZZ_FLAGS", "-Zsanitizer=address");
    }
    for target in targets {
        c.args(["--bin", target]);
    }
    stage::run(c)
}

fn directory(repo: &Repo, nightly: bool) -> PathBuf {
    repo.target(if nightly { "fuzz/nightly" } else { "" })
}

fn run(repo: &Repo, target: &str, plan: &Plan, nightly: bool) -> Result<bool> {
    let place = repo.target("fuzz");
    let corpus = place.join("corpus").join(target);
    let artifacts = place.join("artifacts").join(target);
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory)?;
    }
    let seeds = repo.cargo(&["run", "--quiet", "--package", "cairn-fuzz", "--", "seeds", target]);
    succeed(seeds, &corpus)?;
    let kept = repo.root().join("fuzz/corpus").join(target);
    let mut c = repo.command(directory(repo, nightly).join("debug").join(target));
    c.args([&corpus, &kept])
        .arg(format!("-max_total_time={}", plan.seconds))
        .arg(format!("-max_len={BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=1"]);
    let held = stage::run(c)?.failed == 0;
    if held && plan.keep {
        let mut c = repo.command(directory(repo, nightly).join("debug").join(target));
        c.arg("-merge=1").args([&kept, &corpus]);
        return Ok(stage::run(c)?.failed == 0);
    }
    if !held {
        println!(
            "what broke it is in {}: cargo run -p cairn-fuzz -- run {target} FILE",
            artifacts.display()
        );
    }
    Ok(held)
}

fn succeed(mut command: Command, last: &Path) -> Result<()> {
    let status = command.arg(last).status()?;
    ensure!(status.success(), "{command:?}");
    Ok(())
}
