//! Two associations over a link.

mod classic;
mod faults;
mod figures;
mod handshake;
mod heartbeats;
mod link;
mod resets;
mod shutdown;
mod transfer;
mod windows;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use self::link::{Pair, config, kinds};
use super::codec::{Abilities, Init, Packet, Writer, code, kind, seal};
use super::*;
use crate::peer::engine::simulator::LinkConfig;

/// A packet to `tag` with a checksum.
fn packet(tag: u32, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut packet = Vec::new();
    fill(&mut Writer::new(&mut packet, 1200, 5000, 5000, tag));
    seal(&mut packet);
    packet
}

/// Notes each packet that side `from` sends.
fn record(pair: &mut Pair, from: usize) -> Rc<RefCell<Vec<Vec<u8>>>> {
    let packets = Rc::new(RefCell::new(Vec::new()));
    let to = Rc::clone(&packets);
    pair.watch = Some(Box::new(move |side, packet| {
        if side == from {
            to.borrow_mut().push(packet.clone());
        }
        true
    }));
    packets
}

/// The verification tag of a packet: that of the side it goes to.
fn tag_of(packet: &[u8]) -> u32 {
    Packet::parse(packet).unwrap().tag
}
