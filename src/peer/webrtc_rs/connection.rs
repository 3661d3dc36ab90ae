//! The negotiating side of a peer: descriptions and candidates.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::certificate::Identity;
use super::driver::{self, Life, Start};
use super::ice::Ice;
use super::remote::RemoteCandidates;
use crate::peer::session::{self, Local, Remote, Setup};
use crate::peer::{Candidate, Description, PeerConnection, PeerError, PeerStats, Role};

pub(super) struct Connection {
    pub(super) role: Role,
    pub(super) ice: Arc<Ice>,
    pub(super) remote: Arc<RemoteCandidates>,
    pub(super) identity: Arc<Identity>,
    pub(super) life: Life,
    pub(super) negotiation: Mutex<Negotiated>,
}

/// How far the negotiation is.
pub(super) struct Negotiated {
    candidates: Option<mpsc::Sender<Candidate>>,
    start: Option<oneshot::Sender<Start>>,
    local: Option<Local>,
    /// Of the answerer: what it answered, and how.
    offer: Option<(Remote, Setup)>,
}

impl Negotiated {
    pub(super) fn new(candidates: mpsc::Sender<Candidate>, start: oneshot::Sender<Start>) -> Self {
        Self { candidates: Some(candidates), start: Some(start), local: None, offer: None }
    }
}

impl Connection {
    fn negotiated(&self) -> MutexGuard<'_, Negotiated> {
        self.negotiation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what starts gathering, once.
    fn begin(&self, role: Role, context: &'static str) -> Result<mpsc::Sender<Candidate>, PeerError> {
        if self.life.end.is_cancelled() {
            return Err(PeerError::because(context, "the connection is closed"));
        }
        if self.role != role {
            return Err(PeerError::because(context, "this is the other side's to do"));
        }
        let candidates = self.negotiated().candidates.take();
        candidates.ok_or_else(|| PeerError::because(context, "it was done already"))
    }

    async fn local(&self) -> Local {
        let (ufrag, pwd) = self.ice.agent.get_local_user_credentials().await;
        let fingerprint = self.identity.fingerprint.clone();
        // RFC 8866 wants a number that fits 63 bits.
        Local { id: fastrand::u64(..) >> 1, version: 1, ufrag, pwd, fingerprint }
    }

    /// What the description brings is enough: a bad candidate in it is no reason to fail.
    fn add_all(&self, candidates: &[String]) {
        for candidate in candidates {
            if let Err(error) = self.remote.add(candidate, &self.ice.agent, &self.life) {
                debug!(%error, candidate, "left out a candidate of the description");
            }
        }
    }

    async fn offer(&self) -> Result<Description, PeerError> {
        let candidates = self.begin(Role::Caller, "cannot create the offer")?;
        let local = self.local().await;
        self.negotiated().local = Some(local.clone());
        self.ice.gather(("0".to_owned(), 0), candidates)?;
        let found = self.ice.found();
        Ok(Description::offer(session::offer(&local, &found.candidates, found.complete)))
    }

    async fn answer(&self, offer: Description) -> Result<Description, PeerError> {
        const CONTEXT: &str = "cannot accept the offer";
        let remote = session::read(&offer.sdp).map_err(|cause| PeerError::because(CONTEXT, cause))?;
        let candidates = self.begin(Role::Answerer, CONTEXT)?;
        let local = self.local().await;
        // Active whenever there is a choice, as pion is: it saves waiting for the other side's answer.
        let setup = if remote.setup == Setup::Active { Setup::Passive } else { Setup::Active };
        self.add_all(&remote.candidates);
        let start = {
            let mut negotiated = self.negotiated();
            negotiated.local = Some(local.clone());
            negotiated.offer = Some((remote.clone(), setup));
            negotiated.start.take()
        };
        self.ice.gather(remote.data_section(), candidates)?;
        let found = self.ice.found();
        let sdp = session::answer(&local, &remote, setup, &found.candidates, found.complete);
        let start = start
            .map(|start| start.send(Start { local, remote, dtls_client: setup == Setup::Active }).is_ok());
        if start != Some(true) {
            return Err(PeerError::because(CONTEXT, "the connection is closed"));
        }
        Ok(Description::answer(sdp))
    }

    fn take_answer(&self, answer: &Description) -> Result<(), PeerError> {
        const CONTEXT: &str = "cannot take the answer";
        let remote = session::read(&answer.sdp).map_err(|cause| PeerError::because(CONTEXT, cause))?;
        if self.role != Role::Caller {
            return Err(PeerError::because(CONTEXT, "this is the other side's to do"));
        }
        let (local, start) = {
            let mut negotiated = self.negotiated();
            let Some(local) = negotiated.local.clone() else {
                return Err(PeerError::because(CONTEXT, "there is no offer yet"));
            };
            let start = negotiated.start.take();
            (local, start.ok_or_else(|| PeerError::because(CONTEXT, "there was one already"))?)
        };
        self.add_all(&remote.candidates);
        // One that answers "actpass" breaks the rules and most likely starts.
        let dtls_client = remote.setup == Setup::Passive;
        start
            .send(Start { local, remote, dtls_client })
            .map_err(|_| PeerError::because(CONTEXT, "the connection is closed"))
    }

    fn description(&self) -> Option<Description> {
        let negotiated = self.negotiated();
        let local = negotiated.local.as_ref()?;
        let found = self.ice.found();
        Some(match &negotiated.offer {
            None => Description::offer(session::offer(local, &found.candidates, found.complete)),
            Some((offer, setup)) => {
                Description::answer(session::answer(local, offer, *setup, &found.candidates, found.complete))
            }
        })
    }
}

impl PeerConnection for Connection {
    fn create_offer(&self) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(self.offer())
    }

    fn accept_offer(&self, offer: Description) -> BoxFuture<'_, Result<Description, PeerError>> {
        Box::pin(self.answer(offer))
    }

    fn set_answer(&self, answer: Description) -> BoxFuture<'_, Result<(), PeerError>> {
        Box::pin(async move { self.take_answer(&answer) })
    }

    fn local_description(&self) -> BoxFuture<'_, Option<Description>> {
        Box::pin(async { self.description() })
    }

    fn add_remote_candidate(&self, candidate: Candidate) -> BoxFuture<'_, Result<(), PeerError>> {
        // Mid and index are not looked at: there is one section, whatever peers call it. Neither is the
        // fragment: there is one generation.
        Box::pin(async move { self.remote.add(&candidate.candidate, &self.ice.agent, &self.life) })
    }

    fn stats(&self) -> BoxFuture<'_, PeerStats> {
        Box::pin(async {
            let agent = &self.ice.agent;
            PeerStats {
                path: driver::path(&self.ice, &self.remote),
                rtt: None, // The crate measures none.
                bytes_sent: agent.get_bytes_sent() as u64,
                bytes_received: agent.get_bytes_received() as u64,
            }
        })
    }

    fn close(&self) {
        self.life.end.cancel();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("role", &self.role).finish_non_exhaustive()
    }
}
