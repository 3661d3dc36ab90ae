//! The rules of sessions at both ends, explored: every state that can be reached is visited, and in each of them
//! all [rules](rules::Rule) must hold.
//!
//! What is real: the lease, the rule of when a call may carry its session, and the robot's book with its sessions,
//! deadlines, holdings and stops. What is written here once more, without tasks and locks: what the keeper and
//! the core do at the caller (`caller`), and what the manager and its stops do at the robot (`robot`). What nobody
//! does but chance: the network (`step`).
//!
//! Time goes in ticks of 10 ms, as the lease counts them. Nothing else bounds how long anything goes on: there is
//! no horizon, the search ends when every step from every state leads to a state that was seen (`key` says when
//! two are the same). A [`Scope`] says what can happen:
//!
//! - A heartbeat may be sent at every tick, and need not. One that is lost is one that was not sent; which of them
//!   get through is left to chance, so no schedule of theirs is left out.
//! - Heartbeats, acknowledgements, starts, their answers and calls may be late without a bound, and overtake each
//!   other ([`Late`]).
//! - Connections are cut, and made again at any time; the robot notices at any time, or never. Callers die: to the
//!   robot that is a connection that is gone, or a caller that is silent from then on. The robot may start anew
//!   and know nobody.
//! - In one tick things happen in any order: a heartbeat arrives at the deadline before or after the robot looks,
//!   a call takes a motor before or after a stop begins. With `lag` the robot looks up to a tick late.
//!
//! Two callers at once have no late heartbeats: what a caller sends under its own id changes nothing of another's
//! session, which is one of the rules, in the scopes with two. So the two meet at their motors only, and there
//! everything is left to chance.
//!
//! The flaws show that each rule can be broken, and by what: `cargo test --lib model -- --nocapture` tells how.

mod caller;
mod explore;
mod key;
mod robot;
mod rules;
mod state;
mod step;

use std::collections::BTreeSet;

use self::explore::{Fault, Found, explore};
use self::rules::Rule;
use self::state::{Late, Scope};

/// What is wrong with an end, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// The lease counts from when an acknowledgement came, not from when what it is for was sent.
    CountsFromReceipt,
    /// The risk is told when the window is over.
    TellsOfTheRiskTooLate,
    /// A session that begins or goes on at risk is announced as if all were well. (So it was, until this model.)
    ResumesInSilence,
    /// A session is taken for lost a window after the last acknowledged sign was sent.
    GivesUpTooEarly,
    /// Calls carry the session over the next connection as if nothing had happened.
    DoesNotResume,
    /// The robot takes calls over any connection of the session's owner.
    TakesCallsFromAnyConnection,
    /// The robot does not ask whose a session is.
    TakesForeignIds,
    /// The robot ends sessions a tick before their deadline.
    ExpiresEarly,
    /// The robot looks which sessions are over, and ends them later whatever has come since. (rdk's.)
    OverrulesAcknowledgements,
    /// The robot stops what a session held without asking whether somebody has taken it since. (rdk's.)
    StopsUnasked,
    /// The robot ends sessions, and what they held goes on.
    ForgetsToStop,
}

/// One caller, to whom everything may come late.
const ONE: Scope = Scope {
    callers: 1,
    motors: 1,
    window: 3,
    in_flight: 1,
    late: Late::Everything,
    lost_answers: true,
    slow: false,
    lag: 0,
    backlog: false,
    cuts: false,
    stale: false,
    restarts: false,
    deaths: false,
    grace: None,
    same_host: true,
    flaw: None,
};

/// One caller, to whom everything happens.
const ALL: Scope = Scope {
    late: Late::Calls,
    slow: true,
    lag: 1,
    cuts: true,
    stale: true,
    restarts: true,
    deaths: true,
    ..ONE
};

const TWO: Scope = Scope { callers: 2, late: Late::Nothing, lost_answers: false, ..ONE };

/// Explores a scope in which all rules must hold; these steps, among others, must have been taken.
fn holds(name: &str, scope: Scope, steps: &[&str]) -> Found {
    let found = explore(&scope);
    println!("{name}: {} states, {} steps, {} deep", found.states, found.steps, found.depth);
    assert!(found.fault.is_none(), "{name}: {:?}", found.fault);
    let missing = steps.iter().filter(|step| !found.kinds.contains(*step)).collect::<BTreeSet<_>>();
    assert!(missing.is_empty(), "{name}: never happened: {missing:?}");
    found
}

/// Explores a scope in which something is wrong until a rule breaks, and says how.
fn breaks(flaw: Flaw, scope: Scope, rule: Rule) -> Fault {
    let found = explore(&Scope { flaw: Some(flaw), ..scope });
    let fault = found.fault.unwrap_or_else(|| panic!("{flaw:?} breaks nothing in {} states", found.states));
    println!("{flaw:?}:\n{fault}\n");
    assert_eq!(fault.rule(), rule, "{fault:?}");
    fault
}

const SESSION: &[&str] = &[
    "Ask",
    "Handle",
    "Receive",
    "Beat",
    "Call",
    "Take",
    "Expire",
    "BeginStop",
    "EndStop",
    "GiveUp",
    "Abandon",
];

#[test]
fn late_and_reordered_messages_break_no_rule() {
    holds("late", Scope { slow: true, ..ONE }, SESSION);
}

#[test]
fn late_messages_and_lost_connections_break_no_rule() {
    holds("late, cuts", Scope { cuts: true, ..ONE }, &["Cut", "Reconnect", "Notice", "BeginStop"]);
}

#[test]
fn restarts_deaths_and_what_old_connections_still_bring_break_no_rule() {
    let steps = ["Cut", "Reconnect", "Notice", "Restart", "Die", "Take", "BeginStop", "EndStop"];
    holds("all", ALL, &steps);
}

#[test]
fn heartbeats_bound_to_their_connection_break_no_rule() {
    holds("own connection", Scope { same_host: false, deaths: false, ..ALL }, &["Cut", "Notice"]);
}

#[test]
fn a_grace_breaks_no_rule_but_those_about_what_a_caller_can_know() {
    holds("grace", Scope { grace: Some(1), stale: false, ..ALL }, &["Notice", "EndStop"]);
}

#[test]
fn what_waits_to_be_looked_at_counts_as_of_its_arrival() {
    let backlog = Scope { late: Late::Nothing, lag: 1, backlog: true, ..ONE };
    holds("backlog", backlog, &["Arrive", "BeginStop"]);
    let cuts = Scope { cuts: true, lost_answers: false, lag: 0, ..backlog };
    holds("backlog, cuts", cuts, &["Arrive", "Notice", "BeginStop"]);
}

#[test]
fn a_longer_window_and_more_motors_break_no_rule() {
    holds("window 4", Scope { window: 4, stale: false, ..ALL }, &["EndStop"]);
    holds("2 motors", Scope { motors: 2, late: Late::Nothing, stale: false, lag: 0, ..ALL }, &["EndStop"]);
}

#[test]
fn two_callers_of_one_motor_break_no_rule() {
    let steps = ["Take", "BeginStop", "EndStop"];
    holds("two", Scope { late: Late::Calls, slow: true, ..TWO }, &steps);
}

#[test]
fn two_callers_and_a_robot_that_starts_anew_break_no_rule() {
    let scope = Scope { slow: true, lost_answers: true, restarts: true, ..TWO };
    holds("two, restarts", scope, &["Take", "Restart", "BeginStop", "EndStop"]);
}

#[test]
fn two_callers_of_two_motors_break_no_rule() {
    holds("two, 2 motors", Scope { motors: 2, ..TWO }, &["BeginStop"]);
}

#[test]
fn two_callers_and_lost_connections_break_no_rule() {
    holds("two, cuts", Scope { cuts: true, ..TWO }, &["Cut", "Reconnect", "Notice", "BeginStop"]);
}

#[test]
fn a_robot_that_does_wrong_is_found_out() {
    let backlog = Scope { late: Late::Calls, lag: 1, backlog: true, ..ONE };
    for (flaw, scope, rule) in [
        (Flaw::ExpiresEarly, ONE, Rule::SparesTheTimely),
        (Flaw::OverrulesAcknowledgements, backlog, Rule::KeepsItsWord),
        (Flaw::StopsUnasked, ONE, Rule::SparesTheNextOwner),
        (Flaw::StopsUnasked, TWO, Rule::SparesTheNextOwner),
        (Flaw::ForgetsToStop, ONE, Rule::StopsInTime),
        (Flaw::TakesForeignIds, TWO, Rule::LeavesOthersAlone),
        (Flaw::TakesCallsFromAnyConnection, ALL, Rule::BindsIdsToConnections),
    ] {
        breaks(flaw, scope, rule);
    }
}

#[test]
fn a_caller_that_does_wrong_is_found_out() {
    for (flaw, rule) in [
        (Flaw::CountsFromReceipt, Rule::TellsInTime),
        (Flaw::TellsOfTheRiskTooLate, Rule::TellsInTime),
        (Flaw::ResumesInSilence, Rule::TellsInTime),
        (Flaw::GivesUpTooEarly, Rule::TellsInTime),
    ] {
        breaks(flaw, ONE, rule);
    }
    breaks(Flaw::DoesNotResume, Scope { cuts: true, ..ONE }, Rule::ResumesFirst);
}

#[test]
fn what_breaks_a_rule_is_told_step_by_step() {
    let fault = breaks(Flaw::DoesNotResume, Scope { cuts: true, ..ONE }, Rule::ResumesFirst);
    assert_eq!(
        fault.to_string().lines().map(str::trim).collect::<Vec<_>>(),
        [
            "0  Ann asks for a session",
            "0  the robot looks at Ann's start, sent at 0 over connection 1",
            "0  Ann is given s0, asked for at 0",
            "0  Ann loses the connection",
            "0  Ann has another connection",
            "0  Ann calls m1",
            "0  the robot looks at Ann's call to m1 under s0, sent at 0 over connection 2",
            "ResumesFirst: Ann is refused, though the session lives",
        ]
    );
}
