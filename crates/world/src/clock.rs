//! Time.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Wall time for what people see, monotonic time for deadlines and leases. No two clocks are ever compared.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970; may jump either way.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed moment, counting suspension (CLOCK_BOOTTIME); never goes back.
    fn mono(&self) -> Duration;
    /// Ends after `d` of monotonic time.
    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
