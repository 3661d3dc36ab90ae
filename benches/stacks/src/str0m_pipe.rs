//! str0m, driven by whoever polls the pipe: no task and no queue between, which is the best it can have.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::channel::ChannelId;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::Sleep;

use crate::pipe::{Pipe, Side, Signal};
use crate::udp_pipe::tokio_socket;

/// Bytes that wait to be sent, as for farlink's stacks. Its own default of 128 KiB would be slower.
const LIMIT: usize = 1 << 20;

pub struct Str0mPipe {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    channel: Option<ChannelId>,
    inbox: VecDeque<Bytes>,
    timer: Pin<Box<Sleep>>,
    buffer: Box<[u8]>,
}

impl Str0mPipe {
    pub async fn connect(side: Side, mut signal: Signal) -> Self {
        let socket = tokio_socket();
        let local = socket.local_addr().expect("a socket");
        let mut rtc = Rtc::builder().set_sctp_max_buffered_amount(LIMIT).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a candidate"));
        let text = |said: serde_json::Value| said["sdp"].as_str().expect("a description").to_owned();
        if side == Side::Caller {
            let mut change = rtc.sdp_api();
            change.add_channel("data".to_owned());
            let (offer, pending) = change.apply().expect("a change");
            let _ = signal.to.send(json!({"sdp": offer.to_sdp_string()}));
            let answer = text(signal.from.recv().await.expect("the other side lives"));
            let answer = SdpAnswer::from_sdp_string(&answer).expect("a good answer");
            rtc.sdp_api().accept_answer(pending, answer).expect("a good answer");
        } else {
            let offer = text(signal.from.recv().await.expect("the other side lives"));
            let offer = SdpOffer::from_sdp_string(&offer).expect("a good offer");
            let answer = rtc.sdp_api().accept_offer(offer).expect("a good offer");
            let _ = signal.to.send(json!({"sdp": answer.to_sdp_string()}));
        }
        let timer = Box::pin(tokio::time::sleep(std::time::Duration::ZERO));
        let (inbox, buffer) = (VecDeque::new(), vec![0; 2048].into());
        let mut pipe = Self { rtc, socket, local, channel: None, inbox, timer, buffer };
        poll_fn(|cx| {
            pipe.drive(cx);
            if pipe.channel.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        pipe
    }

    /// Does all that can be done now.
    fn drive(&mut self, cx: &mut Context<'_>) {
        loop {
            let deadline = self.put_out();
            let mut buffer = ReadBuf::new(&mut self.buffer);
            if let Poll::Ready(received) = self.socket.poll_recv_from(cx, &mut buffer) {
                let Ok(source) = received else { continue };
                // What cannot be read is no reason to stop.
                if let Ok(received) = Receive::new(Protocol::Udp, source, self.local, buffer.filled()) {
                    let _ = self.rtc.handle_input(Input::Receive(Instant::now(), received));
                }
                continue;
            }
            if self.timer.deadline().into_std() != deadline {
                self.timer.as_mut().reset(deadline.into());
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.rtc.handle_input(Input::Timeout(Instant::now())).expect("a working association");
        }
    }

    fn put_out(&mut self) -> Instant {
        loop {
            match self.rtc.poll_output().expect("a working association") {
                Output::Timeout(deadline) => return deadline,
                // A full socket loses it, as a network would.
                Output::Transmit(packet) => {
                    let socket = socket2::SockRef::from(&self.socket);
                    let _ = socket.send_to(&packet.contents, &packet.destination.into());
                }
                Output::Event(Event::ChannelOpen(id, _)) => self.channel = Some(id),
                Output::Event(Event::ChannelData(data)) => self.inbox.push_back(data.data.into()),
                Output::Event(_) => {}
            }
        }
    }
}

impl Pipe for Str0mPipe {
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<()> {
        self.drive(cx);
        let mut channel = self.channel.and_then(|id| self.rtc.channel(id)).expect("an open channel");
        let taken = channel.write(true, message.as_ref().expect("a message")).expect("an open channel");
        if !taken {
            return Poll::Pending;
        }
        *message = None;
        self.drive(cx);
        Poll::Ready(())
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.inbox.is_empty() {
            self.drive(cx);
        }
        self.inbox.pop_front().map_or(Poll::Pending, |message| Poll::Ready(Some(message)))
    }
}
