//! One client: a connection that is kept, a request at a time. Of an answer no more is read than its status, its length and its ETag.

use crate::body::Body;
use crate::endpoint::{Endpoint, Stream};
use crate::plan::{Credentials, Payload};
use crate::sign::{Ask, FrameSigner, Signer};
use std::io::{self, Read, Write};
use std::time::Duration;

/// How long is waited for an answer that nobody measures.
const SILENT_HURRIED_MAX: Duration = Duration::from_secs(5);
/// Of an answer at once.
const READ_BYTES: usize = 256 << 10;
/// Smaller pieces go out together.
const TOGETHER_BYTES: usize = 64 << 10;
/// Of an answer that is an error, what is told of it.
const TOLD_BYTES: usize = 512;
/// Of an answer that is kept.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// What is sent.
pub(crate) enum Send<'a> {
    Nothing,
    /// A document of the protocol, unsigned.
    Document(&'a [u8]),
    Body(&'a Body<'a>, Payload),
}

/// What the answer's body must be.
pub(crate) enum Want<'a> {
    /// Anything.
    Any,
    /// These bytes.
    Body(&'a Body<'a>),
    /// These bytes.
    Same(&'a [u8]),
    /// Anything, and it is wanted.
    Kept(&'a mut Vec<u8>),
}

/// The head of an answer with success.
pub(crate) struct Answer {
    /// Bytes of the body, or, to a HEAD, of what a GET would give.
    pub(crate) length: usize,
    pub(crate) etag: Option<String>,
}

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{status}: {told}")]
    Status { status: u16, told: String },
    #[error("what was read is not what was put: {0}")]
    Wrong(String),
}

/// A client.
pub(crate) struct Connection {
    endpoint: Endpoint,
    signer: Signer,
    stream: Option<Stream>,
    out: Vec<u8>,
    read: Box<[u8]>,
}

/// The head of an answer, as it was read.
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    closes: bool,
    etag: Option<String>,
    /// Bytes in the buffer: of the head, and in all.
    ends: usize,
    have: usize,
}

/// Where the bytes of a body go.
struct Sink<'a> {
    want: Want<'a>,
    at: usize,
    wrong: bool,
    told: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(endpoint: &Endpoint, credentials: &Credentials) -> Self {
        Self {
            endpoint: endpoint.clone(),
            signer: Signer::new(credentials, endpoint.authority()),
            stream: None,
            out: Vec::new(),
            read: vec![0; READ_BYTES].into(),
        }
    }

    /// Waits less from the next connection on: nobody measures any more.
    pub(crate) fn hurry(&mut self) {
        self.endpoint = self.endpoint.clone().patient(SILENT_HURRIED_MAX);
        self.stream = None;
    }

    /// Sends a request without a body and reads all of its answer.
    pub(crate) fn ask(
        &mut self,
        method: &'static str,
        path: &str,
        query: &str,
        want: Want<'_>,
    ) -> Result<Answer, Failed> {
        self.exchange(method, (path, query), &Send::Nothing, want)
    }

    /// Sends a request and reads all of its answer. After any failure of the connection the next request has a new one.
    pub(crate) fn exchange(
        &mut self,
        method: &'static str,
        (path, query): (&str, &str),
        send: &Send<'_>,
        want: Want<'_>,
    ) -> Result<Answer, Failed> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.endpoint.connect()?,
        };
        let decoded;
        let (sha256, length, amz, unsigned) = match send {
            Send::Nothing => ("UNSIGNED-PAYLOAD".to_owned(), 0, vec![], ""),
            Send::Document(text) => ("UNSIGNED-PAYLOAD".to_owned(), text.len(), vec![], ""),
            Send::Body(body, payload) => {
                decoded = body.len().to_string();
                let (amz, unsigned) = match payload {
                    Payload::Unsigned | Payload::Signed => (vec![], ""),
                    Payload::Streaming => (
                        vec![("x-amz-decoded-content-length", decoded.as_str())],
                        "content-encoding: aws-chunked\r\n",
                    ),
                    Payload::Trailer => (
                        vec![
                            ("x-amz-decoded-content-length", decoded.as_str()),
                            ("x-amz-trailer", "x-amz-checksum-crc32"),
                        ],
                        "content-encoding: aws-chunked\r\n",
                    ),
                };
                (body.sha256(*payload), body.sent_bytes(*payload), amz, unsigned)
            }
        };
        let ask = Ask {
            method,
            path,
            query,
            sha256: &sha256,
            length,
            amz: &amz,
            unsigned,
        };
        self.out.clear();
        let mut frames = self.signer.head(&ask, &mut self.out);
        let sent = write(&mut stream, &mut self.out, send, &mut frames);
        self.endpoint.hasten(&stream)?;
        // A server that refuses may answer before it has read all, and hang up: what it says is worth more than that it did.
        let answer = answer(&mut stream, &mut self.read, method == "HEAD", want);
        let (head, sink) = match (answer, sent) {
            (Ok(answer), Ok(())) => answer,
            (Ok((head, sink)), Err(_)) if head.status >= 300 => (Head { closes: true, ..head }, sink),
            (_, Err(e)) | (Err(e), Ok(())) => return Err(e.into()),
        };
        if !head.closes {
            self.stream = Some(stream);
        }
        if !(200..300).contains(&head.status) {
            return Err(Failed::Status {
                status: head.status,
                told: String::from_utf8_lossy(&sink.told).into_owned(),
            });
        }
        sink.judge()?;
        Ok(Answer {
            length: head.length.unwrap_or(sink.at),
            etag: head.etag,
        })
    }
}

fn write(
    stream: &mut Stream,
    out: &mut Vec<u8>,
    send: &Send<'_>,
    frames: &mut FrameSigner<'_>,
) -> io::Result<()> {
    let mut piece = |bytes: &[u8]| {
        if out.len() + bytes.len() > TOGETHER_BYTES && !out.is_empty() {
            stream.write_all(out)?;
            out.clear();
        }
        if bytes.len() > TOGETHER_BYTES {
            return stream.write_all(bytes);
        }
        out.extend_from_slice(bytes);
        Ok(())
    };
    match send {
        Send::Nothing => {}
        Send::Document(text) => piece(text)?,
        Send::Body(body, payload) => body.send(*payload, frames, piece)?,
    }
    stream.write_all(out)?;
    stream.flush()
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn answer<'a>(
    stream: &mut Stream,
    buf: &mut [u8],
    headless: bool,
    want: Want<'a>,
) -> io::Result<(Head, Sink<'a>)> {
    let mut head = read_head(stream, buf, 0)?;
    while head.status < 200 {
        buf.copy_within(head.ends..head.have, 0);
        head = read_head(stream, buf, head.have - head.ends)?;
    }
    let mut sink = Sink {
        want,
        at: 0,
        wrong: false,
        told: Vec::new(),
    };
    if !(200..300).contains(&head.status) {
        sink.want = Want::Any;
    }
    if headless || head.status == 204 || head.status == 304 {
        return Ok((head, sink));
    }
    if head.chunked {
        chunked(stream, buf, &head, &mut sink)?;
    } else if let Some(length) = head.length {
        let first = head.have - head.ends;
        if first > length {
            return Err(bad("more bytes than it said"));
        }
        sink.take(&buf[head.ends..head.have]);
        let mut left = length - first;
        while left > 0 {
            let room = left.min(buf.len());
            let n = more(stream, &mut buf[..room])?;
            sink.take(&buf[..n]);
            left -= n;
        }
    } else {
        sink.take(&buf[head.ends..head.have]);
        head.closes = true;
        loop {
            match stream.read(buf)? {
                0 => break,
                n => sink.take(&buf[..n]),
            }
        }
    }
    Ok((head, sink))
}

fn more(stream: &mut Stream, buf: &mut [u8]) -> io::Result<usize> {
    match stream.read(buf)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up")),
        n => Ok(n),
    }
}

fn read_head(stream: &mut Stream, buf: &mut [u8], mut have: usize) -> io::Result<Head> {
    let ends = loop {
        if let Some(at) = find(&buf[..have], b"\r\n\r\n") {
            break at + 4;
        }
        if have == buf.len() {
            return Err(bad("a head without end"));
        }
        have += more(stream, &mut buf[have..])?;
    };
    let text = std::str::from_utf8(&buf[..ends]).map_err(|_| bad("a head that is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
    let mut head = Head {
        status: status.ok_or_else(|| bad("an answer without a status"))?,
        length: None,
        chunked: false,
        closes: false,
        etag: None,
        ends,
        have,
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length = Some(value.parse().map_err(|_| bad("a length that is none"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("etag") {
            head.etag = Some(value.to_owned());
        }
    }
    Ok(head)
}

/// A chunked body, up to its last chunk and the trailers behind it.
fn chunked(stream: &mut Stream, buf: &mut [u8], head: &Head, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut pending = buf[head.ends..head.have].to_vec();
    let mut at = 0;
    loop {
        let line = find(&pending[at..], b"\r\n");
        if let Some(line) = line {
            let size = std::str::from_utf8(&pending[at..at + line]).ok();
            let size = size.and_then(|s| usize::from_str_radix(s.split(';').next()?.trim(), 16).ok());
            let size = size.filter(|size| *size <= KEPT_BYTES_MAX);
            let size = size.ok_or_else(|| bad("a chunk without a length, or with one that is too large"))?;
            let data = at + line + 2;
            if size == 0 {
                // Trailers end with an empty line; without any that is the next.
                if let Some(end) = find(&pending[at + line..], b"\r\n\r\n") {
                    return if at + line + end + 4 == pending.len() {
                        Ok(())
                    } else {
                        Err(bad("more bytes than it said"))
                    };
                }
            } else if pending.len() >= data + size + 2 {
                sink.take(&pending[data..data + size]);
                at = data + size + 2;
                continue;
            }
        }
        pending.drain(..at);
        at = 0;
        let n = more(stream, buf)?;
        pending.extend_from_slice(&buf[..n]);
    }
}

impl Sink<'_> {
    fn take(&mut self, piece: &[u8]) {
        let room = TOLD_BYTES.saturating_sub(self.told.len());
        match &mut self.want {
            Want::Any => self.told.extend_from_slice(&piece[..piece.len().min(room)]),
            Want::Body(body) => self.wrong |= !body.has(self.at, piece),
            Want::Same(bytes) => self.wrong |= bytes.get(self.at..self.at + piece.len()) != Some(piece),
            Want::Kept(kept) => {
                let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
        self.at += piece.len();
    }

    fn judge(&self) -> Result<(), Failed> {
        let length = match &self.want {
            Want::Body(body) => body.len(),
            Want::Same(bytes) => bytes.len(),
            Want::Any | Want::Kept(_) => self.at,
        };
        if self.wrong || self.at != length {
            return Err(Failed::Wrong(format!(
                "{} bytes came, {length} were put",
                self.at
            )));
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
