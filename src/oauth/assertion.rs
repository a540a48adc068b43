//! This module builds the claims of a client assertion (RFC 7523 §3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// Builds the claims of a client assertion. The id must be unique.
pub(crate) fn client_claims(
    client_id: &str,
    audience: &str,
    now: SystemTime,
    lifetime: Duration,
    id: String,
) -> Map<String, Value> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut claims = Map::new();
    // RFC 7523 §3: "The JWT MUST contain an "iss" (issuer) claim that contains a unique identifier for the entity that
    // issued the JWT." And: "For client authentication, the subject MUST be the "client_id" of the OAuth client."
    claims.insert("iss".into(), client_id.into());
    claims.insert("sub".into(), client_id.into());
    // "The JWT MUST contain an "aud" (audience) claim containing a value that identifies the authorization server as an
    // intended audience."
    claims.insert("aud".into(), audience.into());
    // "The JWT MUST contain an "exp" (expiration time) claim that limits the time window during which the JWT can be
    // used." There is no "nbf": a server whose clock is behind ours would reject the assertion.
    claims.insert("iat".into(), now.into());
    let lifetime = lifetime.as_secs().max(1);
    claims.insert("exp".into(), now.saturating_add(lifetime).into());
    // "The authorization server MAY ensure that JWTs are not replayed by maintaining the set of used "jti" values".
    claims.insert("jti".into(), id.into());
    claims
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_those_of_rfc_7523() {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        let claims = client_claims(
            "orders",
            "https://login.example/token",
            now,
            Duration::from_secs(60),
            "x".into(),
        );
        let expected = json!({
            "iss": "orders", "sub": "orders", "aud": "https://login.example/token",
            "iat": 1_700_000_000, "exp": 1_700_000_060, "jti": "x",
        });
        assert_eq!(Value::Object(claims), expected);
    }

    #[test]
    fn lifetime_saturates_and_is_at_least_one_second() {
        for (lifetime, exp) in [(Duration::MAX, u64::MAX), (Duration::ZERO, 1)] {
            let claims = client_claims("a", "b", UNIX_EPOCH, lifetime, String::new());
            assert_eq!(claims["exp"], exp);
        }
    }
}
