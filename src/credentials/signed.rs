//! Implements assertions that are signed with the key of a service account (RFC 7523 §3).

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::assertion::{Assertion, AssertionRequest};
use crate::{
    error::TokenError,
    jwt::{SigningKey, unique_id},
    oauth::client_claims,
    secret::Secret,
    source::SourceId,
    util::secret_json::SecretJson,
};

/// The lifetime of an assertion, which is used for one attempt. Some providers accept at most an hour.
const LIFETIME: Duration = Duration::from_secs(300);

/// JWTs that are signed with the key of their issuer, for [`JwtBearer`](super::JwtBearer).
///
/// ```
/// use tower_bearer::credentials::{SigningKey, assertion::Signed};
///
/// let key = SigningKey::from_file("tests/vectors/keys/p256.sec1.pem")?;
/// let assertion = Signed::new(key, "robot@project").with_subject("alice@example.com").with_scopes_inside();
/// # let _ = assertion;
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Signed {
    key: SigningKey,
    issuer: String,
    subject: Option<String>,
    audience: Option<String>,
    scopes_inside: bool,
}

impl Signed {
    /// Creates assertions that are signed with this key by this issuer, which is also their subject.
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

    /// Sets the subject, such as a user, if the provider allows the issuer to act for it.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets the audience. The default is the URL of the token endpoint.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Adds the scopes of the spec to the assertion, as Google requires.
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
        let jwt = self.key.sign(&self.claims(request)?)?;
        Ok(Secret::new(jwt.as_str()))
    }

    fn source_id(&self) -> Option<SourceId> {
        let text = |optional: &Option<String>| optional.clone().unwrap_or_default();
        let id = SourceId::new("signed").with("issuer", &self.issuer);
        let id = id.with("subject", &text(&self.subject));
        Some(id.with("audience", &text(&self.audience)))
    }
}

/// Reads a Google service account file: returns its token endpoint and its assertions.
pub(super) fn service_account(json: &str) -> Result<(String, Signed), TokenError> {
    let fault = |what: &str| {
        TokenError::configuration(format!(
            "the service account file {what}: use the JSON file that was downloaded when the key was created"
        ))
    };
    let members =
        SecretJson::parse(json.as_bytes()).ok_or_else(|| fault("is not a JSON object"))?;
    let text = |name: &str| members.text(name);
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
    // Google accepts a subject only for a user that the account acts for.
    signed.subject = None;
    Ok((token_uri.to_owned(), signed))
}
