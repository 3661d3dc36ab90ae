//! Puts a [`Server`] together, and checks it before anything starts.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

use super::listener::TlsIdentity;
use super::running::Server;
use crate::auth::Credentials;
use crate::dial::{ConfigError, DialOptions};
use crate::peer::{IceServer, Stack};
use crate::signaling::answerer::AnswererConfigError;
use crate::transport::direct::Roots;
use crate::transport::webrtc::{Limits, Methods};

/// Connections at once, unless [`ServerBuilder::max_connections`] says otherwise.
const MAX_CONNECTIONS: usize = 64;

/// How long calls in flight may go on after a shutdown began, unless [`ServerBuilder::grace`] says
/// otherwise.
const GRACE: Duration = Duration::from_secs(5);

/// What a robot is called, and where it can be reached.
#[derive(Clone)]
#[must_use]
pub struct ServerBuilder {
    pub(super) hosts: Vec<String>,
    pub(super) signaling: Vec<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) tls: Option<TlsIdentity>,
    pub(super) insecure: bool,
    pub(super) dial: DialOptions,
    pub(super) ice_servers: Option<Vec<IceServer>>,
    pub(super) relay_only: bool,
    pub(super) limits: Limits,
    pub(super) methods: Methods,
    pub(super) max_connections: usize,
    pub(super) grace: Duration,
    pub(super) stack: Option<Arc<dyn Stack>>,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            hosts: Vec::new(),
            signaling: Vec::new(),
            listen: None,
            tls: None,
            insecure: false,
            dial: DialOptions::new(),
            ice_servers: None,
            relay_only: false,
            limits: Limits::for_robots(),
            methods: Methods::new(),
            max_connections: MAX_CONNECTIONS,
            grace: GRACE,
            stack: None,
        }
    }

    /// A name that the robot answers to: a host name, or `host:port`, case counts. Up to five of them; a robot
    /// that answers through a signaling server needs one.
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// A signaling server to answer through, `host:port` or with a scheme. Any number of them.
    pub fn answer_via(mut self, signaling: impl Into<String>) -> Self {
        self.signaling.push(signaling.into());
        self
    }

    /// Listens here for direct callers, and for signaling of its own. Port 0 takes a free one. Needs
    /// [`tls`](Self::tls) or [`insecure`](Self::insecure). By default there is no listener.
    ///
    /// # Security
    /// The listener checks no token: **whoever reaches the port can call every method of the routes**, TLS or
    /// not. That includes any web page open in a browser on the same network, since pages of every origin are
    /// let in. Bind to loopback or to a network you trust, or put a layer that checks credentials around the
    /// routes. Answering for the robot is not possible from there.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = Some(addr);
        self
    }

    /// The listener speaks TLS, and nothing else, as this identity.
    pub fn tls(mut self, identity: TlsIdentity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// The listener (without an identity) and the signaling servers (without `https://`) speak plaintext.
    /// Default false.
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// What the robot proves itself with to signaling servers, and the name it does so under. Default:
    /// nothing.
    pub fn credentials(mut self, entity: impl Into<String>, credentials: Credentials) -> Self {
        self.dial.auth_entity = Some(entity.into());
        self.dial.credentials = Some(credentials);
        self
    }

    /// Whose certificates signaling servers may show. Default: those the platform trusts.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.dial.roots = roots;
        self
    }

    /// STUN and TURN servers beside those that signaling hands out; callers who come through the listener
    /// get them too. Default: Viam's and Twilio's STUN servers for callers who come from afar, none for a
    /// signaling server on this machine.
    pub fn ice_servers(mut self, servers: impl IntoIterator<Item = IceServer>) -> Self {
        self.ice_servers = Some(servers.into_iter().collect());
        self
    }

    /// Uses relays only. Default false.
    pub fn force_relay(mut self, force: bool) -> Self {
        self.relay_only = force;
        self
    }

    /// Bounds of each WebRTC connection. Default: [`Limits::for_robots`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Which methods take one message. Default: what [`Methods::new`] knows. Viam's TypeScript SDK never
    /// half-closes a unary call, so a robot must know for itself when such a request is whole.
    pub fn methods(mut self, methods: Methods) -> Self {
        self.methods = methods;
        self
    }

    /// WebRTC connections at once, those being negotiated included. Default 64. Who calls then is told that
    /// there is no room (RESOURCE_EXHAUSTED), before anything is opened.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// How long calls in flight may go on after a shutdown began, before they end with UNAVAILABLE. Default
    /// 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The WebRTC implementation. Default: the one that farlink was built with.
    pub fn stack(mut self, stack: Arc<dyn Stack>) -> Self {
        self.stack = Some(stack);
        self
    }

    /// Starts serving these routes. Returns once the listener is bound; signaling servers are reached, and
    /// reached again, in the background. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ServerError`]: what was asked cannot be done, or the port is taken.
    pub async fn start(self, routes: Routes) -> Result<Server, ServerError> {
        Server::start(self, routes).await
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("hosts", &self.hosts)
            .field("signaling", &self.signaling)
            .field("listen", &self.listen)
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

/// Why a robot could not start serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// What was asked cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The names.
    #[error(transparent)]
    Hosts(#[from] AnswererConfigError),
    /// The listener's port.
    #[error("cannot listen on {addr}")]
    Listen {
        /// What was asked for.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}
