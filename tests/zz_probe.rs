#![allow(clippy::unwrap_used, missing_docs)]
#[path = "common/peers.rs"]
mod peers;
use farlink::peer::Stack;
use peers::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn stack() -> Arc<dyn Stack> {
    Arc::new(farlink::peer::webrtc_rs::WebRtcRs::new().resolve_mdns(false))
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow() {
    let stack = stack();
    let (mut caller, mut answerer) = connected(&stack).await;
    let t = Instant::now();
    let mut sent = 0;
    loop {
        match tokio::time::timeout(
            Duration::from_millis(500),
            send_below(&mut caller.channel, 256 * 1024, vec![0; 16384]),
        )
        .await
        {
            Ok(r) => r.unwrap(),
            Err(_) => break,
        }
        sent += 1;
    }
    println!("filled {sent} in {:?} buffered {}", t.elapsed(), caller.channel.buffered());
    let t = Instant::now();
    let read = async {
        for n in 0..sent {
            let t1 = Instant::now();
            recv(&mut answerer.channel).await.unwrap();
            if t1.elapsed() > Duration::from_millis(100) {
                println!("message {n} waited {:?}", t1.elapsed());
            }
        }
    };
    let fl = async {
        for _ in 0..60 {
            let r = tokio::time::timeout(Duration::from_millis(500), flush(&mut caller.channel)).await;
            println!("{:?} buffered {} {r:?}", t.elapsed(), caller.channel.buffered());
            if caller.channel.buffered() == 0 {
                break;
            }
        }
    };
    tokio::join!(read, fl);
    println!("drained in {:?}", t.elapsed());
}
fn p(mut v: Vec<Duration>) -> String {
    v.sort();
    format!("p50 {:?} p90 {:?} max {:?}", v[v.len() / 2], v[v.len() * 9 / 10], v[v.len() - 1])
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers() {
    let stack = stack();
    drop(connected(&stack).await);
    for trickle in [true, false] {
        let mut times = vec![];
        let mut whole = vec![];
        for _ in 0..50 {
            let start = Instant::now();
            let (mut c, mut a) = two(&stack).await;
            let offer = Instant::now();
            if trickle {
                negotiate(&mut c, &mut a).await
            } else {
                negotiate_at_once(&mut c, &mut a).await
            }
            opened(&mut c, &mut a).await;
            times.push(offer.elapsed());
            whole.push(start.elapsed());
        }
        println!("trickle {trickle}: offer to open {}; with open() {}", p(times), p(whole));
    }
    let (mut c, mut a) = connected(&stack).await;
    let mut times = vec![];
    let echo = tokio::spawn(async move {
        while let Some(m) = recv(&mut a.channel).await {
            if send(&mut a.channel, m).await.is_err() {
                break;
            }
        }
    });
    for _ in 0..3000 {
        let t = Instant::now();
        send(&mut c.channel, vec![0; 1024]).await.unwrap();
        recv(&mut c.channel).await.unwrap();
        times.push(t.elapsed());
    }
    println!("echo {}", p(times));
    drop(c);
    let _ = echo.await;
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let m = tokio::runtime::Handle::current().metrics();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (t0, f0) = (m.num_alive_tasks(), fds());
    let mut all = vec![];
    for _ in 0..20 {
        all.push(connected(&stack).await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!(
        "per peer: tasks {} fds {} (host candidates {})",
        (m.num_alive_tasks() - t0) as f64 / 40.0,
        (fds() - f0) as f64 / 40.0,
        all[0].0.connection.local_description().await.unwrap().sdp.matches("a=candidate").count()
    );
    drop(all);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    println!("after drop: tasks {} fds {}", m.num_alive_tasks() as i64 - t0 as i64, fds() as i64 - f0 as i64);
}
