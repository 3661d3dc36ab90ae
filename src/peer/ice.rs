//! ICE servers: their URLs, and which of them a dial may use.
//!
//! Floor 1, beside the seam. URLs are parsed before any I/O, so that a typing error is a typed error and
//! not a dial that hangs.
//!
//! Contract: RFC 7064, RFC 7065; the filters follow goutils `rpc/wrtc_signaling.go`.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::proto::webrtc::IceServer as WireIceServer;

/// A STUN or TURN server, with what it takes to use it. Debug never shows the credential.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// One or more URLs: `stun:host[:port]`, `turn:host[:port][?transport=udp|tcp]`, `turns:..`. In JSON a
    /// single one may stand without its list, as browsers have it.
    #[serde(deserialize_with = "one_or_more")]
    pub urls: Vec<IceUrl>,
    /// For TURN.
    #[serde(default)]
    pub username: String,
    /// For TURN.
    #[serde(default)]
    pub credential: String,
}

impl IceServer {
    /// A server without credentials.
    ///
    /// # Errors
    /// [`IceServerError`] when the URL is not one of an ICE server.
    pub fn new(url: &str) -> Result<Self, IceServerError> {
        Ok(Self { urls: vec![url.parse()?], ..Self::default() })
    }

    /// A TURN server with a long-term credential.
    ///
    /// # Errors
    /// [`IceServerError`] when the URL is not one of an ICE server.
    pub fn with_credential(
        url: &str,
        username: impl Into<String>,
        credential: impl Into<String>,
    ) -> Result<Self, IceServerError> {
        Ok(Self { urls: vec![url.parse()?], username: username.into(), credential: credential.into() })
    }

    /// What signaling handed out. URLs that are not understood are left out.
    pub fn from_wire(wire: &WireIceServer) -> Self {
        Self {
            urls: wire.urls.iter().filter_map(|url| url.parse().ok()).collect(),
            username: wire.username.clone(),
            credential: wire.credential.clone(),
        }
    }

    /// What signaling hands out.
    pub fn to_wire(&self) -> WireIceServer {
        WireIceServer {
            urls: self.urls.iter().map(ToString::to_string).collect(),
            username: self.username.clone(),
            credential: self.credential.clone(),
        }
    }

    /// Whether any of its URLs is a TURN server's.
    pub fn is_turn(&self) -> bool {
        self.urls.iter().any(|url| url.scheme.is_turn())
    }
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(ToString::to_string).collect();
        f.debug_struct("IceServer").field("urls", &urls).finish_non_exhaustive()
    }
}

/// A URL or a list of at least one.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IceUrl>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<IceUrl>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the URL of an ICE server or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse().map(|url| vec![url]).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut urls = Vec::new();
            while let Some(url) = list.next_element()? {
                urls.push(url);
            }
            if urls.is_empty() {
                return Err(de::Error::invalid_length(0, &"at least one URL"));
            }
            Ok(urls)
        }
    }

    deserializer.deserialize_any(OneOrMore)
}

/// The scheme of an ICE server's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `stun:`
    Stun,
    /// `stuns:`
    Stuns,
    /// `turn:`
    Turn,
    /// `turns:`
    Turns,
}

impl Scheme {
    /// Whether it names a relay.
    pub fn is_turn(self) -> bool {
        matches!(self, Self::Turn | Self::Turns)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Stun => "stun",
            Self::Stuns => "stuns",
            Self::Turn => "turn",
            Self::Turns => "turns",
        }
    }
}

/// What the client speaks to the TURN server over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportProtocol {
    /// `?transport=udp`, the default of `turn:`.
    Udp,
    /// `?transport=tcp`, the default of `turns:`.
    Tcp,
}

/// An ICE server's URL, RFC 7064 and RFC 7065.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct IceUrl {
    /// Its scheme.
    pub scheme: Scheme,
    /// A name or an address, IPv6 without its brackets.
    pub host: String,
    /// 3478, or 5349 for the TLS schemes, unless given.
    pub port: u16,
    /// Only TURN URLs may say it.
    pub transport: TransportProtocol,
}

impl FromStr for IceUrl {
    type Err = IceServerError;

    fn from_str(text: &str) -> Result<Self, IceServerError> {
        let wrong = |expected| IceServerError { url: text.to_owned(), expected };
        let (scheme, rest) =
            text.split_once(':').ok_or_else(|| wrong("a scheme: stun, stuns, turn or turns"))?;
        let scheme = match scheme {
            "stun" => Scheme::Stun,
            "stuns" => Scheme::Stuns,
            "turn" => Scheme::Turn,
            "turns" => Scheme::Turns,
            _ => return Err(wrong("the scheme stun, stuns, turn or turns")),
        };
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let secure = matches!(scheme, Scheme::Stuns | Scheme::Turns);
        let transport = match query {
            None if secure => TransportProtocol::Tcp,
            None => TransportProtocol::Udp,
            Some(_) if !scheme.is_turn() => return Err(wrong("no query on a STUN URL")),
            Some("transport=udp") => TransportProtocol::Udp,
            Some("transport=tcp") => TransportProtocol::Tcp,
            Some(_) => return Err(wrong("transport=udp or transport=tcp as its query")),
        };
        let (host, port) = split_host_port(authority).ok_or_else(|| wrong("host or host:port"))?;
        let port = match port {
            None if secure => 5349,
            None => 3478,
            Some(port) => {
                port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("a port from 1 to 65535"))?
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(wrong("a host name or an address"));
        }
        Ok(Self { scheme, host: host.to_owned(), port, transport })
    }
}

impl TryFrom<String> for IceUrl {
    type Error = IceServerError;

    fn try_from(text: String) -> Result<Self, IceServerError> {
        text.parse()
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, transport } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}:{open}{host}{close}:{port}", scheme.as_str())?;
        match (scheme.is_turn(), transport) {
            (false, _) => Ok(()),
            (true, TransportProtocol::Udp) => f.write_str("?transport=udp"),
            (true, TransportProtocol::Tcp) => f.write_str("?transport=tcp"),
        }
    }
}

fn split_host_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// Text that is not the URL of an ICE server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url:?} is not an ICE server: expected {expected}, as in stun:stun.example.com:3478 or turn:turn.example.com?transport=udp"
)]
pub struct IceServerError {
    url: String,
    expected: &'static str,
}

/// Which of the TURN servers that signaling hands out a dial uses, and which servers at all.
///
/// Contract: goutils `rpc/wrtc_signaling.go`, `rpc/wrtc_client.go`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TurnFilter {
    /// Keep only the TURN URL that equals this one in scheme, host, port and transport.
    pub only: Option<IceUrl>,
    /// Drop every server that has a TURN URL, so that only direct paths are left.
    pub no_relays: bool,
}

impl TurnFilter {
    /// The servers that pass.
    pub fn apply(&self, servers: Vec<IceServer>) -> Vec<IceServer> {
        servers.into_iter().filter_map(|server| self.keep(server)).collect()
    }

    fn keep(&self, mut server: IceServer) -> Option<IceServer> {
        if self.no_relays && server.is_turn() {
            return None;
        }
        if let Some(only) = &self.only {
            server.urls.retain(|url| !url.scheme.is_turn() || url == only);
        }
        (!server.urls.is_empty()).then_some(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_their_parts_and_their_defaults() {
        for (text, shown) in [
            ("stun:a.b", "stun:a.b:3478"),
            ("stuns:a.b", "stuns:a.b:5349"),
            ("turn:a.b:80", "turn:a.b:80?transport=udp"),
            ("turns:a.b", "turns:a.b:5349?transport=tcp"),
            ("turn:[::1]:9?transport=tcp", "turn:[::1]:9?transport=tcp"),
            ("stun:10.0.0.1:1", "stun:10.0.0.1:1"),
        ] {
            let url: IceUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.to_string().parse::<IceUrl>().unwrap(), url);
        }
    }

    #[test]
    fn what_is_not_an_ice_server_says_what_was_expected() {
        for (text, word) in [
            ("", "scheme"),
            ("http://a", "scheme"),
            ("stun:", "host"),
            ("stun:a:0", "port"),
            ("stun:a:99999", "port"),
            ("stun:::1", "host"),
            ("stun:a?transport=udp", "query"),
            ("turn:a?transport=sctp", "transport"),
            ("turn:[::1", "host"),
            ("turn:a b", "host"),
        ] {
            let error = text.parse::<IceUrl>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_credential_never_reaches_debug_output() {
        let server = IceServer::with_credential("turn:a", "me", "hush").unwrap();
        assert!(!format!("{server:?}").contains("hush"));
    }

    #[test]
    fn json_takes_one_url_or_a_list() {
        let read = serde_json::from_str::<IceServer>;
        let turn = read(r#"{"urls": "turn:a", "username": "u", "credential": "c"}"#).unwrap();
        assert_eq!(turn, IceServer::with_credential("turn:a", "u", "c").unwrap());
        assert_eq!(read(r#"{"urls": ["stun:a", "stun:b"]}"#).unwrap().urls.len(), 2);
        for (text, word) in [
            (r#"{"urls": []}"#, "at least one"),
            (r#"{"urls": "http://a"}"#, "scheme"),
            (r#"{"urls": ["turn:"]}"#, "host"),
            (r#"{"urls": 7}"#, "URL"),
            (r#"{"url": "stun:a"}"#, "urls"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_filter_keeps_stun_and_the_one_turn_url() {
        let server = |url| IceServer::new(url).unwrap();
        let all = || vec![server("stun:s"), server("turn:t?transport=udp"), server("turn:t?transport=tcp")];
        let only = TurnFilter { only: Some("turn:t".parse().unwrap()), no_relays: false };
        assert_eq!(only.apply(all()), [server("stun:s"), server("turn:t")]);
        let direct = TurnFilter { only: None, no_relays: true };
        assert_eq!(direct.apply(all()), [server("stun:s")]);
    }
}
