//! This module builds the compact serialization of RFC 7515 §3.1.

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::TokenError;

/// Serializes header and claims, and signs them with `sign`.
pub(super) fn signed(
    algorithm: &str,
    mut header: Map<String, Value>,
    claims: &Map<String, Value>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, TokenError>,
) -> Result<Zeroizing<String>, TokenError> {
    header.insert("alg".into(), algorithm.into());
    header.insert("typ".into(), "JWT".into());
    let header = Value::Object(header).to_string();
    let mut payload = Zeroizing::new(Vec::with_capacity(1024));
    serde_json::to_writer(&mut *payload, claims).map_err(|_| {
        TokenError::configuration("the claims of the assertion can't be serialized as JSON")
    })?;
    // Allocated once, so that no copy remains in freed memory. An encoded signature has at most 1 KiB.
    let capacity = 2 * (header.len() + payload.len()) + 1024;
    let mut line = Zeroizing::new(String::with_capacity(capacity));
    URL_SAFE_NO_PAD.encode_string(header, &mut line);
    line.push('.');
    URL_SAFE_NO_PAD.encode_string(&payload, &mut line);
    // RFC 7515 §5.1: "Compute the JWS Signature […] over the JWS Signing Input ASCII(BASE64URL(UTF8(JWS Protected
    // Header)) || '.' || BASE64URL(JWS Payload))."
    let signature = sign(line.as_bytes())?;
    line.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut line);
    Ok(line)
}

/// Signs with a shared secret.
pub(crate) fn hs256(
    secret: &str,
    claims: &Map<String, Value>,
) -> Result<Zeroizing<String>, TokenError> {
    // RFC 7518 §3.2: "A key of the same size as the hash output (for instance, 256 bits for "HS256") or larger MUST be
    // used with this algorithm."
    if secret.len() < 32 {
        return Err(TokenError::configuration(
            "the client secret is too short: client_secret_jwt requires at least 32 bytes",
        ));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    signed("HS256", Map::new(), claims, |message| {
        Ok(hmac::sign(&key, message).as_ref().to_vec())
    })
}

/// Returns 128 random bits as text.
pub(crate) fn unique_id() -> Result<String, TokenError> {
    let mut bits = [0; 16];
    SystemRandom::new().fill(&mut bits).map_err(|_| {
        TokenError::configuration("the random number generator of the system failed")
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hs256_signature_matches_the_test_vector() {
        let facts = include_str!("../../tests/vectors/keys/facts.json");
        let facts: Value = serde_json::from_str(facts).unwrap();
        let mut claims = Map::new();
        claims.insert("iss".into(), "orders".into());
        let line = hs256(facts["hs256"]["secret"].as_str().unwrap(), &claims).unwrap();
        assert_eq!(line.as_str(), facts["hs256"]["line"]);
    }

    #[test]
    fn short_secret_is_reported_without_showing_it() {
        let error = hs256("hunter2hunter2hunter2hunter2hun", &Map::new()).unwrap_err();
        assert!(error.to_string().contains("32 bytes"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn ids_are_unique() {
        let ids: HashSet<_> = (0..10_000).map(|_| unique_id().unwrap()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
