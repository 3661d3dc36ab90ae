//! The listener's own signaling: the robot is the only one who answers here.
//!
//! Callers who have one address use it word for word as `rpc-host`, port included. So whoever names this
//! robot in any of its spellings means it; all spellings become one name in the queue.
//!
//! # Invariant
//! Only the robot itself answers here. Who reaches the port may call and nothing else: an answerer gets the
//! robot's callers.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::address::Address;
use crate::peer::{IceServer, Role};
use crate::signaling::queue::MemoryQueue;
use crate::signaling::service::{Access, SignalingService};
use crate::signaling::{self, RPC_HOST, SignalingClient};

/// The name that all spellings become. Whoever names it from outside is refused, unless the robot is called so.
pub(super) const SELF: &str = "self";

/// Which names mean this robot.
#[derive(Debug, Clone)]
pub(super) struct Names {
    hosts: HashSet<String>,
    listener: SocketAddr,
}

impl Names {
    pub(super) fn new(hosts: &[String], listener: SocketAddr) -> Self {
        Self { hosts: hosts.iter().cloned().collect(), listener }
    }

    /// A name of the robot, alone or with the listener's port; or an address of this machine with the port.
    pub(super) fn means_us(&self, name: &str) -> bool {
        if self.hosts.contains(name) {
            return true;
        }
        let Ok(address) = name.parse::<Address>() else { return false };
        let Some(host) = address.as_host() else { return false };
        if host.port != Some(self.listener.port()) {
            return false;
        }
        let is_address = || match (host.host.parse::<IpAddr>(), self.listener.ip()) {
            // Bound to every address, it cannot tell its own ones: the caller has found us under this one.
            (Ok(_), bound) if bound.is_unspecified() => true,
            (Ok(address), bound) => address == bound,
            (Err(_), bound) => host.host == "localhost" && (bound.is_loopback() || bound.is_unspecified()),
        };
        self.hosts.contains(&host.host) || is_address()
    }
}

/// Signaling that knows one robot.
#[derive(Debug)]
pub(super) struct LocalSignaling {
    /// Open to answerers: never to be served on a socket.
    service: SignalingService,
    names: Arc<Names>,
}

impl LocalSignaling {
    pub(super) fn new(names: Names, ice_servers: Vec<IceServer>) -> Self {
        let service = SignalingService::new(Arc::new(MemoryQueue::default()))
            .with_hosts([SELF])
            .with_ice_servers(ice_servers);
        Self { service, names: Arc::new(names) }
    }

    /// The routes with signaling beside them.
    pub(super) fn beside(&self, routes: Routes) -> Routes {
        let names = Arc::clone(&self.names);
        let to_self = move |mut request: Request<()>| -> Result<Request<()>, Status> {
            let mut hosts = request.metadata().get_all(RPC_HOST).iter();
            let named = hosts.next().and_then(|host| host.to_str().ok());
            let ours = named.is_some_and(|host| names.means_us(host)) && hosts.next().is_none();
            if ours {
                request.metadata_mut().insert(RPC_HOST, MetadataValue::from_static(SELF));
            } else if request.metadata().get_all(RPC_HOST).iter().any(|host| host == SELF) {
                return Err(Status::invalid_argument("host not preconfigured"));
            }
            Ok(request)
        };
        let service = self.service.clone().with_authorize(Arc::new(callers_only));
        routes.add_service(InterceptedService::new(service.into_server(), to_self))
    }

    /// The robot's own way in: no socket, no interceptor.
    pub(super) fn client(&self) -> SignalingClient {
        signaling::client(self.service.clone().into_server())
    }

    /// Ends its streams, which do not end by themselves.
    pub(super) fn close(&self) {
        self.service.close();
    }
}

fn callers_only(access: &Access<'_>) -> Result<(), Status> {
    match access.role {
        Role::Answerer => Err(Status::permission_denied("only the robot itself answers here")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(listener: &str) -> Names {
        Names::new(&["robot.example".to_owned()], listener.parse().unwrap())
    }

    #[test]
    fn a_robot_answers_to_its_names_and_to_its_own_address() {
        let names = names("127.0.0.1:8080");
        for name in ["robot.example", "robot.example:8080", "127.0.0.1:8080", "localhost:8080"] {
            assert!(names.means_us(name), "{name}");
        }
        for name in ["", "other", "other:8080", "robot.example:1", "127.0.0.1", "10.0.0.1:8080", "self"] {
            assert!(!names.means_us(name), "{name}");
        }
    }

    #[test]
    fn bound_to_every_address_it_answers_to_any_of_them() {
        let names = names("0.0.0.0:8080");
        assert!(names.means_us("10.0.0.1:8080") && names.means_us("[::1]:8080"));
        assert!(!names.means_us("10.0.0.1:8081"));
    }
}
