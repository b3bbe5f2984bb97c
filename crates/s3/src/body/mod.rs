//! A request's body: from the bytes of the connection to the bytes of the object, checked on the way.
//!
//! [`plan`] reads from the head how the body must arrive, [`open`] makes an [`objects::Body`] of it, [`collect`] gathers a
//! small document. A body answers its last `None` only once everything said about it ahead or in its trailer has held:
//! the length, the payload's SHA-256 or every frame's signature, the trailer's. Bytes of a signed frame flow on before
//! the frame's signature is checked, at its end; nothing is named until the body has ended well.
//!
//! Memory: one piece as it came from the connection and one line of framing, whatever the sizes of frames.
//! Checksums (`x-amz-checksum-*`) are parsed here and compared in `objects`.

mod aws_chunked;
pub(crate) mod form;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod pace;
mod plain;
mod plan;
mod refusal;
mod stream;
mod trailer;

#[cfg(test)]
mod tests;

pub use auth::ChunkSigning;
pub(crate) use plan::parse_checksum;
pub use plan::{BodyPlan, plan, strip_aws_chunked};
pub use refusal::{BodyRefusal, RefusalSlot};
pub use stream::{collect, open};
