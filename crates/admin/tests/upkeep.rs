//! Memory of metrics that nobody asks for. // I9
#![allow(clippy::disallowed_methods, reason = "tests touch the real world")]

use metrics_exporter_prometheus::PrometheusBuilder;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use world::Clock;

const SAMPLES: u64 = 1 << 18;
const ROUNDS: u64 = 96;
/// What the samples would take if they were all kept.
const KEPT_BYTES: u64 = SAMPLES * ROUNDS * 8;

/// Each sleep ends at the next poll.
struct Hasty;

impl Clock for Hasty {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn mono(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::task::yield_now())
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn samples_do_not_pile_up_while_nobody_asks() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = resident_bytes();
    runtime.block_on(async {
        let record = async {
            for _ in 0..ROUNDS {
                metrics::with_local_recorder(&recorder, || {
                    let histogram = metrics::histogram!("seconds");
                    (0..SAMPLES).for_each(|i| histogram.record((i % 997) as f64));
                });
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = record => {}
            never = admin::upkeep(Arc::new(Hasty), handle.clone()) => match never {},
        }
    });
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < KEPT_BYTES / 4,
        "{grown} bytes for {KEPT_BYTES} bytes of samples"
    );
    let counted = format!("seconds_count {}", SAMPLES * ROUNDS);
    assert!(handle.render().contains(&counted), "every sample is counted");
}
