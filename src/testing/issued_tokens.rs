//! Keeps the issued access tokens and what each of them authorizes.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// What a token authorizes: its client, subject, scopes and the other parameters of its request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Authorization {
    pub(super) client: String,
    pub(super) scopes: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) audiences: Vec<String>,
    /// The claims that were requested.
    pub(super) claims: Option<Value>,
    /// The subject, usually a user, unless the token is for the client itself.
    pub(super) subject: Option<String>,
    /// The actor, who acts on behalf of the subject.
    pub(super) actor: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct IssuedToken {
    pub(super) authorization: Authorization,
    expires: Option<Instant>,
    revoked: bool,
}

#[derive(Default)]
pub(super) struct IssuedTokens {
    tokens: HashMap<String, IssuedToken>,
    latest: HashMap<Authorization, String>,
}

impl IssuedTokens {
    pub(super) fn add(
        &mut self,
        token: String,
        authorization: Authorization,
        expires: Option<Instant>,
    ) {
        self.latest.insert(key(&authorization), token.clone());
        self.tokens.insert(
            token,
            IssuedToken {
                authorization,
                expires,
                revoked: false,
            },
        );
    }

    /// Returns the last token issued for the same authorization and its remaining lifetime, unless it has expired. It may have been
    /// revoked.
    pub(super) fn latest(
        &self,
        authorization: &Authorization,
        now: Instant,
    ) -> Option<(&str, Option<Duration>)> {
        let (token, issued) = self
            .tokens
            .get_key_value(self.latest.get(&key(authorization))?)?;
        issued
            .is_unexpired(now)
            .then(|| (token.as_str(), issued.remaining(now)))
    }

    pub(super) fn find(&self, token: &str) -> Option<&IssuedToken> {
        self.tokens.get(token)
    }

    pub(super) fn find_usable(&self, token: &str, now: Instant) -> Option<&IssuedToken> {
        self.find(token)
            .filter(|issued| issued.is_unexpired(now) && !issued.revoked)
    }

    pub(super) fn revoke(&mut self, token: &str) {
        if let Some(issued) = self.tokens.get_mut(token) {
            issued.revoked = true;
        }
    }

    pub(super) fn revoke_all(&mut self) {
        for issued in self.tokens.values_mut() {
            issued.revoked = true;
        }
    }
}

impl IssuedToken {
    /// Returns `true` if the token has all of these scopes.
    pub(super) fn has_scopes<'a>(&self, mut scopes: impl Iterator<Item = &'a str>) -> bool {
        scopes.all(|scope| self.authorization.scopes.iter().any(|own| own == scope))
    }

    /// Returns the remaining lifetime, or `None` if the token doesn't expire.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        Some(self.expires?.saturating_duration_since(now))
    }

    fn is_unexpired(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl fmt::Debug for IssuedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedTokens")
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

/// Sorts the scopes, so that their order makes no difference.
fn key(authorization: &Authorization) -> Authorization {
    let mut key = authorization.clone();
    key.scopes.sort_unstable();
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_usable_until_the_instant_of_its_expiry() {
        let (mut store, now) = (IssuedTokens::default(), Instant::now());
        let end = now + Duration::from_secs(2);
        store.add("t".into(), authorization(["a"]), Some(end));
        assert!(
            store
                .find_usable("t", end - Duration::from_nanos(1))
                .is_some()
        );
        assert!(store.find_usable("t", end).is_none());
        assert!(store.find("t").is_some());
    }

    #[test]
    fn token_has_scopes_only_if_it_has_all_of_them() {
        let mut store = IssuedTokens::default();
        store.add("t".into(), authorization(["a", "b"]), None);
        let token = store.find("t").unwrap();
        assert!(token.has_scopes(["b", "a"].into_iter()));
        assert!(token.has_scopes([].into_iter()));
        assert!(!token.has_scopes(["a", "c"].into_iter()));
    }

    #[test]
    fn latest_ignores_the_order_of_scopes_and_revocation() {
        let (mut store, now) = (IssuedTokens::default(), Instant::now());
        let end = now + Duration::from_secs(2);
        store.add("t".into(), authorization(["a", "b"]), Some(end));
        store.revoke_all();
        assert!(store.find_usable("t", now).is_none());
        assert_eq!(
            store.latest(&authorization(["b", "a"]), now),
            Some(("t", Some(Duration::from_secs(2))))
        );
        assert_eq!(store.latest(&authorization(["a"]), now), None);
        assert_eq!(store.latest(&authorization(["a", "b"]), end), None);
    }

    #[test]
    fn debug_shows_no_token() {
        let mut store = IssuedTokens::default();
        store.add("hidden".into(), authorization([]), None);
        assert_eq!(format!("{store:?}"), "IssuedTokens { tokens: 1, .. }");
    }

    fn authorization<const N: usize>(scopes: [&str; N]) -> Authorization {
        Authorization {
            client: "c".into(),
            scopes: scopes.map(String::from).into(),
            ..Authorization::default()
        }
    }
}
