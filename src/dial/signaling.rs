//! A signaling server as a robot reaches it: the same stages as a dial's, with the robot's identity.

use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Attempt, Share};
use super::connect::reach;
use super::error::ConfigError;
use super::options::DialOptions;
use super::plan::{self, Identity, Server};
use super::report::Stage;
use crate::peer::IceServer;
use crate::signaling::{self, SignalingClient};
use crate::transport::TransportKind;

/// How long one try to reach the server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A signaling server that can be reached again and again.
#[derive(Debug, Clone)]
pub(crate) struct SignalingServer {
    server: Server,
    identity: Option<Identity>,
}

impl SignalingServer {
    /// Checks address and options.
    pub(crate) fn new(address: &str, options: &DialOptions, own_name: &str) -> Result<Self, ConfigError> {
        let (server, identity) = plan::named_server(address, options, own_name)?;
        Ok(Self { server, identity })
    }

    /// Connects and authenticates, within 10 s. The error says in which stage it failed and why.
    pub(crate) async fn connect(self) -> Result<SignalingClient, String> {
        let server = self.server.endpoint.to_string();
        let mut attempt = Attempt::new(TransportKind::Direct, server, Instant::now() + TIMEOUT);
        let work = reach(&mut attempt, Stage::Signaling, Share::All, &self.server, self.identity.as_ref());
        match work.await {
            Ok(reached) => Ok(signaling::client(reached.transport)),
            Err(cause) => Err(attempt.fail(cause).without_transport()),
        }
    }

    /// The ICE servers to use when the robot names none: the default ones, or none beside a signaling
    /// server on this machine.
    pub(crate) fn default_ice_servers(&self) -> Vec<IceServer> {
        if self.server.endpoint.is_local() { Vec::new() } else { plan::default_ice_servers() }
    }
}
