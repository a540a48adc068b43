//! Who asks, by a signed assertion: RFC 7523, section 3.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::public_key::PublicKey;

/// A JWT, taken apart; nothing of it is verified yet.
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

    /// Whether it is signed with a secret, and not with a key.
    pub(super) fn is_by_secret(&self) -> bool {
        self.algorithm.starts_with("HS")
    }

    /// The client that it speaks for.
    pub(super) fn client(&self) -> Option<&str> {
        let subject = self.text("sub")?;
        (self.text("iss") == Some(subject)).then_some(subject)
    }

    /// Whether the claims hold for one of these audiences, now, and for the first time.
    pub(super) fn holds(&self, audiences: &[String], seen: &mut HashSet<String>) -> bool {
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
        // The last question, since it leaves a trace.
        in_time
            && named
            && self
                .text("jti")
                .is_some_and(|id| seen.insert(id.to_owned()))
    }

    pub(super) fn is_signed_by(&self, secret: Option<&String>, keys: &[PublicKey]) -> bool {
        let (algorithm, message) = (self.algorithm.as_str(), self.signed.as_bytes());
        if algorithm == "HS256" {
            return secret.is_some_and(|secret| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::verify(&key, message, &self.signature).is_ok()
            });
        }
        keys.iter()
            .any(|key| key.verifies(algorithm, message, &self.signature))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }
}

/// RFC 7523, section 3: "the authorization server may reject JWTs with an "exp" claim value that is unreasonably far in the
/// future".
const LONGEST: Duration = Duration::from_secs(15 * 60);
