//! Opens the byte stream: names to addresses, addresses to sockets, sockets to TLS.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use super::tcp;
use super::tls::{self, Security};

/// How long one address is tried before the next one is tried beside it (RFC 8305 says 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// TCP.
    Tcp {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// From 1 on.
        port: u16,
    },
    /// A unix socket. Always plaintext.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether its name alone says that it is on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Unix(_) => true,
        }
    }

    /// What goes into `:authority`.
    pub(super) fn authority(&self) -> Authority {
        let text = match self {
            Self::Tcp { .. } => self.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        };
        text.parse().unwrap_or_else(|_| Authority::from_static("localhost"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why no connection came about. Clone; the causes are shared.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: Arc<io::Error>,
    },
    /// No address of it answered.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address that was tried last.
        address: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The server answered the TLS hello with something that is not TLS.
    #[error(
        "{endpoint} does not speak TLS: set insecure, or allow the downgrade, if it is meant to be plaintext"
    )]
    NotTls {
        /// The server.
        endpoint: String,
    },
    /// The TLS handshake failed, a certificate that is not trusted included.
    #[error("TLS handshake with {endpoint} failed")]
    Tls {
        /// The server.
        endpoint: String,
        /// What rustls or the system said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Plaintext was asked for, and the server answered with TLS.
    #[error("{endpoint} speaks TLS: leave insecure out")]
    NotPlaintext {
        /// The server.
        endpoint: String,
    },
    /// The server speaks something else than HTTP/2.
    #[error("{endpoint} does not speak HTTP/2, as gRPC needs it: see that the port is right")]
    NotHttp2 {
        /// The server.
        endpoint: String,
    },
    /// The server closed the connection before it spoke HTTP/2.
    #[error("{endpoint} closed the connection without a word of HTTP/2{hint}")]
    HungUp {
        /// The server.
        endpoint: String,
        /// What may help; empty or from a colon on.
        hint: &'static str,
    },
    /// HTTP/2 could not be started.
    #[error("HTTP/2 handshake failed")]
    Http(#[source] Arc<hyper::Error>),
}

impl Endpoint {
    /// Finds the addresses of its name. Cancel safe; has no deadline of its own.
    ///
    /// # Errors
    /// [`ConnectError::Resolve`] when there is none.
    pub async fn resolve(self) -> Result<Resolved, ConnectError> {
        let addresses = match &self {
            Self::Tcp { host, port } => addresses(host, *port).await?,
            Self::Unix(_) => Vec::new(),
        };
        Ok(Resolved { endpoint: self, addresses })
    }
}

/// An endpoint with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub(super) endpoint: Endpoint,
    addresses: Vec<SocketAddr>,
}

impl Resolved {
    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        self.addresses.iter().all(|address| address.ip().is_loopback())
    }
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |source| ConnectError::Resolve { host: host.to_owned(), source: Arc::new(source) };
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(interleaved(addresses))
}

/// A byte stream of either kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens the byte stream that HTTP/2 runs on.
pub(super) async fn open(target: &Resolved, security: &Security) -> Result<Box<dyn Io>, ConnectError> {
    let Resolved { endpoint, addresses } = target;
    match endpoint {
        Endpoint::Unix(path) => {
            let failed =
                |source| ConnectError::Connect { address: endpoint.to_string(), source: Arc::new(source) };
            Ok(Box::new(tokio::net::UnixStream::connect(path).await.map_err(failed)?))
        }
        Endpoint::Tcp { .. } => {
            let stream = race(addresses).await?;
            tcp::tune(&stream);
            match security {
                Security::Plaintext => Ok(Box::new(stream)),
                Security::Tls(config) => Ok(Box::new(tls::handshake(stream, endpoint, config).await?)),
            }
        }
    }
}

/// IPv6 and IPv4 in turns, so that one broken family does not cost all its addresses' time.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let mut merged = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        match (v6.next(), v4.next()) {
            (None, None) => return merged,
            (first, second) => merged.extend(first.into_iter().chain(second)),
        }
    }
}

/// Connects to the first address that answers; each gets a head start on the next. Losers are closed.
async fn race(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut attempts: FuturesUnordered<_> = addresses
        .iter()
        .zip(0u32..)
        .map(|(address, place)| async move {
            sleep(STAGGER * place).await;
            TcpStream::connect(address).await.map_err(|source| (address, source))
        })
        .collect();
    let mut last = None;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(failure) => last = Some(failure),
        }
    }
    let (address, source) = match last {
        Some((address, source)) => (address.to_string(), source),
        None => (String::new(), io::Error::new(io::ErrorKind::NotFound, "no address to connect to")),
    };
    Err(ConnectError::Connect { address, source: Arc::new(source) })
}
