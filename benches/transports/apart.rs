//! Caller and robot in a process each, as they are in the field: this program starts itself as the robot.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use farlink::DialOptions;
use farlink::peer::Stack;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::common::probe::probe_client::ProbeClient;
use crate::common::{LONG, Lab};
use crate::{row, webrtc_row};

/// The word that makes a robot of this program; the name of its stack follows.
const ROBOT_OVER: &str = "robot-over";

/// The name of the stack that this program is to be a robot over, if it is.
pub(crate) fn wanted() -> Option<String> {
    std::env::args().skip_while(|word| word != ROBOT_OVER).nth(1)
}

/// Is a robot, with signaling of its own, until nobody holds its standard input any more.
pub(crate) async fn serve(stack: Arc<dyn Stack>) {
    let lab = Lab::start(stack).await;
    println!("{} {}", lab.signaling.addr, lab.robot.local_addr().expect("the lab's robot listens"));
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

/// A robot that is another process, while this lives.
struct Robot {
    signaling: String,
    listener: String,
    _lives: (Child, ChildStdin),
}

impl Robot {
    async fn start(stack: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut robot = Command::new(program);
        robot.args([ROBOT_OVER, stack]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut robot = robot.spawn().expect("a program that starts");
        let (stdin, stdout) = (robot.stdin.take().expect("a pipe"), robot.stdout.take().expect("a pipe"));
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.expect("the robot says where it is");
        let (signaling, listener) = line.trim().split_once(' ').expect("two addresses");
        let (signaling, listener) = (signaling.to_owned(), listener.to_owned());
        Self { signaling, listener, _lives: (robot, stdin) }
    }
}

/// Over this stack.
pub(crate) async fn webrtc(name: &str, stack: &Arc<dyn Stack>, budget: Duration) {
    let robot = Robot::start(name).await;
    let options = DialOptions::new().signaling_address(robot.signaling.clone()).insecure(true).timeout(LONG);
    webrtc_row(&format!("{name} 2p"), &options.stack(Arc::clone(stack)), budget).await;
}

/// Over TCP: our direct transport, and tonic's own channel.
pub(crate) async fn tcp(stack: &str, budget: Duration) {
    let robot = Robot::start(stack).await;
    let options = DialOptions::new().insecure(true).disable_webrtc(true).timeout(LONG);
    let direct = farlink::dial(robot.listener.clone(), options).await.expect("the robot is there");
    row("direct 2p", crate::Probe::client(direct), budget, None).await;
    let plain = ProbeClient::connect(format!("http://{}", robot.listener)).await.expect("loopback");
    row("tonic's channel 2p", plain, budget, None).await;
}
