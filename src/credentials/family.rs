//! A refresh token and its descendants: one in force at a time, each used once, and none lost.
//!
//! Providers replace a refresh token whenever it is used, and take a second use for theft: then the whole family dies. So
//! exchanges of one family go one after the other. Who waits for its turn may give up. The exchange itself is a task of
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

/// How long an exchange may take, and how long its keeper: longer than a cache's flight, so that a late answer still counts.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Family {
    given: Secret,
    keeper: Option<Keeper>,
    state: Arc<Mutex<State>>,
}

/// What is told of each new refresh token.
pub(super) type Keeper = Arc<dyn Fn(Secret) -> Keeping + Send + Sync>;
pub(super) type Keeping = std::pin::Pin<Box<dyn Future<Output = Result<(), TokenError>> + Send>>;

#[derive(Default)]
struct State {
    /// The digest of the given token when it was last read.
    given: Option<[u8; 32]>,
    current: Zeroizing<String>,
    /// Why the provider will have nothing of it any more.
    dead: Option<TokenError>,
    /// Whether the keeper has yet to be told of the current one.
    unkept: bool,
}

impl Family {
    pub(super) fn new(given: Secret, keeper: Option<Keeper>) -> Self {
        Self {
            given,
            keeper,
            state: Arc::default(),
        }
    }

    pub(super) fn given(&self) -> &Secret {
        &self.given
    }

    /// The same with this keeper; what is known of the family stays behind.
    pub(super) fn with_keeper(&self, keeper: Keeper) -> Self {
        Self::new(self.given.clone(), Some(keeper))
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
        let keeper = self.keeper.clone();
        let exchange = async move {
            let outcome = timer::within(LIMIT, state.exchange(&endpoint, &request)).await;
            let outcome = outcome.unwrap_or_else(|| Err(late()));
            if let Some(keeper) = keeper {
                state.tell(&keeper).await;
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
                "the task that used the refresh token ended early: its runtime was shut down, or a transport or keeper \
                 panicked",
            ))
        })
    }
}

impl State {
    /// Looks at the given token. One that was replaced from outside begins a new family.
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
        // The subject had its part when the family began.
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
                self.unkept = true;
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::InvalidGrant => {
                self.dead = Some(error.clone());
            }
            Err(_) => {}
        }
        outcome
    }

    /// Tells the keeper of a token that it was not told of. What fails is tried again after the next exchange.
    async fn tell(&mut self, keeper: &Keeper) {
        if !self.unkept {
            return;
        }
        let keeping = keeper(Secret::new(self.current.as_str()));
        let fault = match timer::within(LIMIT, keeping).await {
            Some(Ok(())) => {
                self.unkept = false;
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
