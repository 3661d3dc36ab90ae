//! The program from outside: what it prints, how it ends, what it says about bad arguments.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farlink-signaling"));
    command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(arguments: &[&str]) -> (Child, SocketAddr) {
    start_on("127.0.0.1:0", arguments)
}

fn start_on(listen: &str, arguments: &[&str]) -> (Child, SocketAddr) {
    let mut child = program().args(["--listen", listen]).args(arguments).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let addr = line.strip_prefix("LISTENING ").unwrap_or_else(|| panic!("printed {line:?}"));
    (child, addr.trim_end().parse().unwrap())
}

fn refuse(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = program().args(arguments).output().unwrap();
    assert!(stdout.is_empty());
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
    (status.code(), said)
}

#[test]
#[cfg(unix)]
fn it_says_where_it_listens_and_ends_well_on_sigterm_and_sigint() {
    for signal in ["-TERM", "-INT"] {
        let ice = r#"[{"urls": "turn:t.example", "username": "u", "credential": "secret"}]"#;
        let (mut child, addr) = start(&["--ice-servers", ice, "--host", "a", "--host", "b"]);
        assert_ne!(addr.port(), 0);
        let _idle = TcpStream::connect(addr).unwrap();
        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "quiet by default");
    }
}

#[test]
fn bad_arguments_get_one_sentence_and_a_status() {
    let missing = std::env::temp_dir().join("farlink-no-such-file");
    let missing = missing.to_str().unwrap();
    for (arguments, words) in [
        (&["--ice-servers", "{"][..], &["--ice-servers", "JSON"][..]),
        (&["--ice-servers", r#"[{"urls": ["http://x"]}]"#], &["--ice-servers", "stun"]),
        (&["--ice-servers", &format!("@{missing}")], &["--ice-servers", missing]),
        (&["--tls-cert", missing], &["--tls-key"]),
        (&["--tls-cert", missing, "--tls-key", missing], &["cannot read", missing]),
        (&["--no-such-flag"], &["--no-such-flag"]),
    ] {
        let (status, said) = refuse(arguments);
        assert_eq!(status, Some(2), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} not in {said:?}");
        }
    }
    let (status, said) = refuse(&["--listen", "nonsense"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot listen on nonsense"), "{said}");
}

#[test]
fn it_says_who_may_use_it_when_that_is_more_than_this_machine() {
    let ice = r#"[{"urls": "turn:t.example", "username": "u", "credential": "secret"}]"#;
    for (arguments, told_of_ice) in [(&[][..], false), (&["--ice-servers", ice], true)] {
        let (mut child, addr) = start_on("0.0.0.0:0", arguments);
        child.kill().unwrap();
        let Output { stderr, .. } = child.wait_with_output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
        assert!(said.contains(&format!("everybody who can connect to {addr} may call and answer")), "{said}");
        assert_eq!(said.contains("ICE servers with their credentials"), told_of_ice, "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn ice_servers_may_come_from_a_file() {
    let file = std::env::temp_dir().join(format!("farlink-ice-{}.json", std::process::id()));
    std::fs::write(&file, r#"[{"urls": ["stun:s.example"]}]"#).unwrap();
    let (mut child, _) = start(&["--ice-servers", &format!("@{}", file.display())]);
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(file).unwrap();
}
