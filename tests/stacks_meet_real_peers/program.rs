//! The programs that play peers: built or installed once, below the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// How a peer is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Program {
    /// pion's newest release.
    pub(crate) fn pion() -> Option<Self> {
        static READY: OnceLock<Option<Program>> = OnceLock::new();
        READY.get_or_init(|| go("pion", "tests/stacks_meet_real_peers/go", "peer", &[])).clone()
    }

    /// The pion that goutils is built on.
    pub(crate) fn goutils() -> Option<Self> {
        static READY: OnceLock<Option<Program>> = OnceLock::new();
        READY.get_or_init(|| go("goutils' pion", "tests/interop/go", "farlink-interop", &["peer"])).clone()
    }
}

fn go(what: &str, folder: &str, name: &str, args: &[&str]) -> Option<Program> {
    let folder = root().join(folder);
    let output = Path::new("bin").join(name);
    run(Command::new("go").args(["build", "-o"]).arg(&output).arg(".").current_dir(&folder))
        .map_err(|why| missing(what, &why))
        .ok()?;
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Some(Program { path: folder.join(output), args })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("cannot start {:?}: {error}", command.get_program())),
    }
}

/// Where peers are required this fails, elsewhere it says that the test was skipped.
fn missing(what: &str, why: &str) {
    assert!(std::env::var_os("FARLINK_REQUIRE_PEERS").is_none(), "{what} is required as a peer: {why}");
    eprintln!("SKIPPED: {what} as a peer: {why}");
}
