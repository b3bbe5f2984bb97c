//! Frames of many bodies, hashed together.
//!
//! ```text
//!   bodies ──submit──▶ waiting ──a lane is free──▶ lanes ──slice by slice──▶ state back to its body
//! ```
//! One thread takes whatever waits: a lone frame at once, as one body is hashed best; those that come meanwhile join it at the next
//! slice, so many bodies fill many lanes and few wait for nothing. Whoever has gone away is left out at the next slice.
//!
//! What waits is bounded by the bodies under way, each with one frame in memory that its put has taken (`world::Budget`).

use super::kernel::{BLOCK, Kernel, LANES_MAX, State};
use bytes::{Buf as _, Bytes};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use types::limits::{LANE_BYTES_MIN, LANE_SLICE_BYTES};
use world::{Exec, JobSender, Loop};

/// The way to the thread that hashes.
pub(crate) struct Lanes {
    waiting: Arc<Mutex<VecDeque<Frame>>>,
    wake: JobSender<()>,
    sizes: Sizes,
}

/// How frames are hashed together.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Frames smaller than this are not.
    pub(super) least: usize,
    /// What is hashed of each before those that came meanwhile join.
    pub(super) slice: usize,
}

/// Whole blocks of one body.
struct Frame {
    state: State,
    bytes: Bytes,
    done: oneshot::Sender<State>,
}

impl Lanes {
    /// Starts the thread; `None` where this machine hashes no two bodies at once.
    pub(crate) fn start(exec: Exec) -> Option<Arc<Self>> {
        let sizes = Sizes {
            least: LANE_BYTES_MIN,
            slice: LANE_SLICE_BYTES,
        };
        Self::of(exec, Kernel::detect(), sizes)
    }

    pub(super) fn of(exec: Exec, kernel: Kernel, sizes: Sizes) -> Option<Arc<Self>> {
        if kernel.width() == 1 {
            return None;
        }
        let waiting: Arc<Mutex<VecDeque<Frame>>> = Arc::default();
        let hasher = Hasher {
            waiting: waiting.clone(),
            kernel,
            sizes,
            lanes: Vec::with_capacity(LANES_MAX),
        };
        let (wake, _end) = exec.run_loop("md5", 1, 1, hasher);
        Some(Arc::new(Self { waiting, wake, sizes }))
    }

    /// Whether a frame of so many bytes is worth their while.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes >= self.sizes.least
    }

    /// Gives the lanes whole blocks of a body, and its state before them. They answer the state after them.
    pub(super) fn submit(&self, state: State, bytes: Bytes) -> oneshot::Receiver<State> {
        assert!(bytes.len().is_multiple_of(BLOCK), "lanes take whole blocks");
        let (done, answer) = oneshot::channel();
        let frame = Frame { state, bytes, done };
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(frame);
        // Where it is full the thread has yet to look.
        let _has_to_look = self.wake.try_send(());
        answer
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
            let Frame { state, bytes, done } = self.lanes.swap_remove(n);
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
            },
            lanes: Vec::new(),
        };
        let memory = Arc::new(());
        let frame = || {
            let (done, answer) = oneshot::channel();
            let bytes = world::held(Bytes::from(vec![0; 4 * BLOCK]), memory.clone());
            let state = State::default();
            waiting.lock().unwrap().push_back(Frame { state, bytes, done });
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
}
