//! What gc hears of writers that met a full disk, and what it tells them (`wire::gateway::Room`).

use futures_util::future::select_all;
use std::sync::Arc;
use wire::gateway::{Gateway, Room};

/// One gateway's writers.
struct Rope {
    gateway: Arc<dyn Gateway>,
    /// How many were heard of, and for how many of them all was done.
    heard: u64,
    answered: u64,
}

/// The writers of all gateways. Once it is dropped none of them waits.
pub(crate) struct Bell(Vec<Rope>);

impl Bell {
    pub(crate) fn of(gateways: &[Arc<dyn Gateway>]) -> Self {
        let rope = |gateway: &Arc<dyn Gateway>| Rope {
            gateway: gateway.clone(),
            heard: 0,
            answered: 0,
        };
        Self(gateways.iter().map(rope).collect())
    }

    /// Whether writers may wait for gc.
    pub(crate) fn attend(&self, attended: bool) {
        let told = match attended {
            true => Room::Attended,
            false => Room::Unattended,
        };
        self.0.iter().for_each(|rope| rope.gateway.room(told));
    }

    /// Ends once a writer meets a full disk that was not heard of.
    pub(crate) async fn rung(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let ropes = self.0.iter().map(|rope| rope.gateway.room_wanted(rope.heard));
        let (heard, at, _) = select_all(ropes).await;
        self.0[at].heard = heard;
    }

    /// Whether writers wait.
    pub(crate) fn rings(&self) -> bool {
        self.0.iter().any(|rope| rope.heard > rope.answered)
    }

    /// Who was heard by now, for [`Bell::answer`].
    pub(crate) fn heard(&self) -> Vec<u64> {
        self.0.iter().map(|rope| rope.heard).collect()
    }

    /// There is more room than there was.
    pub(crate) fn made(&self) {
        self.0.iter().for_each(|rope| rope.gateway.room(Room::Made));
    }

    /// All was done for those who had been heard then.
    pub(crate) fn answer(&mut self, heard: Vec<u64>) {
        for (rope, upto) in self.0.iter_mut().zip(heard) {
            rope.answered = upto;
            rope.gateway.room(Room::Answered(upto));
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.attend(false);
    }
}
