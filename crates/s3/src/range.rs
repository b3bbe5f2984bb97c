//! The Range header of a read.
//!
//! As S3: one range is served; what is not a byte range, is malformed, or asks for several, is no range at all and the
//! whole object is answered; one that begins past the end is InvalidRange. (RFC 9110, section 14.)

use crate::error::{Code, Error};
use types::ByteRange;

/// What to read of an object of `size` bytes; `None` for all of it.
///
/// # Errors
/// InvalidRange.
pub(crate) fn select(header: Option<&str>, size: u64) -> Result<Option<ByteRange>, Error> {
    let Some(header) = header else { return Ok(None) };
    let Some(asked) = parse(header) else {
        return Ok(None);
    };
    let (start, end) = match asked {
        Asked::FromTo(first, last) => (first, last.saturating_add(1).min(size)),
        Asked::From(first) => (first, size),
        Asked::Suffix(length) => (size - length.min(size), size),
    };
    if start >= end {
        return Err(Error::new(Code::InvalidRange)
            .field("RangeRequested", header)
            .field("ActualObjectSize", size.to_string())
            .header("content-range", format!("bytes */{size}")));
    }
    Ok(Some(ByteRange { start, end }))
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    FromTo(u64, u64),
    From(u64),
    Suffix(u64),
}

fn parse(header: &str) -> Option<Asked> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    // A number too long for 64 bits lies past any end.
    let number = |s: &str| -> Option<u64> {
        let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| s.parse().unwrap_or(u64::MAX))
    };
    match (first, last) {
        ("", last) => Some(Asked::Suffix(number(last)?)),
        (first, "") => Some(Asked::From(number(first)?)),
        (first, last) => {
            let range = Asked::FromTo(number(first)?, number(last)?);
            is_in_order(first, last).then_some(range)
        }
    }
}

/// Whether one number, in digits, is not above another. By their digits: both may be too long for 64 bits.
fn is_in_order(first: &str, last: &str) -> bool {
    let [first, last] = [first, last].map(|digits| digits.trim_start_matches('0'));
    (first.len(), first) <= (last.len(), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        let some = |start, end| Ok(Some(ByteRange { start, end }));
        let past = Err(Code::InvalidRange);
        let cases = [
            (None, Ok(None)),
            (Some("bytes=0-0"), some(0, 1)),
            (Some("bytes=2-5"), some(2, 6)),
            (Some("bytes=2-"), some(2, 10)),
            (Some("bytes=9-9"), some(9, 10)),
            (Some("bytes=5-99"), some(5, 10)),
            (Some("bytes=5-18446744073709551615"), some(5, 10)),
            (Some("bytes=5-99999999999999999999999"), some(5, 10)),
            (Some("bytes=-3"), some(7, 10)),
            (Some("bytes=-10"), some(0, 10)),
            (Some("bytes=-99"), some(0, 10)),
            (Some("Bytes=1-2 "), some(1, 3)),
            (Some("bytes=10-"), past),
            (Some("bytes=10-20"), past),
            (Some("bytes=99999999999999999999999-"), past),
            (Some("bytes=-0"), past),
            (Some("bytes=5-2"), Ok(None)),
            (
                Some("bytes=99999999999999999999999-99999999999999999999"),
                Ok(None),
            ),
            (Some("bytes=0007-8"), some(7, 9)),
            (Some("bytes=0-1,3-4"), Ok(None)),
            (Some("bytes=-"), Ok(None)),
            (Some("bytes=a-b"), Ok(None)),
            (Some("bytes=+1-2"), Ok(None)),
            (Some("lines=0-1"), Ok(None)),
            (Some("0-1"), Ok(None)),
            (Some(""), Ok(None)),
        ];
        for (header, expected) in cases {
            assert_eq!(select(header, 10).map_err(|e| e.code()), expected, "{header:?}");
        }
    }

    #[test]
    fn an_empty_object_has_no_ranges() {
        for header in ["bytes=0-0", "bytes=0-", "bytes=-5"] {
            let e = select(Some(header), 0).unwrap_err();
            let document = e.to_xml("/b/k", "", "");
            assert!(document.contains(&format!("<RangeRequested>{header}</RangeRequested>")));
            assert!(document.contains("<ActualObjectSize>0</ActualObjectSize>"));
        }
    }
}
