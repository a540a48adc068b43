//! The mind of the authorization server: its clients, its tokens, its settings. No HTTP beyond the answers it words.

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
use super::client_auth::{Asker, Clients, authenticate};
use super::families::Families;
use super::form::Form;
use super::grants::{self, Granted, Known};
use super::refusal::Refusal;
use super::token_store::{Asked, TokenStore};

#[derive(Debug)]
pub(super) struct Issuer {
    settings: RwLock<Settings>,
    tokens: RwLock<TokenStore>,
    families: Mutex<Families>,
    random: &'static dyn SecureRandom,
    /// The ids of the clients' assertions.
    assertions: Mutex<HashSet<String>>,
}

/// What a test may change at any time.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) clients: HashMap<String, Client>,
    pub(super) lifetime: Option<Duration>,
    pub(super) refresh_in: Option<Duration>,
    pub(super) allowed_scopes: Option<Vec<String>>,
    pub(super) repeat: bool,
    pub(super) token_length: usize,
    pub(super) users: HashMap<String, String>,
    pub(super) assertions: HashMap<String, String>,
    pub(super) give_refresh_tokens: bool,
    pub(super) rotate: bool,
    /// Which documents there are: RFC 8414's, and OpenID Connect's.
    pub(super) metadata: (bool, bool),
}

impl Issuer {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: RwLock::new(settings),
            tokens: RwLock::default(),
            families: Mutex::default(),
            random: default_provider().secure_random,
            assertions: Mutex::default(),
        }
    }

    /// The token endpoint's answer.
    pub(super) fn token(&self, asker: Asker<'_>, form: &Form) -> Result<Value, Refusal> {
        let client = if grants::needs_no_client(form) && !asker.headers.contains_key(AUTHORIZATION)
        {
            String::new()
        } else {
            self.authenticate(asker, form)?
        };
        let claims = claims::asked(form)?;
        let settings = self.settings();
        // From the look at a refresh token to its replacement, so that one that is used twice at once is found out.
        let mut families = self.families();
        let granted = {
            let mut known = Known {
                users: &settings.users,
                assertions: &settings.assertions,
                tokens: &self.tokens(),
                families: &mut families,
                now: Instant::now(),
            };
            grants::asked(client, form, &mut known)?
        };
        let mut asked = granted.asked.clone();
        asked.claims = claims;
        if let Some(allowed) = &settings.allowed_scopes
            && !asked.scopes.iter().all(|scope| allowed.contains(scope))
        {
            return Err(Refusal::invalid_scope("the client may not have this scope"));
        }
        let scope = asked.scopes.join(" ");
        let (token, lifetime) = self.issue(asked, &settings)?;

        let mut answer = Map::new();
        answer.insert("access_token".into(), token.into());
        answer.insert("token_type".into(), granted.token_type().into());
        if let Some(issued) = &granted.issued_token_type {
            answer.insert("issued_token_type".into(), issued.as_str().into());
        }
        if let Some(lifetime) = lifetime {
            answer.insert("expires_in".into(), lifetime.as_secs().into());
        }
        if let Some(refresh_in) = settings.refresh_in {
            answer.insert("refresh_in".into(), refresh_in.as_secs().into());
        }
        if !scope.is_empty() {
            answer.insert("scope".into(), scope.into());
        }
        if let Some(refresh_token) = self.refresh_token(granted, &settings, &mut families)? {
            answer.insert("refresh_token".into(), refresh_token.into());
        }
        Ok(answer.into())
    }

    /// The refresh token that goes with an answer, if one does.
    fn refresh_token(
        &self,
        granted: Granted,
        settings: &Settings,
        families: &mut Families,
    ) -> Result<Option<String>, Refusal> {
        let token = match &granted.refreshed {
            Some(old) if settings.rotate => {
                let new = self.new_token(0)?;
                families.rotate(old, new.clone());
                new
            }
            None if granted.for_a_person && settings.give_refresh_tokens => {
                let new = self.new_token(0)?;
                families.begin(new.clone(), granted.asked);
                new
            }
            _ => return Ok(None),
        };
        Ok(Some(token))
    }

    /// A token of each kind for a user who has just signed in, with this lifetime.
    pub(super) fn sign_in(&self, asked: Asked) -> (String, String) {
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
            .add(access.clone(), asked.clone(), expires);
        self.families().begin(refresh.clone(), asked);
        (access, refresh)
    }

    pub(super) fn families(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RFC 7662.
    pub(super) fn introspect(&self, asker: Asker<'_>, form: &Form) -> Result<Value, Refusal> {
        self.authenticate(asker, form)?;
        let token = form.required("token")?;
        let now = Instant::now();
        let tokens = self.tokens();
        let Some(issued) = tokens.find_usable(token, now) else {
            return Ok(json!({ "active": false }));
        };
        let asked = &issued.asked;
        let mut answer = json!({
            "active": true,
            "client_id": asked.client,
            "scope": asked.scopes.join(" "),
            "token_type": "Bearer",
        });
        let expires = issued
            .left(now)
            .and_then(|left| SystemTime::now().checked_add(left));
        if let Some(Ok(expires)) = expires.map(|expires| expires.duration_since(UNIX_EPOCH)) {
            answer["exp"] = expires.as_secs().into();
        }
        if let Some(subject) = &asked.subject {
            answer["sub"] = subject.as_str().into();
        }
        // RFC 8693, section 4.1.
        if let Some(actor) = &asked.actor {
            answer["act"] = json!({ "sub": actor });
        }
        if !asked.resources.is_empty() || !asked.audiences.is_empty() {
            answer["aud"] = [&asked.resources[..], &asked.audiences[..]].concat().into();
        }
        Ok(answer)
    }

    /// RFC 7009, section 2.2: "The authorization server responds with HTTP status code 200 if the token has been revoked
    /// successfully or if the client submitted an invalid token."
    pub(super) fn revocation(&self, asker: Asker<'_>, form: &Form) -> Result<Value, Refusal> {
        let client = self.authenticate(asker, form)?;
        let token = form.required("token")?;
        let foreign = self
            .tokens()
            .find(token)
            .is_some_and(|issued| issued.asked.client != client);
        if foreign {
            return Err(Refusal::invalid_grant(
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

    pub(super) fn tokens(&self) -> RwLockReadGuard<'_, TokenStore> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tokens_mut(&self) -> RwLockWriteGuard<'_, TokenStore> {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn authenticate(&self, asker: Asker<'_>, form: &Form) -> Result<String, Refusal> {
        let settings = self.settings();
        let clients = Clients {
            clients: &settings.clients,
            seen: &self.assertions,
        };
        authenticate(asker, form, &clients)
    }

    /// A token, and what is left of its life.
    fn issue(
        &self,
        asked: Asked,
        settings: &Settings,
    ) -> Result<(String, Option<Duration>), Refusal> {
        let now = Instant::now();
        let token = self.new_token(settings.token_length)?;
        // One lock for the look and the entry: of many that ask at once, all get the same.
        let mut tokens = self.tokens_mut();
        if settings.repeat
            && let Some((token, left)) = tokens.latest(&asked, now)
        {
            return Ok((token.to_owned(), left));
        }
        // A lifetime beyond what the clock can hold has no end.
        let expires = settings
            .lifetime
            .and_then(|lifetime| now.checked_add(lifetime));
        tokens.add(token.clone(), asked, expires);
        Ok((token, settings.lifetime))
    }

    /// 256 random bits, made longer if that is wanted.
    fn new_token(&self, length: usize) -> Result<String, Refusal> {
        let mut bits = [0; 32];
        self.random
            .fill(&mut bits)
            .map_err(|_| Refusal::server_error("no randomness to be had"))?;
        let mut token = URL_SAFE_NO_PAD.encode(bits);
        token.extend(std::iter::repeat_n('x', length.saturating_sub(token.len())));
        Ok(token)
    }
}

impl Granted {
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
            repeat: false,
            token_length: 0,
            users: HashMap::new(),
            assertions: HashMap::new(),
            give_refresh_tokens: false,
            rotate: true,
            metadata: (true, true),
        }
    }
}

/// Without the secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("clients", &self.clients)
            .field("lifetime", &self.lifetime)
            .field("refresh_in", &self.refresh_in)
            .field("allowed_scopes", &self.allowed_scopes)
            .field("repeat", &self.repeat)
            .field("token_length", &self.token_length)
            .field("users", &self.users.keys())
            .field("give_refresh_tokens", &self.give_refresh_tokens)
            .field("rotate", &self.rotate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unique_and_as_long_as_wanted() {
        let issuer = issuer();
        let (one, other) = (ask(&issuer, "").unwrap(), ask(&issuer, "").unwrap());
        assert_ne!(one["access_token"], other["access_token"]);
        issuer.settings_mut().token_length = 4096;
        assert_eq!(
            ask(&issuer, "").unwrap()["access_token"]
                .as_str()
                .unwrap()
                .len(),
            4096
        );
    }

    #[test]
    fn answer_has_what_the_settings_say() {
        let issuer = issuer();
        let answer = ask(&issuer, "&scope=a+b").unwrap();
        assert_eq!(
            (&answer["expires_in"], &answer["scope"]),
            (&json!(3600), &json!("a b"))
        );
        assert_eq!(answer.get("refresh_in"), None);
        issuer.settings_mut().lifetime = None;
        issuer.settings_mut().refresh_in = Some(Duration::from_secs(7));
        let answer = ask(&issuer, "").unwrap();
        assert_eq!(
            (answer.get("expires_in"), &answer["refresh_in"]),
            (None, &json!(7))
        );
        assert_eq!(answer.get("scope"), None);
    }

    #[test]
    fn repeated_token_is_the_same_for_the_same_scopes_only() {
        let issuer = issuer();
        let first = ask(&issuer, "&scope=a+b").unwrap();
        issuer.settings_mut().repeat = true;
        issuer.tokens_mut().revoke_all();
        assert_eq!(
            ask(&issuer, "&scope=b+a").unwrap()["access_token"],
            first["access_token"]
        );
        assert_ne!(
            ask(&issuer, "&scope=a").unwrap()["access_token"],
            first["access_token"]
        );
        issuer.settings_mut().repeat = false;
        assert_ne!(
            ask(&issuer, "&scope=a+b").unwrap()["access_token"],
            first["access_token"]
        );
    }

    #[test]
    fn lifetime_beyond_the_clock_does_not_panic() {
        let issuer = issuer();
        issuer.settings_mut().lifetime = Some(Duration::MAX);
        assert!(ask(&issuer, "").is_ok());
    }

    #[test]
    fn scope_that_is_not_allowed_is_refused() {
        let issuer = issuer();
        issuer.settings_mut().allowed_scopes = Some(vec!["a".into()]);
        assert!(ask(&issuer, "&scope=a").is_ok());
        assert!(ask(&issuer, "&scope=a+b").is_err());
    }

    #[test]
    fn debug_shows_no_secret_and_no_token() {
        let issuer = issuer();
        let token = ask(&issuer, "").unwrap()["access_token"]
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

    fn ask(issuer: &Issuer, more: &str) -> Result<Value, Refusal> {
        let form = format!("grant_type=client_credentials&client_id=me&client_secret=hidden{more}");
        let asker = Asker {
            headers: &http::HeaderMap::new(),
            certificate: None,
            origin: "",
            path: "",
        };
        issuer.token(asker, &Form::parse(form.as_bytes()))
    }
}
