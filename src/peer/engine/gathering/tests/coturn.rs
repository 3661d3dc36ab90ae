//! coturn, for as long as a test lives.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peer::IceServer;
use crate::peer::engine::sockets::Trust;

pub(super) struct Turn {
    child: Child,
    port: u16,
    tls_port: u16,
    scratch: PathBuf,
    certificate: String,
}

impl Turn {
    /// With a user `alice` whose password is `wonder`, or with `rest`: the secret of time-limited users. `None`
    /// where it is not installed and need not be.
    pub(super) fn start(rest: Option<&str>) -> Option<Self> {
        Self::start_with(rest, &[])
    }

    pub(super) fn start_with(rest: Option<&str>, more: &[&str]) -> Option<Self> {
        for _ in 0..5 {
            let (port, tls_port) = (free_port(), free_port());
            let scratch = std::env::temp_dir().join(format!("farlink-turn-{}-{port}", std::process::id()));
            std::fs::create_dir_all(&scratch).unwrap();
            let key =
                rcgen::generate_simple_self_signed(vec!["relay.test".into(), "localhost".into()]).unwrap();
            let certificate = key.cert.pem();
            std::fs::write(scratch.join("cert.pem"), &certificate).unwrap();
            std::fs::write(scratch.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
            let file = |name: &str| scratch.join(name).display().to_string();
            let mut command = Command::new("turnserver");
            command
                .args(["-n", "--log-file=stdout", "--no-cli", "--no-dtls"])
                .args(["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"])
                .args(["--realm=lab", "--fingerprint"])
                .arg(format!("--listening-port={port}"))
                .arg(format!("--tls-listening-port={tls_port}"))
                .arg(format!("--cert={}", file("cert.pem")))
                .arg(format!("--pkey={}", file("key.pem")))
                .arg(format!("--db={}", file("db")))
                .arg(format!("--pidfile={}", file("pid")))
                .args(more);
            match rest {
                None => command.args(["--lt-cred-mech", "--user=alice:wonder"]),
                Some(secret) => {
                    command.arg("--use-auth-secret").arg(format!("--static-auth-secret={secret}"))
                }
            };
            let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let Ok(child) = spawned else {
                let required = std::env::var_os("FARLINK_REQUIRE_PEERS").is_some_and(|value| value == "1");
                assert!(!required, "no turnserver: install coturn");
                eprintln!("skipped: no turnserver (Debian: coturn)");
                return None;
            };
            let turn = Self { child, port, tls_port, scratch, certificate };
            if turn.answers() {
                return Some(turn);
            }
        }
        panic!("coturn does not start");
    }

    /// Whether it is up, asked by a STUN binding request over UDP, and by connecting to its TLS port.
    fn answers(&self) -> bool {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut request = [0; 20];
        request[1] = 1;
        request[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            let up = socket.send(&request).is_ok() && socket.recv(&mut [0; 512]).is_ok();
            if up && std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.tls_port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    pub(super) fn udp_url(&self) -> String {
        format!("turn:127.0.0.1:{}", self.port)
    }

    pub(super) fn tcp_url(&self) -> String {
        format!("{}?transport=tcp", self.udp_url())
    }

    pub(super) fn tls_url(&self) -> String {
        format!("turns:localhost:{}", self.tls_port)
    }

    pub(super) fn stun(&self) -> IceServer {
        IceServer::new(&format!("stun:127.0.0.1:{}", self.port)).unwrap()
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::pem(self.certificate.as_bytes()).unwrap()
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
