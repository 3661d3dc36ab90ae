//! A request that can be made once more, should the robot say that its session has expired.
//!
//! A request whose messages are all there (every unary call) is kept whole: it costs a reference. Of a
//! stream its beginning is kept, up to 64 KiB and 16 frames, until the robot answers.
//!
//! # Invariant
//! A request is only made again from a complete beginning: what was kept, followed by what nobody has read.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use http::{Extensions, HeaderMap, Request, Uri};
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

/// What is kept of a stream.
const MAX_BYTES: usize = 64 * 1024;
const MAX_FRAMES: usize = 16;

/// Enough to make a request again.
pub(super) struct Kept {
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
    messages: Messages,
}

enum Messages {
    /// All of them.
    Whole(Option<Bytes>),
    /// Those that were read so far, and the rest.
    Tape(Arc<Mutex<Tape>>),
}

impl Kept {
    /// The request to be made, and what it takes to make it again.
    pub(super) fn new(request: Request<Body>) -> (Request<Body>, Self) {
        let (parts, mut body) = request.into_parts();
        let (body, messages) = match first_frames(&mut body) {
            First::Whole(message) => (whole(message.clone()), Messages::Whole(message)),
            First::More(frame) => {
                let tape = Arc::new(Mutex::new(Tape::new(body, frame)));
                (Body::new(Playing::new(&tape, 0)), Messages::Tape(tape))
            }
        };
        let (uri, headers) = (parts.uri.clone(), parts.headers.clone());
        let extensions = parts.extensions.clone();
        (Request::from_parts(parts, body), Self { uri, headers, extensions, messages })
    }

    /// The robot has answered: it will not be made again.
    pub(super) fn release(&self) {
        if let Messages::Tape(tape) = &self.messages {
            lock(tape).stop();
        }
    }

    /// The request once more; `None` if its beginning was too long to keep.
    pub(super) fn again(self) -> Option<Request<Body>> {
        let body = match self.messages {
            Messages::Whole(message) => whole(message),
            Messages::Tape(tape) => {
                let turn = lock(&tape).rewind()?;
                Body::new(Playing::new(&tape, turn))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        Some(request)
    }
}

/// What a body has to give at once.
enum First {
    Whole(Option<Bytes>),
    More(Option<Result<Frame<Bytes>, Status>>),
}

/// Reads what is there, without waiting: all of a unary request.
fn first_frames(body: &mut Body) -> First {
    let mut cx = Context::from_waker(noop_waker_ref());
    let mut poll = || Pin::new(&mut *body).poll_frame(&mut cx);
    let message = match poll() {
        Poll::Pending => return First::More(None),
        Poll::Ready(None) => return First::Whole(None),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(message) => message,
            Err(frame) => return First::More(Some(Ok(frame))),
        },
        Poll::Ready(Some(Err(error))) => return First::More(Some(Err(error))),
    };
    if body.is_end_stream() {
        return First::Whole(Some(message));
    }
    // Asked only if it cannot be lost: a second frame would have to be kept as well.
    match Pin::new(&mut *body).poll_frame(&mut cx) {
        Poll::Ready(None) => First::Whole(Some(message)),
        Poll::Pending => First::More(Some(Ok(Frame::data(message)))),
        Poll::Ready(Some(second)) => First::More(Some(join(message, second))),
    }
}

/// Two frames as one: gRPC's messages do not care where frames end.
fn join(first: Bytes, second: Result<Frame<Bytes>, Status>) -> Result<Frame<Bytes>, Status> {
    match second.map(Frame::into_data) {
        Ok(Ok(second)) => Ok(Frame::data([first, second].concat().into())),
        // tonic's clients send no trailers; with neither, the messages before an error are of no use.
        Ok(Err(_)) => Ok(Frame::data(first)),
        Err(error) => Err(error),
    }
}

fn whole(message: Option<Bytes>) -> Body {
    message.map_or_else(Body::empty, |message| Body::new(Whole(Some(message))))
}

/// A body of one frame.
#[derive(Debug)]
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// A request's stream, and its beginning.
struct Tape {
    rest: Body,
    /// What was read before anybody asked.
    ahead: Option<Result<Frame<Bytes>, Status>>,
    kept: Vec<Bytes>,
    bytes: usize,
    /// Nothing is kept any more: too much came, or the robot has answered.
    stopped: bool,
    /// Which reader it obeys. Those of earlier turns find the stream at its end.
    turn: u64,
}

impl Tape {
    fn new(rest: Body, ahead: Option<Result<Frame<Bytes>, Status>>) -> Self {
        Self { rest, ahead, kept: Vec::new(), bytes: 0, stopped: false, turn: 0 }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.kept = Vec::new();
    }

    fn keep(&mut self, data: &Bytes) {
        self.bytes += data.len();
        if self.bytes > MAX_BYTES || self.kept.len() >= MAX_FRAMES {
            self.stop();
        }
        if !self.stopped {
            self.kept.push(data.clone());
        }
    }

    /// Hands the tape to another reader, once: what is kept stays as it is.
    fn rewind(&mut self) -> Option<u64> {
        if self.stopped {
            return None;
        }
        self.stopped = true;
        self.turn += 1;
        Some(self.turn)
    }
}

/// One reading of the tape: what was kept, then the rest.
struct Playing {
    tape: Arc<Mutex<Tape>>,
    turn: u64,
    at: usize,
    until: usize,
}

impl Playing {
    fn new(tape: &Arc<Mutex<Tape>>, turn: u64) -> Self {
        let until = lock(tape).kept.len();
        Self { tape: Arc::clone(tape), turn, at: 0, until }
    }
}

impl http_body::Body for Playing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut tape = lock(&this.tape);
        if tape.turn != this.turn {
            return Poll::Ready(None);
        }
        if this.at < this.until {
            this.at += 1;
            let Some(data) = tape.kept.get_mut(this.at - 1).map(std::mem::take) else {
                return Poll::Ready(Some(Err(Status::internal("the beginning of the stream was let go"))));
            };
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let frame = match tape.ahead.take() {
            Some(frame) => Some(frame),
            None => std::task::ready!(Pin::new(&mut tape.rest).poll_frame(cx)),
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !tape.stopped
        {
            tape.keep(data);
        }
        Poll::Ready(frame)
    }
}

impl fmt::Debug for Playing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Playing").field("turn", &self.turn).finish_non_exhaustive()
    }
}

fn lock(tape: &Mutex<Tape>) -> MutexGuard<'_, Tape> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}
