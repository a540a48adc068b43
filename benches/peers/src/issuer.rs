//! Where every contender's tokens come from: it counts what it was asked, answers late if told to, and can revoke.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode, header::AUTHORIZATION};

/// How long a token is, in bytes.
const TOKEN_LENGTH: usize = 1024;

/// How long a token lives, unless the issuer is told otherwise.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The source of all tokens, and the verify of those that are sent.
#[derive(Debug)]
pub struct Issuer {
    requests: AtomicU32,
    delay_ms: AtomicU64,
    lifetime_s: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    issued: u32,
    valid: HashSet<String>,
    sends: u32,
    last_sent: Option<String>,
}

/// A token, fresh from the issuer.
#[derive(Debug)]
pub struct Issued {
    pub token: String,
    pub lifetime: Duration,
}

impl Issuer {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            requests: AtomicU32::new(0),
            delay_ms: AtomicU64::new(0),
            lifetime_s: AtomicU64::new(LIFETIME.as_secs()),
            state: Mutex::default(),
        })
    }

    /// Issues a token for a scope, after the delay that is set.
    pub async fn issue(&self, scope: &str) -> Issued {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let mut state = self.state.lock().unwrap();
        state.issued += 1;
        let mut token = format!("{scope}.{}.", state.issued);
        token.extend(std::iter::repeat_n(
            't',
            TOKEN_LENGTH.saturating_sub(token.len()),
        ));
        state.valid.insert(token.clone());
        let lifetime = Duration::from_secs(self.lifetime_s.load(Ordering::Relaxed));
        Issued { token, lifetime }
    }

    /// What a protected API answers to a request with these headers.
    pub fn verify(&self, headers: &HeaderMap) -> StatusCode {
        let value = headers.get(AUTHORIZATION);
        self.verify_header(value.and_then(|value| value.to_str().ok()))
    }

    /// What a protected API answers to a request with this `Authorization`.
    pub fn verify_header(&self, value: Option<&str>) -> StatusCode {
        let mut state = self.state.lock().unwrap();
        state.sends += 1;
        let token = value.and_then(|value| value.strip_prefix("Bearer "));
        state.last_sent = token.map(str::to_owned);
        match token {
            Some(token) if state.valid.contains(token) => StatusCode::OK,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// No token issued so far is accepted any more.
    pub fn revoke_all(&self) {
        self.state.lock().unwrap().valid.clear();
    }

    pub fn set_delay(&self, delay: Duration) {
        self.delay_ms
            .store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))
    }

    /// How long the tokens live that are issued from now on.
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        let lifetime = lifetime.unwrap_or(LIFETIME);
        self.lifetime_s.store(lifetime.as_secs(), Ordering::Relaxed);
    }

    /// How often it was asked for a token.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many requests the API judged.
    pub fn sends(&self) -> u32 {
        self.state.lock().unwrap().sends
    }

    /// The scope of the token that the last request bore.
    pub fn last_scope(&self) -> Option<String> {
        let state = self.state.lock().unwrap();
        let token = state.last_sent.as_deref()?;
        // The number and the padding come after the scope.
        token.rsplitn(3, '.').nth(2).map(str::to_owned)
    }

    /// Counts from nought again.
    pub fn reset_counts(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.state.lock().unwrap().sends = 0;
    }
}
