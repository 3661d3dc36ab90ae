//! farlink's WebRTC stacks beside others, below RPC: raw messages on one channel, all rows in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/stacks/Cargo.toml [-- OPTIONS]
//!   --rows engine,udp   only these rows             --seconds 2   for each figure
//!   --peers 1000        how many idle peers, 0: none --relay 20    one way delay in ms, 0: no second table
//!   --loss 0,1,5        per cent, each way           --many 16     connections at once through the relay
//! ```
//!
//! A crate of its own, outside the workspace, so that farlink's tests need not build what it is compared with.
//! Figures of one run compare; figures of two runs, or of two machines, do not.
//!
//! Everything is on loopback. `relay.rs` is the network of the second table: it delays and loses datagrams of
//! both directions in user space. Candidates are rewritten on their way so that the peers meet through it.

mod farlink_stacks;
mod figures;
mod pipe;
mod quinn_pipe;
mod relay;
mod str0m_pipe;
mod udp_pipe;

use std::time::Duration;

use crate::figures::{Idle, Spread};
use crate::pipe::{Row, rows};
use crate::relay::{Network, Relays};

struct Options {
    rows: Vec<Row>,
    seconds: f64,
    peers: usize,
    relay: u64,
    loss: Vec<f64>,
    many: usize,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // This program plays the other side in a process of its own, or the many.
        ["answer", row] => runtime().block_on(figures::answer(pipe::named(row))),
        ["idle", row, count] => runtime().block_on(figures::idle(pipe::named(row), count.parse().unwrap())),
        _ => runtime().block_on(tables(&options(&words))),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

fn options(words: &[&str]) -> Options {
    let mut options =
        Options { rows: rows(), seconds: 2.0, peers: 1000, relay: 20, loss: vec![0.0, 1.0, 5.0], many: 16 };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match *word {
            "--rows" => options.rows = value.split(',').map(pipe::named).collect(),
            "--seconds" => options.seconds = value.parse().expect("a number"),
            "--peers" => options.peers = value.parse().expect("a number"),
            "--relay" => options.relay = value.parse().expect("a number"),
            "--loss" => options.loss = value.split(',').map(|loss| loss.parse().expect("a number")).collect(),
            "--many" => options.many = value.parse().expect("a number"),
            _ => panic!("unknown {word}; src/main.rs says what there is"),
        }
    }
    options
}

async fn tables(options: &Options) {
    let budget = Duration::from_secs_f64(options.seconds);
    println!(
        "{:<12} {:>13} {:>13} {:>9} {:>13} {:>10} {:>9} {:>13}",
        "loopback", "echo 64 B", "echo 1 KiB", "CPU", "two processes", "16 KiB", "open", "idle peer"
    );
    println!(
        "{:<12} {:>13} {:>13} {:>9} {:>13} {:>10} {:>9} {:>13}",
        "", "p50/p99 us", "p50/p99 us", "us/echo", "p50/p99 us", "bulk MB/s", "p50 ms", "kB, tasks"
    );
    for row in &options.rows {
        if row.only_through_relay() {
            continue;
        }
        let open = figures::open(row, 30).await;
        let (small, _) = figures::echo(row, 64, budget).await;
        let (kilo, cpu) = figures::echo(row, 1024, budget).await;
        let processes = figures::two_processes(row, budget).await;
        let bulk = figures::bulk(row, None, budget).await;
        let idle = if options.peers == 0 { None } else { figures::idle_in_child(row, options.peers).await };
        println!(
            "{:<12} {:>13} {:>13} {:>9.1} {:>13} {:>10} {:>9.1} {:>13}",
            row.name(),
            small.micros(),
            kilo.micros(),
            cpu.as_secs_f64() * 1e6,
            processes.micros(),
            megabytes(bulk),
            open.as_secs_f64() * 1e3,
            idle.map_or_else(|| "-".to_owned(), |idle| idle.to_string())
        );
    }
    if options.relay == 0 {
        return;
    }
    println!();
    let mut head = (format!("{} ms each way", options.relay), " ".repeat(16));
    for loss in &options.loss {
        head.0 += &format!(" | {:>24} {:>8}", format!("{loss} % lost: echo 1 KiB"), "16 KiB");
        head.1 += &format!(" | {:>24} {:>8}", "p50/p99/max ms, of", "MB/s");
    }
    println!(
        "{:<16}{}\n{}",
        head.0.split('|').next().unwrap_or_default().trim(),
        head.0.split_once(" |").map_or(String::new(), |(_, rest)| format!(" |{rest}")),
        head.1
    );
    let relays = Relays::start();
    for row in &options.rows {
        let mut line = format!("{:<16}", row.name());
        for loss in &options.loss {
            let network = Network { delay: Duration::from_millis(options.relay), loss: loss / 100.0 };
            let echo = figures::echo_through(row, &relays, network, options.many, 4 * budget).await;
            let bulk = figures::bulk(row, Some((&relays, network)), 3 * budget).await;
            line += &format!(
                " | {:>24} {:>8}",
                echo.as_ref().map_or("-".to_owned(), Spread::millis),
                megabytes(bulk)
            );
        }
        println!("{line}");
    }
}

fn megabytes(rate: Option<f64>) -> String {
    rate.map_or_else(
        || "-".to_owned(),
        |rate| if rate < 10.0 { format!("{rate:.2}") } else { format!("{rate:.0}") },
    )
}

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}, {:.1}", self.kilobytes, self.tasks)
    }
}
