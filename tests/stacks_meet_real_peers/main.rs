//! Each of our WebRTC stacks against other people's: pion, the pion that goutils pins, aiortc, Chromium.
//!
//! `cargo test --test stacks_meet_real_peers [pion | goutils | aiortc | chromium]`; README.md beside this file
//! has the words that tests and peers exchange. A peer whose toolchain is missing is skipped, with a line that
//! says so; with `FARLINK_REQUIRE_PEERS=1` its tests fail. `FARLINK_MEETINGS` (20) is how many connections the
//! test of first messages makes; `FARLINK_STACK` picks one of ours.

#![allow(clippy::unwrap_used)]

mod browser;
#[path = "../common/peers.rs"]
mod peers;
mod program;
mod promises;
mod remote;

use std::sync::Arc;

use farlink::peer::Stack;

use self::program::Program;

/// The stacks that meet them.
fn stacks() -> Vec<(&'static str, Arc<dyn Stack>)> {
    vec![
        #[cfg(feature = "engine")]
        ("engine", Arc::new(farlink::peer::engine::Engine::new().resolve_mdns(false))),
        #[cfg(feature = "webrtc")]
        ("webrtc_rs", Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new().resolve_mdns(false))),
    ]
}

/// Calls this for those of them that are asked for.
macro_rules! with_stacks {
    ($stack:ident => $promise:expr) => {
        // FARLINK_STACK: only this one.
        let only = std::env::var("FARLINK_STACK").ok();
        let mut ran = 0;
        for (name, $stack) in crate::stacks() {
            if only.as_ref().is_none_or(|only| only == name) {
                println!("{name}");
                $promise.await;
                ran += 1;
            }
        }
        assert!(ran > 0, "there is no stack {only:?}");
    };
}

/// Each promise, with each peer and each stack.
macro_rules! meetings {
    ($($peer:ident: $promises:tt),* $(,)?) => {
        $(mod $peer { meetings!(@ $peer $promises); })*
    };
    (@ $peer:ident [$($promise:ident),* $(,)?]) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            let Some(program) = super::Program::$peer() else { return };
            with_stacks!(stack => super::promises::$promise(stack, &program));
        })*
    };
}

meetings! {
    pion: [
        it_opens,
        messages_of_every_size_arrive_in_order_both_ways,
        the_largest_messages_come_back,
        ten_thousand_small_messages_arrive_each_way,
        no_first_message_is_lost,
        a_close_is_seen_by_the_peer,
        a_drop_is_seen_by_the_peer,
        the_peers_close_is_seen,
    ],
    goutils: [
        it_opens,
        messages_of_every_size_arrive_in_order_both_ways,
        the_largest_messages_come_back,
        ten_thousand_small_messages_arrive_each_way,
        no_first_message_is_lost,
        a_close_is_seen_by_the_peer,
        a_drop_is_seen_by_the_peer,
        the_peers_close_is_seen,
    ],
    aiortc: [
        it_opens,
        messages_of_every_size_arrive_in_order_both_ways,
        the_largest_messages_come_back,
        ten_thousand_small_messages_arrive_each_way,
        no_first_message_is_lost,
        a_close_is_seen_by_the_peer,
        a_drop_is_seen_by_the_peer,
        the_peers_close_is_seen,
    ],
    chromium: [
        it_opens,
        messages_of_every_size_arrive_in_order_both_ways,
        the_largest_messages_come_back,
        ten_thousand_small_messages_arrive_each_way,
        no_first_message_is_lost,
        a_close_is_seen_by_the_peer,
        a_drop_is_seen_by_the_peer,
        the_peers_close_is_seen,
    ],
}

/// What a real peer is measured by.
mod ourselves {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_first_message_is_lost() {
        with_stacks!(stack => super::promises::no_first_message_of_our_own_is_lost(stack));
    }
}
