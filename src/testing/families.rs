//! Refresh tokens and their descendants. Pure: the tokens are given.
//!
//! RFC 9700, section 4.14.2: "the authorization server issues a new refresh token with every access token refresh response. The
//! previous refresh token is invalidated, but information about the relationship is retained by the authorization server. If a
//! refresh token is compromised and subsequently used by both the attacker and the legitimate client, one of them will present
//! an invalidated refresh token, which will inform the authorization server of the breach."

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::refusal::Refusal;
use super::token_store::Asked;

#[derive(Default)]
pub(super) struct Families {
    tokens: HashMap<String, Member>,
    dead: HashSet<u64>,
    begun: u64,
    uses: u64,
}

struct Member {
    family: u64,
    /// What the person agreed to when the family began.
    asked: Asked,
    spent: bool,
}

impl Families {
    pub(super) fn begin(&mut self, token: String, asked: Asked) {
        self.begun += 1;
        let family = self.begun;
        self.add(token, family, asked);
    }

    /// What the token stands for. A second use of one that was replaced ends the family.
    pub(super) fn redeem(&mut self, token: &str, client: &str) -> Result<Asked, Refusal> {
        self.uses += 1;
        let Some(member) = self.tokens.get(token) else {
            return Err(Refusal::invalid_grant("unknown refresh token"));
        };
        if member.asked.client != client {
            return Err(Refusal::invalid_grant(
                "the refresh token belongs to another client",
            ));
        }
        if member.spent {
            self.dead.insert(member.family);
            return Err(Refusal::invalid_grant("the refresh token was used twice"));
        }
        if self.dead.contains(&member.family) {
            return Err(Refusal::invalid_grant("the refresh token was revoked"));
        }
        Ok(member.asked.clone())
    }

    /// Replaces a token by its descendant.
    pub(super) fn rotate(&mut self, old: &str, new: String) {
        let Some(member) = self.tokens.get_mut(old) else {
            return;
        };
        member.spent = true;
        let (family, asked) = (member.family, member.asked.clone());
        self.add(new, family, asked);
    }

    pub(super) fn revoke_all(&mut self) {
        self.dead.extend(1..=self.begun);
    }

    /// How often any was used, well or badly.
    pub(super) fn uses(&self) -> u64 {
        self.uses
    }

    fn add(&mut self, token: String, family: u64, asked: Asked) {
        let spent = false;
        self.tokens.insert(
            token,
            Member {
                family,
                asked,
                spent,
            },
        );
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Families")
            .field("begun", &self.begun)
            .field("dead", &self.dead.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            client: "c".into(),
            ..Asked::default()
        }
    }

    #[test]
    fn a_second_use_ends_the_family_and_no_other() {
        let mut families = Families::default();
        families.begin("a1".into(), asked());
        families.begin("b1".into(), asked());
        assert!(families.redeem("a1", "c").is_ok());
        families.rotate("a1", "a2".into());
        assert!(families.redeem("a2", "c").is_ok());
        assert!(families.redeem("a1", "c").is_err());
        assert!(families.redeem("a2", "c").is_err());
        assert!(families.redeem("b1", "c").is_ok());
        assert_eq!(families.uses(), 5);
    }

    #[test]
    fn a_token_is_its_clients_alone_and_can_be_revoked() {
        let mut families = Families::default();
        families.begin("a1".into(), asked());
        assert!(families.redeem("a1", "d").is_err());
        families.revoke_all();
        assert!(families.redeem("a1", "c").is_err());
        assert!(!format!("{families:?}").contains("a1"));
    }
}
