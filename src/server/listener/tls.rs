//! Who the listener is: a certificate chain and its key.
//!
//! Floor 4. Errors come when the identity is made, not with the first handshake. The key is never shown.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// A certificate chain and its private key, ready for handshakes. Clones share them.
#[derive(Clone)]
pub struct TlsIdentity {
    config: Arc<ServerConfig>,
}

impl TlsIdentity {
    /// Reads a chain (the server's own certificate first) and a private key (PKCS#8, PKCS#1 or SEC1) in PEM.
    ///
    /// # Errors
    /// [`TlsIdentityError`] says which of the two is wrong, or that they do not belong together.
    pub fn from_pem(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsIdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificates.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsIdentityError::BadCertificate(pem_error(error)))?;
        if chain.is_empty() {
            return Err(TlsIdentityError::NoCertificate);
        }
        let key = match PrivateKeyDer::from_pem_slice(key.as_ref()) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => return Err(TlsIdentityError::NoKey),
            Err(error) => return Err(TlsIdentityError::BadKey(pem_error(error))),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| TlsIdentityError::Unusable(Arc::new(error)))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    pub(super) async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config.clone()).accept(tcp).await
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

/// Why two PEM texts are not an identity.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsIdentityError {
    /// The text has no certificate at all.
    #[error("no certificate found: expected PEM with a CERTIFICATE section")]
    NoCertificate,
    /// A certificate section cannot be read.
    #[error("cannot read the certificate as PEM")]
    BadCertificate(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The text has no private key at all.
    #[error("no private key found: expected PEM with a PRIVATE KEY section, not encrypted")]
    NoKey,
    /// The key section cannot be read.
    #[error("cannot read the private key as PEM")]
    BadKey(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Both can be read, and cannot be used together.
    #[error("cannot use this certificate with this private key")]
    Unusable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Without the text of the section, which may be part of a key.
fn pem_error(error: pem::Error) -> Arc<dyn std::error::Error + Send + Sync> {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end line",
        pem::Error::IllegalSectionStart { .. } => "a section starts with a line that is not understood",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "the sections are not understood",
    };
    Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(what))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn pems() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_with_an_identity_is_told_apart() {
        let (cert, key) = pems();
        let (_, other_key) = pems();
        assert!(TlsIdentity::from_pem(&cert, &key).is_ok());
        let error = |cert: &str, key: &str| TlsIdentity::from_pem(cert, key).unwrap_err();
        assert!(matches!(error("", &key), TlsIdentityError::NoCertificate));
        assert!(matches!(error(&key, &key), TlsIdentityError::NoCertificate));
        assert!(matches!(error(&cert, ""), TlsIdentityError::NoKey));
        assert!(matches!(error(&cert, &cert), TlsIdentityError::NoKey));
        assert!(matches!(error(&cert[..100], &key), TlsIdentityError::BadCertificate(_)));
        assert!(matches!(error(&cert, &key[..60]), TlsIdentityError::BadKey(_)));
        let unusable = error(&cert, &other_key);
        assert!(matches!(unusable, TlsIdentityError::Unusable(_)) && unusable.source().is_some());
    }

    #[test]
    fn a_key_never_reaches_debug_output() {
        let (cert, key) = pems();
        let shown = format!("{:?}", TlsIdentity::from_pem(cert, key).unwrap());
        assert_eq!(shown, "TlsIdentity { .. }");
    }
}
