//! More callers at once than signaling lets wait for one robot: all of them get through in the end.

mod common;

use std::sync::Arc;

use common::{Lab, Probe, probe::ProbeRequest};
use farlink::Fallback;
use farlink::peer::memory::MemoryStack;
use farlink::transport::TransportKind;
use futures_util::future::join_all;

/// Twice as many as the queue takes for one host.
const CROWD: usize = 100;

#[tokio::test]
async fn who_is_told_to_wait_calls_again() {
    let lab = Lab::with(Arc::new(MemoryStack::new()), |robot| robot.max_connections(2 * CROWD)).await;
    let options = lab.options.clone().fallback(Fallback::Never);
    let dials = (0..CROWD).map(|_| farlink::dial(common::ROBOT, options.clone()));
    for dialed in join_all(dials).await {
        let channel = dialed.unwrap();
        assert_eq!(channel.transport(), TransportKind::WebRtc);
        Probe::client(channel).unary(ProbeRequest::default()).await.unwrap();
    }
}
