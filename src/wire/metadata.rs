//! Metadata: HTTP headers on one side, a map of strings on the other.
//!
//! Floor 0. Keys travel in lower case, all values of a key travel, `-bin` values travel as the base64 that
//! gRPC over HTTP/2 uses too (no other peer puts raw bytes there: the wire's type is a string). What is
//! HTTP's or gRPC's own (content type, timeout, encodings, status) stays on its side.
//!
//! # Invariant
//! What a peer sends can add metadata, but never a header that steers HTTP or gRPC.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proto::webrtc::{Metadata, Strings};

/// Headers that belong to the carrier, in both directions.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-message-type",
    "grpc-status",
    "grpc-status-details-bin",
    "grpc-timeout",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Values in one block of metadata, at most. In a frame there is room for thousands of empty ones, each of
/// which takes many times its bytes here.
pub const MAX_VALUES: usize = 512;

/// What travels for these headers.
///
/// # Errors
/// [`NotText`] when a value is not UTF-8: the wire cannot carry it.
pub fn encode(headers: &HeaderMap) -> Result<Metadata, NotText> {
    let mut md: HashMap<String, Strings> = HashMap::with_capacity(headers.keys_len());
    for (key, value) in headers {
        if is_reserved(key) {
            continue;
        }
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| NotText { key: key.to_string() })?;
        match md.get_mut(key.as_str()) {
            Some(strings) => strings.values.push(text.to_owned()),
            None => {
                md.insert(key.to_string(), Strings { values: vec![text.to_owned()] });
            }
        }
    }
    Ok(Metadata { md })
}

/// Adds what a peer sent to these headers. What cannot be a header (an odd key, a line break) is left out.
///
/// # Errors
/// [`TooManyValues`] when it is more than [`MAX_VALUES`].
pub fn decode(metadata: Option<Metadata>, headers: &mut HeaderMap) -> Result<(), TooManyValues> {
    let values = |metadata: &Metadata| metadata.md.values().map(|strings| strings.values.len().max(1)).sum();
    if metadata.as_ref().map_or(0, values) > MAX_VALUES {
        return Err(TooManyValues);
    }
    for (key, strings) in metadata.into_iter().flat_map(|metadata| metadata.md) {
        // Parsing lowers the case: Go peers send keys as their users spelled them.
        let Ok(key) = HeaderName::from_bytes(key.as_bytes()) else { continue };
        if is_reserved(&key) {
            continue;
        }
        for value in strings.values {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                // Full only after 32768 headers.
                let _ = headers.try_append(&key, value);
            }
        }
    }
    Ok(())
}

fn is_reserved(key: &HeaderName) -> bool {
    RESERVED.binary_search(&key.as_str()).is_ok()
}

/// A value that is not text under a key that says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata value of {key:?} is not UTF-8: use a key that ends in -bin for bytes")]
pub struct NotText {
    key: String,
}

/// More values than anybody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_VALUES} metadata values in one block")]
pub struct TooManyValues;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata(entries: &[(&str, &[&str])]) -> Metadata {
        let entry = |(key, values): &(&str, &[&str])| {
            let values = values.iter().map(ToString::to_string).collect();
            ((*key).to_owned(), Strings { values })
        };
        Metadata { md: entries.iter().map(entry).collect() }
    }

    #[test]
    fn the_reserved_list_is_sorted() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn all_values_of_a_key_travel_in_order() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-b", "2".parse().unwrap());
        headers.append("x-a", "3".parse().unwrap());
        let wire = encode(&headers).unwrap();
        assert_eq!(wire, metadata(&[("x-a", &["1", "3"]), ("x-b", &["2"])]));
        let mut back = HeaderMap::new();
        decode(Some(wire), &mut back).unwrap();
        assert_eq!(back, headers);
    }

    #[test]
    fn what_is_http_or_grpc_stays_at_home_in_both_directions() {
        let mut headers = HeaderMap::new();
        for key in ["content-type", "te", "grpc-timeout", "user-agent", "grpc-status", "x-mine"] {
            headers.insert(key, "v".parse().unwrap());
        }
        assert_eq!(encode(&headers).unwrap(), metadata(&[("x-mine", &["v"])]));

        let mut back = HeaderMap::new();
        let wire = metadata(&[("grpc-status", &["0"]), ("Grpc-Encoding", &["gzip"]), ("X-Mine", &["v"])]);
        decode(Some(wire), &mut back).unwrap();
        assert_eq!(back.len(), 1);
        assert_eq!(back["x-mine"], "v");
    }

    #[test]
    fn text_may_be_any_utf8_and_bytes_must_not() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_bytes("grün".as_bytes()).unwrap());
        assert_eq!(encode(&headers).unwrap(), metadata(&[("x-a", &["grün"])]));
        headers.insert("x-a", HeaderValue::from_bytes(&[0xff]).unwrap());
        assert!(encode(&headers).unwrap_err().to_string().contains("-bin"));
    }

    #[test]
    fn what_cannot_be_a_header_is_left_out() {
        let mut headers = HeaderMap::new();
        decode(Some(metadata(&[("a b", &["v"]), ("", &["v"]), ("x", &["a\nb", "ok"])])), &mut headers)
            .unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x"], "ok");
    }

    #[test]
    fn thousands_of_empty_values_are_refused() {
        let block = |count| {
            let many = Strings { values: vec![String::new(); count] };
            Some(Metadata { md: [("x".to_owned(), many)].into() })
        };
        assert_eq!(decode(block(MAX_VALUES), &mut HeaderMap::new()), Ok(()));
        assert_eq!(decode(block(MAX_VALUES + 1), &mut HeaderMap::new()), Err(TooManyValues));
    }

    proptest! {
        #[test]
        fn nothing_a_peer_sends_panics(entries in prop::collection::vec((".*", ".*"), 0..20)) {
            let md: HashMap<_, _> = entries.into_iter().map(|(key, value)| (key, Strings { values: vec![value] })).collect();
            let _ = decode(Some(Metadata { md }), &mut HeaderMap::new());
        }
    }
}
