//! A robot that stops without a word: the caller hears of it, and of its return.
//!
//! The robot is a process of its own, this test binary again, stopped by SIGSTOP: its sockets stay open and
//! take packets, and nobody answers. Time is real here.

#![cfg(all(feature = "webrtc", unix))]
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::probe::ProbeRequest;
use common::{LONG, Probe, ROBOT, Signaling, loopback};
use farlink::server::Server;
use farlink::transport::CloseReason;
use farlink::{Channel, DialOptions, Event};
use tonic::Code;

const VIA: &str = "FARLINK_TEST_ROBOT_VIA";

/// Not a test: the robot's process, when the variable is set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests of this file"]
async fn robot() {
    let Ok(via) = std::env::var(VIA) else { return };
    let robot = Server::builder().host(ROBOT).answer_via(via).listen(loopback()).insecure(true);
    let robot = robot.start(Probe::routes()).await.unwrap();
    assert!(robot.signaling()[0].clone().online().await);
    println!("\nONLINE");
    // Until killed, or until nobody can kill it any more.
    tokio::time::sleep(Duration::from_secs(120)).await;
}

struct Robot(Child);

impl Robot {
    fn start(signaling: &Signaling) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "robot", "--nocapture"])
            .env(VIA, signaling.addr.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ONLINE"), "the robot's process ended");
        Self(child)
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Robot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connected() -> (Signaling, Robot, Channel) {
    let signaling = Signaling::start().await;
    let robot = tokio::task::block_in_place(|| Robot::start(&signaling));
    let options = DialOptions::new().signaling_address(signaling.addr.to_string()).insecure(true);
    let channel = farlink::dial(ROBOT, options.timeout(LONG)).await.unwrap();
    works(&channel).await.unwrap();
    (signaling, robot, channel)
}

async fn works(channel: &Channel) -> Result<(), tonic::Status> {
    let request = ProbeRequest { size: 10, ..Default::default() };
    Probe::client(channel.clone()).unary(request).await.map(drop)
}

async fn until(events: &mut farlink::Events, is_it: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.next().await.expect("more events");
            if is_it(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(LONG, found).await.expect("the event in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_stops_is_silent_after_5_s_and_lost_after_10_s() {
    let (_signaling, robot, channel) = connected().await;
    let mut events = channel.events();
    let mut client = Probe::client(channel.clone());
    let request = ProbeRequest { delay_ms: 100_000, ..Default::default() };
    let call = tokio::spawn(async move { client.unary(request).await });
    robot.signal("-STOP");
    let began = Instant::now();
    until(&mut events, |event| matches!(event, Event::Silent)).await;
    let silent = began.elapsed();
    assert!(!call.is_finished(), "it may recover");
    let closed = until(&mut events, |event| matches!(event, Event::Closed { .. })).await;
    let lost = began.elapsed();
    eprintln!("silent after {silent:?}, lost after {lost:?}");
    assert!(matches!(closed, Event::Closed { reason: CloseReason::Lost(_) }), "{closed}");
    // The last keepalive was up to 2 s before the stop.
    assert!((2.5..7.0).contains(&silent.as_secs_f32()), "{silent:?}");
    assert!((7.5..13.0).contains(&lost.as_secs_f32()), "{lost:?}");
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(works(&channel).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_that_comes_back_in_time_is_heard_again() {
    let (_signaling, robot, channel) = connected().await;
    let mut events = channel.events();
    robot.signal("-STOP");
    until(&mut events, |event| matches!(event, Event::Silent)).await;
    // Made into the silence: it waits, and is answered.
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { works(&channel).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    robot.signal("-CONT");
    let began = Instant::now();
    until(&mut events, |event| matches!(event, Event::Recovered)).await;
    let heard = began.elapsed();
    waiting.await.unwrap().unwrap();
    eprintln!("heard again after {heard:?}, answered after {:?}", began.elapsed());
    works(&channel).await.unwrap();
}
