//! Bytes flipped under a store that serves: whether or not anybody asks for them, the next pass of the scrub finds them; and once they are
//! right again it finds nothing. // I5

use super::{life, stack};
use sim::SimDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use wire::node::{Node, WalkCursor, WalkDepth};
use wire::records::{ScrubPass, ScrubState};
use worker::scrub::{Roles, Scrub, Settings};
use world::{Disk, Overlay, World};

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
            keep: Duration::from_secs(1),
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

    /// What a pass says that begins from now on.
    async fn pass(&self) -> ScrubPass {
        let now_ms = self.world.clock.wall_ms();
        loop {
            match self.state().await.last {
                Some(last) if last.begun_ms > now_ms => return last,
                _ => self.world.clock.sleep(Duration::from_millis(500)).await,
            }
        }
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
async fn meant(disk: &dyn Disk, node: &dyn Node) -> Vec<(String, u64)> {
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
    for name in disk.list("index").unwrap() {
        let path = format!("index/{name}");
        for head in [0, 8192] {
            add(&path, head..head + 64);
            add(&path, head + 4092..head + 8192);
        }
    }
    all
}

#[test]
fn what_rots_under_a_store_that_serves_is_found_whoever_asks_for_it() {
    let disk = Arc::new(Overlay::new(Arc::new(SimDisk::new(1, 64 << 20))));
    life(async {
        let stack = stack::open(disk.clone(), 1).await.unwrap();
        stack.fill().await;
        stack.rest().await;
        let scrub = Scrubbed::start(&stack);
        assert_eq!(scrub.findings().await, Vec::<String>::new());
        let node = scrub.roles.nodes.values().next().unwrap().clone();
        let meant = meant(&*disk, &*node).await;
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for (path, byte) in meant.iter().step_by(97) {
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

/// The place is kept: a restart reads no extent twice that was read before, but for what a minute may lose.
#[test]
fn a_restart_goes_on_where_the_pass_was() {
    let disk = Arc::new(Overlay::new(Arc::new(SimDisk::new(1, 64 << 20))));
    let (begun_ms, bytes) = life(async {
        let stack = stack::open(disk.clone(), 1).await.unwrap();
        stack.fill().await;
        let scrub = Scrubbed::start(&stack);
        scrub.pass().await;
        // Somewhere in the middle of the next one.
        let state = loop {
            let state = scrub.state().await;
            if state.begun_ms != 0 && state.extent != 0 {
                break state;
            }
            scrub.world.clock.sleep(Duration::from_millis(200)).await;
        };
        scrub.stop().await;
        stack.stop().await;
        (state.begun_ms, state.tally.unwrap().bytes)
    });
    assert!(bytes > 0);
    life(async {
        let stack = stack::open(disk.clone(), 2).await.unwrap();
        let scrub = Scrubbed::start(&stack);
        let kept = scrub.state().await;
        assert_eq!(kept.begun_ms, begun_ms);
        assert!(kept.extent != 0 && kept.tally.unwrap().bytes >= bytes);
        let whole = scrub.roles.clone();
        let last = loop {
            match whole.control.scrub_state().await.unwrap().last {
                Some(last) if last.begun_ms == begun_ms => break last,
                _ => scrub.world.clock.sleep(Duration::from_millis(200)).await,
            }
        };
        let next = scrub.pass().await;
        let (one, other) = (last.tally.unwrap(), next.tally.unwrap());
        assert_eq!(one.needles, other.needles, "none twice, none left out");
        scrub.stop().await;
        stack.stop().await;
    });
}
