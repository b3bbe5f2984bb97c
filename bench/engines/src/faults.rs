//! What an engine does after SIGKILL and with flipped bits under it. Each try runs in a process of its own: it may panic or hang.

use crate::engine;
use crate::load::{self, ROWS_PER_COMMAND};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const HANG: Duration = Duration::from_secs(20);

/// Child: writes for ever, saying each acknowledged command.
pub fn write_until_killed(name: &str, dir: &Path) -> Result<()> {
    let engine = engine::open(name, dir)?;
    let out = Mutex::new(std::io::stdout());
    let say = |command: u64| {
        let mut out = out.lock().expect("a writer");
        let _gone = writeln!(out, "{command}");
    };
    load::write(&engine, 16, Duration::from_secs(3600), &Arc::new(AtomicU64::new(0)), Some(&say))?;
    Ok(())
}

/// Child: opens, reads every row of commands below `commands` that `acked` names, and walks all rows.
/// Says `opened <us>`, then `right`, `wrong ...` or `error ...`.
pub fn verify(name: &str, dir: &Path, acked: &Path) -> Result<()> {
    let begun = Instant::now();
    let engine = match engine::open(name, dir) {
        Ok(e) => e,
        Err(e) => {
            println!("error at open: {e:#}");
            return Ok(());
        }
    };
    println!("opened {}", begun.elapsed().as_micros());
    let mut errors = None;
    for line in std::fs::read_to_string(acked)?.lines() {
        let command: u64 = line.parse()?;
        for r in 0..ROWS_PER_COMMAND {
            let k = load::key(command * ROWS_PER_COMMAND + r);
            match engine.get(&k) {
                Ok(Some(v)) if v == load::value(&k) => {}
                Ok(Some(_)) => return Ok(println!("wrong value of command {command}")),
                Ok(None) => return Ok(println!("wrong: command {command} is absent")),
                Err(e) => errors = Some(format!("{e:#}")),
            }
        }
    }
    let mut wrong = 0;
    let walked = engine.scan(b"", usize::MAX, &mut |k, v| wrong += usize::from(v != load::value(k)));
    match (walked, errors, wrong) {
        (_, _, 1..) => println!("wrong value of {wrong} rows in a scan"),
        (Err(e), _, _) => println!("error in scan: {e:#}"),
        (_, Some(e), _) => println!("error in get: {e}"),
        (Ok(_), None, 0) => println!("right"),
    }
    Ok(())
}

pub struct Killed {
    pub acked: usize,
    pub reopen_us: u64,
    pub verdict: String,
}

/// Fills a directory for `time`, kills the writer, checks what it acknowledged. The list stays in `dir.acked`.
pub fn kill(name: &str, dir: &Path, time: Duration) -> Result<Killed> {
    std::fs::create_dir_all(dir)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["write-until-killed", name])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().context("piped")?;
    let reader = std::thread::spawn(move || -> Vec<String> { BufReader::new(out).lines().map_while(Result::ok).collect() });
    std::thread::sleep(time);
    child.kill()?;
    child.wait()?;
    let mut acked = reader.join().expect("the reader");
    // The last line may be half a number.
    acked.pop();
    std::fs::write(acked_of(dir), acked.join("\n"))?;
    let (reopen_us, verdict) = judge(name, dir, &acked_of(dir))?;
    Ok(Killed { acked: acked.len(), reopen_us, verdict })
}

pub fn acked_of(dir: &Path) -> PathBuf {
    dir.with_extension("acked")
}

/// Runs [`verify`] in a child and sorts its end.
pub fn judge(name: &str, dir: &Path, acked: &Path) -> Result<(u64, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["verify", name])
        .arg(dir)
        .arg(acked)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > HANG {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    child.stdout.take().context("piped")?.read_to_string(&mut said)?;
    let opened = said.lines().find_map(|l| l.strip_prefix("opened ")).and_then(|n| n.parse().ok());
    let last = said.lines().last().unwrap_or_default().to_owned();
    let verdict = match status {
        None => "hang".to_owned(),
        Some(s) if s.success() => last,
        Some(_) => format!("panic after {last:?}"),
    };
    Ok((opened.unwrap_or(0), verdict))
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, out)?;
        } else if path.metadata()?.len() > 0 {
            out.push(path);
        }
    }
    out.sort();
    Ok(())
}

/// Flips one bit in each of `tries` places of a killed directory, weighted by size, and counts how the engine takes it.
pub fn flips(name: &str, dir: &Path, tries: u64) -> Result<BTreeMap<String, u64>> {
    let mut verdicts = BTreeMap::new();
    for n in 0..tries {
        let copy = dir.with_extension("flip");
        let _absent = std::fs::remove_dir_all(&copy);
        let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(dir).arg(&copy).status()?;
        anyhow::ensure!(status.success(), "cp");
        let mut all = Vec::new();
        files(&copy, &mut all)?;
        let places: Vec<(PathBuf, u64)> = all.into_iter().map(|p| (p.clone(), p.metadata().map_or(0, |m| m.len()))).collect();
        let total: u64 = places.iter().map(|p| p.1).sum();
        flip_used(&places, load::mix(n) % total, n)?;
        let (_, verdict) = judge(name, &copy, &acked_of(dir))?;
        let kind = verdict.split([':', ' ']).next().unwrap_or_default().to_owned();
        *verdicts.entry(kind).or_default() += 1;
    }
    Ok(verdicts)
}

/// Flips a bit at `at` of all files laid end to end, or at the next place whose 4 KiB are not all zero (holes prove nothing).
fn flip_used(places: &[(PathBuf, u64)], mut at: u64, n: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut which = 0;
    while at >= places[which].1 {
        at -= places[which].1;
        which += 1;
    }
    loop {
        let (path, len) = &places[which];
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        while at < *len {
            let page = at / 4096 * 4096;
            let mut buf = vec![0; 4096.min((len - page) as usize)];
            file.read_exact_at(&mut buf, page)?;
            if buf.iter().any(|b| *b != 0) {
                buf[(at - page) as usize] ^= 1 << (n % 8);
                file.write_all_at(&buf, page)?;
                return Ok(());
            }
            at = page + 4096;
        }
        which = (which + 1) % places.len();
        at = 0;
    }
}
