//! What requests say in their metadata: `rpc-host` and `heartbeats-allowed`.
//!
//! Floor 3. The texts are contract; the code is UNKNOWN, as for every plain error of the peer. Contract:
//! goutils `rpc/wrtc_signaling_server.go`.

use tonic::Status;
use tonic::metadata::MetadataMap;

/// Most hosts that one request may name.
const MAX_HOSTS: usize = 5;

/// The hosts of a request, one to five, none empty.
pub(super) fn read(metadata: &MetadataMap) -> Result<Vec<String>, Status> {
    let mut hosts = Vec::with_capacity(1);
    for value in metadata.get_all("rpc-host") {
        if hosts.len() == MAX_HOSTS {
            return Err(Status::unknown(format!("too many rpc-host: at most {MAX_HOSTS}")));
        }
        let host = value.to_str().map_err(|_| Status::unknown("expected rpc-host to be ASCII"))?;
        if host.is_empty() {
            return Err(Status::unknown("expected non-empty rpc-host"));
        }
        hosts.push(host.to_owned());
    }
    if hosts.is_empty() {
        return Err(Status::unknown("expected rpc-host to be set in metadata"));
    }
    Ok(hosts)
}

/// The host of a request that must name just one.
pub(super) fn one(mut hosts: Vec<String>) -> Result<String, Status> {
    match hosts.pop() {
        Some(host) if hosts.is_empty() => Ok(host),
        _ => Err(Status::unknown("expected 1 rpc-host")),
    }
}

/// Whether the answerer understands heartbeats: only the first value counts, and only "true".
pub(super) fn heartbeats_allowed(metadata: &MetadataMap) -> bool {
    metadata.get("heartbeats-allowed").is_some_and(|value| value.as_bytes() == b"true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(key: &'static str, values: &[&'static str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(key, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn hosts_are_refused_in_the_words_of_the_contract() {
        for (values, text) in [
            (&[][..], "expected rpc-host to be set in metadata"),
            (&[""], "expected non-empty rpc-host"),
            (&["a", ""], "expected non-empty rpc-host"),
            (&["a", "b"], "expected 1 rpc-host"),
            (&["a", "b", "c", "d", "e", "f"], "too many rpc-host"),
        ] {
            let error = read(&metadata("rpc-host", values)).and_then(one).unwrap_err();
            assert!(error.message().contains(text), "{values:?}: {error}");
            assert_eq!(error.code(), tonic::Code::Unknown);
        }
        let five = ["a", "b", "c", "d", "e:1"];
        assert_eq!(read(&metadata("rpc-host", &five)).unwrap(), five);
        assert_eq!(read(&metadata("rpc-host", &["a"])).and_then(one).unwrap(), "a");
    }

    #[test]
    fn heartbeats_need_the_literal_true_first() {
        for (values, allowed) in [
            (&["true"][..], true),
            (&["TRUE"], false),
            (&["1"], false),
            (&["false", "true"], false),
            (&[], false),
        ] {
            assert_eq!(heartbeats_allowed(&metadata("heartbeats-allowed", values)), allowed, "{values:?}");
        }
    }
}
