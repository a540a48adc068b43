//! Keeps one connection to Redis for each runtime.
//!
//! A connection is driven by a task of the runtime that established it, so each runtime needs a separate one. A connection is
//! established on first use and again after it breaks, by a task that continues when the caller has given up: otherwise a server
//! that is slow to connect would never be connected.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    sync::watch,
};

use super::{
    config::RedisConfig,
    connection::{Connection, connect},
};
use crate::store::{StoreError, StoreErrorKind};

/// The number of runtimes that can have a connection at once. Most programs have one runtime; tests have many.
const MAX_RUNTIMES: usize = 16;

/// The connections of all runtimes.
pub(super) struct Connections {
    all: Mutex<Vec<RuntimeConnection>>,
    next_number: AtomicU64,
}

/// A connection with its number.
#[derive(Clone)]
pub(super) struct NumberedConnection {
    pub(super) connection: Connection,
    pub(super) number: u64,
    /// Whether it was established before this call.
    pub(super) is_reused: bool,
}

struct RuntimeConnection {
    runtime: Id,
    number: u64,
    state: watch::Receiver<Option<ConnectResult>>,
}

type ConnectResult = Result<Connection, StoreError>;

impl Connections {
    pub(super) const fn new() -> Self {
        Self {
            all: Mutex::new(Vec::new()),
            next_number: AtomicU64::new(0),
        }
    }

    /// Returns the connection of this runtime, and establishes it if necessary.
    pub(super) async fn get(
        &self,
        config: &RedisConfig,
        limit: Duration,
    ) -> Result<NumberedConnection, StoreError> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(StoreError::new(
                StoreErrorKind::Configuration,
                "redis can only be used within a Tokio runtime",
            ));
        };
        let (number, mut state) = self.receiver(&runtime, config, limit);
        let is_reused = state.borrow().is_some();
        let made = match state.wait_for(Option::is_some).await {
            Ok(made) => made.clone(),
            // The task panicked, or its runtime was shut down.
            Err(_) => None,
        };
        match made {
            Some(Ok(connection)) => Ok(NumberedConnection {
                connection,
                number,
                is_reused,
            }),
            Some(Err(error)) => {
                self.forget(number);
                Err(error)
            }
            None => {
                self.forget(number);
                Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    "the connection to redis was not established: build the Tokio runtime with enable_all, because it needs I/O",
                ))
            }
        }
    }

    /// Removes a connection, so that later calls use another. Calls that have it already are not affected.
    pub(super) fn forget(&self, number: u64) {
        self.all().retain(|entry| entry.number != number);
    }

    fn receiver(
        &self,
        runtime: &Handle,
        config: &RedisConfig,
        limit: Duration,
    ) -> (u64, watch::Receiver<Option<ConnectResult>>) {
        let mut all = self.all();
        if let Some(entry) = all.iter().find(|entry| entry.runtime == runtime.id()) {
            return (entry.number, entry.state.clone());
        }
        if all.len() >= MAX_RUNTIMES {
            all.remove(0);
        }
        let (sender, state) = watch::channel(None);
        let config = config.clone();
        runtime.spawn(async move {
            let made = connect(&config, limit).await;
            sender.send_replace(Some(made));
        });
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        all.push(RuntimeConnection {
            runtime: runtime.id(),
            number,
            state: state.clone(),
        });
        (number, state)
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<RuntimeConnection>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
