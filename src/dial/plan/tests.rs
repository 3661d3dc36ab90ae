use super::*;
use crate::peer::memory::MemoryStack;

fn options() -> DialOptions {
    let stack: Arc<dyn Stack> = Arc::new(MemoryStack::new());
    DialOptions::new().stack(stack)
}

fn plan(address: &str, options: &DialOptions) -> Plan {
    Plan::new(address, options).unwrap()
}

fn refusal(address: &str, options: &DialOptions) -> String {
    Plan::new(address, options).unwrap_err().to_string()
}

#[test]
fn signaling_is_named_or_known_or_the_robot_itself() {
    let server = |plan: Plan| plan.webrtc.unwrap().signaling.endpoint.to_string();
    let named = options().signaling_address("127.0.0.1:7000".to_owned()).insecure(true);
    assert_eq!(server(plan("r.abc.viam.cloud", &named)), "127.0.0.1:7000");
    assert_eq!(server(plan("r.abc.viam.cloud", &options())), "app.viam.com:443");
    assert_eq!(server(plan("robot:8080", &options().insecure(true))), "robot:8080");
    assert_eq!(server(plan("robot", &options())), "robot:443");
}

#[test]
fn the_cloud_is_never_spoken_to_in_plaintext() {
    for options in [options().insecure(true), options().allow_insecure_with_creds_downgrade(true)] {
        let signaling = plan("r.abc.viam.cloud", &options).webrtc.unwrap().signaling;
        assert!(!signaling.security.is_plaintext());
        assert_eq!(signaling.downgrade, Downgrade::Never);
    }
}

#[test]
fn the_cloud_keeps_tls_when_it_is_named_too() {
    let loose = |options: DialOptions| options.insecure(true).allow_insecure_with_creds_downgrade(true);
    for name in ["app.viam.com:443", "APP.VIAM.COM.", "https://app.viam.dev", "app.viaminternal:8089"] {
        let options = loose(options().signaling_address(name.to_owned()));
        let plan = plan("10.0.0.7:8080", &options);
        assert!(plan.direct.security.is_plaintext(), "the robot is what insecure is for");
        let (answered, _) = named_server(name, &options, "robot").unwrap();
        for server in [plan.webrtc.unwrap().signaling, answered] {
            assert!(!server.security.is_plaintext(), "{name}");
            assert_eq!(server.downgrade, Downgrade::Never, "{name}");
        }
    }
    let direct = plan("app.viam.com", &loose(options())).direct;
    assert!(!direct.security.is_plaintext() && direct.endpoint.to_string() == "app.viam.com:443");

    // Who writes it out and means it gets it.
    let named = options().signaling_address("http://app.viam.com:8080".to_owned());
    assert!(refusal("robot", &named).contains("insecure"));
    assert!(plan("robot", &named.clone().insecure(true)).webrtc.unwrap().signaling.security.is_plaintext());
    let (answered, _) = named_server("http://app.viam.com:8080", &named.insecure(true), "robot").unwrap();
    assert!(answered.security.is_plaintext());
}

#[test]
fn the_robot_s_own_address_is_the_direct_one_with_the_usual_ports() {
    let direct = |address: &str, options: &DialOptions| plan(address, options).direct.endpoint.to_string();
    let named = options().signaling_address("127.0.0.1:7000".to_owned()).insecure(true);
    assert_eq!(direct("robot", &named), "robot:80");
    assert_eq!(direct("robot", &options()), "robot:443");
    assert_eq!(direct("[::1]:9", &options()), "[::1]:9");
}

#[test]
fn a_unix_socket_is_direct_and_plaintext_only() {
    let plan = plan("unix:/tmp/robot", &options());
    assert!(plan.webrtc.is_none() && plan.direct.security.is_plaintext());
}

#[test]
fn a_downgrade_needs_its_flag_and_with_credentials_the_louder_one() {
    let downgrade = |options: DialOptions| plan("robot", &options).direct.downgrade;
    let token = || Credentials::token("t");
    assert_eq!(downgrade(options()), Downgrade::Never);
    assert_eq!(downgrade(options().allow_insecure_downgrade(true)), Downgrade::Allowed);
    let with = options().credentials(token());
    assert_eq!(downgrade(with.clone()), Downgrade::Never);
    assert_eq!(downgrade(with.clone().allow_insecure_downgrade(true)), Downgrade::NotWithCredentials);
    assert_eq!(downgrade(with.allow_insecure_with_creds_downgrade(true)), Downgrade::Allowed);
}

#[test]
fn the_entity_is_the_named_one_or_the_host_that_is_dialed() {
    let entity = |options: DialOptions| plan("robot:8080", &options).identity.map(|identity| identity.entity);
    assert_eq!(entity(options()), None);
    let with = options().credentials(Credentials::api_key("k"));
    assert_eq!(entity(with.clone()).as_deref(), Some("robot"));
    assert_eq!(entity(with.auth_entity("me".to_owned())).as_deref(), Some("me"));
}

#[test]
fn what_cannot_be_done_is_said_before_any_io() {
    let bad = |name: &str| options().signaling_address(name.to_owned());
    for (address, options, word) in [
        ("", options(), "host"),
        ("robot:99999", options(), "port"),
        ("robot", bad("sig:x"), "signaling address"),
        ("robot", options().turn_uri("turn:".to_owned()), "TURN URI"),
        ("robot", options().turn_uri("stun:a".to_owned()), "TURN server"),
        ("robot", options().force_relay(true).force_p2p(true), "exclude"),
        ("robot", options().force_p2p(true).turn_uri("turn:a".to_owned()), "turn_uri"),
        ("robot", options().timeout(Duration::ZERO), "timeout"),
        ("http://robot", options(), "insecure"),
        ("https://robot", options().insecure(true), "insecure"),
        ("robot", bad("http://sig"), "insecure"),
        ("robot", options().roots(crate::transport::direct::Roots::Pem(b"x".to_vec())), "PEM"),
    ] {
        let text = refusal(address, &options);
        assert!(text.contains(word), "{address}: {text}");
    }
}

#[test]
fn limits_that_let_no_call_through_are_refused() {
    for change in [|limits: &mut Limits| limits.max_streams = 0, |limits: &mut Limits| limits.max_message = 0]
    {
        let mut limits = Limits::default();
        change(&mut limits);
        assert!(refusal("robot", &options().limits(limits)).contains("limits"));
    }
}

#[test]
fn the_order_of_setters_does_not_matter() {
    let one = options().force_relay(true).disable_webrtc(false).turn_uri("turn:a".to_owned());
    let other = options().turn_uri("turn:a".to_owned()).disable_webrtc(false).force_relay(true);
    for options in [one, other] {
        let webrtc = plan("robot", &options).webrtc.unwrap();
        assert!(webrtc.relay_only);
        assert_eq!(webrtc.filter.only, Some("turn:a".parse().unwrap()));
        assert_eq!(webrtc.default_ice_servers.len(), 2);
    }
}
