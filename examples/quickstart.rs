//! All three parts in one process: a signaling server, a robot, and a caller who reaches it three times.
//!
//! `cargo run --release --example quickstart`

mod common;

use std::error::Error;
use std::time::{Duration, Instant};

use farlink::proto::echo::{EchoRequest, echo_service_client::EchoServiceClient};
use farlink::server::Server;
use farlink::transport::TransportKind;
use farlink::{Channel, DialOptions};
use farlink_signaling::SignalingServer;

const CALLS: u32 = 1000;

/// Runs the whole path on this machine: WebRTC, direct gRPC, and the fallback from one to the other.
#[derive(clap::Parser)]
struct Args {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Args {} = clap::Parser::parse();
    let signaling = SignalingServer::builder().bind("127.0.0.1:0").await?;
    let via = signaling.local_addr().to_string();
    let (stop_signaling, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(signaling.serve(async { drop(stopped.await) }));

    let loopback = "127.0.0.1:0".parse()?;
    let robot = Server::builder().host("robot.example").answer_via(&via).listen(loopback).insecure(true);
    let robot = robot.start(common::routes()).await?;
    let address = robot.local_addr().ok_or("the robot listens")?.to_string();
    robot.signaling()[0].clone().online().await;

    let options = DialOptions::new().signaling_address(via).insecure(true).timeout(Duration::from_secs(5));
    let channel = farlink::dial("robot.example", options.clone()).await?;
    expect(&channel, TransportKind::WebRtc).await?;

    let channel = farlink::dial(&address, options.clone().disable_webrtc(true)).await?;
    expect(&channel, TransportKind::Direct).await?;

    let _ = stop_signaling.send(());
    serving.await??;
    println!("\nsignaling is gone; dialing the robot's own address through it");
    let channel = farlink::dial(&address, options).await?;
    expect(&channel, TransportKind::Direct).await?;
    let reason = channel.fallback_reason().ok_or("the dial fell back without a reason")?;
    println!("  fell back because {reason}");
    robot.shutdown().await;
    Ok(())
}

/// Calls the robot and prints what came of it; an error unless it was reached this way.
async fn expect(channel: &Channel, transport: TransportKind) -> Result<(), Box<dyn Error>> {
    let mut echo = EchoServiceClient::new(channel.clone());
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        echo.echo(EchoRequest { message: "hello".into() }).await?;
        times.push(began.elapsed());
    }
    let report = channel.report().ok_or("a dialed channel has a report")?;
    println!("{report}");
    println!("  {CALLS} calls over {}: {}", channel.transport(), common::percentiles(&mut times));
    if channel.transport() == transport { Ok(()) } else { Err("reached another way than expected".into()) }
}
