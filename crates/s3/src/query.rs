//! A query string, decoded.

use crate::error::{Code, Error};
use std::collections::BTreeSet;

/// Names and values in the order given. A name without `=` has an empty value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a raw query string.
    ///
    /// # Errors
    /// InvalidURI for what is not percent-encoded UTF-8; InvalidArgument for a name given twice, which two readers
    /// could take two ways.
    pub(crate) fn parse(raw: &str) -> Result<Self, Error> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| Error::new(Code::InvalidURI));
        let mut pairs: Vec<(String, String)> = Vec::new();
        // A query may hold tens of thousands of names, from somebody we do not know yet.
        let mut seen = BTreeSet::new();
        for pair in auth::uri::parse_query(raw).ok_or(Code::InvalidURI)? {
            let (name, value) = (text(pair.name)?, text(pair.value)?);
            if !seen.insert(name.clone()) {
                return Err(Error::argument(
                    &name,
                    &value,
                    "A query parameter was given more than once",
                ));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(n, _)| n.as_str())
    }

    /// `name` as a number in `range`, or `default` where it is not given.
    ///
    /// # Errors
    /// InvalidArgument with S3's sentences.
    pub(crate) fn number(&self, name: &str, max: u32, default: u32) -> Result<u32, Error> {
        let Some(value) = self.get(name).filter(|v| !v.is_empty()) else {
            return Ok(default);
        };
        match value.parse::<i64>() {
            Ok(n) if (0..=i64::from(i32::MAX)).contains(&n) => Ok((n as u32).min(max)),
            Ok(_) => Err(Error::argument(
                name,
                value,
                format!("Argument {name} must be an integer between 0 and 2147483647"),
            )),
            Err(_) => Err(Error::argument(
                name,
                value,
                format!("Provided {name} not an integer or within integer range"),
            )),
        }
    }

    /// Whether `encoding-type=url` was asked for.
    ///
    /// # Errors
    /// InvalidArgument for another encoding.
    pub(crate) fn url_encoding(&self) -> Result<bool, Error> {
        match self.get("encoding-type") {
            None | Some("") => Ok(false),
            Some("url") => Ok(true),
            Some(other) => Err(Error::argument(
                "encoding-type",
                other,
                "Invalid Encoding Method specified in Request",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        let q = Query::parse("list-type=2&prefix=a+b%2B%2F&&uploads&x=1=2").unwrap();
        assert_eq!(q.get("prefix"), Some("a b+/"));
        assert_eq!(q.get("uploads"), Some(""));
        assert_eq!(q.get("x"), Some("1=2"));
        assert_eq!(q.get("nothing"), None);
        assert_eq!(Query::parse("a=%zz").unwrap_err().code(), Code::InvalidURI);
        assert_eq!(
            Query::parse("a=1&%61=2").unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn numbers() {
        let cases = [
            ("", Ok(7)),
            ("n=", Ok(7)),
            ("n=0", Ok(0)),
            ("n=1000", Ok(1000)),
            ("n=5000", Ok(1000)),
            ("n=2147483647", Ok(1000)),
            ("n=2147483648", Err(Code::InvalidArgument)),
            ("n=-1", Err(Code::InvalidArgument)),
            ("n=x", Err(Code::InvalidArgument)),
            ("n=99999999999999999999", Err(Code::InvalidArgument)),
        ];
        for (query, expected) in cases {
            let got = Query::parse(query)
                .unwrap()
                .number("n", 1000, 7)
                .map_err(|e| e.code());
            assert_eq!(got, expected, "{query}");
        }
    }
}
