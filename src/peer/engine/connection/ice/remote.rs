//! The text of the peer's candidates (RFC 8839 5.1), in every spelling that peers use.
//!
//! # Invariant
//! What passes can be sent to, and is all that the ICE crate is given of the peer's words.

use std::net::{IpAddr, SocketAddr};

use is::Candidate;

use crate::peer::engine::connection::failure::CandidateError;
use crate::peer::{CandidateKind, TransportProtocol};

/// The highest priority that RFC 8445 5.1.2 allows.
const HIGHEST: u32 = i32::MAX as u32;

/// A candidate that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) protocol: TransportProtocol,
    priority: u32,
    pub(super) host: Host,
    port: u16,
    pub(super) kind: CandidateKind,
    /// Of which generation it says to be.
    pub(super) ufrag: Option<String>,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    /// Ends in `.local`: an address that the peer hides from all but its neighbours.
    Name(String),
}

/// Reads a candidate. `None` for the empty one, which ends them.
pub(super) fn read(text: &str) -> Result<Option<Read>, CandidateError> {
    let text = text.trim();
    let text = strip(text, "a=").unwrap_or(text);
    let text = strip(text, "candidate:").unwrap_or(text).trim();
    if text.is_empty() || text.eq_ignore_ascii_case("end-of-candidates") {
        return Ok(None);
    }
    let mut words = text.split_whitespace();
    let mut next = || words.next().ok_or(CandidateError::Syntax);
    let (_foundation, component, protocol, priority, host, port) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    if !next()?.eq_ignore_ascii_case("typ") {
        return Err(CandidateError::Syntax);
    }
    let kind = read_kind(next()?)?;
    let (tcptype, ufrag) = read_extensions(words);
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "udp" => TransportProtocol::Udp,
        // We connect; whoever only connects as well is never met (RFC 6544 4.5).
        "tcp" if tcptype.is_some_and(|kind| !kind.eq_ignore_ascii_case("active")) => TransportProtocol::Tcp,
        _ => return Err(CandidateError::Protocol),
    };
    let priority = priority.parse::<u32>().map_err(|_| CandidateError::Syntax)?.clamp(1, HIGHEST);
    let port = port.parse::<u16>().map_err(|_| CandidateError::Syntax)?;
    let host = read_host(host)?;
    if component != "1" || port == 0 || !host.is_reachable() {
        return Err(CandidateError::Unusable);
    }
    Ok(Some(Read { protocol, priority, host, port, kind, ufrag: ufrag.map(str::to_owned) }))
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn read_kind(word: &str) -> Result<CandidateKind, CandidateError> {
    match word.to_ascii_lowercase().as_str() {
        "host" => Ok(CandidateKind::Host),
        "srflx" => Ok(CandidateKind::Srflx),
        "prflx" => Ok(CandidateKind::Prflx),
        "relay" => Ok(CandidateKind::Relay),
        _ => Err(CandidateError::Syntax),
    }
}

/// The extensions that matter. Related addresses are for people, and often made up.
fn read_extensions<'a>(mut words: impl Iterator<Item = &'a str>) -> (Option<&'a str>, Option<&'a str>) {
    let (mut tcptype, mut ufrag) = (None, None);
    while let Some(name) = words.next() {
        let value = words.next();
        match name.to_ascii_lowercase().as_str() {
            "tcptype" => tcptype = value,
            "ufrag" => ufrag = value,
            _ => {}
        }
    }
    (tcptype, ufrag)
}

fn read_host(word: &str) -> Result<Host, CandidateError> {
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Host::Address(address.to_canonical()));
    }
    let name = word.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if name.len() > 6 && name.len() < 254 && name.ends_with(".local") && name.bytes().all(plain) {
        return Ok(Host::Name(name));
    }
    Err(CandidateError::Syntax)
}

impl Host {
    fn is_reachable(&self) -> bool {
        match self {
            Self::Name(_) => true,
            Self::Address(address) => {
                !address.is_unspecified() && !address.is_multicast() && !is_broadcast(address)
            }
        }
    }
}

fn is_broadcast(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

impl Read {
    /// With its name looked up.
    ///
    /// # Errors
    /// [`CandidateError::Unusable`] when nothing can be sent to the address.
    pub(super) fn resolved(mut self, address: IpAddr) -> Result<Self, CandidateError> {
        self.host = Host::Address(address.to_canonical());
        if self.host.is_reachable() { Ok(self) } else { Err(CandidateError::Unusable) }
    }

    /// Where it is; `None` for one that has only a name.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }

    /// As the ICE crate has it.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let address = self.address()?;
        let (protocol, tcptype) = match self.protocol {
            TransportProtocol::Udp => ("udp", ""),
            TransportProtocol::Tcp => ("tcp", " tcptype passive"),
        };
        let Self { priority, kind, .. } = self;
        let (host, port) = (address.ip(), address.port());
        let text = format!("candidate:1 1 {protocol} {priority} {host} {port} typ {kind}{tcptype}");
        Candidate::from_sdp_string(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Read {
        read(text).unwrap().unwrap()
    }

    #[test]
    fn every_spelling_of_the_peers_is_read() {
        let plain = one("candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host");
        for text in [
            "a=candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host",
            "1 1 udp 2130706431 10.0.0.1 5000 typ host",
            " A=Candidate:1 1 UDP 2130706431 10.0.0.1 5000 TYP HOST\r\n",
            "candidate:foundation+/ 1 udp 2130706431 10.0.0.1 5000 typ host generation 0 network-id 1",
            "candidate:1 1 udp 2130706431 ::ffff:10.0.0.1 5000 typ host raddr 0.0.0.0 rport 0",
            "candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host raddr x.local rport many",
            "candidate:1 1 udp 2130706431 10.0.0.1 5000 typ host odd",
        ] {
            assert_eq!(one(text), plain, "{text}");
            assert!(one(text).candidate().is_some());
        }
        assert_eq!(one("1 1 udp 1 [2001:db8::1] 9 typ srflx").address(), "[2001:db8::1]:9".parse().ok());
        assert_eq!(one("1 1 udp 1 10.0.0.1 9 typ relay ufrag abc").ufrag.as_deref(), Some("abc"));
    }

    #[test]
    fn the_empty_candidate_ends_them() {
        for text in ["", " ", "a=", "candidate:", "a=candidate:", "a=end-of-candidates"] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn local_names_wait_for_their_address() {
        let named = one("candidate:1 1 udp 5 1F2e-3.local 5000 typ host");
        assert_eq!(named.host, Host::Name("1f2e-3.local".to_owned()));
        assert!(named.candidate().is_none());
        let found = named.clone().resolved("192.168.1.7".parse().unwrap()).unwrap();
        assert_eq!(found.address(), "192.168.1.7:5000".parse().ok());
        assert_eq!(named.resolved("0.0.0.0".parse().unwrap()), Err(CandidateError::Unusable));
    }

    #[test]
    fn tcp_is_read_where_the_peer_waits_for_us() {
        let passive = one("1 1 TCP 1 10.0.0.1 443 typ relay tcptype Passive");
        assert_eq!(passive.protocol, TransportProtocol::Tcp);
        assert!(passive.candidate().is_some());
        for text in ["1 1 tcp 1 10.0.0.1 9 typ host tcptype active", "1 1 tcp 1 10.0.0.1 9 typ host"] {
            assert_eq!(read(text), Err(CandidateError::Protocol));
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        use CandidateError::{Protocol, Syntax, Unusable};
        for (text, why) in [
            ("x", Syntax),
            ("1 1 udp 1 10.0.0.1 9 host typ", Syntax),
            ("1 1 udp 1 10.0.0.1 9 typ best", Syntax),
            ("1 1 udp -1 10.0.0.1 9 typ host", Syntax),
            ("1 1 udp 1 10.0.0.1 99999 typ host", Syntax),
            ("1 1 udp 1 example.com 9 typ host", Syntax),
            ("1 1 udp 1 .local 9 typ host", Syntax),
            ("1 1 udp 1 a_b.local 9 typ host", Syntax),
            ("1 1 sctp 1 10.0.0.1 9 typ host", Protocol),
            ("1 2 udp 1 10.0.0.1 9 typ host", Unusable),
            ("1 1 udp 1 10.0.0.1 0 typ host", Unusable),
            ("1 1 udp 1 0.0.0.0 9 typ host", Unusable),
            ("1 1 udp 1 :: 9 typ host", Unusable),
            ("1 1 udp 1 224.0.0.1 9 typ host", Unusable),
            ("1 1 udp 1 255.255.255.255 9 typ host", Unusable),
            ("\u{e4}\u{e4}\u{e4}\u{e4}", Syntax),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
    }

    #[test]
    fn priorities_stay_within_the_rfcs_bounds() {
        for (said, kept) in [("0", 1), ("7", 7), ("4294967295", HIGHEST)] {
            let candidate = one(&format!("1 1 udp {said} 10.0.0.1 9 typ host")).candidate().unwrap();
            assert_eq!(candidate.prio(), kept);
        }
    }
}
