//! The example programs, run as people run them: what they print, how they fail, how they end.
//!
//! `cargo test` builds the examples; with `--test` alone, run `cargo build --examples` first.

#![cfg(all(unix, feature = "webrtc"))]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use farlink::DialOptions;
use farlink::proto::motor::motor_service_client::MotorServiceClient;
use farlink::proto::motor::{
    GetPositionRequest, GoForRequest, GoToRequest, IsMovingRequest, IsPoweredRequest,
    ResetZeroPositionRequest, SetPowerRequest, SetRpmRequest, StopRequest,
};
use farlink::proto::robot::ResourceNamesRequest;
use farlink::sessions::RobotServiceStub;
use farlink::sessions::robot::full_name;
use farlink_signaling::SignalingServer;
use tonic::Code;

const NAME: &str = "robot.example";
/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(40);

fn built(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join(name)
}

fn example(name: &str) -> PathBuf {
    let path = built("examples").join(name);
    assert!(path.exists(), "{} is not there: run `cargo build --examples`", path.display());
    path
}

/// A program that runs. Killed and reaped when dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    fn start(path: &PathBuf, arguments: &[&str]) -> Self {
        let mut child = Command::new(path)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read(child.stdout.take().unwrap());
        let errors = read(child.stderr.take().unwrap());
        Self { child, lines, errors }
    }

    /// The rest of the next line that begins like this.
    fn line(&self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(start) {
                        return rest.trim().to_owned();
                    }
                }
                Err(error) => {
                    panic!("no line {start:?}: {error}, stderr: {:?}", self.errors.try_iter().next())
                }
            }
        }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end, and returns what it printed that was not read yet.
    fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        for (from, to) in [(&self.lines, &mut out), (&self.errors, &mut errors)] {
            loop {
                match from.recv_timeout(PATIENCE) {
                    Ok(line) => to.push(line),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => panic!("it does not end: {to:?}"),
                }
            }
        }
        (self.child.wait().unwrap(), out, errors)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Runs a program to its end.
fn run(name: &str, arguments: &[&str]) -> (ExitStatus, Vec<String>, Vec<String>) {
    Program::start(&example(name), arguments).end()
}

/// A signaling server in this process.
struct Signaling {
    addr: String,
    _runtime: tokio::runtime::Runtime,
}

impl Signaling {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(SignalingServer::builder().bind("127.0.0.1:0")).unwrap();
        let addr = server.local_addr().to_string();
        runtime.spawn(server.serve(std::future::pending()));
        Self { addr, _runtime: runtime }
    }
}

/// A robot that answers through it, and its own address.
fn robot(signaling: &str) -> (Program, String) {
    let robot = Program::start(&example("robot"), &["--host", NAME, "--signaling", signaling, "--insecure"]);
    let address = robot.line("LISTENING ");
    assert!(address.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0), "{address}");
    assert_eq!(robot.line("ANSWERING "), format!("{NAME} via {signaling}"));
    (robot, address)
}

fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn help_is_no_error() {
    for name in ["robot", "dial", "watch", "quickstart", "teleop"] {
        let (status, out, errors) = run(name, &["--help"]);
        assert!(status.success() && errors.is_empty(), "{name}: {errors:?}");
        assert!(out.iter().any(|line| line.starts_with("Usage: ")), "{name}: {out:?}");
    }
    let (_, out, _) = run("dial", &["--help"]);
    let out = out.join("\n");
    for flag in [
        "--signaling",
        "--insecure",
        "--disable-webrtc",
        "--no-trickle",
        "--force-relay",
        "--calls",
        "--json",
        "[MESSAGE]",
    ] {
        assert!(out.contains(flag), "{flag}: {out}");
    }
}

#[test]
fn dial_reaches_the_robot_every_way_and_says_how() {
    let signaling = Signaling::start();
    let (_robot, address) = robot(&signaling.addr);
    let via: &[&str] = &[NAME, "--signaling", &signaling.addr, "--insecure"];
    let own: &[&str] = &[&address, "--insecure"];
    for (to, more, path) in [
        (via, [].as_slice(), "webrtc"),
        (via, &["--no-trickle"], "webrtc"),
        (own, &[], "webrtc"),
        (own, &["--disable-webrtc"], "direct"),
    ] {
        let dial = Program::start(&example("dial"), &[to, more, &["good morning"]].concat());
        assert_eq!(dial.line("PATH "), path);
        let (status, rest, errors) = dial.end();
        assert!(status.success() && errors.is_empty(), "{more:?}: {errors:?}");
        assert!(rest[0].starts_with(&format!("reached {} over ", to[0])), "{rest:?}");
        assert_eq!(rest[1..], ["good morning"]);
    }
}

#[test]
fn dial_measures_and_speaks_json() {
    let signaling = Signaling::start();
    let (_robot, _) = robot(&signaling.addr);
    let arguments = [NAME, "--signaling", &signaling.addr, "--insecure", "--json", "--calls", "20"];
    let (status, out, errors) = run("dial", &arguments);
    assert!(status.success() && errors.is_empty(), "{errors:?}");
    let [path, report, echo, times] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!((path.as_str(), echo.as_str()), ("PATH webrtc", "hello"));
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!((&report["transport"], &report["address"]), (&"webrtc".into(), &NAME.into()));
    assert_eq!(report["attempts"][0]["stages"][7]["stage"], "first_use");
    let words: Vec<_> = times.split(' ').collect();
    let ["p50", p50, "us", "p99", p99, "us"] = words.as_slice() else { panic!("{times}") };
    assert!(p50.parse::<u64>().unwrap() <= p99.parse::<u64>().unwrap(), "{times}");
}

/// It ends with status 1 and one sentence on stderr that has all these words, each once.
#[track_caller]
fn one_sentence(name: &str, arguments: &[&str], words: &[&str]) {
    let (status, out, errors) = run(name, arguments);
    assert_eq!(status.code(), Some(1), "{arguments:?}: {errors:?}");
    assert!(out.is_empty(), "{out:?}");
    let [sentence] = errors.as_slice() else { panic!("{errors:?}") };
    for word in words {
        assert_eq!(sentence.matches(word).count(), 1, "{word:?} in {sentence}");
    }
    assert!(!sentence.ends_with('.') && !sentence.starts_with(char::is_uppercase), "{sentence}");
}

#[test]
fn what_goes_wrong_is_one_sentence_and_status_1() {
    let signaling = Signaling::start();
    let (_robot, address) = robot(&signaling.addr);
    let dead = closed_port();
    let offline = ["offline.invalid", "--signaling", &signaling.addr, "--insecure"];
    one_sentence("dial", &offline, &["waiting for the answer", "appears to be offline", "cannot resolve"]);
    let elsewhere = [NAME, "--signaling", &dead, "--insecure"];
    one_sentence("dial", &elsewhere, &["connecting to signaling", "refused", "cannot resolve"]);
    one_sentence("watch", &elsewhere, &["connecting to signaling", "refused"]);
    one_sentence("dial", &[&dead, "--insecure", "--disable-webrtc"], &["connecting to the robot", "refused"]);
    one_sentence("dial", &["robot:99999"], &["cannot dial", "a port from 1 to 65535"]);
    one_sentence("dial", &["robot..example"], &["cannot dial", "is not an address"]);
    one_sentence("dial", &[NAME, "--signaling", "a b"], &["the signaling address", "is not an address"]);
    one_sentence("dial", &[&address, "--disable-webrtc"], &["does not speak TLS", "set insecure"]);
    one_sentence("dial", &["unix:/nowhere"], &["connecting to the robot", "No such file"]);
    one_sentence("robot", &["--host", NAME], &["name a signaling server, or listen"]);
    one_sentence("robot", &["--host", "a b", "--insecure"], &["is not an address"]);
    one_sentence("robot", &["--host", NAME, "--listen", "127.0.0.1:0"], &["TLS identity", "set insecure"]);
    one_sentence(
        "robot",
        &["--host", NAME, "--insecure", "--listen", &address],
        &["cannot listen on", "in use"],
    );
    one_sentence("robot", &["--host", NAME, "--signaling", "x:y"], &["the signaling address"]);
    one_sentence("robot", &["--host", NAME, "--insecure", "--window", "0.001"], &["a window of 1ms"]);
}

#[test]
fn relays_without_a_turn_server_are_no_mystery() {
    let signaling = Signaling::start();
    let (_robot, _) = robot(&signaling.addr);
    let began = Instant::now();
    one_sentence(
        "dial",
        &[NAME, "--signaling", &signaling.addr, "--insecure", "--force-relay"],
        &["force_relay needs a TURN server"],
    );
    assert!(began.elapsed() < Duration::from_secs(8), "it waited for a relay that cannot come");
}

#[test]
fn a_dial_that_fails_prints_json_when_asked_to() {
    let dead = closed_port();
    let (status, out, errors) = run("dial", &[&dead, "--insecure", "--json"]);
    assert_eq!((status.code(), errors.len()), (Some(1), 1));
    let report: serde_json::Value = serde_json::from_str(&out.join("")).unwrap();
    assert_eq!(report["attempts"][0]["failure"]["stage"], "signaling");
    assert_eq!(report["attempts"][1]["failure"]["stage"], "connect");
}

#[test]
fn a_robot_drains_on_both_signals() {
    let signaling = Signaling::start();
    for name in ["INT", "TERM"] {
        let (robot, address) = robot(&signaling.addr);
        let watch = Program::start(&example("watch"), &[&address, "--insecure", "--every", "0"]);
        watch.line("EVENT connected");
        robot.signal(name);
        let (status, _, errors) = robot.end();
        assert!(status.success() && errors.is_empty(), "{name}: {status} {errors:?}");
        watch.line("EVENT closed");
        let (status, rest, errors) = watch.end();
        assert!(status.success() && rest.is_empty() && errors.is_empty(), "{rest:?} {errors:?}");
    }
}

#[test]
fn watch_tells_the_channel_s_life_until_the_robot_is_gone() {
    let signaling = Signaling::start();
    for direct in [false, true] {
        let (robot, address) = robot(&signaling.addr);
        // Signaling does not know the robot by its address: the watch falls back, and says so.
        let name = if direct { address.as_str() } else { NAME };
        let watch = Program::start(&example("watch"), &[name, "--signaling", &signaling.addr, "--insecure"]);
        assert_eq!(watch.line("PATH "), if direct { "direct" } else { "webrtc" });
        if direct {
            assert!(watch.line("EVENT fell back to direct gRPC:").contains("appears to be offline"));
        }
        watch.line("EVENT connected over ");
        watch.line("STATS rtt ");
        robot.signal("KILL");
        let began = Instant::now();
        assert!(robot.end().0.code().is_none());
        watch.line("EVENT closed: ");
        assert!(watch.end().0.success());
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

#[test]
fn a_robot_without_its_signaling_server_says_so_and_goes_on() {
    let dead = closed_port();
    let robot = Program::start(&example("robot"), &["--host", NAME, "--signaling", &dead, "--insecure"]);
    let address = robot.line("LISTENING ");
    let said = robot.errors.recv_timeout(PATIENCE).unwrap();
    assert!(
        said.contains("trying: failed connecting to signaling (")
            && said.contains(&dead)
            && said.contains("still trying")
            && said.contains("refused"),
        "{said}"
    );
    assert_eq!(run("dial", &[&address, "--insecure"]).0.code(), Some(0));
    robot.signal("TERM");
    let (status, _, errors) = robot.end();
    assert!(status.success() && errors.is_empty(), "said once: {errors:?}");
}

#[test]
fn the_programs_work_with_the_signaling_program() {
    let program = built("farlink-signaling");
    if !program.exists() {
        eprintln!("skipped: {} is not built; `cargo test --workspace` builds it", program.display());
        return;
    }
    let signaling = Program::start(&program, &["--listen", "127.0.0.1:0"]);
    let via = signaling.line("LISTENING ");
    let (robot, _) = robot(&via);
    let (status, out, errors) = run("dial", &[NAME, "--signaling", &via, "--insecure", "hi"]);
    assert!(status.success() && errors.is_empty(), "{errors:?}");
    assert_eq!(out.last().map(String::as_str), Some("hi"));
    signaling.signal("TERM");
    assert!(signaling.end().0.success());
    let said = robot.errors.recv_timeout(PATIENCE).unwrap();
    assert!(said.contains("not reachable via"), "{said}");
}

#[test]
fn a_robot_s_motor_turns_as_it_is_asked_to() {
    let robot = Program::start(&example("robot"), &["--host", NAME, "--insecure"]);
    let address = robot.line("LISTENING ");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options = DialOptions::new().insecure(true).disable_webrtc(true);
        let channel = farlink::dial(&address, options).await.unwrap();
        let m1 = || "m1".to_owned();
        let mut stub = RobotServiceStub::new(channel.clone());
        let names = stub.resource_names(ResourceNamesRequest {}).await.unwrap().into_inner().resources;
        assert_eq!(names.iter().map(full_name).collect::<Vec<_>>(), ["rdk:component:motor/m1"]);
        let mut motor = MotorServiceClient::new(channel);
        let set_power = |power_pct| SetPowerRequest { name: m1(), power_pct, extra: None };
        motor.set_power(set_power(-0.5)).await.unwrap();
        assert_eq!(robot.line("MOTOR m1 "), "power -0.5");
        let powered =
            motor.is_powered(IsPoweredRequest { name: m1(), extra: None }).await.unwrap().into_inner();
        assert_eq!((powered.is_on, powered.power_pct), (true, -0.5));
        assert!(motor.is_moving(IsMovingRequest { name: m1() }).await.unwrap().into_inner().is_moving);
        motor.stop(StopRequest { name: m1(), extra: None }).await.unwrap();
        assert_eq!(robot.line("MOTOR m1 "), "stopped by call");
        assert!(!motor.is_moving(IsMovingRequest { name: m1() }).await.unwrap().into_inner().is_moving);
        let mut watching = motor.clone();
        let mut position = async || {
            let request = GetPositionRequest { name: m1(), extra: None };
            watching.get_position(request).await.unwrap().into_inner().position
        };
        assert!(position().await < 0.0);

        let zero = ResetZeroPositionRequest { name: m1(), offset: 0.0, extra: None };
        motor.reset_zero_position(zero).await.unwrap();
        let go_for = move |rpm, revolutions| GoForRequest { name: m1(), rpm, revolutions, extra: None };
        motor.go_for(go_for(-1000.0, -0.25)).await.unwrap();
        assert_eq!(robot.line("MOTOR m1 "), "power 1");
        assert_eq!(robot.line("MOTOR m1 "), "stopped by itself, where it should be");
        assert_eq!(position().await, 0.25);
        let back = GoToRequest { name: m1(), rpm: 100.0, position_revolutions: 0.0, extra: None };
        motor.go_to(back).await.unwrap();
        assert_eq!(position().await, 0.0);

        let mut other = motor.clone();
        let long = tokio::spawn(async move { other.go_for(go_for(60.0, 1e6)).await });
        while robot.line("MOTOR m1 ") != "power 0.6" {}
        let rpm = SetRpmRequest { name: m1(), rpm: 20.0, extra: None };
        motor.set_rpm(rpm).await.unwrap();
        let error = long.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Aborted, "{error}");
        assert_eq!(robot.line("MOTOR m1 "), "power 0.2");

        let code = async |power| motor.clone().set_power(set_power(power)).await.unwrap_err().code();
        assert_eq!(code(1.5).await, Code::InvalidArgument);
        assert_eq!(code(f64::NAN).await, Code::InvalidArgument);
        for (rpm, revolutions) in
            [(0.0, 1.0), (f64::INFINITY, 1.0), (10.0, 0.0), (10.0, f64::NAN), (0.2, 1e300)]
        {
            let error = motor.go_for(go_for(rpm, revolutions)).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{rpm} {revolutions}: {error}");
        }
        let error = motor.stop(StopRequest { name: "m2".to_owned(), extra: None }).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(error.message().contains("m2") && error.message().contains("m1"), "{error}");
    });
}

#[test]
fn teleop_drives_and_stops_in_a_session() {
    let signaling = Signaling::start();
    let (robot, address) = robot(&signaling.addr);
    let name: &[&str] = &[NAME, "--signaling", &signaling.addr];
    for (to, transport) in [(name, "webrtc"), (&[&address, "--disable-webrtc"], "direct")] {
        let (status, out, errors) = run("teleop", &[to, &["--insecure", "--seconds", "0.2"]].concat());
        assert!(status.success() && errors.is_empty(), "{errors:?}");
        assert!(out.contains(&format!("DRIVING m1 over {transport}")), "{out:?}");
        let sessions: Vec<_> = out.iter().filter(|line| line.starts_with("SESSION ")).collect();
        assert!(sessions[0].contains("started, window 2s"), "{out:?}");
        assert_eq!(robot.line("MOTOR m1 "), "power 0.5");
        assert_eq!(robot.line("MOTOR m1 "), "stopped by call");
    }
    for die in [&["--die"], [].as_slice()] {
        let (status, _, errors) = run("teleop", &[&[&address, "--insecure", "--motor", "m2"], die].concat());
        assert_eq!((status.code(), errors.len()), (Some(1), 1), "{errors:?}");
        assert!(errors[0].contains("no motor is called \"m2\"; there is \"m1\""), "{errors:?}");
    }
}

#[test]
fn a_caller_that_dies_at_the_stick_leaves_no_motor_running() {
    let robot = Program::start(&example("robot"), &["--host", NAME, "--insecure", "--window", "0.5"]);
    let address = robot.line("LISTENING ");
    let arguments = [&*address, "--insecure", "--disable-webrtc", "--die", "--seconds", "0.3"];
    let (status, out, errors) = run("teleop", &arguments);
    assert!(status.success() && errors.is_empty(), "{errors:?}");
    assert!(out.iter().any(|line| line.starts_with("STOPPED m1 over direct: driven for 300ms")), "{out:?}");
    assert_eq!(robot.line("MOTOR m1 "), "power 0.5");
    assert_eq!(robot.line("MOTOR m1 "), "stopped by session expiry");
}

#[test]
fn teleop_shows_the_stop_on_both_transports_when_its_window_is_over() {
    let (status, out, errors) = run("teleop", &["--seconds", "0.5"]);
    assert!(status.success() && errors.is_empty(), "{errors:?}");
    let of = |start: &str| out.iter().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    let stopped = of("STOPPED m1 over ");
    assert!(stopped[0].contains("over webrtc: ") && stopped[1].contains("over direct: "), "{out:?}");
    assert_eq!(of("MOTOR m1 stopped by session expiry").len(), 2, "{out:?}");
    let delays = of("  stopped ");
    assert_eq!(delays.len(), 2, "{out:?}");
    for delay in delays {
        let ms: u64 = delay.split(' ').nth(3).unwrap().parse().unwrap();
        assert!((2000..4000).contains(&ms), "{out:?}");
    }
}

#[test]
fn quickstart_runs_all_of_it() {
    let (status, out, errors) = run("quickstart", &[]);
    assert!(status.success() && errors.is_empty(), "{errors:?}");
    assert_eq!(out.iter().filter(|line| line.starts_with("reached ")).count(), 3, "{out:?}");
    assert!(out.iter().any(|line| line.contains("fell back because WebRTC failed connecting to signaling")));
}
