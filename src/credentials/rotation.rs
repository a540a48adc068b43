//! Implements rotating refresh tokens: each is used once, and none is lost.
//!
//! A provider may replace a refresh token at each use, and treats a second use of it as theft: it then revokes the whole
//! grant. So exchanges are serialized. A caller may be cancelled while it waits for its turn. The exchange itself is a
//! separate task that ends only with the response, at its deadline, or with its runtime: the new refresh token is stored even
//! if no caller waits for the access token anymore.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Mutex};
use tracing::{Instrument, error};
use zeroize::Zeroizing;

use super::endpoint::TokenEndpoint;
use crate::{
    error::{ErrorKind, TokenError},
    oauth::TokenResponse,
    secret::Secret,
    source::TokenRequest,
    util::{fingerprint::Fingerprint, timer},
};

/// The time limit of an exchange, and that of its callback. It is longer than the fetch timeout of a cache, so that the refresh
/// token of a late response is stored.
const LIMIT: Duration = Duration::from_secs(30);

/// A refresh token, and those that replaced it.
pub(super) struct RotatingToken {
    pub(super) given: Secret,
    callback: Option<RotationCallback>,
    state: Arc<Mutex<State>>,
}

/// Receives each new refresh token.
pub(super) type RotationCallback = Arc<dyn Fn(Secret) -> CallbackFuture + Send + Sync>;
type CallbackFuture = Pin<Box<dyn Future<Output = Result<(), TokenError>> + Send>>;

#[derive(Default)]
struct State {
    /// The fingerprint of the given token at its last read.
    given: Option<Fingerprint>,
    current: Zeroizing<String>,
    /// The error by which the provider ended the grant.
    revoked: Option<TokenError>,
    /// Whether the callback has not received the current token yet.
    unreported: bool,
}

impl RotatingToken {
    pub(super) fn new(given: Secret, callback: Option<RotationCallback>) -> Self {
        Self {
            given,
            callback,
            state: Arc::default(),
        }
    }

    /// Uses the current refresh token, stores its replacement, and passes that to the callback.
    pub(super) async fn refresh(
        &self,
        endpoint: &TokenEndpoint,
        request: &TokenRequest,
    ) -> Result<TokenResponse, TokenError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        state.read(&self.given)?;
        if let Some(error) = &state.revoked {
            return Err(error.clone());
        }
        let (endpoint, request) = (endpoint.clone(), request.clone());
        let callback = self.callback.clone();
        let exchange = async move {
            let outcome = timer::within(LIMIT, state.exchange(&endpoint, &request)).await;
            let outcome = outcome.unwrap_or_else(|| {
                Err(TokenError::new(
                    ErrorKind::Timeout,
                    format!(
                        "the provider did not answer the exchange of the refresh token within {LIMIT:?}: check whether it \
                         is overloaded"
                    ),
                ))
            });
            if let Some(callback) = callback
                && state.unreported
            {
                state.notify(&callback).await;
            }
            outcome
        };
        let Ok(runtime) = Handle::try_current() else {
            return exchange.await;
        };
        let task = runtime.spawn(exchange.in_current_span());
        task.await.unwrap_or_else(|_| {
            Err(TokenError::new(
                ErrorKind::Unavailable,
                "the task that exchanged the refresh token ended early: its runtime was shut down, or the transport or \
                 the rotation callback panicked",
            ))
        })
    }
}

impl State {
    /// Reads the given token. If it was replaced, starts over with the new one.
    fn read(&mut self, given: &Secret) -> Result<(), TokenError> {
        let text = given.expose()?;
        let fingerprint = Some(Fingerprint::of(text.as_str().as_bytes()));
        if self.given != fingerprint {
            *self = Self {
                given: fingerprint,
                current: Zeroizing::new(text.as_str().to_owned()),
                ..Self::default()
            };
        }
        Ok(())
    }

    async fn exchange(
        &mut self,
        endpoint: &TokenEndpoint,
        request: &TokenRequest,
    ) -> Result<TokenResponse, TokenError> {
        // RFC 6749 §6: "grant_type REQUIRED. Value MUST be set to "refresh_token"."
        let params = [("refresh_token", self.current.as_str())];
        // If the spec has a subject, the refresh token was issued for it.
        let outcome = endpoint.exchange(request, "refresh_token", &params).await;
        match &outcome {
            Ok(response) => {
                // RFC 6749 §6: "The authorization server MAY issue a new refresh token, in which case the client MUST
                // discard the old refresh token and replace it with the new refresh token."
                let new = response.refresh_token.as_ref();
                if let Some(new) = new.filter(|new| **new != self.current) {
                    self.current = new.clone();
                    self.unreported = true;
                }
            }
            Err(error) => {
                let ended = error.kind() == ErrorKind::InvalidGrant;
                self.revoked = ended.then(|| error.clone());
            }
        }
        outcome
    }

    /// Passes a new token to the callback. If that fails, it is repeated after the next exchange.
    async fn notify(&mut self, callback: &RotationCallback) {
        let notified = callback(Secret::new(self.current.as_str()));
        let fault = match timer::within(LIMIT, notified).await {
            Some(Ok(())) => {
                self.unreported = false;
                return;
            }
            Some(Err(error)) => error.to_string(),
            None => "it timed out".to_owned(),
        };
        error!(
            target: "tower_bearer::credentials",
            fault,
            "the rotation callback failed: a restart now would lose the new refresh token",
        );
    }
}

impl fmt::Debug for RotatingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RotatingToken(redacted)")
    }
}
