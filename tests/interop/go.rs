//! The Go program: built, started, listened to, and always ended.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::common::LONG;

/// The program.
#[derive(Debug, Clone)]
pub(crate) struct Go {
    program: PathBuf,
}

/// A role that it plays; ends when dropped.
#[derive(Debug)]
pub(crate) struct Role {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where it listens.
    pub(crate) address: String,
}

impl Go {
    /// Builds it, once. `None` without a Go toolchain, unless peers are required.
    pub(crate) fn build() -> Option<Self> {
        static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
        let program = BUILT.get_or_init(build).clone();
        program.map(|program| Self { program })
    }

    /// Starts a role.
    pub(crate) fn start(&self, args: &[&str]) -> Role {
        let mut child = self.command().args(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Role { _child: child, lines, address: String::new() }
    }

    /// Runs the suite of calls as caller; every check must pass.
    pub(crate) async fn suite(&self, args: &[&str]) {
        self.checks("--suite", args).await;
    }

    /// The same with the suite of sessions.
    pub(crate) async fn sessions(&self, args: &[&str]) {
        self.checks("--sessions", args).await;
    }

    /// The program, to be told a role; ends when dropped.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn checks(&self, which: &str, args: &[&str]) {
        let mut command = self.command();
        let output = command.arg("caller").args(args).arg(which).output();
        let output = timeout(4 * LONG, output).await.expect("the suite ends").unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("DONE"), "{args:?}\n{said}\n{errors}");
        assert!(!said.contains(r#""ok":false"#), "{args:?}\n{said}");
    }
}

impl Role {
    /// Waits until it listens.
    pub(crate) async fn listening(mut self) -> Self {
        self.address = self.line("LISTENING").await;
        self
    }

    /// Waits for a line that begins with this word; returns the rest.
    pub(crate) async fn line(&mut self, word: &str) -> String {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(word) {
                    return rest.trim().to_owned();
                }
            }
            panic!("it ended without saying {word}");
        };
        timeout(LONG, found).await.unwrap_or_else(|_| panic!("no {word} in time"))
    }
}

fn build() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/go");
    let program = folder.join("bin/farlink-interop");
    let built = std::process::Command::new("go")
        .args(["build", "-o", "bin/farlink-interop", "."])
        .current_dir(&folder)
        .output();
    let why = match built {
        Ok(output) if output.status.success() => return Some(program),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("no Go toolchain: {error}"),
    };
    assert!(std::env::var_os("FARLINK_REQUIRE_PEERS").is_none(), "the Go peers are required: {why}");
    eprintln!("SKIPPED: goutils as a peer: {why}");
    None
}
