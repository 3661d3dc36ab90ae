//! Peers that speak frames by hand.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farlink::peer::memory::MemoryStack;
use farlink::peer::{Peer, Stack};
use farlink::proto::google_rpc::Status as WireStatus;
use farlink::proto::webrtc::{
    Metadata, PacketMessage, Request, RequestHeaders, RequestMessage, Response, ResponseHeaders,
    ResponseMessage, ResponseTrailers, Stream, request, response,
};
use farlink::wire::frame;
use prost::Message as _;

use crate::peers::{self, connected};

pub async fn memory_pair() -> (Peer, Peer) {
    let stack: Arc<dyn Stack> = Arc::new(MemoryStack::new());
    connected(&stack).await
}

/// How long silence must last to be believed. Under the paused clock it costs nothing.
const SILENCE: Duration = Duration::from_secs(2);

/// One end of a data channel and nothing above it.
pub struct Raw {
    pub peer: Peer,
}

impl Raw {
    pub async fn send(&mut self, frame: impl Into<Bytes>) {
        peers::send(&mut self.peer.channel, frame).await.unwrap();
    }

    pub async fn request(&mut self, stream: u64, kind: request::Type) {
        let request = Request { stream: Some(Stream { id: stream }), r#type: Some(kind) };
        self.send(request.encode_to_vec()).await;
    }

    pub async fn headers(&mut self, stream: u64, method: &str) {
        let headers = RequestHeaders { method: method.to_owned(), ..Default::default() };
        self.request(stream, request::Type::Headers(headers)).await;
    }

    /// A packet as any dialect has it.
    pub async fn packet(&mut self, stream: u64, has: bool, packet: Option<(&[u8], bool)>, eos: bool) {
        let packet_message =
            packet.map(|(data, eom)| PacketMessage { data: Bytes::copy_from_slice(data), eom });
        let message = RequestMessage { has_message: has, packet_message, eos };
        self.request(stream, request::Type::Message(message)).await;
    }

    pub async fn reset(&mut self, stream: u64) {
        self.request(stream, request::Type::RstStream(true)).await;
    }

    pub async fn next_response(&mut self) -> (u64, response::Type) {
        let frame = peers::recv(&mut self.peer.channel).await.expect("the channel is closed");
        let (stream, kind) = frame::decode_response(frame).unwrap();
        (stream, kind.unwrap())
    }

    /// The next frames of the robot are a whole answer: headers, messages, trailers. Returns the messages
    /// and how it ended.
    pub async fn answer(&mut self, stream: u64) -> (Vec<Bytes>, Option<WireStatus>) {
        let (id, kind) = self.next_response().await;
        assert_eq!(id, stream);
        assert!(matches!(kind, response::Type::Headers(_)), "no headers first: {kind:?}");
        let mut messages = vec![];
        let mut message = Vec::new();
        loop {
            match self.next_response().await {
                (id, response::Type::Message(ResponseMessage { packet_message })) if id == stream => {
                    let packet = packet_message.unwrap();
                    message.extend_from_slice(&packet.data);
                    if packet.eom {
                        messages.push(std::mem::take(&mut message).into());
                    }
                }
                (id, response::Type::Trailers(trailers)) if id == stream => {
                    return (messages, trailers.status);
                }
                other => panic!("not of this answer: {other:?}"),
            }
        }
    }

    /// Nothing comes.
    pub async fn silence(&mut self) {
        let next = std::future::poll_fn(|cx| self.peer.channel.poll_recv(cx));
        if let Ok(frame) = tokio::time::timeout(SILENCE, next).await {
            panic!("not silent: {frame:?}");
        }
    }

    pub async fn next_request(&mut self) -> (u64, request::Type) {
        let frame = peers::recv(&mut self.peer.channel).await.expect("the channel is closed");
        let (stream, kind) = frame::decode_request(frame).unwrap();
        (stream, kind.unwrap())
    }

    /// The next call: its id and method, once its half-close has come.
    pub async fn whole_call(&mut self) -> (u64, String) {
        let (stream, kind) = self.next_request().await;
        let request::Type::Headers(headers) = kind else { panic!("no headers first: {kind:?}") };
        loop {
            match self.next_request().await {
                (id, request::Type::Message(message)) if id == stream => {
                    if message.eos {
                        return (stream, headers.method);
                    }
                }
                other => panic!("not of this call: {other:?}"),
            }
        }
    }

    pub async fn respond(&mut self, stream: u64, kind: response::Type) {
        let response = Response { stream: Some(Stream { id: stream }), r#type: Some(kind) };
        self.send(response.encode_to_vec()).await;
    }

    pub async fn respond_headers(&mut self, stream: u64) {
        let headers = ResponseHeaders { metadata: Some(Metadata::default()) };
        self.respond(stream, response::Type::Headers(headers)).await;
    }

    pub async fn respond_packet(&mut self, stream: u64, data: &[u8], eom: bool) {
        let packet_message = Some(PacketMessage { data: Bytes::copy_from_slice(data), eom });
        self.respond(stream, response::Type::Message(ResponseMessage { packet_message })).await;
    }

    pub async fn respond_trailers(&mut self, stream: u64, status: Option<(i32, &str)>) {
        let status =
            status.map(|(code, message)| WireStatus { code, message: message.to_owned(), details: vec![] });
        let trailers = ResponseTrailers { status, metadata: None };
        self.respond(stream, response::Type::Trailers(trailers)).await;
    }
}
