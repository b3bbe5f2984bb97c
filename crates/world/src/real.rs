//! The real world: the operating system's clock, randomness, files and sockets.
#![allow(clippy::disallowed_methods, reason = "this is where the raw calls live")]

use crate::plant::{Plant, is_planted};
use crate::{Aligned, Cached, Clock, Disk, DiskFile, DiskLock, Listener, Net, Rng, Space, Stream};
use std::fs::{File, Metadata, OpenOptions};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use types::limits;

/// The system's clocks.
pub struct RealClock(());

impl RealClock {
    /// The system's clocks.
    pub fn new() -> Self {
        Self(())
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn wall_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64)
    }

    fn mono(&self) -> Duration {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    }

    fn sleep(&self, d: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(d))
    }
}

/// The operating system's randomness.
pub struct RealRng;

impl Rng for RealRng {
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the operating system gives randomness");
    }
}

/// A directory of a mounted file system.
pub struct RealDisk {
    root: PathBuf,
    /// Nothing is opened to be written, or made: it may be mounted so.
    is_read_only: bool,
    owner: Owner,
}

/// Whose the directory is. What root makes in it is theirs, too: else a command that root ran would leave what the service cannot open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn of(there: &Metadata) -> Self {
        Self {
            user: there.uid(),
            group: there.gid(),
        }
    }

    /// Gives away what somebody else made; who is not root cannot, and need not.
    fn take(self, made: &Metadata, chown: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>) {
        if made.uid() == self.user {
            return;
        }
        if let Err(error) = chown(Some(self.user), Some(self.group)) {
            tracing::debug!(%error, "a new file is not its directory's owner's");
        }
    }
}

impl RealDisk {
    /// Opens `root`, making it (mode 0700) where it is missing.
    ///
    /// # Errors
    /// Whatever the file system answers.
    pub fn open(root: &Path) -> io::Result<Self> {
        make_dirs(root, &|dir| dir.is_dir(), &make_dir, &|dir| {
            File::open(dir)?.sync_all()
        })?;
        Ok(Self {
            root: root.canonicalize()?,
            is_read_only: false,
            owner: Owner::of(&std::fs::metadata(root)?),
        })
    }

    /// Opens a directory that is there, in which nothing is changed.
    ///
    /// # Errors
    /// Whatever the file system answers.
    pub fn to_read(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: root.canonicalize()?,
            is_read_only: true,
            owner: Owner::of(&std::fs::metadata(root)?),
        })
    }

    /// Makes a file, or opens one that may be new.
    fn made(&self, options: &OpenOptions, path: &str) -> io::Result<File> {
        if self.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let file = options.open(self.path(path))?;
        self.owner.take(&file.metadata()?, |user, group| {
            std::os::unix::fs::fchown(&file, user, group)
        });
        Ok(file)
    }

    fn path(&self, path: &str) -> PathBuf {
        assert!(
            !path.starts_with('/') && !path.split('/').any(|s| s == ".."),
            "paths stay inside the directory: {path}"
        );
        self.root.join(path)
    }
}

struct RealFile {
    file: File,
    direct: Mutex<Direct>,
}

/// The same file past the page cache.
#[derive(Default)]
enum Direct {
    #[default]
    Closed,
    Open(Arc<File>),
    /// Its file system, or the device under it, has no such thing.
    Refused,
}

/// Whether a write past the page cache failed because there is no writing in this way, not because of what it met.
fn is_refused_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

fn refused(error: &io::Error) -> Direct {
    tracing::debug!(%error, "a file is written through the page cache");
    Direct::Refused
}

impl RealFile {
    fn of(file: File) -> Arc<Self> {
        let direct = Mutex::default();
        Arc::new(Self { file, direct })
    }

    fn direct(&self) -> MutexGuard<'_, Direct> {
        self.direct.lock().expect("no panic under this lock")
    }

    /// What to write past the page cache with. Where there is no descriptor for it just now the next write asks again.
    fn past_cache(&self) -> Option<Arc<File>> {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let open = || {
            if is_planted(Plant::RefuseDirect) {
                return Err(io::ErrorKind::Unsupported.into());
            }
            // By its descriptor: its name may be another file's by now.
            let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
            OpenOptions::new().write(true).custom_flags(flags).open(itself)
        };
        let mut direct = self.direct();
        if matches!(*direct, Direct::Closed) {
            match open() {
                Ok(file) => *direct = Direct::Open(Arc::new(file)),
                Err(e) if crate::is_scarce(&e) => {}
                Err(e) => *direct = refused(&e),
            }
        }
        match &*direct {
            Direct::Open(file) => Some(file.clone()),
            Direct::Closed | Direct::Refused => None,
        }
    }
}

struct RealLock(#[allow(dead_code, reason = "held, not read: closing it releases the lock")] File);
impl DiskLock for RealLock {}

fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut o = OpenOptions::new();
    o.read(true).write(true).mode(0o600);
    o
}

fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().mode(0o700).create(dir);
    made.or_else(|e| if dir.is_dir() { Ok(()) } else { Err(e) })
}

/// Makes `root` and what is missing above it, each name durable before the next is made. A start that was cut off left at
/// most one name that is not: that of the lowest directory there is now.
fn make_dirs(
    root: &Path,
    is_there: &dyn Fn(&Path) -> bool,
    make: &dyn Fn(&Path) -> io::Result<()>,
    sync: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let above = |dir: &Path| match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        other => other.map(Path::to_path_buf),
    };
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !is_there(dir);
    let mut missing: Vec<&Path> = root.ancestors().take_while(missing).collect();
    let lowest = root.ancestors().nth(missing.len());
    if let Some(parent) = lowest.and_then(above) {
        match sync(&parent) {
            // Whoever may not look at the names there has made none of them.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    while let Some(dir) = missing.pop() {
        make(dir)?;
        if let Some(parent) = above(dir) {
            sync(&parent)?;
        }
    }
    Ok(())
}

/// What a failed sync answers. Bytes that found no memory on their way to the disk are as lost as any: that is not a want
/// that passes.
fn unsynced(e: io::Error) -> io::Error {
    if crate::is_scarce(&e) {
        io::Error::other(format!("sync: {e}"))
    } else {
        e
    }
}

/// Blocks of a file system less those that are kept for root: as many percent of these are free as `df` tells.
fn usable(all: u64, free: u64, available: u64) -> u64 {
    all.saturating_sub(free.saturating_sub(available))
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.made(options().create_new(true), path)?;
        Ok(RealFile::of(file))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(path);
        Ok(RealFile::of(match self.is_read_only {
            true => File::open(path)?,
            false => options().open(path)?,
        }))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.path(path).try_exists()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.path(dir);
        std::fs::create_dir_all(&path)?;
        self.owner.take(&std::fs::metadata(&path)?, |user, group| {
            std::os::unix::fs::chown(&path, user, group)
        });
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all().map_err(unsynced)
    }

    fn space(&self) -> io::Result<Space> {
        let s = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            total: usable(s.f_blocks, s.f_bfree, s.f_bavail) * s.f_frsize,
            free: s.f_bavail * s.f_frsize,
        })
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn DiskLock>> {
        let file = self.made(options().create(true).truncate(false), path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock(file)))
    }
}

impl DiskFile for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<Cached> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let mut at = 0;
        while at < buf.len() {
            let mut rest = [io::IoSliceMut::new(&mut buf[at..])];
            match preadv2(&self.file, &mut rest, offset + at as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => at += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Cached::Cold),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Cached::Untold),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Cached::Had)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn write_pages_at(&self, pages: &Aligned, offset: u64) -> io::Result<()> {
        assert!(
            offset.is_multiple_of(limits::DIRECT_BYTES as u64),
            "pages go where pages are"
        );
        let Some(file) = self.past_cache() else {
            return self.write_all_at(pages.bytes(), offset);
        };
        match file.write_all_at(pages.bytes(), offset) {
            Err(e) if is_refused_way(&e) => {
                *self.direct() = refused(&e);
                self.write_all_at(pages.bytes(), offset)
            }
            written => written,
        }
    }

    fn end_pages(&self) {
        let mut direct = self.direct();
        if let Direct::Open(_) = *direct {
            *direct = Direct::Closed;
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(unsynced)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), offset, len) {
            // A file system without fallocate grows as it is written.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                static TOLD: std::sync::Once = std::sync::Once::new();
                TOLD.call_once(|| {
                    tracing::warn!(
                        "the file system cannot reserve room (fallocate): there is no ballast, and a full disk is met while writing"
                    );
                });
                let end = offset + len;
                if self.len()? < end {
                    self.file.set_len(end)
                } else {
                    Ok(())
                }
            }
            other => Ok(other?),
        }
    }
}

/// TCP.
pub struct RealNet;

struct RealListener(tokio::net::TcpListener);

#[async_trait::async_trait]
impl Net for RealNet {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        }?;
        // A port of a process that has just ended is free.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Box::new(RealListener(socket.listen(limits::LISTEN_BACKLOG)?)))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Pin<Box<dyn Stream>>> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::pin(stream))
    }
}

#[async_trait::async_trait]
impl Listener for RealListener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), from))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made and synced, in order, for `root` where only `there` is.
    fn steps(root: &str, there: &[&str]) -> Vec<String> {
        let steps = std::cell::RefCell::new(Vec::new());
        let note = |what: &str, dir: &Path| {
            steps.borrow_mut().push(format!("{what} {}", dir.display()));
            Ok(())
        };
        make_dirs(
            Path::new(root),
            &|dir| there.iter().any(|t| Path::new(t) == dir),
            &|dir| note("make", dir),
            &|dir| note("sync", dir),
        )
        .unwrap();
        steps.into_inner()
    }

    #[test]
    fn what_is_kept_for_root_is_no_room() {
        assert_eq!(usable(1000, 700, 700), 1000);
        assert_eq!(usable(1000, 700, 650), 950);
        // Root has written into what is kept for it.
        assert_eq!(usable(1000, 30, 0), 970);
        // Some file systems tell more for users than is free at all.
        assert_eq!(usable(1000, 700, 800), 1000);
    }

    #[test]
    fn each_name_is_durable_before_the_next() {
        let all = ["make a", "sync .", "make a/b", "sync a", "make a/b/c", "sync a/b"];
        assert_eq!(steps("a/b/c", &[]), all);
        let rest = ["sync .", "make a/b", "sync a"];
        assert_eq!(steps("a/b", &["a"]), rest);
        assert_eq!(steps("data", &["data"]), ["sync ."]);
        let below_root = ["sync /", "make /srv/data", "sync /srv"];
        assert_eq!(steps("/srv/data", &["/", "/srv"]), below_root);
        assert_eq!(steps("/", &["/"]), [""; 0]);
    }

    #[test]
    fn a_directory_is_made_with_all_above_it() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            RealDisk::open(&dir.path().join("a/b/c")).unwrap();
        }
    }

    #[test]
    fn what_is_only_read_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RealDisk::to_read(&dir.path().join("none")).is_err());
        std::fs::write(dir.path().join("file"), b"kept").unwrap();
        let disk = RealDisk::to_read(dir.path()).unwrap();
        let file = disk.open("file").unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"kept");
        assert!(file.write_all_at(b"x", 0).is_err(), "not opened to be written");
        for made in [disk.create("new").err(), disk.lock("lock").err()] {
            assert_eq!(made.unwrap().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
    }

    #[test]
    fn what_root_makes_is_the_directorys_owners() {
        let dir = tempfile::tempdir().unwrap();
        let there = std::fs::metadata(dir.path()).unwrap();
        let owner = Owner::of(&there);
        owner.take(&there, |_, _| panic!("it is theirs already"));
        let other = Owner {
            user: owner.user + 1,
            ..owner
        };
        let mut given = None;
        other.take(&there, |user, group| {
            given = Some((user, group));
            Ok(())
        });
        assert_eq!(given, Some((Some(owner.user + 1), Some(owner.group))));
    }

    #[test]
    fn a_file_is_open_twice_only_while_it_is_written_past_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let file = disk.create("file").unwrap();
        let itself = dir.path().join("file");
        let open = || {
            let all = std::fs::read_dir("/proc/self/fd").unwrap();
            let names = all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
            names.filter(|name| *name == itself).count()
        };
        let mut pages = Aligned::default();
        for n in 1..4_u64 {
            pages.hold([&vec![n as u8; limits::DIRECT_BYTES], &[]]);
            file.write_pages_at(&pages, n * limits::DIRECT_BYTES as u64)
                .unwrap();
            assert!(open() <= 2);
            file.end_pages();
            assert_eq!(open(), 1);
        }
        let mut last = [0; 1];
        file.read_exact_at(&mut last, 4 * limits::DIRECT_BYTES as u64 - 1)
            .unwrap();
        assert_eq!(last, [3]);
    }

    #[test]
    fn only_what_a_file_system_has_not_is_done_in_another_way() {
        use rustix::io::Errno;
        for (errno, other_way) in [
            (Errno::INVAL, true),
            (Errno::OPNOTSUPP, true),
            (Errno::NOSYS, true),
            (Errno::IO, false),
            (Errno::NOSPC, false),
            (Errno::NOMEM, false),
        ] {
            assert_eq!(is_refused_way(&errno.into()), other_way, "{errno}");
        }
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let held = disk.lock("lock").unwrap();
        assert_eq!(disk.lock("lock").err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        disk.lock("lock").unwrap();
    }
}
