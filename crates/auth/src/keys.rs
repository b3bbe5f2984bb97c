//! Access keys and where they are found.

use std::collections::BTreeMap;
use std::fmt;
use types::AccountId;

/// The public half of an access key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AccessKeyId(pub String);

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret half. Never printed: `Debug` hides it, so that no log line can carry it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub String);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A credential and whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessKey {
    /// What requests name.
    pub id: AccessKeyId,
    /// What they are signed with.
    pub secret: SecretKey,
    /// Who they act as.
    pub account: AccountId,
}

/// Where access keys are looked up. Answers from memory: a store behind it keeps its own cache.
pub trait KeyStore: Send + Sync {
    /// The key of that id.
    fn find(&self, id: &AccessKeyId) -> Option<AccessKey>;
}

/// Access keys from the configuration.
#[derive(Clone, Default, Debug)]
pub struct Keys(BTreeMap<AccessKeyId, AccessKey>);

impl Keys {
    /// Adds a key; answers false, changing nothing, when its id is taken or cannot stand in a credential.
    #[must_use]
    pub fn add(&mut self, key: AccessKey) -> bool {
        let fits = |c: u8| c.is_ascii_graphic() && !b"/,=;".contains(&c);
        let valid = !key.id.0.is_empty() && key.id.0.bytes().all(fits) && !key.secret.0.is_empty();
        if !valid || self.0.contains_key(&key.id) {
            return false;
        }
        self.0.insert(key.id.clone(), key);
        true
    }
}

impl KeyStore for Keys {
    fn find(&self, id: &AccessKeyId) -> Option<AccessKey> {
        self.0.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, secret: &str) -> AccessKey {
        AccessKey {
            id: AccessKeyId(id.into()),
            secret: SecretKey(secret.into()),
            account: AccountId::ROOT,
        }
    }

    #[test]
    fn ids_are_unique_and_fit_a_credential() {
        let mut keys = Keys::default();
        assert!(keys.add(key("AKIA1", "s")));
        for bad in [
            key("AKIA1", "other"),
            key("", "s"),
            key("a/b", "s"),
            key("a b", "s"),
            key("AKIA2", ""),
        ] {
            assert!(!keys.add(bad.clone()), "{bad:?}");
        }
        assert_eq!(keys.find(&AccessKeyId("AKIA1".into())).unwrap().secret.0, "s");
        assert_eq!(keys.find(&AccessKeyId("AKIA2".into())), None);
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", key("AKIA1", "hunter2")).contains("hunter2"));
    }
}
