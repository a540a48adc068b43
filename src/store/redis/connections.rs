//! Keeps one connection to Redis for each runtime.
//!
//! A connection is driven by a task of the runtime that established it, so each runtime needs a separate one. A connection is
//! established on first use and again after it breaks, by a task that continues when the caller has given up: otherwise a server
//! that is slow to connect would never be connected.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    sync::watch,
};

use super::{config::RedisConfig, connection::Connection};
use crate::store::{StoreError, StoreErrorKind};

/// The number of runtimes that can have a connection at once. Most programs have one runtime; tests have many.
const MAX_RUNTIMES: usize = 16;

/// The connections, by the runtime that drives them.
#[derive(Default)]
pub(super) struct Connections(Mutex<Vec<(Id, ConnectionReceiver)>>);

/// Receives a connection once it is established. All clones belong to the same connection.
pub(super) type ConnectionReceiver = watch::Receiver<Option<Result<Connection, StoreError>>>;

impl Connections {
    /// Returns the connection of this runtime, and establishes it if necessary.
    pub(super) async fn get(
        &self,
        config: &RedisConfig,
        limit: Duration,
    ) -> Result<(Connection, ConnectionReceiver), StoreError> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(StoreError::configuration(
                "redis can only be used within a Tokio runtime",
            ));
        };
        let receiver = self.receiver(&runtime, config, limit);
        let connection = match receiver.clone().wait_for(Option::is_some).await {
            Ok(connection) => connection.clone(),
            // The task panicked, or its runtime was shut down.
            Err(_) => None,
        };
        let connection = connection.unwrap_or_else(|| {
            Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the connection to redis was not established: build the Tokio runtime with enable_all, because it needs I/O",
            ))
        });
        if connection.is_err() {
            self.forget(&receiver);
        }
        Ok((connection?, receiver))
    }

    /// Removes a connection, so that later calls use another. Calls that have it already are not affected.
    pub(super) fn forget(&self, receiver: &ConnectionReceiver) {
        self.all()
            .retain(|(_, known)| !known.same_channel(receiver));
    }

    fn receiver(
        &self,
        runtime: &Handle,
        config: &RedisConfig,
        limit: Duration,
    ) -> ConnectionReceiver {
        let mut all = self.all();
        if let Some((_, receiver)) = all.iter().find(|(id, _)| *id == runtime.id()) {
            return receiver.clone();
        }
        if all.len() >= MAX_RUNTIMES {
            all.remove(0);
        }
        let (sender, receiver) = watch::channel(None);
        let config = config.clone();
        runtime.spawn(async move {
            sender.send_replace(Some(Connection::establish(&config, limit).await));
        });
        all.push((runtime.id(), receiver.clone()));
        receiver
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Id, ConnectionReceiver)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
