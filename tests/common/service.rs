//! A service that can be asked for anything: sizes, delays, errors, every kind of stream.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use farlink::wire::message::MAX_MESSAGE;
use futures_core::Stream;
use futures_util::StreamExt as _;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

/// The generated client, server and messages.
pub mod probe {
    #![allow(clippy::all, clippy::use_self, clippy::exhaustive_enums, missing_debug_implementations)]
    include!("generated/farlink.test.v1.rs");
}

use probe::probe_client::ProbeClient;
use probe::probe_server::{Probe as ProbeService, ProbeServer};
use probe::{ProbeRequest, ProbeResponse};

type Replies = Pin<Box<dyn Stream<Item = Result<ProbeResponse, Status>> + Send>>;

/// Does what it is asked. Response headers and trailers of `Unary` repeat all `x-` metadata; so do the headers
/// of `Spread`. A code of -1 panics. A call with `token` metadata is known to [`is_running`] until its handler
/// and its response stream are gone.
#[derive(Debug, Clone, Copy)]
pub struct Probe;

impl Probe {
    pub fn routes() -> Routes {
        let limit = MAX_MESSAGE + 1024;
        Routes::new(ProbeServer::new(Self).max_decoding_message_size(limit).max_encoding_message_size(limit))
    }

    /// A client that takes all that the wire carries.
    pub fn client(channel: farlink::Channel) -> ProbeClient<farlink::Channel> {
        let limit = MAX_MESSAGE + 1024;
        ProbeClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit)
    }
}

/// The metadata key of a call's token.
pub const TOKEN: &str = "token";

static RUNNING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Whether the handler of the call with this token is alive.
pub fn is_running(token: &str) -> bool {
    RUNNING.lock().unwrap().contains(token)
}

/// Waits until the handler of this call is (or is no more).
pub async fn until_running(token: &str, running: bool) {
    let changed = async {
        while is_running(token) != running {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let what = if running { "started" } else { "ended" };
    tokio::time::timeout(super::LONG, changed).await.unwrap_or_else(|_| panic!("{token} has not {what}"));
}

/// A request with a token.
pub fn tokened<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(TOKEN, token.parse().unwrap());
    request
}

#[derive(Debug)]
struct Running(Option<String>);

impl Running {
    fn new(metadata: &MetadataMap) -> Self {
        let token = metadata.get(TOKEN).map(|token| token.to_str().unwrap().to_owned());
        token
            .iter()
            .for_each(|token| assert!(RUNNING.lock().unwrap().insert(token.clone()), "{token} twice"));
        Self(token)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(|token| {
            RUNNING.lock().unwrap().remove(token);
        });
    }
}

async fn answer(request: ProbeRequest) -> Result<ProbeResponse, Status> {
    if request.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(request.delay_ms.into())).await;
    }
    assert!(request.code != -1, "asked to panic");
    if request.code != 0 {
        let code = Code::from_i32(request.code);
        return Err(Status::with_details(code, request.message, request.details));
    }
    let data = if request.size > 0 { Bytes::from(vec![b'x'; request.size as usize]) } else { request.data };
    Ok(ProbeResponse { total: data.len() as u64, count: 1, data })
}

fn repeat(from: &MetadataMap, to: &mut MetadataMap) {
    let mut headers = http::HeaderMap::new();
    for (key, value) in from.clone().into_headers().iter().filter(|(key, _)| key.as_str().starts_with("x-")) {
        headers.append(key.clone(), value.clone());
    }
    *to = MetadataMap::from_headers(headers);
}

#[tonic::async_trait]
impl ProbeService for Probe {
    async fn unary(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let metadata = request.metadata().clone();
        let _running = Running::new(&metadata);
        match answer(request.into_inner()).await {
            Ok(reply) => {
                let mut response = Response::new(reply);
                repeat(&metadata, response.metadata_mut());
                Ok(response)
            }
            Err(mut status) => {
                repeat(&metadata, status.metadata_mut());
                Err(status)
            }
        }
    }

    async fn collect(
        &self,
        request: Request<Streaming<ProbeRequest>>,
    ) -> Result<Response<ProbeResponse>, Status> {
        let _running = Running::new(request.metadata());
        let mut messages = request.into_inner();
        let mut reply = ProbeResponse::default();
        while let Some(message) = messages.message().await? {
            if message.code != 0 || message.delay_ms > 0 {
                answer(message.clone()).await?;
            }
            reply.count += 1;
            reply.total += message.data.len() as u64;
        }
        Ok(Response::new(reply))
    }

    type SpreadStream = Replies;

    async fn spread(&self, request: Request<ProbeRequest>) -> Result<Response<Replies>, Status> {
        let metadata = request.metadata().clone();
        let running = Running::new(&metadata);
        let ProbeRequest { size, count, code, message, details, delay_ms, .. } = request.into_inner();
        let data = Bytes::from(vec![b'x'; size as usize]);
        let replies = futures_util::stream::iter(1..=u64::from(count)).then(move |place| {
            let _running = &running;
            let data = data.clone();
            async move {
                if delay_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(delay_ms.into())).await;
                }
                Ok(ProbeResponse { count: place, total: data.len() as u64, data })
            }
        });
        let end = (code != 0).then(|| Err(Status::with_details(Code::from_i32(code), message, details)));
        let replies: Replies = Box::pin(replies.chain(futures_util::stream::iter(end)));
        let mut response = Response::new(replies);
        repeat(&metadata, response.metadata_mut());
        Ok(response)
    }

    type BothStream = Replies;

    async fn both(&self, request: Request<Streaming<ProbeRequest>>) -> Result<Response<Replies>, Status> {
        let running = Running::new(request.metadata());
        let replies = request.into_inner().then(move |message| {
            let _running = &running;
            async move { answer(message?).await }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
