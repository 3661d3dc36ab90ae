//! The addresses of this machine that a peer may be reached at.
//!
//! # Invariant
//! Each address once, at most [`Filter::most`] of them, so that neither sockets nor pairs to check grow with
//! what a machine of containers has. None needs a zone to be used.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tracing::debug;

/// Which addresses are used. By default all, IPv4 loopback included: a caller on the same machine needs no
/// other way.
#[derive(Clone)]
pub(crate) struct Filter {
    /// Whether addresses of the loopback interface are used. IPv6 loopback only where there is no other.
    pub(crate) loopback: bool,
    /// Whether IPv4 is used.
    pub(crate) ipv4: bool,
    /// Whether IPv6 is used.
    pub(crate) ipv6: bool,
    /// Whether an address of the interface of this name is used.
    pub(crate) keep: Option<Keep>,
    /// The most addresses that are used: each costs a socket for each peer. Default 16.
    pub(crate) most: usize,
}

/// Says yes or no to an address of the interface of this name.
pub(crate) type Keep = Arc<dyn Fn(&str, IpAddr) -> bool + Send + Sync>;

impl Default for Filter {
    fn default() -> Self {
        Self { loopback: true, ipv4: true, ipv6: true, keep: None, most: 16 }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loopback, ipv4, ipv6, keep, most } = self;
        f.debug_struct("Filter")
            .field("loopback", loopback)
            .field("ipv4", ipv4)
            .field("ipv6", ipv6)
            .field("keep", &keep.is_some())
            .field("most", most)
            .finish()
    }
}

/// The addresses to bind, those that reach furthest first. Asks the system: some 50 microseconds.
pub(crate) fn interfaces(filter: &Filter) -> Vec<IpAddr> {
    let found = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        debug!(%error, "cannot list the interfaces");
        Vec::new()
    });
    let running = |interface: &if_addrs::Interface| interface.is_oper_up() || interface.is_loopback();
    choose(filter, found.iter().filter(|each| running(each)).map(|each| (each.name.as_str(), each.ip())))
}

/// Those of `found` that are used.
fn choose<'a>(filter: &Filter, found: impl Iterator<Item = (&'a str, IpAddr)>) -> Vec<IpAddr> {
    let wanted = |name: &str, ip: IpAddr| {
        (if ip.is_ipv4() { filter.ipv4 } else { filter.ipv6 })
            && (filter.loopback || !ip.is_loopback())
            && filter.keep.as_ref().is_none_or(|keep| keep(name, ip))
    };
    let mut ips = Vec::new();
    for (name, ip) in found {
        if is_usable(ip) && wanted(name, ip) && !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.iter().any(|ip| !is_ipv6_loopback(*ip)) {
        ips.retain(|ip| !is_ipv6_loopback(*ip));
    }
    // Stable: within a reach the system's order stays.
    ips.sort_by_key(|ip| reach(*ip));
    ips.truncate(filter.most);
    ips
}

/// RFC 8445 5.1.1.1: no address that only looks like one of the other family, and none that needs a zone, which
/// a candidate cannot say. IPv4 link-local needs none.
fn is_usable(ip: IpAddr) -> bool {
    if ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
    }
}

fn is_ipv6_loopback(ip: IpAddr) -> bool {
    ip.is_ipv6() && ip.is_loopback()
}

/// Smaller reaches further. Loopback comes before link-local, of which a machine may have many.
fn reach(ip: IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 1,
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: [(&str, &str); 9] = [
        ("lo", "127.0.0.1"),
        ("lo", "::1"),
        ("eth1", "169.254.3.4"),
        ("eth0", "10.0.0.2"),
        ("eth0", "2001:db8::2"),
        ("eth0", "fe80::1"),
        ("docker0", "172.17.0.1"),
        ("eth0:1", "10.0.0.2"),
        ("odd", "::ffff:10.0.0.9"),
    ];

    fn chosen(filter: &Filter) -> Vec<String> {
        let found = MACHINE.iter().map(|(name, ip)| (*name, ip.parse().unwrap()));
        choose(filter, found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_address_that_a_candidate_can_say_is_used_once() {
        assert_eq!(
            chosen(&Filter::default()),
            ["10.0.0.2", "2001:db8::2", "172.17.0.1", "127.0.0.1", "169.254.3.4"]
        );
    }

    #[test]
    fn what_is_filtered_out_is_not_used() {
        let no_docker: Keep = Arc::new(|name, _| name != "docker0");
        let filter = Filter { loopback: false, keep: Some(no_docker), ..Filter::default() };
        assert_eq!(chosen(&filter), ["10.0.0.2", "2001:db8::2", "169.254.3.4"]);
        assert_eq!(chosen(&Filter { ipv4: false, ..Filter::default() }), ["2001:db8::2"]);
        assert_eq!(chosen(&Filter { ipv6: false, most: 2, ..Filter::default() }), ["10.0.0.2", "172.17.0.1"]);
    }

    #[test]
    fn ipv6_loopback_stands_in_where_there_is_nothing_else() {
        let only: Keep = Arc::new(|_, ip| ip.is_loopback());
        let filter = Filter { ipv4: false, keep: Some(only), ..Filter::default() };
        assert_eq!(chosen(&filter), ["::1"]);
    }

    #[test]
    fn this_machine_has_loopback() {
        assert!(interfaces(&Filter::default()).contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
