//! A server that does the least which an acknowledged write needs: it appends, syncs for all that wait together, and answers.
//!
//! `limit DIR PORT`. It is what `cargo xtask bench` calls the limit: it knows no accounts, verifies and hashes nothing, finds nothing again after it
//! ended, and lists one page. A thread a connection; what is appended goes to one file whose first bytes are zeros that were written and synced
//! before, so that a sync of small objects has no blocks to allocate.
#![allow(clippy::disallowed_methods)] // it is what the real machine can do

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Zeros before what is appended.
const PREPARED_BYTES: u64 = 2 << 30;
/// Of a body at once.
const PIECE_BYTES: usize = 1 << 20;
const HEAD_BYTES_MAX: usize = 16 << 10;
const PAGE_KEYS: usize = 1000;

/// Where an object is.
type Place = (u64, usize);

struct Limit {
    file: File,
    end: AtomicU64,
    objects: Mutex<BTreeMap<String, Place>>,
    group: Mutex<Group>,
    moved: Condvar,
    /// The page that was listed last, of how many objects it was.
    page: Mutex<(usize, Arc<[u8]>)>,
}

/// Who waits for a sync: tickets.
#[derive(Default)]
struct Group {
    asked: u64,
    synced: u64,
    failed: bool,
}

impl Limit {
    /// Waits until all that this thread wrote before is on the disk.
    fn sync(&self) -> io::Result<()> {
        let mut group = self.group.lock().expect("no panic under this lock");
        group.asked += 1;
        let mine = group.asked;
        self.moved.notify_all();
        while group.synced < mine && !group.failed {
            group = self.moved.wait(group).expect("no panic under this lock");
        }
        if group.failed {
            return Err(io::Error::other("a sync failed"));
        }
        Ok(())
    }

    /// Syncs for all that wait, again and again.
    fn syncs(&self) {
        loop {
            let asked = {
                let mut group = self.group.lock().expect("no panic under this lock");
                while group.synced == group.asked {
                    group = self.moved.wait(group).expect("no panic under this lock");
                }
                group.asked
            };
            let done = self.file.sync_data();
            let mut group = self.group.lock().expect("no panic under this lock");
            group.synced = asked;
            group.failed |= done.is_err();
            self.moved.notify_all();
        }
    }

    fn page(&self, prefix: &str) -> Arc<[u8]> {
        let objects = self.objects.lock().expect("no panic under this lock");
        let mut page = self.page.lock().expect("no panic under this lock");
        if page.0 != objects.len() || page.1.is_empty() {
            let of_prefix = objects
                .range(prefix.to_owned()..)
                .take_while(|(key, _)| key.starts_with(prefix));
            let mut text = String::from("<ListBucketResult>");
            for (key, (_, length)) in of_prefix.take(PAGE_KEYS) {
                text.push_str(&format!(
                    "<Contents><Key>{key}</Key><Size>{length}</Size></Contents>"
                ));
            }
            text.push_str("</ListBucketResult>");
            *page = (objects.len(), text.into_bytes().into());
        }
        page.1.clone()
    }
}

/// One connection.
struct Client<'a> {
    limit: &'a Limit,
    stream: TcpStream,
    /// Bytes that came, and how many of them.
    buffer: Vec<u8>,
    have: usize,
}

impl Client<'_> {
    fn serve(&mut self) -> io::Result<()> {
        while let Some(end) = self.head()? {
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let length = value(&head, "content-length:")
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            if value(&head, "expect:").is_some() {
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.buffer.copy_within(end..self.have, 0);
            self.have -= end;
            self.answer(method, target, length)?;
        }
        Ok(())
    }

    /// Where the next head ends, if there is one.
    fn head(&mut self) -> io::Result<Option<usize>> {
        loop {
            let ends = self.buffer[..self.have].windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(at) = ends {
                return Ok(Some(at + 4));
            }
            if self.have >= HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let n = self.stream.read(&mut self.buffer[self.have..])?;
            if n == 0 {
                return Ok(None);
            }
            self.have += n;
        }
    }

    fn answer(&mut self, method: &str, target: &str, length: usize) -> io::Result<()> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_bucket = !path.trim_matches('/').contains('/');
        match (method, is_bucket) {
            ("PUT", false) => self.put(path, length),
            ("DELETE", false) => {
                let at = self.limit.end.fetch_add(path.len() as u64, Ordering::Relaxed);
                self.limit.file.write_all_at(path.as_bytes(), at)?;
                self.limit.sync()?;
                self.limit
                    .objects
                    .lock()
                    .expect("no panic under this lock")
                    .remove(path);
                self.stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            }
            ("GET" | "HEAD", false) => self.get(path, method == "GET"),
            ("GET", true) => {
                let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
                let prefix = prefix.unwrap_or_default().replace("%2F", "/");
                let page = self
                    .limit
                    .page(&format!("{}/{prefix}", path.trim_end_matches('/')));
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
                self.stream.write_all(&[head.as_bytes(), &page].concat())
            }
            _ => self
                .stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        }
    }

    fn put(&mut self, path: &str, length: usize) -> io::Result<()> {
        let at = self.limit.end.fetch_add(length as u64, Ordering::Relaxed);
        let mut done = 0;
        while done < length {
            if self.have == 0 {
                let most = self.buffer.len().min(length - done);
                self.stream.read_exact(&mut self.buffer[..most])?;
                self.have = most;
            }
            let n = self.have.min(length - done);
            self.limit
                .file
                .write_all_at(&self.buffer[..n], at + done as u64)?;
            self.buffer.copy_within(n..self.have, 0);
            self.have -= n;
            done += n;
        }
        self.limit.sync()?;
        let mut objects = self.limit.objects.lock().expect("no panic under this lock");
        objects.insert(path.to_owned(), (at, length));
        drop(objects);
        self.stream
            .write_all(b"HTTP/1.1 200 OK\r\netag: \"0\"\r\ncontent-length: 0\r\n\r\n")
    }

    fn get(&mut self, path: &str, with_body: bool) -> io::Result<()> {
        let found = self
            .limit
            .objects
            .lock()
            .expect("no panic under this lock")
            .get(path)
            .copied();
        let Some((at, length)) = found else {
            return self
                .stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        };
        let mut out = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        let mut done = if with_body { 0 } else { length };
        while done < length {
            let n = PIECE_BYTES.min(length - done);
            let begins = out.len();
            out.resize(begins + n, 0);
            self.limit
                .file
                .read_exact_at(&mut out[begins..], at + done as u64)?;
            self.stream.write_all(&out)?;
            out.clear();
            done += n;
        }
        self.stream.write_all(&out)
    }
}

fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let is_it = |line: &&str| {
        line.get(..name.len())
            .is_some_and(|n| n.eq_ignore_ascii_case(name))
    };
    head.lines().find(is_it).map(|line| line[name.len()..].trim())
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || io::Error::other("limit DIR PORT");
    let dir = arguments.next().ok_or_else(usage)?;
    let port: u16 = arguments
        .next()
        .and_then(|port| port.parse().ok())
        .ok_or_else(usage)?;
    let path = std::path::Path::new(&dir).join("appended");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let zeros = vec![0; PIECE_BYTES];
    for at in (0..PREPARED_BYTES).step_by(PIECE_BYTES) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    let limit = Arc::new(Limit {
        file,
        end: AtomicU64::new(0),
        objects: Mutex::default(),
        group: Mutex::default(),
        moved: Condvar::new(),
        page: Mutex::default(),
    });
    let syncs = limit.clone();
    std::thread::spawn(move || syncs.syncs());
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (stream, limit) = (stream?, limit.clone());
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut client = Client {
                limit: &limit,
                stream,
                buffer: vec![0; PIECE_BYTES],
                have: 0,
            };
            // Who hangs up has ended.
            let _gone = client.serve();
        });
    }
    Ok(())
}
