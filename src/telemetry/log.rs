//! This module logs each [`TokenEvent`].

use std::time::Duration;

use tracing::{debug, info, warn};

use super::TokenEvent;
use crate::token::Token;

const TARGET: &str = "tower_bearer";

/// Logs at `WARN` if `$first` is true, otherwise at `DEBUG`.
macro_rules! warn_first {
    ($first:expr, $($event:tt)+) => {
        if $first {
            warn!(target: TARGET, $($event)+);
        } else {
            debug!(target: TARGET, $($event)+);
        }
    };
}

pub(super) fn log(event: &TokenEvent<'_>) {
    match *event {
        TokenEvent::AttemptFailed {
            spec,
            attempt,
            error,
            pause,
        } => {
            let kind = error.kind().as_str();
            debug!(target: TARGET, ?spec, kind, attempt, ?pause, "token request failed, retrying");
        }
        TokenEvent::Fetched { token, elapsed } => log_token(token, elapsed, "token fetched"),
        TokenEvent::FetchFailed {
            spec,
            reason,
            error,
            elapsed,
        } => {
            let (reason, kind) = (reason.as_str(), error.kind().as_str());
            warn!(target: TARGET, ?spec, reason, kind, %error, ?elapsed, "fetching a token failed");
        }
        TokenEvent::Waited { spec, elapsed } => {
            debug!(target: TARGET, ?spec, ?elapsed, "request waited for a token");
        }
        TokenEvent::Rejected { spec, generation } => {
            debug!(target: TARGET, ?spec, generation, "token rejected");
        }
        TokenEvent::RejectionLimitReached {
            spec,
            generation,
            first,
        } => warn_first!(
            first,
            ?spec,
            generation,
            "too many rejections: keeping the token and passing 401s through"
        ),
        TokenEvent::RecoveryFinished {
            spec,
            generation,
            recovery,
        } => {
            let recovery = recovery.as_str();
            debug!(target: TARGET, ?spec, generation, recovery, "response rejected the token");
        }
        TokenEvent::Loaded { token, elapsed } => {
            log_token(token, elapsed, "token loaded from the store");
        }
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed { work, error, first } => {
            let (work, kind) = (work.as_str(), error.kind().as_str());
            warn_first!(first, work, kind, %error, "store failed: continuing without it, and retrying later");
        }
        TokenEvent::StoreRecovered { work, after } => {
            info!(target: TARGET, work = work.as_str(), ?after, "store recovered");
        }
        TokenEvent::StoreUnreadable { spec, why, first } => warn_first!(
            first,
            ?spec,
            why,
            "stored token can't be decrypted, and is replaced: check that the key ring contains its key, and that no other \
             program uses this store"
        ),
    }
}

fn log_token(token: &Token, elapsed: Duration, message: &str) {
    debug!(
        target: TARGET,
        spec = ?token.spec(), generation = token.generation(), reason = token.reason().as_str(),
        lifetime = ?token.lifetime(), ?elapsed,
        "{message}"
    );
}
