//! Channel 1: answers the offers that a robot with cameras, or a browser, makes once connected.
//!
//! All media is refused; the connection stays as it is. What is not an offer is ignored, and we make none,
//! so two offers cannot meet.
//!
//! Contract: goutils `rpc/wrtc_peer.go`: text frames, base64 of the description's JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;
use webrtc::sctp;
use webrtc::sctp::chunk::chunk_payload_data::PayloadProtocolIdentifier;
use webrtc::sctp::stream::Stream;

use super::driver::Start;
use super::ice::Ice;
use crate::peer::session::{self, Local, Setup};
use crate::peer::{Description, DescriptionKind, MAX_CHANNEL_MESSAGE};

/// How long an answer may wait for room.
const SEND: Duration = Duration::from_secs(5);

pub(super) struct Negotiation {
    stream: Arc<Stream>,
    answers: Answers,
    ice: Arc<Ice>,
}

/// The rules: which offers are answered, and how.
struct Answers {
    local: Local,
    remote_ufrag: String,
    setup: Setup,
}

impl Negotiation {
    pub(super) fn new(stream: Arc<Stream>, start: Start, ice: Arc<Ice>) -> Self {
        let setup = if start.dtls_client { Setup::Active } else { Setup::Passive };
        let answers = Answers { local: start.local, remote_ufrag: start.remote.ufrag, setup };
        Self { stream, answers, ice }
    }

    pub(super) async fn run(mut self) -> Infallible {
        let mut buffer = vec![0; MAX_CHANNEL_MESSAGE];
        loop {
            let length = match self.stream.read_sctp(&mut buffer).await {
                Ok((0, PayloadProtocolIdentifier::Unknown)) => return std::future::pending().await,
                Ok((length, _)) => length,
                Err(sctp::Error::ErrShortBuffer { .. }) => continue,
                Err(_) => return std::future::pending().await,
            };
            let frame = buffer.get(..length).unwrap_or_default();
            match self.answers.to(frame, &self.ice.found().candidates) {
                Ok(answer) => self.send(answer).await,
                Err(why) => debug!(why, "ignored a frame of the negotiation channel"),
            }
        }
    }

    async fn send(&self, answer: String) {
        let answer = Bytes::from(answer);
        if answer.len() > MAX_CHANNEL_MESSAGE {
            debug!("an answer was too long for the negotiation channel");
            return;
        }
        let written = self.stream.write_sctp(&answer, PayloadProtocolIdentifier::String);
        if !matches!(tokio::time::timeout(SEND, written).await, Ok(Ok(_))) {
            debug!("could not send an answer on the negotiation channel");
        }
    }
}

impl Answers {
    fn to(&mut self, frame: &[u8], candidates: &[String]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(frame).map_err(|_| "not text")?;
        let offer = Description::decode(text).map_err(|_| "not a description")?;
        if offer.kind != DescriptionKind::Offer {
            return Err("not an offer");
        }
        let offer = session::read(&offer.sdp).map_err(|_| "an offer that cannot be used")?;
        if offer.ufrag != self.remote_ufrag {
            return Err("an ICE restart, which is not supported");
        }
        self.local.version += 1;
        let sdp = session::answer(&self.local, &offer, self.setup, candidates, true);
        Ok(Description::answer(sdp).encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(ufrag: &str) -> Local {
        Local {
            id: 1,
            version: 1,
            ufrag: ufrag.to_owned(),
            pwd: "p".to_owned(),
            fingerprint: "AA".to_owned(),
        }
    }

    #[test]
    fn an_offer_is_answered_and_all_else_ignored() {
        let mut answers =
            Answers { local: local("here"), remote_ufrag: "there".to_owned(), setup: Setup::Passive };
        let offer = |ufrag| Description::offer(session::offer(&local(ufrag), &[], true)).encode();
        let answer = answers.to(offer("there").as_bytes(), &[]).unwrap();
        let answer = Description::decode(&answer).unwrap();
        assert_eq!(answer.kind, DescriptionKind::Answer);
        assert!(answer.sdp.contains("o=- 1 2 ") && answer.sdp.contains("a=setup:passive"));
        assert!(answers.to(offer("restarted").as_bytes(), &[]).is_err());
        assert!(answers.to(Description::answer("v=0").encode().as_bytes(), &[]).is_err());
        assert!(answers.to(Description::offer("v=0").encode().as_bytes(), &[]).is_err());
        assert!(answers.to(b"%%%", &[]).is_err() && answers.to(&[0xff], &[]).is_err());
    }
}
