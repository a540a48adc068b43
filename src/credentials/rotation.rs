//! A refresh token and its descendants: one in force at a time, each used once, and none lost.
//!
//! Providers replace a refresh token whenever it is used, and take a second use for theft: then the whole rotating dies. So
//! exchanges of one rotating go one after the other. Who waits for its turn may give up. The exchange itself is a task of
//! its own that nobody but its own deadline and the end of the runtime can cancel: when the provider has answered, the new
//! token is kept, even if nobody waits for the access token any more.

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::Mutex};
use tracing::{Instrument, error};
use zeroize::Zeroizing;

use super::{endpoint::TokenEndpoint, exchange::Grant};
use crate::{
    error::{ErrorKind, TokenError},
    oauth::TokenResponse,
    secret::Secret,
    source::TokenRequest,
    util::timer,
};

/// How long an exchange may take, and how long its callback: longer than a cache's flight, so that a late answer still counts.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) struct RotatingToken {
    given: Secret,
    callback: Option<RotationCallback>,
    state: Arc<Mutex<State>>,
}

/// What is told of each new refresh token.
pub(super) type RotationCallback = Arc<dyn Fn(Secret) -> CallbackFuture + Send + Sync>;
pub(super) type CallbackFuture =
    std::pin::Pin<Box<dyn Future<Output = Result<(), TokenError>> + Send>>;

#[derive(Default)]
struct State {
    /// The digest of the given token when it was last read.
    given: Option<[u8; 32]>,
    current: Zeroizing<String>,
    /// Why the provider will have nothing of it any more.
    dead: Option<TokenError>,
    /// Whether the callback has yet to be told of the current one.
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

    pub(super) fn given(&self) -> &Secret {
        &self.given
    }

    /// The same with this callback; what is known of the rotating stays behind.
    pub(super) fn with_callback(&self, callback: RotationCallback) -> Self {
        Self::new(self.given.clone(), Some(callback))
    }

    /// Uses the current refresh token, and keeps the one that comes back.
    pub(super) async fn refresh(
        &self,
        endpoint: &TokenEndpoint,
        request: &TokenRequest,
    ) -> Result<TokenResponse, TokenError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        state.read(&self.given)?;
        if let Some(error) = &state.dead {
            return Err(error.clone());
        }
        let (endpoint, request) = (endpoint.clone(), request.clone());
        let callback = self.callback.clone();
        let exchange = async move {
            let outcome = timer::within(LIMIT, state.exchange(&endpoint, &request)).await;
            let outcome = outcome.unwrap_or_else(|| Err(late()));
            if let Some(callback) = callback {
                state.tell(&callback).await;
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
                "the task that used the refresh token ended early: its runtime was shut down, or a transport or callback \
                 panicked",
            ))
        })
    }
}

impl State {
    /// Looks at the given token. One that was replaced from outside begins a new rotating.
    fn read(&mut self, given: &Secret) -> Result<(), TokenError> {
        let text = given.expose()?;
        let digest = Sha256::digest(text.as_str()).into();
        if self.given == Some(digest) {
            return Ok(());
        }
        *self = Self {
            given: Some(digest),
            current: Zeroizing::new(text.as_str().to_owned()),
            ..Self::default()
        };
        Ok(())
    }

    async fn exchange(
        &mut self,
        endpoint: &TokenEndpoint,
        request: &TokenRequest,
    ) -> Result<TokenResponse, TokenError> {
        // RFC 6749 §6: "grant_type REQUIRED. Value MUST be set to "refresh_token"."
        let params = [("refresh_token", self.current.as_str())];
        let mut grant = Grant::new("refresh_token", &params);
        // The subject had its part when the rotating began.
        grant.with_subject = true;
        let outcome = endpoint.exchange(request, grant).await;
        match &outcome {
            // RFC 6749 §6: "The authorization server MAY issue a new refresh token, in which case the client MUST discard
            // the old refresh token and replace it with the new refresh token."
            Ok(TokenResponse {
                refresh_token: Some(new),
                ..
            }) if *new != self.current => {
                self.current = new.clone();
                self.unreported = true;
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::InvalidGrant => {
                self.dead = Some(error.clone());
            }
            Err(_) => {}
        }
        outcome
    }

    /// Tells the callback of a token that it was not told of. What fails is tried again after the next exchange.
    async fn tell(&mut self, callback: &RotationCallback) {
        if !self.unreported {
            return;
        }
        let notified = callback(Secret::new(self.current.as_str()));
        let fault = match timer::within(LIMIT, notified).await {
            Some(Ok(())) => {
                self.unreported = false;
                return;
            }
            Some(Err(error)) => error.to_string(),
            None => "it took too long".to_owned(),
        };
        error!(
            target: "tower_bearer::credentials",
            fault,
            "the new refresh token was not kept: a restart now would lose the sign-in",
        );
    }
}

fn late() -> TokenError {
    TokenError::new(
        ErrorKind::Timeout,
        format!(
            "the provider did not answer to the refresh token within {LIMIT:?}: it is slow, or out of order"
        ),
    )
}
