//! HMAC-SHA256 and the signing key derived from a secret and a credential scope.

use aws_lc_rs::{constant_time, digest, hmac};

/// A signature: 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature(pub(crate) String);

impl Signature {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `provided` is this signature, in time that does not depend on where they differ.
    pub fn is(&self, provided: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), provided).is_ok()
    }
}

/// The key of one day, region and service: it signs, and cannot be turned back into the secret.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Derives the key for `date` (`YYYYMMDD`) and `region`.
    pub fn derive(secret: &str, date: &str, region: &str) -> Self {
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        for step in [region, crate::SERVICE, crate::TERMINAL] {
            key = hmac(key.as_ref(), step.as_bytes());
        }
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// Signs.
    pub fn sign(&self, string_to_sign: &[u8]) -> Signature {
        Signature(hex::encode(hmac::sign(&self.0, string_to_sign)))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(data: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, data))
}
