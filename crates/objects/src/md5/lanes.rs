//! Frames of many bodies, hashed together.
//!
//! ```text
//!   bodies ──submit──▶ waiting ──a lane is free──▶ lanes ──slice by slice──▶ state back to its body
//! ```
//! A thread takes whatever waits: a lone frame at once, as one body is hashed best; those that come meanwhile join it at the next
//! slice, so many bodies fill many lanes and few wait for nothing. Whoever has gone away is left out at the next slice. Where there are many cores
//! there are more such threads, and a frame goes to the one that has the fewest.
//!
//! What waits is bounded by the bodies under way, each with one frame in memory that its put has taken (`world::Budget`).

use super::kernel::{BLOCK, Kernel, LANES_MAX, State};
use bytes::{Buf as _, Bytes};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use types::limits::{LANE_BYTES_MIN, LANE_CORES, LANE_SLICE_BYTES};
use world::{Exec, JobSender, Loop};

/// The way to the threads that hash.
pub(crate) struct Lanes {
    threads: Vec<Thread>,
    sizes: Sizes,
}

struct Thread {
    waiting: Arc<Mutex<VecDeque<Frame>>>,
    wake: JobSender<()>,
    /// One for each frame that it has, and this.
    has: Arc<()>,
}

/// How frames are hashed together.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Frames smaller than this are not.
    pub(super) least: usize,
    /// What is hashed of each before those that came meanwhile join.
    pub(super) slice: usize,
    /// How many threads there are.
    pub(super) threads: usize,
}

/// Whole blocks of one body.
struct Frame {
    state: State,
    bytes: Bytes,
    done: oneshot::Sender<State>,
    _counted: Arc<()>,
}

impl Lanes {
    /// Starts the threads; `None` where this machine hashes no two bodies at once.
    pub(crate) fn start(exec: Exec) -> Option<Arc<Self>> {
        let sizes = Sizes {
            least: LANE_BYTES_MIN,
            slice: LANE_SLICE_BYTES,
            threads: (exec.cores() / LANE_CORES).max(1),
        };
        Self::of(exec, Kernel::detect(), sizes)
    }

    pub(super) fn of(exec: Exec, kernel: Kernel, sizes: Sizes) -> Option<Arc<Self>> {
        if kernel.width() == 1 {
            return None;
        }
        let threads = (0..sizes.threads)
            .map(|_| Thread::start(exec, kernel, sizes))
            .collect();
        Some(Arc::new(Self { threads, sizes }))
    }

    /// Whether a frame of so many bytes is worth their while.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes >= self.sizes.least
    }

    /// Gives the lanes whole blocks of a body, and its state before them. They answer the state after them.
    pub(super) fn submit(&self, state: State, bytes: Bytes) -> oneshot::Receiver<State> {
        assert!(bytes.len().is_multiple_of(BLOCK), "lanes take whole blocks");
        let (done, answer) = oneshot::channel();
        let fewest = self.threads.iter().min_by_key(|t| Arc::strong_count(&t.has));
        fewest
            .expect("there is a thread at least")
            .submit(state, bytes, done);
        answer
    }
}

impl Thread {
    fn start(exec: Exec, kernel: Kernel, sizes: Sizes) -> Self {
        let waiting: Arc<Mutex<VecDeque<Frame>>> = Arc::default();
        let hasher = Hasher {
            waiting: waiting.clone(),
            kernel,
            sizes,
            lanes: Vec::with_capacity(LANES_MAX),
        };
        let (wake, _end) = exec.run_loop("md5", 1, 1, hasher);
        let has = Arc::default();
        Self { waiting, wake, has }
    }

    fn submit(&self, state: State, bytes: Bytes, done: oneshot::Sender<State>) {
        let frame = Frame {
            state,
            bytes,
            done,
            _counted: self.has.clone(),
        };
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(frame);
        // Where it is full the thread has yet to look.
        let _has_to_look = self.wake.try_send(());
    }
}

struct Hasher {
    waiting: Arc<Mutex<VecDeque<Frame>>>,
    kernel: Kernel,
    sizes: Sizes,
    lanes: Vec<Frame>,
}

impl Loop<()> for Hasher {
    fn apply(&mut self, _woken: &mut Vec<()>) {
        loop {
            self.fill();
            if self.lanes.is_empty() {
                return;
            }
            self.slice();
        }
    }
}

impl Hasher {
    /// Leaves out who has gone away, and gives free lanes to who waits the longest.
    fn fill(&mut self) {
        self.lanes.retain(|frame| !frame.done.is_closed());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while self.lanes.len() < self.kernel.width()
            && let Some(frame) = waiting.pop_front()
        {
            if !frame.done.is_closed() {
                self.lanes.push(frame);
            }
        }
    }

    /// Hashes as much of each lane's frame as there is of the shortest, a slice at most, and answers for those that are through.
    fn slice(&mut self) {
        let shortest = self.lanes.iter().map(|frame| frame.bytes.len()).min();
        let bytes = shortest.unwrap_or(0).min(self.sizes.slice);
        let mut states = [State::default(); LANES_MAX];
        let mut bodies: [&[u8]; LANES_MAX] = [&[]; LANES_MAX];
        let count = self.lanes.len();
        for (n, frame) in self.lanes.iter().enumerate() {
            (states[n], bodies[n]) = (frame.state, &frame.bytes);
        }
        self.kernel
            .compress(&mut states[..count], &bodies[..count], bytes / BLOCK);
        for (frame, state) in self.lanes.iter_mut().zip(states) {
            frame.state = state;
            frame.bytes.advance(bytes);
        }
        while let Some(n) = self.lanes.iter().position(|frame| frame.bytes.is_empty()) {
            let Frame {
                state, bytes, done, ..
            } = self.lanes.swap_remove(n);
            // Its memory first: whoever is answered may wait for that.
            drop(bytes);
            let _gone_away = done.send(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has gone away takes no lane, and keeps none; its memory goes with it.
    #[test]
    fn bodies_given_up_are_left_out() {
        let waiting: Arc<Mutex<VecDeque<Frame>>> = Arc::default();
        let mut hasher = Hasher {
            waiting: waiting.clone(),
            kernel: Kernel::detect(),
            sizes: Sizes {
                least: 0,
                slice: BLOCK,
                threads: 1,
            },
            lanes: Vec::new(),
        };
        let memory = Arc::new(());
        let frame = || {
            let (done, answer) = oneshot::channel();
            let bytes = world::held(Bytes::from(vec![0; 4 * BLOCK]), memory.clone());
            let state = State::default();
            let frame = Frame {
                state,
                bytes,
                done,
                _counted: Arc::default(),
            };
            waiting.lock().unwrap().push_back(frame);
            answer
        };
        drop(frame());
        hasher.fill();
        assert!(hasher.lanes.is_empty(), "one that never began");
        let under_way = frame();
        hasher.fill();
        hasher.slice();
        assert_eq!(hasher.lanes.len(), 1);
        drop(under_way);
        hasher.fill();
        assert!(hasher.lanes.is_empty(), "one in the middle");
        assert_eq!(Arc::strong_count(&memory), 1);
    }

    /// Two bodies are not hashed one after the other while a thread rests.
    #[tokio::test]
    async fn a_frame_goes_to_the_thread_that_has_the_fewest() {
        let sizes = Sizes {
            least: 0,
            slice: BLOCK,
            threads: 3,
        };
        let Some(lanes) = Lanes::of(Exec::Inline, Kernel::detect(), sizes) else {
            return;
        };
        let has = || {
            let frames = |t: &Thread| Arc::strong_count(&t.has) - 1;
            lanes.threads.iter().map(frames).collect::<Vec<_>>()
        };
        let submit = || lanes.submit(State::default(), Bytes::from(vec![0; BLOCK]));
        let first: Vec<_> = (0..4).map(|_| submit()).collect();
        assert_eq!(has(), [2, 1, 1]);
        for answer in first {
            answer.await.unwrap();
        }
        assert_eq!(has(), [0; 3], "what is hashed counts no more");
        let second = [submit(), submit()];
        assert_eq!(has(), [1, 1, 0]);
        for answer in second {
            answer.await.unwrap();
        }
    }
}
