//! The rules of the memory stack: who is connected to whom, and what has arrived by now.
//!
//! Pure but for the watches and the candidates' channels it fills: time is an argument, wakers are
//! collected for the caller to call.
//!
//! # Invariant
//! What is under way to an end is kept at that end, so an end that is gone leaves what it sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::Conditions;
use crate::peer::session::{self, Local, Remote, Setup};
use crate::peer::{
    Candidate, CandidateKind, Description, Path, PeerConfig, PeerError, PeerState, Phase, Role,
};

/// The most remote candidates that an end remembers.
const MAX_CANDIDATES: usize = 100;

#[derive(Default)]
pub(super) struct World {
    ends: BTreeMap<u64, End>,
    last: u64,
    conditions: Conditions,
    wakers: Vec<Waker>,
}

/// One peer.
pub(super) struct End {
    role: Role,
    conditions: Conditions,
    relay_only: bool,
    local: Option<Description>,
    remote: Option<(u64, Remote)>,
    gathering: Option<(Instant, mpsc::Sender<Candidate>)>,
    gathered: Vec<String>,
    /// Ports that remote candidates named.
    heard: Vec<u16>,
    connecting_since: Option<Instant>,
    matched_at: Option<Instant>,
    silent_since: Option<Instant>,
    line_free_at: Instant,
    wire: VecDeque<(Instant, Bytes)>,
    wire_bytes: usize,
    inbox: VecDeque<Bytes>,
    held: usize,
    closing_at: Option<Instant>,
    sent: u64,
    received: u64,
    pub(super) opened: bool,
    state: watch::Sender<PeerState>,
    waker: Option<Waker>,
    changed: Arc<Notify>,
}

impl End {
    /// Whether nothing more will happen to it.
    pub(super) fn is_gone(&self) -> bool {
        self.state.borrow().phase.is_final()
    }

    /// Whether messages still flow to and from it.
    pub(super) fn is_live(&self) -> bool {
        self.opened && !self.is_gone()
    }

    fn enter(&mut self, phase: Phase) {
        self.state.send_if_modified(|state| {
            let changed = state.phase != phase && !state.phase.is_final();
            if changed {
                state.phase = phase;
            }
            changed
        });
    }

    pub(super) fn path(&self) -> Option<Path> {
        self.state.borrow().path.clone()
    }

    pub(super) fn counters(&self) -> (u64, u64) {
        (self.sent, self.received)
    }
}

impl World {
    pub(super) fn open(
        &mut self,
        config: &PeerConfig,
        candidates: mpsc::Sender<Candidate>,
        state: watch::Sender<PeerState>,
        now: Instant,
    ) -> u64 {
        self.last += 1;
        let end = End {
            role: config.role,
            conditions: self.conditions.clone(),
            relay_only: config.relay_only,
            local: None,
            remote: None,
            gathering: Some((now, candidates)),
            gathered: Vec::new(),
            heard: Vec::new(),
            connecting_since: None,
            matched_at: None,
            silent_since: self.conditions.silent.then_some(now),
            line_free_at: now,
            wire: VecDeque::new(),
            wire_bytes: 0,
            inbox: VecDeque::new(),
            held: 0,
            closing_at: None,
            sent: 0,
            received: 0,
            opened: false,
            state,
            waker: None,
            changed: Arc::new(Notify::new()),
        };
        self.ends.insert(self.last, end);
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn end(&self, id: u64) -> Option<&End> {
        self.ends.get(&id)
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    pub(super) fn watch(&mut self, id: u64, waker: &Waker) {
        if let Some(end) = self.ends.get_mut(&id) {
            end.waker = Some(waker.clone());
        }
    }

    /// What tells the driver of this end that the rules have something new for it.
    pub(super) fn changed(&self, id: u64) -> Option<Arc<Notify>> {
        self.ends.get(&id).map(|end| Arc::clone(&end.changed))
    }

    pub(super) fn pairs(&self) -> Vec<[u64; 2]> {
        let pair = |id: &u64| self.peer_of(*id).filter(|peer| id < peer).map(|peer| [*id, peer]);
        self.ends.keys().filter_map(pair).collect()
    }

    pub(super) fn change_all(&mut self, change: &impl Fn(&mut Conditions)) {
        change(&mut self.conditions);
        for id in self.ends.keys().copied().collect::<Vec<_>>() {
            self.change(id, change);
        }
    }

    pub(super) fn change(&mut self, id: u64, change: &impl Fn(&mut Conditions)) {
        if let Some(end) = self.ends.get_mut(&id) {
            change(&mut end.conditions);
        }
        self.touch(id);
    }

    /// Makes the offer.
    pub(super) fn offer(&mut self, id: u64, now: Instant) -> Result<Description, PeerError> {
        const CONTEXT: &str = "cannot create the offer";
        let end = self.usable(id, Role::Caller, CONTEXT)?;
        if end.local.is_some() {
            return Err(PeerError::because(CONTEXT, "there is one already"));
        }
        end.local = Some(Description::offer(""));
        self.describe(id, now).ok_or_else(|| PeerError::new(CONTEXT))
    }

    /// Takes the offer, makes the answer.
    pub(super) fn answer(
        &mut self,
        id: u64,
        offer: &Description,
        now: Instant,
    ) -> Result<Description, PeerError> {
        const CONTEXT: &str = "cannot accept the offer";
        let remote = read(&offer.sdp, CONTEXT)?;
        let end = self.usable(id, Role::Answerer, CONTEXT)?;
        if end.local.is_some() {
            return Err(PeerError::because(CONTEXT, "one was accepted already"));
        }
        end.local = Some(Description::answer(""));
        self.learn(id, remote, now);
        self.describe(id, now).ok_or_else(|| PeerError::new(CONTEXT))
    }

    /// Takes the answer.
    pub(super) fn accept(&mut self, id: u64, answer: &Description, now: Instant) -> Result<(), PeerError> {
        const CONTEXT: &str = "cannot take the answer";
        let remote = read(&answer.sdp, CONTEXT)?;
        let end = self.usable(id, Role::Caller, CONTEXT)?;
        if end.local.is_none() || end.remote.is_some() {
            return Err(PeerError::because(CONTEXT, "no answer is expected"));
        }
        self.learn(id, remote, now);
        Ok(())
    }

    fn usable(&mut self, id: u64, role: Role, context: &'static str) -> Result<&mut End, PeerError> {
        let end = self.ends.get_mut(&id).filter(|end| !end.is_gone());
        let end = end.ok_or_else(|| PeerError::because(context, "the connection is closed"))?;
        if end.role != role {
            return Err(PeerError::because(context, "this is the other side's to do"));
        }
        Ok(end)
    }

    fn learn(&mut self, id: u64, remote: (u64, Remote), now: Instant) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        end.heard.extend(remote.1.candidates.iter().filter_map(|text| port_in(text)).take(MAX_CANDIDATES));
        end.remote = Some(remote);
        end.connecting_since = Some(now);
        end.enter(Phase::Connecting);
        self.touch(id);
    }

    /// Starts gathering, and gives the description with what was found at once.
    fn describe(&mut self, id: u64, now: Instant) -> Option<Description> {
        let end = self.ends.get_mut(&id)?;
        if let Some((due, _)) = &mut end.gathering {
            *due = now + end.conditions.gathering_time;
        }
        self.advance(id, now);
        self.touch(id);
        self.description(id)
    }

    /// The description with what was found so far.
    pub(super) fn description(&self, id: u64) -> Option<Description> {
        let end = self.ends.get(&id)?;
        let mut description = end.local.clone()?;
        let local = Local {
            id,
            version: 1,
            ufrag: format!("{UFRAG}{id}"),
            pwd: format!("{id:024}"),
            fingerprint: ["00"; 32].join(":"),
        };
        let complete = end.gathering.is_none();
        description.sdp = match &end.remote {
            Some((_, remote)) if end.role == Role::Answerer => {
                session::answer(&local, remote, Setup::Active, &end.gathered, complete)
            }
            _ => session::offer(&local, &end.gathered, complete),
        };
        Some(description)
    }

    pub(super) fn hear(&mut self, id: u64, candidate: &str) -> Result<(), PeerError> {
        const CONTEXT: &str = "cannot use the candidate";
        if candidate.is_empty() {
            return Ok(());
        }
        let port = port_in(candidate).ok_or_else(|| PeerError::because(CONTEXT, "bad spelling"))?;
        let end = self.ends.get_mut(&id).ok_or_else(|| PeerError::because(CONTEXT, "closed"))?;
        if end.heard.len() >= MAX_CANDIDATES {
            return Err(PeerError::because(CONTEXT, "there are too many"));
        }
        end.heard.push(port);
        self.touch(id);
        Ok(())
    }

    /// The other end, once both know of each other.
    fn peer_of(&self, id: u64) -> Option<u64> {
        let (peer, _) = self.ends.get(&id)?.remote.as_ref()?;
        let (back, _) = self.ends.get(peer)?.remote.as_ref()?;
        (*back == id && *peer != id).then_some(*peer)
    }

    /// Lets time pass for one end: gathers, connects, delivers, notices. Says when to look again.
    pub(super) fn advance(&mut self, id: u64, now: Instant) -> Option<Instant> {
        let peer = self.peer_of(id);
        let mut due = self.gather(id, now);
        due = soonest(due, self.connect(id, peer, now));
        due = soonest(due, self.deliver(id, peer, now));
        soonest(due, self.notice(id, now))
    }

    fn gather(&mut self, id: u64, now: Instant) -> Option<Instant> {
        let end = self.ends.get_mut(&id)?;
        let _described = end.local.as_ref()?;
        let (due, _) = end.gathering.as_ref()?;
        if *due > now {
            return Some(*due);
        }
        let (_, found) = end.gathering.take()?;
        let port = port_of(id);
        end.gathered = if end.relay_only {
            vec![format!("candidate:3 1 udp 16777215 198.51.100.1 {port} typ relay raddr 0.0.0.0 rport 0")]
        } else {
            vec![
                format!("candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host"),
                format!("candidate:2 1 udp 1694498815 192.0.2.1 {port} typ srflx raddr 0.0.0.0 rport 0"),
            ]
        };
        for text in &end.gathered {
            // Nobody listens when the receiver was dropped.
            let _ = found.try_send(Candidate {
                candidate: text.clone(),
                sdp_mid: Some("0".to_owned()),
                sdp_mline_index: Some(0),
                username_fragment: None,
            });
        }
        None
    }

    fn connect(&mut self, id: u64, peer: Option<u64>, now: Instant) -> Option<Instant> {
        let end = self.ends.get(&id).filter(|end| !end.opened && !end.is_gone())?;
        let since = end.connecting_since?;
        let deadline = since + end.conditions.failed_after;
        let ready = peer.and_then(|peer| Some((peer, self.ends.get(&peer)?))).filter(|(peer, other)| {
            let heard = end.heard.contains(&port_of(*peer)) || other.heard.contains(&port_of(id));
            let silent = end.conditions.silent || other.conditions.silent;
            heard && !silent && !other.is_gone()
        });
        let Some((peer, other)) = ready else {
            if deadline <= now {
                self.fail(id, "no path to the peer was found");
                return None;
            }
            return Some(deadline);
        };
        if end.conditions.refuse || other.conditions.refuse {
            self.fail(id, "connections are refused");
            self.fail(peer, "connections are refused");
            return None;
        }
        let open_at = end.matched_at.or(other.matched_at).unwrap_or(now) + end.conditions.connect_time;
        for id in [id, peer] {
            let end = self.ends.get_mut(&id)?;
            end.matched_at.get_or_insert(now);
        }
        if open_at > now {
            return Some(open_at);
        }
        for (id, peer) in [(id, peer), (peer, id)] {
            let remote = self.address(peer)?;
            let path = Path::new(self.address(id)?, remote);
            let end = self.ends.get_mut(&id)?;
            end.opened = true;
            end.state.send_replace(PeerState { phase: Phase::Connected, path: Some(path) });
            self.touch(id);
        }
        None
    }

    fn address(&self, id: u64) -> Option<(CandidateKind, String)> {
        let relayed = self.ends.get(&id)?.relay_only;
        Some(match relayed {
            true => (CandidateKind::Relay, format!("198.51.100.1:{}", port_of(id))),
            false => (CandidateKind::Host, format!("127.0.0.1:{}", port_of(id))),
        })
    }

    fn deliver(&mut self, id: u64, peer: Option<u64>, now: Instant) -> Option<Instant> {
        let end = self.ends.get_mut(&id).filter(|end| end.is_live() && !end.conditions.silent)?;
        let mut arrived = false;
        let due = loop {
            let Some((at, message)) = end.wire.front() else { break None };
            if *at > now {
                break Some(*at);
            }
            if end.held > 0 && end.held + message.len() > end.conditions.window {
                break None; // Reading makes room, and advances.
            }
            let Some((_, message)) = end.wire.pop_front() else { break None };
            end.wire_bytes -= message.len();
            end.held += message.len();
            end.received += message.len() as u64;
            end.inbox.push_back(message);
            arrived = true;
        };
        if arrived {
            self.wake(id);
            peer.into_iter().for_each(|peer| self.wake(peer));
        }
        due
    }

    /// Notices silence, its end, and the peer's close.
    fn notice(&mut self, id: u64, now: Instant) -> Option<Instant> {
        let end = self.ends.get_mut(&id).filter(|end| end.is_live())?;
        if end.conditions.silent {
            let since = *end.silent_since.get_or_insert(now);
            let lost_at = since + end.conditions.disconnected_after;
            let failed_at = since + end.conditions.failed_after;
            if failed_at <= now {
                self.fail(id, "nothing came from the peer for too long");
                return None;
            }
            if lost_at <= now {
                end.enter(Phase::Disconnected);
                return Some(failed_at);
            }
            return Some(lost_at);
        }
        end.silent_since = None;
        if end.state.borrow().phase == Phase::Disconnected {
            end.enter(Phase::Connected);
        }
        match end.closing_at {
            Some(at) if at <= now && end.wire.is_empty() => {
                end.enter(Phase::ClosedByPeer);
                self.wake(id);
                None
            }
            Some(at) if at > now => Some(at),
            _ => None,
        }
    }

    pub(super) fn fail(&mut self, id: u64, why: &str) {
        if let Some(end) = self.ends.get_mut(&id) {
            end.enter(Phase::Failed(why.to_owned()));
            end.wire.clear();
            end.wire_bytes = 0;
        }
        self.wake(id);
        self.touch(id);
    }

    /// Bytes on their way from this end.
    pub(super) fn buffered(&self, id: u64) -> usize {
        let peer = self.peer_of(id).and_then(|peer| self.ends.get(&peer));
        peer.map_or(0, |peer| peer.wire_bytes)
    }

    pub(super) fn send(&mut self, id: u64, message: Bytes, now: Instant) -> bool {
        let Some(peer) = self.peer_of(id) else { return false };
        let Some(end) = self.ends.get_mut(&id).filter(|end| end.is_live()) else { return false };
        let start = end.line_free_at.max(now);
        if let Some(rate) = end.conditions.bytes_per_second {
            let seconds = message.len() as f64 / rate.max(1) as f64;
            end.line_free_at = start + std::time::Duration::from_secs_f64(seconds);
        } else {
            end.line_free_at = start;
        }
        end.sent += message.len() as u64;
        let at = end.line_free_at + end.conditions.delay;
        if let Some(peer) = self.ends.get_mut(&peer) {
            peer.wire_bytes += message.len();
            peer.wire.push_back((at, message));
        }
        if self.advance(peer, now).is_some() {
            self.touch(peer);
        }
        true
    }

    /// The next message that arrived.
    pub(super) fn recv(&mut self, id: u64, now: Instant) -> Option<Bytes> {
        let end = self.ends.get_mut(&id)?;
        let message = end.inbox.pop_front()?;
        end.held -= message.len();
        if self.advance(id, now).is_some() {
            self.touch(id);
        }
        Some(message)
    }

    /// Closes and forgets an end. The other one learns of it after what is on its way.
    pub(super) fn close(&mut self, id: u64, now: Instant) {
        let peer = self.peer_of(id);
        let Some(mut end) = self.ends.remove(&id) else { return };
        end.enter(Phase::Closed);
        end.changed.notify_one();
        self.wakers.extend(end.waker.take());
        let Some(peer) = peer else { return };
        if let Some(other) = self.ends.get_mut(&peer) {
            other.closing_at = Some(end.line_free_at.max(now) + end.conditions.delay);
            if !other.opened {
                other.opened = true; // So that it is noticed.
            }
        }
        self.advance(peer, now);
        self.touch(peer);
    }

    fn wake(&mut self, id: u64) {
        if let Some(waker) = self.ends.get_mut(&id).and_then(|end| end.waker.take()) {
            self.wakers.push(waker);
        }
    }

    /// Has the drivers of this end and its peer look again.
    fn touch(&mut self, id: u64) {
        let peer = self.peer_of(id);
        for id in [Some(id), peer].into_iter().flatten() {
            if let Some(end) = self.ends.get(&id) {
                end.changed.notify_one();
            }
            self.wake(id);
        }
    }
}

/// Stands in the ICE user name, before the number that finds the peer.
const UFRAG: &str = "memory";

fn read(sdp: &str, context: &'static str) -> Result<(u64, Remote), PeerError> {
    let remote = session::read(sdp).map_err(|cause| PeerError::because(context, cause))?;
    let id = remote.ufrag.strip_prefix(UFRAG).and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| PeerError::because(context, "it is not of a peer in memory"))?;
    Ok((id, remote))
}

fn port_of(id: u64) -> u16 {
    u16::try_from(1024 + id % 60_000).unwrap_or(1024)
}

fn port_in(candidate: &str) -> Option<u16> {
    let words: Vec<&str> = candidate.split_whitespace().collect();
    match words.as_slice() {
        [_, _, protocol, _, _, port, "typ", _, ..] if protocol.eq_ignore_ascii_case("udp") => {
            port.parse().ok()
        }
        _ => None,
    }
}

fn soonest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
