//! The ICE agent of one peer: what it is told, and what it finds.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tracing::debug;
use webrtc::ice::agent::Agent;
use webrtc::ice::agent::agent_config::AgentConfig;
use webrtc::ice::candidate::CandidateType;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::network_type::NetworkType;
use webrtc::ice::state::ConnectionState;
use webrtc::ice::url::{ProtoType, SchemeType, Url};

use super::timing;
use crate::peer::{Candidate, CandidateKind, IceServer, PeerConfig, PeerError, Scheme, TransportProtocol};

/// Why a relayed connection is not even tried.
const NO_RELAYS: &str = "relays only were asked for and there is no TURN server that can be used: \
                         it takes a turn: URL over UDP, with user name and credential";
const NO_RELAY: &str = "relays only were asked for and no TURN server gave one: \
                        check its address, and whether it takes the user name and credential";
const NO_ADDRESS: &str = "this host has no address to connect from";

pub(super) struct Ice {
    pub(super) agent: Arc<Agent>,
    pub(super) state: watch::Receiver<ConnectionState>,
    found: Arc<Mutex<Found>>,
    gathering: watch::Sender<Gathering>,
    relay_only: bool,
    servers: bool,
}

/// What gathering found so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// As SDP has them, `candidate:...`.
    pub(super) candidates: Vec<String>,
    pub(super) complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gathering {
    NotYet,
    Now,
    Complete,
}

impl Ice {
    pub(super) async fn open(config: &PeerConfig) -> Result<Self, PeerError> {
        let urls = urls(&config.ice_servers);
        let servers = !urls.is_empty();
        let relays = urls.iter().any(|url| url.scheme == SchemeType::Turn);
        if config.relay_only && !relays {
            return Err(PeerError::new(NO_RELAYS));
        }
        let settings = AgentConfig {
            urls,
            multicast_dns_mode: MulticastDnsMode::Disabled,
            disconnected_timeout: Some(timing::DISCONNECTED),
            failed_timeout: Some(timing::FAILED),
            keepalive_interval: Some(timing::KEEPALIVE),
            network_types: vec![NetworkType::Udp4, NetworkType::Udp6],
            candidate_types: if config.relay_only { vec![CandidateType::Relay] } else { vec![] },
            check_interval: timing::CHECK_INTERVAL,
            max_binding_requests: Some(timing::MAX_CHECKS),
            host_acceptance_min_wait: Some(timing::HOST_WAIT),
            srflx_acceptance_min_wait: Some(timing::SRFLX_WAIT),
            prflx_acceptance_min_wait: Some(match relays && !config.relay_only {
                true => timing::PRFLX_WAIT_BESIDE_RELAYS,
                false => timing::PRFLX_WAIT,
            }),
            relay_acceptance_min_wait: Some(match config.relay_only {
                true => timing::RELAY_ONLY_WAIT,
                false => timing::RELAY_WAIT,
            }),
            include_loopback: true,
            // Link-local addresses need a zone, which neither side can say in a candidate.
            ip_filter: Arc::new(Some(Box::new(|ip| match ip {
                std::net::IpAddr::V4(_) => true,
                std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            }))),
            ..AgentConfig::default()
        };
        let agent = Agent::new(settings)
            .await
            .map_err(|cause| PeerError::because("cannot open the ICE agent", cause))?;
        let (state_in, state) = watch::channel(ConnectionState::New);
        agent.on_connection_state_change(Box::new(move |state| {
            state_in.send_replace(state);
            Box::pin(async {})
        }));
        let gathering = watch::Sender::new(Gathering::NotYet);
        let (agent, found, relay_only) = (Arc::new(agent), Arc::default(), config.relay_only);
        Ok(Self { agent, state, found, gathering, relay_only, servers })
    }

    /// Starts gathering, once. What is found goes to `to`, which is dropped after the last one.
    pub(super) fn gather(
        &self,
        section: (String, u32),
        to: mpsc::Sender<Candidate>,
    ) -> Result<(), PeerError> {
        let found = Arc::clone(&self.found);
        let gathering = self.gathering.clone();
        let (mid, index) = section;
        let mut to = Some(to);
        self.gathering.send_replace(Gathering::Now);
        self.agent.on_candidate(Box::new(move |candidate| {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(candidate) = candidate {
                let text = format!("candidate:{}", candidate.marshal());
                found.candidates.push(text.clone());
                let candidate = Candidate {
                    candidate: text,
                    sdp_mid: Some(mid.clone()),
                    sdp_mline_index: Some(index),
                    username_fragment: None,
                };
                // A reader that is gone wants none; one that is this late has more than it can try.
                let _ = to.as_ref().map(|to| to.try_send(candidate));
            } else {
                found.complete = true;
                to = None;
                gathering.send_replace(Gathering::Complete);
            }
            Box::pin(async {})
        }));
        self.agent.gather_candidates().map_err(|cause| {
            self.gathering.send_replace(Gathering::Complete);
            PeerError::because("cannot gather candidates", cause)
        })
    }

    pub(super) fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ready, with the reason, when gathering ended without a single candidate: no path will be found.
    /// The crate does not say why a TURN server gave none; it logs it.
    pub(super) async fn nothing_found(&self) -> &'static str {
        let mut gathering = self.gathering.subscribe();
        let ended = gathering.wait_for(|gathering| *gathering == Gathering::Complete).await.is_ok();
        if !ended || !self.found().candidates.is_empty() {
            std::future::pending::<()>().await;
        }
        if self.relay_only { NO_RELAY } else { NO_ADDRESS }
    }

    /// What the candidates say about the network, for the end of a sentence about failure.
    pub(super) fn hint(&self) -> &'static str {
        let outside = |candidate: &String| candidate.contains(" srflx ") || candidate.contains(" relay ");
        match self.servers && !self.found().candidates.iter().any(outside) {
            true => "; no STUN or TURN server answered: UDP is probably blocked here",
            false => "",
        }
    }

    /// Closes the agent and its sockets. Gathering that is under way opens more of them and cannot be
    /// stopped, so what there is gets closed at once and the rest when it ends.
    pub(super) async fn close(&self) {
        let mut gathering = self.gathering.subscribe();
        if *gathering.borrow() == Gathering::Now {
            for candidate in self.agent.get_local_candidates().await.unwrap_or_default() {
                let _ = candidate.close().await;
            }
            let done = gathering.wait_for(|gathering| *gathering == Gathering::Complete);
            let _ = tokio::time::timeout(timing::GATHERING, done).await;
        }
        if let Err(error) = self.agent.close().await {
            debug!(%error, "closing the ICE agent");
        }
    }
}

/// The servers that the crate can use. Others are left out: they must not keep a dial from its other ways.
fn urls(servers: &[IceServer]) -> Vec<Url> {
    let mut usable = Vec::new();
    for server in servers {
        for url in &server.urls {
            let scheme = match (url.scheme, url.transport) {
                (Scheme::Stun, _) => SchemeType::Stun,
                (Scheme::Turn, TransportProtocol::Udp)
                    if !server.username.is_empty() && !server.credential.is_empty() =>
                {
                    SchemeType::Turn
                }
                _ => {
                    debug!(%url, "left out an ICE server: no UDP, or no credentials");
                    continue;
                }
            };
            let host = match url.host.contains(':') {
                true => format!("[{}]", url.host),
                false => url.host.clone(),
            };
            usable.push(Url {
                scheme,
                host,
                port: url.port,
                username: server.username.clone(),
                password: server.credential.clone(),
                proto: ProtoType::Udp,
            });
        }
    }
    usable
}

pub(super) fn kind(kind: CandidateType) -> CandidateKind {
    match kind {
        CandidateType::ServerReflexive => CandidateKind::Srflx,
        CandidateType::PeerReflexive => CandidateKind::Prflx,
        CandidateType::Relay => CandidateKind::Relay,
        CandidateType::Host | CandidateType::Unspecified => CandidateKind::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_cannot_be_used_are_left_out_not_fatal() {
        let relay = |url| IceServer::with_credential(url, "me", "secret").unwrap();
        let servers = [
            IceServer::new("stun:a").unwrap(),
            IceServer::new("stuns:a").unwrap(),
            IceServer::new("turn:no-credentials").unwrap(),
            relay("turn:[::1]:9"),
            relay("turn:b?transport=tcp"),
            relay("turns:b"),
        ];
        let hosts: Vec<_> = urls(&servers).into_iter().map(|url| url.host).collect();
        assert_eq!(hosts, ["a", "[::1]"]);
    }
}
