//! `.local` names in candidates, by which browsers hide their addresses: multicast DNS, RFC 6762.
//!
//! Asking starts a thread and binds port 5353; with the last question that is answered or given up both are
//! gone again. Peers that ask for the same name share the question.
//!
//! # Invariant
//! One daemon for the process, [`MOST`] names at a time, whatever peers send. Nothing is ever announced.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use mdns_sd::{HostnameResolutionEvent, ServiceDaemon};

/// Names that are asked for at the same time; more fail at once. A page shows one for each of its addresses.
const MOST: usize = 32;
/// The longest label of DNS.
const LABEL: usize = 63;

type Lookup = BoxFuture<'static, Result<Vec<IpAddr>, String>>;

static LOOKUPS: Mutex<Vec<(String, WeakShared<Lookup>)>> = Mutex::new(Vec::new());
static DAEMON: Mutex<Weak<Daemon>> = Mutex::new(Weak::new());

/// Asks the network for the addresses of a `.local` name. Those that need a zone are left out.
///
/// Whether names are asked for at all is the caller's option: a question tells everybody on the network whom
/// this machine wants to reach.
///
/// Cancel safe; needs a tokio runtime.
///
/// # Errors
/// In words: nobody answers within `deadline`, the machine has no multicast, too many names are asked for.
pub(crate) async fn resolve_local(name: &str, deadline: Duration) -> Result<Vec<IpAddr>, String> {
    let label = label(name).ok_or("it is not one label and .local")?;
    let lookup = shared(format!("{label}.local."))?;
    let answered = tokio::time::timeout(deadline, lookup).await;
    answered.unwrap_or_else(|_| Err(format!("nobody answered within {deadline:?}")))
}

/// The label of a `.local` name, lower case, so that equal names are equal.
fn label(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let label = name.strip_suffix(".local")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    ((1..=LABEL).contains(&label.len()) && label.chars().all(plain)).then(|| label.to_owned())
}

/// The question that is under way for this name, or a new one.
fn shared(name: String) -> Result<Shared<Lookup>, String> {
    let mut lookups = LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner);
    lookups.retain(|(_, lookup)| lookup.upgrade().is_some_and(|lookup| lookup.peek().is_none()));
    let same = lookups.iter().find(|(each, _)| *each == name);
    if let Some(lookup) = same.and_then(|(_, lookup)| lookup.upgrade()) {
        return Ok(lookup);
    }
    if lookups.len() >= MOST {
        return Err(format!("{MOST} names are being asked for already"));
    }
    let lookup = ask(name.clone()).boxed().shared();
    lookups.extend(lookup.downgrade().map(|weak| (name, weak)));
    Ok(lookup)
}

async fn ask(name: String) -> Result<Vec<IpAddr>, String> {
    let daemon = Daemon::shared()?;
    let events = daemon.0.resolve_hostname(&name, None).map_err(|error| error.to_string())?;
    let question = Question { daemon, name };
    while let Ok(event) = events.recv_async().await {
        if let HostnameResolutionEvent::AddressesFound(_, found) = event {
            let mut ips: Vec<IpAddr> = found.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
            ips.retain(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
            ips.sort_by_key(IpAddr::is_ipv6);
            if !ips.is_empty() {
                return Ok(ips);
            }
        }
    }
    drop(question);
    Err("asking ended".to_owned())
}

/// Stops being asked when dropped.
struct Question {
    daemon: Arc<Daemon>,
    name: String,
}

impl Drop for Question {
    fn drop(&mut self) {
        let _ = self.daemon.0.stop_resolve_hostname(&self.name);
    }
}

/// The thread that asks; ends when dropped.
struct Daemon(ServiceDaemon);

impl Daemon {
    fn shared() -> Result<Arc<Self>, String> {
        let mut running = DAEMON.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(daemon) = running.upgrade() {
            return Ok(daemon);
        }
        let daemon = Arc::new(Self(ServiceDaemon::new().map_err(|error| error.to_string())?));
        *running = Arc::downgrade(&daemon);
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceInfo;

    use super::*;

    /// Somebody on the network with this name. `None` where there is no multicast.
    fn somebody(label: &str) -> Option<ServiceDaemon> {
        let daemon = ServiceDaemon::new().ok()?;
        let host = format!("{label}.local.");
        let service = ServiceInfo::new("_farlink._udp.local.", label, &host, "192.0.2.7", 9, None).unwrap();
        daemon.register(service.enable_addr_auto()).ok()?;
        Some(daemon)
    }

    #[tokio::test]
    async fn a_name_on_the_network_is_found_and_nothing_stays_behind() {
        let label = format!("farlink-{:x}", fastrand::u64(..));
        let name = format!("{label}.local");
        let Some(somebody) = somebody(&label) else {
            eprintln!("skipped: no multicast here");
            return;
        };
        let asked = std::time::Instant::now();
        let deadline = Duration::from_secs(5);
        let upper = name.to_uppercase();
        let (one, other) = tokio::join!(resolve_local(&name, deadline), resolve_local(&upper, deadline));
        eprintln!("{one:?} after {:?}", asked.elapsed());
        assert_eq!(one, other);
        assert!(!one.unwrap().is_empty());
        let nobody = resolve_local("nobody-has-this.local", Duration::from_millis(50)).await;
        assert!(nobody.unwrap_err().contains("50ms"));
        assert!(DAEMON.lock().unwrap().upgrade().is_none(), "the daemon still runs");
        let _ = somebody.shutdown();
    }

    #[tokio::test]
    async fn only_one_label_is_a_local_name() {
        for name in
            ["", ".local", "a.b.local", "example.com", "a b.local", &format!("{}.local", "x".repeat(64))]
        {
            assert!(label(name).is_none(), "{name}");
            assert!(resolve_local(name, Duration::ZERO).await.is_err());
        }
        assert!(label("3b1c9f3a-9e0d-4c3c-8d43-7a8d2f7f1f4e.LOCAL").is_some());
    }
}
