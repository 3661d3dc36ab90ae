//! The names of Viam's Python module `viam.sessions_client`, and where each has its place here.
//!
//! Floor 4. Every name that the module documented (SDK 0.23, June 2024: the document that farlink's sessions
//! grew from) is here, spelled as there where Rust allows it. `use farlink::sessions::names::*;` brings them
//! all; the same names are in [`sessions`](crate::sessions), where they belong.
//!
//! | there | here | what differs |
//! |---|---|---|
//! | `LOGGER` | [`LOGGER`] | The `tracing` target of all that sessions say, at debug level: `RUST_LOG=farlink::sessions=debug`. Who holds a [`SessionsClient`] hears more from [`SessionsClient::events`]. |
//! | `SESSION_METADATA_KEY` | [`SESSION_METADATA_KEY`] | `viam-sid`. |
//! | `EXEMPT_METADATA_METHODS` | [`EXEMPT_METADATA_METHODS`] | The same nine paths, `contains` tells. Sessions start, by default, with methods that move something only. |
//! | `RobotServiceStub(channel)` | [`RobotServiceStub::new`] | tonic's client. A subset of the service: the methods of [`proto::robot`](crate::proto::robot). |
//! | `SendSessionHeartbeatRequest(id=)` | [`SendSessionHeartbeatRequest`] | |
//! | `StartSessionRequest(resume=)` | [`StartSessionRequest`] | Empty: a new session. |
//! | `StartSessionResponse(id=, heartbeat_window=)` | [`StartSessionResponse`] | |
//! | `.HasField("heartbeat_window")` | `.heartbeat_window.is_some()` | The field is an `Option`. Another field's name is a compiler's error in place of a `ValueError`. |
//! | `dial(address, options=None)` | [`dial`]`(address, options)` | No options: [`DialOptions::default()`]. WebRTC and direct connections are one [`Channel`](crate::Channel), which says what it is. |
//! | `DialOptions(...)` | [`DialOptions`] | A struct with setters; it has more fields than these. |
//! | `.disable_webrtc = False` | [`DialOptions::disable_webrtc`](DialOptions#structfield.disable_webrtc) | |
//! | `.auth_entity = None` | [`DialOptions::auth_entity`](DialOptions#structfield.auth_entity) | |
//! | `.credentials = None` | [`DialOptions::credentials`](DialOptions#structfield.credentials) | [`Credentials`](crate::Credentials)`::new(type, payload)`. |
//! | `.insecure = False` | [`DialOptions::insecure`](DialOptions#structfield.insecure) | |
//! | `.allow_insecure_downgrade = False` | [`DialOptions::allow_insecure_downgrade`](DialOptions#structfield.allow_insecure_downgrade) | Only when the server answers TLS with something that is not TLS. |
//! | `.allow_insecure_with_creds_downgrade = False` | [`DialOptions::allow_insecure_with_creds_downgrade`](DialOptions#structfield.allow_insecure_with_creds_downgrade) | |
//! | `.max_reconnect_attempts = 3` | [`DialOptions::max_reconnect_attempts`](DialOptions#structfield.max_reconnect_attempts) | 0: for ever. |
//! | `.timeout = 20` | [`DialOptions::timeout`](DialOptions#structfield.timeout) | A `Duration`, and of the whole dial. |
//! | `.with_api_key(api_key, api_key_id)` | [`DialOptions::with_api_key`] | The id is any spelling of a UUID that Python takes; else a [`ConfigError`](crate::ConfigError) in place of a `ValueError`. |
//! | `SessionsClient(channel, direct_dial_address, dial_options, disabled=False)` | [`SessionsClient::builder`]`(channel).redial(address, dial_options).disabled(false).build()`, or [`SessionsClient::new`]`(channel)` | Heartbeats go over the channel itself, never over a second connection; an address is for dialing again when it is lost. |
//! | `.channel` | [`SessionsClient::channel`] | Make clients from this one: their calls carry the session. |
//! | `.client` | [`SessionsClient::client`] | |
//! | `await .metadata` | [`SessionsClient::metadata`] | Empty, or `viam-sid`. Starts the session if there is none; errors reach who asked. |
//! | `.reset()` | [`SessionsClient::reset`] | Never waits. The next session asks to go on with the old one; [`SessionsClient::forget`] does not. |

pub use super::caller::{LOGGER, SessionsClient};
pub use crate::channel::dial;
pub use crate::dial::DialOptions;
pub use crate::proto::robot::robot_service_client::RobotServiceClient as RobotServiceStub;
pub use crate::proto::robot::{SendSessionHeartbeatRequest, StartSessionRequest, StartSessionResponse};
pub use crate::wire::session::{EXEMPT_METADATA_METHODS, SESSION_METADATA_KEY};
