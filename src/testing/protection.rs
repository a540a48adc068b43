//! May this request pass? Pure, but for the token store it asks.

use http::header::{AUTHORIZATION, HeaderMap};
use tokio::time::Instant;

use super::claims::Demand;
use super::token_store::TokenStore;

/// Which paths need which token.
#[derive(Clone, Debug, Default)]
pub(super) struct Protection {
    pub(super) off: bool,
    /// Path prefix and the scopes that it needs, blanks between them.
    pub(super) scopes: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Pass,
    NoToken,
    InvalidToken,
    /// All the scopes that the path needs.
    InsufficientScope(String),
    /// The claims that every token has to satisfy, in base64.
    InsufficientClaims(String),
}

/// What the `Authorization` headers hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    Nothing,
    Bearer(&'a str),
    /// Another scheme, no token, or more than one header.
    Unusable,
}

impl Protection {
    pub(super) fn judge(
        &self,
        path: &str,
        presented: &Presented<'_>,
        tokens: &TokenStore,
        demand: Option<&Demand>,
        now: Instant,
    ) -> Judgement {
        if self.off || path.starts_with("/open") {
            return Judgement::Pass;
        }
        let token = match presented {
            Presented::Nothing => return Judgement::NoToken,
            Presented::Unusable => return Judgement::InvalidToken,
            Presented::Bearer(token) => token,
        };
        let Some(issued) = tokens.find_usable(token, now) else {
            return Judgement::InvalidToken;
        };
        if let Some(demand) = demand
            && !demand.is_met_by(issued.asked.claims.as_ref())
        {
            return Judgement::InsufficientClaims(demand.encoded().to_owned());
        }
        let needed = || {
            let matching = self
                .scopes
                .iter()
                .filter(|(prefix, _)| covers(prefix, path));
            matching.flat_map(|(_, scopes)| scopes.split_ascii_whitespace())
        };
        match issued.covers(needed()) {
            true => Judgement::Pass,
            false => Judgement::InsufficientScope(needed().collect::<Vec<_>>().join(" ")),
        }
    }
}

impl<'a> Presented<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, more) = (values.next(), values.next());
        let Some(value) = value else {
            return Self::Nothing;
        };
        if more.is_some() {
            return Self::Unusable;
        }
        let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' '))
        else {
            return Self::Unusable;
        };
        match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            true => Self::Bearer(token),
            false => Self::Unusable,
        }
    }
}

/// Whole segments only: `/admin` covers `/admin` and `/admin/x`, not `/administer`.
fn covers(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::token_store::Asked;
    use super::*;

    #[test]
    fn every_path_needs_a_token_but_the_open_ones() {
        let protection = Protection::default();
        assert_eq!(judge(&protection, "/x", "good"), Judgement::Pass);
        assert_eq!(judge(&protection, "/x", "bad"), Judgement::InvalidToken);
        assert_eq!(judge(&protection, "/x", ""), Judgement::NoToken);
        assert_eq!(judge(&protection, "/open/x", "bad"), Judgement::Pass);
        assert_eq!(
            judge(
                &Protection {
                    off: true,
                    ..protection
                },
                "/x",
                ""
            ),
            Judgement::Pass
        );
    }

    #[test]
    fn every_matching_prefix_adds_its_scopes() {
        let scopes = [("/", "read"), ("/admin", "write all")]
            .map(|(path, scope)| (path.into(), scope.into()));
        let protection = Protection {
            scopes: scopes.into(),
            ..Protection::default()
        };
        assert_eq!(judge(&protection, "/administer", "good"), Judgement::Pass);
        let needed = Judgement::InsufficientScope("read write all".into());
        assert_eq!(judge(&protection, "/admin/x", "good"), needed);
        assert_eq!(judge(&protection, "/admin", "good"), needed);
    }

    #[test]
    fn only_one_bearer_header_counts() {
        let of = |values: &[&str]| {
            let headers = values
                .iter()
                .map(|value| (AUTHORIZATION, value.parse().unwrap()))
                .fold(HeaderMap::new(), |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                });
            format!("{:?}", Presented::of(&headers))
        };
        assert_eq!(of(&[]), "Nothing");
        assert_eq!(of(&["bearer a"]), "Bearer(\"a\")");
        for unusable in [
            &["Bearer a", "Bearer b"][..],
            &["Bearer "],
            &["Bearer"],
            &["Basic a"],
        ] {
            assert_eq!(of(unusable), "Unusable");
        }
    }

    fn judge(protection: &Protection, path: &str, token: &str) -> Judgement {
        let mut tokens = TokenStore::default();
        tokens.add(
            "good".into(),
            Asked {
                scopes: vec!["read".into()],
                ..Asked::default()
            },
            None,
        );
        let presented = if token.is_empty() {
            Presented::Nothing
        } else {
            Presented::Bearer(token)
        };
        protection.judge(path, &presented, &tokens, None, Instant::now())
    }
}
