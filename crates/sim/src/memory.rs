//! The budget of memory in a run: gateways share one that is large, or is used up by a few puts at once; whoever is done has given back
//! what it took.

use crate::client::Client;
use crate::life::Stage;
use std::sync::Arc;
use std::time::Duration;
use world::{Budget, Clock};

/// How long what was written last may still be in somebody's hands.
const SETTLES: Duration = Duration::from_secs(1);

/// The budget of a machine that has so many bytes; `None`: it is never used up.
pub fn budget(bytes: Option<u64>, clock: Arc<dyn Clock>) -> Arc<Budget> {
    match bytes {
        Some(bytes) => Budget::new("requests", bytes, clock),
        None => Budget::boundless(clock),
    }
}

/// No client is left: nothing is taken, and nobody waits.
///
/// # Errors
/// What is still held (I9).
pub async fn is_given_back(stage: &Stage, client: &Client) -> Result<(), String> {
    stage.clock.sleep(SETTLES).await;
    let budget = client.objects.budget();
    match (budget.used(), budget.waiting()) {
        (0, 0) => Ok(()),
        _ => Err(format!("I9: memory with no request left: {budget:?}")),
    }
}
