//! Descriptions in and out.

use std::time::Instant;

use super::channels::{Channels, Message, NEGOTIATION};
use super::failure::NegotiationError;
use super::{Connection, negotiation};
use crate::peer::session::Remote;
use crate::peer::{Description, Role};

/// What may wait on the negotiation channel before further offers are ignored, in bytes.
const MAX_ANSWERS: usize = 256 * 1024;

impl Connection {
    /// Makes the offer. Caller only, once. Candidates so far are in it.
    ///
    /// # Errors
    /// [`NegotiationError`] out of turn. It harms nothing.
    pub(crate) fn create_offer(&mut self, _now: Instant) -> Result<Description, NegotiationError> {
        self.is_alive()?;
        self.negotiation.offer()?;
        self.local_description().ok_or(NegotiationError::NoOffer)
    }

    /// Takes the caller's offer and makes the answer. Answerer only, once.
    ///
    /// # Errors
    /// [`NegotiationError`] out of turn, or for an offer that cannot be used. It harms nothing.
    pub(crate) fn accept_offer(
        &mut self,
        now: Instant,
        offer: &Description,
    ) -> Result<Description, NegotiationError> {
        self.is_alive()?;
        self.negotiation.accept(&offer.sdp)?;
        self.begin(now);
        self.local_description().ok_or(NegotiationError::NoOffer)
    }

    /// Takes the answer to [`create_offer`](Self::create_offer) or to [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`NegotiationError`] out of turn, or for an answer that cannot be used. It harms nothing.
    pub(crate) fn set_answer(&mut self, now: Instant, answer: &Description) -> Result<(), NegotiationError> {
        self.is_alive()?;
        self.negotiation.answer(&answer.sdp)?;
        if self.dtls.is_none() {
            self.begin(now);
        } else {
            self.look(now);
            self.pump(now);
        }
        Ok(())
    }

    /// Looks for another path (RFC 8445 9, an ICE restart): an offer with new credentials, for the peer's
    /// [`accept_again`](Self::accept_again). Either side may. The old path is used until there is a new one; if
    /// there is none within the time for looking, the connection fails.
    ///
    /// # Errors
    /// [`NegotiationError`] before the connection was negotiated, and after its end.
    #[cfg_attr(not(test), expect(dead_code, reason = "the seam has no restart; the peer's are followed"))]
    pub(crate) fn restart(&mut self, _now: Instant) -> Result<Description, NegotiationError> {
        self.is_alive()?;
        self.negotiation.offer_again()?;
        self.ice.restart();
        self.local_description().ok_or(NegotiationError::NoOffer)
    }

    /// Answers another offer of the peer, on a connection that was negotiated: media is refused, a restart of ICE
    /// is followed, all else stays as it is. Offers on the negotiation channel are answered without being asked.
    ///
    /// # Errors
    /// [`NegotiationError`] before the connection was negotiated, after its end, or for an offer that cannot be
    /// used. It harms nothing.
    pub(crate) fn accept_again(
        &mut self,
        now: Instant,
        offer: &Description,
    ) -> Result<Description, NegotiationError> {
        self.is_alive()?;
        if self.negotiation.accept_again(&offer.sdp)? {
            self.ice.restart();
            self.look(now);
            self.pump(now);
        }
        self.local_description().ok_or(NegotiationError::NoOffer)
    }

    /// Our newest description, with the candidates so far; `None` before there is one.
    pub(crate) fn local_description(&self) -> Option<Description> {
        let (candidates, complete) = self.ice.local();
        self.negotiation.describe(self.ice.credentials(), candidates, complete)
    }

    /// The media section that our candidates belong to: its id and index, the peer's of an answer.
    pub(crate) fn section(&self) -> (String, u32) {
        let remote = self.negotiation.remote().filter(|_| self.config.role == Role::Answerer);
        remote.map_or_else(|| ("0".to_owned(), 0), Remote::data_section)
    }

    /// What lies on the negotiation channel. What is not an offer is ignored, and we make none there, so two
    /// offers cannot meet.
    pub(super) fn answer_offers(&mut self, now: Instant) {
        loop {
            let Some(association) = &mut self.association else { return };
            let Some(frame) = Channels::receive(NEGOTIATION, association) else { return };
            if association.buffered(NEGOTIATION) > MAX_ANSWERS {
                continue;
            }
            let Ok(offer) = negotiation::offer_in(&frame.data) else {
                #[cfg(test)]
                self.ignored.push(frame);
                continue;
            };
            let Ok(answer) = self.accept_again(now, &offer) else { continue };
            // One that is too long, or that comes too late, is nobody's business.
            let _ = self.send(now, NEGOTIATION, Message::text(answer.encode()));
        }
    }

    fn is_alive(&self) -> Result<(), NegotiationError> {
        if self.life.phase().is_final() { Err(NegotiationError::Closed) } else { Ok(()) }
    }
}
