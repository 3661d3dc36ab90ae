//! A peer in a process of its own: told what to do, heard, and always ended.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farlink::peer::{Candidate, Description, Peer, PeerConfig, PeerConnection, Role, Stack};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::browser;
use crate::peers::{gathered, patiently};
use crate::program::{Program, Speech};

/// The longest that a peer may take for anything, 10,000 messages included.
const LONG: Duration = Duration::from_secs(60);

/// How two sides meet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Our role.
    pub(crate) role: Role,
    /// Whether candidates come as they are found; in the descriptions otherwise.
    pub(crate) trickle: bool,
    /// Whether the remote sends `pattern(0, 5)` at the instant of opening.
    pub(crate) greets: bool,
}

/// Both roles, with and without trickle.
pub(crate) const WAYS: [Way; 4] = [
    Way { role: Role::Caller, trickle: true, greets: false },
    Way { role: Role::Answerer, trickle: true, greets: false },
    Way { role: Role::Caller, trickle: false, greets: false },
    Way { role: Role::Answerer, trickle: false, greets: false },
];

/// The process.
#[derive(Debug)]
pub(crate) struct Remote {
    _child: Child,
    commands: UnboundedSender<Value>,
    events: UnboundedReceiver<Value>,
    session: u64,
    current: Arc<Current>,
}

/// Our side of the session that lasts, which the process's candidates go to.
type Current = Mutex<Option<(u64, Arc<dyn PeerConnection>)>>;

impl Remote {
    pub(crate) fn start(program: &Program) -> Self {
        let mut command = Command::new(&program.path);
        command.args(&program.args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (commands, mut said) = match program.speaks {
            Speech::Lines => lines(stdin, stdout),
            Speech::Browser => browser::page(stdin, stdout),
        };
        let (heard, events) = unbounded_channel();
        let current = Arc::<Current>::default();
        let reading = Arc::clone(&current);
        tokio::spawn(async move {
            while let Some(event) = said.recv().await {
                let session = reading.lock().unwrap().clone();
                let Some((session, connection)) = session else { continue };
                if event["session"].as_u64() != Some(session) {
                } else if event["event"] == "candidate" {
                    let candidate = candidate(&event["candidate"]);
                    if let Err(error) = connection.add_remote_candidate(candidate).await {
                        println!("    {}: {error}", event["candidate"]);
                    }
                } else {
                    let _ = heard.send(event);
                }
            }
        });
        Self { _child: child, commands, events, session: 0, current }
    }

    /// Begins a connection, which ends the one before. Returns our side of it, negotiated but maybe not open.
    pub(crate) async fn meet(&mut self, stack: &Arc<dyn Stack>, way: Way) -> Peer {
        let Way { role, trickle, greets } = way;
        self.session += 1;
        println!("  meeting {}: {way:?}", self.session);
        let mut peer = stack.open(PeerConfig::new(role)).await.unwrap();
        let theirs = if role == Role::Caller { "answer" } else { "offer" };
        *self.current.lock().unwrap() = Some((self.session, Arc::clone(&peer.connection)));
        self.tell(json!({"do": "start", "role": theirs, "trickle": trickle, "greet": greets}));
        let connection = Arc::clone(&peer.connection);
        match role {
            Role::Caller => {
                let offer = connection.create_offer().await.unwrap();
                self.tell_description(&mut peer, trickle, offer).await;
                let answer = self.description().await;
                connection.set_answer(answer).await.unwrap();
            }
            _ => {
                let offer = self.description().await;
                let answer = connection.accept_offer(offer).await.unwrap();
                self.tell_description(&mut peer, trickle, answer).await;
            }
        }
        peer
    }

    /// Tells the process to do something in this session.
    pub(crate) fn tell(&self, mut command: Value) {
        command["session"] = self.session.into();
        self.commands.send(command).expect("the peer's process lives");
    }

    /// Waits for an event of this session, which must be the next, but for `open` and `sent`.
    pub(crate) async fn hear(&mut self, event: &str) -> Value {
        let hearing = async {
            loop {
                let heard = self.events.recv().await.expect("the peer's process lives");
                if heard["session"].as_u64() != Some(self.session) {
                    continue;
                } else if heard["event"] == event {
                    return heard;
                }
                assert!(["open", "sent"].iter().any(|passing| heard["event"] == *passing), "{heard}");
            }
        };
        timeout(LONG, hearing).await.unwrap_or_else(|_| panic!("no {event:?} from the peer"))
    }

    async fn description(&mut self) -> Description {
        let heard = self.hear("description").await;
        serde_json::from_value(heard["description"].clone()).unwrap()
    }

    /// Tells our description, and our candidates: in it, or as they are found.
    async fn tell_description(&self, peer: &mut Peer, trickle: bool, made: Description) {
        if !trickle {
            gathered(peer).await;
            let complete = patiently("describing", peer.connection.local_description()).await.unwrap();
            return self.tell(json!({"do": "description", "description": complete}));
        }
        self.tell(json!({"do": "description", "description": made}));
        let mut candidates = std::mem::replace(&mut peer.candidates, tokio::sync::mpsc::channel(1).1);
        let (commands, session) = (self.commands.clone(), self.session);
        tokio::spawn(async move {
            loop {
                let found = candidates.recv().await;
                let end = found.is_none();
                let Candidate { candidate, sdp_mid, sdp_mline_index, username_fragment } = found
                    .unwrap_or_else(|| Candidate { sdp_mid: Some("0".to_owned()), ..Candidate::default() });
                let candidate = json!({
                    "candidate": candidate,
                    "sdpMid": sdp_mid,
                    "sdpMLineIndex": sdp_mline_index,
                    "usernameFragment": username_fragment,
                });
                let command = json!({"do": "candidate", "session": session, "candidate": candidate});
                if commands.send(command).is_err() || end {
                    break;
                }
            }
        });
    }
}

fn lines(mut stdin: ChildStdin, stdout: ChildStdout) -> (UnboundedSender<Value>, UnboundedReceiver<Value>) {
    let (commands, mut to_write) = unbounded_channel::<Value>();
    tokio::spawn(async move {
        while let Some(command) = to_write.recv().await {
            if stdin.write_all(format!("{command}\n").as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let (heard, events) = unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = heard.send(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}")));
        }
    });
    (commands, events)
}

fn candidate(init: &Value) -> Candidate {
    let text = |key: &str| init[key].as_str().map(str::to_owned);
    Candidate {
        candidate: text("candidate").unwrap_or_default(),
        sdp_mid: text("sdpMid"),
        sdp_mline_index: init["sdpMLineIndex"].as_u64().and_then(|index| u32::try_from(index).ok()),
        username_fragment: text("usernameFragment"),
    }
}

/// The bytes of the message of this number and size, the same on both sides: the number, as far as it fits,
/// least byte first, and a run.
pub(crate) fn pattern(number: usize, size: usize) -> Vec<u8> {
    let mut message: Vec<u8> = (0..size).map(|at| ((number + at) % 251) as u8).collect();
    for (byte, number) in message.iter_mut().zip((number as u32).to_le_bytes()) {
        *byte = number;
    }
    message
}
