//! What users hold: the face that Viam's SDKs know as `SessionsClient`.

use std::sync::Arc;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use super::{
    EndReason, Policy, SessionError, SessionEvents, SessionOptions, SessionState, SessionStats, Sessions,
};
use crate::channel::Channel;
use crate::dial::DialOptions;
use crate::proto::robot::robot_service_client::RobotServiceClient;
use crate::redial::Redial;
use crate::wire::session::SESSION_METADATA_KEY;

/// Keeps a session with a robot, so that the robot stops what this client moves when the client dies.
///
/// Make tonic's clients from [`channel`](Self::channel): their monitored calls carry the session. It begins with
/// the first of them; heartbeats go over the same connection, and end when the last clone of this client and of
/// its channels is dropped.
///
/// ```no_run
/// use farlink::sessions::SessionsClient;
/// use farlink::proto::motor::{SetPowerRequest, motor_service_client::MotorServiceClient};
///
/// # async fn example(channel: farlink::Channel) -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = SessionsClient::new(channel);
/// let mut motor = MotorServiceClient::new(sessions.channel());
/// motor.set_power(SetPowerRequest { name: "m1".into(), power_pct: 0.5, extra: None }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SessionsClient {
    sessions: Sessions<Channel>,
}

/// How a [`SessionsClient`] is made.
#[derive(Debug, Clone)]
#[must_use]
pub struct SessionsClientBuilder {
    channel: Channel,
    options: SessionOptions,
    redial: Option<(String, DialOptions)>,
}

impl SessionsClientBuilder {
    /// Dials this address again when the connection is lost, as often as
    /// [`max_reconnect_attempts`](DialOptions#structfield.max_reconnect_attempts) says, and goes on with the
    /// session. By default a connection that is lost stays lost. See [`Redial`].
    pub fn redial(mut self, address: impl Into<String>, options: DialOptions) -> Self {
        self.redial = Some((address.into(), options));
        self
    }

    /// No sessions: calls pass as they are, and nothing stops the robot when this client dies. Default false.
    pub fn disabled(mut self, disabled: bool) -> Self {
        if disabled {
            self.options.policy = Policy::Disabled;
        } else if matches!(self.options.policy, Policy::Disabled) {
            self.options.policy = Policy::default();
        }
        self
    }

    /// How the session is kept.
    pub fn options(mut self, options: SessionOptions) -> Self {
        self.options = options;
        self
    }

    /// The client. Must be called inside a tokio runtime if it redials.
    pub fn build(self) -> SessionsClient {
        let channel = match self.redial {
            None => self.channel,
            Some((address, options)) => Channel::from_transport(Redial::new(self.channel, address, options)),
        };
        SessionsClient { sessions: Sessions::new(channel, self.options) }
    }
}

impl SessionsClient {
    /// A client over this channel, with the defaults.
    pub fn new(channel: Channel) -> Self {
        Self::builder(channel).build()
    }

    /// A client over this channel.
    pub fn builder(channel: Channel) -> SessionsClientBuilder {
        SessionsClientBuilder { channel, options: SessionOptions::new(), redial: None }
    }

    /// What clients of the robot's services are made from: its monitored calls carry the session.
    pub fn channel(&self) -> Sessions<Channel> {
        self.sessions.clone()
    }

    /// The robot's own service, over the same connection; its calls carry no session unless the policy says
    /// so.
    pub fn client(&self) -> RobotServiceClient<Sessions<Channel>> {
        RobotServiceClient::new(self.channel())
    }

    /// What a call that is made by other means has to carry: the session's id, started if need be, or nothing
    /// where there are no sessions. Cancel safe.
    ///
    /// # Errors
    /// [`SessionError`]: no session could be started; or, with [`OnExpiry::Surface`](super::OnExpiry::Surface), one has
    /// expired since.
    pub async fn metadata(&self) -> Result<MetadataMap, SessionError> {
        let mut metadata = MetadataMap::new();
        if matches!(self.state(), SessionState::Disabled) {
            return Ok(metadata);
        }
        let core = self.sessions.core();
        let ready = core.ready(None).await?;
        if let Some(session) = ready.replaces {
            core.told(&session);
            return Err(SessionError::Expired { session });
        }
        if let Some(session) = ready.session {
            let id = AsciiMetadataValue::try_from(session.header.as_bytes());
            let mut id = id.map_err(|_| SessionError::InvalidId)?;
            id.set_sensitive(true);
            metadata.insert(SESSION_METADATA_KEY, id);
        }
        Ok(metadata)
    }

    /// Ends the heartbeats now. The robot is not told: it stops what was moved when its window is over, unless
    /// the next monitored call goes on with the session before. Does not wait, may be called from anywhere.
    pub fn reset(&self) {
        self.sessions.core().reset(false, EndReason::Reset);
    }

    /// The same, and the next monitored call begins another session.
    pub fn forget(&self) {
        self.sessions.core().reset(true, EndReason::Reset);
    }

    /// How the session stands.
    pub fn state(&self) -> SessionState {
        self.sessions.core().session_state()
    }

    /// What happens to the session from now on.
    pub fn events(&self) -> SessionEvents {
        self.sessions.core().announcer.events()
    }

    /// What was done so far.
    pub fn stats(&self) -> SessionStats {
        let core = self.sessions.core();
        core.counters.stats(core.unknown_methods())
    }

    /// Whether there are no sessions, by policy.
    pub fn is_disabled(&self) -> bool {
        matches!(**self.sessions.core().policy.load(), Policy::Disabled)
    }

    /// From now on this method, `/package.Service/Method`, is monitored. Has no effect unless the policy is
    /// [`Policy::Descriptor`].
    pub fn register(&self, path: &str) {
        self.sessions.core().policy.rcu(|policy| match &**policy {
            Policy::Descriptor(table) => Arc::new(Policy::Descriptor(table.clone().with_method(path))),
            other => Arc::new(other.clone()),
        });
    }
}
