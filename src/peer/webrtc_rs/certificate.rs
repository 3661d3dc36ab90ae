//! The DTLS certificate of a stack, and the check of the peer's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use webrtc::dtls;
use webrtc::dtls::crypto::Certificate;

use crate::peer::{PeerError, fingerprint};

/// How long one certificate serves new peers. Browsers' default lifetime of a certificate. Ours say nothing
/// of their end, so that a connection that is older goes on.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// A certificate with its key.
pub(super) struct Identity {
    pub(super) certificate: Certificate,
    /// SHA-256, as SDP writes it.
    pub(super) fingerprint: String,
    made: Instant,
}

impl Identity {
    pub(super) fn generate() -> Result<Self, PeerError> {
        const CONTEXT: &str = "cannot make a certificate";
        // The DTLS crate builds a rustls verifier that it does not use, and rustls panics there when a
        // program links several crypto providers and chose none. One that was chosen stays.
        if CryptoProvider::get_default().is_none() {
            let _ = ring::default_provider().install_default();
        }
        let certificate = Certificate::generate_self_signed(vec!["farlink".to_owned()])
            .map_err(|cause| PeerError::because(CONTEXT, cause))?;
        let der = certificate.certificate.first().ok_or_else(|| PeerError::new(CONTEXT))?;
        let fingerprint = fingerprint::sha256(der.as_ref());
        Ok(Self { certificate, fingerprint, made: Instant::now() })
    }

    pub(super) fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made) > LIFETIME
    }
}

type Verify = dyn Fn(&[Vec<u8>], &[dtls_types::CertificateDer]) -> Result<(), dtls::Error> + Send + Sync;

/// Names types that the DTLS crate uses and does not export.
mod dtls_types {
    pub(super) type CertificateDer = tokio_rustls::rustls::pki_types::CertificateDer<'static>;
}

/// Holds the peer's certificate against the fingerprints of its description: the only proof of who it is.
pub(super) fn verifier(fingerprints: Vec<(String, String)>) -> Arc<Verify> {
    Arc::new(move |chain, _| {
        let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
        if fingerprint::is_described(leaf, &fingerprints) {
            return Ok(());
        }
        Err(dtls::Error::Other("the certificate is not the one of the description".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_described_certificate_passes() {
        let identity = Identity::generate().unwrap();
        let chain = vec![identity.certificate.certificate[0].to_vec()];
        let accepts = |algorithm: &str, value: &str| {
            verifier(vec![(algorithm.to_owned(), value.to_owned())])(&chain, &[]).is_ok()
        };
        assert!(accepts("sha-256", &identity.fingerprint));
        assert!(!accepts("sha-256", &fingerprint::sha256(b"another")));
        assert!(!accepts("sha-1", &identity.fingerprint));
        assert!(verifier(vec![("sha-256".into(), identity.fingerprint)])(&[], &[]).is_err());
    }

    #[test]
    fn it_is_renewed_after_a_month() {
        let identity = Identity::generate().unwrap();
        assert!(!identity.is_old(Instant::now()));
        assert!(identity.is_old(Instant::now() + LIFETIME + Duration::from_secs(1)));
    }
}
