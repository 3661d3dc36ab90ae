//! A robot that is being served: its parts, its end.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::answering::always_answering;
use super::builder::{ServerBuilder, ServerError};
use super::call_info::with_direct_info;
use super::connections::Connections;
use super::listener::Listener;
use super::local::{LocalSignaling, Names, SELF};
use super::on_channels::OnChannels;
use crate::address::Address;
use crate::dial::{ConfigError, SignalingServer};
use crate::peer::{self, IceServer, Stack};
use crate::signaling::SignalingClient;
use crate::signaling::answerer::{Answered, Answerer, AnswererConfig, AnswererState, Connect};
use crate::transport::webrtc::RobotService;

/// Callers whose channel is open and who are not taken over yet.
const ACCEPT_QUEUE: usize = 16;

/// How long direct callers have to read the status that ends their calls, before their connection is cut.
const FLUSH: Duration = Duration::from_secs(1);

/// A robot that is reachable. Dropping it closes everything at once; [`shutdown`](Self::shutdown) is the
/// gentle way.
pub struct Server {
    local_addr: Option<SocketAddr>,
    signaling: Vec<SignalingStatus>,
    answerers: Vec<Answerer>,
    local: Option<Arc<LocalSignaling>>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    open: watch::Receiver<usize>,
    /// Room for data channels, whichever signaling they come through.
    room: Arc<Semaphore>,
}

/// How a robot stands with one signaling server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SignalingStatus {
    /// The server, as it was named to the builder.
    pub server: String,
    /// Whether the robot is reachable through it, now and later.
    pub state: watch::Receiver<AnswererState>,
}

impl SignalingStatus {
    /// Waits until the robot is reachable through this server. False when it was stopped before. Cancel
    /// safe.
    pub async fn online(&mut self) -> bool {
        let settled = |state: &AnswererState| matches!(state, AnswererState::Online | AnswererState::Stopped);
        let state = self.state.wait_for(settled).await;
        state.is_ok_and(|state| *state == AnswererState::Online)
    }
}

impl Server {
    /// Begins a robot.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Where the listener is bound, with the real port.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// The signaling servers, in the order in which they were named.
    pub fn signaling(&self) -> &[SignalingStatus] {
        &self.signaling
    }

    /// How many data channels are open, now and later.
    pub fn connections(&self) -> watch::Receiver<usize> {
        self.open.clone()
    }

    /// Goes away gently: answers nobody new, gives calls in flight the builder's grace to end, ends the rest
    /// with UNAVAILABLE, and waits for all of it. Dropping the future closes everything at once.
    pub async fn shutdown(mut self) {
        // First the calls, then the answerers, which may take a second each to say good-bye.
        self.stop.cancel();
        join_all(std::mem::take(&mut self.answerers).into_iter().map(Answerer::stop)).await;
        if let Some(local) = &self.local {
            local.close();
        }
        for task in &mut self.tasks {
            let _ = task.await;
        }
    }

    pub(super) async fn start(builder: ServerBuilder, routes: Routes) -> Result<Self, ServerError> {
        let plan = Plan::new(&builder)?;
        let listener = match builder.listen {
            None => None,
            Some(addr) => {
                let bound = Listener::bind(addr, builder.tls.clone()).await;
                let bound = bound.map_err(|source| ServerError::Listen { addr, source })?;
                Some(bound.with_grace(builder.grace + FLUSH))
            }
        };
        let stop = CancellationToken::new();
        let ending = Ending { stop: stop.clone(), grace: builder.grace, over: CancellationToken::new() };
        let over = ending.over.clone();
        let mut server = Self {
            local_addr: listener.as_ref().map(Listener::local_addr),
            signaling: Vec::new(),
            answerers: Vec::new(),
            local: None,
            stop: stop.clone(),
            tasks: Vec::new(),
            open: watch::channel(0).1,
            room: Arc::new(Semaphore::new(builder.max_connections.min(Semaphore::MAX_PERMITS))),
        };
        let routes = routes.prepare();
        let Some(stack) = plan.stack else {
            // Without WebRTC there is the listener, and nothing else.
            let routes = direct(routes, over);
            server.tasks.extend(listener.map(|listener| serve(listener, routes, ending)));
            return Ok(server);
        };

        let (open, watch_open) = watch::channel(0);
        server.open = watch_open;
        let (accepted, to_serve) = mpsc::channel(ACCEPT_QUEUE);
        let connections = Connections {
            service: RobotService::new(OnChannels::new(routes.clone())),
            limits: builder.limits,
            methods: builder.methods.clone(),
            grace: builder.grace,
            stop: stop.clone(),
            open,
        };
        server.tasks.push(tokio::spawn(connections.run(to_serve)));
        for (address, signaling) in plan.signaling {
            server.answer_via(&builder, &stack, address, signaling, &accepted)?;
        }
        if let Some(listener) = listener {
            let routes = direct(routes, over);
            let routes = server.answer_locally(&builder, &stack, &listener, routes, accepted)?;
            server.tasks.push(serve(listener, routes, ending));
        }
        Ok(server)
    }

    /// Answers through one signaling server.
    fn answer_via(
        &mut self,
        builder: &ServerBuilder,
        stack: &Arc<dyn Stack>,
        address: String,
        signaling: SignalingServer,
        accepted: &mpsc::Sender<Answered>,
    ) -> Result<(), ServerError> {
        let ice_servers = builder.ice_servers.clone().unwrap_or_else(|| signaling.default_ice_servers());
        let mut config = answerer_config(builder, &builder.hosts, stack, ice_servers, &address)?;
        config.permits = Some(Arc::clone(&self.room));
        let connect: Connect = Arc::new(move || {
            let signaling = signaling.clone();
            Box::pin(async move { signaling.connect().await.map_err(Into::into) })
        });
        let answerer = Answerer::spawn(connect, config, accepted.clone());
        self.signaling.push(SignalingStatus { server: address, state: answerer.state() });
        self.answerers.push(answerer);
        Ok(())
    }

    /// Answers through the listener's own signaling; returns the routes with signaling beside them.
    fn answer_locally(
        &mut self,
        builder: &ServerBuilder,
        stack: &Arc<dyn Stack>,
        listener: &Listener,
        routes: Routes,
        accepted: mpsc::Sender<Answered>,
    ) -> Result<Routes, ServerError> {
        let names = Names::new(&builder.hosts, listener.local_addr());
        let ice_servers = builder.ice_servers.clone().unwrap_or_default();
        let local = Arc::new(LocalSignaling::new(names, ice_servers.clone()));
        let routes = local.beside(routes);
        let mut config = answerer_config(builder, &[SELF.to_owned()], stack, ice_servers, "local")?;
        config.permits = Some(Arc::clone(&self.room));
        let client = local.client();
        let connect: Connect = Arc::new(move || {
            let client: SignalingClient = client.clone();
            Box::pin(async move { Ok::<_, Box<dyn Error + Send + Sync>>(client) })
        });
        self.answerers.push(Answerer::spawn(connect, config, accepted));
        self.local = Some(local);
        Ok(routes)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.local_addr)
            .field("signaling", &self.signaling)
            .field("connections", &*self.open.borrow())
            .finish_non_exhaustive()
    }
}

/// What a builder asks for, checked.
struct Plan {
    stack: Option<Arc<dyn Stack>>,
    signaling: Vec<(String, SignalingServer)>,
}

impl Plan {
    fn new(builder: &ServerBuilder) -> Result<Self, ServerError> {
        let conflict = |text| Err(ServerError::Config(ConfigError::Conflict(text)));
        if builder.listen.is_none() && builder.signaling.is_empty() {
            return conflict("nobody could reach this robot: name a signaling server, or listen");
        }
        for host in &builder.hosts {
            check_name(host)?;
        }
        let limits = &builder.limits;
        if limits.max_streams == 0 || limits.max_message == 0 || builder.max_connections == 0 {
            return conflict("limits of zero let nobody in: expected at least 1");
        }
        if builder.listen.is_some() && builder.tls.is_none() && !builder.insecure {
            return conflict("the listener needs a TLS identity; set insecure if plaintext is what you want");
        }
        let options = builder.dial.clone().insecure(builder.insecure);
        let own_name = builder.hosts.first().map_or("", String::as_str);
        let signaling = builder.signaling.iter().map(|address| {
            let server = SignalingServer::new(address, &options, own_name)?;
            Ok((address.clone(), server))
        });
        let signaling = signaling.collect::<Result<Vec<_>, ConfigError>>()?;
        let stack = builder.stack.clone().or_else(peer::default_stack);
        if stack.is_none() && !signaling.is_empty() {
            return Err(ConfigError::NoStack.into());
        }
        if let Some(stack) = stack.as_ref().filter(|_| !builder.hosts.is_empty() || !signaling.is_empty()) {
            AnswererConfig::new(builder.hosts.iter().cloned(), Arc::clone(stack))?;
        }
        Ok(Self { stack, signaling })
    }
}

/// A robot's name must be one that can be dialed: callers' addresses are checked the same way.
fn check_name(name: &str) -> Result<(), ConfigError> {
    let address: Address = name.parse()?;
    let plain = address.as_host().is_some_and(|host| host.secure.is_none());
    if plain {
        Ok(())
    } else {
        Err(ConfigError::Conflict("a robot's name has no scheme: expected a host name, or host:port"))
    }
}

fn answerer_config(
    builder: &ServerBuilder,
    hosts: &[String],
    stack: &Arc<dyn Stack>,
    ice_servers: Vec<IceServer>,
    label: &str,
) -> Result<AnswererConfig, ServerError> {
    let mut config = AnswererConfig::new(hosts.iter().cloned(), Arc::clone(stack))?;
    config.ice_servers = ice_servers;
    config.relay_only = builder.relay_only;
    config.label = label.to_owned();
    Ok(config)
}

/// The routes as direct callers get them.
fn direct(routes: Routes, over: CancellationToken) -> Routes {
    with_direct_info(always_answering(routes, over))
}

/// How the listener's calls end.
struct Ending {
    stop: CancellationToken,
    grace: Duration,
    /// Cancelled when the grace is over.
    over: CancellationToken,
}

fn serve(listener: Listener, routes: Routes, ending: Ending) -> JoinHandle<()> {
    tokio::spawn(async move {
        let Ending { stop, grace, over } = ending;
        let end_calls = async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
            over.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = listener.serve(routes, stop.clone().cancelled_owned()) => {
                if let Err(error) = served {
                    tracing::info!(%error, "the listener stopped");
                }
            }
            () = end_calls => {}
        }
    })
}
