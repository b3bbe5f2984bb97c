//! One connection that is kept alive and signs what it asks, UNSIGNED-PAYLOAD: what fills and asks the stores of `cargo xtask million`.

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::{digest, hmac};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

/// What all stores of a run call theirs.
pub(super) const REGION: &str = "us-east-1";
/// How long a presigned URL is good for, in seconds: longer than any cell takes.
const PRESIGNED_SECONDS: u32 = 3600;

/// Who is asked, and by whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

/// Bytes that neither compress nor repeat within a disk block.
pub(crate) fn body(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(size);
    out
}

/// A kept-alive connection that signs what it asks.
pub(crate) struct Connection {
    stream: TcpStream,
    target: Target,
    day: String,
    key: hmac::Key,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", target.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self {
            stream,
            target: target.clone(),
            day: String::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, b""),
            received: vec![0; 256 << 10],
        })
    }

    /// Sends one request, reads its whole answer; the number of body bytes. `query` and `path` are already encoded.
    pub(crate) fn ask(&mut self, method: &str, path: &str, query: &str, body: &[u8]) -> Result<usize> {
        let head = self.head(method, path, query, body.len())?;
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.answer(method)
    }

    /// Path and query of a GET that is signed in its query.
    pub(crate) fn presigned(&mut self, path: &str) -> Result<String> {
        let date = self.tell_time()?;
        let host = format!("127.0.0.1:{}", self.target.port);
        let scope = format!("{}/{REGION}/s3/aws4_request", self.day);
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F{}&X-Amz-Date={date}&X-Amz-Expires={PRESIGNED_SECONDS}&X-Amz-SignedHeaders=host",
            self.target.access_key,
            scope.replace('/', "%2F")
        );
        let canonical = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
        let signature = hex(hmac::sign(&self.key, text.as_bytes()).as_ref());
        Ok(format!("{path}?{query}&X-Amz-Signature={signature}"))
    }

    /// The date of a signature of now; the key is of its day.
    fn tell_time(&mut self) -> Result<String> {
        let now = OffsetDateTime::now_utc();
        let date = now.format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let day = &date[..8];
        if self.day != day {
            let mut key = hmac::Key::new(
                hmac::HMAC_SHA256,
                format!("AWS4{}", self.target.secret_key).as_bytes(),
            );
            for piece in [day, REGION, "s3", "aws4_request"] {
                key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, piece.as_bytes()).as_ref());
            }
            self.key = key;
            self.day = day.to_owned();
        }
        Ok(date)
    }

    fn head(&mut self, method: &str, path: &str, query: &str, length: usize) -> Result<String> {
        let date = self.tell_time()?;
        let day = &self.day;
        let host = format!("127.0.0.1:{}", self.target.port);
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{date}\n\n\
             host;x-amz-content-sha256;x-amz-date\nUNSIGNED-PAYLOAD"
        );
        let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{REGION}/s3/aws4_request\n{hashed}");
        let signature = hex(hmac::sign(&self.key, text.as_bytes()).as_ref());
        let target = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        };
        Ok(format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nx-amz-date: {date}\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={}/{day}/{REGION}/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}\r\ncontent-length: {length}\r\n\r\n",
            self.target.access_key
        ))
    }

    fn answer(&mut self, method: &str) -> Result<usize> {
        let mut have = 0;
        let end = loop {
            let n = self.stream.read(&mut self.received[have..])?;
            ensure!(n > 0, "hung up");
            have += n;
            if let Some(at) = find(&self.received[..have], b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(have < self.received.len(), "a head without end");
        };
        let head = std::str::from_utf8(&self.received[..end])?.to_ascii_lowercase();
        let status = head.get(9..12).context("a status")?.to_owned();
        let value = |name: &str| {
            head.lines()
                .find_map(|l| l.strip_prefix(name))
                .map(str::trim)
                .map(str::to_owned)
        };
        if !status.starts_with('2') {
            bail!(
                "answered {status}: {}",
                String::from_utf8_lossy(&self.received[..have])
            );
        }
        if method == "HEAD" {
            return Ok(0);
        }
        if let Some(length) = value("content-length:") {
            let length: usize = length.parse()?;
            let mut left = length - (have - end);
            while left > 0 {
                let n = self.stream.read(&mut self.received)?;
                ensure!(n > 0 && n <= left, "a body of another length");
                left -= n;
            }
            return Ok(length);
        }
        ensure!(
            value("transfer-encoding:").is_some_and(|v| v == "chunked"),
            "a body without length"
        );
        self.chunked(end, have)
    }

    /// A chunked body whose first bytes are in `received[from..to]`; how many bytes it carries. Ends at the empty chunk.
    fn chunked(&mut self, from: usize, to: usize) -> Result<usize> {
        let mut pending = self.received[from..to].to_vec();
        let mut total = 0;
        loop {
            let mut at = 0;
            while let Some(line) = find(&pending[at..], b"\r\n") {
                let size = usize::from_str_radix(std::str::from_utf8(&pending[at..at + line])?.trim(), 16)?;
                let next = at + line + 2 + size + 2;
                if pending.len() < next {
                    break;
                }
                if size == 0 {
                    return Ok(total);
                }
                total += size;
                at = next;
            }
            pending.drain(..at);
            let n = self.stream.read(&mut self.received)?;
            ensure!(n > 0, "hung up within a body");
            pending.extend_from_slice(&self.received[..n]);
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
