//! What metrics need of time: the samples of histograms are folded into their sums now and then.
//!
//! A histogram keeps every sample until somebody folds them. Asking for the page of metrics does; where nobody asks, memory
//! would grow with every request.

use metrics_exporter_prometheus::PrometheusHandle;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use types::limits::METRICS_FOLD_MS;
use world::Clock;

/// Folds samples for as long as it is polled.
pub async fn upkeep(clock: Arc<dyn Clock>, metrics: PrometheusHandle) -> Infallible {
    loop {
        clock.sleep(Duration::from_millis(METRICS_FOLD_MS)).await;
        metrics.run_upkeep();
    }
}
