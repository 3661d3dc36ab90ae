use std::future::poll_fn;

use http_body_util::{Full, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

type Sender = mpsc::Sender<Bytes>;

fn stream() -> (Sender, Request<Body>) {
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    let frames = ReceiverStream::new(receiver).map(|data| Ok::<_, Status>(Frame::data(data)));
    (sender, Request::new(Body::new(StreamBody::new(frames))))
}

async fn next(body: &mut Body) -> Option<Bytes> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.unwrap().into_data().unwrap())
}

async fn all(mut body: Body) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(data) = next(&mut body).await {
        read.extend_from_slice(&data);
    }
    read
}

#[tokio::test]
async fn a_request_of_one_message_is_made_again_as_it_was() {
    let mut request = Request::new(Body::new(Full::new(Bytes::from_static(b"move"))));
    *request.uri_mut() = "/a.B/C".parse().unwrap();
    request.headers_mut().insert("x-mine", "yes".parse().unwrap());
    request.extensions_mut().insert(7_u8);
    let (first, kept) = Kept::new(request);
    assert_eq!(all(first.into_body()).await, b"move");
    let again = kept.again().unwrap();
    assert_eq!((again.uri().path(), again.headers()["x-mine"].as_bytes()), ("/a.B/C", &b"yes"[..]));
    assert_eq!(again.extensions().get::<u8>(), Some(&7));
    assert_eq!(all(again.into_body()).await, b"move");
    let (first, kept) = Kept::new(Request::new(Body::empty()));
    assert!(
        all(first.into_body()).await.is_empty() && all(kept.again().unwrap().into_body()).await.is_empty()
    );
}

#[tokio::test]
async fn a_stream_is_made_again_with_what_was_read_and_what_was_not() {
    let (sender, request) = stream();
    for data in ["a", "b", "c"] {
        sender.send(data.into()).await.unwrap();
    }
    let (first, kept) = Kept::new(request);
    let mut first = first.into_body();
    // Two were there when it was made, and are one frame now.
    assert_eq!(next(&mut first).await.unwrap(), "ab");
    let again = kept.again().unwrap().into_body();
    sender.send("d".into()).await.unwrap();
    drop(sender);
    assert_eq!(all(again).await, b"abcd");
    assert!(next(&mut first).await.is_none(), "the first reader takes nothing from the second");
}

#[tokio::test]
async fn a_stream_is_not_made_again_from_a_beginning_that_is_not_complete() {
    for (count, size, complete) in [(16, 10, true), (17, 10, false), (3, 30_000, false), (2, 30_000, true)] {
        let (sender, request) = stream();
        let (first, kept) = Kept::new(request);
        let mut first = first.into_body();
        for _ in 0..count {
            sender.send(vec![b'x'; size].into()).await.unwrap();
            next(&mut first).await.unwrap();
        }
        drop(sender);
        let again = kept.again().map(Request::into_body);
        assert_eq!(again.is_some(), complete, "{count} of {size}");
        if let Some(again) = again {
            assert_eq!(all(again).await.len(), count * size);
        }
    }
}

#[tokio::test]
async fn nothing_is_kept_once_the_robot_has_answered() {
    let (sender, request) = stream();
    let (first, kept) = Kept::new(request);
    let mut first = first.into_body();
    sender.send("a".into()).await.unwrap();
    next(&mut first).await.unwrap();
    kept.release();
    for _ in 0..100 {
        sender.send("b".into()).await.unwrap();
        assert_eq!(next(&mut first).await.unwrap(), "b");
    }
    let Messages::Tape(tape) = &kept.messages else { panic!("a stream") };
    assert_eq!(lock(tape).kept.len(), 0);
    assert!(kept.again().is_none());
}

#[tokio::test]
async fn an_error_at_the_very_beginning_reaches_the_transport() {
    let frames = tokio_stream::iter([Err::<Frame<Bytes>, _>(Status::data_loss("mine"))]);
    let (first, _kept) = Kept::new(Request::new(Body::new(StreamBody::new(frames))));
    let mut first = first.into_body();
    let error = poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.unwrap().unwrap_err();
    assert_eq!(error.message(), "mine");
}
