//! Both ends may send the moment their data channel opens: nothing of that is lost. Stacks are known that lose
//! the first message of every connection.

#![cfg(all(feature = "engine", feature = "webrtc"))]

mod common;
#[path = "common/peers.rs"]
mod peers;
#[macro_use]
#[path = "common/stacks.rs"]
mod stacks;

use std::sync::Arc;

use common::probe::ProbeRequest;
use common::{LONG, Lab, Probe};
use farlink::peer::Stack;
use farlink::transport::TransportKind;
use farlink::transport::webrtc::{Limits, RobotConnection, RobotService, WebRtcTransport};
use futures_util::StreamExt as _;
use http::Extensions;
use tokio::time::timeout;

/// Connections at a time.
const AT_A_TIME: usize = 6;

on_each_stack! {
    the_first_call_of_two_hundred_dials_is_answered
    an_end_that_is_first_need_not_wait_for_the_other
    what_the_robot_says_first_arrives
}

async fn the_first_call_of_two_hundred_dials_is_answered(stack: Arc<dyn Stack>) {
    let lab = Lab::with(stack, |robot| robot.max_connections(200)).await;
    let dials = (0..200_u32).map(|number| {
        let lab = &lab;
        async move {
            let channel = lab.over_webrtc().await;
            assert_eq!(channel.transport(), TransportKind::WebRtc);
            let request = ProbeRequest { size: number + 1, count: 3, ..Default::default() };
            let mut client = Probe::client(channel);
            if number % 2 == 0 {
                let reply = timeout(LONG, client.unary(request)).await.expect("lost").unwrap();
                assert_eq!(reply.into_inner().total, u64::from(number) + 1);
            } else {
                let replies = timeout(LONG, client.spread(request)).await.expect("lost").unwrap();
                let replies = timeout(LONG, replies.into_inner().count()).await.expect("lost");
                assert_eq!(replies, 3);
            }
        }
    });
    futures_util::stream::iter(dials).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

/// Without signaling's messages between the opening and the call: each end starts as soon as its own channel is
/// open, whatever the other one knows.
async fn an_end_that_is_first_need_not_wait_for_the_other(stack: Arc<dyn Stack>) {
    let connections = (0..60).map(|number| {
        let stack = Arc::clone(&stack);
        async move {
            let (mut caller, mut answerer) = peers::two(&stack).await;
            peers::negotiate(&mut caller, &mut answerer).await;
            let robot = async {
                peers::open(&mut answerer.channel).await.unwrap();
                let service = RobotService::new(Probe::routes().prepare());
                RobotConnection::new(answerer, service, Extensions::new(), Limits::default())
            };
            let call = async {
                peers::open(&mut caller.channel).await.unwrap();
                let transport = WebRtcTransport::new(caller, Limits::default());
                let mut client = Probe::client(farlink::Channel::from_transport(transport));
                let request = ProbeRequest { size: number, ..Default::default() };
                client.unary(request).await.unwrap().into_inner().total
            };
            let (robot, total) = timeout(LONG, async { tokio::join!(robot, call) }).await.expect("lost");
            assert_eq!(total, u64::from(number));
            drop(robot);
        }
    });
    futures_util::stream::iter(connections).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

/// The robot's end may say something first: raw, since no call has begun.
async fn what_the_robot_says_first_arrives(stack: Arc<dyn Stack>) {
    let connections = (0..60).map(|number: u32| {
        let stack = Arc::clone(&stack);
        async move {
            let (mut caller, mut answerer) = peers::two(&stack).await;
            peers::negotiate(&mut caller, &mut answerer).await;
            let there = async {
                peers::open(&mut answerer.channel).await.unwrap();
                peers::send(&mut answerer.channel, number.to_be_bytes().to_vec()).await.unwrap();
                peers::recv(&mut answerer.channel).await
            };
            let here = async {
                peers::open(&mut caller.channel).await.unwrap();
                peers::send(&mut caller.channel, number.to_be_bytes().to_vec()).await.unwrap();
                peers::recv(&mut caller.channel).await
            };
            let both = timeout(LONG, async { tokio::join!(there, here) }).await.expect("lost");
            assert_eq!((both.0.unwrap(), both.1.unwrap()), {
                let number = bytes::Bytes::from(number.to_be_bytes().to_vec());
                (number.clone(), number)
            });
        }
    });
    futures_util::stream::iter(connections).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}
