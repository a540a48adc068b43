//! What servers want of a slot's tokens beyond its spec: claims, and further scopes. Pure.
//!
//! A wish goes into the next token request and stays for later ones. Until a token has come of it, it is on trial: if the
//! provider refuses the request, the slot goes back to what it last got a token for. So no server can talk a slot into
//! something that its provider will never grant.

use std::sync::Arc;

use crate::{
    error::{ErrorKind, TokenError},
    token::TokenSpec,
};

/// How many scopes servers may add to one slot.
const MOST_SCOPES: usize = 64;

/// What a challenge asks for, and a next token may have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish<'a> {
    /// A token that satisfies these claims; the one that was sent is of no use.
    Claims(&'a str),
    /// A token with these scopes too; the one that was sent is still good elsewhere.
    Scopes(&'a [String]),
}

/// What is asked for: the spec with its further scopes, and claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// None: the slot's own spec.
    pub(crate) spec: Option<TokenSpec>,
    pub(crate) claims: Option<Arc<str>>,
}

/// The wishes of one slot.
#[derive(Default)]
pub(super) struct Wishes {
    wanted: Wanted,
    /// Counts the changes of what is wanted.
    version: u64,
    /// What the last token was got with.
    granted: Wanted,
    granted_version: u64,
}

/// Where a slot stands with a wish for scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was never asked for.
    New,
    /// The next token is asked for with it.
    Due,
    /// The token in service was asked for with it.
    Served,
}

impl Wishes {
    /// What the next token is asked for with, and the version of that.
    pub(super) fn wanted(&self) -> (Wanted, u64) {
        (self.wanted.clone(), self.version)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the next token is asked for with more than the last one.
    pub(super) fn is_due(&self) -> bool {
        self.version != self.granted_version
    }

    pub(super) fn want_claims(&mut self, claims: &str) {
        if self.wanted.claims.as_deref() != Some(claims) {
            self.wanted.claims = Some(claims.into());
            self.version += 1;
        }
    }

    /// Whether these scopes were asked for already.
    pub(super) fn standing(&self, own: &TokenSpec, scopes: &[String]) -> Standing {
        let asked = self.wanted.spec.as_ref().unwrap_or(own);
        let has = |scope: &String| asked.iter_scopes().any(|one| one == scope);
        match scopes.iter().all(has) {
            false => Standing::New,
            true if self.is_due() => Standing::Due,
            true => Standing::Served,
        }
    }

    /// Adds scopes, unless they are too many, or none that can be asked for.
    pub(super) fn want_scopes(&mut self, own: &TokenSpec, scopes: &[String]) -> bool {
        let asked = self.wanted.spec.as_ref().unwrap_or(own);
        let wider = asked.clone().with_scopes(scopes);
        let most = own.iter_scopes().count() + MOST_SCOPES;
        if wider.check().is_err() || wider.iter_scopes().count() > most {
            return false;
        }
        self.wanted.spec = Some(wider);
        self.version += 1;
        true
    }

    /// A token has come that was asked for with what is wanted now.
    pub(super) fn grant(&mut self) {
        if self.is_due() {
            self.granted = self.wanted.clone();
            self.granted_version = self.version;
        }
    }

    /// A request with what was wanted at that version has failed: if the provider refused it, that is wanted no more. It
    /// answers whether that is so.
    pub(super) fn fail(&mut self, version: u64, error: &TokenError) -> bool {
        let refused = self.is_due() && self.version == version && blames_the_wish(error.kind());
        if refused {
            self.wanted = self.granted.clone();
            self.version += 1;
            self.granted_version = self.version;
        }
        refused
    }
}

/// Whether the provider may have refused a request for what a server wanted of it.
fn blames_the_wish(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidScope
            | ErrorKind::InvalidGrant
            | ErrorKind::InvalidTarget
            | ErrorKind::AccessDenied
            | ErrorKind::Refused
            | ErrorKind::InteractionRequired
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|&scope| scope.into()).collect()
    }

    fn asked(wishes: &Wishes) -> String {
        let (wanted, _) = wishes.wanted();
        let spec = wanted.spec.unwrap_or_default();
        spec.iter_scopes().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn scopes_add_up() {
        let own = TokenSpec::scopes(["read"]);
        let mut wishes = Wishes::default();
        assert_eq!(wishes.standing(&own, &scopes(&["read"])), Standing::Served);
        assert_eq!(wishes.standing(&own, &scopes(&["write"])), Standing::New);
        assert!(wishes.want_scopes(&own, &scopes(&["write"])));
        assert_eq!(wishes.standing(&own, &scopes(&["write"])), Standing::Due);
        wishes.grant();
        assert_eq!(wishes.standing(&own, &scopes(&["write"])), Standing::Served);
        assert!(wishes.want_scopes(&own, &scopes(&["admin"])));
        assert_eq!(asked(&wishes), "admin read write");
    }

    #[test]
    fn what_the_provider_refuses_is_wanted_no_more() {
        let own = TokenSpec::scopes(["read"]);
        let mut wishes = Wishes::default();
        wishes.want_scopes(&own, &scopes(&["write"]));
        wishes.grant();
        wishes.want_scopes(&own, &scopes(&["root"]));
        wishes.want_claims("{}");
        let (_, version) = wishes.wanted();
        let network = TokenError::new(ErrorKind::Network, "the cable is cut");
        assert!(!wishes.fail(version, &network));
        assert_eq!(asked(&wishes), "read root write");
        let refused = TokenError::new(ErrorKind::InvalidScope, "no");
        assert!(!wishes.fail(version - 1, &refused));
        assert_eq!(asked(&wishes), "read root write");
        assert!(wishes.fail(version, &refused));
        assert_eq!(asked(&wishes), "read write");
        assert!(!wishes.is_due() && wishes.wanted().0.claims.is_none());
        assert!(wishes.version() > version);
    }

    #[test]
    fn the_same_claims_are_no_change() {
        let mut wishes = Wishes::default();
        wishes.want_claims("{}");
        let (_, version) = wishes.wanted();
        wishes.want_claims("{}");
        assert_eq!(wishes.version(), version);
    }

    #[test]
    fn no_server_adds_what_is_no_scope() {
        let own = TokenSpec::scopes(["read"]);
        let mut wishes = Wishes::default();
        for bad in ["", "a b", "caf\u{e9}", "a\"b"] {
            assert!(!wishes.want_scopes(&own, &scopes(&[bad])), "{bad:?}");
        }
        assert!(!wishes.is_due());
    }

    #[test]
    fn no_server_adds_scopes_without_end() {
        let own = TokenSpec::scopes(["read"]);
        let mut wishes = Wishes::default();
        let added = (0..1_000).filter(|i| wishes.want_scopes(&own, &[format!("s{i}")]));
        assert_eq!(added.count(), MOST_SCOPES);
    }
}
