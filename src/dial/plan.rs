//! What a dial is going to try: address and options, checked and resolved against each other.
//!
//! Pure but for reading the trusted certificates. The order in which options were set does not matter.
//!
//! # Invariant
//! Every [`ConfigError`] comes from here, before anything is sent to anybody.

use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use super::options::{DialOptions, Fallback};
use crate::address::{Address, HostPort};
use crate::auth::Credentials;
use crate::peer::{IceServer, IceUrl, Stack, TurnFilter};
use crate::transport::direct::{Endpoint, Security};
use crate::transport::webrtc::Limits;

/// The STUN servers that goutils' callers use (`rpc/wrtc_peer.go`).
const DEFAULT_STUN: &[&str] = &["stun:global.stun.twilio.com:3478", "stun:turn.viam.com:443"];

/// The longest timeout that makes sense.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Everything that a dial needs.
#[derive(Debug)]
pub(super) struct Plan {
    /// The robot, as it is named in signaling and in reports.
    pub(super) name: String,
    pub(super) timeout: Duration,
    pub(super) fallback: Fallback,
    pub(super) webrtc: Option<WebRtcPlan>,
    pub(super) direct: Server,
    pub(super) identity: Option<Identity>,
}

/// The way over signaling.
#[derive(Debug)]
pub(super) struct WebRtcPlan {
    pub(super) signaling: Server,
    pub(super) stack: Arc<dyn Stack>,
    /// The user's ICE servers; `None` for the default ones.
    pub(super) ice_servers: Option<Vec<IceServer>>,
    pub(super) default_ice_servers: Vec<IceServer>,
    pub(super) filter: TurnFilter,
    pub(super) relay_only: bool,
    pub(super) trickle: bool,
    pub(super) limits: Limits,
}

/// A server to connect to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) endpoint: Endpoint,
    pub(super) security: Security,
    pub(super) downgrade: Downgrade,
}

/// What to do with a server that does not speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Downgrade {
    /// It is an error.
    Never,
    /// It would be allowed, were it not for the credentials.
    NotWithCredentials,
    /// Go on in plaintext.
    Allowed,
}

/// Who dials.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) credentials: Credentials,
    pub(super) entity: String,
}

impl Plan {
    pub(super) fn new(address: &str, options: &DialOptions) -> Result<Self, ConfigError> {
        let address: Address = address.parse()?;
        let signaling = options.signaling_address.as_deref().map(str::parse::<Address>).transpose();
        let signaling = signaling.map_err(ConfigError::SignalingAddress)?;
        let filter = turn_filter(options)?;
        if options.timeout.is_zero() || options.timeout > DAY {
            return Err(ConfigError::Timeout(options.timeout));
        }
        if options.limits.max_streams == 0 || options.limits.max_message == 0 {
            return Err(ConfigError::Conflict("limits of zero let no call through: expected at least 1"));
        }
        check_scheme(&address, options.insecure)?;

        let tls = Lazy::new(options);
        let direct = match &address {
            Address::Unix(path) => Server::plaintext(Endpoint::Unix(path.clone())),
            Address::Host(host) => server(host, options.insecure, options, &tls)?,
        };
        let webrtc = match (options.disable_webrtc, address.as_host()) {
            (true, _) | (_, None) => None,
            (false, Some(host)) => Some(WebRtcPlan {
                signaling: signaling_server(host, signaling, options, &tls)?,
                stack: stack(options)?,
                ice_servers: options.ice_servers.clone(),
                default_ice_servers: default_ice_servers(),
                filter,
                relay_only: options.force_relay,
                trickle: options.trickle,
                limits: options.limits,
            }),
        };
        let own_name = || address.as_host().map_or_else(|| address.to_string(), |host| host.host.clone());
        let identity = identity(options, own_name)?;
        Ok(Self {
            name: address.to_string(),
            timeout: options.timeout,
            fallback: options.fallback,
            webrtc,
            direct,
            identity,
        })
    }
}

impl Server {
    fn plaintext(endpoint: Endpoint) -> Self {
        Self { endpoint, security: Security::Plaintext, downgrade: Downgrade::Never }
    }
}

/// A signaling server that a robot answers through, from the same options as a dial.
pub(super) fn named_server(
    address: &str,
    options: &DialOptions,
    own_name: &str,
) -> Result<(Server, Option<Identity>), ConfigError> {
    let address: Address = address.parse().map_err(ConfigError::SignalingAddress)?;
    let tls = Lazy::new(options);
    let host = HostPort { host: own_name.to_owned(), port: None, secure: None };
    let server = signaling_server(&host, Some(address), options, &tls)?;
    let identity = identity(options, || own_name.to_owned())?;
    Ok((server, identity))
}

/// The STUN servers that are used when a user names none.
pub(super) fn default_ice_servers() -> Vec<IceServer> {
    DEFAULT_STUN.iter().filter_map(|url| IceServer::new(url).ok()).collect()
}

/// TLS, made when it is first needed: a plaintext dial must not fail for want of certificates.
struct Lazy<'a> {
    options: &'a DialOptions,
    made: std::cell::OnceCell<Security>,
}

impl<'a> Lazy<'a> {
    fn new(options: &'a DialOptions) -> Self {
        Self { options, made: std::cell::OnceCell::new() }
    }

    fn get(&self) -> Result<Security, ConfigError> {
        if let Some(security) = self.made.get() {
            return Ok(security.clone());
        }
        let security = Security::tls(&self.options.roots)?;
        Ok(self.made.get_or_init(|| security).clone())
    }
}

fn identity(
    options: &DialOptions,
    own_name: impl FnOnce() -> String,
) -> Result<Option<Identity>, ConfigError> {
    let Some(credentials) = options.credentials.clone() else { return Ok(None) };
    if !credentials.can_be_sent() {
        return Err(ConfigError::Token);
    }
    let entity = options.auth_entity.clone().unwrap_or_else(own_name);
    Ok(Some(Identity { credentials, entity }))
}

fn turn_filter(options: &DialOptions) -> Result<TurnFilter, ConfigError> {
    if options.force_relay && options.force_p2p {
        return Err(ConfigError::Conflict("force_relay and force_p2p exclude each other: set one of them"));
    }
    if options.force_p2p && options.turn_uri.is_some() {
        return Err(ConfigError::Conflict("force_p2p uses no TURN server: leave turn_uri out"));
    }
    let only = options.turn_uri.as_deref().map(str::parse::<IceUrl>).transpose();
    let filter = TurnFilter { only: only.map_err(ConfigError::TurnUri)?, no_relays: options.force_p2p };
    if filter.only.as_ref().is_some_and(|url| !url.scheme.is_turn()) {
        return Err(ConfigError::Conflict(
            "turn_uri is not the URI of a TURN server: expected turn: or turns:, as in turn:turn.example.com",
        ));
    }
    Ok(filter)
}

fn check_scheme(address: &Address, insecure: bool) -> Result<(), ConfigError> {
    match (address.as_host().and_then(|host| host.secure), insecure) {
        (Some(false), false) => {
            Err(ConfigError::Conflict("http:// is plaintext: set insecure if that is what you want"))
        }
        (Some(true), true) => {
            Err(ConfigError::Conflict("https:// and insecure contradict each other: leave one out"))
        }
        _ => Ok(()),
    }
}

/// A server with its security. The cloud speaks TLS, however insecure the robot is: only `http://` before
/// its name says otherwise.
fn server(
    host: &HostPort,
    insecure: bool,
    options: &DialOptions,
    tls: &Lazy<'_>,
) -> Result<Server, ConfigError> {
    let cloud = host.is_known_signaling();
    let insecure = insecure && (!cloud || host.secure == Some(false));
    let port = host.port.unwrap_or(if insecure { 80 } else { 443 });
    let endpoint = Endpoint::Tcp { host: host.host.clone(), port };
    if insecure {
        return Ok(Server::plaintext(endpoint));
    }
    let downgrade = match (options.credentials.is_some(), options.allow_insecure_with_creds_downgrade) {
        _ if cloud => Downgrade::Never,
        (_, true) => Downgrade::Allowed,
        (false, false) if options.allow_insecure_downgrade => Downgrade::Allowed,
        (true, false) if options.allow_insecure_downgrade => Downgrade::NotWithCredentials,
        _ => Downgrade::Never,
    };
    Ok(Server { endpoint, security: tls.get()?, downgrade })
}

/// The signaling server: named, known for the domain, or the robot itself.
fn signaling_server(
    robot: &HostPort,
    named: Option<Address>,
    options: &DialOptions,
    tls: &Lazy<'_>,
) -> Result<Server, ConfigError> {
    let refuse = |text| Err(ConfigError::Conflict(text));
    match named {
        Some(Address::Unix(path)) => Ok(Server::plaintext(Endpoint::Unix(path))),
        Some(Address::Host(host)) => match host.secure {
            Some(false) if !options.insecure => {
                refuse("http:// signaling is plaintext: set insecure if that is what you want")
            }
            secure => server(&host, options.insecure && secure != Some(true), options, tls),
        },
        None => match robot.known_signaling() {
            Some(cloud) => server(&cloud, false, options, tls),
            None => server(robot, options.insecure, options, tls),
        },
    }
}

fn stack(options: &DialOptions) -> Result<Arc<dyn Stack>, ConfigError> {
    match &options.stack {
        Some(stack) => Ok(Arc::clone(stack)),
        None => crate::peer::default_stack().ok_or(ConfigError::NoStack),
    }
}

#[cfg(test)]
mod tests;
