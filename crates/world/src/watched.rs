//! A value that tasks wait for.
//!
//! As tokio's `watch`, but for the order: that wakes its waiters in an order drawn by lot, so a seed would not be a run. Here who waits
//! longest wakes first.

use std::pin::pin;
use std::sync::Mutex;
use tokio::sync::Notify;

/// A value that tasks wait for.
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Watched<T> {
    /// Begins as `value`.
    pub fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Notify::new(),
        }
    }

    /// What it is.
    pub fn get(&self) -> T {
        *self.value.lock().expect("no panic under this lock")
    }

    /// Changes it; all who wait look again.
    pub fn modify<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.value.lock().expect("no panic under this lock"));
        self.changed.notify_waiters();
        changed
    }

    /// Waits until it is as `wanted`, and answers it.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&T) -> bool) -> T {
        loop {
            // What changes between the look and the wait is heard, too.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let value = self.get();
            if wanted(&value) {
                return value;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn who_waits_longest_wakes_first() {
        for _ in 0..20 {
            let watched = Arc::new(Watched::new(0));
            let order = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..20)
                .map(|n| {
                    let (watched, order) = (watched.clone(), order.clone());
                    tokio::spawn(async move {
                        assert_eq!(watched.wait_for(|v| *v > 1).await, 2);
                        order.lock().unwrap().push(n);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            watched.modify(|v| *v = 1);
            tokio::task::yield_now().await;
            watched.modify(|v| *v = 2);
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        }
    }
}
