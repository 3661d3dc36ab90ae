//! A first slice: one call over each transport, on real parts.

mod common;

use std::sync::Arc;

use common::probe::ProbeRequest;
use common::{Lab, Probe};
use farlink::peer::memory::MemoryStack;
use farlink::transport::TransportKind;

#[tokio::test]
async fn a_call_over_memory_and_one_directly() {
    let lab = Lab::start(Arc::new(MemoryStack::new())).await;
    for (channel, kind) in
        [(lab.over_webrtc().await, TransportKind::WebRtc), (lab.directly().await, TransportKind::Direct)]
    {
        assert_eq!(channel.transport(), kind);
        let reply = Probe::client(channel).unary(ProbeRequest { size: 7, ..Default::default() }).await;
        assert_eq!(reply.unwrap().into_inner().total, 7);
    }
}
