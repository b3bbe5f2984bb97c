//! Pure: which disks keep an extent. Geometry of stripes and erasure codes come here too.
//!
//! Weighted rendezvous hashing: each (extent, disk) pair has a score of its own, and the best scores win. So a disk that is added
//! takes only extents that it now wins, and a disk that is lost gives up only its own. The answer is kept in the extent's
//! row: placement is decided once, moving is a plan of its own.

mod place;
mod policy;

pub use place::{Candidate, LayoutError, choose};
pub use policy::Policy;
