//! The names of servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::peer::engine::gathering::Resolved;

/// Looks a server up, for [`Event::Resolve`](crate::peer::engine::gathering::Event::Resolve). `host` may be an
/// address. Both families; those that this machine has a route to first, in the resolver's order.
///
/// Cancel safe; the system's resolver goes on for its own time on a thread of its own.
///
/// # Errors
/// In words, when there is no such name or the resolver takes longer than `deadline`.
pub(crate) async fn resolve(host: &str, port: u16, deadline: Duration) -> Result<Vec<Resolved>, String> {
    let lookup = tokio::time::timeout(deadline, tokio::net::lookup_host((host, port)));
    let found = match lookup.await {
        Err(_) => return Err(format!("the resolver did not answer within {deadline:?}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(found)) => found,
    };
    let mut all: Vec<Resolved> = Vec::new();
    for address in found {
        if !all.iter().any(|each| each.address == address) {
            all.push(Resolved { address, route: route(address) });
        }
    }
    all.sort_by_key(|each| each.route.is_none());
    Ok(all)
}

/// The address that the system would send from. Nothing is sent.
fn route(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_address_is_its_own_name_and_has_its_route() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let found = resolve("127.0.0.1", 3478, PATIENCE).await.unwrap();
        assert_eq!(found, [Resolved { address: (loopback, 3478).into(), route: Some(loopback) }]);
    }

    #[tokio::test]
    async fn a_name_of_this_machine_has_addresses() {
        let found = resolve("localhost", 9, PATIENCE).await.unwrap();
        assert!(found.iter().all(|each| each.address.ip().is_loopback()) && !found.is_empty());
    }

    #[tokio::test]
    async fn a_name_that_is_none_fails_in_words() {
        assert!(!resolve("no such name", 9, PATIENCE).await.unwrap_err().is_empty());
    }
}
