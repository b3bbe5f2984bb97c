//! Targets for the fuzzer: arbitrary bytes where this room reads what a client sends.

pub use crate::body::fuzz::{aws_chunked, aws_chunked_seeds, post_form, post_form_seeds};
pub use crate::xml::fuzz::{xml, xml_seeds};

use crate::{copy_source, range};
use http::{HeaderMap, HeaderValue};

/// So small that each byte of it can be asked about.
const SIZE_MAX: u8 = 40;
/// Digits that 127 bits have room for.
const DIGITS_MAX: usize = 38;

/// The first byte is the object's size, the rest a Range header. What is selected is held against each byte asked by itself.
pub fn range(data: &[u8]) {
    let Some((size, header)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(header) else {
        return;
    };
    // Longer numbers are past what the other reading can tell apart.
    if text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() > DIGITS_MAX)
    {
        return;
    }
    let size = u64::from(size % SIZE_MAX);
    let selected = range::select(Some(text), size);
    match asked(text) {
        None => assert_eq!(selected, Ok(None), "no range, and something is selected"),
        Some((first, last)) => {
            let wanted: Vec<u64> = (0..size)
                .filter(|at| is_asked(*at, size, (first, last)))
                .collect();
            match &selected {
                Ok(Some(range)) => assert_eq!((range.start..range.end).collect::<Vec<_>>(), wanted),
                Ok(None) => panic!("a range that is not seen"),
                Err(_) => assert_eq!(wanted, [0; 0], "bytes that are there are refused"),
            }
            assert!(selected.is_ok() || wanted.is_empty());
        }
    }
    // However large the object is.
    for size in [u64::MAX, u64::MAX - 1, 1 << 40] {
        if let Ok(Some(range)) = range::select(Some(text), size) {
            assert!(range.start < range.end && range.end <= size);
        }
    }
    of_a_copy(text, size);
}

/// Headers as clients send them.
pub fn range_seeds() -> Vec<Vec<u8>> {
    [
        "bytes=0-0",
        "bytes=2-",
        "bytes=-3",
        " Bytes = 1-2 ",
        "bytes=0-1,3-4",
        "bytes=9-5",
        "bytes=-0",
        "bytes=-",
        "bytes=5-18446744073709551615",
        "bytes=-99999999999999999999999999",
        "bytes=+1-2",
        "lines=0-1",
        "bytes=1--2",
        "",
    ]
    .iter()
    .map(|text| [&[10], text.as_bytes()].concat())
    .collect()
}

/// The two numbers of a range, `None` where one is left out; without a limit.
type Ends = (Option<u128>, Option<u128>);

fn asked(header: &str) -> Option<Ends> {
    let mut sides = header.splitn(2, '=');
    if !sides.next()?.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ends = sides.next()?.trim().splitn(2, '-').map(|text| {
        let far = u128::MAX >> 1;
        let digits = text.chars().all(|c| c.is_ascii_digit());
        digits.then(|| (!text.is_empty()).then(|| text.parse().map_or(far, |n: u128| n.min(far))))
    });
    match (ends.next()??, ends.next()??) {
        (None, None) => None,
        (Some(first), Some(last)) if first > last => None,
        ends => Some(ends),
    }
}

fn is_asked(at: u64, size: u64, ends: Ends) -> bool {
    let (at, size) = (u128::from(at), u128::from(size));
    match ends {
        (Some(first), last) => first <= at && last.is_none_or(|last| at <= last),
        (None, last) => at + last.unwrap_or(0) >= size,
    }
}

/// A copy's range is whole and inside, or refused.
fn of_a_copy(text: &str, size: u64) {
    let Ok(value) = HeaderValue::from_str(text) else {
        return;
    };
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-amz-copy-source-range"), value)]);
    if let Ok(range) = copy_source::range(&headers, size) {
        let range = range.expect("it was asked for");
        let (first, last) = asked(text).expect("a range that is taken is one");
        assert_eq!(
            (Some(u128::from(range.start)), Some(u128::from(range.end) - 1)),
            (first, last)
        );
        assert!(range.end <= size);
    }
}
