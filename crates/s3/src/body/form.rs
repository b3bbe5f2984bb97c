//! A POST form (`multipart/form-data`): its fields, then its file as a body of its own.
//!
//! ```text
//!   --boundary CRLF  head CRLF CRLF  value CRLF        a field; before the file, bounded all together
//!   --boundary CRLF  head CRLF CRLF  the file CRLF     the field named "file": it streams
//!   --boundary CRLF  ...                               whatever follows it is not looked at, and bounded too
//!   --boundary--
//! ```
//! How long the file is, only its end tells: the form's length less what stands before the file is the most it can be, and
//! that less the bound of what follows the least. Memory: the bound of the fields, and one piece as it came.

use super::BodyRefusal;
use super::RefusalSlot;
use super::pace::Pace;
use auth::Fields;
use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use objects::{Body, BodyError};
use std::pin::Pin;
use std::sync::Arc;
use types::Checksum;
use types::limits::{FORM_FIELDS_BYTES_MAX, FORM_FIELDS_MAX, FORM_TAIL_BYTES_MAX};
use world::Clock;

/// What `--boundary--` ends with.
const LAST: &[u8] = b"--";
const CRLF: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The boundary that a `Content-Type` names; `None` where that is no form.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameter(parameters, "boundary")?;
    (1..=70).contains(&value.len()).then_some(value)
}

/// A parameter of a header such as `form-data; name="x"`. Browsers write `"` as `%22` and leave `\` alone.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim().to_owned());
        }
        rest = after;
    }
}

/// Where `needle` begins in `hay`.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|b| *b == needle[0]) {
        let at = from + at;
        if hay.len() - at < needle.len() {
            return None;
        }
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// A form as far as its file.
#[derive(Debug)]
pub(crate) struct Form {
    /// Its fields before the file, names in lower case.
    pub(crate) fields: Fields,
    /// What the file is called where it comes from, without its path; `None` when it has no name.
    pub(crate) filename: Option<String>,
    /// Most bytes that the file can have.
    pub(crate) length_max: u64,
    /// How many fewer it can have.
    pub(crate) slack: u64,
}

/// What comes in.
struct Arriving<B> {
    body: Pin<Box<B>>,
    pace: Pace,
    buffer: BytesMut,
    /// Bytes taken off the connection.
    received: u64,
    /// CRLF, `--` and the boundary.
    delimiter: Vec<u8>,
}

impl<B: HttpBody<Data = Bytes>> Arriving<B> {
    /// Gets more into the buffer; `false` at the end.
    async fn fill(&mut self) -> Result<bool, BodyRefusal> {
        match self.pace.frame(&mut self.body).await? {
            None => Ok(false),
            Some(Err(_)) => Err(BodyRefusal::IncompleteBody {
                expected: self.received,
                provided: self.received,
            }),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                self.received += data.len() as u64;
                self.buffer.extend_from_slice(&data);
                Ok(true)
            }
        }
    }
}

/// Reads a form's fields. The head said that the whole of it has `length` bytes.
///
/// # Errors
/// What it is refused for.
pub(crate) async fn read<B>(
    boundary: &str,
    length: u64,
    body: B,
    clock: Arc<dyn Clock>,
) -> Result<(Form, File<B>), BodyRefusal>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
{
    let mut reading = Reading {
        arriving: Arriving {
            body: Box::pin(body),
            pace: Pace::new(clock),
            // The first boundary begins the body; with a line's end before it, it is found like the others.
            buffer: BytesMut::from(CRLF),
            received: 0,
            delimiter: format!("\r\n--{boundary}").into_bytes(),
        },
        passed: 0,
    };
    let mut fields = Fields::new();
    loop {
        let head = reading.next_part().await?;
        if head.name != "file" {
            let value = reading.value().await?;
            if fields.len() >= FORM_FIELDS_MAX {
                return Err(BodyRefusal::FormFieldsTooLarge);
            }
            if fields.insert(head.name, value).is_some() {
                return Err(BodyRefusal::MalformedForm);
            }
            continue;
        }
        let arriving = reading.arriving;
        let left = length.saturating_sub(arriving.received) + arriving.buffer.len() as u64;
        let end = arriving.delimiter.len() + LAST.len();
        let length_max = left.checked_sub(end as u64).ok_or(BodyRefusal::MalformedForm)?;
        let form = Form {
            fields,
            filename: head.filename,
            length_max,
            slack: length_max.min(FORM_TAIL_BYTES_MAX as u64),
        };
        let file = File {
            arriving,
            given: 0,
            ended: false,
            least: 0,
            most: u64::MAX,
            proposed: length_max.saturating_sub(CRLF.len() as u64),
            slot: RefusalSlot::default(),
        };
        return Ok((form, file));
    }
}

struct PartHead {
    name: String,
    filename: Option<String>,
}

/// The part of a form before its file.
struct Reading<B> {
    arriving: Arriving<B>,
    /// Bytes of it that have been read.
    passed: usize,
}

impl<B: HttpBody<Data = Bytes>> Reading<B> {
    /// Everything up to `needle`, which is taken off too unless it is to be `left`.
    async fn until(&mut self, needle: &[u8], left: bool) -> Result<BytesMut, BodyRefusal> {
        loop {
            let found = find(&self.arriving.buffer, needle);
            let reached = self.passed + found.unwrap_or(self.arriving.buffer.len());
            if reached > FORM_FIELDS_BYTES_MAX {
                return Err(BodyRefusal::FormFieldsTooLarge);
            }
            if let Some(at) = found {
                let before = self.arriving.buffer.split_to(at);
                if !left {
                    let _needle = self.arriving.buffer.split_to(needle.len());
                }
                self.passed += at + if left { 0 } else { needle.len() };
                return Ok(before);
            }
            if !self.arriving.fill().await? {
                return Err(BodyRefusal::MalformedForm);
            }
        }
    }

    /// The next part's head.
    async fn next_part(&mut self) -> Result<PartHead, BodyRefusal> {
        let delimiter = self.arriving.delimiter.clone();
        self.until(&delimiter, false).await?;
        while self.arriving.buffer.len() < LAST.len() {
            if !self.arriving.fill().await? {
                return Err(BodyRefusal::MalformedForm);
            }
        }
        if self.arriving.buffer.starts_with(LAST) {
            return Err(BodyRefusal::NoFile);
        }
        let head = self.until(HEAD_END, false).await?;
        // Behind the boundary there may be blanks, then the line ends.
        let head = std::str::from_utf8(&head).map_err(|_| BodyRefusal::MalformedForm)?;
        let (blank, lines) = head.split_once("\r\n").ok_or(BodyRefusal::MalformedForm)?;
        if !blank.trim_matches([' ', '\t']).is_empty() {
            return Err(BodyRefusal::MalformedForm);
        }
        part_head(lines).ok_or(BodyRefusal::MalformedForm)
    }

    /// A field's value.
    async fn value(&mut self) -> Result<String, BodyRefusal> {
        let delimiter = self.arriving.delimiter.clone();
        let value = self.until(&delimiter, true).await?;
        String::from_utf8(value.to_vec()).map_err(|_| BodyRefusal::MalformedForm)
    }
}

fn part_head(lines: &str) -> Option<PartHead> {
    let disposition = lines.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value.trim())
    })?;
    let (kind, parameters) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let extended = parameter(parameters, "filename*").and_then(|text| {
        let encoded = text.rsplit_once('\'').map_or(text.as_str(), |(_, name)| name);
        String::from_utf8(auth::uri::decode(encoded.as_bytes())?).ok()
    });
    let plain = || parameter(parameters, "filename").map(|name| name.replace("%22", "\""));
    let path = extended.or_else(plain);
    Some(PartHead {
        name: parameter(parameters, "name")?.to_ascii_lowercase(),
        // Some browsers give the whole path, in either spelling.
        filename: path.map(|p| p.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()),
    })
}

/// A form's file.
pub(crate) struct File<B> {
    arriving: Arriving<B>,
    given: u64,
    ended: bool,
    least: u64,
    most: u64,
    /// How long it seems to be, from what the head said.
    proposed: u64,
    slot: RefusalSlot,
}

impl<B: HttpBody<Data = Bytes> + Send> File<B> {
    /// Holds it to a length; what it is refused for will stand in the slot.
    pub(crate) fn within(mut self, (least, most): (u64, u64)) -> (Self, RefusalSlot) {
        (self.least, self.most) = (least, most);
        let slot = self.slot.clone();
        (self, slot)
    }

    async fn step(&mut self) -> Result<Option<Bytes>, BodyRefusal> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let delimiter = &self.arriving.delimiter;
            let found = find(&self.arriving.buffer, delimiter);
            // What could be the beginning of a boundary waits for the rest of it.
            let sure = found.unwrap_or((self.arriving.buffer.len() + 1).saturating_sub(delimiter.len()));
            if sure > 0 {
                self.given += sure as u64;
                if self.given > self.most {
                    return Err(BodyRefusal::EntityTooLarge {
                        size: self.given.max(self.proposed),
                        max: self.most,
                    });
                }
                return Ok(Some(self.arriving.buffer.split_to(sure).freeze()));
            }
            if found.is_some() {
                self.finish().await?;
                return Ok(None);
            }
            if !self.arriving.fill().await? {
                return Err(BodyRefusal::MalformedForm);
            }
        }
    }

    /// The file has ended: takes off what follows, and says whether all was well.
    async fn finish(&mut self) -> Result<(), BodyRefusal> {
        let delimiter = self.arriving.delimiter.len();
        let mut after = 0;
        let mut first = self.arriving.buffer.split_off(delimiter);
        std::mem::swap(&mut first, &mut self.arriving.buffer);
        while self.arriving.buffer.len() < LAST.len() {
            if !self.arriving.fill().await? {
                return Err(BodyRefusal::MalformedForm);
            }
        }
        let last = self.arriving.buffer.starts_with(LAST);
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r');
        if !last && !self.arriving.buffer.first().is_some_and(blank) {
            return Err(BodyRefusal::MalformedForm);
        }
        loop {
            after += self.arriving.buffer.len();
            self.arriving.buffer.clear();
            if after > FORM_TAIL_BYTES_MAX + LAST.len() {
                return Err(BodyRefusal::MalformedForm);
            }
            if !self.arriving.fill().await? {
                break;
            }
        }
        if self.given < self.least {
            return Err(BodyRefusal::EntityTooSmall {
                size: self.given,
                min: self.least,
            });
        }
        self.ended = true;
        Ok(())
    }
}

#[async_trait::async_trait]
impl<B: HttpBody<Data = Bytes> + Send> Body for File<B> {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.step().await.map_err(|refusal| {
            self.slot.set(refusal.clone());
            refusal.to_body_error()
        })
    }

    fn trailer(&mut self) -> Vec<Checksum> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use world::real::RealClock;

    type Outcome = Result<(Fields, Option<String>, Vec<u8>), BodyRefusal>;

    /// Reads a whole form that comes in pieces of `piece` bytes.
    fn read_all(form: &[u8], piece: usize, length: (u64, u64)) -> Outcome {
        let chunks: Vec<_> = form
            .chunks(piece.max(1))
            .map(|c| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::copy_from_slice(c))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(chunks));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let clock = Arc::new(RealClock::new());
            let (form, file) = read("XX", form.len() as u64, body, clock).await?;
            let (mut file, slot) = file.within(length);
            let mut all = Vec::new();
            loop {
                match file.next().await {
                    Ok(Some(bytes)) => all.extend_from_slice(&bytes),
                    Ok(None) => break,
                    Err(_) => return Err(slot.get().unwrap()),
                }
            }
            let size = all.len() as u64;
            assert!(size <= form.length_max && size + form.slack >= form.length_max);
            Ok((form.fields, form.filename, all))
        })
    }

    const ANY: (u64, u64) = (0, u64::MAX);

    fn part(head: &str, value: &[u8]) -> Vec<u8> {
        [
            b"--XX\r\nContent-Disposition: form-data; ",
            head.as_bytes(),
            HEAD_END,
            value,
            CRLF,
        ]
        .concat()
    }

    fn form(parts: &[Vec<u8>]) -> Vec<u8> {
        [&parts.concat()[..], b"--XX--\r\n"].concat()
    }

    fn key() -> Vec<u8> {
        part("name=\"Key\"", b"k/${filename}")
    }

    #[test]
    fn boundaries() {
        for (given, expected) in [
            ("multipart/form-data; boundary=XX", Some("XX")),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"X X\"",
                Some("X X"),
            ),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/mixed; boundary=XX", None),
            ("application/x-www-form-urlencoded", None),
        ] {
            assert_eq!(boundary(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn fields_and_file() {
        let file = part(
            "name=\"file\"; filename=\"some\\dir\\a%22.txt\"\r\nContent-Type: text/plain",
            b"bytes\r\n--X",
        );
        let after = part("name=\"submit\"", b"Upload");
        for parts in [vec![key(), file.clone()], vec![key(), file, after]] {
            for piece in [1, 2, 7, 1000] {
                let (fields, filename, bytes) = read_all(&form(&parts), piece, ANY).unwrap();
                assert_eq!(
                    fields.into_iter().collect::<Vec<_>>(),
                    [("key".into(), "k/${filename}".into())]
                );
                assert_eq!(
                    (filename.as_deref(), &bytes[..]),
                    (Some("a\".txt"), &b"bytes\r\n--X"[..])
                );
            }
        }
        let nameless = form(&[part("name=file", b"")]);
        assert_eq!(read_all(&nameless, 9, ANY), Ok((Fields::new(), None, Vec::new())));
        let extended = form(&[part(
            "name=file; filename=\"x\"; filename*=utf-8''na%C3%AFve",
            b"",
        )]);
        assert_eq!(read_all(&extended, 9, ANY).unwrap().1.as_deref(), Some("naïve"));
    }

    #[test]
    fn lengths() {
        let of = |size: usize| form(&[key(), part("name=\"file\"", &vec![b'x'; size])]);
        assert!(read_all(&of(5), 1000, (5, 5)).is_ok());
        let small = read_all(&of(4), 3, (5, 9));
        assert_eq!(small, Err(BodyRefusal::EntityTooSmall { size: 4, min: 5 }));
        for piece in [1, 1000] {
            let large = read_all(&of(10), piece, (5, 9));
            assert_eq!(
                large,
                Err(BodyRefusal::EntityTooLarge { size: 10, max: 9 }),
                "by {piece}"
            );
        }
    }

    #[test]
    fn what_is_no_form() {
        use BodyRefusal::{FormFieldsTooLarge, MalformedForm, NoFile};
        let file = || part("name=\"file\"", b"x");
        let many: Vec<_> = (0..=FORM_FIELDS_MAX)
            .map(|i| part(&format!("name=\"{i}\""), b""))
            .collect();
        let cases = [
            (Vec::new(), MalformedForm),
            (b"--XX--\r\n".to_vec(), NoFile),
            (form(&[key()]), NoFile),
            (b"--XX".to_vec(), MalformedForm),
            (
                b"--XXYY\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--XX--".to_vec(),
                MalformedForm,
            ),
            (form(&[key(), key(), file()]), MalformedForm),
            (form(&[part("name=\"a\"", b"\xff"), file()]), MalformedForm),
            (form(&[part("filename=\"a\"", b""), file()]), MalformedForm),
            (
                form(&[b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n".to_vec(), file()]),
                MalformedForm,
            ),
            // Cut off in the file, or right behind its boundary.
            (file()[..file().len() - 2].to_vec(), MalformedForm),
            ([file(), b"--XX".to_vec()].concat(), MalformedForm),
            ([file(), b"--XXZ".to_vec()].concat(), MalformedForm),
            (
                form(&[part("name=\"a\"", &vec![b'v'; FORM_FIELDS_BYTES_MAX]), file()]),
                FormFieldsTooLarge,
            ),
            (form(&[many.concat(), file()]), FormFieldsTooLarge),
            (
                form(&[file(), part("name=\"a\"", &vec![b'v'; FORM_TAIL_BYTES_MAX])]),
                MalformedForm,
            ),
        ];
        for (given, refusal) in cases {
            for piece in [1, 3, 100_000] {
                let got = read_all(&given, piece, ANY).map(drop);
                assert_eq!(
                    got,
                    Err(refusal.clone()),
                    "{:.200}",
                    String::from_utf8_lossy(&given)
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_file_is_what_was_sent(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), any::<u8>()], 0..300),
            piece in 1..40usize,
        ) {
            prop_assume!(find(&bytes, b"\r\n--XX").is_none());
            let got = read_all(&form(&[key(), part("name=\"file\"", &bytes)]), piece, ANY);
            // The file may end in what begins a boundary together with the one that follows.
            prop_assert_eq!(got.unwrap().2, bytes);
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..40usize) {
            prop_assert!(read_all(&bytes, piece, ANY).is_err());
        }
    }
}
