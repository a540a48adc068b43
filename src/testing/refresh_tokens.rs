//! Keeps the rotating refresh tokens. A chain is a refresh token and its successors.
//!
//! RFC 9700, section 4.14.2: "the authorization server issues a new refresh token with every access token refresh response. The
//! previous refresh token is invalidated, but information about the relationship is retained by the authorization server. If a
//! refresh token is compromised and subsequently used by both the attacker and the legitimate client, one of them will present
//! an invalidated refresh token, which will inform the authorization server of the breach."

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::issued_tokens::Authorization;
use super::oauth_error::OAuthError;

#[derive(Default)]
pub(super) struct RefreshTokens {
    tokens: HashMap<String, RefreshToken>,
    revoked: HashSet<u64>,
    chains: u64,
    uses: u64,
}

struct RefreshToken {
    chain: u64,
    /// What the user consented to when the chain began.
    authorization: Authorization,
    used: bool,
}

impl RefreshTokens {
    pub(super) fn insert(&mut self, token: String, authorization: Authorization) {
        self.chains += 1;
        let chain = self.chains;
        self.add(token, chain, authorization);
    }

    /// Returns the authorization of a refresh token. The second use of a replaced token revokes its chain.
    pub(super) fn redeem(
        &mut self,
        token: &str,
        client: &str,
    ) -> Result<Authorization, OAuthError> {
        self.uses += 1;
        let Some(refresh_token) = self.tokens.get(token) else {
            return Err(OAuthError::invalid_grant("unknown refresh token"));
        };
        if refresh_token.authorization.client != client {
            return Err(OAuthError::invalid_grant(
                "the refresh token belongs to another client",
            ));
        }
        if refresh_token.used {
            self.revoked.insert(refresh_token.chain);
            return Err(OAuthError::invalid_grant(
                "the refresh token was used twice",
            ));
        }
        if self.revoked.contains(&refresh_token.chain) {
            return Err(OAuthError::invalid_grant("the refresh token was revoked"));
        }
        Ok(refresh_token.authorization.clone())
    }

    /// Replaces a token by its successor.
    pub(super) fn rotate(&mut self, old: &str, new: String) {
        let Some(refresh_token) = self.tokens.get_mut(old) else {
            return;
        };
        refresh_token.used = true;
        let (chain, authorization) = (refresh_token.chain, refresh_token.authorization.clone());
        self.add(new, chain, authorization);
    }

    pub(super) fn revoke_all(&mut self) {
        self.revoked.extend(1..=self.chains);
    }

    /// Returns how many times tokens were used, including rejected uses.
    pub(super) fn uses(&self) -> u64 {
        self.uses
    }

    fn add(&mut self, token: String, chain: u64, authorization: Authorization) {
        let used = false;
        self.tokens.insert(
            token,
            RefreshToken {
                chain,
                authorization,
                used,
            },
        );
    }
}

impl fmt::Debug for RefreshTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokens")
            .field("chains", &self.chains)
            .field("revoked", &self.revoked.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization() -> Authorization {
        Authorization {
            client: "c".into(),
            ..Authorization::default()
        }
    }

    #[test]
    fn second_use_revokes_the_chain_and_no_other() {
        let mut refresh_tokens = RefreshTokens::default();
        refresh_tokens.insert("a1".into(), authorization());
        refresh_tokens.insert("b1".into(), authorization());
        assert!(refresh_tokens.redeem("a1", "c").is_ok());
        refresh_tokens.rotate("a1", "a2".into());
        assert!(refresh_tokens.redeem("a2", "c").is_ok());
        assert!(refresh_tokens.redeem("a1", "c").is_err());
        assert!(refresh_tokens.redeem("a2", "c").is_err());
        assert!(refresh_tokens.redeem("b1", "c").is_ok());
        assert_eq!(refresh_tokens.uses(), 5);
    }

    #[test]
    fn token_is_bound_to_its_client_and_can_be_revoked() {
        let mut refresh_tokens = RefreshTokens::default();
        refresh_tokens.insert("a1".into(), authorization());
        assert!(refresh_tokens.redeem("a1", "d").is_err());
        refresh_tokens.revoke_all();
        assert!(refresh_tokens.redeem("a1", "c").is_err());
        assert!(!format!("{refresh_tokens:?}").contains("a1"));
    }
}
