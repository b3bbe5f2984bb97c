//! The seams: clock, randomness, disk, network and executors come in through here and nowhere else.
//!
//! Real forms live in `real`; the simulated ones in the `sim` crate. Roles hold a [`World`] and never ask the
//! operating system themselves (clippy.toml bans the raw calls).

mod aligned;
mod budget;
mod clock;
mod disk;
mod exec;
mod local;
mod net;
mod overlay;
pub mod plant;
pub mod real;
mod rng;
pub mod rot;
pub mod suite;
mod watched;

pub use aligned::Aligned;
pub use budget::{Budget, Claim, OverBudget, Share, held};
pub use clock::Clock;
pub use disk::{Cached, Disk, DiskFile, DiskLock, Space, is_scarce, read_on, read_patiently};
pub use exec::{Exec, JobSender, Loop, LoopEnd};
pub use local::{LocalListener, connect_local};
pub use net::{Listener, Net, Stream};
pub use overlay::Overlay;
pub use rng::Rng;
pub use watched::Watched;

use std::sync::Arc;

/// A map whose order cannot matter, hashed without random state. Iterating it is a bug.
#[allow(clippy::disallowed_types, reason = "this is what the ban names instead")]
pub type FixedMap<K, V> =
    std::collections::HashMap<K, V, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

/// Everything a role needs of the world but its disks, which are opened by directory.
#[derive(Clone)]
pub struct World {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// How serial loops run: a named thread each, or tasks of the one simulated thread.
    pub exec: Exec,
}

impl World {
    /// The real world.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(real::RealClock::new()),
            rng: Arc::new(real::RealRng),
            exec: Exec::Threads,
        }
    }
}
