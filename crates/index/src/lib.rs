//! Index role: object keys to records, in partitions with one owner each.
//!
//! | module | what |
//! |---|---|
//! | `rows` | row keys, their order, their values |
//! | `view`, `commands` | commands as pure functions of rows |
//! | `partition` | a partition and a batch in memory: answers, floors, hybrid time |
//! | `owner`, `fetch` | the loop that decides, commits and answers; what it reads |
//! | `cache` | point rows in memory |
//! | `handle`, `read`, `listing`, `versions`, `walk` | reads beside the loop |
//! | `garbage`, `reach` | what gc reads: bookings, idle uploads, whether needles are named |
//! | `copies`, `halves`, `raised`, `rebuilt` | what becomes of rows that are laid anew |
//! | `strays` | rows that nothing owns: what a walk says of them |
//! | `verify` | every row, past what is damaged |
//! | `role` | [`IndexRole`]: which partition it is |
//!
//! Invariants: preconditions are decided in `commands` and nowhere else (I2); no command takes effect twice (I11); bytes are booked
//! as garbage in the commit that unnames them (I3); only the newest owner commits (I6, by the store's fence).

mod cache;
mod commands;
mod copies;
mod fetch;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod garbage;
mod halves;
mod handle;
#[cfg(test)]
mod holed;
mod listing;
mod owner;
mod partition;
mod past;
mod raised;
mod reach;
mod read;
mod rebuilt;
mod role;
mod rows;
mod strays;
mod verify;
mod versions;
mod view;
mod walk;

pub use copies::Copies;
pub use halves::Halves;
pub use raised::{Floors, Told, begun, raised};
pub use rebuilt::{Rebuilt, Remains};
pub use role::{IndexRole, Rested};
