//! What both sides told each other in descriptions, and how far they are (RFC 8829 in small: one data section,
//! a caller that offers, an answerer that answers, and restarts of ICE).
//!
//! # Invariant
//! What is refused changes nothing. The DTLS role and the peer's fingerprints, once agreed on, stay.

use crate::peer::engine::connection::failure::NegotiationError;
use crate::peer::session::{self, Local, Remote, SessionError, Setup};
use crate::peer::{Description, DescriptionKind, Role};

/// The descriptions of both sides.
#[derive(Debug)]
pub(super) struct Negotiation {
    role: Role,
    /// Names the session in our descriptions, and counts them.
    id: u64,
    version: u64,
    fingerprint: String,
    /// What our description is made from.
    made: Option<Made>,
    /// The peer's newest description; the first decides who the peer is.
    remote: Option<Remote>,
    setup: Setup,
}

/// Which description of ours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Offer { answered: bool },
    Answer,
}

impl Negotiation {
    pub(super) fn new(role: Role, fingerprint: &str) -> Self {
        Self {
            role,
            // RFC 8866 wants a number that fits 63 bits.
            id: fastrand::u64(..) >> 1,
            version: 0,
            fingerprint: fingerprint.to_owned(),
            made: None,
            remote: None,
            setup: Setup::ActPass,
        }
    }

    /// The caller's turn to offer, once.
    pub(super) fn offer(&mut self) -> Result<(), NegotiationError> {
        match (self.role, self.made) {
            (Role::Answerer, _) => Err(NegotiationError::NotOurs),
            (Role::Caller, Some(_)) => Err(NegotiationError::Twice),
            (Role::Caller, None) => {
                self.made = Some(Made::Offer { answered: false });
                self.version += 1;
                Ok(())
            }
        }
    }

    /// An offer of the caller, once.
    pub(super) fn accept(&mut self, offer: &str) -> Result<&Remote, NegotiationError> {
        let remote = session::read(offer)?;
        match (self.role, self.made) {
            (Role::Caller, _) => return Err(NegotiationError::NotOurs),
            (Role::Answerer, Some(_)) => return Err(NegotiationError::Twice),
            (Role::Answerer, None) => {}
        }
        // Active whenever there is a choice, as pion is: it saves waiting for the other side's answer.
        self.setup = if remote.setup == Setup::Active { Setup::Passive } else { Setup::Active };
        self.made = Some(Made::Answer);
        self.version += 1;
        Ok(self.remote.insert(remote))
    }

    /// The answer to our offer.
    pub(super) fn answer(&mut self, answer: &str) -> Result<&Remote, NegotiationError> {
        let remote = session::read(answer)?;
        match (self.role, self.made) {
            (_, None) => return Err(NegotiationError::NoOffer),
            (_, Some(Made::Answer)) => return Err(NegotiationError::NotOurs),
            (_, Some(Made::Offer { answered: true })) => return Err(NegotiationError::Twice),
            (_, Some(Made::Offer { answered: false })) => {}
        }
        self.made = Some(Made::Offer { answered: true });
        if self.setup == Setup::ActPass {
            // One that answers "actpass" breaks the rules and most likely starts.
            self.setup = if remote.setup == Setup::Passive { Setup::Active } else { Setup::Passive };
        }
        Ok(self.remote.insert(remote))
    }

    /// A new offer on a connection that was negotiated, to find another path. Either side may make it.
    pub(super) fn offer_again(&mut self) -> Result<(), NegotiationError> {
        if self.remote.is_none() {
            return Err(NegotiationError::NoOffer);
        }
        self.made = Some(Made::Offer { answered: false });
        self.version += 1;
        Ok(())
    }

    /// Another offer of the peer, on a connection that was negotiated. Whether it restarts ICE.
    ///
    /// Media in it is refused; the transport's identity and roles are what they were, whatever it says.
    pub(super) fn accept_again(&mut self, offer: &str) -> Result<bool, NegotiationError> {
        let remote = session::read(offer)?;
        let Some(before) = &self.remote else { return Err(NegotiationError::NoOffer) };
        let restarts = remote.ufrag != before.ufrag || remote.pwd != before.pwd;
        self.made = Some(Made::Answer);
        self.version += 1;
        self.remote = Some(remote);
        Ok(restarts)
    }

    /// Our description with these candidates; `None` before there is one.
    pub(super) fn describe(
        &self,
        credentials: &is::IceCreds,
        candidates: &[String],
        complete: bool,
    ) -> Option<Description> {
        let local = Local {
            id: self.id,
            version: self.version,
            ufrag: credentials.ufrag.clone(),
            pwd: credentials.pass.clone(),
            fingerprint: self.fingerprint.clone(),
        };
        match (self.made?, &self.remote) {
            (Made::Offer { .. }, _) => Some(Description::offer(session::offer(&local, candidates, complete))),
            (Made::Answer, Some(offer)) => {
                let sdp = session::answer(&local, offer, self.setup, candidates, complete);
                Some(Description::answer(sdp))
            }
            (Made::Answer, None) => None,
        }
    }

    /// Whether we begin the DTLS handshake.
    pub(super) fn is_dtls_client(&self) -> bool {
        self.setup == Setup::Active
    }

    /// The peer's newest description.
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }
}

/// The offer in a frame of the negotiation channel: base64 of the description's JSON (goutils
/// `rpc/wrtc_peer.go`).
pub(super) fn offer_in(frame: &[u8]) -> Result<Description, SessionError> {
    let text = std::str::from_utf8(frame).map_err(|_| SessionError::NoDataSection)?;
    let offer = Description::decode(text).map_err(|_| SessionError::NoDataSection)?;
    if offer.kind == DescriptionKind::Offer { Ok(offer) } else { Err(SessionError::NoDataSection) }
}
