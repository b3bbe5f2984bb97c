//! What gc asks of the index and tells it: bookings by pages, needles that may be orphans, uploads that nobody works on (I3, I11).
#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr)]

mod bookings;
#[path = "../gateway/mod.rs"]
mod gateway;
mod idle;
mod orphans;
mod sequence;
mod store;
