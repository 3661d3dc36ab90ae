//! ICE's secrets. The crate makes its own with a generator that can be guessed from a user fragment, which is on
//! the wire in the clear.

use is::IceCreds;
use uuid::Uuid;

/// RFC 8445 5.3 wants 24 random bits for the fragment and 128 for the password; here are 48 and 154.
pub(super) fn credentials() -> IceCreds {
    let [one, two, three] = [(); 3].map(|()| Uuid::new_v4().simple().to_string());
    // The last twelve digits of an identifier are all random.
    let ufrag = three.get(20..).unwrap_or_default().to_owned();
    IceCreds { ufrag, pass: one + two.get(24..).unwrap_or_default() }
}

/// Decides who controls when both sides say that they do.
pub(super) fn tie_breaker() -> u64 {
    // 62 random bits.
    Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_long_enough_and_never_the_same() {
        let (one, two) = (credentials(), credentials());
        assert!(one.ufrag.len() == 12 && one.pass.len() == 40);
        assert!(one.ufrag != two.ufrag && one.pass != two.pass);
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!(plain(&one.ufrag) && plain(&one.pass));
    }
}
