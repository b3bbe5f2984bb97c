//! Escape-terminated text: sorts as its bytes do, and no text's form is a prefix of another's.
//!
//! ```text
//!   byte 00 -> 00 FF        end -> 00 01        any other byte stands for itself
//! ```

use super::BadRow;

const ZERO: u8 = 0x00;
const ESCAPED: u8 = 0xFF;
const END: u8 = 0x01;

/// Appends the bytes of `text` escaped, without the end: what all row keys of longer texts begin with too.
pub(super) fn push_open(out: &mut Vec<u8>, text: &str) {
    for (n, run) in text.as_bytes().split(|b| *b == ZERO).enumerate() {
        if n > 0 {
            out.extend([ZERO, ESCAPED]);
        }
        out.extend_from_slice(run);
    }
}

/// Appends `text` with its end.
pub(super) fn push(out: &mut Vec<u8>, text: &str) {
    push_open(out, text);
    out.extend([ZERO, END]);
}

/// Takes a text from the front of `rest`.
pub(super) fn take(rest: &mut &[u8]) -> Result<String, BadRow> {
    let mut text = Vec::new();
    loop {
        let zero = rest.iter().position(|b| *b == ZERO);
        let zero = zero.ok_or_else(|| BadRow::new("a text without end"))?;
        text.extend_from_slice(&rest[..zero]);
        let after = rest.get(zero + 1).copied();
        *rest = rest.get(zero + 2..).unwrap_or_default();
        match after {
            Some(END) => break,
            Some(ESCAPED) => text.push(ZERO),
            _ => return Err(BadRow::new("a zero byte that is neither escaped nor an end")),
        }
    }
    String::from_utf8(text).map_err(|_| BadRow::new("a text that is not UTF-8"))
}
