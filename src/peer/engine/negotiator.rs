//! The negotiating side of a peer: descriptions and candidates.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use tracing::debug;

use super::connection::NegotiationError;
use super::core::{Core, Shared, now};
use super::gathering::{self, Gatherer, interfaces};
use super::settings::Settings;
use super::sockets::Udp;
use crate::peer::{Candidate, Description, IceServer, PeerConnection, PeerError, PeerStats};

pub(super) struct Negotiator {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<Settings>,
    pub(super) servers: Vec<IceServer>,
    pub(super) relay_only: bool,
}

impl Negotiator {
    /// Binds a socket to each address; why the first did not work that did not. The system is asked while nobody waits for the lock.
    fn bind(&self) -> (Vec<Udp>, Option<String>) {
        let (mut udp, mut failure) = (Vec::new(), None);
        for ip in interfaces(&self.settings.interfaces) {
            match Udp::bind(SocketAddr::new(ip, 0), self.settings.buffers) {
                Ok(socket) => udp.push(socket),
                Err(error) => {
                    debug!(%error, %ip, "an address of this machine is not used");
                    failure.get_or_insert_with(|| format!("cannot bind {ip}: {error}"));
                }
            }
        }
        (udp, failure)
    }

    /// Starts gathering, for this section of the description.
    fn gather(&self, core: &mut Core, udp: Vec<Udp>, section: (String, u32)) {
        let bases: Vec<SocketAddr> = udp.iter().map(Udp::local).collect();
        let config = gathering::Config {
            servers: self.servers.clone(),
            relay_only: self.relay_only,
            patience: self.settings.patience,
        };
        let now = now();
        core.gather(now, Gatherer::new(config, &bases, now), udp, section);
    }

    /// Does one step of the negotiation, and starts gathering when it succeeds.
    fn begin(
        &self,
        context: &'static str,
        step: impl FnOnce(&mut Core) -> Result<Description, NegotiationError>,
    ) -> Result<Description, PeerError> {
        let (udp, failure) = self.bind();
        self.shared.with(|core| {
            if let Some(failure) = failure {
                core.blame(failure);
            }
            let made = step(core).map_err(|cause| PeerError::because(context, cause))?;
            let section = core.connection.section();
            self.gather(core, udp, section);
            // With the candidates that need nobody's help.
            Ok(core.connection.local_description().unwrap_or(made))
        })
    }
}

impl PeerConnection for Negotiator {
    fn create_offer(&self) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(async { self.begin("cannot create the offer", |core| core.connection.create_offer(now())) })
    }

    fn accept_offer(&self, offer: Description) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(async move {
            self.begin("cannot accept the offer", |core| core.connection.accept_offer(now(), &offer))
        })
    }

    fn set_answer(&self, answer: Description) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move {
            self.shared.with(|core| {
                let now = now();
                let taken = core.connection.set_answer(now, &answer);
                core.pump(now);
                taken.map_err(|cause| PeerError::because("cannot take the answer", cause))
            })
        })
    }

    fn local_description(&self) -> BoxFuture<'_, Option<Description>> {
        Box::pin(async { self.shared.with(|core| core.connection.local_description()) })
    }

    fn add_remote_candidate(&self, candidate: Candidate) -> BoxFuture<'_, Result<(), PeerError>> {
        // Mid and index are not looked at: there is one section, whatever peers call it.
        Box::pin(
            async move { self.shared.with(|core| core.add_remote_candidate(now(), &candidate.candidate)) },
        )
    }

    fn stats(&self) -> BoxFuture<'_, PeerStats> {
        Box::pin(async { self.shared.with(|core| core.connection.stats()) })
    }

    fn close(&self) {
        self.shared.with(Core::close);
    }
}

impl fmt::Debug for Negotiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiator").field("relay_only", &self.relay_only).finish_non_exhaustive()
    }
}
