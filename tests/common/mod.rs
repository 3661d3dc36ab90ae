//! What the tests share: a signaling server, a robot and callers in one process, and a service that can be
//! asked for anything.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses its own part"
)]

pub mod fake_robot;
mod service;
pub mod slow_relay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farlink::peer::{IceServer, Stack};
use farlink::server::{Server, ServerBuilder};
use farlink::{Channel, DialOptions};
use farlink_signaling::SignalingServer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use self::service::{Probe, is_running, probe, tokened, until_running};

/// The robot's name.
pub const ROBOT: &str = "robot.example";

/// Longer than anything here takes on a machine that is busy, shorter than a test runner's patience.
pub const LONG: Duration = Duration::from_secs(30);

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A signaling server on loopback; stops when dropped.
#[derive(Debug)]
pub struct Signaling {
    pub addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Signaling {
    pub async fn start() -> Self {
        Self::listen(loopback()).await
    }

    pub async fn listen(addr: SocketAddr) -> Self {
        Self::handing_out(addr, Vec::new()).await
    }

    /// The same, with ICE servers for everybody.
    pub async fn handing_out(addr: SocketAddr, servers: Vec<IceServer>) -> Self {
        let server = SignalingServer::builder().ice_servers(servers).bind(addr).await.unwrap();
        let addr = server.local_addr();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { server.serve(stopped).await.unwrap() });
        Self { addr, stop, task }
    }

    /// Ends it as a kill would: every connection is cut.
    pub async fn kill(self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Signaling {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// Signaling, a robot that serves [`Probe`], and the options to dial it with.
#[derive(Debug)]
pub struct Lab {
    pub signaling: Signaling,
    pub robot: Server,
    pub options: DialOptions,
}

impl Lab {
    /// Over this stack. The robot also listens on loopback.
    pub async fn start(stack: Arc<dyn Stack>) -> Self {
        Self::with(stack, |robot| robot).await
    }

    /// The same, with the robot's builder changed.
    pub async fn with(stack: Arc<dyn Stack>, change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::on(Signaling::start().await, stack, change).await
    }

    /// The same, on signaling that runs already.
    pub async fn on(
        signaling: Signaling,
        stack: Arc<dyn Stack>,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        Self::serving(Probe::routes(), signaling, stack, change).await
    }

    /// The same, with a robot that serves something else.
    pub async fn serving(
        routes: Routes,
        signaling: Signaling,
        stack: Arc<dyn Stack>,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let via = signaling.addr.to_string();
        let robot = Server::builder().host(ROBOT).answer_via(&via).listen(loopback()).insecure(true);
        let robot = change(robot.stack(Arc::clone(&stack))).start(routes).await.unwrap();
        assert!(robot.signaling()[0].clone().online().await);
        let options = DialOptions::new().signaling_address(via).insecure(true).stack(stack).timeout(LONG);
        Self { signaling, robot, options }
    }

    pub async fn over_webrtc(&self) -> Channel {
        farlink::dial(ROBOT, self.options.clone()).await.unwrap()
    }

    pub async fn directly(&self) -> Channel {
        let address = self.robot.local_addr().unwrap().to_string();
        farlink::dial(address, self.options.clone().disable_webrtc(true)).await.unwrap()
    }
}
