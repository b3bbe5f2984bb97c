//! The network: byte streams between hosts.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected, two-way byte stream. TCP_NODELAY is set on real ones.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Hosts that listen and connect.
#[async_trait::async_trait]
pub trait Net: Send + Sync {
    /// Listens; port 0 takes a free one.
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;
    /// Connects.
    async fn connect(&self, address: SocketAddr) -> io::Result<Pin<Box<dyn Stream>>>;
}

/// A listening socket.
#[async_trait::async_trait]
pub trait Listener: Send + Sync {
    /// The next connection and who it comes from.
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)>;
    /// Where it listens.
    fn address(&self) -> SocketAddr;
}
