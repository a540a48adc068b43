//! Verifies the signed assertions that clients authenticate with (RFC 7523, section 3).

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::client::Client;

/// A parsed JWT whose signature and claims have not been verified.
pub(super) struct Assertion<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: String,
    claims: Value,
}

impl<'a> Assertion<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        Some(Self {
            signed,
            signature: decode(signature)?,
            algorithm: header.get("alg")?.as_str()?.to_owned(),
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
        })
    }

    /// Returns `true` if the assertion is signed with a shared secret instead of a private key.
    pub(super) fn uses_secret(&self) -> bool {
        self.algorithm.starts_with("HS")
    }

    /// Returns the client that the assertion authenticates.
    pub(super) fn client(&self) -> Option<&str> {
        let subject = self.text("sub")?;
        (self.text("iss") == Some(subject)).then_some(subject)
    }

    /// Returns `true` if the assertion is for one of the audiences, has not expired and is used for the first time.
    pub(super) fn is_acceptable(&self, audiences: &[String], seen: &mut HashSet<String>) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let expires = self.claims.get("exp").and_then(Value::as_u64);
        let in_time = expires.is_some_and(|exp| exp > now && exp <= now + LONGEST.as_secs());
        let named = match self.claims.get("aud") {
            Some(Value::String(one)) => audiences.contains(one),
            Some(Value::Array(several)) => several
                .iter()
                .filter_map(Value::as_str)
                .any(|one| audiences.iter().any(|audience| audience == one)),
            _ => false,
        };
        // Checked last, because it records the ID as used.
        in_time
            && named
            && self
                .text("jti")
                .is_some_and(|id| seen.insert(id.to_owned()))
    }

    pub(super) fn is_signed_by(&self, client: &Client) -> bool {
        let (algorithm, message) = (self.algorithm.as_str(), self.signed.as_bytes());
        if algorithm == "HS256" {
            return client.secret.as_ref().is_some_and(|secret| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::verify(&key, message, &self.signature).is_ok()
            });
        }
        client
            .keys
            .iter()
            .any(|key| key.verifies(algorithm, message, &self.signature))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }
}

/// RFC 7523, section 3: "the authorization server may reject JWTs with an "exp" claim value that is unreasonably far in the
/// future".
const LONGEST: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::public_key::PublicKey;
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn line(header: &Value, claims: &Value, secret: &str) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Seconds from now.
    fn time(offset: i64) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_secs()).unwrap() + offset
    }

    fn good() -> Value {
        json!({"iss": "me", "sub": "me", "aud": ["x", "here"], "exp": time(60), "jti": "1"})
    }

    fn is_acceptable(claims: &Value) -> bool {
        let line = line(&json!({"alg": "HS256"}), claims, SECRET);
        let assertion = Assertion::parse(&line).unwrap();
        assertion.client().is_some()
            && assertion.is_acceptable(&["here".into()], &mut HashSet::new())
    }

    #[test]
    fn each_claim_has_to_be_present_and_correct() {
        assert!(is_acceptable(&good()));
        for (name, wrong) in [
            ("iss", json!("you")),
            ("sub", json!("you")),
            ("aud", json!("there")),
            ("exp", json!(time(-1))),
            ("exp", json!(time(3600))),
            ("exp", json!("soon")),
            ("jti", json!(1)),
        ] {
            let mut claims = good();
            claims[name] = wrong;
            assert!(!is_acceptable(&claims), "{claims}");
            claims.as_object_mut().unwrap().remove(name);
            assert!(!is_acceptable(&claims), "{claims}");
        }
    }

    #[test]
    fn assertion_id_is_accepted_once() {
        let line = line(&json!({"alg": "HS256"}), &good(), SECRET);
        let assertion = Assertion::parse(&line).unwrap();
        let mut seen = HashSet::new();
        assert!(assertion.is_acceptable(&["here".into()], &mut seen));
        assert!(!assertion.is_acceptable(&["here".into()], &mut seen));
    }

    #[test]
    fn algorithm_header_cannot_bypass_the_signature_check() {
        let public = include_str!("../../tests/vectors/keys/rsa.public.pem");
        let keys = vec![PublicKey::parse(public).unwrap()];
        let secret = Some(SECRET.to_owned());
        let with_secret = Client {
            secret,
            ..Client::default()
        };
        let with_key = Client {
            keys,
            ..Client::default()
        };
        let with_both = Client {
            keys: with_key.keys.clone(),
            ..with_secret.clone()
        };
        let good_line = line(&json!({"alg": "HS256"}), &good(), SECRET);
        let good_one = Assertion::parse(&good_line).unwrap();
        assert!(good_one.is_signed_by(&with_secret) && good_one.uses_secret());
        for (algorithm, key) in [
            ("HS256", public),
            ("none", ""),
            ("RS256", SECRET),
            ("HS256", ""),
        ] {
            let line = line(&json!({"alg": algorithm}), &good(), key);
            let assertion = Assertion::parse(&line).unwrap();
            assert!(!assertion.is_signed_by(&with_both), "{algorithm}");
            assert!(!assertion.is_signed_by(&with_key), "{algorithm}");
        }
    }
}
