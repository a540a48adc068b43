//! What Redis said no with, in our words.
//!
//! Redis echoes what it does not understand. To a server that knows no `AUTH` that would be the password, so its own
//! text goes into no error: only its code, and what the system says of a connection.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::{StoreError, StoreErrorKind};

/// The error of a command, or of a connection that could not be made, to the server of this name.
pub(super) fn store_error(server: &str, error: &RedisError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let (kind, why): (_, String) = match error.kind() {
        // The system's words, or rustls's: both know no password.
        ErrorKind::Io => match error.detail() {
            // The system's words, or rustls's: both know no password.
            None => (StoreErrorKind::Unavailable, format!("can't be reached: {error}")),
            // What the nodes of a cluster said, each in its own words.
            Some(detail) if REFUSALS.iter().any(|word| detail.contains(word)) => refuses_us(),
            Some(_) => (StoreErrorKind::Unavailable, "can't be reached, nor any other node of its cluster".into()),
        },
        ErrorKind::AuthenticationFailed => refuses_us(),
        ErrorKind::Server(ServerErrorKind::NoPerm) => (
            StoreErrorKind::Refused,
            "does not permit what the store needs: allow the user GET, SET, DEL, TIME, EVALSHA and EVAL on its keys".into(),
        ),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => {
            (StoreErrorKind::Refused, "is a replica that can't be written to: name the primary".into())
        }
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => (
            StoreErrorKind::Configuration,
            "is one node of a cluster: make the store by `RedisStore::cluster`".into(),
        ),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain,
        ) => (StoreErrorKind::Unavailable, format!("is not ready ({code})")),
        _ => match code {
            "OOM" => (StoreErrorKind::Refused, "is out of memory (OOM)".into()),
            "NOAUTH" | "WRONGPASS" => refuses_us(),
            "MISCONF" => (StoreErrorKind::Refused, "can't save to its disk and takes no writes (MISCONF)".into()),
            "" => (StoreErrorKind::Broken, format!("gave an answer that makes no sense ({})", error.category())),
            _ => (StoreErrorKind::Broken, format!("answered with an error ({})", shown_code(code))),
        },
    };
    StoreError::new(kind, format!("redis at {server} {why}"))
}

/// Whether the connection is of no use any more, as far as this error tells.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        // After a failover the name may lead to the new primary.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// What is in the words of a node that does not accept the user or the password.
const REFUSALS: &[&str] = &["AuthenticationFailed", "WRONGPASS", "NOAUTH"];

fn refuses_us() -> (StoreErrorKind, String) {
    (
        StoreErrorKind::Refused,
        "does not accept the user and the password: look at both".into(),
    )
}

/// A code is a word in capitals; what is none may be anything.
fn shown_code(code: &str) -> &str {
    let is_word = code.len() <= 20 && code.bytes().all(|c| c.is_ascii_uppercase());
    if is_word { code } else { "unknown code" }
}
