//! Writing answers.
//!
//! Keys may hold characters that XML 1.0 cannot carry. S3 writes them as character references all the same
//! (`&#x1;`); clients whose parser refuses those ask for `encoding-type=url`. We do as S3 does.

use crate::reply::iso_digits;
use std::fmt::Write as _;

/// A document being written. Elements are closed by the caller, in order.
pub(crate) struct XmlWriter {
    out: String,
}

impl XmlWriter {
    /// A document with its declaration.
    pub(crate) fn document() -> Self {
        let mut out = String::with_capacity(512);
        out.push_str(super::DECLARATION);
        Self { out }
    }

    /// Makes room for so many bytes more, so that a long document need not be moved as it grows.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// Opens the root in S3's namespace.
    pub(crate) fn root(&mut self, name: &str) {
        let _infallible = write!(self.out, "<{name} xmlns=\"{}\">", super::NAMESPACE);
    }

    /// Opens an element.
    pub(crate) fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Opens an element with an XML Schema type, as grantees have.
    pub(crate) fn open_typed(&mut self, name: &str, kind: &str) {
        let schema = "http://www.w3.org/2001/XMLSchema-instance";
        let _infallible = write!(self.out, "<{name} xmlns:xsi=\"{schema}\" xsi:type=\"{kind}\">");
    }

    /// Closes an element.
    pub(crate) fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element of text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.open(name);
        escape(value, &mut self.out);
        self.close(name);
    }

    /// Elements as they are written.
    pub(crate) fn markup(&mut self, written: &'static str) {
        self.out.push_str(written);
    }

    /// Text inside the open element.
    pub(crate) fn content(&mut self, value: &str) {
        escape(value, &mut self.out);
    }

    /// An element of a time.
    pub(crate) fn time(&mut self, name: &str, ms: u64) {
        self.open(name);
        self.ascii(&iso_digits(ms));
        self.close(name);
    }

    /// An ETag in its quotes.
    pub(crate) fn etag(&mut self, md5: &[u8], parts: u32) {
        self.out.push_str("<ETag>&quot;");
        let mut digits = [0; 32];
        // An object whose record has no MD5 has no ETag that a client could compute.
        if hex::encode_to_slice(md5, &mut digits).is_ok() {
            self.ascii(&digits);
            if parts > 0 {
                let _infallible = write!(self.out, "-{parts}");
            }
        }
        self.out.push_str("&quot;</ETag>");
    }

    fn ascii(&mut self, digits: &[u8]) {
        self.out.push_str(std::str::from_utf8(digits).unwrap_or_default());
    }

    /// An element of a number.
    pub(crate) fn number(&mut self, name: &str, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.open(name);
        // One by one: to copy what was just written byte by byte waits until it is in the cache.
        digits[first..]
            .iter()
            .for_each(|digit| self.out.push(char::from(*digit)));
        self.close(name);
    }

    /// An element of anything that prints.
    pub(crate) fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        self.open(name);
        let begun = self.out.len();
        let _infallible = write!(self.out, "{value}");
        if self.out.as_bytes()[begun..].iter().copied().any(is_rare) {
            let text = self.out.split_off(begun);
            escape(&text, &mut self.out);
        }
        self.close(name);
    }

    /// The document.
    pub(crate) fn finish(self) -> String {
        self.out
    }
}

fn escape(value: &str, out: &mut String) {
    // Without a way out early it is looked at many bytes at a time, and next to all names have nothing rare.
    if !value.bytes().fold(false, |found, b| found | is_rare(b)) {
        return out.push_str(value);
    }
    let mut rest = value;
    while let Some(at) = rest.bytes().position(is_rare) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(c) = rest.chars().next() else { return };
        escape_char(c, out);
        rest = &rest[c.len_utf8()..];
    }
    out.push_str(rest);
}

/// Whether a byte may begin what is not written as it is; one inside a character is never asked about.
fn is_rare(b: u8) -> bool {
    // EF begins FFFE and FFFF, and C2 the controls behind ASCII.
    matches!(b, b'&' | b'<' | b'>' | b'"' | 0..=0x1f | 0x7f | 0xc2 | 0xef)
}

fn escape_char(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\t' | '\n' => out.push(c),
        // A parser would turn a bare carriage return into a line feed.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
            let _infallible = write!(out, "&#x{:x};", c as u32);
        }
        _ => out.push(c),
    }
}

/// `encoding-type=url`: percent-encoding that leaves `/` alone. A space is `%20`, which every client decodes: S3's own `+` stays a plus with those
/// that know no forms.
pub(crate) fn url_encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for b in value.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => out.push(b as char),
            _ => {
                let _infallible = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{iso_time, quoted};
    use proptest::prelude::*;

    #[test]
    fn escapes_what_xml_cannot_carry() {
        let cases = [
            ("plain/ключ 🪨", "plain/ключ 🪨"),
            ("<a>&\"'", "&lt;a&gt;&amp;&quot;'"),
            ("\u{1}\r\n\t\u{0}\u{ffff}", "&#x1;&#xd;\n\t&#x0;&#xffff;"),
        ];
        for (given, written) in cases {
            let mut out = String::new();
            escape(given, &mut out);
            assert_eq!(out, written);
        }
    }

    proptest! {
        #[test]
        fn escapes_each_character_by_itself(text in "[a<&\"\t\r\n\u{0}-\u{a1}é\u{fffd}-\u{ffff}🪨]{0,12}") {
            let (mut at_once, mut one_by_one) = (String::new(), String::new());
            escape(&text, &mut at_once);
            text.chars().for_each(|c| escape_char(c, &mut one_by_one));
            prop_assert_eq!(at_once, one_by_one);
        }
    }

    #[test]
    fn numbers_are_written_as_they_print() {
        for number in [0, 9, 10, 4096, u64::MAX] {
            let (mut at_once, mut printed) = (XmlWriter::document(), XmlWriter::document());
            at_once.number("Size", number);
            printed.value("Size", number);
            assert_eq!(at_once.finish(), printed.finish());
        }
    }

    #[test]
    fn etags_and_times_are_written_as_texts_are() {
        for (md5, parts) in [(&[0xab; 16][..], 0), (&[7; 16], 12), (&[], 0), (&[1], 3)] {
            let (mut at_once, mut as_text) = (XmlWriter::document(), XmlWriter::document());
            at_once.etag(md5, parts);
            as_text.text("ETag", &quoted(md5, parts));
            at_once.time("At", 1_255_369_830_007);
            as_text.text("At", &iso_time(1_255_369_830_007));
            assert_eq!(at_once.finish(), as_text.finish());
        }
    }

    #[test]
    fn encodes_urls_as_s3_lists_them() {
        let cases = [
            ("test_file(3).png", "test_file%283%29.png"),
            ("a b+c/d~*", "a%20b%2Bc/d%7E*"),
            ("é\u{1}%", "%C3%A9%01%25"),
        ];
        for (given, encoded) in cases {
            assert_eq!(url_encode(given), encoded);
        }
    }
}
