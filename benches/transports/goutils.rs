//! goutils' rows: the Go program of `tests/interop` measures goutils alone, calls our robots, and answers our callers.

use std::sync::Arc;
use std::time::Duration;

use farlink::DialOptions;
use farlink::peer::Stack;

use crate::common::{LONG, Lab, ROBOT};
use crate::go::Go;
use crate::webrtc_row;

/// Those of goutils in one process, in two, and with each of these stacks on the other side.
pub(crate) async fn rows(stacks: &[(&str, Arc<dyn Stack>)], budget: Duration) {
    let Some(go) = Go::build() else {
        println!("{:<22} skipped: no go", "goutils");
        return;
    };
    own_rows(&go, budget, &[]).await;
    let mut robot = go.start(&["robot", "--host", ROBOT]).listening().await;
    robot.line("ANSWERING").await;
    let via = robot.address.clone();
    let by_webrtc = ["--host", ROBOT, "--signaling", &via, "--name", "goutils/webrtc 2p"];
    own_rows(&go, budget, &by_webrtc).await;
    own_rows(&go, budget, &["--direct", &via, "--name", "goutils/direct 2p"]).await;
    // Nobody but us speaks by the memory stack.
    for (name, stack) in stacks.iter().filter(|(name, _)| !name.ends_with("memory")) {
        let name = name.trim_start_matches("webrtc/");
        let options = DialOptions::new().signaling_address(via.clone()).insecure(true).timeout(LONG);
        let options = options.stack(Arc::clone(stack));
        webrtc_row(&format!("{name} > goutils 2p"), &options, budget).await;
        let lab = Lab::start(Arc::clone(stack)).await;
        let via = lab.signaling.addr.to_string();
        let name = format!("goutils > {name} 2p");
        own_rows(&go, budget, &["--host", ROBOT, "--signaling", &via, "--name", &name]).await;
    }
}

/// Rows that the program measures and prints itself.
async fn own_rows(go: &Go, budget: Duration, args: &[&str]) {
    let seconds = budget.as_secs_f64().to_string();
    let mut command = go.command();
    let ended = command.args(["bench", "--seconds", &seconds]).args(args).status().await;
    assert!(ended.expect("a program that starts").success(), "goutils' rows: {args:?}");
}
