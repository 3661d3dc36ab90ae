//! Dials a robot, says how that went, and echoes a message.
//!
//! `cargo run --example dial -- robot.example --signaling 127.0.0.1:7000 --insecure --calls 100`

mod common;

use std::process::ExitCode;
use std::time::Instant;

use farlink::proto::echo::{EchoRequest, echo_service_client::EchoServiceClient};
use farlink::wire::message::MAX_MESSAGE;
use farlink::{DialError, DialOptions, DialReport};

/// Dials a robot that serves Echo.
#[derive(clap::Parser)]
struct Args {
    /// The robot: a name, host:port, or unix:path.
    address: String,
    /// The signaling server [default: the one known for the domain, else the robot itself]
    #[arg(long)]
    signaling: Option<String>,
    /// The robot and the signaling server speak plaintext.
    #[arg(long)]
    insecure: bool,
    /// Connect directly.
    #[arg(long)]
    disable_webrtc: bool,
    /// Send all candidates with the offer.
    #[arg(long)]
    no_trickle: bool,
    /// Use relays only.
    #[arg(long)]
    force_relay: bool,
    /// Echo this often, one call after the other, and print percentiles.
    #[arg(long, default_value_t = 1)]
    calls: usize,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// What to say.
    #[arg(default_value = "hello")]
    message: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    common::exit(run(clap::Parser::parse()).await)
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let json = args.json;
    let show = |report: &DialReport| if json { report.to_json().to_string() } else { report.to_string() };
    let options = DialOptions::new()
        .signaling_address(args.signaling.clone())
        .insecure(args.insecure)
        .disable_webrtc(args.disable_webrtc)
        .trickle(!args.no_trickle)
        .force_relay(args.force_relay);
    let channel = farlink::dial(&args.address, options).await.inspect_err(|error: &DialError| {
        error.report().filter(|_| json).iter().for_each(|report| common::say!("{}", show(report)));
    })?;
    let mut times = Vec::new();
    let mut echo = EchoServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    common::say!("PATH {}", channel.transport());
    for call in 0..args.calls.max(1) {
        let began = Instant::now();
        let request = EchoRequest { message: args.message.clone() };
        let reply = echo.echo(request).await.map_err(common::describe)?;
        times.push(began.elapsed());
        if call == 0 {
            common::say!("{}", channel.report().as_ref().map(show).unwrap_or_default());
            common::say!("{}", reply.into_inner().message);
        }
    }
    (args.calls > 1).then(|| common::say!("{}", common::percentiles(&mut times)));
    Ok(())
}
