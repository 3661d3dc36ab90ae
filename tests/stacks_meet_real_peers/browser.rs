//! A page in headless Chromium, through the browser's debugging pipe: objects of JSON with a zero between.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const PAGE: &str = include_str!("chromium/page.js");

/// What starts it. The pipe is descriptors 3 and 4, and becomes the process's standard input and output.
/// $1 is where it may keep its profile, which goes away with it.
pub(crate) const START: &str = r#"
profile=$(mktemp -d "$1/profile.XXXXXX")
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
chromium --headless=new --remote-debugging-pipe --user-data-dir="$profile" --no-sandbox --no-first-run \
    --disable-gpu --disable-dev-shm-usage --disable-background-networking --disable-component-update \
    --disable-sync --disable-extensions --host-resolver-rules="MAP * ~NOTFOUND" \
    --disable-features=WebRtcHideLocalIpsWithMdns --allow-loopback-in-peer-connection about:blank
rm -rf "$profile"
"#;

/// Opens the page. Commands go to it, events come from it.
pub(crate) fn page(
    mut stdin: ChildStdin,
    stdout: ChildStdout,
) -> (UnboundedSender<Value>, UnboundedReceiver<Value>) {
    let (commands, mut to_write) = unbounded_channel::<Value>();
    let (heard, events) = unbounded_channel();
    tokio::spawn(async move {
        let mut answers = BufReader::new(stdout).split(0);
        let mut next = async || -> Option<Value> {
            let answer = answers.next_segment().await.ok()??;
            Some(serde_json::from_slice(&answer).expect("JSON from the browser"))
        };
        let ask =
            async |stdin: &mut ChildStdin, id: u64, page: Option<&Value>, method: &str, params: Value| {
                let mut question = json!({"id": id, "method": method, "params": params});
                if let Some(page) = page {
                    question["sessionId"] = page.clone();
                }
                // Whoever waits for an answer sees that it has gone.
                let _ = stdin.write_all(format!("{question}\0").as_bytes()).await;
            };
        // Setting up: each question has its answer before the next.
        let mut page: Option<Value> = None;
        let mut target = Value::Null;
        for step in 1..=5 {
            let (method, params) = match step {
                1 => ("Target.createTarget", json!({"url": "about:blank"})),
                2 => ("Target.attachToTarget", json!({"targetId": target, "flatten": true})),
                3 => ("Runtime.enable", json!({})),
                4 => ("Runtime.addBinding", json!({"name": "say"})),
                _ => ("Runtime.evaluate", json!({"expression": PAGE})),
            };
            ask(&mut stdin, step, page.as_ref(), method, params).await;
            let answer = loop {
                let Some(answer) = next().await else { return };
                if answer["id"] == step {
                    break answer;
                }
            };
            let result = &answer["result"];
            assert!(answer["error"].is_null() && result["exceptionDetails"].is_null(), "{answer}");
            match step {
                1 => target = result["targetId"].clone(),
                2 => page = Some(result["sessionId"].clone()),
                _ => {}
            }
        }
        let mut id = 5;
        let mut writing = tokio::spawn(async move {
            while let Some(command) = to_write.recv().await {
                id += 1;
                let expression = format!("obey({command})");
                ask(&mut stdin, id, page.as_ref(), "Runtime.evaluate", json!({"expression": expression}))
                    .await;
            }
            stdin
        });
        loop {
            tokio::select! {
                // Its pipe closes, and the browser ends.
                _ = &mut writing => return,
                message = next() => {
                    let Some(message) = message else { return };
                    if message["method"] == "Runtime.bindingCalled" {
                        let payload = message["params"]["payload"].as_str().unwrap_or_default();
                        let _ = heard.send(serde_json::from_str(payload).expect("JSON from the page"));
                    }
                    let thrown = &message["result"]["exceptionDetails"];
                    assert!(thrown.is_null(), "the page threw {thrown}");
                }
            }
        }
    });
    (commands, events)
}
