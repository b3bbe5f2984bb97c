//! Who is asked: `http://HOST[:PORT]` or `https://...`, and connections to it.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::linux::net::TcpStreamExt;
use std::sync::Arc;
use std::time::Duration;

/// A server that says nothing for so long is one that hangs.
const SILENT_MAX: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Why it is none.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is no endpoint: {why}")]
pub struct BadEndpoint {
    text: String,
    why: &'static str,
}

/// A server by its address.
#[derive(Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    silent_max: Duration,
    acknowledges: bool,
}

/// A connection, encrypted or not.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Endpoint {
    /// Reads `text`. Certificates are held against those that this machine trusts.
    pub fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let bad = |why| BadEndpoint {
            text: text.to_owned(),
            why,
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| bad("it begins with neither http:// nor https://"))?;
        let (secure, usual) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(bad("it begins with neither http:// nor https://")),
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        if address.is_empty() || address.contains(['/', '?', '@', '#']) {
            return Err(bad("it is a host and a port, without a path"));
        }
        // A colon inside brackets is of an IPv6 address.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|p| *p > 0);
                (host, port.ok_or_else(|| bad("its port is none"))?)
            }
            _ => (address, usual),
        };
        let tls = secure.then(trusting).transpose().map_err(bad)?;
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
            silent_max: SILENT_MAX,
            acknowledges: false,
        })
    }

    /// The same; a request that is not answered for so long has failed.
    #[must_use]
    pub fn patient(self, silent_max: Duration) -> Self {
        Self { silent_max, ..self }
    }

    /// The same; what comes is acknowledged at once. A server that sends an answer in pieces and waits for that (Nagle's algorithm) is else measured with
    /// the forty milliseconds that Linux may take over it.
    #[must_use]
    pub fn quick(self, acknowledges: bool) -> Self {
        Self { acknowledges, ..self }
    }

    /// To be said before each answer: the system forgets it.
    pub(crate) fn hasten(&self, stream: &Stream) -> io::Result<()> {
        let tcp = match stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        };
        if self.acknowledges {
            tcp.set_quickack(true)
        } else {
            Ok(())
        }
    }

    /// What the `host` header says.
    pub(crate) fn authority(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        if self.port == usual {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        let name = self.host.trim_matches(['[', ']']);
        let tcp = reach((name, self.port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.silent_max))?;
        tcp.set_write_timeout(Some(self.silent_max))?;
        let Some(config) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(tls, tcp))))
    }
}

/// The first of a name's addresses that answers.
fn reach(name: (&str, u16)) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in name.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(tcp) => return Ok(tcp),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn trusting() -> Result<Arc<ClientConfig>, &'static str> {
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err("this machine trusts no certificates: https cannot be verified");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| "no version of TLS is known")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buf),
            Self::Tls(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(buf),
            Self::Tls(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::Tls(s) => s.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_a_port() {
        for (text, authority, port) in [
            ("http://127.0.0.1:9000", "127.0.0.1:9000", 9000),
            ("http://store.example/", "store.example", 80),
            ("http://[::1]:9000", "[::1]:9000", 9000),
            ("http://[::1]", "[::1]", 80),
        ] {
            let e = Endpoint::parse(text).expect(text);
            assert_eq!((e.authority().as_str(), e.port), (authority, port), "{text}");
        }
        for text in [
            "",
            "store:9000",
            "ftp://x",
            "http://",
            "http://x/bucket",
            "http://x:0",
            "http://x:99999",
            "http://u@x",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
