//! Visits every state that can be reached, nearest first, so that the first trace to a fault is a shortest one.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;

use super::rules::{Broken, Rule};
use super::state::{Scope, State};
use super::step::Step;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// How many steps lead to the state that is furthest away.
    pub(super) depth: u32,
    pub(super) fault: Option<Fault>,
    /// The kinds of steps that were taken.
    pub(super) kinds: BTreeSet<&'static str>,
}

/// How a rule comes to be broken.
pub(super) struct Fault {
    pub(super) broken: Broken,
    pub(super) trace: Vec<String>,
}

impl Fault {
    pub(super) fn rule(&self) -> Rule {
        self.broken.rule
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "     {}", self.broken)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}\n")
    }
}

/// How a state was come to first.
struct Origin {
    from: usize,
    step: Step,
}

/// More states than any scope has, and than memory may hold.
const MOST: usize = 1_000_000;

/// Visits all states.
pub(super) fn explore(scope: &Scope) -> Found {
    let mut origins = vec![Origin { from: 0, step: Step::Tick }];
    let first = State::new(scope);
    let mut seen = HashSet::from([first.key(scope)]);
    let mut next = VecDeque::from([(0, 0, first)]);
    let (mut steps, mut depth, mut kinds) = (0, 0, BTreeSet::new());
    while let Some((place, far, state)) = next.pop_front() {
        depth = far;
        assert!(origins.len() < MOST, "that many states: something grows, or the key tells too much apart");
        let possible = state.steps(scope);
        assert!(
            !possible.is_empty(),
            "nothing can happen any more:\n{}",
            tell(scope, &origins, place).join("\n")
        );
        for step in possible {
            steps += 1;
            kinds.insert(step.kind());
            let after = state.after(scope, step).and_then(|after| {
                let is_new = seen.insert(after.key(scope));
                is_new.then(|| after.check(scope).map(|()| after)).transpose()
            });
            match after {
                Ok(None) => {}
                Ok(Some(after)) => {
                    origins.push(Origin { from: place, step });
                    next.push_back((origins.len() - 1, far + 1, after));
                }
                Err(broken) => {
                    let mut trace = tell(scope, &origins, place);
                    trace.push(state.tell(step));
                    let fault = Some(Fault { broken, trace });
                    return Found { states: seen.len(), steps, depth, fault, kinds };
                }
            }
        }
    }
    Found { states: seen.len(), steps, depth, fault: None, kinds }
}

/// The steps that lead to this place, in words. Ticks show as the time in front of the others.
fn tell(scope: &Scope, origins: &[Origin], mut place: usize) -> Vec<String> {
    let mut steps = Vec::new();
    while place != 0 {
        steps.push(origins[place].step);
        place = origins[place].from;
    }
    let mut state = State::new(scope);
    let mut lines = Vec::new();
    for step in steps.into_iter().rev() {
        if step != Step::Tick {
            lines.push(state.tell(step));
        }
        let Ok(after) = state.after(scope, step) else { break };
        state = after;
    }
    lines
}
