//! What the examples share: the Echo service, and how things are printed.

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use farlink::proto::echo::echo_service_server::{EchoService, EchoServiceServer};
use farlink::proto::echo::{
    EchoBiDiRequest, EchoBiDiResponse, EchoMultipleRequest, EchoMultipleResponse, EchoRequest, EchoResponse,
};
use farlink::server::SignalingStatus;
use farlink::sessions::robot::SessionManager;
use farlink::signaling::answerer::AnswererState;
use futures_core::Stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

#[allow(dead_code, reason = "not every example has a motor")]
pub(crate) mod motor;
#[allow(dead_code, reason = "not in every example somebody dies")]
pub(crate) mod witness;

/// Prints a line; a reader that has gone is no reason to end.
#[allow(unused_macros, reason = "not every example prints this way")]
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}
#[allow(unused_imports, reason = "not every example prints this way")]
pub(crate) use say;

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Says everything back.
#[derive(Debug)]
#[allow(dead_code, reason = "not every example serves")]
pub(crate) struct Echo;

/// Routes that serve Echo and nothing else.
#[allow(dead_code, reason = "not every example serves")]
pub(crate) fn routes() -> Routes {
    let limit = farlink::wire::message::MAX_MESSAGE;
    Routes::new(EchoServiceServer::new(Echo).max_decoding_message_size(limit))
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(EchoResponse { message: request.into_inner().message }))
    }

    type EchoMultipleStream = Replies<EchoMultipleResponse>;

    async fn echo_multiple(
        &self,
        request: Request<EchoMultipleRequest>,
    ) -> Result<Response<Self::EchoMultipleStream>, Status> {
        let letters: Vec<String> = request.into_inner().message.chars().map(String::from).collect();
        let replies = letters.into_iter().map(|message| Ok(EchoMultipleResponse { message }));
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    type EchoBiDiStream = Replies<EchoBiDiResponse>;

    async fn echo_bi_di(
        &self,
        request: Request<Streaming<EchoBiDiRequest>>,
    ) -> Result<Response<Self::EchoBiDiStream>, Status> {
        use futures_util::StreamExt as _;
        let replies = request.into_inner().flat_map(|message| {
            let letters: Vec<_> = match message {
                Ok(message) => message
                    .message
                    .chars()
                    .map(|letter| Ok(EchoBiDiResponse { message: letter.to_string() }))
                    .collect(),
                Err(status) => vec![Err(status)],
            };
            tokio_stream::iter(letters)
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

/// `p50 120 us p99 300 us` of these times.
#[allow(dead_code, reason = "not every example measures")]
pub(crate) fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let micros = |percent| at(percent).map_or(0, Duration::as_micros);
    format!("p50 {} us p99 {} us", micros(50), micros(99))
}

/// When the robot took its last heartbeat; a millisecond or two too early, never too late.
#[allow(dead_code, reason = "not every example has sessions")]
pub(crate) fn last_beat(sessions: SessionManager) -> watch::Receiver<Instant> {
    let (beat, last) = watch::channel(Instant::now());
    tokio::spawn(async move {
        let mut seen = 0;
        while !beat.is_closed() {
            let looked = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let heartbeats = sessions.stats().heartbeats;
            if std::mem::replace(&mut seen, heartbeats) != heartbeats {
                beat.send_replace(looked);
            }
        }
    });
    last
}

/// Logs go to stderr, at the level that `RUST_LOG` says; errors only by default.
#[allow(dead_code, reason = "not every example logs")]
pub(crate) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The exit status; a failure is one sentence of cause on stderr.
#[allow(dead_code, reason = "not every example fails this way")]
pub(crate) fn exit(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// A failed call for people: its status' message, or what its code means.
#[allow(dead_code, reason = "not every example makes calls")]
pub(crate) fn describe(status: Status) -> String {
    let code = status.code();
    let why = if status.message().is_empty() { code.description() } else { status.message() };
    format!("the call failed: {why} ({code:?})")
}

/// Says when the robot becomes reachable through a server, and on stderr, once each time, why it is not.
#[allow(dead_code, reason = "not every example answers")]
pub(crate) async fn announce(name: String, mut status: SignalingStatus) {
    let mut told = false;
    loop {
        let state = status.state.borrow_and_update().clone();
        match state {
            AnswererState::Online => {
                say!("ANSWERING {name} via {}", status.server);
                told = false;
            }
            AnswererState::Connecting { last_error: Some(why), .. } if !told => {
                eprintln!("not reachable via {}, still trying: {why}", status.server);
                told = true;
            }
            AnswererState::Stopped => return,
            _ => {}
        }
        if status.state.changed().await.is_err() {
            return;
        }
    }
}
