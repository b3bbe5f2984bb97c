//! ETags as S3 makes them: the MD5 of one body, or the MD5 of the parts' MD5s with `-N`.

use std::fmt;

/// An object's ETag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ETag {
    /// MD5 of the body, or of the parts' MD5s.
    pub md5: [u8; 16],
    /// How many parts; 0 when it was one body.
    pub part_count: u32,
}

impl fmt::Display for ETag {
    /// Without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.md5))?;
        if self.part_count > 0 {
            write!(f, "-{}", self.part_count)?;
        }
        Ok(())
    }
}

impl ETag {
    /// From what `Display` writes, quotes around it allowed.
    pub fn parse(s: &str) -> Option<Self> {
        let s = s.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(s);
        let (digits, part_count) = match s.split_once('-') {
            Some((d, n)) if n.bytes().all(|b| b.is_ascii_digit()) => (d, n.parse().ok().filter(|n| *n > 0)?),
            Some(_) => return None,
            None => (s, 0),
        };
        if digits.len() != 32 || !digits.is_ascii() {
            return None;
        }
        let mut md5 = [0; 16];
        for (i, b) in md5.iter_mut().enumerate() {
            *b = u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Self { md5, part_count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        for s in [
            "d41d8cd98f00b204e9800998ecf8427e",
            "d41d8cd98f00b204e9800998ecf8427e-12",
        ] {
            assert_eq!(ETag::parse(s).map(|e| e.to_string()).as_deref(), Some(s));
            assert_eq!(ETag::parse(&format!("\"{s}\"")), ETag::parse(s));
        }
        for s in [
            "",
            "x",
            "d41d8cd98f00b204e9800998ecf8427e-",
            "d41d8cd98f00b204e9800998ecf8427e-0",
            "é41d8cd98f00b204e9800998ecf8427",
        ] {
            assert_eq!(ETag::parse(s), None, "{s}");
        }
    }
}
