//! TLS for callers: whom to trust, and how a server that speaks none is told apart.
//!
//! # Invariant
//! Only a server that answered the hello with something that is not a TLS record counts as "not TLS". A
//! refused connection, a time-out or a certificate that is not trusted never does.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::connect::{ConnectError, Endpoint};

/// How a connection is secured.
#[derive(Clone)]
#[non_exhaustive]
pub enum Security {
    /// Not at all. Nothing secret may be sent.
    Plaintext,
    /// TLS 1.2 or 1.3, the server's certificate checked against its name.
    Tls(TlsConfig),
}

impl Security {
    /// TLS that trusts these roots. Reading the platform's roots takes milliseconds of file I/O: make one
    /// and clone it.
    ///
    /// # Errors
    /// [`RootsError`] when there are none.
    pub fn tls(roots: &Roots) -> Result<Self, RootsError> {
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| RootsError::Unusable(error.to_string()))?
                .with_root_certificates(roots.load()?)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self::Tls(TlsConfig(Arc::new(config))))
    }

    /// Whether anybody on the way can read along.
    pub fn is_plaintext(&self) -> bool {
        matches!(self, Self::Plaintext)
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_plaintext() { "Plaintext" } else { "Tls" })
    }
}

/// What [`Security::tls`] made.
#[derive(Clone)]
pub struct TlsConfig(Arc<ClientConfig>);

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfig")
    }
}

/// Whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Roots {
    /// Those of the platform; `SSL_CERT_FILE` and `SSL_CERT_DIR` override them.
    #[default]
    Platform,
    /// These only: one or more certificates in PEM.
    Pem(Vec<u8>),
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, RootsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::Platform => {
                let found = rustls_native_certs::load_native_certs();
                // Platforms ship roots that rustls does not take; the others serve.
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    let why = found.errors.first().map(ToString::to_string);
                    return Err(RootsError::Unusable(
                        why.unwrap_or_else(|| "the platform has no trusted certificates".to_owned()),
                    ));
                }
            }
            Self::Pem(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| RootsError::Pem(error.to_string()))?;
                    store.add(certificate).map_err(|error| RootsError::Pem(error.to_string()))?;
                }
                if store.is_empty() {
                    return Err(RootsError::Pem("there is no certificate in it".to_owned()));
                }
            }
        }
        Ok(store)
    }
}

/// There is nobody to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The given text is not certificates.
    #[error("the given roots are not certificates in PEM: {0}")]
    Pem(String),
    /// The platform's certificates cannot be used.
    #[error("cannot use the platform's certificates: {0}; give roots of your own")]
    Unusable(String),
}

/// Shakes hands.
pub(super) async fn handshake(
    stream: TcpStream,
    endpoint: &Endpoint,
    config: &TlsConfig,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = match endpoint {
        Endpoint::Tcp { host, .. } => host.clone(),
        Endpoint::Unix(_) => "localhost".to_owned(),
    };
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Tls {
        endpoint: endpoint.to_string(),
        source: Arc::from(source),
    };
    let name = ServerName::try_from(name).map_err(|error| failed(error.into()))?;
    TlsConnector::from(Arc::clone(&config.0)).connect(name, stream).await.map_err(|error| {
        if is_not_tls(&error) {
            ConnectError::NotTls { endpoint: endpoint.to_string() }
        } else {
            failed(error.into())
        }
    })
}

/// Whether the first bytes of the server were no TLS record.
fn is_not_tls(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}
