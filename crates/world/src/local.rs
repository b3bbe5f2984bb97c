//! A unix socket in a directory: how processes of one machine speak to the one that has the directory open.
//!
//! Whoever may write the directory may connect, nobody else (mode 0600). Binding and connecting go through a descriptor of the directory, so a
//! long path is no trouble for an address of 108 bytes.
//!
//! ```text
//!   socket ── bind ──▶ a name, refused ── mode 0600 ── listen ──▶ served ── drop ──▶ no name
//!                                                        └── killed ──▶ a stale name, refused: the next one to bind removes it
//! ```
#![allow(clippy::disallowed_methods, reason = "this is where the raw calls live")]

use crate::Stream;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener as Bound;
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that is listened on. Its name goes when it is dropped.
pub struct LocalListener {
    listener: tokio::net::UnixListener,
    dir: OwnedFd,
    name: String,
}

/// The directory, and the socket's path through it.
fn through(dir: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let dir = rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
    Ok((dir, path))
}

impl LocalListener {
    /// Listens on `name` in `dir`, inside a runtime. The caller holds the directory's lock: what has the name already is stale.
    ///
    /// # Errors
    /// What the system answers.
    pub fn bind(dir: &Path, name: &str) -> io::Result<Self> {
        let (dir, path) = through(dir, name)?;
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(e) if e != rustix::io::Errno::NOENT => return Err(e.into()),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        // Nobody can have connected: it does not listen yet.
        rustix::fs::chmodat(&dir, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(Self {
            listener: tokio::net::UnixListener::from_std(Bound::from(socket))?,
            dir,
            name: name.to_owned(),
        })
    }

    /// The next connection, and the number of the process that made it, where the system tells.
    ///
    /// # Errors
    /// What the system answers.
    pub async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<i32>)> {
        let (stream, _from) = self.listener.accept().await?;
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Ok((Box::new(stream), process))
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::unlinkat(&self.dir, &*self.name, AtFlags::empty()) {
            tracing::debug!(%error, name = self.name, "the socket's name stays");
        }
    }
}

/// Connects to whoever listens on `name` in `dir`; `None` where nobody does.
///
/// # Errors
/// What else the system answers: there is no such directory, it may not be used.
pub async fn connect_local(dir: &Path, name: &str) -> io::Result<Option<Box<dyn Stream>>> {
    let (_dir, path) = through(dir, name)?;
    match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(Box::new(stream))),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_long_path_a_stale_name_and_one_owner() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("d".repeat(200)).join("e".repeat(200));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(connect_local(&dir, "s.sock").await.unwrap().is_none());
        // What a killed process leaves: a name that nobody listens on.
        let (held, path) = through(&dir, "s.sock").unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(held);
        assert!(connect_local(&dir, "s.sock").await.unwrap().is_none());
        let listener = LocalListener::bind(&dir, "s.sock").unwrap();
        let mode = std::fs::metadata(dir.join("s.sock"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = connect_local(&dir, "s.sock").await.unwrap().unwrap();
        let (mut served, process) = listener.accept().await.unwrap();
        assert_eq!(process, Some(std::process::id() as i32));
        client.write_all(b"hello").await.unwrap();
        drop(client);
        let mut heard = String::new();
        served.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
        drop(listener);
        assert!(!dir.join("s.sock").exists());
    }
}
