//! Every wait of a connection, and why it is what it is. What may differ from peer to peer is in
//! [`Config`](super::Config).

use std::time::Duration;

/// Between two bursts of checks (Ta of RFC 8445 14.2). Its lower bound; recommended are 50 ms, which is felt
/// by hosts with many addresses.
pub(super) const PACE: Duration = Duration::from_millis(5);

/// Checks in one burst. RFC 8445 sends one per Ta; ten cover the pairs of most peers at once, and are about
/// 1 kB in all.
pub(super) const BURST: usize = 10;

/// When a check is sent again for the first time while looking for a path. Less than many round trips; a check too
/// many costs 100 bytes.
pub(super) const CHECK: Duration = Duration::from_millis(50);

/// How often a pair is checked at least while looking. Longer gaps are felt where the peer's first check opens
/// its NAT: the crate sends no triggered check for a pair that it knows. With 200 ms, two port-restricted NATs took
/// 380 ms. Twenty pairs cost 20 kB/s, until there is a path.
pub(super) const CHECK_AT_LEAST: Duration = Duration::from_millis(100);

/// The same once there is a path, for the better one that may show itself. The crate keeps every check that it has made
/// of a pair, and has room for 18; with 100 ms a thousand peers of five pairs each held 4 MB more, for good.
pub(super) const CHECK_LATER: Duration = Duration::from_millis(200);

/// How long checks through relays wait for those that need none: less than the first repeat of a check. On a short
/// way both work within milliseconds, and a connection that begins on the relay has to move.
pub(super) const RELAYS_LATER: Duration = Duration::from_millis(45);

/// Checks until a pair is given up while looking: more than fit into the deadlines below.
pub(super) const CHECKS: usize = 120;

/// How long pairs are checked at the pace of [`CHECK_LATER`] after the first path was found: a better one has this long
/// to show itself at once, and all the time after that at the pace of probes.
pub(super) const SETTLING: Duration = Duration::from_secs(3);

/// How often a path is probed once settled (RFC 7675 has 5 s, pion 2 s). Must leave room for a lost probe
/// and its repeats before a path counts as silent.
pub(super) const PROBE: Duration = Duration::from_secs(2);

/// The same for a connection that is lost after this much silence: five times in it, so that a peer that has nothing to
/// say is heard by its answers, though one of them may be lost.
pub(super) fn probe(patience: Duration) -> Duration {
    (patience / 5).clamp(CHECK_AT_LEAST, PROBE)
}

/// How long the answerer holds back its checks. One that arrives at pion before our answer makes us
/// peer-reflexive there, and pion then waits 1 s before it nominates. Over soon after the peer's first check, which a
/// NAT may keep from us: callers that say they are farlink need no holding back.
pub(super) const ANSWERER_HOLD: Duration = Duration::from_millis(150);

/// How much longer it holds back the others once the peer checks. pion nominates a pair at once when it works already
/// as our check of it arrives, and else with our next check: one that overtakes our answer costs 50 ms. It checks all
/// pairs in one burst of about a millisecond; this is more, and too little to be felt.
pub(super) const REST_LATER: Duration = Duration::from_millis(10);

/// How long the caller looks for a path after the answer. Below the answerer's 10 s, and below the 10 s that
/// signaling keeps an offer, so that the caller hears its own reason.
pub(super) const CALLER_LOOKS: Duration = Duration::from_secs(9);

/// How long the answerer looks for a path.
pub(super) const ANSWERER_LOOKS: Duration = Duration::from_secs(10);

/// DTLS and SCTP together, once a path works. micro-rdk's value.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// Silence on the path after which another pair that speaks takes over: below `Disconnected`, and above a
/// lost probe with its first repeats.
pub(super) const DOUBT: Duration = Duration::from_secs(3);

/// How lately another pair must have spoken for that: it is probed every 2 s.
pub(super) const SPOKEN: Duration = Duration::from_millis(2_500);

/// Silence on the path after which it is taken for left by the peer, when its data comes on another pair: above the
/// jitter between two paths. Twice as long after a move, which the peer may only be about to follow.
pub(super) const LEFT: Duration = Duration::from_millis(250);

/// How long another way is looked for when the relay that was used is lost: many checks of each pair, and short enough
/// that whoever waits can dial again.
pub(super) const ORPHANED: Duration = Duration::from_secs(2);

/// Silence until `Disconnected`. pion's value: two probes and their repeats lost.
pub(super) const DISCONNECTED: Duration = Duration::from_secs(5);

/// Silence until `Failed`.
pub(super) const LOST: Duration = Duration::from_secs(10);

/// How long we send without an answer to a probe (RFC 7675 5.1), whatever else arrives. Must not be more.
pub(super) const CONSENT: Duration = Duration::from_secs(30);

/// When the last words are said again, in case they were lost: nobody acknowledges them.
pub(super) const GOODBYES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];
