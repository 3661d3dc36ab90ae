//! The programs that play peers: built or installed once, below the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::browser;

/// How a peer is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) speaks: Speech,
}

/// How it is told and heard.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Speech {
    /// A line of JSON each.
    Lines,
    /// The browser's debugging protocol; the page has the words.
    Browser,
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

    /// aiortc, in a virtual environment below target/ci.
    pub(crate) fn aiortc() -> Option<Self> {
        static READY: OnceLock<Option<Program>> = OnceLock::new();
        READY.get_or_init(|| venv().map_err(|why| missing("aiortc", &why)).ok()).clone()
    }

    /// Debian's Chromium, headless.
    pub(crate) fn chromium() -> Option<Self> {
        static READY: OnceLock<Option<Program>> = OnceLock::new();
        READY.get_or_init(|| headless().map_err(|why| missing("Chromium", &why)).ok()).clone()
    }
}

fn headless() -> Result<Program, String> {
    run(Command::new("chromium").arg("--version"))?;
    let profiles = target().join("ci");
    std::fs::create_dir_all(&profiles).map_err(|error| error.to_string())?;
    let profiles = profiles.into_os_string().into_string().map_err(|_| "a path that is not text")?;
    let args = ["-c", browser::START, "sh", &profiles].map(str::to_owned).into();
    Ok(Program { path: "sh".into(), args, speaks: Speech::Browser })
}

fn venv() -> Result<Program, String> {
    let (folder, venv) = (root().join("tests/stacks_meet_real_peers/python"), target().join("ci/aiortc"));
    let (python, wanted) = (venv.join("bin/python"), folder.join("requirements.txt"));
    // What was installed is noted last.
    let (note, text) = (venv.join("installed"), std::fs::read(&wanted).map_err(|error| error.to_string())?);
    if std::fs::read(&note).ok().as_ref() != Some(&text) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let quiet =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
        run(Command::new(&python).args(quiet).arg("-r").arg(&wanted))?;
        std::fs::write(&note, text).map_err(|error| error.to_string())?;
    }
    let program =
        folder.join("peer.py").into_os_string().into_string().map_err(|_| "a path that is not text")?;
    Ok(Program { path: python, args: vec!["-B".to_owned(), program], speaks: Speech::Lines })
}

/// Where this build lies: `target`, wherever that is.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

fn go(what: &str, folder: &str, name: &str, args: &[&str]) -> Option<Program> {
    let folder = root().join(folder);
    let output = Path::new("bin").join(name);
    run(Command::new("go").args(["build", "-o"]).arg(&output).arg(".").current_dir(&folder))
        .map_err(|why| missing(what, &why))
        .ok()?;
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Some(Program { path: folder.join(output), args, speaks: Speech::Lines })
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
