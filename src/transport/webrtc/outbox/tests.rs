use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::task::{ArcWake, noop_waker_ref, waker};

use super::*;
use crate::peer::{ChannelClosed, DataChannel};
use crate::wire::frame;

fn outbox() -> Outbox {
    Outbox::new(|stream, packet, _| frame::response_packet(stream, packet))
}

#[test]
fn nothing_leaves_before_the_start_or_after_the_end_of_a_stream() {
    let outbox = outbox();
    outbox.push_message(1, "early".into(), false, false);
    outbox.open(1);
    assert!(outbox.end(1, Ending::InOrder, Some("head".into()), "trailers".into()));
    assert!(!outbox.end(1, Ending::Cut, Some("head".into()), "again".into()));
    outbox.push_message(1, "late".into(), false, false);
    outbox.push_frame(1, "late".into());
    assert_eq!(outbox.pop().unwrap(), "head");
    assert_eq!(outbox.pop().unwrap(), "trailers");
    assert_eq!(outbox.pop(), None);
}

#[test]
fn headers_are_sent_once() {
    let outbox = outbox();
    outbox.open(1);
    outbox.push_head(1, "head".into());
    outbox.push_head(1, "again".into());
    outbox.end(1, Ending::Cut, Some("default".into()), "trailers".into());
    assert_eq!(outbox.pop().unwrap(), "head");
    assert_eq!(outbox.pop().unwrap(), "trailers");
    assert_eq!(outbox.pop(), None);
}

#[test]
fn a_full_stream_waits_and_the_end_of_it_frees_who_waits() {
    let outbox = outbox();
    let mut cx = Context::from_waker(noop_waker_ref());
    outbox.open(1);
    assert_eq!(outbox.poll_room(1, &mut cx), Poll::Ready(Ok(())));
    outbox.push_message(1, vec![0; ROOM + 1].into(), false, false);
    assert_eq!(outbox.poll_room(1, &mut cx), Poll::Pending);
    outbox.pop();
    assert_eq!(outbox.poll_room(1, &mut cx), Poll::Ready(Ok(())));
    outbox.forget(1);
    assert_eq!(outbox.poll_room(1, &mut cx), Poll::Ready(Err(StreamClosed)));
    assert!(outbox.is_empty());
}

/// A channel that takes `room` messages, and whoever wakes its driver.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    room: usize,
    messages: Vec<Bytes>,
    pushed: usize,
    waiting: Option<Waker>,
    fails: bool,
}

impl Wire {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap()
    }

    /// The messages that have left.
    fn left(&self) -> Vec<Bytes> {
        let taken = self.taken();
        taken.messages[..taken.pushed].to_vec()
    }
}

impl DataChannel for Wire {
    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        Poll::Ready(Ok(()))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<(), ChannelClosed>> {
        let mut taken = self.taken();
        if taken.messages.len() < taken.room {
            return Poll::Ready(Ok(()));
        }
        taken.pushed = taken.messages.len();
        taken.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, message: Bytes) -> Result<(), ChannelClosed> {
        let mut taken = self.taken();
        if taken.fails {
            return Err(ChannelClosed);
        }
        taken.messages.push(message);
        Ok(())
    }

    fn push(&mut self) {
        let mut taken = self.taken();
        taken.pushed = taken.messages.len();
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelClosed>> {
        Poll::Ready(Ok(()))
    }

    fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Pending
    }

    fn buffered(&self) -> usize {
        0
    }
}

/// Counts how often the driver is woken.
#[derive(Debug, Default)]
struct Driver(AtomicUsize);

impl ArcWake for Driver {
    fn wake_by_ref(driver: &Arc<Self>) {
        driver.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An outbox with stream 1 open, whose driver has run once and sleeps.
fn running(room: usize) -> (Outbox, Wire, Arc<Driver>) {
    let (outbox, wire, driver) = (outbox(), Wire::default(), Arc::new(Driver::default()));
    wire.taken().room = room;
    outbox.attach(Line::new(Box::new(wire.clone()), Arc::default()));
    sleep(&outbox, &driver);
    outbox.open(1);
    (outbox, wire, driver)
}

/// The driver has looked at all and waits.
fn sleep(outbox: &Outbox, driver: &Arc<Driver>) {
    outbox.register_driver(&Context::from_waker(&waker(Arc::clone(driver))));
}

fn woken(driver: &Driver) -> usize {
    driver.0.load(Ordering::SeqCst)
}

#[tokio::test]
async fn what_is_flushed_leaves_together_and_wakes_nobody() {
    let (outbox, wire, driver) = running(usize::MAX);
    outbox.push_head(1, "head".into());
    outbox.push_frame(1, "frame".into());
    assert_eq!(wire.left(), Vec::<Bytes>::new(), "a burst leaves at its end");
    outbox.flush();
    assert_eq!(wire.left(), ["head", "frame"]);
    assert!(outbox.end(1, Ending::InOrder, None, "trailers".into()));
    assert_eq!(wire.left().len(), 2);
    outbox.flush();
    assert_eq!(wire.left().len(), 3);
    assert_eq!(woken(&driver), 0);
}

#[tokio::test]
async fn what_has_no_room_leaves_when_the_channel_wakes_the_driver() {
    let (outbox, wire, driver) = running(1);
    outbox.push_frame(1, "one".into());
    outbox.push_frame(1, "two".into());
    outbox.flush();
    assert_eq!((wire.left().len(), woken(&driver)), (1, 0));
    wire.taken().room = 3;
    let waiting = wire.taken().waiting.take();
    waiting.expect("the channel knows the driver").wake();
    assert_eq!(woken(&driver), 1);
    let mut cx = Context::from_waker(noop_waker_ref());
    assert_eq!(outbox.poll_send(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(wire.left(), ["one", "two"]);
}

#[tokio::test]
async fn a_flush_beside_another_leaves_its_frames_to_the_driver() {
    let (outbox, wire, driver) = running(usize::MAX);
    let other = outbox.line.lock().unwrap();
    outbox.push_frame(1, "frame".into());
    outbox.flush();
    drop(other);
    assert_eq!((wire.left().len(), woken(&driver)), (0, 1));
}

#[tokio::test]
async fn one_flush_does_not_do_the_work_of_all() {
    let (outbox, wire, driver) = running(usize::MAX);
    for _ in 0..1000 {
        outbox.push_frame(1, vec![0; 1024].into());
    }
    outbox.flush();
    assert_eq!((wire.left().len(), woken(&driver)), (64, 1));
}

#[tokio::test]
async fn while_many_calls_move_the_driver_sends_for_all() {
    let (outbox, wire, driver) = running(usize::MAX);
    outbox.came(64);
    outbox.push_frame(1, "frame".into());
    outbox.flush();
    assert_eq!((wire.left().len(), woken(&driver)), (0, 1));
    sleep(&outbox, &driver);
    outbox.came(3);
    outbox.flush();
    assert_eq!((wire.left().len(), woken(&driver)), (1, 1));
}

/// A stack may use the runtime that the driver runs in: timers, tasks.
#[test]
fn outside_the_runtime_of_the_driver_nobody_stands_in_for_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (outbox, wire, driver) = runtime().block_on(async { running(usize::MAX) });
    outbox.push_frame(1, "frame".into());
    outbox.flush();
    assert_eq!((wire.left().len(), woken(&driver)), (0, 1));
    sleep(&outbox, &driver);
    runtime().block_on(async { outbox.flush() });
    assert_eq!((wire.left().len(), woken(&driver)), (0, 2));
}

#[tokio::test]
async fn a_driver_that_reads_nothing_is_woken_when_something_leaves() {
    let (outbox, _wire, driver) = running(usize::MAX);
    outbox.push_frame(1, "frame".into());
    assert!(outbox.is_held(|| true));
    outbox.flush();
    assert_eq!(woken(&driver), 1);
    sleep(&outbox, &driver);
    assert!(!outbox.is_held(|| false));
    outbox.push_frame(1, "frame".into());
    outbox.flush();
    assert_eq!(woken(&driver), 1);
}

#[tokio::test]
async fn a_frame_that_could_not_be_sent_ends_the_line_for_good() {
    let (outbox, wire, driver) = running(usize::MAX);
    wire.taken().fails = true;
    outbox.push_frame(1, "lost".into());
    outbox.flush();
    assert_eq!(woken(&driver), 1, "it has to hear of it");
    wire.taken().fails = false;
    outbox.push_frame(1, "later".into());
    outbox.flush();
    let mut cx = Context::from_waker(noop_waker_ref());
    assert_eq!(outbox.poll_send(&mut cx), Poll::Ready(Err(ChannelClosed)));
    assert_eq!(wire.left(), Vec::<Bytes>::new());
}

#[tokio::test]
async fn what_a_batch_causes_leaves_with_the_driver() {
    let (outbox, wire, driver) = running(usize::MAX);
    outbox.set_reading(true);
    outbox.push_frame(1, "frame".into());
    outbox.flush();
    outbox.set_reading(false);
    assert_eq!((wire.left().len(), woken(&driver)), (0, 0), "it sends when it has read");
    let mut cx = Context::from_waker(noop_waker_ref());
    assert_eq!(outbox.poll_send(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(wire.left(), ["frame"]);
}

/// Many threads flush, the driver sends the rest when it is woken and reads in between: nothing is left behind, and
/// each stream's frames leave in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_sends_nothing_is_left_and_nothing_overtakes() {
    const STREAMS: u64 = 8;
    const EACH: usize = 2_000;
    let (outbox, wire) = (Arc::new(outbox()), Wire::default());
    outbox.attach(Line::new(Box::new(wire.clone()), Arc::default()));
    for stream in 1..=STREAMS {
        outbox.open(stream);
    }
    let driver = {
        let (outbox, wire, mut turn) = (Arc::clone(&outbox), wire.clone(), 0);
        std::future::poll_fn(move |cx| {
            outbox.register_driver(cx);
            turn += 1;
            outbox.set_reading(true);
            outbox.came(turn % 13);
            outbox.set_reading(false);
            // Sometimes the channel is full until the next turn.
            let taken = wire.taken().messages.len();
            wire.taken().room = taken + turn % 7 * 10;
            let _ = outbox.poll_send(cx);
            let waiting = wire.taken().waiting.take();
            if let Some(waiting) = waiting {
                waiting.wake();
            }
            if wire.left().len() == EACH * STREAMS as usize { Poll::Ready(()) } else { Poll::Pending }
        })
    };
    let driver = tokio::spawn(driver);
    for stream in 1..=STREAMS {
        let outbox = Arc::clone(&outbox);
        tokio::spawn(async move {
            for number in 0..EACH {
                outbox.push_frame(stream, format!("{stream} {number}").into());
                outbox.flush();
                if number % 97 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), driver).await;
    let left = wire.left();
    done.unwrap_or_else(|_| panic!("{} frames left, {} wait", left.len(), outbox.bytes())).unwrap();
    for stream in 1..=STREAMS {
        let start = format!("{stream} ");
        let of_it = left.iter().filter(|frame| frame.starts_with(start.as_bytes()));
        assert!(of_it.cloned().eq((0..EACH).map(|number| Bytes::from(format!("{stream} {number}")))));
    }
}
