//! One port for gRPC and gRPC-web, with TLS or without.
//!
//! Floor 4 by its place, but it knows of farlink only how a socket is set up: the robot's side and the signaling server both
//! stand on it. `prelude` brings connections to where HTTP can start, `connection` is what HTTP runs on,
//! [`TlsIdentity`] is who we are.
//!
//! ```text
//!  accept ─▶ prelude (TLS handshake, or a look at the first bytes) ─▶ Connection ─▶ tonic: CORS ▷ gRPC-web ▷ routes
//! ```
//!
//! # Invariant
//! A connection lives no longer than the future of [`Listener::serve`], and no peer can hold up another
//! one's prelude.

mod connection;
mod handle;
mod prelude;
mod tls;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, Method};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

pub use self::connection::ConnectionInfo;
pub use self::handle::{ConnectionGuard, ConnectionHandle};
pub use self::tls::{TlsIdentity, TlsIdentityError};

/// How long calls may go on after shutdown began, unless [`Listener::with_grace`] says otherwise: 5 s.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Connections at once, unless [`Listener::with_max_connections`] says otherwise: 4096.
pub const MAX_CONNECTIONS: usize = 4096;

/// How often a silent HTTP/2 peer is pinged, and how long it has to answer. Peers that are gone without a
/// word are noticed after the sum: 40 s.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Requests at a time per HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;

/// Unread bytes of one request.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Unread bytes of all requests of a connection. Far more than one request's: handlers that do not read must not
/// use up what heartbeats need. It is also what a connection can make us hold.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;

/// Bytes of one request's headers. Tokens and hosts fit many times over.
const MAX_HEADERS: u32 = 64 * 1024;

/// A bound port that does not accept yet.
pub struct Listener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    tls: Option<TlsIdentity>,
    grace: Duration,
    max_connections: usize,
}

impl Listener {
    /// Binds a port; with an identity it speaks TLS only, without one plaintext only.
    ///
    /// A plaintext listener answers a TLS hello with an HTTP error at once, so that a client which tries
    /// TLS first learns that it has to do without.
    ///
    /// # Errors
    /// What the system says: the port is taken, the address is not one of this machine.
    pub async fn bind(addr: impl ToSocketAddrs, tls: Option<TlsIdentity>) -> io::Result<Self> {
        let tcp = TcpListener::bind(addr).await?;
        let local_addr = tcp.local_addr()?;
        Ok(Self { tcp, local_addr, tls, grace: SHUTDOWN_GRACE, max_connections: MAX_CONNECTIONS })
    }

    /// How long calls may go on after shutdown began. [`SHUTDOWN_GRACE`] by default.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How many connections may be open at once; who comes then is closed, so that those that are there keep
    /// theirs. [`MAX_CONNECTIONS`] by default.
    #[must_use]
    pub fn with_max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// Where it is bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `shutdown` is ready: then no more connections, and calls in flight have the grace to
    /// end before they are cut. Dropping the future cuts them at once.
    ///
    /// gRPC over HTTP/2, gRPC-web over HTTP/1.1 and HTTP/2, for pages of every origin. Requests carry a
    /// [`ConnectionInfo`] extension. HTTP/2 clients may ping as often as they like.
    ///
    /// # Errors
    /// [`ServeError`]; a fault of a single connection is none.
    pub async fn serve(self, routes: Routes, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { tcp, tls, grace, max_connections, .. } = self;
        let (cut, stopping) = (CancellationToken::new(), CancellationToken::new());
        let _cut_when_dropped = cut.clone().drop_guard();
        let incoming = prelude::incoming(tcp, tls, cut.clone(), max_connections);
        let server = Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .layer(cors())
            .layer(GrpcWebLayer::new())
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async {
                shutdown.await;
                stopping.cancel();
            });
        let cut_after_grace = async {
            stopping.cancelled().await;
            tokio::time::sleep(grace).await;
            cut.cancel();
            // Connections end as soon as they notice; whichever does not is left behind.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            served = server => served.map_err(ServeError),
            () = cut_after_grace => Ok(()),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local_addr", &self.local_addr)
            .field("tls", &self.is_tls())
            .finish_non_exhaustive()
    }
}

/// The server could not go on.
#[derive(Debug, thiserror::Error)]
#[error("server stopped")]
pub struct ServeError(#[source] tonic::transport::Error);

/// Lets pages of every origin call, with credentials.
///
/// Browsers refuse a `*` for requests with `credentials: include`, which is what Viam's SDK sends; so the
/// origin and the headers asked for are echoed. No cookie is ever read here. Where a token is checked, a
/// foreign page gains nothing, because it has none to put into the header. Where none is checked, as on a
/// robot's listener, any page that is open on a machine which reaches the port can call whatever is served:
/// `ServerBuilder::listen` says so.
fn cors() -> CorsLayer {
    let exposed = ["grpc-status", "grpc-message", "grpc-encoding", "grpc-status-details-bin"];
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_credentials(true)
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_secs(2 * 60 * 60))
}
