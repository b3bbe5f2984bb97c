//! The S3 face: routing, one file an operation, XML and errors.
//!
//! Everything S3 is in this room and nothing below knows it. The way of a request:
//!
//! ```text
//!   connection → service → target, query → route → auth → headers → ops::<operation> → objects
//!                                                            ↑ body ↗
//! ```
//! What is not known is refused by name, never taken for something simpler (route.rs, headers.rs).

mod acl;
pub mod body;
mod checksum;
mod condition;
mod connection;
mod copy_source;
mod cors;
mod counts;
mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod headers;
mod hoist;
mod listing;
mod metadata;
mod operation;
mod ops;
mod owner;
mod page;
mod patience;
mod query;
mod range;
mod reply;
mod request;
mod route;
mod service;
mod tags;
mod target;
mod version;
mod xml;

pub use connection::Secure;
pub use error::{Code, Error};
pub use service::{Config, Operator, Service};
