//! The peer's candidates: read in every spelling, kept until the agent may have them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tracing::debug;
use webrtc::ice::agent::Agent;
use webrtc::ice::candidate::candidate_base::unmarshal_candidate;
use webrtc::ice::candidate::{Candidate, CandidateType};
use webrtc::mdns::config::Config as MdnsConfig;
use webrtc::mdns::conn::DnsConn;

use super::driver::Life;
use super::{ice, timing};
use crate::peer::{CandidateKind, PeerError};

/// The most candidates of one peer. Each makes a pair with each of ours.
const MAX_CANDIDATES: usize = 100;
/// The most `.local` names of one peer that are looked up.
const MAX_NAMES: usize = 8;

const CONTEXT: &str = "cannot use the candidate";

type AnyCandidate = Arc<dyn Candidate + Send + Sync>;

pub(super) struct RemoteCandidates {
    known: Mutex<Known>,
    resolve_mdns: bool,
    /// Told of each candidate that is kept or passed on.
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct Known {
    released: bool,
    waiting: Vec<AnyCandidate>,
    kinds: HashMap<SocketAddr, CandidateKind>,
    names: usize,
}

impl RemoteCandidates {
    pub(super) fn new(resolve_mdns: bool) -> Self {
        Self { known: Mutex::default(), resolve_mdns, arrived: Notify::new() }
    }

    /// Takes a candidate. The empty one ends them, which changes nothing.
    pub(super) fn add(
        self: &Arc<Self>,
        text: &str,
        agent: &Arc<Agent>,
        life: &Life,
    ) -> Result<(), PeerError> {
        let text = text.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        let text = text.strip_prefix("candidate:").unwrap_or(text);
        if text.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        if !words.get(2).is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp")) {
            return Err(PeerError::because(CONTEXT, "only UDP candidates can be used"));
        }
        if words.get(4).is_some_and(|address| address.ends_with(".local")) {
            return self.add_name(&words, agent, life);
        }
        self.add_words(&words, agent)
    }

    fn add_words(&self, words: &[&str], agent: &Agent) -> Result<(), PeerError> {
        let candidate = unmarshal_candidate(&words.join(" "));
        let candidate = candidate.map_err(|cause| PeerError::because(CONTEXT, cause))?;
        if candidate.component() != 1 || candidate.port() == 0 || candidate.addr().ip().is_unspecified() {
            return Err(PeerError::because(CONTEXT, "nothing can be sent to it"));
        }
        let candidate: AnyCandidate = Arc::new(candidate);
        let mut known = self.lock();
        if known.kinds.contains_key(&candidate.addr()) {
            return Ok(());
        }
        if known.kinds.len() >= MAX_CANDIDATES {
            return Err(PeerError::because(CONTEXT, "there are too many"));
        }
        known.kinds.insert(candidate.addr(), ice::kind(candidate.candidate_type()));
        let result = if known.released {
            agent.add_remote_candidate(&candidate).map_err(|cause| PeerError::because(CONTEXT, cause))
        } else {
            known.waiting.push(candidate);
            Ok(())
        };
        self.arrived.notify_one();
        result
    }

    /// Looks the name up beside everything else. A host without multicast never finds it, and a peer that
    /// hides its address is mostly found by its own checks anyway.
    fn add_name(self: &Arc<Self>, words: &[&str], agent: &Arc<Agent>, life: &Life) -> Result<(), PeerError> {
        let mut known = self.lock();
        if !self.resolve_mdns || known.names >= MAX_NAMES {
            return Err(PeerError::because(CONTEXT, "its .local name is not looked up"));
        }
        known.names += 1;
        drop(known);
        let (this, agent, end) = (Arc::clone(self), Arc::clone(agent), life.end.clone());
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        tokio::spawn(end.run_until_cancelled_owned(async move {
            let Some(name) = words.get(4) else { return };
            match tokio::time::timeout(timing::MDNS, resolve(name)).await {
                Ok(Ok(address)) => {
                    let address = address.ip().to_string();
                    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
                    if let Some(name) = words.get_mut(4) {
                        *name = &address;
                    }
                    let _ = this.add_words(&words, &agent);
                }
                Ok(Err(error)) => debug!(%error, "cannot look up a .local candidate"),
                Err(_) => debug!("nobody knows a .local candidate"),
            }
        }));
        Ok(())
    }

    /// Gives the agent what has waited, and from now on each one as it comes. Returns once the agent has
    /// them, so that a check which comes next is not from a stranger.
    pub(super) async fn release(&self, agent: &Agent) {
        let waiting = {
            let mut known = self.lock();
            known.released = true;
            std::mem::take(&mut known.waiting)
        };
        let count = waiting.len();
        for candidate in waiting {
            if let Err(error) = agent.add_remote_candidate(&candidate) {
                debug!(%error, "the agent refused a candidate");
            }
        }
        // The agent adds them in tasks of its own.
        for _ in 0..1000 {
            if agent.get_remote_candidates_stats().await.len() >= count {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// How many could be checked.
    pub(super) fn len(&self) -> usize {
        self.lock().kinds.len()
    }

    /// What the peer says that this address is. A check that overtook its candidate made it look reflexive.
    pub(super) fn kind(&self, address: SocketAddr, kind: CandidateType) -> CandidateKind {
        self.lock().kinds.get(&address).copied().unwrap_or_else(|| ice::kind(kind))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn resolve(name: &str) -> Result<SocketAddr, webrtc::mdns::Error> {
    let any = SocketAddr::from(([0, 0, 0, 0], 5353));
    let connection = DnsConn::server(any, MdnsConfig::default())?;
    let (_stop, stopped) = mpsc::channel(1);
    let answer = connection.query(name, stopped).await;
    let _ = connection.close().await;
    answer.map(|(_, address)| address)
}
