//! The driver: wake-ups, timers and clean-up, on a clock that the tests own.

use std::time::Duration;

use tokio::time::advance;

use super::super::Waited;
use super::*;
use crate::proto::webrtc::IceCandidate;

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn answerer(queue: &MemoryQueue, host: &str) -> Box<dyn Waiting> {
    queue.answer(vec![host.to_owned()]).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_answerer_and_a_sleeping_caller_are_woken() {
    let queue = MemoryQueue::default();
    let waiting = tokio::spawn(answerer(&queue, "h").await.offer());
    settle().await;
    let mut call = queue.call(Offer::new("h", "offer")).await.unwrap();
    let mut exchange = waiting.await.unwrap().unwrap();
    assert_eq!((exchange.uuid(), exchange.offer().sdp.as_str()), (call.uuid(), "offer"));
    assert_eq!(exchange.deadline() - Instant::now(), Duration::from_secs(10));

    let uuid = call.uuid().to_owned();
    let hears = tokio::spawn(async move { (call.next().await.unwrap(), call) });
    settle().await;
    exchange.send(AnswererItem::Answer("answer".into())).await.unwrap();
    let (item, mut call) = hears.await.unwrap();
    assert_eq!(item, Some(AnswererItem::Answer("answer".into())));

    let hears = tokio::spawn(async move { (exchange.next().await.unwrap(), exchange) });
    settle().await;
    let candidate = IceCandidate { candidate: "c".into(), ..IceCandidate::default() };
    queue.update("h", &uuid, CallerItem::Candidate(candidate.clone())).await.unwrap();
    let (item, mut exchange) = hears.await.unwrap();
    assert_eq!(item, Some(CallerItem::Candidate(candidate)));

    exchange.send(AnswererItem::Done).await.unwrap();
    assert_eq!(call.next().await.unwrap(), None);
    assert_eq!(call.next().await.unwrap(), None);
    queue.update("h", &uuid, CallerItem::Done).await.unwrap();
    assert_eq!(exchange.next().await.unwrap(), Some(CallerItem::Done));
    assert_eq!(exchange.next().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn timers_run_while_everybody_sleeps() {
    let queue = MemoryQueue::default();
    let exchange = answerer(&queue, "h").await;
    let mut first = queue.call(Offer::new("h", "offer")).await.unwrap();
    let started = Instant::now();
    let error = first.next().await.unwrap_err();
    assert!(matches!(error, QueueError::Deadline(Waited::ForAnswer)), "{error}");
    assert_eq!(started.elapsed().as_secs(), 10);

    // An earlier timer than the one slept for is seen too.
    let mut long = Offer::new("h", "offer");
    long.lifetime = Duration::from_secs(60);
    let _long = queue.call(long).await.unwrap();
    settle().await;
    let mut short = Offer::new("h", "offer");
    short.lifetime = Duration::from_secs(1);
    let mut short = queue.call(short).await.unwrap();
    let started = Instant::now();
    assert!(matches!(short.next().await, Err(QueueError::Deadline(_))));
    assert_eq!(started.elapsed().as_secs(), 1);
    drop(exchange);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_went_away_is_offline_after_the_grace() {
    let queue = MemoryQueue::default();
    drop(answerer(&queue, "h").await);
    let started = Instant::now();
    let mut call = queue.call(Offer::new("h", "offer")).await.unwrap();
    assert!(matches!(call.next().await, Err(QueueError::Offline)));
    assert_eq!(started.elapsed().as_secs(), 3);
    assert!(matches!(queue.call(Offer::new("h", "offer")).await, Err(QueueError::Offline)));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_hosts_come_and_go_and_the_queue_is_empty() {
    let queue = MemoryQueue::default();
    for n in 0..10_000 {
        let host = format!("host-{n}");
        let waiting = answerer(&queue, &host).await;
        let call = queue.call(Offer::new(&host, "offer")).await.unwrap();
        let exchange = waiting.offer().await.unwrap();
        drop((call, exchange));
    }
    assert!(queue.counts().hosts >= 10_000);
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(queue.counts(), Counts::default());
    let sleeps_until = queue.shared.lock().sleeps_until;
    assert_eq!(sleeps_until, None, "the task has ended");
    // And starts again when it is needed.
    a_sleeping_deadline_fires(&queue).await;
}

async fn a_sleeping_deadline_fires(queue: &MemoryQueue) {
    let _answerer = answerer(queue, "h").await;
    let mut call = queue.call(Offer::new("h", "offer")).await.unwrap();
    assert!(matches!(call.next().await, Err(QueueError::Deadline(_))));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_queue_ends_its_task() {
    let queue = MemoryQueue::default();
    let shared = Arc::downgrade(&queue.shared);
    drop(answerer(&queue, "h").await);
    settle().await;
    drop(queue);
    settle().await;
    assert!(shared.upgrade().is_none());
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_everybody() {
    let queue = MemoryQueue::default();
    let waiting = answerer(&queue, "h").await;
    let mut call = queue.call(Offer::new("h", "offer")).await.unwrap();
    let mut exchange = waiting.offer().await.unwrap();
    let idle = tokio::spawn(answerer(&queue, "h").await.offer());
    let caller = tokio::spawn(async move { call.next().await });
    let answerer = tokio::spawn(async move { exchange.next().await });
    settle().await;
    advance(Duration::from_secs(1)).await;
    queue.close();
    assert!(matches!(idle.await.unwrap(), Err(QueueError::Closed)));
    assert!(matches!(caller.await.unwrap(), Err(QueueError::Closed)));
    // It hears the end of the call, or at once that there is no queue.
    assert!(matches!(answerer.await.unwrap(), Err(QueueError::Closed)));
}

#[test]
fn ends_may_be_dropped_after_their_runtime() {
    let queue = MemoryQueue::default();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let call = first.block_on(async {
        let _waiting = answerer(&queue, "h").await;
        queue.call(Offer::new("h", "offer")).await.unwrap()
    });
    drop(first);
    drop(call);
    let second =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    second.block_on(a_sleeping_deadline_fires(&queue));
}

#[test]
fn a_runtime_may_go_down_with_ends_in_its_tasks() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let queue = MemoryQueue::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::spawn(answerer(&queue, "h").await.offer());
            settle().await;
        });
        drop(runtime);
        done.send(queue.counts()).unwrap();
    });
    let counts = is_done.recv_timeout(Duration::from_secs(10)).expect("dropping the runtime hangs");
    assert_eq!(counts.answerers, 0);
}
