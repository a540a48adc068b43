//! Assertions that are signed here, with the key of a service account (RFC 7523 §3).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};

use super::assertion::{Assertion, AssertionRequest};
use crate::{
    error::TokenError,
    jwt::{SigningKey, unique_id},
    oauth::client_claims,
    secret::{Secret, wipe},
    source::SourceId,
};

/// How long an assertion is good for. It is made anew for each attempt; some providers want no more than an hour.
const LIFETIME: Duration = Duration::from_secs(300);

/// Assertions that say who we are, signed with our key: for [`JwtBearer`](super::JwtBearer).
///
/// ```
/// use tower_bearer::credentials::{SigningKey, assertion::Signed};
///
/// let key = SigningKey::from_file("tests/vectors/keys/p256.sec1.pem")?;
/// let assertion = Signed::new(key, "robot@project").with_subject("alice@example.com").with_scopes_inside();
/// # let _ = assertion;
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct Signed {
    key: SigningKey,
    issuer: String,
    subject: Option<String>,
    audience: Option<String>,
    scopes_inside: bool,
}

impl Signed {
    /// Signed with this key by this issuer, who speaks for themselves.
    #[must_use]
    pub fn new(key: SigningKey, issuer: impl Into<String>) -> Self {
        let issuer = issuer.into();
        Self {
            key,
            subject: Some(issuer.clone()),
            issuer,
            audience: None,
            scopes_inside: false,
        }
    }

    /// Speaks for this subject, a user say, where the provider lets the issuer do so.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Names this audience; it is the token endpoint's address unless set.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Names the scopes in the assertion too, as Google wants it.
    #[must_use]
    pub fn with_scopes_inside(mut self) -> Self {
        self.scopes_inside = true;
        self
    }

    fn claims(&self, request: &AssertionRequest) -> Result<Map<String, Value>, TokenError> {
        let audience = self.audience.as_deref().unwrap_or(request.audience());
        let now = SystemTime::now();
        let mut claims = client_claims(&self.issuer, audience, now, LIFETIME, unique_id()?);
        match &self.subject {
            Some(subject) => claims.insert("sub".into(), subject.as_str().into()),
            None => claims.remove("sub"),
        };
        if self.scopes_inside {
            let scopes: Vec<_> = request.spec().iter_scopes().collect();
            claims.insert("scope".into(), scopes.join(" ").into());
        }
        Ok(claims)
    }
}

impl Assertion for Signed {
    async fn assertion(&self, request: &AssertionRequest) -> Result<Secret, TokenError> {
        let line = self.key.sign(&self.claims(request)?)?;
        Ok(Secret::new(line.as_str()))
    }

    fn source_id(&self) -> Option<SourceId> {
        let id = SourceId::new("signed")
            .with("issuer", &self.issuer)
            .with("subject", self.subject.as_deref().unwrap_or_default())
            .with("audience", self.audience.as_deref().unwrap_or_default());
        Some(id)
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("key", &self.key)
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Google's service account file: the token endpoint, and what is presented there.
pub(super) fn service_account(json: &str) -> Result<(String, Signed), TokenError> {
    let fault = |what: &str| {
        TokenError::configuration(format!(
            "the service account file {what}: take the one that was downloaded as JSON when the key was made"
        ))
    };
    // The error says what it met, so it is dropped: that may be the key.
    let members = serde_json::from_str::<Value>(json).map_err(|_| fault("is no JSON"));
    let members = WipedJson(members?);
    let text = |name: &str| members.0.get(name).and_then(Value::as_str);
    if text("type") != Some("service_account") {
        return Err(fault("is not of the type service_account"));
    }
    let (Some(email), Some(key), Some(token_uri)) =
        (text("client_email"), text("private_key"), text("token_uri"))
    else {
        return Err(fault("lacks client_email, private_key or token_uri"));
    };
    let mut key = SigningKey::from_pem(key)?;
    if let Some(key_id) = text("private_key_id") {
        key = key.with_key_id(key_id);
    }
    let mut signed = Signed::new(key, email).with_scopes_inside();
    // Google takes a subject for a user on whose behalf the account acts.
    signed.subject = None;
    Ok((token_uri.to_owned(), signed))
}

struct WipedJson(Value);

impl Drop for WipedJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}
