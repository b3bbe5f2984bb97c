//! A loop that panics takes the process with it: nobody waits for ever for what is lost.
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

use std::os::unix::process::ExitStatusExt;
use world::{Exec, Loop};

const CHILD: &str = "CAIRN_TEST_PANICS";
const SIGABRT: i32 = 6;

struct Panics;

impl Loop<()> for Panics {
    fn apply(&mut self, _: &mut Vec<()>) {
        panic!("on purpose");
    }
}

#[test]
fn a_loop_that_panics_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        let (jobs, end) = Exec::Threads.run_loop("test", 1, 1, Panics);
        jobs.blocking_send(()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(end.wait());
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_loop_that_panics_ends_the_process"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(SIGABRT), "{:?}", child.status);
}
