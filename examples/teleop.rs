//! A caller drives a robot's motor and dies, and the robot stops the motor. Over WebRTC, and directly.
//!
//! `cargo run --example teleop` brings its own robot, and kills a caller on each transport.
//! `cargo run --example teleop -- robot.example --signaling 127.0.0.1:7000 --insecure` drives a robot of
//! yours, and stops it in the end; with `--die` the caller is killed instead.

mod common;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::motor::Motor;
use farlink::DialOptions;
use farlink::proto::motor::{SetPowerRequest, StopRequest, motor_service_client::MotorServiceClient};
use farlink::server::Server;
use farlink::sessions::SessionsClient;
use farlink::sessions::robot::SessionManager;
use farlink_signaling::SignalingServer;
use tokio::process::Command;

/// How long the robot that is brought along waits for a sign of life.
const WINDOW: Duration = Duration::from_secs(2);

/// Drives a motor in a session. Without an address: drives a robot of its own, and dies.
#[derive(Clone, clap::Parser)]
struct Args {
    /// The robot: a name, host:port, or unix:path.
    address: Option<String>,
    /// The signaling server [default: the one known for the domain, else the robot itself]
    #[arg(long)]
    signaling: Option<String>,
    /// The robot and the signaling server speak plaintext.
    #[arg(long)]
    insecure: bool,
    /// Connect directly.
    #[arg(long)]
    disable_webrtc: bool,
    /// The motor.
    #[arg(long, default_value = "m1")]
    motor: String,
    /// How long it is driven.
    #[arg(long, default_value = "3", value_parser = common::motor::seconds, allow_negative_numbers = true)]
    seconds: Duration,
    /// A caller in a process of its own drives, and is killed.
    #[arg(long)]
    die: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    let args: Args = clap::Parser::parse();
    common::exit(match args.address.clone() {
        None => die_twice(args).await,
        Some(address) if args.die => die(&address, &args).await,
        Some(address) => drive(&address, &args).await,
    })
}

/// Drives the motor. What it takes to be stopped when this process dies is the [`SessionsClient`].
async fn drive(address: &str, args: &Args) -> Result<(), Box<dyn Error>> {
    let channel = farlink::dial(address, options(args)).await?;
    let sessions = SessionsClient::new(channel.clone());
    let mut events = sessions.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            common::say!("SESSION {event}");
        }
    });
    let mut motor = MotorServiceClient::new(sessions.channel());
    let power = SetPowerRequest { name: args.motor.clone(), power_pct: 0.5, extra: None };
    motor.set_power(power).await.map_err(common::describe)?;
    common::say!("DRIVING {} over {}", args.motor, channel.transport());
    tokio::time::sleep(args.seconds).await;
    motor.stop(StopRequest { name: args.motor.clone(), extra: None }).await.map_err(common::describe)?;
    Ok(())
}

/// Has this program drive the motor in another process, which is killed. Should this one be killed first, the
/// other ends a little later.
async fn die(address: &str, args: &Args) -> Result<(), Box<dyn Error>> {
    let mut caller = Command::new(std::env::current_exe()?);
    caller.args([
        address,
        "--motor",
        &args.motor,
        "--seconds",
        &(args.seconds.as_secs_f64() + 10.0).to_string(),
    ]);
    caller.args(args.signaling.iter().flat_map(|server| ["--signaling", server]));
    caller.args(args.insecure.then_some("--insecure"));
    caller.args(args.disable_webrtc.then_some("--disable-webrtc"));
    let channel = farlink::dial(address, options(args)).await?;
    common::witness::see_it_die(caller, channel, &args.motor, args.seconds).await
}

/// A signaling server, a robot, and a caller to die on each transport.
async fn die_twice(args: Args) -> Result<(), Box<dyn Error>> {
    let signaling = SignalingServer::builder().bind("127.0.0.1:0").await?;
    let via = signaling.local_addr().to_string();
    tokio::spawn(signaling.serve(std::future::pending()));
    let motor = Motor::new("m1");
    let sessions = SessionManager::builder(Arc::new(motor.clone())).window(WINDOW).build()?;
    let routes = sessions.protect(common::routes().add_service(motor.service()));
    let robot = Server::builder().host("robot.example").answer_via(&via).listen("127.0.0.1:0".parse()?);
    let robot = robot.insecure(true).start(routes).await?;
    let address = robot.local_addr().ok_or("the robot listens")?.to_string();
    robot.signaling()[0].clone().online().await;
    let beat = common::last_beat(sessions);
    let args = Args { signaling: Some(via), insecure: true, motor: "m1".to_owned(), ..args };
    for (address, disable_webrtc) in [("robot.example", false), (&*address, true)] {
        die(address, &Args { disable_webrtc, ..args.clone() }).await?;
        let after = motor.motion().borrow().since - *beat.borrow();
        common::say!("  stopped {} ms after the last heartbeat; the window is {WINDOW:?}", after.as_millis());
    }
    robot.shutdown().await;
    Ok(())
}

fn options(args: &Args) -> DialOptions {
    let options = DialOptions::new().signaling_address(args.signaling.clone());
    options.insecure(args.insecure).disable_webrtc(args.disable_webrtc)
}
