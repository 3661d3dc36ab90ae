//! Why a connection failed, and what was asked of it in vain.

use std::time::Duration;

use super::channels::SendError;
use crate::peer::engine::sctp::CloseReason;
use crate::peer::session::SessionError;

/// Why a connection failed. The text is for people and ends up in
/// [`Phase::Failed`](crate::peer::Phase::Failed).
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// Gathering ended without a single candidate.
    #[error("this host has no address to connect from, or all of them are filtered out")]
    NoAddress,
    /// The same where only relays were wanted.
    #[error(
        "relays only were asked for and no TURN server gave one: \
         check its address, and whether it takes the user name and credential"
    )]
    NoRelay,
    /// No pair of candidates worked.
    #[error(
        "no path to the peer was found in {} s ({here} candidates here, {there} of the peer's){hint}",
        .looked.as_secs()
    )]
    NoPath {
        /// How long it was looked for.
        looked: Duration,
        /// Our candidates.
        here: usize,
        /// The peer's.
        there: usize,
        /// What they say about the network; may be empty.
        hint: &'static str,
    },
    /// Our relay is gone, and no other pair of candidates works. Names the relay's server.
    #[error("the relay in use is lost and no other path to the peer works ({0})")]
    Relay(String),
    /// A path was found, and no channel came of it.
    #[error("a path was found, but the peer finished no handshake on it")]
    Handshake,
    /// The peer is not who its description says: someone is in between, or the descriptions were mixed up.
    #[error("the DTLS handshake failed: the certificate is not the one of the description")]
    Fingerprint,
    /// The DTLS crate gave up.
    #[error("the DTLS handshake failed: {0}")]
    Dtls(dimpl::Error),
    /// SCTP gave up.
    #[error("SCTP failed: {0}")]
    Sctp(CloseReason),
    /// A message had to be sent that cannot be.
    #[error("a message could not be sent: {0}")]
    Message(SendError),
    /// Nothing came over the path.
    #[error("nothing came from the peer for {} s", .0.as_secs_f64())]
    Silence(Duration),
    /// Things came, but no answer to a probe (RFC 7675): we may not go on sending.
    #[error("the peer answered no probe for {} s", .0.as_secs_f64())]
    Consent(Duration),
}

/// What went wrong in negotiation. The connection is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NegotiationError {
    /// A caller offers, an answerer answers.
    #[error("this is the other side's to do")]
    NotOurs,
    /// An offer or an answer is taken once.
    #[error("it was done already")]
    Twice,
    /// An answer needs its offer; a restart needs a negotiated connection.
    #[error("there is no offer yet")]
    NoOffer,
    /// Nothing more will come.
    #[error("the connection is closed")]
    Closed,
    /// The other side's description cannot be used.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Why a candidate is not used. It never harms the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CandidateError {
    /// Not the grammar of RFC 8839 5.1.
    #[error("it cannot be read")]
    Syntax,
    /// Neither UDP nor passive TCP.
    #[error("its protocol is not supported")]
    Protocol,
    /// Nothing can be sent there: port 0, an unspecified or a multicast address, another component.
    #[error("nothing can be sent to it")]
    Unusable,
    /// The peer has too many.
    #[error("there are too many")]
    TooMany,
}
