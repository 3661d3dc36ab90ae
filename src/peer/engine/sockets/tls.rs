//! TLS to relays: whom to trust.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Whose certificates are trusted. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Trust(Option<Arc<ClientConfig>>);

impl Trust {
    /// The platform's roots, read when the first relay needs them and once for the process.
    pub(crate) fn platform() -> Self {
        Self(None)
    }

    /// These roots only: one or more certificates in PEM.
    ///
    /// # Errors
    /// In words, when there is none in it.
    pub(crate) fn pem(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        if roots.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        client(roots).map(|config| Self(Some(config)))
    }

    /// What to shake hands with. The first time this reads files, on a thread for that.
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        static PLATFORM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
        match (&self.0, PLATFORM.get()) {
            (Some(own), _) => Ok(Arc::clone(own)),
            (None, Some(platform)) => platform.clone(),
            (None, None) => {
                let reading = tokio::task::spawn_blocking(|| PLATFORM.get_or_init(platform).clone());
                reading.await.map_err(|error| error.to_string())?
            }
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Trust(own roots)" } else { "Trust(platform)" })
    }
}

fn platform() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Platforms ship roots that rustls does not take; the others serve.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(why.unwrap_or_else(|| "the platform has no trusted certificates".to_owned()));
    }
    client(roots)
}

/// TLS 1.2 and 1.3: coturn of Debian 12 has no 1.3.
fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
