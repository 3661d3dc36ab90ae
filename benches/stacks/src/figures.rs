//! The figures: how long, how much, at what cost.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::pipe::{Pipe, Row, Side, Signal, recv, send};
use crate::relay::{Network, Relays};

/// No message takes longer, and no connection to open, or it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
const BULK: usize = 16 * 1024;

/// Sorted times.
pub struct Spread(Vec<Duration>);

impl Spread {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        if times.is_empty() { None } else { Some(Self(times)) }
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    pub fn micros(&self) -> String {
        format!("{}/{}", self.at(50).as_micros(), self.at(99).as_micros())
    }

    pub fn millis(&self) -> String {
        let [p50, p99, max] = [50, 99, 100].map(|percent| self.at(percent).as_secs_f64() * 1e3);
        format!("{p50:.0}/{p99:.0}/{max:.0}, {}", self.0.len())
    }
}

/// What runs beside, and ends with this.
struct Beside(JoinHandle<()>);

impl Drop for Beside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn echoing(mut pipe: Box<dyn Pipe>) -> Beside {
    Beside(tokio::spawn(async move {
        while let Some(message) = recv(&mut *pipe).await {
            send(&mut *pipe, message).await;
        }
    }))
}

/// One echo after the other. Ends early when one does not come.
async fn echoes(pipe: &mut dyn Pipe, size: usize, budget: Duration) -> Vec<Duration> {
    let message = Bytes::from(vec![7; size]);
    let (mut times, until) = (Vec::new(), Instant::now() + budget);
    loop {
        let began = Instant::now();
        if began >= until {
            return times;
        }
        send(pipe, message.clone()).await;
        match timeout(PATIENCE, recv(pipe)).await {
            Ok(Some(echo)) => assert_eq!(echo.len(), size),
            _ => return times,
        }
        times.push(began.elapsed());
    }
}

/// Echoes in this process, and what each costs both sides of CPU time.
pub async fn echo(row: &Row, size: usize, budget: Duration) -> (Spread, Duration) {
    let (mut caller, answerer) = row.pair(None).await;
    let _echoing = echoing(answerer);
    let times = tokio::spawn(async move {
        echoes(&mut *caller, size, budget / 10).await;
        let before = cpu();
        let times = echoes(&mut *caller, size, budget).await;
        let each = (cpu() - before) / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX);
        (Spread::of(times).expect("an echo"), each)
    });
    times.await.expect("echoes")
}

/// Echoes through a network on this many connections at once. `None` where what is lost does not come again,
/// or nothing came.
pub async fn echo_through(
    row: &Row,
    relays: &Relays,
    network: Network,
    many: usize,
    budget: Duration,
) -> Option<Spread> {
    if network.loss > 0.0 && !row.is_reliable() {
        return None;
    }
    let mut pairs = Vec::new();
    for _ in 0..many {
        match timeout(PATIENCE, row.pair(Some((relays, network)))).await {
            Ok(pair) => pairs.push(pair),
            Err(_) => eprintln!("{}: a connection did not open", row.name()),
        }
    }
    let mut running = JoinSet::new();
    for (mut caller, answerer) in pairs {
        running.spawn(async move {
            let _echoing = echoing(answerer);
            echoes(&mut *caller, 1024, budget).await
        });
    }
    Spread::of(running.join_all().await.concat())
}

/// Echoes of 1 KiB with the answerer in a process of its own.
pub async fn two_processes(row: &Row, budget: Duration) -> Spread {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["answer", row.name()]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("this program starts");
    let (mut stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (to, mut said) = unbounded_channel::<Value>();
    let (heard, from) = unbounded_channel();
    let _writing = Beside(tokio::spawn(async move {
        while let Some(said) = said.recv().await {
            stdin.write_all(format!("{said}\n").as_bytes()).await.expect("the child lives");
        }
        // Its standard input stays open: its end is the child's.
        std::future::pending().await
    }));
    let _reading = Beside(tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = heard.send(serde_json::from_str(&line).expect("a line of JSON"));
        }
    }));
    let mut pipe = row.connect(Side::Caller, Signal { to, from }).await;
    let times = tokio::spawn(async move {
        echoes(&mut *pipe, 1024, budget / 10).await;
        echoes(&mut *pipe, 1024, budget).await
    });
    Spread::of(times.await.expect("echoes")).expect("an echo")
}

/// The other process: answers, and echoes until its standard input ends.
pub async fn answer(row: Row) {
    let (to, mut said) = unbounded_channel::<Value>();
    let (heard, from) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(said) = said.recv().await {
            println!("{said}");
        }
    });
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = heard.send(serde_json::from_str(&line).expect("a line of JSON"));
        }
        std::process::exit(0);
    });
    let pipe = row.connect(Side::Answerer, Signal { to, from }).await;
    let mut echoing = echoing(pipe);
    let _ = (&mut echoing.0).await;
}

/// Messages of 16 KiB in one direction as fast as they go, in MB/s, from the first one sent.
pub async fn bulk(row: &Row, through: Option<(&Relays, Network)>, budget: Duration) -> Option<f64> {
    if !row.is_reliable() {
        return None;
    }
    let (mut caller, mut answerer) = timeout(PATIENCE, row.pair(through)).await.ok()?;
    let received = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&received);
    let _receiving = Beside(tokio::spawn(async move {
        while let Some(message) = recv(&mut *answerer).await {
            counting.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
    }));
    let began = Instant::now();
    let _sending = Beside(tokio::spawn(async move {
        let message = Bytes::from(vec![7; BULK]);
        loop {
            send(&mut *caller, message.clone()).await;
            // Other tasks of this thread get their turn.
            tokio::task::coop::consume_budget().await;
        }
    }));
    tokio::time::sleep(budget).await;
    Some(received.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64() / 1e6)
}

/// From nothing to both ends open, in the middle.
pub async fn open(row: &Row, times: usize) -> Duration {
    let mut taken = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        let pair = row.pair(None).await;
        taken.push(began.elapsed());
        drop(pair);
    }
    Spread::of(taken).expect("an opening").at(50)
}

/// What a peer costs that does nothing.
pub struct Idle {
    pub kilobytes: f64,
    pub tasks: f64,
}

/// In a process of its own, whose memory is its own.
pub async fn idle_in_child(row: &Row, count: usize) -> Option<Idle> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["idle", row.name(), &count.to_string()]).output();
    let output = output.await.expect("this program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = said.split_whitespace().map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(kilobytes)), Some(Ok(tasks))) => Some(Idle { kilobytes, tasks }),
        _ => {
            eprintln!("{}: {count} idle peers: {}", row.name(), String::from_utf8_lossy(&output.stderr));
            None
        }
    }
}

/// That process: so many peers, both ends of half as many connections, and then nothing.
pub async fn idle(row: Row, count: usize) {
    let _first = row.pair(None).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = (resident(), tasks());
    let mut pairs = Vec::new();
    for _ in 0..count / 2 {
        pairs.push(timeout(PATIENCE, row.pair(None)).await.expect("it opens"));
    }
    let mut held = Vec::new();
    if matches!(row, Row::Str0m) {
        // Has no task of its own: somebody must poll it.
        for (caller, answerer) in pairs.drain(..) {
            held.extend([echoing(caller), echoing(answerer)]);
        }
    }
    // Longer than a stack looks for better paths.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = (resident(), tasks());
    let each = |after: usize, before: usize| after.saturating_sub(before) as f64 / (count / 2 * 2) as f64;
    println!("{} {}", each(after.0, before.0), each(after.1, before.1));
    // Nobody waits for a thousand closes.
    std::process::exit(0);
}

/// kB of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// CPU time of all threads of this process, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, rest) = stat.rsplit_once(") ").expect("Linux");
    let ticks = |at| rest.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok()).expect("a number");
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
