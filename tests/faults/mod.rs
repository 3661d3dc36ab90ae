//! Servers that misbehave, and servers that remember what they were told.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, reason = "each binary uses its part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farlink::proto::auth::auth_service_server::{AuthService, AuthServiceServer};
use farlink::proto::auth::{AuthenticateRequest, AuthenticateResponse};
use farlink::proto::webrtc::signaling_service_server::{SignalingService, SignalingServiceServer};
use farlink::proto::webrtc::{
    AnswerRequest, AnswerResponse, CallRequest, CallResponse, CallUpdateRequest, CallUpdateResponse,
    OptionalWebRtcConfigRequest, OptionalWebRtcConfigResponse,
};
use farlink::server::listener::{Listener, TlsIdentity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A port that nobody listens on.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind(loopback()).await.unwrap().local_addr().unwrap()
}

/// What a [`Wire`] does with a connection.
#[derive(Debug, Clone)]
pub enum Habit {
    /// Reads, and says nothing.
    Mute,
    /// Waits for the first bytes, then says this and closes.
    Says(&'static [u8]),
    /// Waits for the first bytes, then resets the connection.
    Resets,
    /// Passes all bytes on to this address and back.
    PassesOn(SocketAddr),
}

/// A TCP server that remembers what it received. Gone when dropped.
#[derive(Debug)]
pub struct Wire {
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    connections: watch::Receiver<(usize, usize)>,
    task: JoinHandle<()>,
}

impl Wire {
    pub async fn that(habit: Habit) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let (count, connections) = watch::channel((0, 0));
        let record = Arc::clone(&received);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        count.send_modify(|(total, live)| { *total += 1; *live += 1; });
                        open.spawn(behave(stream, habit.clone(), Arc::clone(&record)));
                    }
                    Some(_) = open.join_next() => count.send_modify(|(_, live)| *live -= 1),
                }
            }
        });
        Self { addr, received, connections, task }
    }

    /// Everything that clients sent so far.
    pub fn received(&self) -> Vec<u8> {
        self.received.lock().unwrap().clone()
    }

    pub fn has_received(&self, text: &str) -> bool {
        let received = self.received();
        received.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }

    /// How many connections there ever were.
    pub fn total(&self) -> usize {
        self.connections.borrow().0
    }

    pub async fn until_first(&self) {
        within(self.connections.clone().wait_for(|(total, _)| *total > 0)).await.unwrap();
    }

    pub async fn until_none_live(&self) {
        within(self.connections.clone().wait_for(|(_, live)| *live == 0)).await.unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("took too long")
}

async fn behave(mut stream: TcpStream, habit: Habit, record: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = vec![0; 16 * 1024];
    match habit {
        Habit::Mute => while matches!(read(&mut stream, &mut bytes, &record).await, Some(1..)) {},
        Habit::Says(answer) => {
            read(&mut stream, &mut bytes, &record).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            while matches!(read(&mut stream, &mut bytes, &record).await, Some(1..)) {}
        }
        Habit::Resets => {
            read(&mut stream, &mut bytes, &record).await;
            let _ = stream.set_zero_linger();
        }
        Habit::PassesOn(to) => {
            let Ok(mut there) = TcpStream::connect(to).await else { return };
            let mut back = vec![0; 16 * 1024];
            loop {
                tokio::select! {
                    read = read(&mut stream, &mut bytes, &record) => match read {
                        Some(length @ 1..) => there.write_all(&bytes[..length]).await.unwrap_or(()),
                        _ => return,
                    },
                    read = there.read(&mut back) => match read {
                        Ok(length @ 1..) => stream.write_all(&back[..length]).await.unwrap_or(()),
                        _ => return,
                    },
                }
            }
        }
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut [u8], record: &Mutex<Vec<u8>>) -> Option<usize> {
    let length = stream.read(bytes).await.ok()?;
    record.lock().unwrap().extend_from_slice(&bytes[..length]);
    Some(length)
}

/// A certificate for these names that signs itself, and its PEM for who trusts it.
pub fn identity(names: &[&str]) -> (TlsIdentity, Vec<u8>) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pem = made.cert.pem();
    (TlsIdentity::from_pem(&pem, made.signing_key.serialize_pem()).unwrap(), pem.into_bytes())
}

/// Serves routes until dropped.
#[derive(Debug)]
pub struct Serving {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    pub async fn start(routes: Routes, tls: Option<TlsIdentity>) -> Self {
        let listener = Listener::bind(loopback(), tls).await.unwrap();
        let addr = listener.local_addr();
        let task = tokio::spawn(async move {
            let _ = listener.serve(routes, std::future::pending()).await;
        });
        Self { addr, task }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Gives out tokens `token-1`, `token-2` ..., or refuses; keeps the metadata of what it was asked with.
#[derive(Debug, Clone, Default)]
pub struct Doorman {
    pub refuses: Option<Status>,
    pub asked: Arc<Mutex<Vec<(MetadataMap, AuthenticateRequest)>>>,
}

impl Doorman {
    pub fn server(&self) -> AuthServiceServer<Self> {
        AuthServiceServer::new(self.clone())
    }
}

#[tonic::async_trait]
impl AuthService for Doorman {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let mut asked = self.asked.lock().unwrap();
        asked.push((metadata, request));
        match self.refuses.clone() {
            Some(status) => Err(status),
            None => {
                Ok(Response::new(AuthenticateResponse { access_token: format!("token-{}", asked.len()) }))
            }
        }
    }
}

/// Signaling that takes calls and never answers them, or answers this.
#[derive(Debug, Clone)]
pub struct Deaf {
    pub calls: watch::Sender<usize>,
    pub says: Option<Status>,
}

impl Deaf {
    pub fn new(says: Option<Status>) -> Self {
        Self { calls: watch::Sender::new(0), says }
    }

    pub fn server(&self) -> SignalingServiceServer<Self> {
        SignalingServiceServer::new(self.clone())
    }
}

type Messages<T> = tokio_stream::Pending<Result<T, Status>>;

#[tonic::async_trait]
impl SignalingService for Deaf {
    type CallStream = Messages<CallResponse>;
    type AnswerStream = Messages<AnswerRequest>;

    async fn call(&self, _: Request<CallRequest>) -> Result<Response<Self::CallStream>, Status> {
        self.calls.send_modify(|calls| *calls += 1);
        match self.says.clone() {
            Some(status) => Err(status),
            None => Ok(Response::new(tokio_stream::pending())),
        }
    }

    async fn call_update(
        &self,
        _: Request<CallUpdateRequest>,
    ) -> Result<Response<CallUpdateResponse>, Status> {
        Ok(Response::new(CallUpdateResponse {}))
    }

    async fn answer(
        &self,
        _: Request<Streaming<AnswerResponse>>,
    ) -> Result<Response<Self::AnswerStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }

    async fn optional_web_rtc_config(
        &self,
        _: Request<OptionalWebRtcConfigRequest>,
    ) -> Result<Response<OptionalWebRtcConfigResponse>, Status> {
        Ok(Response::new(OptionalWebRtcConfigResponse::default()))
    }
}
