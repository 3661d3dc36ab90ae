//! QUIC by quinn: one bidirectional stream, messages with their length in front.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig};
use quinn::{TokioRuntime, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::pipe::{Pipe, Side, Signal, recv, send};
use crate::udp_pipe::{exchange, socket};

/// Windows that 40 ms do not fill.
const WINDOW: u32 = 16 << 20;

#[derive(Debug, Clone, Copy)]
pub enum Congestion {
    Cubic,
    Bbr,
}

pub struct QuinnPipe {
    _endpoint: Endpoint,
    _connection: Connection,
    sending: SendStream,
    receiving: RecvStream,
    unsent: BytesMut,
    received: BytesMut,
    buffer: Box<[u8]>,
}

impl QuinnPipe {
    pub async fn connect(congestion: Congestion, side: Side, mut signal: Signal) -> Self {
        let socket = socket();
        let address = socket.local_addr().expect("a socket");
        let new = |server| Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime));
        let (endpoint, connection, streams);
        if side == Side::Answerer {
            let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
            let certificate = key.cert.der().clone();
            let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
            let mut config =
                ServerConfig::with_single_cert(vec![certificate.clone()], private).expect("a key");
            config.transport_config(Arc::new(transport(congestion)));
            endpoint = new(Some(config)).expect("an endpoint");
            let _ = signal.to.send(json!({"certificate": certificate.to_vec()}));
            exchange(address, &mut signal).await;
            let incoming = endpoint.accept().await.expect("an endpoint");
            connection = incoming.await.expect("a connection");
            streams = connection.accept_bi().await.expect("a stream");
        } else {
            let said = signal.from.recv().await.expect("the other side lives");
            let certificate: Vec<u8> = serde_json::from_value(said["certificate"].clone()).expect("bytes");
            let theirs: SocketAddr = exchange(address, &mut signal).await;
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(certificate)).expect("a certificate");
            let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).expect("roots");
            config.transport_config(Arc::new(transport(congestion)));
            endpoint = new(None).expect("an endpoint");
            connection = endpoint
                .connect_with(config, theirs, "localhost")
                .expect("good parameters")
                .await
                .expect("a connection");
            streams = connection.open_bi().await.expect("a stream");
        }
        let mut pipe = Self {
            _endpoint: endpoint,
            _connection: connection,
            sending: streams.0,
            receiving: streams.1,
            unsent: BytesMut::new(),
            received: BytesMut::new(),
            buffer: vec![0; 1 << 14].into(),
        };
        // A stream is seen by the other side once something was sent on it.
        match side {
            Side::Caller => send(&mut pipe, Bytes::new()).await,
            Side::Answerer => drop(recv(&mut pipe).await),
        }
        pipe
    }
}

fn transport(congestion: Congestion) -> TransportConfig {
    let mut config = TransportConfig::default();
    config.stream_receive_window(WINDOW.into()).send_window(WINDOW.into()).receive_window(WINDOW.into());
    config.max_idle_timeout(None).keep_alive_interval(Some(Duration::from_secs(5)));
    match congestion {
        Congestion::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
        Congestion::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    config
}

impl Pipe for QuinnPipe {
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<()> {
        if let Some(message) = message.take() {
            self.unsent.put_u32(u32::try_from(message.len()).expect("a small message"));
            self.unsent.extend_from_slice(&message);
        }
        while !self.unsent.is_empty() {
            let sending = Pin::new(&mut self.sending);
            let written = ready!(tokio::io::AsyncWrite::poll_write(sending, cx, &self.unsent));
            self.unsent.advance(written.expect("a connection"));
        }
        Poll::Ready(())
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(length) = self.received.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.received.len() >= 4 + length {
                    self.received.advance(4);
                    return Poll::Ready(Some(self.received.split_to(length).freeze()));
                }
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            if ready!(Pin::new(&mut self.receiving).poll_read(cx, &mut buffer)).is_err()
                || buffer.filled().is_empty()
            {
                return Poll::Ready(None);
            }
            self.received.extend_from_slice(buffer.filled());
        }
    }
}
