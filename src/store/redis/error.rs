//! Translates errors of Redis to [`StoreError`]s.
//!
//! Redis echoes commands that it does not understand; if it does not know `AUTH`, the echo contains the password. An error
//! therefore contains only the code sent by Redis, or the message of the operating system.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{StoreError, StoreErrorKind};

/// Translates the error of a command or of a connection attempt.
pub(super) fn store_error(server: &str, error: &RedisError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let (kind, why): (_, String) = match error.kind() {
        ErrorKind::Io => match error.detail() {
            // The message of the operating system or of rustls, neither of which knows the password.
            None => (StoreErrorKind::Unavailable, format!("can't be reached: {error}")),
            // The messages of the nodes of a cluster.
            Some(detail) if LOGIN_ERRORS.iter().any(|code| detail.contains(code)) => login_refused(),
            Some(_) => (StoreErrorKind::Unavailable, "can't be reached, and neither can any other node of its cluster".into()),
        },
        ErrorKind::AuthenticationFailed => login_refused(),
        ErrorKind::Server(ServerErrorKind::NoPerm) => (
            StoreErrorKind::Refused,
            "denies a command: grant the user GET, SET, DEL, TIME and EVAL on the keys of the store".into(),
        ),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            (StoreErrorKind::Refused, "is a read-only replica: use the URL of the primary".into())
        }
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => (
            StoreErrorKind::Configuration,
            "is a node of a cluster: create the store with `RedisStore::cluster`".into(),
        ),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain,
        ) => (StoreErrorKind::Unavailable, format!("is not ready ({code})")),
        _ => match code {
            "OOM" => (StoreErrorKind::Refused, "is out of memory (OOM)".into()),
            "NOAUTH" | "WRONGPASS" => login_refused(),
            "MISCONF" => (StoreErrorKind::Refused, "can't save to its disk and refuses writes (MISCONF)".into()),
            "" => (StoreErrorKind::Broken, format!("sent an invalid response ({})", error.category())),
            _ => (StoreErrorKind::Broken, format!("returned an error ({})", shown_code(code))),
        },
    };
    StoreError::new(kind, format!("redis at {server} {why}"))
}

/// Returns `true` if the connection can't be used any more after this error.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        // After a failover, a new connection may lead to the new primary.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// The codes in the message of a node that does not accept the user or the password.
const LOGIN_ERRORS: &[&str] = &["AuthenticationFailed", "WRONGPASS", "NOAUTH"];

fn login_refused() -> (StoreErrorKind, String) {
    (
        StoreErrorKind::Refused,
        "does not accept the user and the password: check both".into(),
    )
}

/// Returns the code if it is a word in capitals. Any other text may contain secrets.
fn shown_code(code: &str) -> &str {
    let is_word = code.len() <= 20 && code.bytes().all(|c| c.is_ascii_uppercase());
    if is_word { code } else { "unknown code" }
}
