//! Lets no worker of the runtime that waits for a disk keep the others asleep.
//!
//! Short syncs are done by the worker whose request wants them (docs/design/0028). One worker of tokio's waits for sockets and timers on behalf of all;
//! the one that syncs may just have come from there, with everybody else asleep, and nobody takes that over: if the disk hangs, no
//! connection is accepted, nothing that is in memory is read, no timer fires, until somebody outside wakes a worker. This thread is outside. It looks
//! whether a sync has been under way for a while and gives the runtime something to do: who is woken for it waits for the sockets next.

use extent::Journal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::runtime::Handle;
use world::{Exec, Loop, World};

/// How long a sync may hold up all others where no other worker is awake.
const LOOK: Duration = Duration::from_millis(25);
/// The same after a while without any.
const LOOK_AT_REST: Duration = Duration::from_millis(250);

/// Ends the thread when dropped.
pub(crate) struct Waking {
    _end: Sender<()>,
}

impl Waking {
    /// Starts it for the runtime that this runs in.
    pub(crate) fn of(world: &World, journal: Journal) -> Self {
        Self::start(world.exec, Handle::current(), move || journal.drives())
    }

    /// `drives`: how many syncs workers have begun so far, and whether the last is under way.
    fn start(exec: Exec, runtime: Handle, drives: impl Fn() -> (u64, bool) + Send + 'static) -> Self {
        let (end, ended) = channel();
        let (run, _end) = exec.run_loop("waking", 1, 1, Looks { runtime, drives });
        // There is room for one.
        let _queued = run.try_send(ended);
        Self { _end: end }
    }
}

struct Looks<F> {
    runtime: Handle,
    drives: F,
}

impl<F: Fn() -> (u64, bool) + Send + 'static> Loop<Receiver<()>> for Looks<F> {
    fn apply(&mut self, ends: &mut Vec<Receiver<()>>) {
        let Some(end) = ends.pop() else { return };
        let mut before = (self.drives)();
        let mut pause = LOOK;
        while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let now = (self.drives)();
            if now.1 && now == before {
                drop(self.runtime.spawn(std::future::ready(())));
            }
            pause = if now.1 || now.0 != before.0 {
                LOOK
            } else {
                LOOK_AT_REST
            };
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// I9: a worker that waits for a disk, woken by a socket while all others sleep, keeps nobody from being answered.
    #[test]
    fn a_worker_that_hangs_in_a_sync_leaves_the_sockets_to_others() {
        for _ in 0..20 {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let hangs = Arc::new(AtomicBool::new(false));
            let (seen, hanging) = (hangs.clone(), hangs.clone());
            let _waking = Waking::start(Exec::Threads, runtime.handle().clone(), move || {
                (1, seen.load(Ordering::Acquire))
            });
            let pair = || {
                let (ours, theirs) = UnixStream::pair().unwrap();
                theirs.set_nonblocking(true).unwrap();
                let _inside = runtime.enter();
                (ours, tokio::net::UnixStream::from_std(theirs).unwrap())
            };
            let (mut put, theirs) = pair();
            let (let_go, disk) = channel::<()>();
            let putting = runtime.spawn(async move {
                theirs.readable().await.unwrap();
                hangs.store(true, Ordering::Release);
                disk.recv().unwrap();
                hangs.store(false, Ordering::Release);
            });
            let (mut get, theirs) = pair();
            runtime.spawn(async move {
                theirs.readable().await.unwrap();
                theirs.try_write(b"!").unwrap();
            });
            // Both workers go to sleep, one of them for the sockets.
            std::thread::park_timeout(Duration::from_millis(5));
            put.write_all(b"?").unwrap();
            while !hanging.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            get.write_all(b"?").unwrap();
            // Far beyond what it takes; without the thread nothing ever comes.
            get.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            get.read_exact(&mut [0]).expect("an answer beside a hanging disk");
            let_go.send(()).unwrap();
            runtime.block_on(putting).unwrap();
        }
    }
}
