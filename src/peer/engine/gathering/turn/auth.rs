//! The long-term credential of a TURN client, RFC 8489 9.2.

use crate::peer::engine::gathering::stun::{Key, Message, Writer, attribute};

/// The longest realm and nonce that RFC 8489 allows, in bytes.
const LONGEST: usize = 763;

/// User name and password, and what the server wants them mixed with. No `Debug`: it is a secret.
pub(super) struct Auth {
    username: String,
    password: String,
    challenge: Option<Challenge>,
}

struct Challenge {
    realm: String,
    nonce: Vec<u8>,
    key: Key,
}

impl Auth {
    pub(super) fn new(username: &str, password: &str) -> Self {
        Self { username: username.to_owned(), password: password.to_owned(), challenge: None }
    }

    /// From the next request on these are used.
    pub(super) fn replace(&mut self, username: &str, password: &str) {
        let challenge = self.challenge.take();
        *self = Self::new(username, password);
        self.challenge =
            challenge.map(|old| Challenge { key: Key::new(username, password, &old.realm), ..old });
    }

    /// Takes realm and nonce from a refusal. `false` when it has none.
    pub(super) fn challenged(&mut self, refusal: &Message<'_>) -> bool {
        let Some(nonce) = refusal.attribute(attribute::NONCE).filter(|nonce| nonce.len() <= LONGEST) else {
            return false;
        };
        let realm = refusal.attribute(attribute::REALM).filter(|realm| realm.len() <= LONGEST);
        let realm = match (realm.map(std::str::from_utf8), &self.challenge) {
            (Some(Ok(realm)), _) => realm.to_owned(),
            // A stale nonce says nothing new about the realm.
            (None, Some(old)) => old.realm.clone(),
            _ => return false,
        };
        let key = Key::new(&self.username, &self.password, &realm);
        self.challenge = Some(Challenge { realm, nonce: nonce.to_vec(), key });
        true
    }

    /// Ends a request, signed once the server has said what with.
    pub(super) fn finish(&self, request: Writer) -> Vec<u8> {
        match &self.challenge {
            None => request.finish(),
            Some(Challenge { realm, nonce, key }) => request
                .add(attribute::USERNAME, self.username.as_bytes())
                .add(attribute::REALM, realm.as_bytes())
                .add(attribute::NONCE, nonce)
                .sign(key),
        }
    }

    /// Whether requests are signed by now.
    pub(super) fn is_challenged(&self) -> bool {
        self.challenge.is_some()
    }

    /// Whether the server may have written this: it is signed as our requests are.
    pub(super) fn accepts(&self, response: &Message<'_>) -> bool {
        self.challenge.as_ref().is_none_or(|challenge| response.is_signed_with(&challenge.key))
    }
}
