//! Every repository command: `cargo xtask check`, `cargo xtask test` and their pieces.
//!
//! What CI runs is what a person runs. A stage that cannot do its work fails and says what is missing; nothing is
//! skipped in silence. The last line of `test` is always `N passed, N failed`.
#![allow(clippy::disallowed_methods)] // it drives the real machine: there is no world to simulate here
#![allow(clippy::print_stdout)] // its stages talk to a terminal

mod bench;
mod blackbox;
mod fuzz;
mod machine;
mod repo;
mod stage;
mod tidy;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Every repository command")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, clippy and tidy: what must hold before a commit
    Check,
    /// Everything, in order: what must hold before a merge. Installs what it needs (as root: Debian packages)
    Test,
    /// The rules of ARCHITECTURE.md and CONTRIBUTING.md that a program can check
    Tidy,
    /// The simulation: arguments go to it, e.g. `cargo xtask sim --seeds 0..100`
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The real binary against real clients; arguments go to pytest
    Blackbox {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// SIGKILLs and power cuts against the real binary; arguments go to tests/crash/run.py
    Crash {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Every byte that a small store wrote, flipped one at a time, all roles in one process and then with the real binary, and 10,000
    /// bytes of a large store: a night's work; arguments go to tests/flips/run.py (--minutes, --every, --workers)
    Flips {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Mixed load, reclaim and SIGKILLs for as long as is said (30m), then memory, threads, files and disk against arithmetic; arguments
    /// go to tests/crash/soak.py
    Soak {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The budget of memory at its full size: resident memory under 256 connections, 10,000 at rest, 1,000 stalled, a listing of a million
    /// keys; takes up to 16 GiB of disk; arguments go to tests/memory/run.py
    Memory {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A small disk filled to the last byte through S3, emptied, and filled again; with power cuts too
    FullDisk,
    /// The fuzz targets under libFuzzer, guided by coverage; says what it does without where there is no nightly toolchain
    Fuzz {
        /// All, where none is named
        targets: Vec<String>,
        /// For how long each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Leaves in fuzz/corpus the few inputs that reach what all of them reach
        #[arg(long)]
        keep: bool,
    },
    /// The public suite ceph/s3-tests against the real binary, into docs/conformance.md; arguments go to pytest (then no page is written)
    Conformance {
        /// A checkout of it
        #[arg(long)]
        suite: std::path::PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// aws-sdk-s3 and object_store (clients/, a workspace of its own that compiles long) against the real binary
    Clients,
    /// Writes a data directory of this version into tests/fixtures, to be replayed by every later one
    Fixture {
        /// Over one that is there already: only before its format version is released
        #[arg(long)]
        again: bool,
    },
    /// What a million objects cost beside ten thousand: pages, starts, room on the disk, memory. Takes minutes and 8 GiB of disk
    Million {
        /// Instead of a million
        #[arg(long, default_value_t = 1_000_000)]
        objects: usize,
        /// The stores stay, in target/million-data
        #[arg(long)]
        keep: bool,
    },
    /// Cairn beside SeaweedFS, Garage, nginx and a server that only appends and syncs, into docs/BENCHMARKS.md: two hours on a machine
    /// that does nothing else. Installs the peers (Garage is compiled). What was measured is kept in target/bench-results.jsonl: a run
    /// that was stopped goes on where it was
    Bench {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 15)]
        seconds: u64,
        /// Rows whose name has this in it: `put 4 KiB`
        #[arg(long, default_value = "")]
        only: String,
        /// Only rows that are held to something: an hour and a half
        #[arg(long)]
        held: bool,
        /// A `cairn` that was built elsewhere, to try this with: then there is no page
        #[arg(long)]
        cairn: Option<std::path::PathBuf>,
        /// Forgets what was measured before (it stays in target/bench-results.jsonl.old)
        #[arg(long)]
        anew: bool,
        /// Only prints the table
        #[arg(long)]
        dry: bool,
    },
}

fn run(command: Command) -> Result<bool> {
    let repo = repo::Repo::find()?;
    Ok(match command {
        Command::Check => verify::check(&repo),
        Command::Test => verify::test(&repo),
        Command::Tidy => stage::alone("tidy", || verify::tidy(&repo)),
        Command::Sim { arguments } => stage::alone("sim", || verify::sim(&repo, &arguments)),
        Command::Blackbox { arguments } => stage::alone("black box", || blackbox::clients(&repo, &arguments)),
        Command::Crash { arguments } => stage::alone("crash", || blackbox::crash(&repo, &arguments)),
        Command::Flips { arguments } => stage::alone("flips", || blackbox::flips(&repo, &arguments)),
        Command::Fuzz {
            targets,
            seconds,
            keep,
        } => {
            let plan = fuzz::Plan {
                targets,
                seconds,
                keep,
            };
            stage::alone("fuzz", || fuzz::fuzz(&repo, &plan))
        }
        Command::Soak { arguments } => stage::alone("soak", || blackbox::soak(&repo, &arguments)),
        Command::Memory { arguments } => stage::alone("memory", || blackbox::memory(&repo, &arguments)),
        Command::FullDisk => stage::alone("a full disk", || blackbox::full_disk(&repo)),
        Command::Conformance { suite, arguments } => {
            stage::alone("conformance", || blackbox::conformance(&repo, &suite, &arguments))
        }
        Command::Clients => stage::alone("clients in Rust", || blackbox::rust_clients(&repo)),
        Command::Million { objects, keep } => {
            let size = bench::Size { objects, keep };
            stage::alone("a million objects", || bench::million(&repo, &size))
        }
        Command::Bench {
            rounds,
            seconds,
            only,
            held,
            cairn,
            anew,
            dry,
        } => {
            let plan = bench::Plan {
                rounds,
                seconds,
                only,
                held,
                anew,
                dry,
                cairn,
            };
            stage::alone("bench", || bench::bench(&repo, &plan))
        }
        Command::Fixture { again } => stage::alone("fixture", || blackbox::write_fixture(&repo, again)),
    })
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}
