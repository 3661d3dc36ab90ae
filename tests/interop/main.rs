//! farlink against goutils, each in the role of the other (see README.md beside this file).
//!
//! Without a Go toolchain these tests say that they were skipped; with `FARLINK_REQUIRE_PEERS=1` they fail
//! for want of it.

#[path = "../common/mod.rs"]
mod common;
mod echo;
mod go;
mod sessions;
mod suite;

use common::{LONG, Signaling, loopback};
use farlink::server::Server;
use farlink::transport::TransportKind;
use farlink::{Channel, DialOptions};

use self::go::Go;

const ROBOT: &str = "interop.robot";

async fn dial(
    address: &str,
    signaling: Option<&str>,
    change: impl FnOnce(DialOptions) -> DialOptions,
) -> Channel {
    let options =
        DialOptions::new().signaling_address(signaling.map(str::to_owned)).insecure(true).timeout(LONG);
    farlink::dial(address, change(options)).await.unwrap()
}

fn over_webrtc(channel: &Channel) {
    assert_eq!(channel.transport(), TransportKind::WebRtc, "{:?}", channel.fallback_reason());
}

#[tokio::test(flavor = "multi_thread")]
async fn farlink_dials_a_goutils_robot_through_goutils_signaling() {
    let Some(go) = Go::build() else { return };
    let signaling = go.start(&["signaling"]).listening().await;
    let via = signaling.address.clone();
    let mut robot = go.start(&["robot", "--host", ROBOT, "--signaling", &via]).listening().await;
    robot.line("ANSWERING").await;
    for trickle in [true, false] {
        let channel = dial(ROBOT, Some(&via), |options| options.trickle(trickle)).await;
        over_webrtc(&channel);
        suite::run(channel.clone()).await;
        sessions::are_unknown_to(channel).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn farlink_dials_a_goutils_robot_by_its_own_address() {
    let Some(go) = Go::build() else { return };
    let robot = go.start(&["robot", "--host", ROBOT]).listening().await;
    let channel = dial(&robot.address, None, |options| options).await;
    over_webrtc(&channel);
    suite::run(channel.clone()).await;
    sessions::are_unknown_to(channel).await;
    let channel = dial(&robot.address, None, |options| options.disable_webrtc(true)).await;
    assert_eq!(channel.transport(), TransportKind::Direct);
    suite::run(channel.clone()).await;
    sessions::are_unknown_to(channel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn farlink_falls_back_where_goutils_has_no_signaling_for_the_name() {
    let Some(go) = Go::build() else { return };
    let robot = go.start(&["robot", "--host", ROBOT]).listening().await;
    let name = robot.address.replace("127.0.0.1", "localhost");
    let channel = dial(&name, None, |options| options).await;
    assert_eq!(channel.transport(), TransportKind::Direct);
    let reason = channel.fallback_reason().unwrap();
    assert!(reason.is_without_signaling(), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn goutils_dials_a_farlink_robot_through_farlink_signaling() {
    let Some(go) = Go::build() else { return };
    let signaling = Signaling::start().await;
    let via = signaling.addr.to_string();
    let robot = Server::builder().host(ROBOT).answer_via(&via).insecure(true);
    let robot = robot.start(sessions::routes()).await.unwrap();
    assert!(robot.signaling()[0].clone().online().await);
    go.suite(&["--host", ROBOT, "--signaling", &via]).await;
    go.suite(&["--host", ROBOT, "--signaling", &via, "--no-trickle"]).await;
    go.sessions(&["--host", ROBOT, "--signaling", &via]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goutils_dials_a_farlink_robot_by_its_own_address() {
    let Some(go) = Go::build() else { return };
    let robot = Server::builder().host(ROBOT).listen(loopback()).insecure(true);
    let robot = robot.start(sessions::routes()).await.unwrap();
    let address = robot.local_addr().unwrap().to_string();
    go.suite(&["--direct", &address]).await;
    go.suite(&["--host", ROBOT, "--signaling", &address]).await;
    go.suite(&["--host", &address, "--signaling", &address]).await;
    go.sessions(&["--direct", &address]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goutils_dials_a_farlink_robot_through_goutils_signaling() {
    let Some(go) = Go::build() else { return };
    let signaling = go.start(&["signaling"]).listening().await;
    let via = signaling.address.clone();
    let robot = Server::builder().host(ROBOT).answer_via(&via).insecure(true);
    let robot = robot.start(sessions::routes()).await.unwrap();
    assert!(robot.signaling()[0].clone().online().await);
    go.suite(&["--host", ROBOT, "--signaling", &via]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goutils_dials_a_goutils_robot_through_farlink_signaling() {
    let Some(go) = Go::build() else { return };
    let signaling = Signaling::start().await;
    let via = signaling.addr.to_string();
    let mut robot = go.start(&["robot", "--host", ROBOT, "--signaling", &via]).listening().await;
    robot.line("ANSWERING").await;
    go.suite(&["--host", ROBOT, "--signaling", &via]).await;
}
