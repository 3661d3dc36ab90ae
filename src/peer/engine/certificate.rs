//! What all peers of a process share of DTLS: its settings, and the certificate with its key.
//!
//! Floor 1, engine, below `connection`. Making the first certificate takes some 25 ms (the crypto library checks
//! itself), each later one about 1 ms: [`Identities::renew`] belongs on a thread that may block, ahead of
//! the first peer.
//!
//! # Invariant
//! A peer keeps the identity that it began with. The private key never leaves this file but into the DTLS
//! crate, and is in no `Debug` output.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::peer::fingerprint;

/// How long one certificate serves new peers: browsers' default. It is valid for a year, which nobody looks
/// at, so that a connection that is older goes on.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The largest datagram of the handshake, in bytes of UDP payload. Fits every path that carries WebRTC.
pub(super) const HANDSHAKE_DATAGRAM: usize = 1200;

/// When a lost flight of the handshake is sent again for the first time; then twice as late each time.
/// Upstream 1 s. Whoever has a longer round trip sends a flight twice.
const FLIGHT: Duration = Duration::from_millis(250);

/// How often a flight is sent again. Upstream 4; with the shorter time it would give up after 8 s.
const RETRIES: usize = 8;

/// Certificate, key and DTLS settings of a peer.
pub(crate) struct Identity {
    certificate: dimpl::DtlsCertificate,
    settings: Arc<dimpl::Config>,
    fingerprint: String,
    made: Instant,
    versions: Versions,
}

/// Makes an endpoint that speaks some versions of DTLS.
type Versions = fn(Arc<dimpl::Config>, dimpl::DtlsCertificate, Instant) -> dimpl::Dtls;

impl Identity {
    /// Makes a key and its certificate. Blocks for milliseconds.
    ///
    /// # Errors
    /// When the crypto library refuses, which it does not on a sane machine.
    pub(crate) fn generate(now: Instant) -> Result<Self, IdentityError> {
        Self::with(settings(), now)
    }

    /// With jitter that repeats itself.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64, now: Instant) -> Result<Self, IdentityError> {
        Self::with(settings().dangerously_set_rng_seed(seed), now)
    }

    /// As older peers are.
    #[cfg(test)]
    pub(crate) fn speaking(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    fn with(settings: dimpl::ConfigBuilder, now: Instant) -> Result<Self, IdentityError> {
        let settings = Arc::new(settings.build().map_err(IdentityError::Settings)?);
        let certificate = dimpl::certificate::generate_self_signed_certificate();
        let certificate = certificate.map_err(IdentityError::Certificate)?;
        let fingerprint = fingerprint::sha256(&certificate.certificate);
        Ok(Self { certificate, settings, fingerprint, made: now, versions: dimpl::Dtls::new_auto })
    }

    /// SHA-256 of the certificate, as SDP writes it.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether new peers should get another one.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made) > LIFETIME
    }

    /// A DTLS endpoint that speaks 1.2 and 1.3, whatever the other side can. It begins as the server.
    pub(super) fn endpoint(&self, now: Instant) -> dimpl::Dtls {
        (self.versions)(Arc::clone(&self.settings), self.certificate.clone(), now)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// RFC 6347 with what WebRTC needs. The cookie is off: ICE has proved the address, and it costs a round trip.
fn settings() -> dimpl::ConfigBuilder {
    dimpl::Config::builder()
        .mtu(HANDSHAKE_DATAGRAM)
        .flight_start_rto(FLIGHT)
        .flight_retries(RETRIES)
        .use_server_cookie(false)
        .require_client_certificate(true)
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The crypto library failed its own tests, or misses an algorithm.
    #[error("cannot set up DTLS")]
    Settings(#[source] dimpl::Error),
    /// The key or the certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(dimpl::certificate::CertificateError),
}

/// The identity that new peers of a process get.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    current: Mutex<Option<Arc<Identity>>>,
    making: Mutex<()>,
}

impl Identities {
    /// The newest one; `None` before the first. Never blocks for long, and gives an old one rather than none.
    pub(crate) fn current(&self) -> Option<Arc<Identity>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether [`renew`](Self::renew) is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.current().is_none_or(|identity| identity.is_old(now))
    }

    /// Makes one if it is due, and gives the newest. Blocks for milliseconds, but nobody who asks for
    /// [`current`](Self::current) meanwhile.
    ///
    /// # Errors
    /// [`IdentityError`] when none could be made.
    pub(crate) fn renew(&self, now: Instant) -> Result<Arc<Identity>, IdentityError> {
        // One at a time: the others wait for it, and have the same.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        if let Some(identity) = current.as_ref().filter(|identity| !identity.is_old(now)) {
            return Ok(Arc::clone(identity));
        }
        match (Identity::generate(now), current) {
            (Ok(identity), _) => {
                let identity = Arc::new(identity);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&identity));
                Ok(identity)
            }
            (Err(_), Some(old)) => Ok(old),
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_share_an_identity_until_it_is_a_month_old() {
        let (identities, now) = (Identities::default(), Instant::now());
        assert!(identities.current().is_none() && identities.is_due(now));
        let first = identities.renew(now).unwrap();
        assert!(Arc::ptr_eq(&first, &identities.renew(now + LIFETIME).unwrap()));
        let later = now + LIFETIME + Duration::from_secs(1);
        assert!(identities.is_due(later));
        assert!(Arc::ptr_eq(&first, &identities.current().unwrap()), "the old one serves until then");
        assert_ne!(first.fingerprint(), identities.renew(later).unwrap().fingerprint());
    }

    #[test]
    fn the_key_is_in_no_debug_output() {
        let identity = Identity::generate(Instant::now()).unwrap();
        assert!(!format!("{identity:?}").contains("private"));
    }
}
