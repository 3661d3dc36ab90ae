//! A robot that serves Echo and a motor, `m1`, and keeps sessions, through signaling servers and on a port of its own.
//!
//! `cargo run --example robot -- --host robot.example --signaling 127.0.0.1:7000 --insecure`

mod common;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::motor::Motor;
use farlink::server::Server;
use farlink::sessions::robot::SessionManager;
use tokio::signal::unix::{SignalKind, signal};

/// Serves Echo and a motor until SIGINT or SIGTERM, then lets calls in flight end.
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
    /// How long the motor goes on without a heartbeat of the session that drives it, in seconds [default: 2]
    #[arg(long, value_parser = common::motor::seconds, allow_negative_numbers = true)]
    window: Option<Duration>,
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
    let motor = Motor::new("m1");
    let window = args.window.unwrap_or(Duration::from_secs(2));
    let sessions = SessionManager::builder(Arc::new(motor.clone())).window(window).build()?;
    tokio::spawn(common::motor::tell(sessions.events()));
    let routes = sessions.protect(common::routes().add_service(motor.service()));
    let robot = robot.start(routes).await?;
    if let Some(addr) = robot.local_addr() {
        common::say!("LISTENING {addr}");
    }
    for status in robot.signaling() {
        tokio::spawn(common::announce(args.host.join(","), status.clone()));
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    sessions.close().await;
    robot.shutdown().await;
    Ok(())
}
