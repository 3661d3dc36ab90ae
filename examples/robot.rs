//! A robot that serves Echo, through signaling servers and on a port of its own.
//!
//! `cargo run --example robot -- --host robot.example --signaling 127.0.0.1:7000 --insecure`

mod common;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use farlink::server::{Server, SignalingStatus};
use farlink::signaling::answerer::AnswererState;
use tokio::signal::unix::{SignalKind, signal};

/// Serves Echo until SIGINT or SIGTERM, then lets calls in flight end.
#[derive(clap::Parser)]
struct Args {
    /// The robot's name in signaling; up to five.
    #[arg(long, required = true)]
    host: Vec<String>,
    /// A signaling server to answer through; any number.
    #[arg(long)]
    signaling: Vec<String>,
    /// Where to listen for direct callers [default with --insecure: 127.0.0.1:0; else nowhere]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Speak plaintext: the listener, and signaling servers without https://
    #[arg(long)]
    insecure: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    common::exit(run(clap::Parser::parse()).await)
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut robot = Server::builder().insecure(args.insecure);
    for host in &args.host {
        robot = robot.host(host);
    }
    for server in &args.signaling {
        robot = robot.answer_via(server);
    }
    let loopback = args.insecure.then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    if let Some(addr) = args.listen.or(loopback) {
        robot = robot.listen(addr);
    }
    let robot = robot.start(common::routes()).await?;
    if let Some(addr) = robot.local_addr() {
        println!("LISTENING {addr}");
    }
    for status in robot.signaling() {
        tokio::spawn(announce(args.host.join(","), status.clone()));
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    robot.shutdown().await;
    Ok(())
}

/// Says when the robot becomes reachable through a server, and on stderr, once each time, why it is not.
async fn announce(name: String, mut status: SignalingStatus) {
    let mut told = false;
    loop {
        let state = status.state.borrow_and_update().clone();
        match state {
            AnswererState::Online => {
                println!("ANSWERING {name} via {}", status.server);
                told = false;
            }
            AnswererState::Connecting { last_error: Some(why), .. } if !told => {
                eprintln!("not reachable via {}, still trying: {why}", status.server);
                told = true;
            }
            AnswererState::Stopped => return,
            _ => {}
        }
        if status.state.changed().await.is_err() {
            return;
        }
    }
}
