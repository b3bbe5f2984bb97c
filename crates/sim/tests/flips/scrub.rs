//! Bytes flipped under a store that serves: whether or not anybody asks for them, the next pass of the scrub finds them; and once they are
//! right again it finds nothing. // I5

use super::{life, stack};
use sim::SimDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::node::{Node, WalkCursor, WalkDepth};
use wire::records::{ScrubPass, ScrubState, ScrubTally};
use worker::scrub::{Roles, Scrub, Settings};
use world::{Disk, Overlay, World};

/// Times that a state is looked at before the scrub is taken to hang: much more than two periods.
const LOOKS_MAX: usize = 1_000;
/// Where time begins.
const BEGUN_MS: u64 = 1_800_000_000_000;
/// Bytes turned of each file.
const TURNED: usize = 40;

/// A scrub at work on a store.
struct Scrubbed {
    world: World,
    roles: Roles,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Scrubbed {
    fn start(stack: &stack::Stack) -> Self {
        let (world, roles) = stack.scrubbed();
        let settings = Settings {
            period: Duration::from_secs(10),
            share_percent: 100,
            keep: Duration::from_millis(10),
        };
        let (stop, stopping) = watch::channel(false);
        let scrub = Scrub::new(world.clone(), settings, roles.clone(), stopping);
        Self {
            world,
            roles,
            stop,
            task: tokio::spawn(scrub.run()),
        }
    }

    async fn state(&self) -> ScrubState {
        self.roles.control.scrub_state().await.unwrap()
    }

    /// The first state of which there is what is looked for.
    async fn until<T>(&self, seen: impl Fn(&ScrubState) -> Option<T>) -> T {
        for _ in 0..LOOKS_MAX {
            if let Some(seen) = seen(&self.state().await) {
                return seen;
            }
            self.world.clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("the scrub comes to no end: {:?}", self.state().await);
    }

    /// What a pass says that begins from now on.
    async fn pass(&self) -> ScrubPass {
        let now_ms = self.world.clock.wall_ms();
        self.until(|state| state.last.clone().filter(|last| last.begun_ms > now_ms))
            .await
    }

    async fn findings(&self) -> Vec<String> {
        let tally = self.pass().await.tally.unwrap();
        assert_eq!(tally.skipped, 0, "nothing is gone past");
        tally.found
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }
}

fn turn(disk: &dyn Disk, path: &str, byte: u64) {
    let file = disk.open(path).unwrap();
    let mut b = [0];
    file.read_exact_at(&mut b, byte).unwrap();
    b[0] ^= 1 << (byte % 8);
    file.write_all_at(&b, byte).unwrap();
}

/// Bytes of which each means something: every needle's but its padding, header blocks, needle maps, superblock, table, both heads of each index file.
async fn meant(still: &[String], node: &dyn Node) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let mut add = |path: &str, bytes: std::ops::Range<u64>| {
        all.extend(bytes.map(|byte| (path.to_owned(), byte)));
    };
    for status in node.extents().await.unwrap() {
        let path = format!("extents/{}", status.extent);
        add(&path, 0..4096);
        let page = node
            .walk(status.extent, WalkCursor::default(), WalkDepth::Heads, 1_000)
            .await
            .unwrap();
        for walked in page.found {
            // Up to seven zeroes may stand behind it.
            add(&path, walked.offset..walked.offset + walked.stored_length - 7);
        }
    }
    add("superblock", 0..4096);
    for path in still {
        for head in [0, 8192] {
            add(path, head..head + 64);
            add(path, head + 4092..head + 8192);
        }
    }
    all
}

/// The index's files, and what is in them.
fn index_files(disk: &dyn Disk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list("index").unwrap().into_iter();
    names
        .map(|name| {
            let path = format!("index/{name}");
            let file = disk.open(&path).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Some of them, as many of each file.
fn sample(all: &[(String, u64)]) -> Vec<(String, u64)> {
    let files = all.chunk_by(|(one, _), (other, _)| one == other);
    files
        .flat_map(|bytes| bytes.iter().step_by((bytes.len() / TURNED).max(1)).cloned())
        .collect()
}

#[test]
fn what_rots_under_a_store_that_serves_is_found_whoever_asks_for_it() {
    let disk = Arc::new(Overlay::new(Arc::new(SimDisk::new(1, 64 << 20))));
    life(async {
        let stack = stack::open(disk.clone(), 1).await.unwrap();
        stack.boot_at(BEGUN_MS);
        stack.fill().await;
        stack.rest().await;
        let scrub = Scrubbed::start(&stack);
        let before = index_files(&*disk);
        assert_eq!(scrub.findings().await, Vec::<String>::new());
        let after = index_files(&*disk);
        // The scrub's own place is written into one of them all the time: what is turned there is soon written over.
        let is_still = |path: &&String| before.get(*path) == after.get(*path);
        let still: Vec<String> = after.keys().filter(is_still).cloned().collect();
        let node = scrub.roles.nodes.values().next().unwrap().clone();
        let meant = meant(&still, &*node).await;
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for (path, byte) in &sample(&meant) {
            turn(&*disk, path, *byte);
            let told = scrub.findings().await;
            assert!(!told.is_empty(), "{path} byte {byte} of {}", meant.len());
            let dir = path.split_once('/').map_or(path.as_str(), |(dir, _)| dir);
            // An extent is named by its number, all else by its file.
            let place = if dir == "extents" { "extent" } else { path.as_str() };
            assert!(told.iter().any(|what| what.contains(place)), "{path}: {told:?}");
            *found.entry(dir.to_owned()).or_default() += 1;
            turn(&*disk, path, *byte);
        }
        assert_eq!(scrub.findings().await, Vec::<String>::new(), "all is right again");
        assert!(found.len() == 3 && found.values().all(|n| *n > 20), "{found:?}");
        scrub.stop().await;
        stack.stop().await;
    });
}

/// The place is kept: a restart reads no needle twice, and none is left out.
#[test]
fn a_restart_goes_on_where_the_pass_was() {
    let disk = Arc::new(Overlay::new(Arc::new(SimDisk::new(1, 64 << 20))));
    let (begun_ms, bytes, stopped_ms) = life(async {
        let stack = stack::open(disk.clone(), 1).await.unwrap();
        stack.boot_at(BEGUN_MS);
        stack.fill().await;
        let scrub = Scrubbed::start(&stack);
        let scrub_clock = scrub.world.clock.clone();
        scrub.pass().await;
        // Somewhere in the middle of the next one.
        let has_read = |tally: &ScrubTally| tally.bytes > 0;
        let is_midway =
            |state: &ScrubState| state.begun_ms != 0 && state.tally.as_ref().is_some_and(has_read);
        let state = scrub.until(|state| Some(state.clone()).filter(is_midway)).await;
        scrub.stop().await;
        let stopped_ms = scrub_clock.wall_ms();
        stack.stop().await;
        (state.begun_ms, state.tally.unwrap().bytes, stopped_ms)
    });
    assert!(bytes > 0);
    life(async {
        let stack = stack::open(disk.clone(), 2).await.unwrap();
        stack.boot_at(stopped_ms);
        let scrub = Scrubbed::start(&stack);
        let kept = scrub.state().await;
        assert_eq!(kept.begun_ms, begun_ms);
        assert!(kept.tally.unwrap().bytes >= bytes);
        let is_that = |last: &ScrubPass| last.begun_ms == begun_ms;
        let last = scrub.until(|state| state.last.clone().filter(is_that)).await;
        let next = scrub.pass().await;
        let (one, other) = (last.tally.unwrap(), next.tally.unwrap());
        let read = |tally: &ScrubTally| (tally.frame_bytes, tally.needles);
        assert_eq!(read(&one), read(&other), "none twice, none left out");
        scrub.stop().await;
        stack.stop().await;
    });
}
