//! Identity and policy: access keys, SigV4.
//!
//! Pure but for the look-up of keys: no clock (the caller passes `now_ms`), no I/O, no async. Nothing here knows S3's
//! error codes; [`AuthError`] has one variant for each of them and the S3 face names them.
//!
//! What is decoded here is what is routed there: the S3 face reads path and query through [`uri`], so that no byte can
//! mean one thing to the signature and another to the operation.

mod canonical;
mod chunk;
mod claim;
mod error;
mod form;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod keys;
mod moment;
mod payload;
mod policy;
mod presigned_sigv2;
pub mod signer;
mod signing;

pub mod uri;
mod verify;

pub use chunk::ChunkSigning;
pub use error::{AuthError, Denial, Mismatch};
pub use form::{Fields, verify_form};
pub use keys::{AccessKey, AccessKeyId, KeyStore, Keys, SecretKey};
pub use payload::{ContentSha256, PayloadMode};
pub use policy::{Policy, PolicyError};
pub use presigned_sigv2::{is_presigned_sigv2, verify_presigned_sigv2};
pub use signing::{Signature, SigningKey};
pub use verify::{Verified, verify};

/// The scheme this build verifies.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The service in every credential scope.
pub const SERVICE: &str = "s3";
/// The word that ends every credential scope.
pub const TERMINAL: &str = "aws4_request";
