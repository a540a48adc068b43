//! Asking the provider: the attempts of one flight, within one deadline.

use tokio::time;

use super::{
    backoff, freshness,
    shared::{Works, chance, next_generation},
    slot::{Fetched, Takeoff},
    stats::count,
};
use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    telemetry::{Telemetry, TokenEvent},
    token::{NewToken, TokenOrigin},
};

/// What a flight comes back with.
pub(super) enum Brought {
    Token(Fetched),
    Failure(TokenError),
    /// The provider is left alone, for this.
    Held(TokenError),
}

/// A token from the provider, unless that is left alone.
pub(super) async fn from_provider(works: &Works, takeoff: &Takeoff, asked: &mut bool) -> Brought {
    if !std::mem::replace(asked, true) {
        count(&works.counters.fetches);
    }
    // Since it took off, others may have learnt that the provider is to be left alone.
    if let Some(error) = works.held(works.now()) {
        return Brought::Held(error);
    }
    match fetch(works, takeoff).await {
        Ok(fetched) => Brought::Token(fetched),
        Err(error) => Brought::Failure(error),
    }
}

async fn fetch(works: &Works, takeoff: &Takeoff) -> Result<Fetched, TokenError> {
    let timeout = works.settings.fetch_timeout;
    time::timeout(timeout, attempts(works, takeoff))
        .await
        .unwrap_or_else(|_| {
            Err(TokenError::new(
                ErrorKind::Timeout,
                format!("the provider gave no token within {timeout:?}: it is slow, or the fetch timeout is too short"),
            ))
        })
}

async fn attempts(works: &Works, takeoff: &Takeoff) -> Result<Fetched, TokenError> {
    let mut request = takeoff.request();
    loop {
        // The lifetime counts from before the request is sent: nobody knows when the server made the token.
        let asked = works.now();
        count(&works.counters.token_requests);
        Telemetry::token_request();
        let error = match works.source.fetch_boxed(&request).await {
            Ok(token) => return judge(works, token, asked),
            Err(error) => error,
        };
        let Some(pause) = backoff::next_attempt(&error, request.attempt()) else {
            return Err(error);
        };
        works.settings.telemetry.tell(&TokenEvent::AttemptFailed {
            spec: request.spec(),
            attempt: request.attempt(),
            error: &error,
            pause,
        });
        time::sleep(pause).await;
        request.next_attempt();
    }
}

fn judge(works: &Works, token: NewToken, asked: Moment) -> Result<Fetched, TokenError> {
    let lifetime = token.lifetime.unwrap_or(works.settings.assumed_lifetime);
    let times = freshness::plan(asked, lifetime, token.refresh_in, chance());
    if times.end().is_past(works.now()) {
        return Err(TokenError::new(
            ErrorKind::Malformed,
            format!(
                "the token was expired when it arrived (its lifetime is {lifetime:?}): check the provider's lifetimes"
            ),
        ));
    }
    Ok(Fetched {
        token,
        times,
        generation: next_generation(),
        origin: TokenOrigin::Provider,
    })
}
