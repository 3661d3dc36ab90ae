//! The buffer that the peers of a thread receive into.

use std::cell::Cell;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// How much fits into one datagram, and with GRO into one train of datagrams.
pub(super) const SLOT: usize = 64 * 1024;

/// Slots that one call of the kernel fills at most. With GRO a slot is up to 64 datagrams, so that few are
/// needed; without, it is 8 datagrams for the price of one call.
pub(super) const SLOTS: usize = 8;

/// Lends the thread's buffer, [`SLOTS`] times [`SLOT`] bytes: half a megabyte for a thread, of which the kernel
/// backs only what was ever written. Whoever borrows it while it is lent gets another one, which then stays.
pub(super) fn lend<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer =
        SCRATCH.with(Cell::take).unwrap_or_else(|| vec![0; SLOTS.saturating_mul(SLOT)].into_boxed_slice());
    let result = read(&mut buffer);
    SCRATCH.with(|scratch| scratch.set(Some(buffer)));
    result
}
