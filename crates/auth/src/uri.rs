//! Paths and queries as they stand in the request line: decoded once, encoded once.

use std::borrow::Cow;

/// One `name=value` of a query, decoded. Names without `=` have an empty value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryPair {
    /// Before the first `=`.
    pub name: Vec<u8>,
    /// After it.
    pub value: Vec<u8>,
}

/// Undoes percent-encoding. `None` when a `%` is not followed by two hexadecimal digits. A `+` stays one.
pub fn decode(raw: &[u8]) -> Option<Vec<u8>> {
    if !raw.contains(&b'%') {
        return Some(raw.to_vec());
    }
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while let Some(&b) = raw.get(i) {
        if b == b'%' {
            let value = digit(raw.get(i + 1))? << 4 | digit(raw.get(i + 2))?;
            out.push(value as u8);
            i += 3;
        } else {
            out.push(b);
            i += 1;
        }
    }
    Some(out)
}

/// Splits and decodes a raw query; `+` is a space, as in S3. Empty pieces between `&` are left out.
/// `None` when an escape is broken.
pub fn parse_query(raw: &str) -> Option<Vec<QueryPair>> {
    let decode_piece = |s: &str| {
        let spaced: Cow<'_, str> = if s.contains('+') {
            s.replace('+', " ").into()
        } else {
            s.into()
        };
        decode(spaced.as_bytes())
    };
    raw.split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            Some(QueryPair {
                name: decode_piece(name)?,
                value: decode_piece(value)?,
            })
        })
        .collect()
}

/// Percent-encodes as SigV4 wants it: all but `A-Z a-z 0-9 - . _ ~`, digits in upper case; `/` stays where `slash`.
pub fn encode(decoded: &[u8], slash: bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || (slash && b == b'/');
    let mut out = String::with_capacity(decoded.len());
    // As long as nothing is to be encoded it is text as it is.
    let plain = decoded.iter().take_while(|b| is_plain(**b)).count();
    out.push_str(std::str::from_utf8(&decoded[..plain]).unwrap_or_default());
    for &b in &decoded[plain..] {
        if is_plain(b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(b >> 4)]));
            out.push(char::from(DIGITS[usize::from(b & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_once() {
        assert_eq!(decode(b"/a%20b%2525+c").unwrap(), b"/a b%25+c");
        for bad in ["%", "%4", "%zz", "a%é0", "%+1", "% 1"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn splits_queries() {
        let pairs = parse_query("acl&prefix=a+b%2Bc&&x=1=2&=v").unwrap();
        let text: Vec<_> = pairs
            .iter()
            .map(|p| {
                (
                    String::from_utf8_lossy(&p.name).into_owned(),
                    String::from_utf8_lossy(&p.value).into_owned(),
                )
            })
            .collect();
        let expected = [("acl", ""), ("prefix", "a b+c"), ("x", "1=2"), ("", "v")];
        assert_eq!(text, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(parse_query("a=%f"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes: Vec<u8>, slash: bool) {
            prop_assert_eq!(decode(encode(&bytes, slash).as_bytes()), Some(bytes));
        }

        #[test]
        fn garbage_is_answered(text: String) {
            let _decoded = decode(text.as_bytes());
            let _pairs = parse_query(&text);
        }
    }
}
