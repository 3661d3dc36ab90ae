//! Who is calling: credentials, and the tokens that they buy.
//!
//! Floor 3. [`Authorized`] puts a token on every call of a transport, and gets a new one when the old one
//! is refused.
//!
//! # Invariant
//! A secret is never in Debug, Display or a log, and never on a call to the authentication service itself.
//! Whether a connection may carry secrets at all is decided before this room is entered, by `dial`.
//!
//! Contract: goutils `rpc/dialer.go`, `rpc/server_auth.go`.

mod authorized;

use std::fmt;

pub use self::authorized::{AuthError, Authorized};

/// What proves who is calling.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Payload { kind: String, payload: String },
    Token(String),
}

impl Credentials {
    /// Credentials of any type that the other side knows, e.g. `robot-location-secret`.
    pub fn new(kind: impl Into<String>, payload: impl Into<String>) -> Self {
        Self(Kind::Payload { kind: kind.into(), payload: payload.into() })
    }

    /// An API key; its id goes into `auth_entity`. See `DialOptions::with_api_key`.
    pub fn api_key(key: impl Into<String>) -> Self {
        Self::new("api-key", key)
    }

    /// A token that somebody else has got, sent as it is. It is never renewed.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Kind::Token(token.into()))
    }

    /// Whether a header can carry the token. Other credentials travel in a message, which carries all.
    pub(crate) fn can_be_sent(&self) -> bool {
        match &self.0 {
            Kind::Token(token) => !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
            Kind::Payload { .. } => true,
        }
    }

    /// The type, as it travels: `api-key`, or `access-token` for a token.
    pub fn kind(&self) -> &str {
        match &self.0 {
            Kind::Payload { kind, .. } => kind,
            Kind::Token(_) => "access-token",
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("kind", &self.kind()).finish_non_exhaustive()
    }
}
