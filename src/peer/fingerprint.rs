//! Fingerprints of certificates, RFC 8122: the only proof of who the other side is.
//!
//! Floor 1, beside the seam, for the stacks. What a description names is what the peer's certificate must have;
//! no authority signs either.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// SHA-256 of a certificate, as SDP writes it: upper-case hex with colons.
pub(crate) fn sha256(der: &[u8]) -> String {
    hex(&Sha256::digest(der))
}

/// Whether this certificate is one of those that a description names (algorithm in lower case, value in upper case).
/// Algorithms that RFC 8122 forbids, or that we do not know, prove nothing.
pub(crate) fn is_described(der: &[u8], fingerprints: &[(String, String)]) -> bool {
    fingerprints.iter().any(|(algorithm, value)| digest(algorithm, der).as_ref() == Some(value))
}

fn digest(algorithm: &str, der: &[u8]) -> Option<String> {
    match algorithm {
        "sha-256" => Some(sha256(der)),
        "sha-384" => Some(hex(&Sha384::digest(der))),
        "sha-512" => Some(hex(&Sha512::digest(der))),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(algorithm: &str, value: String) -> (String, String) {
        (algorithm.to_owned(), value)
    }

    #[test]
    fn only_the_described_certificate_passes() {
        let der = b"a certificate";
        assert!(is_described(der, &[named("sha-256", sha256(der))]));
        assert!(is_described(der, &[named("sha-512", hex(&Sha512::digest(der)))]));
        assert!(!is_described(der, &[named("sha-256", sha256(b"another"))]));
        assert!(!is_described(der, &[named("sha-1", sha256(der))]));
        assert!(!is_described(b"", &[named("sha-256", sha256(der))]));
        assert!(!is_described(der, &[]));
    }

    #[test]
    fn one_of_several_fingerprints_is_enough() {
        let der = b"a certificate";
        let others =
            [named("md5", "AA".into()), named("sha-256", "BB".into()), named("sha-256", sha256(der))];
        assert!(is_described(der, &others));
    }
}
