//! Whom a relay may send to: permissions and channels, RFC 8656 9 and 12.
//!
//! A peer gets a permission before the first datagram goes to it; what is sent meanwhile waits, a little of it,
//! since a check of ICE that is lost costs more than a round trip. It gets a channel once it is more than a
//! candidate: when something other than STUN is sent to it. What is no longer used lapses.
//!
//! # Invariant
//! At most [`MOST`] addresses and as many channels, [`HELD`] datagrams waiting for each. A channel number
//! belongs to one peer for good, so that no late datagram is taken for another's.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Addresses with a permission, and peers with a channel.
pub(super) const MOST: usize = 64;
/// How many of those places addresses may take that the peer only told of.
const ANNOUNCED: usize = MOST / 2;
/// Datagrams that wait for a permission, for each address.
const HELD: usize = 4;
/// The first channel number, RFC 8656 12.
const FIRST_CHANNEL: u16 = 0x4000;
/// When a permission is renewed, which lives for 5 minutes; binding a channel renews it too.
const RENEW: Duration = Duration::from_secs(240);
/// When an address is asked for again that was refused.
const REFUSED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Peers {
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Permission {
    ip: IpAddr,
    state: State,
    /// When something was last sent to it.
    used: Instant,
    held: Vec<(SocketAddr, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It must be asked for.
    Wanted,
    /// The server has been asked and has not answered; `granted` if it had allowed it before.
    Asked { granted: bool },
    /// Allowed. To be renewed then.
    Granted(Instant),
    /// Not before then.
    Refused(Instant),
}

#[derive(Debug)]
struct Channel {
    peer: SocketAddr,
    state: State,
    used: Instant,
}

/// What the server must be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Permission(IpAddr),
    Channel(u16, SocketAddr),
}

/// How a datagram goes to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Channel(u16),
    Indication,
    /// It waits, or is lost.
    None,
}

impl State {
    fn is_granted(self) -> bool {
        matches!(self, Self::Granted(_) | Self::Asked { granted: true })
    }

    /// When it has to be asked for, if it is still `used`.
    fn due(self, used: Instant) -> Option<Instant> {
        match self {
            Self::Wanted => Some(used),
            Self::Granted(renew) if used + RENEW > renew => Some(renew),
            _ => None,
        }
    }

    /// What it is when a datagram is about to use it.
    fn touched(self, now: Instant) -> Self {
        match self {
            // It was not renewed while nobody used it.
            Self::Granted(renew) if now >= renew => Self::Wanted,
            Self::Refused(until) if now >= until => Self::Wanted,
            state => state,
        }
    }
}

impl Peers {
    /// Asks for a permission unless that was done before. `false` when there are too many: half the places are kept
    /// for those that something is sent to.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.permissions.iter().any(|permission| permission.ip == ip)
            || (self.permissions.len() < ANNOUNCED && self.permission(now, ip).is_some())
    }

    fn permission(&mut self, now: Instant, ip: IpAddr) -> Option<&mut Permission> {
        let at = match self.permissions.iter().position(|permission| permission.ip == ip) {
            Some(at) => at,
            None if self.permissions.len() >= MOST => return None,
            None => {
                self.permissions.push(Permission { ip, state: State::Wanted, used: now, held: Vec::new() });
                self.permissions.len() - 1
            }
        };
        let permission = self.permissions.get_mut(at)?;
        permission.state = permission.state.touched(now);
        permission.used = now;
        Some(permission)
    }

    /// How `datagram` goes to `peer`. Where it cannot go yet, it is kept for later.
    pub(super) fn way(&mut self, now: Instant, peer: SocketAddr, datagram: &[u8]) -> Way {
        if let Some((number, channel)) =
            (FIRST_CHANNEL..).zip(&mut self.channels).find(|(_, c)| c.peer == peer)
        {
            channel.used = now;
            channel.state = channel.state.touched(now);
            if channel.state.is_granted() {
                return Way::Channel(number);
            }
        } else if !is_stun(datagram) && self.channels.len() < MOST {
            self.channels.push(Channel { peer, state: State::Wanted, used: now });
        }
        let Some(permission) = self.permission(now, peer.ip()) else { return Way::None };
        match permission.state {
            state if state.is_granted() => Way::Indication,
            State::Refused(_) => Way::None,
            _ => {
                if permission.held.len() < HELD {
                    permission.held.push((peer, datagram.to_vec()));
                }
                Way::None
            }
        }
    }

    /// Whose channel this is.
    pub(super) fn by_channel(&self, number: u16) -> Option<SocketAddr> {
        let at = usize::from(number.checked_sub(FIRST_CHANNEL)?);
        self.channels.get(at).map(|channel| channel.peer)
    }

    /// Whether datagrams of this address are taken.
    pub(super) fn is_permitted(&self, ip: IpAddr) -> bool {
        self.permissions.iter().any(|permission| permission.ip == ip && permission.state.is_granted())
    }

    /// The next thing that the server must be asked for by now; it counts as asked.
    pub(super) fn ask(&mut self, now: Instant) -> Option<Ask> {
        for permission in &mut self.permissions {
            if permission.state.due(permission.used).is_some_and(|due| due <= now) {
                permission.state = State::Asked { granted: permission.state.is_granted() };
                return Some(Ask::Permission(permission.ip));
            }
        }
        for (number, channel) in (FIRST_CHANNEL..).zip(&mut self.channels) {
            if channel.state.due(channel.used).is_some_and(|due| due <= now) {
                channel.state = State::Asked { granted: channel.state.is_granted() };
                return Some(Ask::Channel(number, channel.peer));
            }
        }
        None
    }

    /// When [`ask`](Self::ask) has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let permissions =
            self.permissions.iter().filter_map(|permission| permission.state.due(permission.used));
        let channels = self.channels.iter().filter_map(|channel| channel.state.due(channel.used));
        permissions.chain(channels).min()
    }

    /// The server allows it. What waited for it may go now.
    pub(super) fn granted(&mut self, now: Instant, ask: Ask) -> Vec<(SocketAddr, Vec<u8>)> {
        self.settle(ask, State::Granted(now + RENEW));
        // A channel brings its permission along, RFC 8656 12.2.
        let ip = match ask {
            Ask::Permission(ip) => ip,
            Ask::Channel(_, peer) => peer.ip(),
        };
        self.settle(Ask::Permission(ip), State::Granted(now + RENEW));
        let permission = self.permissions.iter_mut().find(|permission| permission.ip == ip);
        permission.map(|permission| std::mem::take(&mut permission.held)).unwrap_or_default()
    }

    /// The server does not allow it, or says nothing.
    pub(super) fn refused(&mut self, now: Instant, ask: Ask) {
        self.settle(ask, State::Refused(now + REFUSED));
        if let Ask::Permission(ip) = ask {
            self.permissions.iter_mut().filter(|each| each.ip == ip).for_each(|each| each.held = Vec::new());
        }
    }

    /// How many things it keeps.
    #[cfg(any(test, fuzzing))]
    pub(super) fn held(&self) -> usize {
        let waiting = self.permissions.iter().map(|permission| permission.held.len()).sum::<usize>();
        self.permissions.len() + self.channels.len() + waiting
    }

    fn settle(&mut self, ask: Ask, state: State) {
        match ask {
            Ask::Permission(ip) => {
                self.permissions.iter_mut().filter(|each| each.ip == ip).for_each(|each| each.state = state);
            }
            Ask::Channel(_, peer) => {
                self.channels.iter_mut().filter(|each| each.peer == peer).for_each(|each| each.state = state);
            }
        }
    }
}

/// RFC 7983: whether a datagram is STUN.
fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
}
