//! What a user may say about a dial. Plain values; nothing here does anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::ConfigError;
use crate::auth::Credentials;
use crate::peer::{IceServer, Stack};
use crate::transport::direct::Roots;
use crate::transport::webrtc::Limits;

/// How to dial. The defaults suit a robot in the cloud's reach; set fields, or chain the setters.
///
/// The first eight fields and [`with_api_key`](Self::with_api_key) are those of Viam's SDKs, with their
/// defaults.
#[derive(Clone)]
#[non_exhaustive]
pub struct DialOptions {
    /// Connect directly to the robot, without WebRTC. Default false.
    pub disable_webrtc: bool,
    /// The name to authenticate as. Default: the host that is dialed. With an API key: the key's id.
    pub auth_entity: Option<String>,
    /// What to authenticate with, at signaling and at the robot. Default: nothing.
    ///
    /// Both have to offer authentication, whichever is dialed: a server without it, such as
    /// `farlink-signaling`, fails its attempt with `<server> does not authenticate anybody: drop the
    /// credentials`, rather than go on as if somebody had checked them. After signaling a direct connection
    /// may still be tried, as [`fallback`](Self#structfield.fallback) says: nobody refused them.
    pub credentials: Option<Credentials>,
    /// The robot, and a signaling server that was named explicitly, speak plaintext. Default false. With
    /// it, credentials travel in plaintext: they were asked for by name too. Viam's own servers, such as
    /// `app.viam.com`, are spoken to in TLS all the same, and never downgraded, unless named with `http://`.
    pub insecure: bool,
    /// Go on in plaintext with a server that turns out not to speak TLS, when there are no credentials to
    /// lose. Default false.
    pub allow_insecure_downgrade: bool,
    /// The same even with credentials. Anybody on the way can take them. Default false.
    pub allow_insecure_with_creds_downgrade: bool,
    /// After how many failed attempts in a row [`Redial`](crate::redial::Redial) gives up on a connection
    /// that was lost; 0 is never. `dial` itself does not read it: it dials once, and its channel stays lost
    /// when its connection is. Default 3.
    pub max_reconnect_attempts: u32,
    /// How long the whole dial may take, fallback included. Default 20 s; more than zero, at most a day.
    pub timeout: Duration,

    /// The signaling server, `host:port` or with a scheme. Default: the one that is known for the robot's
    /// domain, else the robot's own address.
    pub signaling_address: Option<String>,
    /// When a direct connection is tried after WebRTC. Default [`Fallback::OnFailure`].
    pub fallback: Fallback,
    /// STUN and TURN servers beside those that signaling hands out. Default `None`: Viam's and Twilio's
    /// STUN servers, or none when signaling is on this machine.
    pub ice_servers: Option<Vec<IceServer>>,
    /// Use relays only. Default false; excludes `force_p2p`.
    pub force_relay: bool,
    /// Use no relays. Default false; excludes `force_relay` and `turn_uri`.
    pub force_p2p: bool,
    /// Of the TURN servers that signaling hands out, use this one only, e.g.
    /// `turn:turn.example.com:443?transport=tcp`. Default: all.
    pub turn_uri: Option<String>,
    /// Send candidates as they are found, rather than all with the offer. Default true.
    pub trickle: bool,
    /// Whose certificates are trusted. Default: those the platform trusts.
    pub roots: Roots,
    /// Bounds of the WebRTC connection: length of messages, calls at once, bytes unread.
    pub limits: Limits,
    /// The WebRTC implementation. Default: the one that farlink was built with.
    pub stack: Option<Arc<dyn Stack>>,
}

/// When a direct connection to the robot's own address is tried after WebRTC.
///
/// Never after credentials were refused, or would have had to travel in plaintext: the second door has the
/// same lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// When WebRTC failed, for whatever reason.
    #[default]
    OnFailure,
    /// Only when there is no WebRTC signaling for the robot: goutils' rule (`rpc/dial.go`).
    OnlyWithoutSignaling,
    /// Never.
    Never,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            disable_webrtc: false,
            auth_entity: None,
            credentials: None,
            insecure: false,
            allow_insecure_downgrade: false,
            allow_insecure_with_creds_downgrade: false,
            max_reconnect_attempts: 3,
            timeout: Duration::from_secs(20),
            signaling_address: None,
            fallback: Fallback::default(),
            ice_servers: None,
            force_relay: false,
            force_p2p: false,
            turn_uri: None,
            trickle: true,
            roots: Roots::default(),
            limits: Limits::default(),
            stack: None,
        }
    }
}

impl fmt::Debug for DialOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials and ICE servers hide their secrets themselves.
        f.debug_struct("DialOptions")
            .field("disable_webrtc", &self.disable_webrtc)
            .field("auth_entity", &self.auth_entity)
            .field("credentials", &self.credentials)
            .field("insecure", &self.insecure)
            .field("timeout", &self.timeout)
            .field("signaling_address", &self.signaling_address)
            .field("fallback", &self.fallback)
            .field("ice_servers", &self.ice_servers)
            .finish_non_exhaustive()
    }
}

impl DialOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The defaults, with an API key.
    ///
    /// # Errors
    /// [`ConfigError::ApiKeyId`] unless `api_key_id` is a UUID: 32 hexadecimal digits, with hyphens
    /// anywhere, in braces or with `urn:uuid:` before it, as Python's `uuid.UUID` reads it. It is sent as it
    /// was spelled.
    pub fn with_api_key(
        api_key: impl Into<String>,
        api_key_id: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let id = api_key_id.into();
        if !is_uuid(&id) {
            return Err(ConfigError::ApiKeyId(id));
        }
        Ok(Self {
            credentials: Some(Credentials::api_key(api_key)),
            auth_entity: Some(id),
            ..Self::default()
        })
    }
}

/// A setter for each field, so that options can be built in one expression.
macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl DialOptions {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](Self#structfield.", stringify!($name), ").")]
                #[must_use]
                pub fn $name(mut self, $name: impl Into<$type>) -> Self {
                    self.$name = $name.into();
                    self
                }
            )*
        }
    };
}

setters! {
    disable_webrtc: bool,
    auth_entity: Option<String>,
    credentials: Option<Credentials>,
    insecure: bool,
    allow_insecure_downgrade: bool,
    allow_insecure_with_creds_downgrade: bool,
    max_reconnect_attempts: u32,
    timeout: Duration,
    signaling_address: Option<String>,
    fallback: Fallback,
    ice_servers: Option<Vec<IceServer>>,
    force_relay: bool,
    force_p2p: bool,
    turn_uri: Option<String>,
    trickle: bool,
    roots: Roots,
    limits: Limits,
    stack: Option<Arc<dyn Stack>>,
}

/// Python's `uuid.UUID(text)`: `urn:`, `uuid:`, outer braces and all hyphens are nothing, the rest must be
/// 32 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let text = text.replace("urn:", "").replace("uuid:", "");
    let digits = text.trim_matches(|c| c == '{' || c == '}').replace('-', "");
    digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_seed_s() {
        let options = DialOptions::new();
        assert!(!options.disable_webrtc && !options.insecure);
        assert!(!options.allow_insecure_downgrade && !options.allow_insecure_with_creds_downgrade);
        assert_eq!(options.max_reconnect_attempts, 3);
        assert_eq!(options.timeout, Duration::from_secs(20));
        assert!(options.auth_entity.is_none() && options.credentials.is_none());
    }

    #[test]
    fn an_api_key_id_is_any_spelling_of_a_uuid_and_is_kept_as_spelled() {
        for id in [
            "11111111-2222-3333-4444-555555555555",
            "111111112222333344445555AABBCCDD",
            "{11111111-2222-3333-4444-555555555555}",
            "urn:uuid:11111111-2222-3333-4444-555555555555",
            "00000000000000000000000000000000",
            "1-1111111222233334444555555555555",
        ] {
            let options = DialOptions::with_api_key("key", id).unwrap();
            assert_eq!(options.auth_entity.as_deref(), Some(id));
            assert_eq!(options.credentials, Some(Credentials::api_key("key")));
        }
        for id in ["", "1", " 11111111-2222-3333-4444-555555555555", "g1111111222233334444555555555555"] {
            let error = DialOptions::with_api_key("hush", id).unwrap_err().to_string();
            assert!(error.contains("is not a valid UUID") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn secrets_never_reach_debug_output() {
        let server = IceServer::with_credential("turn:a", "me", "turn-hush").unwrap();
        let options = DialOptions::with_api_key("key-hush", "11111111222233334444555555555555").unwrap();
        let text = format!("{:?}", options.ice_servers(vec![server]));
        assert!(!text.contains("hush"), "{text}");
    }
}
