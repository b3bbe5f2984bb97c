//! Names that users give: buckets and object keys. Validated here and nowhere else.

use crate::limits::OBJECT_KEY_BYTES_MAX;
use std::fmt;

/// A bucket's name by S3's rules for general purpose buckets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketName(String);

/// Why a bucket name was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "bucket names are 3 to 63 of a-z, 0-9, '-' and '.', begin and end with a letter or digit, and are no IP address"
)]
pub struct BucketNameError;

impl BucketName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`BucketNameError`] when S3 would answer InvalidBucketName.
    pub fn new(s: &str) -> Result<Self, BucketNameError> {
        let b = s.as_bytes();
        let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ok = (3..=63).contains(&b.len())
            && b.iter().all(|&c| edge(c) || c == b'-' || c == b'.')
            && edge(b[0])
            && edge(b[b.len() - 1])
            && !s.contains("..")
            && s.parse::<std::net::Ipv4Addr>().is_err()
            && !s.starts_with("xn--")
            && !s.starts_with("sthree-")
            && !s.ends_with("-s3alias")
            && !s.ends_with("--ol-s3");
        if ok {
            Ok(Self(s.to_owned()))
        } else {
            Err(BucketNameError)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's key: any UTF-8, 1 to 1,024 bytes. Never a path: `..`, `//` and control characters mean nothing here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Why an object key was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ObjectKeyError {
    /// No key at all.
    #[error("the key is empty")]
    Empty,
    /// Longer than [`OBJECT_KEY_BYTES_MAX`].
    #[error("the key is longer than 1024 bytes of UTF-8")]
    TooLong,
}

impl ObjectKey {
    /// Checks and takes a key.
    ///
    /// # Errors
    /// [`ObjectKeyError`] for an empty or too long one.
    pub fn new(s: impl Into<String>) -> Result<Self, ObjectKeyError> {
        let s = s.into();
        match s.len() {
            0 => Err(ObjectKeyError::Empty),
            n if n > OBJECT_KEY_BYTES_MAX => Err(ObjectKeyError::TooLong),
            _ => Ok(Self(s)),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names() {
        for good in ["abc", "a-b.c", "123", "my.bucket-1", &"a".repeat(63)] {
            assert!(BucketName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-abc",
            "abc-",
            "a..b",
            "192.168.5.4",
            "xn--abc",
            &"a".repeat(64),
            "a/b",
            "abc\n",
        ] {
            assert!(BucketName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_not_paths() {
        for good in ["a", "a/", "../x", "//", "\u{1}", "🪨", &"k".repeat(1024)] {
            assert!(ObjectKey::new(good).is_ok(), "{good:?}");
        }
        assert_eq!(ObjectKey::new(""), Err(ObjectKeyError::Empty));
        assert_eq!(ObjectKey::new("é".repeat(513)), Err(ObjectKeyError::TooLong));
    }
}
