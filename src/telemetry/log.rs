//! The log event of each [`TokenEvent`].

use tracing::{debug, info, warn};

use super::TokenEvent;

pub(super) fn log(event: &TokenEvent<'_>) {
    match *event {
        TokenEvent::AttemptFailed {
            spec,
            attempt,
            error,
            pause,
        } => debug!(
            target: "tower_bearer",
            ?spec, kind = error.kind().as_str(), attempt, ?pause,
            "a token request failed and is tried again"
        ),
        TokenEvent::Fetched { token, elapsed } => debug!(
            target: "tower_bearer",
            spec = ?token.spec(), generation = token.generation(), reason = token.reason().as_str(),
            lifetime = ?token.lifetime(), ?elapsed,
            "a token was fetched"
        ),
        TokenEvent::FetchFailed {
            spec,
            reason,
            error,
            elapsed,
        } => warn!(
            target: "tower_bearer",
            ?spec, reason = reason.as_str(), kind = error.kind().as_str(), %error, ?elapsed,
            "no token could be fetched"
        ),
        TokenEvent::Waited { spec, elapsed } => debug!(
            target: "tower_bearer",
            ?spec, ?elapsed,
            "a request waited for a token"
        ),
        TokenEvent::Rejected { spec, generation } => debug!(
            target: "tower_bearer",
            ?spec, generation,
            "a token was rejected"
        ),
        TokenEvent::RejectionLimitReached {
            spec,
            generation,
            first: true,
        } => warn!(
            target: "tower_bearer",
            ?spec, generation,
            "tokens are rejected again and again: 401s pass until that ends"
        ),
        TokenEvent::RejectionLimitReached {
            spec,
            generation,
            first: false,
        } => debug!(
            target: "tower_bearer",
            ?spec, generation,
            "tokens are rejected again and again: 401s pass until that ends"
        ),
        TokenEvent::RecoveryFinished {
            spec,
            generation,
            recovery,
        } => debug!(
            target: "tower_bearer",
            ?spec, generation, recovery = recovery.as_str(),
            "a response refused the token"
        ),
        TokenEvent::Loaded { token, elapsed } => debug!(
            target: "tower_bearer",
            spec = ?token.spec(), generation = token.generation(), reason = token.reason().as_str(),
            lifetime = ?token.lifetime(), ?elapsed,
            "a token was taken from the store"
        ),
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed {
            work,
            error,
            first: true,
        } => warn!(
            target: "tower_bearer",
            work = work.as_str(), kind = error.kind().as_str(), %error,
            "the store fails: the cache does without, and tries again by itself"
        ),
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed {
            work,
            error,
            first: false,
        } => debug!(
            target: "tower_bearer",
            work = work.as_str(), kind = error.kind().as_str(), %error,
            "the store still fails"
        ),
        TokenEvent::StoreRecovered { work, after } => info!(
            target: "tower_bearer",
            work = work.as_str(), ?after,
            "the store is back"
        ),
        TokenEvent::StoreUnreadable {
            spec,
            why,
            first: true,
        } => warn!(
            target: "tower_bearer",
            ?spec, why,
            "what the store keeps can't be opened, and is replaced: is it another program's, or sealed with a key that is not in \
             the ring?"
        ),
        TokenEvent::StoreUnreadable {
            spec,
            why,
            first: false,
        } => debug!(
            target: "tower_bearer",
            ?spec, why,
            "what the store keeps can't be opened, and is replaced"
        ),
    }
}
