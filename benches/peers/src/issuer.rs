//! Issues the tokens of all contenders. It counts requests, can delay its responses, and can revoke tokens.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode, header::AUTHORIZATION};

/// The length of a token in bytes.
const TOKEN_LENGTH: usize = 1024;

/// The default lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Issues tokens, and verifies the tokens that an API receives.
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

/// A token that was just issued.
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

    /// Issues a token for a scope, after the configured delay.
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

    /// Returns the status of a protected API's response to a request with these headers.
    pub fn verify(&self, headers: &HeaderMap) -> StatusCode {
        let value = headers.get(AUTHORIZATION);
        self.verify_header(value.and_then(|value| value.to_str().ok()))
    }

    /// Returns the status of a protected API's response to a request with this `Authorization` header.
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

    /// Revokes all tokens that were issued so far.
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

    /// Sets the lifetime of tokens that are issued from now on. `None` sets the default.
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        let lifetime = lifetime.unwrap_or(LIFETIME);
        self.lifetime_s.store(lifetime.as_secs(), Ordering::Relaxed);
    }

    /// Returns the number of token requests.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of requests that the API received.
    pub fn sends(&self) -> u32 {
        self.state.lock().unwrap().sends
    }

    /// Returns the scope of the token in the last request.
    pub fn last_scope(&self) -> Option<String> {
        let state = self.state.lock().unwrap();
        let token = state.last_sent.as_deref()?;
        // The scope is followed by a number and the padding.
        token.rsplitn(3, '.').nth(2).map(str::to_owned)
    }

    /// Sets all counts to zero.
    pub fn reset_counts(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.state.lock().unwrap().sends = 0;
    }
}
