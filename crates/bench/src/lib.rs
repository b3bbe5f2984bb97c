//! Load on any S3 endpoint, and what it took.
//!
//! A thread a connection, one request after another over HTTP/1.1 kept alive, as most clients do. In the timed loop nothing is parsed but the
//! head of an answer: what is read is compared with bytes that are known before (`body`), a page of a listing with the first page, which was
//! looked into before the clock ran. It knows no server: what it tells of one is what the system tells of any process (`machine`).
//!
//! Not here: which peers there are and how they are started (`cargo xtask bench`), and flags (`server`).
#![allow(clippy::disallowed_methods)] // it measures the real machine: there is no world to simulate here

mod body;
mod connection;
mod endpoint;
mod machine;
mod operations;
mod plan;
mod report;
mod run;
mod sign;

pub use endpoint::{BadEndpoint, Endpoint};
pub use plan::{Credentials, Operation, Payload, Plan};
pub use report::Report;
pub use run::{BenchError, run};
