//! A signaling server in one piece: queue, service and listener.
//!
//! Invariant: whoever holds it, holds all of it. Dropping the future of [`SignalingServer::serve`] ends
//! every stream and frees the port.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farlink::server::listener::Listener;
use tokio::net::ToSocketAddrs;
use tonic::service::Routes;

use crate::{Authorize, CallQueue, IceServer, MemoryQueue, ServeError, SignalingService, TlsIdentity};

/// A bound signaling server that does not serve yet.
#[derive(Debug)]
pub struct SignalingServer {
    listener: Listener,
    service: SignalingService,
}

impl SignalingServer {
    /// A server for any host and any caller, with a queue in memory, without TLS.
    pub fn builder() -> SignalingServerBuilder {
        SignalingServerBuilder::default()
    }

    /// Where it is bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves gRPC and gRPC-web until `shutdown` is ready; then ends all streams with UNAVAILABLE and
    /// returns when the connections are closed, some seconds later at most. Dropping the future cuts
    /// everything at once.
    ///
    /// # Errors
    /// [`ServeError`] when it cannot go on.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { listener, service } = self;
        let routes = Routes::new(service.clone().into_server());
        let shutdown = async {
            shutdown.await;
            service.close();
        };
        listener.serve(routes, shutdown).await
    }
}

/// Puts a [`SignalingServer`] together.
#[derive(Default)]
#[must_use]
pub struct SignalingServerBuilder {
    queue: Option<Arc<dyn CallQueue>>,
    hosts: Vec<String>,
    ice_servers: Vec<IceServer>,
    heartbeat_interval: Option<Duration>,
    authorize: Option<Authorize>,
    tls: Option<TlsIdentity>,
}

impl SignalingServerBuilder {
    /// Keeps the calls here. By default in a [`MemoryQueue`] of its own.
    pub fn queue(mut self, queue: Arc<dyn CallQueue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Takes these hosts only, compared byte by byte, port included. None means any, the default.
    pub fn hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.hosts.extend(hosts.into_iter().map(Into::into));
        self
    }

    /// Hands out these ICE servers, credentials included, to everybody whom
    /// [`authorize`](Self::authorize) lets in. None by default.
    pub fn ice_servers(mut self, servers: impl IntoIterator<Item = IceServer>) -> Self {
        self.ice_servers.extend(servers);
        self
    }

    /// How often answerers are sent a heartbeat, 15 s by default; zero means never.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// Asks before each request, and refuses with the status that comes back.
    ///
    /// Without it, the default, everybody who can connect may call every host, answer as any host (and so
    /// take the calls meant for it), and is handed the ICE servers with their credentials. That suits a
    /// port that only friends can reach; anything else wants this, and TLS below it.
    pub fn authorize(mut self, authorize: Authorize) -> Self {
        self.authorize = Some(authorize);
        self
    }

    /// Speaks TLS, and nothing else, on its port.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// Binds the port.
    ///
    /// # Errors
    /// What the system says: the port is taken, the address is not one of this machine.
    pub async fn bind(self, addr: impl ToSocketAddrs) -> io::Result<SignalingServer> {
        let queue = self.queue.unwrap_or_else(|| Arc::new(MemoryQueue::default()));
        let mut service =
            SignalingService::new(queue).with_hosts(self.hosts).with_ice_servers(self.ice_servers);
        if let Some(interval) = self.heartbeat_interval {
            service = service.with_heartbeat_interval(interval);
        }
        if let Some(authorize) = self.authorize {
            service = service.with_authorize(authorize);
        }
        Ok(SignalingServer { listener: Listener::bind(addr, self.tls).await?, service })
    }
}

impl fmt::Debug for SignalingServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalingServerBuilder")
            .field("hosts", &self.hosts)
            .field("ice_servers", &self.ice_servers)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
