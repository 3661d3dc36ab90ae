//! Our robot's Echo, by the rules that README.md lays down for both sides.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farlink::proto::echo::echo_service_server::{EchoService, EchoServiceServer};
use farlink::proto::echo::{
    EchoBiDiRequest, EchoBiDiResponse, EchoMultipleRequest, EchoMultipleResponse, EchoRequest, EchoResponse,
};
use farlink::proto::google_rpc;
use farlink::wire::message::MAX_MESSAGE;
use futures_core::Stream;
use futures_util::StreamExt as _;
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Debug, Default)]
struct Echo {
    running: Arc<AtomicUsize>,
}

pub(crate) fn routes() -> Routes {
    let service = EchoServiceServer::new(Echo::default());
    Routes::new(service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

/// Counts a call while it is open.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The status that `fail:<code>:<text>` asks for.
fn failure(message: &str) -> Option<Status> {
    let asked = message.strip_prefix("fail:")?;
    let wrong = || Some(Status::invalid_argument("expected fail:<code>:<text>"));
    let Some((code, text)) = asked.split_once(':') else { return wrong() };
    let Ok(code @ 1..=16) = code.parse::<i32>() else { return wrong() };
    let detail = EchoRequest { message: text.to_owned() };
    let details = vec![prost_types::Any {
        type_url: "type.googleapis.com/proto.rpc.examples.echo.v1.EchoRequest".into(),
        value: detail.encode_to_vec(),
    }];
    let status = google_rpc::Status { code, message: text.to_owned(), details };
    Some(Status::with_details(Code::from_i32(code), text, status.encode_to_vec().into()))
}

fn number(message: &str, word: &str) -> Option<Result<u64, Status>> {
    let digits = message.strip_prefix(word)?;
    Some(digits.parse().map_err(|_| Status::invalid_argument(format!("expected {word}<number>"))))
}

fn letters(message: &str) -> Vec<String> {
    message.chars().map(String::from).collect()
}

fn meta_headers(metadata: &mut MetadataMap) {
    metadata.append("x-echo", "a".parse().unwrap());
    metadata.append("x-echo", "b".parse().unwrap());
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let asked: Vec<_> = request
            .metadata()
            .get_all("x-ask")
            .iter()
            .map(|v| v.to_str().unwrap_or("?").to_owned())
            .collect();
        let message = request.into_inner().message;
        if let Some(status) = failure(&message) {
            return Err(status);
        }
        if let Some(size) = number(&message, "size:") {
            return Ok(Response::new(EchoResponse { message: "x".repeat(usize::try_from(size?).unwrap()) }));
        }
        if let Some(time) = number(&message, "sleep:") {
            let _running = Running::new(&self.running);
            tokio::time::sleep(Duration::from_millis(time?)).await;
        }
        if message == "running" {
            let running = self.running.load(Ordering::SeqCst);
            return Ok(Response::new(EchoResponse { message: running.to_string() }));
        }
        if message == "meta" {
            // tonic has no trailers for unary calls; README says that goutils' callers miss them anyway.
            let mut response = Response::new(EchoResponse { message: asked.join(",") });
            meta_headers(response.metadata_mut());
            return Ok(response);
        }
        Ok(Response::new(EchoResponse { message }))
    }

    type EchoMultipleStream = Replies<EchoMultipleResponse>;

    async fn echo_multiple(
        &self,
        request: Request<EchoMultipleRequest>,
    ) -> Result<Response<Self::EchoMultipleStream>, Status> {
        let message = request.into_inner().message;
        let end = failure(&message).or_else(|| {
            (message == "meta").then(|| {
                let mut status = Status::ok("");
                status.metadata_mut().insert("x-trailer", "t".parse().unwrap());
                status
            })
        });
        let replies = letters(&message).into_iter().map(|message| Ok(EchoMultipleResponse { message }));
        let replies = futures_util::stream::iter(replies).chain(futures_util::stream::iter(end.map(Err)));
        let mut response: Response<Self::EchoMultipleStream> = Response::new(Box::pin(replies));
        if message == "meta" {
            meta_headers(response.metadata_mut());
        }
        Ok(response)
    }

    type EchoBiDiStream = Replies<EchoBiDiResponse>;

    async fn echo_bi_di(
        &self,
        request: Request<Streaming<EchoBiDiRequest>>,
    ) -> Result<Response<Self::EchoBiDiStream>, Status> {
        let running = Running::new(&self.running);
        let replies = request.into_inner().flat_map(move |message| {
            let _open = &running;
            let replies = match message {
                Err(status) => vec![Err(status)],
                Ok(EchoBiDiRequest { message }) => {
                    let replies =
                        letters(&message).into_iter().map(|message| Ok(EchoBiDiResponse { message }));
                    replies.chain(failure(&message).map(Err)).collect()
                }
            };
            futures_util::stream::iter(replies)
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
