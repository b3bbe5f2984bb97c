//! `cairn-sim`: runs seeds, prints what happened and, for a seed that failed, how to see it again.
#![allow(clippy::print_stdout, reason = "the answer of this command")]

use clap::Parser;
use sim::disk::Counts;
use sim::run::{Report, run};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use world::World;
use world::plant::{Plant, plant_process};

/// The simulation: the whole store in one thread from one seed.
#[derive(Parser)]
struct Line {
    /// Seeds `A..B`, B left out.
    #[arg(long, value_parser = range, conflicts_with = "seed")]
    seeds: Option<(u64, u64)>,
    /// One seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints the log.
    #[arg(long)]
    verbose: bool,
    /// Plants a bug that the simulation must find: `skip-sync`, ... (`world::plant`).
    #[arg(long, value_parser = plant)]
    plant: Option<Plant>,
    /// Threads, each with seeds of its own.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is not A..B");
    let (a, b) = text.split_once("..").ok_or_else(wrong)?;
    let number = |s: &str| s.parse::<u64>().map_err(|_| wrong());
    Ok((number(a)?, number(b)?))
}

fn plant(name: &str) -> Result<Plant, String> {
    Plant::parse(name).ok_or_else(|| format!("{name:?} is no bug that can be planted"))
}

fn main() -> ExitCode {
    let line = Line::parse();
    if let Some(plant) = line.plant {
        plant_process(plant);
    }
    let (first, end) = match (line.seed, line.seeds) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(range)) => range,
        (None, None) => (0, 2000),
    };
    let clock = World::real().clock;
    let begun = clock.mono();
    let reports = run_all(first, end, line.threads.clamp(1, 64), line.verbose);
    let mut counts = Counts::default();
    let ran = reports.len();
    let mut failed = Vec::new();
    let mut undecided = Vec::new();
    let mut logs = 0_u64;
    for report in reports {
        counts.merge(&report.counts);
        logs = logs.rotate_left(1) ^ report.hash.0 ^ report.hash.1.rotate_left(32);
        if report.failure.is_some() {
            match report.is_undecided {
                true => undecided.push(report.seed),
                false => failed.push(report.seed),
            }
        }
    }
    for (name, n) in &counts.0 {
        println!("{n:>10}  {name}");
    }
    let missing = sim::coverage::missing(&counts, ran as u64);
    if !missing.is_empty() {
        println!("never happened, but must: {}", missing.join(", "));
    }
    let much = sim::coverage::too_often(&counts, ran as u64);
    if !much.is_empty() {
        println!("let pass too often: {}", much.join(", "));
    }
    println!("logs {logs:016x}: the same whenever these seeds run");
    let took = clock.mono().saturating_sub(begun).as_secs_f64();
    println!(
        "{:.1} seeds a second in {} threads",
        ran as f64 / took.max(0.001),
        line.threads
    );
    println!(
        "{ran} seeds, {} failed {failed:?}, {} undecided {undecided:?}",
        failed.len(),
        undecided.len()
    );
    if failed.is_empty() && undecided.is_empty() && missing.is_empty() && much.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// At once: there may be many more seeds to come.
fn tell(report: &Report) {
    if let Some(failure) = &report.failure {
        println!(
            "seed {} failed: {failure}\n  again: cargo run -p cairn-sim -- --seed {} --verbose",
            report.seed, report.seed
        );
    }
}

/// Runs seeds in threads that share nothing but the next seed's number.
fn run_all(first: u64, end: u64, threads: u64, verbose: bool) -> Vec<Report> {
    let next = Arc::new(AtomicU64::new(first));
    let stop = Arc::new(AtomicBool::new(false));
    let spawn = |n: u64| {
        let (next, stop) = (next.clone(), stop.clone());
        let work = move || {
            let mut reports = Vec::new();
            let mut failures = 0;
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    break;
                }
                let report = run(seed, verbose);
                tell(&report);
                failures += u32::from(report.failure.is_some());
                reports.push(report);
                if failures >= 10 {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            reports
        };
        let name = format!("sim-{n}");
        std::thread::Builder::new()
            .name(name)
            .spawn(work)
            .expect("the system has a thread")
    };
    let threads: Vec<_> = (0..threads).map(spawn).collect();
    let mut reports: Vec<Report> = Vec::new();
    for thread in threads {
        reports.extend(thread.join().expect("a simulation reports, it does not panic"));
    }
    reports.sort_by_key(|r| r.seed);
    reports
}
