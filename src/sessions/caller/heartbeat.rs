//! The two calls that sessions are made of, as the caller makes them.
//!
//! A heartbeat is encoded once for its session; each reuses the bytes. It goes over the connection that the
//! calls use, ahead of their data (`transport/webrtc/urgent`).

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use http_body_util::Full;
use prost::Message as _;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::lease::Lease;
use super::state::Session;
use super::{SessionError, SessionId};
use crate::proto::robot::robot_service_client::RobotServiceClient;
use crate::proto::robot::{SendSessionHeartbeatRequest, StartSessionRequest, StartSessionResponse};
use crate::transport::{LinkState, LinkWatch, Transport};
use crate::wire::session::{EXPIRED_SESSION_KEY, SEND_SESSION_HEARTBEAT, SESSION_EXPIRED};
use crate::wire::status;

/// The longest window that timers are set for. A robot that waits longer gets more heartbeats than it needs.
const LONGEST_WINDOW: Duration = Duration::from_secs(3600);

/// Codes, as trailers spell them.
const INVALID_ARGUMENT: &str = "3";
const ABORTED: &str = "10";

/// The longest id that is believed; Viam's are UUIDs.
const LONGEST_ID: usize = 256;

/// Asks for a session, or for this one to go on. Waits for the connection without a limit, then for the
/// answer for as long as `timeout`. Cancel safe.
pub(super) async fn start<T: Transport>(
    transport: &T,
    resume: Option<&SessionId>,
    timeout: Duration,
) -> Result<(Session, Lease), SessionError> {
    // Sent once the connection is there: the lease counts from then.
    up(transport.watch()).await;
    let resume = resume.map(|id| id.as_str().to_owned()).unwrap_or_default();
    let ask = ask(transport, resume);
    let Ok(answer) = tokio::time::timeout(timeout, ask).await else { return Err(SessionError::StartTimeout) };
    let (answer, sent) = answer.map_err(SessionError::Start)?;
    let session = session(answer)?;
    let lease = Lease::new(session.window, sent, Instant::now());
    Ok((session, lease))
}

/// The answer, and when the question was sent.
async fn ask<T: Transport>(transport: &T, resume: String) -> Result<(StartSessionResponse, Instant), Status> {
    let mut client = RobotServiceClient::new(transport.clone());
    let resumes = !resume.is_empty();
    let sent = Instant::now();
    match client.start_session(StartSessionRequest { resume }).await {
        // The robot takes it for another owner's, as after a change of identity: we need one of our own.
        Err(status) if resumes && status.code() == Code::InvalidArgument => {
            let sent = Instant::now();
            let answer = client.start_session(StartSessionRequest::default()).await?;
            Ok((answer.into_inner(), sent))
        }
        answer => Ok((answer?.into_inner(), sent)),
    }
}

/// Waits until there is a connection, or never will be one.
pub(super) async fn up(mut link: LinkWatch) {
    while is_down(&link.state()) {
        if link.changed().await.is_none() {
            return;
        }
    }
}

/// Whether there is no connection now, and another one is being made.
pub(super) fn is_down(state: &LinkState) -> bool {
    state.closed.is_none() && state.reconnecting.is_some()
}

fn session(answer: StartSessionResponse) -> Result<Session, SessionError> {
    let window = match answer.heartbeat_window {
        None => return Err(SessionError::InvalidWindow("nothing".to_owned())),
        // By hand: prost's conversion overflows on the smallest of numbers.
        Some(window) => u64::try_from(window.seconds)
            .ok()
            .zip(u32::try_from(window.nanos).ok().filter(|nanos| *nanos < 1_000_000_000))
            .map(|(seconds, nanos)| Duration::new(seconds, nanos))
            .filter(|window| !window.is_zero())
            .ok_or_else(|| {
                SessionError::InvalidWindow(format!("{} s {} ns", window.seconds, window.nanos))
            })?,
    };
    let mut header = HeaderValue::try_from(&answer.id)
        .ok()
        .filter(|header| !header.is_empty() && header.len() <= LONGEST_ID)
        .ok_or(SessionError::InvalidId)?;
    // Never to be seen in anybody's logs.
    header.set_sensitive(true);
    // A header's bytes are shared from the first clone on: the calls' clones allocate nothing.
    drop(header.clone());
    Ok(Session {
        id: SessionId::new(&answer.id),
        header,
        heartbeat: encode(&SendSessionHeartbeatRequest { id: answer.id }),
        window: window.min(LONGEST_WINDOW),
    })
}

/// One gRPC message: a byte that says it is not compressed, its length, itself.
fn encode(message: &SendSessionHeartbeatRequest) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// What became of a heartbeat.
#[derive(Debug)]
pub(super) enum Beat {
    Acknowledged,
    /// The robot knows the session no more.
    Expired,
    /// The robot knows no sessions at all.
    Unsupported,
    /// The robot does not know who is beating.
    Unauthenticated,
    /// It got lost, or the robot could not be bothered: the next one may do.
    Failed(Status),
}

/// Sends one heartbeat and waits for what becomes of it. Has no deadline of its own. Cancel safe.
pub(super) async fn beat<T: Transport>(mut transport: T, session: &Session) -> Beat {
    let status = send(&mut transport, session.heartbeat.clone()).await;
    match status.code() {
        Code::Ok => Beat::Acknowledged,
        Code::Unimplemented => Beat::Unsupported,
        Code::Unauthenticated => Beat::Unauthenticated,
        Code::InvalidArgument if is_about(&status, session) => Beat::Expired,
        _ => Beat::Failed(status),
    }
}

async fn send<T: Transport>(transport: &mut T, message: Bytes) -> Status {
    let mut request = Request::new(Body::new(Full::new(message)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(SEND_SESSION_HEARTBEAT);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let response = match transport.call(request).await {
        Ok(response) => response,
        Err(error) => return error.status().clone(),
    };
    if let Some(status) = status::from_headers(response.headers()) {
        return status;
    }
    let mut body = pin!(response.into_body());
    // The empty answer, then the trailers; a robot that sends more than a few frames is not answering.
    for _ in 0..8 {
        match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(status::from_headers) {
                    return status;
                }
            }
            Some(Err(status)) => return status,
            None => break,
        }
    }
    Status::internal("the answer to a heartbeat has no trailers")
}

/// What became of a call because its session is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It was refused at the door and did not run.
    Refused,
    /// It had begun, and was cut: a farlink robot's ABORTED.
    Cut,
}

/// Whether these trailers say that this session, and not one further on, is gone. Does not allocate.
pub(super) fn expiry(trailers: &HeaderMap, session: &Session) -> Option<Expiry> {
    let is = |key: &str, text: &str| trailers.get(key).is_some_and(|value| value == text);
    if !has(trailers, "grpc-status") {
        return None;
    }
    let about = trailers.get(EXPIRED_SESSION_KEY);
    if is("grpc-status", ABORTED) {
        return about.filter(|about| *about == session.header).map(|_| Expiry::Cut);
    }
    let ours = is("grpc-status", INVALID_ARGUMENT)
        && match about {
            Some(about) => about == session.header,
            None => is("grpc-message", SESSION_EXPIRED),
        };
    ours.then_some(Expiry::Refused)
}

/// Whether there is such a header. One by one: of the few that a call has, that takes less time than the hash of
/// one name.
pub(super) fn has(headers: &HeaderMap, name: &str) -> bool {
    headers.keys().any(|key| key.as_str() == name)
}

fn is_about(status: &Status, session: &Session) -> bool {
    match status.metadata().get(EXPIRED_SESSION_KEY) {
        Some(about) => about.as_encoded_bytes() == session.header.as_bytes(),
        None => status.message() == SESSION_EXPIRED,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Duration as WireDuration;

    use super::*;

    fn answer(id: &str, window: Option<(i64, i32)>) -> StartSessionResponse {
        let heartbeat_window = window.map(|(seconds, nanos)| WireDuration { seconds, nanos });
        StartSessionResponse { id: id.to_owned(), heartbeat_window }
    }

    #[test]
    fn a_window_that_nobody_can_keep_is_refused_and_a_long_one_is_cut() {
        for window in [None, Some((0, 0)), Some((-1, 0)), Some((0, -5)), Some((i64::MIN, i32::MIN))] {
            let refused = session(answer("id", window)).err();
            assert!(matches!(refused, Some(SessionError::InvalidWindow(_))), "{window:?}");
        }
        let window = |seconds, nanos| session(answer("id", Some((seconds, nanos)))).unwrap().window;
        assert_eq!(window(0, 30_000_000), Duration::from_millis(30));
        assert_eq!(window(2, 0), Duration::from_secs(2));
        assert_eq!(window(3600, 0), Duration::from_secs(3600));
        assert_eq!(window(i64::MAX, 0), Duration::from_secs(3600));
    }

    #[test]
    fn an_id_that_cannot_be_sent_back_is_refused() {
        for id in ["", "a\nb", &"x".repeat(257)] {
            assert!(matches!(session(answer(id, Some((2, 0)))).err(), Some(SessionError::InvalidId)));
        }
    }

    #[test]
    fn an_expiry_is_ours_only_if_it_says_so_or_says_nothing() {
        let session = session(answer("ours", Some((2, 0)))).unwrap();
        let said = |status: &str, message: &str, about: Option<&str>| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            trailers.insert("grpc-message", message.parse().unwrap());
            about.map(|about| trailers.insert(EXPIRED_SESSION_KEY, about.parse().unwrap()));
            super::expiry(&trailers, &session)
        };
        assert_eq!(said("3", SESSION_EXPIRED, None), Some(Expiry::Refused));
        assert_eq!(said("3", "another text", Some("ours")), Some(Expiry::Refused));
        assert_eq!(said("10", "it was cut", Some("ours")), Some(Expiry::Cut));
        assert_eq!(said("3", SESSION_EXPIRED, Some("another")), None);
        assert_eq!(said("3", "[invalid_argument] SESSION_EXPIRED", None), None);
        assert_eq!(said("5", SESSION_EXPIRED, None), None);
        assert_eq!(said("10", SESSION_EXPIRED, None), None);
    }
}
