//! The connections below: each has a cut, a way to make the next one, and the same faults above it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use farlink::peer::Stack;
use farlink::peer::memory::MemoryStack;
use farlink::redial::Dialer;
use farlink::server::{CallInfo, ConnectionHandle, Server};
use farlink::transport::{
    CloseReason, LinkState, LinkWatch, Stats, Transport, TransportError, TransportKind,
};
use farlink::{Channel, DialError, DialOptions};
use futures_core::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Service, ServiceExt as _};

use super::Over;
use crate::common::{LONG, ROBOT, Signaling, loopback};

/// What happens to a call, by its path: how long it takes there, and its answer back. `None`: it never arrives.
type Fate = Box<dyn FnMut(&str) -> Option<(Duration, Duration)> + Send>;

/// The faults of a caller's line, over all of its connections.
#[derive(Clone)]
pub struct Faults(Arc<Mutex<Fate>>);

impl Faults {
    fn none() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|_| Some((Duration::ZERO, Duration::ZERO))))))
    }

    /// From now on calls fare like this.
    pub fn set(&self, fate: impl FnMut(&str) -> Option<(Duration, Duration)> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(fate);
    }

    pub fn heal(&self) {
        self.set(|_| Some((Duration::ZERO, Duration::ZERO)));
    }

    pub fn lose_all(&self) {
        self.set(|_| None);
    }
}

/// What a test does to a caller's way to the robot.
#[derive(Clone)]
pub struct Line {
    pub faults: Faults,
    cut: Arc<Mutex<Option<Cut>>>,
    /// Whether the next connection may be made.
    open: watch::Sender<bool>,
}

type Cut = Box<dyn FnOnce() + Send>;

impl Line {
    /// The connection is lost, and no other can be made for now.
    pub fn cut(&self) {
        self.open.send_replace(false);
        let cut = self.cut.lock().unwrap().take();
        cut.expect("there is no connection")();
    }

    /// Connections can be made.
    pub fn reconnect(&self) {
        self.open.send_replace(true);
    }
}

pub(super) struct Connected {
    pub(super) first: Channel,
    pub(super) line: Line,
    pub(super) dialer: Again,
}

/// One connection, and how to cut it.
type Connection = (Channel, Cut);

/// Where connections come from.
pub(super) enum Net {
    Memory(Routes),
    /// All that there will be were made before time was paused.
    WebRtc {
        made: Mutex<Vec<(&'static str, Connection)>>,
        _robot: (Signaling, Server),
    },
    Direct {
        robot: Server,
    },
}

impl Net {
    pub(super) async fn new(over: Over, routes: Routes, names: &[&'static str]) -> Self {
        match over {
            Over::Memory => Self::Memory(routes),
            Over::WebRtc => webrtc(routes, names).await,
            Over::Direct => {
                let robot = Server::builder().host(ROBOT).listen(loopback()).insecure(true);
                Self::Direct { robot: robot.start(routes).await.unwrap() }
            }
        }
    }

    pub(super) async fn connect(&self, name: &'static str) -> Connected {
        let source = match self {
            Self::Memory(routes) => Source::Memory(routes.clone()),
            Self::WebRtc { made, .. } => {
                let mut made = made.lock().unwrap();
                let (mine, others): (Vec<_>, _) = made.drain(..).partition(|(whose, _)| *whose == name);
                *made = others;
                Source::WebRtc(mine.into_iter().map(|(_, connection)| connection).collect())
            }
            Self::Direct { robot } => Source::Direct(robot.local_addr().unwrap()),
        };
        let line = Line { faults: Faults::none(), cut: Arc::default(), open: watch::Sender::new(true) };
        let dialer = Again { name, line: line.clone(), source: Arc::new(Mutex::new(source)) };
        Connected { first: dialer.dial().await.unwrap(), line, dialer }
    }
}

async fn webrtc(routes: Routes, names: &[&'static str]) -> Net {
    let signaling = Signaling::start().await;
    let stack = MemoryStack::new();
    let shared: Arc<dyn Stack> = Arc::new(stack.clone());
    let via = signaling.addr.to_string();
    let robot = Server::builder().host(ROBOT).answer_via(&via).insecure(true).stack(Arc::clone(&shared));
    let robot = robot.start(routes).await.unwrap();
    assert!(robot.signaling()[0].clone().online().await);
    let options = DialOptions::new().signaling_address(via).insecure(true).stack(shared).timeout(LONG);
    let mut made = Vec::new();
    for name in names {
        let channel = farlink::dial(ROBOT, options.clone()).await.unwrap();
        assert_eq!(channel.transport(), TransportKind::WebRtc);
        let link = stack.links().pop().unwrap();
        let cut: Cut = Box::new(move || link.cut());
        made.push((*name, (channel, cut)));
    }
    Net::WebRtc { made: Mutex::new(made), _robot: (signaling, robot) }
}

enum Source {
    Memory(Routes),
    WebRtc(VecDeque<Connection>),
    Direct(SocketAddr),
}

/// Makes another connection as soon as that is possible.
#[derive(Clone)]
pub(super) struct Again {
    name: &'static str,
    line: Line,
    source: Arc<Mutex<Source>>,
}

impl Dialer for Again {
    fn dial(&self) -> BoxFuture<'static, Result<Channel, DialError>> {
        let Self { name, line, source } = self.clone();
        Box::pin(async move {
            let _ = line.open.subscribe().wait_for(|open| *open).await;
            let made = match &mut *source.lock().unwrap() {
                Source::Memory(routes) => Ok(Local::connect(routes.clone())),
                Source::WebRtc(made) => Ok(made.pop_front().expect("no connection is left")),
                Source::Direct(robot) => Err(*robot),
            };
            let (inner, cut) = match made {
                Ok(connection) => connection,
                Err(robot) => direct(robot).await?,
            };
            *line.cut.lock().unwrap() = Some(cut);
            Ok(Channel::from_transport(Faulty { inner, faults: line.faults, name }))
        })
    }
}

/// Over a relay that can be cut.
async fn direct(robot: SocketAddr) -> Result<Connection, DialError> {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let relay = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(token.clone().run_until_cancelled_owned(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut there = TcpStream::connect(robot).await.unwrap();
            let _ = (caller.set_nodelay(true), there.set_nodelay(true));
            tokio::spawn(token.clone().run_until_cancelled_owned(async move {
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut there).await;
            }));
        }
    }));
    let options = DialOptions::new().insecure(true).disable_webrtc(true).timeout(LONG);
    let channel = farlink::dial(relay.to_string(), options).await?;
    assert_eq!(channel.transport(), TransportKind::Direct);
    Ok((channel, Box::new(move || stop.cancel())))
}

/// A connection, and what happens to calls on their way to it. Says who calls.
#[derive(Clone, Debug)]
struct Faulty {
    inner: Channel,
    faults: Faults,
    name: &'static str,
}

impl Service<Request<Body>> for Faulty {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert("i-am", HeaderValue::from_static(self.name));
        let fate = (self.faults.0.lock().unwrap())(request.uri().path());
        let inner = self.inner.clone();
        let mut link = inner.watch();
        let call = async move {
            let Some((there, back)) = fate else { return std::future::pending().await };
            sleep(there).await;
            let response = inner.oneshot(request).await?;
            sleep(back).await;
            Ok(response)
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                response = call => response,
                reason = link.closed() => Err(reason.status().into()),
            }
        })
    }
}

impl Transport for Faulty {
    fn kind(&self) -> TransportKind {
        self.inner.transport()
    }

    fn stats(&self) -> impl Future<Output = Stats> + Send {
        self.inner.stats()
    }

    fn watch(&self) -> LinkWatch {
        farlink::transport::Transport::watch(&self.inner)
    }

    fn close(&self) {
        self.inner.close();
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faults")
    }
}

/// A connection to services in this process.
#[derive(Clone)]
struct Local {
    routes: Routes,
    info: CallInfo,
    link: watch::Sender<LinkState>,
}

impl Local {
    fn connect(routes: Routes) -> Connection {
        let connection = ConnectionHandle::new();
        let guard = connection.guard();
        let mut info = CallInfo::new(connection, TransportKind::WebRtc);
        info.remote = Some("10.0.0.1:5000".to_owned());
        let link = watch::Sender::new(LinkState::default());
        let local = Self { routes, info, link: link.clone() };
        let cut = move || {
            drop(guard);
            let lost = CloseReason::Lost("a test cut it".to_owned());
            link.send_modify(|state| state.closed = Some(lost));
        };
        (Channel::from_transport(local), Box::new(cut))
    }
}

impl Service<Request<Body>> for Local {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.info.clone());
        let (routes, mut link) = (self.routes.clone(), LinkWatch::new(self.link.subscribe()));
        Box::pin(async move {
            tokio::select! {
                biased;
                reason = link.closed() => Err(reason.status().into()),
                Ok(response) = routes.oneshot(request) => Ok(response.map(Body::new)),
            }
        })
    }
}

impl Transport for Local {
    fn kind(&self) -> TransportKind {
        TransportKind::WebRtc
    }

    async fn stats(&self) -> Stats {
        Stats::new(TransportKind::WebRtc)
    }

    fn watch(&self) -> LinkWatch {
        LinkWatch::new(self.link.subscribe())
    }

    fn close(&self) {
        self.link.send_modify(|state| {
            state.closed.get_or_insert(CloseReason::Local);
        });
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Local")
    }
}
