//! How a channel is to be dialed again, and what calls do meanwhile.

use std::fmt;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::machine::Machine;
use super::{Gate, Handle, Redial, driver};
use crate::channel::{Channel, dial};
use crate::dial::{DialError, DialOptions, Fallback};
use crate::transport::{Transport as _, TransportKind};

/// What a call does that is made while there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhileDown {
    /// It waits for the next connection, within its own deadline; for ever if it has none and attempts have
    /// no bound.
    #[default]
    Wait,
    /// It fails with UNAVAILABLE, as not sent.
    Fail,
}

/// Makes another connection to the same robot. Closures are dialers.
///
/// What it returns is taken as it is, whatever its transport. Dropping the future must end the dial.
/// [`DialError::Config`] and [`DialError::Denied`] end reconnecting for good; other errors are tried again.
pub trait Dialer: Send + Sync + 'static {
    /// Begins to dial. Never called while another dial is under way.
    fn dial(&self) -> BoxFuture<'static, Result<Channel, DialError>>;
}

impl<F> Dialer for F
where
    F: Fn() -> BoxFuture<'static, Result<Channel, DialError>> + Send + Sync + 'static,
{
    fn dial(&self) -> BoxFuture<'static, Result<Channel, DialError>> {
        self()
    }
}

/// Settings of a [`Redial`].
#[derive(Debug, Clone, Default)]
pub struct RedialBuilder {
    while_down: WhileDown,
    may_change_transport: bool,
    max_attempts: Option<u32>,
}

impl RedialBuilder {
    /// What calls do while there is no connection. Default [`WhileDown::Wait`].
    #[must_use]
    pub fn while_down(mut self, while_down: WhileDown) -> Self {
        self.while_down = while_down;
        self
    }

    /// Dial again with the options as they are, so that what was WebRTC may become direct and the other way
    /// round. Default false: the transport stays what it was first.
    #[must_use]
    pub fn may_change_transport(mut self, may: bool) -> Self {
        self.may_change_transport = may;
        self
    }

    /// After how many failed attempts in a row it gives up; 0 for never. Default: what the options say, or 3
    /// with a dialer of your own.
    #[must_use]
    pub fn max_attempts(mut self, max: u32) -> Self {
        self.max_attempts = Some(max);
        self
    }

    /// Dials, and dials again whenever the connection is lost. Cancel safe: dropping the future ends the
    /// dial. Spawns one task.
    ///
    /// # Errors
    /// [`DialError`] of the first dial, which is not repeated.
    pub async fn dial(self, address: impl Into<String>, options: DialOptions) -> Result<Redial, DialError> {
        let address = address.into();
        let channel = dial(&address, options.clone()).await?;
        Ok(self.build(channel, address, options))
    }

    /// Takes over a channel that was dialed with this address and these options. Spawns one task; must be
    /// called inside a tokio runtime.
    pub fn build(self, channel: Channel, address: impl Into<String>, mut options: DialOptions) -> Redial {
        if !self.may_change_transport {
            match channel.transport() {
                TransportKind::Direct => options.disable_webrtc = true,
                TransportKind::WebRtc => options.fallback = Fallback::Never,
            }
        }
        let max = self.max_attempts.unwrap_or(options.max_reconnect_attempts);
        let robot = Robot { address: address.into(), options };
        self.max_attempts(max).build_with(channel, robot)
    }

    /// Takes over a channel; others like it come from this dialer. Spawns one task; must be called inside a
    /// tokio runtime.
    pub fn build_with(self, channel: Channel, dialer: impl Dialer) -> Redial {
        let max = self.max_attempts.unwrap_or_else(|| DialOptions::default().max_reconnect_attempts);
        let machine = Machine::new(max, fastrand::Rng::new(), Instant::now());
        let (link, report) = (channel.watch(), channel.report());
        let gate = Arc::new(Gate::new(channel, self.while_down));
        let span = tracing::info_span!("redial");
        tokio::spawn(driver::run(Arc::clone(&gate), machine, Arc::new(dialer), link).instrument(span));
        Redial { handle: Arc::new(Handle { gate, first_dial: report }) }
    }
}

/// Dials a robot as the first time.
struct Robot {
    address: String,
    options: DialOptions,
}

impl Dialer for Robot {
    fn dial(&self) -> BoxFuture<'static, Result<Channel, DialError>> {
        Box::pin(dial(self.address.clone(), self.options.clone()))
    }
}

impl fmt::Debug for Robot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Robot").field("address", &self.address).finish_non_exhaustive()
    }
}
