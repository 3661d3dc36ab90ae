//! Names of robots: what a user types, taken apart and checked.
//!
//! Floor 0. The only place that knows which domains have which signaling server.
//!
//! # Invariant
//! An [`Address`] that exists is well formed; everything wrong with it was said before any I/O.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Signaling servers of domains, as rdk knows them (`rdk grpc/dial.go`): suffix, server, port.
const SIGNALING: &[(&str, &str, u16)] = &[
    (".viam.cloud", "app.viam.com", 443),
    (".viamstg.cloud", "app.viam.dev", 443),
    (".robot.viaminternal", "app.viaminternal", 8089),
];

/// A robot's address, or a signaling server's.
///
/// `host`, `host:port`, `[v6]:port`, a bare IPv6 address, each with `https://` or `http://` before it if
/// need be; or `unix:path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host, reached over TCP or by its name in signaling.
    Host(HostPort),
    /// A unix socket; direct gRPC only.
    Unix(PathBuf),
}

/// A host and, perhaps, a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HostPort {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// From 1 on.
    pub port: Option<u16>,
    /// What the scheme said: `https` true, `http` false.
    pub secure: Option<bool>,
}

impl Address {
    /// The host, if it is one.
    pub fn as_host(&self) -> Option<&HostPort> {
        match self {
            Self::Host(host) => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// The path, if it is a unix socket.
    pub fn as_unix(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Host(_) => None,
        }
    }
}

impl HostPort {
    /// The signaling server that is known for this host's domain.
    pub fn known_signaling(&self) -> Option<Self> {
        let host = self.host.to_ascii_lowercase();
        let (_, server, port) = SIGNALING.iter().find(|(suffix, _, _)| host.ends_with(suffix))?;
        Some(Self { host: (*server).to_owned(), port: Some(*port), secure: Some(true) })
    }

    /// Whether this is one of the known signaling servers itself, on whatever port.
    pub fn is_known_signaling(&self) -> bool {
        let host = self.host.strip_suffix('.').unwrap_or(&self.host);
        SIGNALING.iter().any(|(_, server, _)| host.eq_ignore_ascii_case(server))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |expected| AddressError { address: text.to_owned(), expected };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(wrong("a path after unix:"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (secure, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            Some(_) => return Err(wrong("https://, http://, unix: or no scheme")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Err(wrong("a host"));
        }
        let (host, port) = split_host_port(rest).map_err(wrong)?;
        Ok(Self::Host(HostPort { host, port, secure }))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match port {
            Some(port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(host),
        }
    }
}

/// Without the scheme: as it goes into `rpc-host`, and as people want to read it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn split_host_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text.to_owned(), None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("a closing ] after the IPv6 address")?;
        host.parse::<Ipv6Addr>().map_err(|_| "an IPv6 address between [ and ]")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host.to_owned(), Some(parse_port(port)?))),
            None if after.is_empty() => Ok((host.to_owned(), None)),
            None => Err("nothing but :port after ]"),
        };
    }
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((_, port)) if port.contains(':') => return Err("an IPv6 address with a port to be in [ and ]"),
        Some((host, port)) => (host, Some(parse_port(port)?)),
    };
    check_host(host)?;
    Ok((host.to_owned(), port))
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let port = if digits { text.parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err("a port from 1 to 65535") } else { Ok(port) }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("a host");
    }
    let label = |label: &str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 || !name.split('.').all(label) {
        return Err("a host name of letters, digits, - and _, its parts separated by single dots");
    }
    let numeric = name.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    if numeric && name.parse::<IpAddr>().is_err() {
        return Err("an IPv4 address of four numbers from 0 to 255");
    }
    Ok(())
}

/// Text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address:?} is not an address: expected {expected}, as in robot-main.abc.viam.cloud or 10.0.0.7:8080"
)]
pub struct AddressError {
    address: String,
    expected: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> HostPort {
        match text.parse() {
            Ok(Address::Host(host)) => host,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_spelling_is_taken_apart() {
        for (text, name, port, secure) in [
            ("robot-main.abc.viam.cloud", "robot-main.abc.viam.cloud", None, None),
            ("robot:8080", "robot", Some(8080), None),
            ("https://robot.example:1/", "robot.example", Some(1), Some(true)),
            ("HTTP://10.0.0.7:65535", "10.0.0.7", Some(65535), Some(false)),
            ("[::1]:8080", "::1", Some(8080), None),
            ("[fe80::1]", "fe80::1", None, None),
            ("::1", "::1", None, None),
            ("my_robot.local.", "my_robot.local.", None, None),
        ] {
            let parsed = host(text);
            assert_eq!((parsed.host.as_str(), parsed.port, parsed.secure), (name, port, secure), "{text}");
            assert_eq!(parsed.to_string().parse::<Address>().unwrap().as_host().unwrap().port, port);
        }
        let unix: Address = "unix:/run/robot.sock".parse().unwrap();
        assert_eq!(unix.as_unix(), Some(Path::new("/run/robot.sock")));
        assert_eq!("unix:///run/robot.sock".parse::<Address>().unwrap(), unix);
    }

    #[test]
    fn what_is_not_an_address_says_what_was_expected() {
        for (text, word) in [
            ("", "host"),
            ("https://", "host"),
            (":80", "host"),
            ("robot:", "port"),
            ("robot:0", "port"),
            ("robot:65536", "port"),
            ("robot:+80", "port"),
            ("robot:http", "port"),
            ("ftp://robot", "https://"),
            ("::1:8080:x", "["),
            ("[::1", "]"),
            ("[robot]:1", "IPv6"),
            ("[::1]8080", "]"),
            ("robot/path", "host name"),
            ("a b", "host name"),
            ("a..b", "dots"),
            ("user@robot", "host name"),
            ("1.2.3.999", "IPv4"),
            ("unix:", "path"),
            ("röbot", "host name"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn signaling_is_known_by_the_end_of_the_name_only() {
        let known = |text: &str| host(text).known_signaling().map(|server| server.to_string());
        assert_eq!(known("r.abc.viam.cloud").as_deref(), Some("app.viam.com:443"));
        assert_eq!(known("R.ABC.VIAM.CLOUD:8080").as_deref(), Some("app.viam.com:443"));
        assert_eq!(known("r.viamstg.cloud").as_deref(), Some("app.viam.dev:443"));
        assert_eq!(known("r.robot.viaminternal").as_deref(), Some("app.viaminternal:8089"));
        assert_eq!(known("viam.cloud.evil.example"), None);
        assert_eq!(known("notviam.cloud"), None);
        assert_eq!(known("r.local"), None);
    }

    #[test]
    fn a_known_signaling_server_is_recognised_in_every_spelling() {
        for name in ["app.viam.com", "APP.viam.com:8080", "app.viam.dev.", "https://app.viaminternal:8089"] {
            assert!(host(name).is_known_signaling(), "{name}");
        }
        for name in ["viam.com", "app.viam.com.evil.example", "notapp.viam.com", "r.abc.viam.cloud"] {
            assert!(!host(name).is_known_signaling(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Address>();
        }
    }
}
