//! The SDP of a connection that has data channels and nothing else: written and read.
//!
//! Floor 1, beside the seam, for the stacks; it knows none of them. Media that the other side offers is
//! refused section by section (port 0, inactive), so that a browser or a robot with cameras still gets its
//! data channel.
//!
//! # Invariant
//! Reading never fails on what it does not know, only on the lack of what it needs. An answer has the
//! sections of its offer, in their order.
//!
//! Contract: RFC 8829 5.3, RFC 8841, RFC 8843 7.3; micro-rdk reads the ICE attributes only from the first
//! media section.

use std::fmt::Write as _;

/// The most media sections that are read; a browser with a dozen cameras stays below.
const MAX_SECTIONS: usize = 64;
/// What wrote a description, RFC 8866 6.3.
const TOOL: &str = "farlink";
/// The largest message, in bytes, of one that does not say (RFC 8841 6.1). goutils does not, and takes 65,535.
const UNSAID_MESSAGE: usize = 64 << 10;

/// The SCTP port of everybody.
const SCTP_PORT: u16 = 5000;

/// What this side says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// Names the session; a random number.
    pub(crate) id: u64,
    /// Counts the descriptions.
    pub(crate) version: u64,
    /// ICE credentials.
    pub(crate) ufrag: String,
    /// ICE credentials.
    pub(crate) pwd: String,
    /// SHA-256 of the certificate, upper-case hex with colons.
    pub(crate) fingerprint: String,
}

/// Who starts the DTLS handshake, RFC 4145.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    ActPass,
    Active,
    Passive,
}

impl Setup {
    fn as_str(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// What the other side says about itself.
// Each stack needs some of it.
#[cfg_attr(not(all(feature = "engine", feature = "webrtc")), allow(dead_code))]
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// Algorithm in lower case and value in upper case; at least one.
    pub(crate) fingerprints: Vec<(String, String)>,
    pub(crate) setup: Setup,
    pub(crate) sctp_port: u16,
    /// The largest message that it takes, in bytes (RFC 8841 6.1).
    pub(crate) max_message: usize,
    /// As written, `candidate:...`.
    pub(crate) candidates: Vec<String>,
    /// Whether it says that farlink wrote it: a hint for timing, never for trust.
    pub(crate) is_farlink: bool,
    sections: Vec<Section>,
    data: usize,
    bundled: bool,
}

impl Remote {
    /// The media section of the data channels: its id and its index.
    #[cfg_attr(not(feature = "webrtc"), allow(dead_code))]
    pub(crate) fn data_section(&self) -> (String, u32) {
        let mid = self.sections.get(self.data).and_then(|section| section.mid.clone());
        (mid.unwrap_or_default(), u32::try_from(self.data).unwrap_or(0))
    }
}

/// Why a description cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SessionError {
    #[error("no media section for data channels")]
    NoDataSection,
    #[error("the peer refused the data channels")]
    Refused,
    #[error("no ICE credentials")]
    NoCredentials,
    #[error("no certificate fingerprint")]
    NoFingerprint,
    #[error("more than {MAX_SECTIONS} media sections")]
    TooManySections,
}

#[derive(Debug, Clone, Default)]
struct Section {
    kind: String,
    port: u16,
    protocol: String,
    formats: String,
    mid: Option<String>,
    bundle_only: bool,
    transport: Transport,
}

#[derive(Debug, Clone, Default)]
struct Transport {
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprints: Vec<(String, String)>,
    setup: Option<Setup>,
    sctp_port: Option<u16>,
    max_message: Option<usize>,
    candidates: Vec<String>,
}

/// Writes an offer: one section, both DTLS roles.
pub(crate) fn offer(local: &Local, candidates: &[String], complete: bool) -> String {
    let section = Section {
        kind: "application".to_owned(),
        protocol: "UDP/DTLS/SCTP".to_owned(),
        formats: "webrtc-datachannel".to_owned(),
        mid: Some("0".to_owned()),
        ..Section::default()
    };
    write(local, &[section], 0, true, Setup::ActPass, candidates, complete)
}

/// Writes the answer to an offer. All its media is refused.
pub(crate) fn answer(
    local: &Local,
    offer: &Remote,
    setup: Setup,
    candidates: &[String],
    complete: bool,
) -> String {
    write(local, &offer.sections, offer.data, offer.bundled, setup, candidates, complete)
}

fn write(
    local: &Local,
    sections: &[Section],
    data: usize,
    bundled: bool,
    setup: Setup,
    candidates: &[String],
    complete: bool,
) -> String {
    let Local { id, version, ufrag, pwd, fingerprint } = local;
    let mut sdp = format!("v=0\r\no=- {id} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=tool:{TOOL}\r\n");
    // Writing to a String cannot fail.
    if bundled && let Some(mid) = sections.get(data).and_then(|section| section.mid.as_deref()) {
        let _ = write!(sdp, "a=group:BUNDLE {mid}\r\n");
    }
    for (index, section) in sections.iter().enumerate() {
        let Section { kind, protocol, formats, mid, .. } = section;
        let port = if index == data { 9 } else { 0 };
        let _ = write!(sdp, "m={kind} {port} {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\n");
        if let Some(mid) = mid {
            let _ = write!(sdp, "a=mid:{mid}\r\n");
        }
        if index != data {
            sdp.push_str("a=inactive\r\n");
            continue;
        }
        let _ = write!(
            sdp,
            "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:{}\r\n",
            setup.as_str()
        );
        match formats.parse::<u16>() {
            Ok(port) => {
                let _ = write!(sdp, "a=sctpmap:{port} webrtc-datachannel 1024\r\n");
            }
            Err(_) => {
                let _ = write!(sdp, "a=sctp-port:{SCTP_PORT}\r\n");
            }
        }
        let _ = write!(sdp, "a=max-message-size:{}\r\n", super::MAX_CHANNEL_MESSAGE);
        for candidate in candidates {
            let _ = write!(sdp, "a={candidate}\r\n");
        }
        if complete {
            sdp.push_str("a=end-of-candidates\r\n");
        }
    }
    sdp
}

/// Reads an offer or an answer.
pub(crate) fn read(sdp: &str) -> Result<Remote, SessionError> {
    let mut common = Transport::default();
    let mut sections: Vec<Section> = Vec::new();
    let (mut bundled, mut is_farlink) = (false, false);
    for line in sdp.lines() {
        let line = line.trim();
        if let Some(media) = line.strip_prefix("m=") {
            if sections.len() == MAX_SECTIONS {
                return Err(SessionError::TooManySections);
            }
            sections.push(read_media(media));
        } else if let Some(attribute) = line.strip_prefix("a=") {
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match (sections.last_mut(), name) {
                (None, "tool") => is_farlink |= value.trim() == TOOL,
                (None, "group") => bundled |= value.starts_with("BUNDLE"),
                (Some(section), "mid") => section.mid = Some(value.to_owned()),
                (Some(section), "bundle-only") => section.bundle_only = true,
                (Some(section), _) => read_attribute(&mut section.transport, name, value, attribute),
                (None, _) => read_attribute(&mut common, name, value, attribute),
            }
        }
    }
    let data = sections.iter().position(is_data).ok_or(SessionError::NoDataSection)?;
    let remote = choose(sections, data, bundled, common)?;
    Ok(Remote { is_farlink, ..remote })
}

fn is_data(section: &Section) -> bool {
    section.kind == "application" && section.protocol.contains("SCTP")
}

/// The data section's transport: its own attributes, else the session's, else those of the sections it
/// shares a transport with.
fn choose(
    sections: Vec<Section>,
    data: usize,
    bundled: bool,
    common: Transport,
) -> Result<Remote, SessionError> {
    let Some(section) = sections.get(data) else { return Err(SessionError::NoDataSection) };
    if section.port == 0 && !section.bundle_only {
        return Err(SessionError::Refused);
    }
    let shared = if bundled { sections.as_slice() } else { &[] };
    let places: Vec<&Transport> = [&section.transport, &common]
        .into_iter()
        .chain(shared.iter().map(|section| &section.transport))
        .collect();
    let ufrag = places.iter().find_map(|place| place.ufrag.clone()).filter(|text| !text.is_empty());
    let pwd = places.iter().find_map(|place| place.pwd.clone()).filter(|text| !text.is_empty());
    let (Some(ufrag), Some(pwd)) = (ufrag, pwd) else { return Err(SessionError::NoCredentials) };
    let fingerprints = places.iter().map(|place| &place.fingerprints).find(|list| !list.is_empty());
    let fingerprints = fingerprints.ok_or(SessionError::NoFingerprint)?.clone();
    let candidates = places.iter().map(|place| &place.candidates).find(|list| !list.is_empty());
    Ok(Remote {
        ufrag,
        pwd,
        fingerprints,
        setup: places.iter().find_map(|place| place.setup).unwrap_or(Setup::ActPass),
        sctp_port: places.iter().find_map(|place| place.sctp_port).unwrap_or(SCTP_PORT),
        max_message: places.iter().find_map(|place| place.max_message).unwrap_or(UNSAID_MESSAGE),
        candidates: candidates.cloned().unwrap_or_default(),
        is_farlink: false,
        data,
        bundled,
        sections,
    })
}

fn read_media(media: &str) -> Section {
    let mut words = media.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (kind, port, protocol, formats) = (word(), word(), word(), word());
    let port = port.split('/').next().and_then(|port| port.parse().ok()).unwrap_or(0);
    // The older form names the SCTP port where the newer one says webrtc-datachannel.
    let sctp_port = formats.parse().ok();
    let transport = Transport { sctp_port, ..Transport::default() };
    Section { kind, port, protocol, formats, transport, ..Section::default() }
}

fn read_attribute(transport: &mut Transport, name: &str, value: &str, whole: &str) {
    let value = value.trim();
    match name {
        "ice-ufrag" => transport.ufrag = Some(value.to_owned()),
        "ice-pwd" => transport.pwd = Some(value.to_owned()),
        "fingerprint" => {
            if let Some((algorithm, digest)) = value.split_once(' ') {
                let digest = digest.trim().to_ascii_uppercase();
                transport.fingerprints.push((algorithm.to_ascii_lowercase(), digest));
            }
        }
        "setup" => {
            transport.setup = match value {
                "active" => Some(Setup::Active),
                "passive" => Some(Setup::Passive),
                "actpass" => Some(Setup::ActPass),
                _ => transport.setup,
            }
        }
        "sctp-port" => transport.sctp_port = value.parse().ok().or(transport.sctp_port),
        "max-message-size" => transport.max_message = read_size(value).or(transport.max_message),
        "candidate" => transport.candidates.push(whole.to_owned()),
        _ => {}
    }
}

/// A size in bytes; 0 is any, and so is what has no room in our numbers. `None` for what is no number.
fn read_size(value: &str) -> Option<usize> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().ok().filter(|size| *size > 0).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local {
        Local {
            id: 7,
            version: 1,
            ufrag: "abcd".to_owned(),
            pwd: "0123456789012345678901".to_owned(),
            fingerprint: "AA:BB".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let candidates = ["candidate:1 1 udp 2 127.0.0.1 9 typ host".to_owned()];
        let remote = read(&offer(&local(), &candidates, true)).unwrap();
        assert_eq!((remote.ufrag.as_str(), remote.setup), ("abcd", Setup::ActPass));
        assert_eq!(remote.candidates, candidates);
        assert!(
            remote.is_farlink
                && !read(&offer(&local(), &[], true).replace("a=tool:", "a=t:")).unwrap().is_farlink
        );
        assert_eq!(remote.fingerprints, [("sha-256".to_owned(), "AA:BB".to_owned())]);
        let answer = read(&answer(&local(), &remote, Setup::Active, &[], false)).unwrap();
        assert_eq!(answer.setup, Setup::Active);
        assert_eq!(answer.data_section(), ("0".to_owned(), 0));
    }

    #[test]
    fn media_is_refused_in_its_place_and_the_data_section_kept() {
        let browser = "v=0\r\na=group:BUNDLE v d\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:v\r\n\
            a=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:SHA-256 aa:bb\r\na=setup:actpass\r\n\
            m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=bundle-only\r\na=mid:d\r\na=sctp-port:5001\r\n";
        let remote = read(browser).unwrap();
        assert_eq!((remote.ufrag.as_str(), remote.sctp_port), ("u", 5001));
        let text = answer(&local(), &remote, Setup::Active, &[], false);
        let video = text.find("m=video 0 UDP/TLS/RTP/SAVPF 96 97").unwrap();
        assert!(video < text.find("m=application 9 ").unwrap());
        assert!(text.contains("a=mid:v\r\na=inactive\r\n"));
        assert!(text.contains("a=group:BUNDLE d\r\n"));
    }

    #[test]
    fn the_older_form_names_its_port_in_the_media_line() {
        let old = "a=ice-ufrag:u\na=ice-pwd:p\na=fingerprint:sha-256 AA\nm=application 9 DTLS/SCTP 5002\na=mid:data\n";
        let remote = read(old).unwrap();
        assert_eq!(remote.sctp_port, 5002);
        assert!(answer(&local(), &remote, Setup::Active, &[], false).contains("a=sctpmap:5002 "));
    }

    #[test]
    fn the_largest_message_is_64_kib_unless_it_is_said_and_any_for_0() {
        let written = offer(&local(), &[], true);
        let said = format!("a=max-message-size:{}", crate::peer::MAX_CHANNEL_MESSAGE);
        assert_eq!(read(&written).unwrap().max_message, crate::peer::MAX_CHANNEL_MESSAGE);
        let any = usize::MAX;
        for (value, largest) in [
            (":1000", 1000),
            (": 262144 ", 262_144),
            (":0", any),
            (":99999999999999999999999999", any),
            ("", 65_536),
            (":-1", 65_536),
            (":64k", 65_536),
        ] {
            let text = written.replace(&said, &format!("a=max-message-size{value}"));
            assert_eq!(read(&text).unwrap().max_message, largest, "{value}");
        }
        assert_eq!(read(&written.replace(&said, "a=x:1")).unwrap().max_message, 65_536);
    }

    #[test]
    fn what_lacks_something_says_what() {
        assert_eq!(read("").unwrap_err(), SessionError::NoDataSection);
        assert_eq!(read("m=audio 9 RTP 0").unwrap_err(), SessionError::NoDataSection);
        assert_eq!(read("m=application 0 UDP/DTLS/SCTP x").unwrap_err(), SessionError::Refused);
        assert_eq!(read("m=application 9 UDP/DTLS/SCTP x").unwrap_err(), SessionError::NoCredentials);
        let no_fingerprint = "m=application 9 UDP/DTLS/SCTP x\na=ice-ufrag:u\na=ice-pwd:p";
        assert_eq!(read(no_fingerprint).unwrap_err(), SessionError::NoFingerprint);
        assert_eq!(read(&"m=audio 9 a b\n".repeat(65)).unwrap_err(), SessionError::TooManySections);
    }
}
