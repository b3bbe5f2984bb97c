//! Reading request documents into a small tree.
//!
//! Bounded: the caller bounds the bytes (`limits::XML_BYTES_MAX`), here the depth and the number of elements are.
//! Namespaces and prefixes are ignored, as S3 does; DTDs and any entity but the five of XML are refused, so a document
//! cannot grow as it is read.

use crate::error::{Code, Error};
use quick_xml::Reader;
use quick_xml::events::Event;

/// Deepest nesting: S3's request documents of this slice need three.
pub(super) const DEPTH_MAX: usize = 8;
/// Elements in one document: a completion of 10,000 parts has at most seven elements for each.
const ELEMENTS_MAX: usize = 100_000;

/// An element: a name without prefix, its text, its children.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

fn malformed() -> Error {
    Error::new(Code::MalformedXML)
}

impl Element {
    /// Reads a document whose root is `root`.
    pub(crate) fn parse(document: &[u8], root: &str) -> Result<Self, Error> {
        let text = std::str::from_utf8(document).map_err(|_| malformed())?;
        let found = parse(text.trim_start_matches('\u{feff}'))?;
        if found.name == root {
            Ok(found)
        } else {
            Err(malformed())
        }
    }

    /// Its name.
    #[cfg(feature = "fuzz")]
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Its children of that name, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// Its children, with their names.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&str, &Element)> {
        self.children.iter().map(|c| (c.name.as_str(), c))
    }

    /// The one child of that name; two are malformed.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&Element>, Error> {
        let mut found = self.children.iter().filter(|c| c.name == name);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(malformed()),
            (one, None) => Ok(one),
        }
    }

    /// The text of the one child of that name, which must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Error> {
        self.one(name)?.map(Self::text).ok_or_else(malformed)
    }
}

/// Elements open now, innermost last; the first is a nameless one that holds the root.
struct Open {
    stack: Vec<Element>,
    elements: usize,
}

impl Open {
    fn start(&mut self, name: &[u8]) -> Result<(), Error> {
        self.elements += 1;
        let root_again = self.stack.len() == 1 && !self.stack[0].children.is_empty();
        if self.stack.len() > DEPTH_MAX || self.elements > ELEMENTS_MAX || root_again {
            return Err(malformed());
        }
        self.stack.push(Element {
            name: String::from_utf8_lossy(name).into_owned(),
            ..Element::default()
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let mut done = self.stack.pop().ok_or_else(malformed)?;
        if !done.children.is_empty() {
            done.text.clear();
        }
        self.stack.last_mut().ok_or_else(malformed)?.children.push(done);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if self.stack.len() == 1 {
            let between = text.chars().all(|c| c.is_ascii_whitespace());
            return if between { Ok(()) } else { Err(malformed()) };
        }
        let open = self.stack.last_mut().ok_or_else(malformed)?;
        open.text.push_str(text);
        Ok(())
    }
}

/// Refuses characters that XML 1.0 has no place for but as references, which S3 takes all the same.
fn well_formed(text: &str) -> Result<&str, Error> {
    if is_xml_text(text) {
        Ok(text)
    } else {
        Err(malformed())
    }
}

/// Whether a reference is to the one character that no XML can carry at all. Listings write it so, as S3's do, and a batch of deletes that
/// was made of a listing names it so.
fn is_nul(reference: &str) -> bool {
    let digits = reference.strip_prefix("#x").or(reference.strip_prefix('#'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b == b'0'))
}

/// Whether XML 1.0 can carry it.
pub(crate) fn is_xml_text(text: &str) -> bool {
    let stranger = |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    !text.contains(stranger)
}

pub(super) fn parse(text: &str) -> Result<Element, Error> {
    let mut reader = Reader::from_str(text);
    let mut open = Open {
        stack: vec![Element::default()],
        elements: 0,
    };
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(e) => open.start(e.local_name().as_ref().as_ref())?,
            Event::Empty(e) => {
                open.start(e.local_name().as_ref().as_ref())?;
                open.end()?;
            }
            Event::End(_) => open.end()?,
            Event::Text(t) => open.text(well_formed(&t.xml10_content())?)?,
            Event::CData(t) => open.text(well_formed(&t.xml10_content())?)?,
            Event::GeneralRef(r) if is_nul(&r.xml10_content()) => open.text("\0")?,
            Event::GeneralRef(r) => {
                let resolved = match r.resolve_char_ref().map_err(|_| malformed())? {
                    Some(c) => c.to_string(),
                    None => {
                        let name = r.xml10_content();
                        quick_xml::escape::resolve_predefined_entity(&name)
                            .ok_or_else(malformed)?
                            .to_owned()
                    }
                };
                open.text(&resolved)?;
            }
            Event::DocType(_) => return Err(malformed()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    match (open.stack.len(), open.stack.pop()) {
        (1, Some(mut top)) if top.children.len() == 1 => Ok(top.children.remove(0)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let given = "<?xml version=\"1.0\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n \
                     <Object><Key>a&amp;b&#x1;&#13;c&lt;<![CDATA[<raw>]]></Key></Object>\n<!-- x --><Quiet>true</Quiet> \
                     <s3:Object xmlns:s3=\"x\"><Key> k </Key></s3:Object><Empty/></Delete>\n";
        let root = Element::parse(given.as_bytes(), "Delete").unwrap();
        let keys: Vec<_> = root.all("Object").map(|o| o.required("Key").unwrap()).collect();
        assert_eq!(keys, ["a&b\u{1}\rc<<raw>", " k "]);
        assert_eq!(root.required("Quiet"), Ok("true"));
        let nul = Element::parse(b"<a>&#0;&#x0;&#x0000;&#1;</a>", "a").unwrap();
        assert_eq!(nul.text(), "\0\0\0\u{1}");
        assert_eq!(root.one("Empty").unwrap().unwrap().text(), "");
        assert_eq!(root.one("Missing"), Ok(None));
    }

    #[test]
    fn refuses_everything_else() {
        let deep = format!("{}{}", "<a>".repeat(9), "</a>".repeat(9));
        let cases: &[&str] = &[
            "",
            "   ",
            "x",
            "<a>",
            "<a></b>",
            "<a/><a/>",
            "<a/>tail",
            "head<a/>",
            "<b/>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<!DOCTYPE a><a/>",
            "<a>&unknown;</a>",
            "<a>\u{1}</a>",
            "<a><![CDATA[\u{0}]]></a>",
            "<a>&#xd800;</a>",
            "<a>&#x110000;</a>",
            "<a>&#;</a>",
            "<a>&#x;</a>",
            "<a",
            "</a>",
            &deep,
        ];
        for given in cases {
            let code = Element::parse(given.as_bytes(), "a").map_err(|e| e.code());
            assert_eq!(code, Err(Code::MalformedXML), "{given}");
        }
        assert!(Element::parse(b"<a>\xff</a>", "a").is_err());
        assert!(Element::parse(b"<a><b/><b/></a>", "a").unwrap().one("b").is_err());
        let many = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX));
        assert!(Element::parse(many.as_bytes(), "a").is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(given in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _any = Element::parse(&given, "a");
        }

        #[test]
        fn reads_what_we_write(text in "\\PC*[\0-\u{8}\r<&>\"]*") {
            let mut x = super::super::XmlWriter::document();
            x.text("a", &text);
            let back = Element::parse(x.finish().as_bytes(), "a").unwrap();
            proptest::prop_assert_eq!(back.text(), text);
        }
    }
}
