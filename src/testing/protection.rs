//! Decides whether the API accepts a request.

use http::header::{AUTHORIZATION, HeaderMap};
use tokio::time::Instant;

use super::claims::RequiredClaims;
use super::issued_tokens::IssuedTokens;

/// The scopes that each path requires.
#[derive(Clone, Debug, Default)]
pub(super) struct Protection {
    pub(super) off: bool,
    /// Path prefixes and the scopes they require, separated by spaces.
    pub(super) scopes: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Pass,
    NoToken,
    InvalidToken,
    /// All scopes that the path requires.
    InsufficientScope(String),
    /// The claims required of every token, in base64.
    InsufficientClaims(String),
}

/// The token in the `Authorization` headers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PresentedToken<'a> {
    Nothing,
    Bearer(&'a str),
    /// Another scheme, no token, or more than one header.
    Unusable,
}

impl Protection {
    pub(super) fn authorize(
        &self,
        path: &str,
        presented: &PresentedToken<'_>,
        tokens: &IssuedTokens,
        required_claims: Option<&RequiredClaims>,
        now: Instant,
    ) -> Decision {
        if self.off || path.starts_with("/open") {
            return Decision::Pass;
        }
        let token = match presented {
            PresentedToken::Nothing => return Decision::NoToken,
            PresentedToken::Unusable => return Decision::InvalidToken,
            PresentedToken::Bearer(token) => token,
        };
        let Some(issued) = tokens.find_usable(token, now) else {
            return Decision::InvalidToken;
        };
        if let Some(required_claims) = required_claims
            && !required_claims.are_satisfied_by(issued.authorization.claims.as_ref())
        {
            return Decision::InsufficientClaims(required_claims.encoded().to_owned());
        }
        let needed = || {
            let matching = self
                .scopes
                .iter()
                .filter(|(prefix, _)| covers(prefix, path));
            matching.flat_map(|(_, scopes)| scopes.split_ascii_whitespace())
        };
        match issued.has_scopes(needed()) {
            true => Decision::Pass,
            false => Decision::InsufficientScope(needed().collect::<Vec<_>>().join(" ")),
        }
    }
}

impl<'a> PresentedToken<'a> {
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

/// Matches whole segments only: `/admin` covers `/admin` and `/admin/x`, not `/administer`.
fn covers(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::issued_tokens::Authorization;
    use super::*;

    #[test]
    fn every_path_but_open_ones_requires_a_token() {
        let protection = Protection::default();
        assert_eq!(authorize(&protection, "/x", "good"), Decision::Pass);
        assert_eq!(authorize(&protection, "/x", "bad"), Decision::InvalidToken);
        assert_eq!(authorize(&protection, "/x", ""), Decision::NoToken);
        assert_eq!(authorize(&protection, "/open/x", "bad"), Decision::Pass);
        assert_eq!(
            authorize(
                &Protection {
                    off: true,
                    ..protection
                },
                "/x",
                ""
            ),
            Decision::Pass
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
        assert_eq!(
            authorize(&protection, "/administer", "good"),
            Decision::Pass
        );
        let needed = Decision::InsufficientScope("read write all".into());
        assert_eq!(authorize(&protection, "/admin/x", "good"), needed);
        assert_eq!(authorize(&protection, "/admin", "good"), needed);
    }

    #[test]
    fn exactly_one_bearer_header_is_usable() {
        let of = |values: &[&str]| {
            let headers = values
                .iter()
                .map(|value| (AUTHORIZATION, value.parse().unwrap()))
                .fold(HeaderMap::new(), |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                });
            format!("{:?}", PresentedToken::of(&headers))
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

    fn authorize(protection: &Protection, path: &str, token: &str) -> Decision {
        let mut tokens = IssuedTokens::default();
        tokens.add(
            "good".into(),
            Authorization {
                scopes: vec!["read".into()],
                ..Authorization::default()
            },
            None,
        );
        let presented = if token.is_empty() {
            PresentedToken::Nothing
        } else {
            PresentedToken::Bearer(token)
        };
        protection.authorize(path, &presented, &tokens, None, Instant::now())
    }
}
