//! What servers say in the world of a fuzzed gatherer.
//!
//! In `gathering`, part of its fuzzing, beside `world`; true answers and refusals are [`Turn`](super::super::script::Turn)'s.
//!
//! # Invariant
//! What comes of an answer does not hang on the random transaction ID that it is for.

use super::world::{ADDRESSES, World, peer};
use crate::peer::engine::fuzzing::Orders;
use crate::peer::engine::gathering::Transmit;
use crate::peer::engine::gathering::script::binding;
use crate::peer::engine::gathering::stun::{Class, Message, Writer, attribute, method};

const CODES: [u16; 12] = [300, 401, 437, 438, 441, 486, 508, 403, 400, 0, 799, 420];
const METHODS: [u16; 5] =
    [method::BINDING, method::ALLOCATE, method::REFRESH, method::DATA, method::CREATE_PERMISSION];
const ATTRIBUTES: [u16; 12] = [
    attribute::MAPPED_ADDRESS,
    attribute::XOR_MAPPED_ADDRESS,
    attribute::XOR_RELAYED_ADDRESS,
    attribute::XOR_PEER_ADDRESS,
    attribute::ALTERNATE_SERVER,
    attribute::LIFETIME,
    attribute::ERROR_CODE,
    attribute::REALM,
    attribute::NONCE,
    attribute::DATA,
    attribute::USERNAME,
    attribute::MESSAGE_INTEGRITY,
];

impl World {
    /// What a server says, if anything.
    pub(super) fn answer(&self, kind: usize, request: &Transmit, orders: &mut Orders<'_>) -> Option<Vec<u8>> {
        let mut bytes = self.truth(request);
        let length = bytes.len();
        match kind {
            0..=2 => {}
            3 => {
                for _ in 0..1 + (orders.number() & 3) {
                    // Turned over, not set: what random transaction IDs mask must not decide what comes out.
                    bytes[orders.number() % length] ^= orders.number() as u8;
                }
            }
            4 => bytes.truncate(orders.number()),
            5 => {
                let (code, alternate) = (orders.number(), orders.number());
                let code = CODES.get(code).copied().unwrap_or(300 + code as u16);
                let alternate = ADDRESSES[..6].get(alternate).copied();
                bytes = self.turn.refuse(request, code, alternate);
            }
            6 => bytes = self.made(request, orders),
            _ => return None,
        }
        Some(bytes)
    }

    pub(super) fn truth(&self, request: &Transmit) -> Vec<u8> {
        match Message::read(&request.bytes).map(|message| message.method) {
            Some(method::BINDING) => binding(request, &self.turn.mapped.to_string()),
            _ => self.turn.answer(request),
        }
    }

    /// An answer to this request with any attributes, signed or not.
    fn made(&self, request: &Transmit, orders: &mut Orders<'_>) -> Vec<u8> {
        let request = Message::read(&request.bytes).unwrap();
        let form = orders.number();
        let class = [Class::Success, Class::Error, Class::Indication, Class::Request][form & 3];
        let method = METHODS.get(form >> 5).copied().unwrap_or(request.method);
        let mut answer = Writer::new(class, method, request.id);
        for _ in 0..orders.number() & 7 {
            let which = orders.number();
            let kind = ATTRIBUTES[(which & 15) % ATTRIBUTES.len()];
            answer = match which >> 4 {
                0..=5 => answer.add_xor_address(kind, peer(orders)),
                6..=8 => answer.add(kind, &(orders.number() as u32).to_be_bytes()),
                9 => answer.add(kind, &vec![b'x'; orders.number() * 4]),
                _ => {
                    let length = orders.number();
                    answer.add(kind, orders.take(length))
                }
            };
        }
        if form & 4 == 0 { answer.sign(&self.turn.key()) } else { answer.finish() }
    }
}
