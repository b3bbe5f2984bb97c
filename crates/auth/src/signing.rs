//! HMAC-SHA256 and the signing key derived from a secret and a credential scope.

use aws_lc_rs::{constant_time, digest, hmac};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// Keys that a thread keeps.
const DERIVED_MAX: usize = 16;

thread_local! {
    /// What this thread derived, the newest first: a client signs a day's requests with one key, and its four hashes cost as much as all else
    /// of checking a request.
    static DERIVED: RefCell<VecDeque<Derived>> = const { RefCell::new(VecDeque::new()) };
}

/// A key, and all that it was derived from.
struct Derived {
    secret: String,
    date: String,
    region: String,
    key: SigningKey,
}

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
pub struct SigningKey(Arc<hmac::Key>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// As [`SigningKey::derive`], for one that is asked for again and again.
    pub(crate) fn of(secret: &str, date: &str, region: &str) -> Self {
        DERIVED.with_borrow_mut(|derived| {
            let is_it = |d: &&Derived| d.date == date && d.region == region && d.secret == secret;
            if let Some(found) = derived.iter().find(is_it) {
                return found.key.clone();
            }
            let key = Self::derive(secret, date, region);
            derived.truncate(DERIVED_MAX - 1);
            derived.push_front(Derived {
                secret: secret.to_owned(),
                date: date.to_owned(),
                region: region.to_owned(),
                key: key.clone(),
            });
            key
        })
    }

    /// Derives the key for `date` (`YYYYMMDD`) and `region`.
    pub fn derive(secret: &str, date: &str, region: &str) -> Self {
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        for step in [region, crate::SERVICE, crate::TERMINAL] {
            key = hmac(key.as_ref(), step.as_bytes());
        }
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())))
    }

    /// Signs.
    pub fn sign(&self, string_to_sign: &[u8]) -> Signature {
        Signature(hexadecimal(hmac::sign(&self.0, string_to_sign).as_ref()))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(data: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, data).as_ref())
}

/// `hex::encode` pushes one character after the other, which takes longer than the hash of a short request.
fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    hex::encode_to_slice(bytes, &mut digits).expect("two digits a byte");
    String::from_utf8(digits).expect("digits are text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_kept_is_that_of_its_secret_day_and_region() {
        let signed = |key: SigningKey| key.sign(b"text");
        for _ in 0..3 {
            for n in 0..2 * DERIVED_MAX {
                let secret = format!("secret{}", n % 3);
                let (date, region) = (format!("202611{:02}", n % 5), format!("region-{}", n % 2));
                let own = SigningKey::derive(&secret, &date, &region);
                assert_eq!(
                    signed(SigningKey::of(&secret, &date, &region)),
                    signed(own.clone())
                );
                // Now it is kept.
                assert_eq!(signed(SigningKey::of(&secret, &date, &region)), signed(own));
            }
        }
        assert!(DERIVED.with_borrow(VecDeque::len) <= DERIVED_MAX);
    }
}
