//! The task of one peer: brings the connection up, watches it, and takes it down.
//!
//! # Invariant
//! It ends, and with it everything of the peer, once [`Life::end`] is cancelled, and a bounded time after
//! failure or the peer's close.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use webrtc::dtls;
use webrtc::dtls::conn::DTLSConn;
use webrtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc::ice::candidate::Candidate;
use webrtc::ice::state::ConnectionState;
use webrtc::sctp;
use webrtc::sctp::association::Association;
use webrtc::sctp::chunk::chunk_payload_data::PayloadProtocolIdentifier;
use webrtc::sctp::stream::Stream;
use webrtc::util::Conn;

use super::certificate::{self, Identity};
use super::gate::{Gate, Reader};
use super::ice::Ice;
use super::negotiation::Negotiation;
use super::remote::RemoteCandidates;
use super::timing;
use super::window::{RECEIVE_WINDOW, Window};
use crate::peer::session::{Local, Remote};
use crate::peer::{MAX_CHANNEL_MESSAGE, Path, PeerState, Phase, Role};

const SCTP_PORT: u16 = 5000;

/// The milestones of a peer, shared by its parts.
#[derive(Clone, Default)]
pub(super) struct Life {
    /// Cancelled by this side: close everything, now.
    pub(super) end: CancellationToken,
    /// Nothing new will come from the peer.
    pub(super) gone: CancellationToken,
    /// The channel's reader has collected everything, or is gone.
    pub(super) drained: CancellationToken,
    pub(super) reader: Arc<Reader>,
    pub(super) window: Arc<Window>,
    /// A test that speaks on channel 1 itself.
    #[cfg(test)]
    pub(super) tap: Arc<Mutex<Option<oneshot::Sender<Arc<Stream>>>>>,
}

/// What the negotiation comes to.
pub(super) struct Start {
    pub(super) local: Local,
    pub(super) remote: Remote,
    pub(super) dtls_client: bool,
}

pub(super) struct Driver {
    pub(super) role: Role,
    pub(super) ice: Arc<Ice>,
    pub(super) remote: Arc<RemoteCandidates>,
    pub(super) identity: Arc<Identity>,
    pub(super) life: Life,
    pub(super) state: watch::Sender<PeerState>,
}

/// What is up and must be taken down.
#[derive(Default)]
struct Standing {
    parts: Mutex<Parts>,
    ending: CancellationToken,
}

#[derive(Default)]
struct Parts {
    dtls: Option<Arc<DTLSConn>>,
    association: Option<Arc<Association>>,
}

impl Standing {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_down(&self) {
        let Parts { dtls, association } = std::mem::take(&mut *self.parts());
        if let Some(dtls) = dtls {
            // Tells the peer.
            let _ = timeout(timing::GOODBYE, dtls.close()).await;
        }
        if let Some(association) = association {
            let _ = timeout(timing::GOODBYE, association.close()).await;
        }
        self.ending.cancel();
    }
}

impl Driver {
    pub(super) async fn run(self, started: oneshot::Receiver<Start>, stream: oneshot::Sender<Arc<Stream>>) {
        let standing = Standing::default();
        let life = &self.life;
        let last = tokio::select! {
            biased;
            () = life.end.cancelled() => Phase::Closed,
            last = self.live(started, stream, &standing) => last,
        };
        debug!(phase = ?last, "peer connection ends");
        self.enter(last);
        life.gone.cancel();
        if standing.parts().association.is_some() {
            tokio::select! {
                () = life.end.cancelled() => {}
                () = life.drained.cancelled() => {}
                () = tokio::time::sleep(timing::DRAIN) => {}
            }
        }
        life.drained.cancel();
        standing.take_down().await;
        self.ice.close().await;
    }

    async fn live(
        &self,
        started: oneshot::Receiver<Start>,
        stream: oneshot::Sender<Arc<Stream>>,
        standing: &Standing,
    ) -> Phase {
        // A connection that nobody can negotiate any more waits for the end of its channel.
        let Ok(start) = started.await else { return std::future::pending().await };
        self.enter(Phase::Connecting);
        let [data, negotiation] = match self.connect(&start, standing).await {
            Ok(streams) => streams,
            Err(why) => {
                // Before `stream` is dropped, which ends the channel: who sees that asks the state why.
                self.enter(Phase::Failed(why.clone()));
                return Phase::Failed(why);
            }
        };
        // Nobody wants it when the channel was dropped; then the end is near.
        let _ = stream.send(data);
        #[cfg(test)]
        let tap = self.life.tap.lock().unwrap().take();
        #[cfg(test)]
        if let Some(tap) = tap {
            let _ = tap.send(negotiation);
            return self.watch().await;
        }
        let negotiation = Negotiation::new(negotiation, start, Arc::clone(&self.ice));
        tokio::select! {
            last = self.watch() => last,
            last = negotiation.run() => match last {},
        }
    }

    /// Follows the state of the path until something ends the connection.
    async fn watch(&self) -> Phase {
        let mut ice = self.ice.state.clone();
        loop {
            let state = *ice.borrow_and_update();
            match state {
                ConnectionState::Failed | ConnectionState::Closed => {
                    return Phase::Failed("nothing came from the peer for 10 s".to_owned());
                }
                ConnectionState::Disconnected => self.enter(Phase::Disconnected),
                ConnectionState::Connected | ConnectionState::Completed => self.enter(Phase::Connected),
                _ => {}
            }
            tokio::select! {
                () = self.life.gone.cancelled() => return Phase::ClosedByPeer,
                changed = ice.changed() => {
                    if changed.is_err() {
                        return Phase::Failed("the ICE agent ended".to_owned());
                    }
                }
            }
        }
    }

    async fn connect(&self, start: &Start, standing: &Standing) -> Result<[Arc<Stream>; 2], String> {
        let conn = self.find_path(&start.remote).await?;
        self.state.send_replace(PeerState { phase: Phase::Connected, path: self.path() });
        let shaken = timeout(timing::HANDSHAKE, self.shake_hands(conn, start, standing)).await;
        shaken.map_err(|_| "a path was found, but the peer finished no handshake on it".to_owned())?
    }

    async fn find_path(&self, remote: &Remote) -> Result<Arc<dyn Conn + Send + Sync>, String> {
        let agent = &self.ice.agent;
        let (ufrag, pwd) = (remote.ufrag.clone(), remote.pwd.clone());
        let (_cancel, cancelled) = mpsc::channel(1);
        let connected = async {
            if self.role == Role::Answerer {
                let conn = agent.accept(cancelled, ufrag, pwd).await;
                return conn.map(|conn| conn as Arc<dyn Conn + Send + Sync>);
            }
            if self.remote.len() == 0 {
                let _ = timeout(timing::CALLER_HOLD, self.remote.arrived.notified()).await;
            }
            self.remote.release(agent).await;
            agent.dial(cancelled, ufrag, pwd).await.map(|conn| conn as Arc<dyn Conn + Send + Sync>)
        };
        let release = async {
            if self.role == Role::Answerer {
                tokio::time::sleep(timing::ANSWERER_HOLD).await;
                self.remote.release(agent).await;
            }
            std::future::pending::<()>().await;
        };
        let mut ice = self.ice.state.clone();
        let given_up = async {
            if self.role == Role::Caller {
                tokio::time::sleep(timing::LOOKING).await;
            } else {
                let _ = ice.wait_for(|state| *state == ConnectionState::Failed).await;
            }
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            conn = connected => conn.map_err(|cause| format!("looking for a path ended: {cause}")),
            () = release => Err(String::new()), // Never.
            why = self.ice.nothing_found() => Err(why.to_owned()),
            () = given_up => Err(self.no_path(began.elapsed().as_secs_f32())),
        }
    }

    fn no_path(&self, seconds: f32) -> String {
        let found = self.ice.found().candidates.len();
        let (theirs, hint) = (self.remote.len(), self.ice.hint());
        format!(
            "no path to the peer was found in {seconds:.0} s \
             ({found} candidates here, {theirs} of the peer's){hint}"
        )
    }

    async fn shake_hands(
        &self,
        conn: Arc<dyn Conn + Send + Sync>,
        start: &Start,
        standing: &Standing,
    ) -> Result<[Arc<Stream>; 2], String> {
        let config = dtls::config::Config {
            certificates: vec![self.identity.certificate.clone()],
            // pion insists on one even for data channels only.
            srtp_protection_profiles: vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32,
            ],
            client_auth: dtls::config::ClientAuthType::RequireAnyClientCert,
            // No authority signs these certificates; the fingerprint is the proof.
            insecure_skip_verify: true,
            verify_peer_certificate: Some(certificate::verifier(start.remote.fingerprints.clone())),
            flight_interval: timing::DTLS_FLIGHT,
            ..dtls::config::Config::default()
        };
        let dtls = DTLSConn::new(conn, config, start.dtls_client, None)
            .await
            .map_err(|cause| format!("the DTLS handshake failed: {cause}"))?;
        let dtls = Arc::new(dtls);
        standing.parts().dtls = Some(Arc::clone(&dtls));
        let Life { gone, reader, window, .. } = &self.life;
        let gate =
            Gate::new(dtls, gone.clone(), standing.ending.clone(), Arc::clone(reader), Arc::clone(window));
        let association = Association::client(sctp::association::Config {
            net_conn: Arc::new(gate),
            max_receive_buffer_size: RECEIVE_WINDOW,
            // Whatever the description says: everybody takes this much, and goutils no more.
            max_message_size: u32::try_from(MAX_CHANNEL_MESSAGE).unwrap_or(u32::MAX),
            mtu: 0,
            name: String::new(),
            remote_port: start.remote.sctp_port,
            local_port: SCTP_PORT,
        });
        let association = tokio::select! {
            association = association => association,
            () = gone.cancelled() => return Err("the peer closed while shaking hands".to_owned()),
        };
        let association =
            Arc::new(association.map_err(|cause| format!("the SCTP handshake failed: {cause}"))?);
        standing.parts().association = Some(Arc::clone(&association));
        streams(&association).await.map_err(|cause| format!("cannot open the channels: {cause}"))
    }

    fn enter(&self, phase: Phase) {
        self.state.send_if_modified(|state| {
            let changed = state.phase != phase && !state.phase.is_final();
            if changed {
                state.phase = phase;
            }
            changed
        });
    }

    fn path(&self) -> Option<Path> {
        path(&self.ice, &self.remote)
    }
}

/// The pair of candidates in use.
pub(super) fn path(ice: &Ice, remote: &RemoteCandidates) -> Option<Path> {
    let pair = ice.agent.get_selected_candidate_pair()?;
    let address = |candidate: &Arc<dyn Candidate + Send + Sync>| candidate.addr();
    let (here, there): (SocketAddr, SocketAddr) = (address(&pair.local), address(&pair.remote));
    let local = super::ice::kind(pair.local.candidate_type());
    let kind = remote.kind(there, pair.remote.candidate_type());
    Some(Path::new((local, here.to_string()), (kind, there.to_string())))
}

/// The two channels' streams. A peer that was open first may have sent on them already; then they are there.
async fn streams(association: &Association) -> Result<[Arc<Stream>; 2], sctp::Error> {
    let mut early: Vec<Arc<Stream>> = Vec::new();
    let mut opened = Vec::with_capacity(2);
    for id in [0, 1] {
        let stream = match association.open_stream(id, PayloadProtocolIdentifier::Binary).await {
            Err(sctp::Error::ErrStreamAlreadyExist) => loop {
                if let Some(stream) = early.iter().find(|stream| stream.stream_identifier() == id) {
                    break Arc::clone(stream);
                }
                early.push(association.accept_stream().await.ok_or(sctp::Error::ErrStreamClosed)?);
            },
            stream => stream?,
        };
        opened.push(stream);
    }
    opened.try_into().map_err(|_| sctp::Error::ErrStreamCreateFailed)
}
