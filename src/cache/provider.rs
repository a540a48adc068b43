//! Requests a token from the provider: the attempts of one fetch, within one timeout.

use tokio::time;

use super::{
    backoff, freshness,
    shared::{CacheShared, next_generation, random_fraction},
    slot::{FetchGuard, Fetched},
    stats::count,
};
use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    telemetry::{Telemetry, TokenEvent},
    token::{NewToken, TokenOrigin},
};

/// The result of a fetch, before it is stored in the slot.
pub(super) enum FetchResult {
    Token(Fetched),
    Failed(TokenError),
    /// No token was requested, because the source backs off for this error.
    BackingOff(TokenError),
}

/// Requests a token from the provider, unless the source backs off.
pub(super) async fn from_provider(
    shared: &CacheShared,
    guard: &FetchGuard,
    is_counted: &mut bool,
) -> FetchResult {
    if !std::mem::replace(is_counted, true) {
        count(&shared.counters.fetches);
    }
    // Other fetches may have failed since this one was started.
    if let Some(error) = shared.source_error(shared.now()) {
        return FetchResult::BackingOff(error);
    }
    let timeout = shared.settings.fetch_timeout;
    match time::timeout(timeout, attempt_until_final(shared, guard)).await {
        Ok(Ok(fetched)) => FetchResult::Token(fetched),
        Ok(Err(error)) => FetchResult::Failed(error),
        Err(_) => FetchResult::Failed(TokenError::new(
            ErrorKind::Timeout,
            format!(
                "the provider returned no token within {timeout:?}: it is slow, or the fetch timeout is too short"
            ),
        )),
    }
}

async fn attempt_until_final(
    shared: &CacheShared,
    guard: &FetchGuard,
) -> Result<Fetched, TokenError> {
    let mut request = guard.request();
    loop {
        // The lifetime counts from before the request is sent, because the server may create the token at any time after.
        let requested_at = shared.now();
        count(&shared.counters.token_requests);
        Telemetry::token_request();
        let error = match shared.source.fetch_boxed(&request).await {
            Ok(token) => return accept(shared, token, requested_at),
            Err(error) => error,
        };
        let Some(pause) = backoff::next_attempt(&error, request.attempt()) else {
            return Err(error);
        };
        shared.settings.telemetry.emit(&TokenEvent::AttemptFailed {
            spec: request.spec(),
            attempt: request.attempt(),
            error: &error,
            pause,
        });
        time::sleep(pause).await;
        request.next_attempt();
    }
}

fn accept(
    shared: &CacheShared,
    token: NewToken,
    requested_at: Moment,
) -> Result<Fetched, TokenError> {
    let lifetime = token.lifetime.unwrap_or(shared.settings.assumed_lifetime);
    let times = freshness::times(requested_at, lifetime, token.refresh_in, random_fraction());
    if times.unusable_at().is_past(shared.now()) {
        return Err(TokenError::new(
            ErrorKind::Malformed,
            format!(
                "the token had expired when it arrived (its lifetime is {lifetime:?}): check the provider's token lifetime"
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
