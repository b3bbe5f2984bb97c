//! The whole store in one thread from one seed.
//!
//! `disk`, `clock` and `rng` are the simulated world behind the seams of the `world` room.

pub mod clock;
pub mod disk;
pub mod rng;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use rng::SimRng;
