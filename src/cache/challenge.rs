//! Keeps the claims that servers require of a slot's next token (OpenID claims requests, continuous access evaluation).
//!
//! Required claims go into the next token request and into all later ones. Until a token has been fetched with them they are
//! on trial: if the provider refuses the request, the slot returns to the claims that its last token was fetched with. An
//! API can't make a slot request claims forever that its provider never grants.

use std::sync::Arc;

use crate::error::{ErrorKind, TokenError};

/// The claims that one slot requests.
#[derive(Default)]
pub(super) struct RequiredClaims {
    required: Option<Arc<str>>,
    /// Counts the changes of `required`.
    version: u64,
    /// The claims that the last token was fetched with.
    granted: Option<Arc<str>>,
    granted_version: u64,
}

impl RequiredClaims {
    /// Returns the claims to request, and their version.
    pub(super) fn current(&self) -> (Option<Arc<str>>, u64) {
        (self.required.clone(), self.version)
    }

    /// Replaces the claims, if a server requires any.
    pub(super) fn require(&mut self, claims: Option<&str>) {
        if claims.is_some() && self.required.as_deref() != claims {
            self.required = claims.map(Into::into);
            self.version += 1;
        }
    }

    /// Notes that a token has been fetched with the current claims.
    pub(super) fn grant(&mut self) {
        self.granted = self.required.clone();
        self.granted_version = self.version;
    }

    /// Notes that a request with the claims of `version` failed. If the provider may have refused it because of claims on trial,
    /// drops these and returns `true`.
    pub(super) fn fail(&mut self, version: u64, error: &TokenError) -> bool {
        // With other claims, the provider might not have refused these requests.
        let may_be_refused = matches!(
            error.kind(),
            ErrorKind::InvalidScope
                | ErrorKind::InvalidGrant
                | ErrorKind::InvalidTarget
                | ErrorKind::AccessDenied
                | ErrorKind::Refused
                | ErrorKind::InteractionRequired
        );
        let is_on_trial = self.version == version && version != self.granted_version;
        let is_refused = is_on_trial && may_be_refused;
        if is_refused {
            self.required = self.granted.clone();
            self.version += 1;
            self.granted_version = self.version;
        }
        is_refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(claims: &RequiredClaims) -> Option<Arc<str>> {
        claims.current().0
    }

    #[test]
    fn refused_claims_give_way_to_the_granted_ones() {
        let mut claims = RequiredClaims::default();
        claims.require(Some("a"));
        claims.grant();
        claims.require(Some("b"));
        let (_, version) = claims.current();
        let network = TokenError::new(ErrorKind::Network, "connection reset");
        assert!(!claims.fail(version, &network));
        let refused = TokenError::new(ErrorKind::AccessDenied, "refused");
        assert!(!claims.fail(version - 1, &refused));
        assert_eq!(required(&claims).as_deref(), Some("b"));
        assert!(claims.fail(version, &refused));
        assert_eq!(required(&claims).as_deref(), Some("a"));
        let (_, later) = claims.current();
        assert!(later > version && !claims.fail(later, &refused));
    }

    #[test]
    fn repeated_claims_keep_their_version() {
        let mut claims = RequiredClaims::default();
        claims.require(Some("{}"));
        let (_, version) = claims.current();
        claims.require(Some("{}"));
        assert_eq!(claims.current().1, version);
    }
}
