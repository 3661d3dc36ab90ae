//! `farlink-signaling`: the signaling server as a program.
//!
//! Prints `LISTENING <addr>` once it accepts connections, logs to stderr (`RUST_LOG`, warnings by default),
//! says there first who may use it when that is not this machine alone,
//! and ends with status 0 on SIGINT and SIGTERM, 1 when it cannot serve, 2 when its arguments are wrong.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use farlink_signaling::{IceServer, SignalingServer, TlsIdentity};
use tracing_subscriber::EnvFilter;

/// Where callers and robots meet, to find a way to each other.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    listen: String,

    /// ICE servers to hand out, as JSON or as @file with JSON:
    /// [{"urls": ["turn:turn.example.com"], "username": "u", "credential": "c"}]
    #[arg(long, value_name = "JSON|@FILE")]
    ice_servers: Option<String>,

    /// Take calls for this host only; may be given again. Any host without it
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,

    /// Certificate chain in PEM: speak TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<String>,

    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<String>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(2, first_paragraph(&error.render().to_string())),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let (ice_servers, tls) = match (ice_servers(&arguments), tls(&arguments)) {
        (Ok(ice_servers), Ok(tls)) => (ice_servers, tls),
        (Err(error), _) | (_, Err(error)) => return fail(2, error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, format!("cannot start: {error}")),
    };
    match runtime.block_on(serve(arguments, ice_servers, tls)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

async fn serve(
    arguments: Arguments,
    ice_servers: Vec<IceServer>,
    tls: Option<TlsIdentity>,
) -> Result<(), String> {
    // Before the line that says we are up, so that a signal right after it is not lost.
    let shutdown = shutdown().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let hands_out = !ice_servers.is_empty();
    let mut builder = SignalingServer::builder().hosts(arguments.hosts).ice_servers(ice_servers);
    if let Some(identity) = tls {
        builder = builder.tls(identity);
    }
    let listen = &arguments.listen;
    let server = builder.bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    if !server.local_addr().ip().to_canonical().is_loopback() {
        let ice = if hands_out { ", and is handed the ICE servers with their credentials" } else { "" };
        let addr = server.local_addr();
        eprintln!("farlink-signaling: everybody who can connect to {addr} may call and answer there{ice}");
    }
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "LISTENING {}", server.local_addr()).and_then(|()| stdout.flush());
    drop(stdout);
    server.serve(shutdown).await.map_err(|error| in_one_line(&error))
}

/// Ready when the program shall end.
#[cfg(unix)]
fn shutdown() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ready when the program shall end.
#[cfg(not(unix))]
fn shutdown() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn ice_servers(arguments: &Arguments) -> Result<Vec<IceServer>, String> {
    let Some(given) = &arguments.ice_servers else { return Ok(Vec::new()) };
    let text = match given.strip_prefix('@') {
        Some(file) => read(file).map_err(|error| format!("--ice-servers: {error}"))?,
        None => given.clone(),
    };
    serde_json::from_str(&text).map_err(|error| {
        format!(r#"--ice-servers: {error}; expected JSON like [{{"urls": ["turn:turn.example.com"], "username": "u", "credential": "c"}}]"#)
    })
}

fn tls(arguments: &Arguments) -> Result<Option<TlsIdentity>, String> {
    let (Some(cert), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else { return Ok(None) };
    let identity = TlsIdentity::from_pem(read(cert)?, read(key)?)
        .map_err(|error| format!("--tls-cert {cert}, --tls-key {key}: {}", in_one_line(&error)))?;
    Ok(Some(identity))
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))
}

/// An error and its causes.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}

/// What is wrong, without the usage that clap puts below it.
fn first_paragraph(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<_> = paragraph.trim_start_matches("error: ").split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}

fn fail(status: u8, error: impl AsRef<str>) -> ExitCode {
    eprintln!("farlink-signaling: {}", error.as_ref());
    ExitCode::from(status)
}
