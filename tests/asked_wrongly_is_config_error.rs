//! What cannot be done is said before anything is sent to anybody, with what was expected instead.

mod faults;

use std::sync::Arc;
use std::time::Duration;

use farlink::peer::memory::MemoryStack;
use farlink::peer::{IceServer, Stack};
use farlink::server::{Server, ServerBuilder, ServerError};
use farlink::transport::TransportKind;
use farlink::transport::direct::Roots;
use farlink::{ConfigError, Credentials, DialError, DialOptions};
use faults::{Habit, Wire, loopback};
use tonic::service::Routes;

fn stack() -> Arc<dyn Stack> {
    Arc::new(MemoryStack::new())
}

/// A dial of `address`, with these options, is a config error that contains all these words.
async fn refused(wire: &Wire, address: &str, options: DialOptions, words: &[&str]) -> ConfigError {
    let error = farlink::dial(address, options.stack(stack())).await.expect_err(address);
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{address}: {word:?} in {text:?}");
    }
    assert!(text.starts_with("cannot dial: ") && !text.ends_with('.'), "{text}");
    assert!(error.report().is_none() && !error.is_retryable());
    assert!(std::error::Error::source(&error).is_none(), "nothing is told twice");
    assert_eq!(wire.total(), 0, "{text}");
    let DialError::Config(error) = error else { panic!("{error:?}") };
    error
}

#[tokio::test]
async fn addresses_that_are_none() {
    let wire = Wire::that(Habit::Mute).await;
    // Everything that could be dialed by mistake leads to the wire.
    let options = || DialOptions::new().signaling_address(wire.addr.to_string()).insecure(true);
    for (address, expected) in [
        ("", "expected a host"),
        ("robot..example", "single dots"),
        ("a b", "a host name of letters"),
        ("user@127.0.0.1", "a host name of letters"),
        ("127.0.0.1/path", "a host name of letters"),
        ("r\u{f6}bot", "a host name of letters"),
        ("127.0.0.999", "an IPv4 address of four numbers"),
        ("[::1", "a closing ]"),
        ("::1:99999:x", "an IPv6 address with a port to be in [ and ]"),
        ("ftp://127.0.0.1", "https://, http://, unix: or no scheme"),
        ("unix:", "a path after unix:"),
        ("127.0.0.1:", "a port from 1 to 65535"),
        ("127.0.0.1:0", "a port from 1 to 65535"),
        ("127.0.0.1:65536", "a port from 1 to 65535"),
        ("127.0.0.1:-1", "a port from 1 to 65535"),
        ("127.0.0.1:http", "a port from 1 to 65535"),
    ] {
        let error = refused(&wire, address, options(), &[expected, &format!("{address:?}")]).await;
        assert!(matches!(error, ConfigError::Address(_)), "{error:?}");
        if address.is_empty() {
            continue;
        }
        // The same as a signaling server.
        let via = DialOptions::new().signaling_address(address.to_owned()).insecure(true);
        let error = refused(&wire, &wire.addr.to_string(), via, &["the signaling address", expected]).await;
        assert!(matches!(error, ConfigError::SignalingAddress(_)), "{error:?}");
    }
}

#[tokio::test]
async fn options_that_cannot_be_kept() {
    let wire = Wire::that(Habit::Mute).await;
    let here = wire.addr.to_string();
    let options = || DialOptions::new().insecure(true);
    for (options, words) in [
        (options().timeout(Duration::ZERO), ["timeout", "more than zero"]),
        (options().timeout(Duration::from_secs(86_401)), ["timeout", "at most a day"]),
        (options().timeout(Duration::MAX), ["timeout", "at most a day"]),
        (options().force_relay(true).force_p2p(true), ["exclude each other", "set one of them"]),
        (options().force_p2p(true).turn_uri("turn:a".to_owned()), ["force_p2p", "leave turn_uri out"]),
        (options().turn_uri("turn:".to_owned()), ["the TURN URI", "expected a host"]),
        (options().turn_uri("turn:a:0".to_owned()), ["the TURN URI", "a port from 1 to 65535"]),
        (options().turn_uri("turn.example".to_owned()), ["the TURN URI", "a scheme"]),
        (options().turn_uri("turn:a?transport=sctp".to_owned()), ["the TURN URI", "transport=udp"]),
        (options().turn_uri("stun:a".to_owned()), ["turn_uri", "expected turn: or turns:"]),
        (options().credentials(Credentials::token("hu\nsh")), ["access token", "without a line break"]),
        (options().credentials(Credentials::token("")), ["access token", "expected visible ASCII"]),
        (DialOptions::new().roots(Roots::Pem(b"nonsense".to_vec())), ["PEM", "no certificate"]),
    ] {
        refused(&wire, &here, options, &words).await;
    }
    let https = format!("https://{here}");
    refused(&wire, &https, options(), &["https://", "insecure", "leave one out"]).await;
    let http = format!("http://{here}");
    refused(&wire, &http, DialOptions::new(), &["http://", "set insecure"]).await;
    let via = DialOptions::new().signaling_address(http);
    refused(&wire, "127.0.0.1:1", via, &["http:// signaling", "set insecure"]).await;
}

#[test]
fn an_api_key_s_id_that_is_no_uuid() {
    for id in ["", "me", "11111111-2222-3333-4444-55555555555", "11111111-2222-3333-4444-5555555555555"] {
        let error = DialOptions::with_api_key("hush", id).unwrap_err();
        assert!(matches!(error, ConfigError::ApiKeyId(_)));
        let text = error.to_string();
        assert!(text.contains("is not a valid UUID") && text.contains("11111111-2222-"), "{text}");
        assert!(text.contains(&format!("{id:?}")) && !text.contains("hush"), "{text}");
    }
}

#[test]
fn ice_servers_that_are_none() {
    for (url, expected) in [
        ("", "a scheme"),
        ("example.com", "a scheme"),
        ("http://example.com", "the scheme stun, stuns, turn or turns"),
        ("stun:", "a host name or an address"),
        ("stun:a?transport=udp", "no query on a STUN URL"),
        ("turn:a?transport=tls", "transport=udp or transport=tcp"),
        ("turn:a:70000", "a port from 1 to 65535"),
        ("turn:[::1", "host or host:port"),
    ] {
        let text = ConfigError::from(IceServer::new(url).unwrap_err()).to_string();
        assert!(text.contains(expected) && text.contains("stun:stun.example.com"), "{url}: {text}");
        assert!(
            IceServer::with_credential(url, "me", "hush").is_err_and(|e| !e.to_string().contains("hush"))
        );
    }
}

/// Starting this robot is an error with all these words, and no socket was opened.
async fn no_robot(builder: ServerBuilder, words: &[&str]) -> ServerError {
    let error = builder.stack(stack()).start(Routes::default()).await.expect_err("no robot");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
    assert!(!text.ends_with('.'), "{text}");
    error
}

#[tokio::test]
async fn robots_that_nobody_could_reach_or_that_have_no_name() {
    let wire = Wire::that(Habit::Mute).await;
    let via = wire.addr.to_string();
    let robot = || Server::builder().insecure(true);
    let named = |count: usize| (0..count).fold(robot(), |robot, n| robot.host(format!("robot-{n}")));
    let error = no_robot(named(1), &["name a signaling server", "or listen"]).await;
    assert!(matches!(error, ServerError::Config(ConfigError::Conflict(_))));
    let error = no_robot(robot().answer_via(&via), &["0 host names", "1 to 5"]).await;
    assert!(matches!(error, ServerError::Hosts(_)));
    no_robot(named(6).answer_via(&via), &["6 host names", "1 to 5"]).await;
    no_robot(named(6).listen(loopback()), &["6 host names", "1 to 5"]).await;
    for name in ["", "a b", "a\nb", "r\u{f6}bot"] {
        no_robot(robot().host(name).answer_via(&via), &[&format!("{name:?}"), "expected"]).await;
    }
    for name in ["a,b", "http://a", "a/b", ""] {
        let named = robot().host(name).listen(loopback()).start(Routes::default()).await;
        assert!(matches!(named, Err(ServerError::Config(_))), "{name:?}: {named:?}");
    }
    let nobody = robot().host("robot").listen(loopback()).max_connections(0).start(Routes::default()).await;
    assert!(nobody.unwrap_err().to_string().contains("at least 1"));
    let listener = Server::builder().host("robot").listen(loopback());
    no_robot(listener, &["TLS identity", "insecure"]).await;
    let bad = named(1).answer_via("sig:x");
    no_robot(bad, &["the signaling address", "a port from 1 to 65535"]).await;
    let plain = Server::builder().host("robot").answer_via(format!("http://{via}"));
    no_robot(plain, &["http:// signaling", "set insecure"]).await;
    let roots = Server::builder().host("robot").answer_via(&via).roots(Roots::Pem(b"x".to_vec()));
    no_robot(roots, &["PEM"]).await;
    // One bad server beside a good one: nothing starts.
    let credentials = Credentials::api_key("hush");
    no_robot(named(1).credentials("me", credentials).answer_via(&via).answer_via("a b"), &["a b"]).await;
    let taken = named(1).listen(wire.addr);
    let error = no_robot(taken, &["cannot listen on", &via]).await;
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("in use"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(wire.total(), 0, "nothing was sent to anybody");
}

#[tokio::test]
async fn a_robot_that_only_listens_needs_no_name() {
    let stack = stack();
    let robot = Server::builder().insecure(true).listen(loopback()).stack(Arc::clone(&stack));
    let robot = robot.start(Routes::default()).await.unwrap();
    let address = robot.local_addr().unwrap().to_string();
    let options = DialOptions::new().insecure(true).stack(stack);
    let channel = farlink::dial(&address, options).await.unwrap();
    assert_eq!(channel.transport(), TransportKind::WebRtc, "its own signaling knows it by its address");
    robot.shutdown().await;
}
