//! Random schedules of faults: what was sent arrives once and in order, or the association ends.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens at one moment.
#[derive(Debug, Clone)]
enum Step {
    Send {
        side: usize,
        stream: u16,
        length: usize,
    },
    Wait(Duration),
    /// The links lose so many of 1000 packets from now on.
    Loss(u32, u32),
    Jitter(u64),
    Duplicates(u32),
    Reads(usize, bool),
    Reset(usize, u16),
    Shutdown(usize),
    /// Nothing gets through for so long.
    Outage(Duration),
    /// A packet that was on the link before comes again.
    Replay(usize),
    /// A timer is asked without its time having come.
    EarlyTimer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0..2usize;
    let stream = 0..5u16;
    let length = prop_oneof![4 => 1..200usize, 3 => 200..5000usize, 1 => 5000..60_000usize];
    prop_oneof![
        12 => (side.clone(), stream.clone(), length)
            .prop_map(|(side, stream, length)| Step::Send { side, stream, length }),
        6 => (0..200u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        2 => (0..400u32, 0..400u32).prop_map(|(there, back)| Step::Loss(there, back)),
        1 => (0..40u64).prop_map(Step::Jitter),
        1 => (0..300u32).prop_map(Step::Duplicates),
        1 => (side.clone(), any::<bool>()).prop_map(|(side, reads)| Step::Reads(side, reads)),
        1 => (side.clone(), stream).prop_map(|(side, stream)| Step::Reset(side, stream)),
        1 => side.clone().prop_map(Step::Shutdown),
        1 => (0..5000u64).prop_map(|ms| Step::Outage(Duration::from_millis(ms))),
        2 => (0..1000usize).prop_map(Step::Replay),
        1 => side.prop_map(Step::EarlyTimer),
    ]
}

/// A message that says who it is.
fn message(number: usize, length: usize) -> Bytes {
    let number = (number as u32).to_be_bytes();
    number.into_iter().chain(std::iter::repeat(number[3])).take(length.max(4)).collect::<Vec<u8>>().into()
}

fn check(seed: u64, steps: &[Step], options: [(bool, bool, usize); 2]) -> Result<(), TestCaseError> {
    let mut number = 0;
    let configs = options.map(|(interleaving, zero_checksum, window)| {
        number += 1;
        Config { interleaving, zero_checksum, receive_window: window, max_message: 60_000, ..config(number) }
    });
    let windows = configs.each_ref().map(|config| config.receive_window);
    let mut pair = Pair::new(seed, LinkConfig::default(), configs);
    let old = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&old);
    pair.watch = Some(Box::new(move |from, packet| {
        keep.borrow_mut().push((1 - from, packet.clone()));
        true
    }));
    pair.connect();
    let mut sent: [BTreeMap<u16, Vec<Bytes>>; 2] = Default::default();
    let mut count = 0;
    let mut is_shut = false;
    for step in steps {
        match *step {
            Step::Send { side, stream, length } => {
                let message = message(count, length);
                if pair.sides[side].sctp.send(pair.now, stream, 51, message.clone()).is_ok() {
                    sent[side].entry(stream).or_default().push(message);
                    count += 1;
                }
            }
            Step::Wait(time) => pair.run(time),
            Step::Loss(there, back) => {
                pair.links[0].config.loss = f64::from(there) / 1000.0;
                pair.links[1].config.loss = f64::from(back) / 1000.0;
            }
            Step::Jitter(ms) => {
                pair.links.iter_mut().for_each(|link| link.config.jitter = Duration::from_millis(ms));
            }
            Step::Duplicates(of) => {
                pair.links.iter_mut().for_each(|link| link.config.duplicate = f64::from(of) / 1000.0);
            }
            Step::Reads(side, reads) => pair.sides[side].reads = reads,
            Step::Reset(side, stream) => pair.sides[side].sctp.reset_stream(pair.now, stream),
            Step::Shutdown(side) => {
                pair.sides[side].sctp.shutdown(pair.now);
                is_shut = true;
            }
            Step::Outage(time) => {
                let configs = pair.links.each_ref().map(|link| link.config);
                pair.links.iter_mut().for_each(|link| link.config.loss = 1.0);
                pair.run(time);
                for (link, config) in pair.links.iter_mut().zip(configs) {
                    link.config = config;
                }
            }
            Step::Replay(which) => {
                let packets = old.borrow();
                let (to, packet) = packets[which % packets.len()].clone();
                drop(packets);
                pair.inject(to, &packet);
            }
            Step::EarlyTimer(side) => pair.sides[side].sctp.handle_timeout(pair.now),
        }
        pair.settle();
        for side in 0..2 {
            let sctp = &pair.sides[side].sctp;
            let outstanding = !sctp.is_closed() && (0..5).any(|stream| sctp.buffered(stream) > 0);
            prop_assert!(
                !outstanding || sctp.poll_timeout(pair.now).is_some(),
                "no timer with data outstanding"
            );
        }
    }
    // The weather clears: all must end well.
    for side in 0..2 {
        pair.links[side].config = LinkConfig::default();
        pair.sides[side].reads = true;
    }
    let arrived = |pair: &Pair| {
        (0..2)
            .all(|side| sent[side].iter().all(|(stream, all)| pair.received(1 - side, *stream) >= all.len()))
    };
    let is_over = |pair: &Pair| pair.closed(0).is_some() && pair.closed(1).is_some();
    pair.run_until(Duration::from_secs(150), |pair| (arrived(pair) && !is_shut) || is_over(pair));
    for side in 0..2 {
        for (stream, all) in &sent[side] {
            let none = Vec::new();
            let got = pair.sides[1 - side].received.get(stream).unwrap_or(&none);
            let got: Vec<&Bytes> = got.iter().map(|(_, bytes)| bytes).collect();
            prop_assert!(got.len() <= all.len(), "something came twice");
            prop_assert!(got.iter().zip(all).all(|(got, sent)| *got == sent), "out of order or changed");
            let ended = pair.closed(side).filter(|reason| **reason != CloseReason::Shutdown);
            prop_assert!(
                got.len() == all.len() || ended.is_some(),
                "lost without an error: {:?}",
                pair.closed(side)
            );
        }
        let bound = windows[side] + windows[side] / 2 + (120 << 10);
        prop_assert!(pair.most_held(side) <= bound, "held {}", pair.most_held(side));
    }
    prop_assert!(arrived(&pair) || is_over(&pair));
    prop_assert!(
        !is_shut || is_over(&pair),
        "shut down and not closed: {:?} {:?}",
        pair.closed(0),
        pair.closed(1)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sent_arrives_once_and_in_order_or_the_association_ends(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
        options in prop::array::uniform2((any::<bool>(), any::<bool>(), 120_000..2_000_000usize)),
    ) {
        check(seed, &steps, options)?;
    }
}
