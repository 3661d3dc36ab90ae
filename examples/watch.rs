//! Dials a robot and prints what happens to the channel: its path, silences, its end.
//!
//! `cargo run --example watch -- robot.example --signaling 127.0.0.1:7000 --insecure`

mod common;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use farlink::DialOptions;

/// Watches a channel until it closes or Ctrl-C.
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
    /// Seconds between two lines of counters; 0 prints none.
    #[arg(long, default_value_t = 5)]
    every: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::log_to_stderr();
    common::exit(run(clap::Parser::parse()).await)
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let options = DialOptions::new().signaling_address(args.signaling).insecure(args.insecure);
    let channel = farlink::dial(&args.address, options).await?;
    common::say!("PATH {}", channel.transport());
    common::say!("{}", channel.report().map(|report| report.to_string()).unwrap_or_default());
    let mut events = channel.events();
    let mut ticks = tokio::time::interval(Duration::from_secs(args.every.max(1)));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => common::say!("EVENT {event}"),
                None => return Ok(()),
            },
            _ = ticks.tick(), if args.every > 0 => {
                let stats = channel.stats().await;
                let rtt = stats.rtt.map_or_else(|| "unknown".to_owned(), |rtt| format!("{} us", rtt.as_micros()));
                common::say!("STATS rtt {rtt}, sent {} B, received {} B, open calls {}, relayed {}",
                    stats.bytes_sent, stats.bytes_received, stats.open_streams, stats.is_relayed());
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
