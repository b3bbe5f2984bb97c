//! `cargo xtask million`: what a store costs at a million objects, beside what it costs at ten thousand.
//!
//! Two stores live at once, a small and a large one, and each figure is taken in turns from both: a ratio is of one run. What is held to a bound
//! is a ratio, a size, or a count; times of a start are printed, and held only to each other.

use super::load::{self, Connection};
use super::stores::{self, Store};
use super::verdict::median;
use crate::repo::Repo;
use crate::stage::{self, Counts};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SMALL: usize = 10_000;
const SIZE: usize = 1 << 10;
/// Prefixes of the bucket that is listed with a delimiter, in both stores.
const PREFIXES: usize = 10_000;
/// Prefixes of a bucket of the small store that have as many keys each as those of the large one.
const GROUPS: usize = 100;
/// Objects whose room on the disk is measured.
const ROOM_OBJECTS: usize = 100_000;
const ROOM_SIZE: usize = 4 << 10;
const CONNECTIONS: usize = 16;
const PAGES: usize = 40;
const ROUNDS: usize = 5;
/// How long pages are asked for in a round.
const PAGED: Duration = Duration::from_secs(1);
const STARTS: usize = 3;

/// A page at a million may cost so much of one at ten thousand.
const PAGE_RATIO_MAX: f64 = 1.5;
const BYTES_AN_OBJECT_MAX: f64 = 4_700.0;
const IDLE_RESIDENT_MAX: u64 = 64 << 20;
/// A start after SIGKILL is flat: so many times that of a tenth of the objects. The journal that is replayed has the same bound in both.
const START_RATIO_MAX: f64 = 2.0;
const START_MAX: Duration = Duration::from_secs(10);
/// Longer than the pause between two checkpoints.
const SETTLED: Duration = Duration::from_secs(12);
/// Longer than what is written behind waits, and then what is no longer asked for is kept in memory.
const RESTED: Duration = Duration::from_secs(30);

/// What to run.
pub(crate) struct Size {
    /// Objects of each bucket of the large store.
    pub(crate) objects: usize,
    /// Whether the stores stay for a closer look.
    pub(crate) keep: bool,
}

/// A server that is killed and started again over one directory.
struct Served {
    binary: PathBuf,
    dir: PathBuf,
    store: Option<Store>,
}

/// A kind of listing that is compared.
struct Kind {
    what: &'static str,
    /// Of the small store, of the large one.
    buckets: [&'static str; 2],
    queries: [Vec<String>; 2],
}

/// What was held, and what not.
#[derive(Default)]
struct Verdict {
    counts: Counts,
}

impl Verdict {
    fn hold(&mut self, what: &str, holds: bool, figure: &str) {
        println!("{} {what}: {figure}", if holds { "ok  " } else { "MISS" });
        let one = Counts::one(holds);
        self.counts.passed += one.passed;
        self.counts.failed += one.failed;
    }
}

impl Served {
    fn new(binary: &Path, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let store = Some(stores::cairn(binary, &dir)?);
        Ok(Self {
            binary: binary.to_owned(),
            dir,
            store,
        })
    }

    fn store(&self) -> Result<&Store> {
        self.store.as_ref().context("the server runs")
    }

    /// Kills it (SIGKILL) in the middle of puts, starts it again: how long until a client has its first object, and until it is ready for writes.
    fn killed_under_load(&mut self, from: usize) -> Result<(Duration, Duration)> {
        let target = self.store()?.target.clone();
        let writers: Vec<_> = (0..CONNECTIONS)
            .map(|n| {
                let target = target.clone();
                std::thread::spawn(move || -> Result<()> {
                    let mut c = Connection::open(&target)?;
                    let body = load::body(SIZE);
                    for i in 0.. {
                        c.ask("PUT", &format!("/killed/{from}/{n}/{i}"), "", &body)?;
                    }
                    Ok(())
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(3));
        drop(self.store.take());
        for w in writers {
            // Each ends by the error of a connection that broke.
            let _broken = w.join().ok().context("a writer panicked")?;
        }
        let begun = Instant::now();
        let store = stores::cairn_begun(&self.binary, &self.dir)?;
        let first = stores::first_answer(&store, "GET", "/flat/one/prefix/000000042", START_MAX * 6)?;
        let served = first.duration_since(begun);
        let ready = stores::first_ready(&store, START_MAX * 6)?.duration_since(begun);
        self.store = Some(store);
        Ok((served, ready))
    }
}

/// Puts objects `from..to`, `CONNECTIONS` at a time.
fn fill(store: &Store, from: usize, to: usize, size: usize, name: fn(usize) -> String) -> Result<()> {
    let begun = Instant::now();
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let target = store.target.clone();
            std::thread::spawn(move || -> Result<()> {
                let mut c = Connection::open(&target)?;
                let mut body = load::body(size);
                for i in (from..to).skip(n).step_by(CONNECTIONS) {
                    body[..8].copy_from_slice(&i.to_le_bytes());
                    c.ask("PUT", &name(i), "", &body)?;
                }
                Ok(())
            })
        })
        .collect();
    for w in workers {
        w.join().ok().context("a writer panicked")??;
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "     {} puts of {size} bytes: {:.0} a second",
        to - from,
        (to - from) as f64 / took
    );
    Ok(())
}

fn flat(i: usize) -> String {
    format!("/flat/one/prefix/{i:09}")
}

fn tree(i: usize) -> String {
    format!("/tree/{:05}/{i:09}", i % PREFIXES)
}

fn group(i: usize) -> String {
    format!("/group/{:05}/{i:09}", i % GROUPS)
}

fn buckets(store: &Store) -> Result<()> {
    let mut c = Connection::open(&store.target)?;
    for bucket in ["flat", "tree", "group", "killed"] {
        c.ask("PUT", &format!("/{bucket}"), "", b"")?;
    }
    Ok(())
}

/// Microseconds of the server's processor, and of the clock, that a page of 1,000 costs; pages begin at places spread over the bucket.
fn page_cost(store: &Store, queries: &[String], bucket: &str) -> Result<(f64, f64)> {
    let mut c = Connection::open(&store.target)?;
    let cpu = store.cpu()?;
    let begun = Instant::now();
    let mut pages = 0.0;
    // Processor times come in hundredths of a second.
    while begun.elapsed() < PAGED {
        for query in queries {
            let got = c.ask("GET", bucket, query, b"")?;
            ensure!(got > 5_000, "a page of {got} bytes is not a full one");
            pages += 1.0;
        }
    }
    Ok((
        (store.cpu()? - cpu).as_secs_f64() * 1e6 / pages,
        begun.elapsed().as_secs_f64() * 1e6 / pages,
    ))
}

/// Queries of pages that begin at places spread over `objects` keys.
fn flat_pages(objects: usize) -> Vec<String> {
    (0..PAGES)
        .map(|n| {
            format!(
                "list-type=2&prefix=one%2Fprefix%2F&start-after=one%2Fprefix%2F{:09}",
                n * (objects - 2_000) / PAGES
            )
        })
        .collect()
}

/// Pages of `page` common prefixes out of `prefixes`, which begin at places spread over them.
fn tree_pages(prefixes: usize, page: usize) -> Vec<String> {
    (0..PAGES)
        .map(|n| {
            let after = n * (prefixes - page) / PAGES;
            format!("delimiter=%2F&list-type=2&max-keys={page}&start-after={after:05}~")
        })
        .collect()
}

/// Pages of both stores in turns; held to the ratio of processor time, which other work on the machine moves least.
fn listings(small: &Served, large: &Served, objects: usize, verdict: &mut Verdict) -> Result<()> {
    let kinds = [
        Kind {
            what: "a page of 1,000 keys",
            buckets: ["/flat", "/flat"],
            queries: [flat_pages(SMALL), flat_pages(objects)],
        },
        Kind {
            what: "a page of 100 common prefixes of as many keys each",
            buckets: ["/group", "/tree"],
            queries: [tree_pages(GROUPS, GROUPS), tree_pages(PREFIXES, GROUPS)],
        },
        Kind {
            what: "a page of 1,000 common prefixes, of 10,000 in both",
            buckets: ["/tree", "/tree"],
            queries: [tree_pages(PREFIXES, 1_000), tree_pages(PREFIXES, 1_000)],
        },
    ];
    for Kind {
        what,
        buckets,
        queries,
    } in kinds
    {
        let (mut ratios, mut clocks, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (a, a_clock) = page_cost(small.store()?, &queries[0], buckets[0])?;
            let (b, b_clock) = page_cost(large.store()?, &queries[1], buckets[1])?;
            ratios.push(b / a);
            clocks.push(b_clock / a_clock);
            costs.push(b);
        }
        let (ratio, clock, cost) = (middle(ratios)?, middle(clocks)?, middle(costs)?);
        verdict.hold(
            what,
            ratio <= PAGE_RATIO_MAX,
            &format!("{ratio:.2} times as much processor at {objects} as at {SMALL} ({cost:.0} us; by the clock {clock:.2} times); at most {PAGE_RATIO_MAX}"),
        );
    }
    Ok(())
}

/// Kills and starts `served` some times; medians of first answer and readiness.
fn starts(served: &mut Served, objects: usize) -> Result<(f64, f64)> {
    let (mut first, mut ready) = (Vec::new(), Vec::new());
    for n in 0..STARTS {
        let (f, r) = served.killed_under_load(objects + n)?;
        first.push(f.as_secs_f64() * 1e3);
        ready.push(r.as_secs_f64() * 1e3);
    }
    let (first, ready) = (middle(first)?, middle(ready)?);
    println!(
        "     start after SIGKILL under puts, {objects} objects: first object after {first:.0} ms, ready for writes after {ready:.0} ms"
    );
    Ok((first, ready))
}

fn middle(measured: Vec<f64>) -> Result<f64> {
    median(measured).context("nothing was measured")
}

/// Bytes that the files of a directory take on the disk: all, and those that are reserved whatever is stored.
fn on_disk(dir: &Path) -> Result<(u64, u64)> {
    let (mut all, mut reserved) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            let (a, r) = on_disk(&path)?;
            all += a;
            reserved += r;
            continue;
        }
        let bytes = fs::metadata(&path)?.blocks() * 512;
        all += bytes;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("journal") || name.starts_with("ballast") {
            reserved += bytes;
        }
    }
    Ok((all, reserved))
}

fn room(binary: &Path, dir: PathBuf, verdict: &mut Verdict) -> Result<()> {
    let served = Served::new(binary, dir)?;
    buckets(served.store()?)?;
    std::thread::sleep(SETTLED);
    let (before, reserved_before) = on_disk(&served.dir)?;
    fill(served.store()?, 0, ROOM_OBJECTS, ROOM_SIZE, flat)?;
    std::thread::sleep(SETTLED);
    let (after, reserved) = on_disk(&served.dir)?;
    let each = ((after - reserved) as f64 - (before - reserved_before) as f64) / ROOM_OBJECTS as f64;
    verdict.hold(
        "room on the disk of an object of 4 KiB, after a checkpoint",
        each <= BYTES_AN_OBJECT_MAX,
        &format!(
            "{each:.0} bytes, at most {BYTES_AN_OBJECT_MAX} (journal and ballast, {} MiB, apart)",
            reserved >> 20
        ),
    );
    Ok(())
}

/// All of it.
pub(crate) fn million(repo: &Repo, size: &Size) -> Result<Counts> {
    let built = stage::run(repo.released())?;
    if built.failed > 0 {
        return Ok(built);
    }
    let binary = repo.target("release/cairn");
    let dir = repo.target("million-data");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut verdict = Verdict::default();
    let small = Served::new(&binary, dir.join("small"))?;
    let idle = small.store()?.resident()?;
    verdict.hold(
        "resident memory of an empty store",
        idle <= IDLE_RESIDENT_MAX,
        &format!("{} MiB", idle >> 20),
    );
    let mut large = Served::new(&binary, dir.join("large"))?;
    for served in [&small, &large] {
        buckets(served.store()?)?;
        fill(served.store()?, 0, SMALL, SIZE, flat)?;
        fill(served.store()?, 0, SMALL, SIZE, tree)?;
    }
    fill(small.store()?, 0, SMALL, SIZE, group)?;
    fill(large.store()?, SMALL, size.objects / 10, SIZE, flat)?;
    let few = starts(&mut large, size.objects / 10)?;
    fill(large.store()?, size.objects / 10, size.objects, SIZE, flat)?;
    fill(large.store()?, SMALL, size.objects, SIZE, tree)?;
    std::thread::sleep(RESTED);
    let loaded = large.store()?.resident()?;
    verdict.hold(
        "resident memory of the large store, loaded and left alone",
        loaded <= IDLE_RESIDENT_MAX,
        &format!("{} MiB, at most {} MiB", loaded >> 20, IDLE_RESIDENT_MAX >> 20),
    );
    listings(&small, &large, size.objects, &mut verdict)?;
    let many = starts(&mut large, size.objects)?;
    let flat_start = many.0.max(many.1) / few.0.max(few.1).max(1.0);
    let latest = Duration::from_secs_f64(many.0.max(many.1) / 1e3);
    verdict.hold(
        "a start after SIGKILL",
        flat_start <= START_RATIO_MAX && latest <= START_MAX,
        &format!(
            "{flat_start:.2} times as long at {} objects as at {}",
            2 * size.objects,
            size.objects / 10
        ),
    );
    std::thread::sleep(SETTLED);
    let idle = large.store()?.resident()?;
    verdict.hold(
        "resident memory of the large store, started and idle",
        idle <= IDLE_RESIDENT_MAX,
        &format!("{} MiB, at most {} MiB", idle >> 20, IDLE_RESIDENT_MAX >> 20),
    );
    drop((small, large));
    room(&binary, dir.join("room"), &mut verdict)?;
    if !size.keep {
        fs::remove_dir_all(&dir)?;
    }
    Ok(verdict.counts)
}
