//! Every byte that a small store ever wrote, flipped one at a time: afterwards each GET, HEAD and LIST is right or an error that names the
//! place; never wrong bytes, never a missing key, never a panic. // I5
//!
//! All roles run in one thread on a disk in memory. `cargo xtask test` takes every 397th byte, `cargo xtask flips` all of them.

mod scrub;
mod stack;

use sim::SimDisk;
use stack::Answers;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::{ErrorKind, Kind as _};
use world::{Disk, Overlay};

const PAGE: u64 = 4096;
/// What a place is named by.
const PLACES: [&str; 6] = [
    "index/",
    "index-catalogue",
    "journal",
    "extent",
    "superblock",
    "lock",
];

/// What is kept twice: a start goes on with the other copy.
const TWICE: [&str; 2] = ["superblock", "index-catalogue"];

static PANICS: AtomicU64 = AtomicU64::new(0);

fn life<T>(f: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(f)
}

/// A store that was stopped in order, or left alone.
struct Store {
    disk: Arc<Overlay>,
    right: Answers,
}

fn store(stopped: bool) -> Store {
    let disk = Arc::new(Overlay::new(Arc::new(SimDisk::new(1, 64 << 20))));
    life(async {
        let stack = stack::open(disk.clone(), 1).await.unwrap();
        stack.fill().await;
        if stopped {
            stack.stop().await;
        } else {
            // A second of rest: the last sync is marked.
            stack.rest().await;
        }
    });
    let right = life(async {
        let stack = stack::open(Arc::new(Overlay::new(disk.clone())), 2)
            .await
            .unwrap();
        stack.answers().await
    });
    let refused: Vec<_> = right
        .iter()
        .filter(|(_, a)| a.is_err())
        .map(|(what, _)| what)
        .collect();
    assert_eq!(refused.len(), 4, "two keys are gone: {refused:?}");
    Store { disk, right }
}

fn names(disk: &dyn Disk) -> Vec<String> {
    let mut names = disk.list("").unwrap();
    for dir in ["extents", "index"] {
        names.retain(|name| name != dir);
        names.extend(disk.list(dir).unwrap().iter().map(|name| format!("{dir}/{name}")));
    }
    names
}

/// What a file is, for the table.
fn kind_of(path: &str) -> &str {
    path.split_once('/').map_or(path, |(dir, _)| dir)
}

/// Where a byte lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct At {
    path: String,
    byte: u64,
}

/// Every byte of every page that was written, and some of those that never were.
fn bytes(disk: &Overlay) -> (Vec<At>, Vec<At>) {
    let (mut written, mut never) = (Vec::new(), Vec::new());
    for path in names(disk) {
        let pages = disk.written(&path).unwrap();
        let len = disk.open(&path).unwrap().len().unwrap();
        for page in 0..len.div_ceil(PAGE) {
            let into = if pages.contains(&page) {
                &mut written
            } else {
                &mut never
            };
            let all = page * PAGE..len.min((page + 1) * PAGE);
            into.extend(all.map(|byte| At {
                path: path.clone(),
                byte,
            }));
        }
    }
    (written, never)
}

/// How it ended after a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All as if nothing had been.
    Right,
    /// It served; some answers were errors that named a place.
    Told,
    /// It did not start, and said where.
    Refused,
}

/// Flips a byte, asks for everything, and says what was wrong with what came.
fn flip(store: &Store, at: &At) -> Result<Outcome, String> {
    let view = Arc::new(Overlay::new(store.disk.clone()));
    let file = view.open(&at.path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at.byte).unwrap();
    byte[0] ^= 1 << (at.byte % 8);
    file.write_all_at(&byte, at.byte).unwrap();
    let before = PANICS.load(Ordering::Relaxed);
    let bounded = async { tokio::time::timeout(Duration::from_secs(3_600), ask(view)).await };
    let asked = catch_unwind(AssertUnwindSafe(|| life(bounded)));
    if PANICS.load(Ordering::Relaxed) > before {
        return Err("a panic".into());
    }
    match asked {
        Err(_) => Err("a panic".into()),
        Ok(Err(_)) => Err("it hangs".into()),
        Ok(Ok(Err(told))) if names_place(&told) => Ok(Outcome::Refused),
        Ok(Ok(Err(told))) => Err(format!("refused without a place: {told}")),
        Ok(Ok(Ok(answers))) => judge(&store.right, &answers),
    }
}

async fn ask(view: Arc<Overlay>) -> Result<Answers, String> {
    let stack = stack::open(view, 2).await?;
    let answers = stack.answers().await;
    stack.stop().await;
    Ok(answers)
}

fn names_place(told: &str) -> bool {
    PLACES.iter().any(|place| told.contains(place))
}

fn judge(right: &Answers, found: &Answers) -> Result<Outcome, String> {
    let mut outcome = Outcome::Right;
    for ((what, right), (_, found)) in right.iter().zip(found) {
        if right == found {
            continue;
        }
        match found {
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Fault) => {
                if !names_place(&e.to_string()) {
                    return Err(format!("{what}: an error without a place: {e}"));
                }
                outcome = Outcome::Told;
            }
            Err(e) => return Err(format!("{what}: {e}")),
            Ok(_) => return Err(format!("{what}: another answer")),
        }
    }
    Ok(outcome)
}

/// Flips each of `at`; the table of outcomes, and what must not be.
fn flips(store: &Store, at: &[At]) -> (BTreeMap<(String, Outcome), u64>, Vec<String>) {
    let mut table = BTreeMap::new();
    let mut wrong = Vec::new();
    for at in at {
        match flip(store, at) {
            Ok(outcome) if TWICE.contains(&at.path.as_str()) && outcome != Outcome::Right => {
                wrong.push(format!(
                    "{} byte {}: {outcome:?}, though it is kept twice",
                    at.path, at.byte
                ));
            }
            Ok(outcome) => *table.entry((kind_of(&at.path).to_owned(), outcome)).or_default() += 1,
            Err(why) => wrong.push(format!("{} byte {}: {why}", at.path, at.byte)),
        }
    }
    (table, wrong)
}

fn watch_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        hook(info);
    }));
}

#[allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "what the command is run for, and how fast it was"
)]
fn run(step: usize, never_max: usize) {
    watch_panics();
    let mut wrong = Vec::new();
    for stopped in [true, false] {
        let store = store(stopped);
        let (written, never) = bytes(&store.disk);
        let began = std::time::Instant::now();
        // An odd step comes to every byte of a page in turn.
        let some: Vec<At> = written.iter().step_by(step).cloned().collect();
        let spread = (never.len() / never_max.max(1)).max(1) | 1;
        let others: Vec<At> = never.iter().step_by(spread).take(never_max).cloned().collect();
        println!(
            "{}: {} bytes in written pages, {} flipped; {} in others, {} flipped",
            if stopped {
                "stopped in order"
            } else {
                "a second of rest"
            },
            written.len(),
            some.len(),
            never.len(),
            others.len()
        );
        for (what, at) in [("written", &some), ("never written", &others)] {
            let (table, bad) = flips(&store, at);
            for ((kind, outcome), count) in table {
                println!("  {what:14} {kind:16} {outcome:?}: {count}");
            }
            wrong.extend(bad);
        }
        println!(
            "  {:.1} ms a flip",
            began.elapsed().as_secs_f64() * 1e3 / (some.len() + others.len()) as f64
        );
    }
    for wrong in wrong.iter().take(40) {
        println!("WRONG {wrong}");
    }
    assert!(wrong.is_empty(), "{} of the flips", wrong.len());
}

/// `cargo xtask flips` asks for all of them, with a step of 1.
#[test]
fn flipped_bytes_are_right_or_told() {
    match std::env::var("CAIRN_FLIPS") {
        Ok(step) => run(step.parse().expect("CAIRN_FLIPS is a step"), 1_000),
        Err(_) => run(397, 60),
    }
}
