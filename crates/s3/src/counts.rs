//! What is counted of requests. Metrics are asked for by name once and kept: to look one up costs more than to count.

use crate::operation::Operation;
use http::StatusCode;
use metrics::{Counter, Histogram};
use std::collections::BTreeMap;
use std::sync::RwLock;
use std::time::Duration;

/// By operation and status: so many there are, not more.
#[derive(Default)]
pub(crate) struct Counts(RwLock<BTreeMap<(&'static str, u16), Kept>>);

struct Kept {
    answered: Counter,
    seconds: Histogram,
}

impl Kept {
    fn of(operation: &'static str, status: u16) -> Self {
        Self {
            answered: metrics::counter!("cairn_s3_requests_total", "operation" => operation, "status" => status.to_string()),
            seconds: metrics::histogram!("cairn_s3_request_seconds", "operation" => operation),
        }
    }

    fn count(&self, took: Duration) {
        self.answered.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}

impl Counts {
    /// One more request that was answered.
    pub(crate) fn count(&self, operation: Option<Operation>, status: StatusCode, took: Duration) {
        let key = (operation.map_or("none", Operation::name), status.as_u16());
        if let Some(kept) = self.0.read().expect("no panic under this lock").get(&key) {
            kept.count(took);
            return;
        }
        let kept = Kept::of(key.0, key.1);
        kept.count(took);
        self.0
            .write()
            .expect("no panic under this lock")
            .insert(key, kept);
    }
}
