//! From nothing to open.

use super::super::*;
use super::world::{A, B, World, ms, stranger};
use crate::peer::CandidateKind;

#[test]
fn it_opens_with_candidates_in_the_descriptions() {
    let mut world = World::new(1);
    world.trickles = false;
    world.open();
    let path = world.connection(A).state().path.unwrap();
    assert_eq!((path.local, path.remote), (CandidateKind::Host, CandidateKind::Host));
    assert_eq!(path.remote_address, "10.0.0.2:2000");
}

#[test]
fn it_opens_with_trickled_candidates() {
    let mut world = World::new(1);
    world.open();
    assert_eq!(world.phase(A), Phase::Connected);
    assert_eq!(world.phase(B), Phase::Connected);
    println!("opened at {:?} and {:?}", world.sides[A].opened, world.sides[B].opened);
}
