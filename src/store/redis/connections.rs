//! The connections to Redis: one for each runtime, made by a task when it is first needed, and anew when it breaks.
//!
//! A connection is driven by a task of the runtime that made it, so another runtime has one of its own. A runtime that is gone took
//! its task with it, and nobody asks for its connection any more. The task that makes a connection goes on when the caller for
//! whom it began has lost patience: else nobody would ever be connected to a server that is slower to greet than to answer.

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

/// Runtimes that have a connection at once. There is one in nearly every program; tests have many.
const MOST: usize = 16;

/// The connections of all runtimes.
pub(super) struct Connections {
    slots: Mutex<Vec<RuntimeConnection>>,
    numbers: AtomicU64,
}

/// A connection, and its number.
#[derive(Clone)]
pub(super) struct NumberedConnection {
    pub(super) connection: Connection,
    pub(super) number: u64,
    /// Whether it was there before it was asked for.
    pub(super) is_used: bool,
}

struct RuntimeConnection {
    runtime: Id,
    number: u64,
    state: watch::Receiver<Option<Made>>,
}

type Made = Result<Connection, StoreError>;

impl Connections {
    pub(super) const fn new() -> Self {
        Self {
            slots: Mutex::new(Vec::new()),
            numbers: AtomicU64::new(0),
        }
    }

    /// The connection of this runtime, which is made if there is none.
    pub(super) async fn get(
        &self,
        config: &RedisConfig,
        patience: Duration,
    ) -> Result<NumberedConnection, StoreError> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(StoreError::new(
                StoreErrorKind::Configuration,
                "redis can be asked within a Tokio runtime alone",
            ));
        };
        let (number, mut state) = self.slot(&runtime, config, patience);
        let is_used = state.borrow().is_some();
        let made = match state.wait_for(Option::is_some).await {
            Ok(made) => made.clone(),
            // The task died: of a panic, or with its runtime.
            Err(_) => None,
        };
        match made {
            Some(Ok(connection)) => Ok(NumberedConnection {
                connection,
                number,
                is_used,
            }),
            Some(Err(error)) => {
                self.forget(number);
                Err(error)
            }
            None => {
                self.forget(number);
                Err(StoreError::new(
                    StoreErrorKind::Unavailable,
                    "the connection to redis was not finished: does the Tokio runtime have I/O (enable_all)?",
                ))
            }
        }
    }

    /// Lets nobody have this connection any more. Who has it may go on with it.
    pub(super) fn forget(&self, number: u64) {
        self.slots().retain(|slot| slot.number != number);
    }

    fn slot(
        &self,
        runtime: &Handle,
        config: &RedisConfig,
        patience: Duration,
    ) -> (u64, watch::Receiver<Option<Made>>) {
        let mut slots = self.slots();
        if let Some(slot) = slots.iter().find(|slot| slot.runtime == runtime.id()) {
            return (slot.number, slot.state.clone());
        }
        if slots.len() >= MOST {
            slots.remove(0);
        }
        let (tell, state) = watch::channel(None);
        let config = config.clone();
        runtime.spawn(async move {
            let made = connect(&config, patience).await;
            tell.send_replace(Some(made));
        });
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        slots.push(RuntimeConnection {
            runtime: runtime.id(),
            number,
            state: state.clone(),
        });
        (number, state)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Vec<RuntimeConnection>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
