//! `bench-engines [--dir D] [--rounds N] [--seconds S] [--preload COMMANDS] [--flips N] [--only NAME,NAME]`
//!
//! Every engine in turn in every round, so that whatever else the machine does falls on all of them; the table has medians.

mod engine;
mod faults;
mod load;

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Options {
    dir: PathBuf,
    rounds: u64,
    seconds: u64,
    preload: u64,
    flips: u64,
    only: Vec<String>,
}

fn options(args: &[String]) -> Result<Options> {
    let mut o = Options {
        dir: std::env::temp_dir().join("bench-engines"),
        rounds: 3,
        seconds: 5,
        preload: 100_000,
        flips: 60,
        only: engine::NAMES.map(str::to_owned).to_vec(),
    };
    for pair in args.chunks(2) {
        let [name, value] = pair else { anyhow::bail!("{} needs a value", pair[0]) };
        match name.as_str() {
            "--dir" => o.dir = value.into(),
            "--rounds" => o.rounds = value.parse()?,
            "--seconds" => o.seconds = value.parse()?,
            "--preload" => o.preload = value.parse()?,
            "--flips" => o.flips = value.parse()?,
            "--only" => o.only = value.split(',').map(str::to_owned).collect(),
            other => anyhow::bail!("no option {other}"),
        }
    }
    Ok(o)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("write-until-killed") => faults::write_until_killed(&args[1], args[2].as_ref()),
        Some("verify") => faults::verify(&args[1], args[2].as_ref(), args[3].as_ref()),
        _ => measure(&options(&args)?),
    }
}

/// What was measured, by (what, engine), one value a round.
type Table = BTreeMap<(String, String), Vec<f64>>;

fn measure(o: &Options) -> Result<()> {
    let mut table = Table::new();
    for round in 0..o.rounds {
        for name in &o.only {
            one_round(o, round, name, &mut table).with_context(|| format!("{name}, round {round}"))?;
        }
    }
    println!("median of {} rounds of {} s; {} commands loaded first", o.rounds, o.seconds, o.preload);
    for ((what, name), values) in &mut table {
        values.sort_by(f64::total_cmp);
        println!("{what:28} {name:10} {:12.1}   {values:.1?}", values[values.len() / 2]);
    }
    if o.flips > 0 {
        for name in &o.only {
            let dir = o.dir.join(format!("{name}-flipped"));
            let _absent = std::fs::remove_dir_all(&dir);
            faults::kill(name, &dir, Duration::from_millis(1500))?;
            println!("{name}: {} flipped bits: {:?}", o.flips, faults::flips(name, &dir, o.flips)?);
        }
    }
    Ok(())
}

fn one_round(o: &Options, round: u64, name: &str, table: &mut Table) -> Result<()> {
    let dir = o.dir.join(format!("{name}-{round}"));
    let _absent = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let mut note = |what: &str, value: f64| {
        eprintln!("round {round} {name:10} {what:28} {value:12.1}");
        table.entry((what.to_owned(), name.to_owned())).or_default().push(value);
    };
    let engine = engine::open(name, &dir)?;
    let next = Arc::new(AtomicU64::new(0));
    while next.load(Ordering::Relaxed) < o.preload {
        load::write(&engine, 256, Duration::from_millis(500), &next, None)?;
    }
    let time = Duration::from_secs(o.seconds);
    for writers in [1, 16, 64] {
        let w = load::write(&engine, writers, time, &next, None)?;
        note(&format!("durable commands/s, c{writers:02}"), w.per_second());
        note(&format!("worst stall ms, c{writers:02}"), w.worst.as_secs_f64() * 1e3);
    }
    let rows = o.preload * load::ROWS_PER_COMMAND;
    note("point gets/s", load::gets(engine.as_ref(), rows, time)?);
    note("scanned keys/s", load::scans(engine.as_ref(), time)?);
    drop(engine);
    let du = std::process::Command::new("du").arg("-sk").arg(&dir).output()?;
    let kib: f64 = String::from_utf8_lossy(&du.stdout).split_whitespace().next().unwrap_or("0").parse()?;
    note("MiB on disk", kib / 1024.0);
    let user = next.load(Ordering::Relaxed) * load::ROWS_PER_COMMAND * 221;
    note("MiB of rows", user as f64 / f64::from(1 << 20));
    std::fs::remove_dir_all(&dir)?;
    let killed = dir.with_extension("killed");
    let _absent = std::fs::remove_dir_all(&killed);
    let k = faults::kill(name, &killed, time)?;
    eprintln!("round {round} {name:10} after SIGKILL: {} ({} acknowledged)", k.verdict, k.acked);
    note("reopen after SIGKILL ms", k.reopen_us as f64 / 1e3);
    note("SIGKILL: all there (1 = yes)", f64::from(u8::from(k.verdict == "right")));
    std::fs::remove_dir_all(&killed)?;
    Ok(())
}
