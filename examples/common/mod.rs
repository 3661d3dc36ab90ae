//! What the examples share: the Echo service, and how numbers are printed.

use std::pin::Pin;
use std::time::Duration;

use farlink::proto::echo::echo_service_server::{EchoService, EchoServiceServer};
use farlink::proto::echo::{
    EchoBiDiRequest, EchoBiDiResponse, EchoMultipleRequest, EchoMultipleResponse, EchoRequest, EchoResponse,
};
use futures_core::Stream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Says everything back.
#[derive(Debug)]
pub struct Echo;

/// Routes that serve Echo and nothing else.
pub fn routes() -> Routes {
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
pub fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let micros = |percent| at(percent).map_or(0, Duration::as_micros);
    format!("p50 {} us p99 {} us", micros(50), micros(99))
}
