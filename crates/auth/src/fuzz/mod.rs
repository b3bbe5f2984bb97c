//! Targets for the fuzzer: arbitrary bytes where this room decides who asks for what.

mod post_policy;
mod sigv4;

pub use post_policy::{post_policy, post_policy_seeds};
pub use sigv4::{sigv4, sigv4_seeds};

use crate::{AccessKey, AccessKeyId, Keys, SecretKey};
use types::AccountId;

const REGION: &str = "us-east-1";
const NOW_MS: u64 = 1_369_353_600_000;
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn key() -> AccessKey {
    AccessKey {
        id: AccessKeyId("AKIAIOSFODNN7EXAMPLE".into()),
        secret: SecretKey(SECRET.into()),
        account: AccountId::ROOT,
    }
}

fn keys() -> Keys {
    let mut keys = Keys::default();
    assert!(keys.add(key()), "a key that fits");
    keys
}
