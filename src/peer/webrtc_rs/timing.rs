//! Every wait of this stack, and why it is what it is.

use std::time::Duration;

/// How often pairs of candidates are checked, and how soon a pair that answered is nominated when it was
/// not the best one hoped for. Upstream 200 ms, which most connections of hosts with several addresses
/// would pay once. Costs 20 small packets a second for every pair, until connected.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Checks until a pair is given up: as long as looking for a path lasts. Upstream 7 (1.4 s), too few when
/// the peer's answer or candidates take their time through signaling.
pub(super) const MAX_CHECKS: u16 = 200;

/// How long a working pair of host candidates waits for a better one: there is none.
pub(super) const HOST_WAIT: Duration = Duration::ZERO;

/// How long a working pair with a server-reflexive candidate waits. Upstream 500 ms. Two hosts of one LAN
/// whose router hairpins would use the router if this were 0 and its answer came first; host pairs answer
/// within milliseconds where they work at all.
pub(super) const SRFLX_WAIT: Duration = Duration::from_millis(100);

/// How long a working pair with a peer-reflexive candidate waits when no relay is configured. Upstream 1 s,
/// which is the known outlier of this stack: a check that overtakes its candidate's signaling makes the peer
/// look reflexive. Without relays such a pair is a direct one, so there is nothing to wait for.
pub(super) const PRFLX_WAIT: Duration = Duration::ZERO;

/// The same when relays are about: the peer's relay may look peer-reflexive, and a direct pair through two
/// NATs may need a second round. Lower than this, a dial may settle for the relay and stay there.
pub(super) const PRFLX_WAIT_BESIDE_RELAYS: Duration = Duration::from_millis(200);

/// How long a relayed pair waits for a direct one. Upstream 2 s, goutils 3 s. It is what a first call costs
/// where only relays work; lower, more dials settle for the relay. 500 ms is several round trips of checks
/// between most continents.
pub(super) const RELAY_WAIT: Duration = Duration::from_millis(500);

/// The same when only relays are wanted: nothing better will come.
pub(super) const RELAY_ONLY_WAIT: Duration = Duration::ZERO;

/// How long the answerer holds back its checks. A check that arrives at a caller before the answer makes us
/// peer-reflexive there, and pion waits 1 s before it nominates such a pair. The caller's own checks come
/// with its candidates and need no waiting; two NATs pay this much, and signaling takes it anyway.
pub(super) const ANSWERER_HOLD: Duration = Duration::from_millis(150);

/// How long the caller, with an answer that has no candidate, waits for the first one before it listens. It
/// keeps early checks of the answerer from making it peer-reflexive.
pub(super) const CALLER_HOLD: Duration = Duration::from_millis(150);

/// How often the path in use is probed, RFC 7675. Upstream's and pion's value.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(2);

/// Silence until `Disconnected`. pion's value: two probes and their retries lost.
pub(super) const DISCONNECTED: Duration = Duration::from_secs(5);

/// Silence after that until `Failed`, and with the above how long looking for a path lasts: 10 s. Upstream
/// 25 s; goutils gives up at `Disconnected` already, and micro-rdk looks for 10 s.
pub(super) const FAILED: Duration = Duration::from_secs(5);

/// How long the caller looks for a path. Below the answerer's 10 s and below the 10 s that signaling keeps an
/// offer, so that the caller hears its own reason, which knows its own network, and not "no result in time".
pub(super) const LOOKING: Duration = Duration::from_secs(9);

/// DTLS and SCTP together, once a path works. micro-rdk's value; neither has a deadline upstream.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// When a lost flight of the DTLS handshake is sent again. Upstream 1 s.
pub(super) const DTLS_FLIGHT: Duration = Duration::from_millis(300);

/// How long a reader may take to collect what came before the peer's close; then it is lost and everything
/// is closed.
pub(super) const DRAIN: Duration = Duration::from_secs(30);

/// How long saying goodbye may take.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// Gathering cannot be stopped upstream; what it finds after a close is closed when it ends. Longer than the
/// 5 s that a dead STUN server takes and than a resolver's patience.
pub(super) const GATHERING: Duration = Duration::from_secs(40);

/// How long a `.local` name is asked for.
pub(super) const MDNS: Duration = Duration::from_secs(3);
