//! The whole store in one thread from one seed.
//!
//! `disk`, `clock` and `rng` are the simulated world behind the seams of the `world` room. `op` is what clients do, `value`
//! what they store, `model` what the store is meant to be, `oracle` the judge of histories against it, `frontier` what keeps its search small.

pub mod client;
pub mod clock;
pub mod copy;
pub mod coverage;
pub mod disk;
pub mod flaky;
pub mod frontier;
pub mod gc;
pub mod life;
pub mod look;
pub mod machine;
pub mod memory;
pub mod model;
pub mod op;
pub mod oracle;
pub mod quiet;
pub mod record;
pub mod restore;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod scrub;
pub mod service;
pub mod snapshot;
pub mod stack;
pub mod tight;
pub mod value;
pub mod version;
pub mod watch;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use rng::SimRng;
