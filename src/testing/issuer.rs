//! Implements the logic of the authorization server without HTTP: it authenticates clients and issues, introspects and revokes
//! tokens.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use rustls::crypto::SecureRandom;
use rustls::crypto::aws_lc_rs::default_provider;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::claims;
use super::client::Client;
use super::client_auth::{Clients, RequestContext, authenticate};
use super::form::Form;
use super::grants::{self, Grant, GrantContext};
use super::issued_tokens::{Authorization, IssuedTokens};
use super::oauth_error::OAuthError;
use super::refresh_tokens::RefreshTokens;

#[derive(Debug)]
pub(super) struct Issuer {
    settings: RwLock<Settings>,
    tokens: RwLock<IssuedTokens>,
    refresh_tokens: Mutex<RefreshTokens>,
    random: &'static dyn SecureRandom,
    /// The IDs of the assertions that clients have authenticated with.
    used_assertions: Mutex<HashSet<String>>,
}

/// The settings, which a test may change at any time.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) clients: HashMap<String, Client>,
    pub(super) lifetime: Option<Duration>,
    pub(super) refresh_in: Option<Duration>,
    pub(super) allowed_scopes: Option<Vec<String>>,
    pub(super) repeat_token: bool,
    pub(super) token_length: usize,
    pub(super) users: HashMap<String, String>,
    pub(super) trusted_assertions: HashMap<String, String>,
    pub(super) issue_refresh_tokens: bool,
    pub(super) rotate_refresh_tokens: bool,
    /// Whether the documents of RFC 8414 and of OpenID Connect exist.
    pub(super) metadata: (bool, bool),
}

impl Issuer {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: RwLock::new(settings),
            tokens: RwLock::default(),
            refresh_tokens: Mutex::default(),
            random: default_provider().secure_random,
            used_assertions: Mutex::default(),
        }
    }

    /// Returns the response of the token endpoint.
    pub(super) fn token(
        &self,
        context: RequestContext<'_>,
        form: &Form,
    ) -> Result<Value, OAuthError> {
        let client =
            if grants::client_is_optional(form) && !context.headers.contains_key(AUTHORIZATION) {
                String::new()
            } else {
                self.authenticate(context, form)?
            };
        let claims = claims::requested(form)?;
        let settings = self.settings();
        // Locked from the check of a refresh token to its replacement, so that two concurrent uses of it are detected.
        let mut refresh_tokens = self.refresh_tokens();
        let grant = {
            let mut context = GrantContext {
                users: &settings.users,
                trusted_assertions: &settings.trusted_assertions,
                tokens: &self.tokens(),
                refresh_tokens: &mut refresh_tokens,
                now: Instant::now(),
            };
            grants::evaluate(client, form, &mut context)?
        };
        let mut authorization = grant.authorization.clone();
        authorization.claims = claims;
        if let Some(allowed) = &settings.allowed_scopes
            && !authorization
                .scopes
                .iter()
                .all(|scope| allowed.contains(scope))
        {
            return Err(OAuthError::invalid_scope(
                "the scope is not allowed for the client",
            ));
        }
        let scope = authorization.scopes.join(" ");
        let (token, lifetime) = self.issue(authorization, &settings)?;

        let mut response = Map::new();
        response.insert("access_token".into(), token.into());
        response.insert("token_type".into(), grant.token_type().into());
        if let Some(issued) = &grant.issued_token_type {
            response.insert("issued_token_type".into(), issued.as_str().into());
        }
        if let Some(lifetime) = lifetime {
            response.insert("expires_in".into(), lifetime.as_secs().into());
        }
        if let Some(refresh_in) = settings.refresh_in {
            response.insert("refresh_in".into(), refresh_in.as_secs().into());
        }
        if !scope.is_empty() {
            response.insert("scope".into(), scope.into());
        }
        if let Some(refresh_token) = self.refresh_token(grant, &settings, &mut refresh_tokens)? {
            response.insert("refresh_token".into(), refresh_token.into());
        }
        Ok(response.into())
    }

    /// Returns the refresh token of the response, if the response has one.
    fn refresh_token(
        &self,
        grant: Grant,
        settings: &Settings,
        refresh_tokens: &mut RefreshTokens,
    ) -> Result<Option<String>, OAuthError> {
        let token = match &grant.used_refresh_token {
            Some(old) if settings.rotate_refresh_tokens => {
                let new = self.new_token(0)?;
                refresh_tokens.rotate(old, new.clone());
                new
            }
            None if grant.for_user && settings.issue_refresh_tokens => {
                let new = self.new_token(0)?;
                refresh_tokens.insert(new.clone(), grant.authorization);
                new
            }
            _ => return Ok(None),
        };
        Ok(Some(token))
    }

    /// Returns an access token and a refresh token for a user who has signed in.
    pub(super) fn sign_in(&self, authorization: Authorization) -> (String, String) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let token = || {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let random = self.new_token(0);
            random.unwrap_or_else(|_| format!("sign-in-{count}"))
        };
        let (access, refresh) = (token(), token());
        let lifetime = self.settings().lifetime;
        let expires = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        self.tokens_mut()
            .add(access.clone(), authorization.clone(), expires);
        self.refresh_tokens().insert(refresh.clone(), authorization);
        (access, refresh)
    }

    pub(super) fn refresh_tokens(&self) -> MutexGuard<'_, RefreshTokens> {
        self.refresh_tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the response of token introspection (RFC 7662).
    pub(super) fn introspect(
        &self,
        context: RequestContext<'_>,
        form: &Form,
    ) -> Result<Value, OAuthError> {
        self.authenticate(context, form)?;
        let token = form.required("token")?;
        let now = Instant::now();
        let tokens = self.tokens();
        let Some(issued) = tokens.find_usable(token, now) else {
            return Ok(json!({ "active": false }));
        };
        let authorization = &issued.authorization;
        let mut response = json!({
            "active": true,
            "client_id": authorization.client,
            "scope": authorization.scopes.join(" "),
            "token_type": "Bearer",
        });
        let expires = issued
            .remaining(now)
            .and_then(|remaining| SystemTime::now().checked_add(remaining));
        if let Some(Ok(expires)) = expires.map(|expires| expires.duration_since(UNIX_EPOCH)) {
            response["exp"] = expires.as_secs().into();
        }
        if let Some(subject) = &authorization.subject {
            response["sub"] = subject.as_str().into();
        }
        // RFC 8693, section 4.1.
        if let Some(actor) = &authorization.actor {
            response["act"] = json!({ "sub": actor });
        }
        if !authorization.resources.is_empty() || !authorization.audiences.is_empty() {
            response["aud"] = [&authorization.resources[..], &authorization.audiences[..]]
                .concat()
                .into();
        }
        Ok(response)
    }

    /// Revokes a token.
    ///
    /// RFC 7009, section 2.2: "The authorization server responds with HTTP status code 200 if the token has been revoked
    /// successfully or if the client submitted an invalid token."
    pub(super) fn revocation(
        &self,
        context: RequestContext<'_>,
        form: &Form,
    ) -> Result<Value, OAuthError> {
        let client = self.authenticate(context, form)?;
        let token = form.required("token")?;
        let foreign = self
            .tokens()
            .find(token)
            .is_some_and(|issued| issued.authorization.client != client);
        if foreign {
            return Err(OAuthError::invalid_grant(
                "the token belongs to another client",
            ));
        }
        self.tokens_mut().revoke(token);
        Ok(json!({}))
    }

    pub(super) fn settings(&self) -> RwLockReadGuard<'_, Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings_mut(&self) -> RwLockWriteGuard<'_, Settings> {
        self.settings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tokens(&self) -> RwLockReadGuard<'_, IssuedTokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tokens_mut(&self) -> RwLockWriteGuard<'_, IssuedTokens> {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn authenticate(&self, context: RequestContext<'_>, form: &Form) -> Result<String, OAuthError> {
        let settings = self.settings();
        let clients = Clients {
            registered: &settings.clients,
            used_assertions: &self.used_assertions,
        };
        authenticate(context, form, &clients)
    }

    /// Issues a token. Returns it with its remaining lifetime.
    fn issue(
        &self,
        authorization: Authorization,
        settings: &Settings,
    ) -> Result<(String, Option<Duration>), OAuthError> {
        let now = Instant::now();
        let token = self.new_token(settings.token_length)?;
        // One lock for the lookup and the insertion, so that concurrent requests get the same token.
        let mut tokens = self.tokens_mut();
        if settings.repeat_token
            && let Some((token, remaining)) = tokens.latest(&authorization, now)
        {
            return Ok((token.to_owned(), remaining));
        }
        // A token whose expiry exceeds the range of the clock doesn't expire.
        let expires = settings
            .lifetime
            .and_then(|lifetime| now.checked_add(lifetime));
        tokens.add(token.clone(), authorization, expires);
        Ok((token, settings.lifetime))
    }

    /// Creates a token of 256 random bits, padded to the given length.
    fn new_token(&self, length: usize) -> Result<String, OAuthError> {
        let mut bits = [0; 32];
        self.random
            .fill(&mut bits)
            .map_err(|_| OAuthError::server_error("the random number generator failed"))?;
        let mut token = URL_SAFE_NO_PAD.encode(bits);
        token.extend(std::iter::repeat_n('x', length.saturating_sub(token.len())));
        Ok(token)
    }
}

impl Grant {
    fn token_type(&self) -> &'static str {
        match self.issued_token_type.as_deref() {
            None => "Bearer",
            Some(issued) if issued.ends_with(":access_token") || issued.ends_with(":jwt") => {
                "Bearer"
            }
            // RFC 8693, section 2.2.1.
            Some(_) => "N_A",
        }
    }
}

impl Settings {
    /// The client with this id, added if it is new.
    pub(super) fn client(&mut self, id: impl Into<String>) -> &mut Client {
        self.clients.entry(id.into()).or_default()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            lifetime: Some(Duration::from_secs(3600)),
            refresh_in: None,
            allowed_scopes: None,
            repeat_token: false,
            token_length: 0,
            users: HashMap::new(),
            trusted_assertions: HashMap::new(),
            issue_refresh_tokens: false,
            rotate_refresh_tokens: true,
            metadata: (true, true),
        }
    }
}

/// Omits the secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("clients", &self.clients)
            .field("lifetime", &self.lifetime)
            .field("refresh_in", &self.refresh_in)
            .field("allowed_scopes", &self.allowed_scopes)
            .field("repeat_token", &self.repeat_token)
            .field("token_length", &self.token_length)
            .field("users", &self.users.keys())
            .field("issue_refresh_tokens", &self.issue_refresh_tokens)
            .field("rotate_refresh_tokens", &self.rotate_refresh_tokens)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unique_and_have_the_configured_length() {
        let issuer = issuer();
        let (one, other) = (
            request_token(&issuer, "").unwrap(),
            request_token(&issuer, "").unwrap(),
        );
        assert_ne!(one["access_token"], other["access_token"]);
        issuer.settings_mut().token_length = 4096;
        assert_eq!(
            request_token(&issuer, "").unwrap()["access_token"]
                .as_str()
                .unwrap()
                .len(),
            4096
        );
    }

    #[test]
    fn token_response_follows_the_settings() {
        let issuer = issuer();
        let response = request_token(&issuer, "&scope=a+b").unwrap();
        assert_eq!(
            (&response["expires_in"], &response["scope"]),
            (&json!(3600), &json!("a b"))
        );
        assert_eq!(response.get("refresh_in"), None);
        issuer.settings_mut().lifetime = None;
        issuer.settings_mut().refresh_in = Some(Duration::from_secs(7));
        let response = request_token(&issuer, "").unwrap();
        assert_eq!(
            (response.get("expires_in"), &response["refresh_in"]),
            (None, &json!(7))
        );
        assert_eq!(response.get("scope"), None);
    }

    #[test]
    fn repeated_token_is_the_same_for_the_same_scopes_only() {
        let issuer = issuer();
        let first = request_token(&issuer, "&scope=a+b").unwrap();
        issuer.settings_mut().repeat_token = true;
        issuer.tokens_mut().revoke_all();
        assert_eq!(
            request_token(&issuer, "&scope=b+a").unwrap()["access_token"],
            first["access_token"]
        );
        assert_ne!(
            request_token(&issuer, "&scope=a").unwrap()["access_token"],
            first["access_token"]
        );
        issuer.settings_mut().repeat_token = false;
        assert_ne!(
            request_token(&issuer, "&scope=a+b").unwrap()["access_token"],
            first["access_token"]
        );
    }

    #[test]
    fn lifetime_beyond_the_clock_does_not_panic() {
        let issuer = issuer();
        issuer.settings_mut().lifetime = Some(Duration::MAX);
        assert!(request_token(&issuer, "").is_ok());
    }

    #[test]
    fn scope_that_is_not_allowed_is_rejected() {
        let issuer = issuer();
        issuer.settings_mut().allowed_scopes = Some(vec!["a".into()]);
        assert!(request_token(&issuer, "&scope=a").is_ok());
        assert!(request_token(&issuer, "&scope=a+b").is_err());
    }

    #[test]
    fn debug_shows_no_secret_and_no_token() {
        let issuer = issuer();
        let token = request_token(&issuer, "").unwrap()["access_token"]
            .as_str()
            .unwrap()
            .to_owned();
        let shown = format!("{issuer:?}");
        assert!(
            !shown.contains("hidden") && !shown.contains(&token),
            "{shown}"
        );
    }

    fn issuer() -> Issuer {
        let mut settings = Settings::default();
        settings.client("me").secret = Some("hidden".into());
        Issuer::new(settings)
    }

    fn request_token(issuer: &Issuer, more: &str) -> Result<Value, OAuthError> {
        let form = format!("grant_type=client_credentials&client_id=me&client_secret=hidden{more}");
        let context = RequestContext {
            headers: &http::HeaderMap::new(),
            certificate: None,
            origin: "",
            path: "",
        };
        issuer.token(context, &Form::parse(form.as_bytes()))
    }
}
