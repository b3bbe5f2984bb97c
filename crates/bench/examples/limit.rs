//! A server that does the least which an acknowledged write needs: it appends, syncs for all that wait together, and answers.
//!
//! `limit DIR PORT`. It is what `cargo xtask bench` calls the limit: it knows no accounts, verifies and hashes nothing, finds nothing again after it
//! ended, and lists one page. A thread a connection, and whoever waits for a sync runs it for all that wait; what is appended goes round in one
//! file of zeros that were written and synced before, so that no sync has blocks to allocate. Large bodies go past the page cache and are written
//! while they come.
#![allow(clippy::disallowed_methods)] // it is what the real machine can do

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, mpsc};

/// Zeros that are written before; what is appended goes round in them.
const PREPARED_BYTES: u64 = 2 << 30;
/// What was put first is never written over: it is what is read.
const STAYS_BYTES: u64 = 1 << 30;
/// Of a body at once.
const PIECE_BYTES: usize = 1 << 20;
/// Larger ones are not copied into the page cache.
const DIRECT_BYTES_MIN: usize = 256 << 10;
/// What places, lengths and memory of direct writes are multiples of.
const BLOCK_BYTES: usize = 4096;
/// Pieces of one body that come or are written at the same time.
const PIECES: usize = 3;
const HEAD_BYTES_MAX: usize = 16 << 10;
const PAGE_KEYS: usize = 1000;

/// Where an object is.
type Place = (u64, usize);

struct Limit {
    file: File,
    /// The same, past the page cache, where the file system can.
    direct: Option<File>,
    end: Mutex<u64>,
    objects: Mutex<BTreeMap<String, Place>>,
    group: Mutex<Group>,
    /// Those that wait for the sync that runs, and for the one behind it: by turns. Nobody is woken for a sync that is not its own.
    waiting: [Condvar; 2],
    /// The page that was listed last, by prefix and how many objects there were.
    page: Mutex<(String, usize, Arc<[u8]>)>,
}

/// Who waits for a sync. One of those that wait runs it, for all that came before it began.
#[derive(Default)]
struct Group {
    /// The sync that who comes now waits for.
    next: usize,
    /// Whether the one before it runs.
    runs: bool,
    failed: bool,
}

/// Memory that direct writes take.
struct Piece {
    memory: Vec<u8>,
    begins: usize,
}

impl Piece {
    fn new() -> Self {
        let memory = vec![0; PIECE_BYTES + BLOCK_BYTES];
        let begins = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, begins }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begins..][..PIECE_BYTES]
    }
}

impl Limit {
    /// Waits until all that this thread wrote before is on the disk.
    fn sync(&self) -> io::Result<()> {
        let mut group = self.group.lock().expect("no panic under this lock");
        let mine = group.next;
        while group.runs && group.next == mine {
            group = self.waiting[mine % 2]
                .wait(group)
                .expect("no panic under this lock");
        }
        if group.next == mine {
            group.next += 1;
            group.runs = true;
            drop(group);
            let done = self.file.sync_data();
            group = self.group.lock().expect("no panic under this lock");
            group.runs = false;
            group.failed |= done.is_err();
            // Those that came before it began, and one of those behind them.
            self.waiting[mine % 2].notify_all();
            self.waiting[(mine + 1) % 2].notify_one();
        } else {
            // Somebody runs it for this one, or has.
            while group.runs && group.next == mine + 1 {
                group = self.waiting[mine % 2]
                    .wait(group)
                    .expect("no panic under this lock");
            }
        }
        if group.failed {
            return Err(io::Error::other("a sync failed"));
        }
        Ok(())
    }

    /// Room for so many bytes: behind what was put last, round and round.
    fn room(&self, length: usize, aligned: bool) -> u64 {
        let mut end = self.end.lock().expect("no panic under this lock");
        let block = if aligned { BLOCK_BYTES as u64 } else { 1 };
        let length = (length as u64).next_multiple_of(block);
        let mut at = end.next_multiple_of(block);
        if at + length > PREPARED_BYTES {
            at = STAYS_BYTES;
        }
        *end = at + length;
        at
    }

    /// Writes a piece of an aligned body; behind its last byte what stood in the memory.
    fn write(&self, piece: &mut Piece, at: u64, length: usize) -> io::Result<()> {
        match &self.direct {
            Some(direct) => direct.write_all_at(&piece.bytes()[..length.next_multiple_of(BLOCK_BYTES)], at),
            None => self.file.write_all_at(&piece.bytes()[..length], at),
        }
    }

    fn page(&self, prefix: &str) -> Arc<[u8]> {
        let objects = self.objects.lock().expect("no panic under this lock");
        let mut page = self.page.lock().expect("no panic under this lock");
        if page.1 != objects.len() || page.0 != prefix || page.2.is_empty() {
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
            *page = (prefix.to_owned(), objects.len(), text.into_bytes().into());
        }
        page.2.clone()
    }
}

/// One connection.
struct Client<'a> {
    limit: &'a Limit,
    stream: TcpStream,
    /// Bytes that came, and how many of them.
    buffer: Vec<u8>,
    have: usize,
    /// For large bodies, once there was one.
    pieces: Vec<Piece>,
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
                let at = self.limit.room(path.len(), false);
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
        let large = length >= DIRECT_BYTES_MIN;
        let at = self.limit.room(length, large);
        if large {
            self.write_large(at, length)?;
        } else {
            self.write_small(at, length)?;
        }
        self.limit.sync()?;
        let mut objects = self.limit.objects.lock().expect("no panic under this lock");
        objects.insert(path.to_owned(), (at, length));
        drop(objects);
        self.stream
            .write_all(b"HTTP/1.1 200 OK\r\netag: \"0\"\r\ncontent-length: 0\r\n\r\n")
    }

    fn write_small(&mut self, at: u64, length: usize) -> io::Result<()> {
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
        Ok(())
    }

    /// A body of one piece is written when it is there; of a longer one the next piece comes while the last is written.
    fn write_large(&mut self, at: u64, length: usize) -> io::Result<()> {
        if self.pieces.is_empty() {
            self.pieces.resize_with(PIECES, Piece::new);
        }
        if length <= PIECE_BYTES {
            let mut piece = self.pieces.pop().expect("they are all here");
            self.receive(&mut piece.bytes()[..length])?;
            let written = self.limit.write(&mut piece, at, length);
            self.pieces.push(piece);
            return written;
        }
        let limit = self.limit;
        let (full, to_write) = mpsc::sync_channel::<(Piece, u64, usize)>(PIECES);
        let (empty, to_fill) = mpsc::sync_channel(PIECES);
        for piece in self.pieces.drain(..) {
            empty.send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        let written = std::thread::scope(|scope| {
            let writes = scope.spawn(move || {
                for (mut piece, at, length) in to_write {
                    limit.write(&mut piece, at, length)?;
                    // Nobody fills it any more when all has come.
                    let _all_has_come = empty.send(piece);
                }
                Ok(())
            });
            let mut done = 0;
            while done < length {
                // Who writes has failed if it does not take or give any more.
                let Ok(mut piece) = to_fill.recv() else { break };
                let n = PIECE_BYTES.min(length - done);
                self.receive(&mut piece.bytes()[..n])?;
                if full.send((piece, at + done as u64, n)).is_err() {
                    break;
                }
                done += n;
            }
            drop(full);
            writes.join().expect("it does not panic")
        });
        self.pieces.extend(to_fill.try_iter());
        self.pieces.resize_with(PIECES, Piece::new);
        written
    }

    /// The next bytes of a body.
    fn receive(&mut self, out: &mut [u8]) -> io::Result<()> {
        let n = self.have.min(out.len());
        out[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.copy_within(n..self.have, 0);
        self.have -= n;
        self.stream.read_exact(&mut out[n..])
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
        .open(&path)?;
    let zeros = vec![0; PIECE_BYTES];
    for at in (0..PREPARED_BYTES).step_by(PIECE_BYTES) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::DIRECT;
    let direct = rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
    let limit = Arc::new(Limit {
        file,
        direct: direct.map(File::from).ok(),
        end: Mutex::new(0),
        objects: Mutex::default(),
        group: Mutex::default(),
        waiting: [Condvar::new(), Condvar::new()],
        page: Mutex::new((String::new(), 0, Vec::new().into())),
    });
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (stream, limit) = (stream?, limit.clone());
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut client = Client {
                limit: &limit,
                stream,
                buffer: vec![0; PIECE_BYTES],
                have: 0,
                pieces: Vec::new(),
            };
            // Who hangs up has ended.
            let _gone = client.serve();
        });
    }
    Ok(())
}
