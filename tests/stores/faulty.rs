//! Checks that the store suite detects each kind of faulty store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tower_bearer::{
    store::{Fence, Lease, MemoryStore, Name, StoreError, TokenStore},
    testing::store_suite,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    ForgetsValues,
    KeepsValuesForEver,
    DeletesWhatDiffers,
    SaysItDeletedWhatWasNot,
    CutsLongValues,
    ReadsTextAlone,
    MixesUpCase,
    CutsNames,
    GivesEveryoneALease,
    NeverEndsALease,
    LetsAnyoneRelease,
    NeverReleases,
    RepeatsFences,
    IgnoresFences,
    RefusesThePresentFence,
    SharesNothing,
}

/// Each fault, and a part of the message of the check that detects it.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::ForgetsValues, "a stored value is returned"),
    (Fault::KeepsValuesForEver, "expires after its lifetime"),
    (Fault::DeletesWhatDiffers, "only an equal value"),
    (Fault::SaysItDeletedWhatWasNot, "can't be deleted"),
    (
        Fault::CutsLongValues,
        "large: a value is returned byte for byte",
    ),
    (
        Fault::ReadsTextAlone,
        "binary: a value is returned byte for byte",
    ),
    (Fault::MixesUpCase, "different names have different values"),
    (Fault::CutsNames, "different names have different values"),
    (Fault::GivesEveryoneALease, "a lease is granted once"),
    (Fault::NeverEndsALease, "a lease expires"),
    (Fault::LetsAnyoneRelease, "only its holder releases a lease"),
    (Fault::NeverReleases, "a released lease is granted again"),
    (Fault::RepeatsFences, "fences increase"),
    (
        Fault::IgnoresFences,
        "the holder of an expired lease can't overwrite",
    ),
    (
        Fault::RefusesThePresentFence,
        "a value with the current fence is stored",
    ),
    (Fault::SharesNothing, "returned to every handle"),
];

const FOREVER: Duration = Duration::from_secs(1 << 30);

struct FaultyStore {
    inner: MemoryStore,
    /// The current lease of each name.
    held: Arc<Mutex<HashMap<Name, Lease>>>,
    fault: Fault,
}

impl FaultyStore {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn name(&self, name: &Name) -> Name {
        let name = name.as_str();
        match self.fault {
            Fault::MixesUpCase => Name::new(&name.to_lowercase()),
            Fault::CutsNames => Name::new(&name[..name.len().min(30)]),
            _ => Name::new(name),
        }
        .unwrap()
    }
}

impl TokenStore for FaultyStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let value = self.inner.get(&self.name(name)).await?;
        Ok(value.map(|value| match self.fault {
            Fault::ReadsTextAlone => String::from_utf8_lossy(&value).into_owned().into(),
            _ => value,
        }))
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        let value = match self.fault {
            Fault::ForgetsValues => return Ok(true),
            Fault::CutsLongValues => value.slice(..value.len().min(1 << 16)),
            _ => value,
        };
        let lifetime = if self.is(Fault::KeepsValuesForEver) {
            FOREVER
        } else {
            lifetime
        };
        let fence = match self.fault {
            Fault::IgnoresFences => None,
            Fault::RefusesThePresentFence => fence.map(|fence| Fence::new(fence.get() - 1)),
            _ => fence,
        };
        self.inner
            .put(&self.name(name), value, lifetime, fence)
            .await
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        let name = self.name(name);
        let found = self.inner.get(&name).await?;
        match (self.fault, found) {
            (Fault::DeletesWhatDiffers, Some(found)) => self.inner.delete_if(&name, &found).await,
            (Fault::SaysItDeletedWhatWasNot, _) => {
                self.inner.delete_if(&name, value).await?;
                Ok(true)
            }
            _ => self.inner.delete_if(&name, value).await,
        }
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let name = self.name(name);
        let lifetime = match self.fault {
            Fault::NeverEndsALease => FOREVER,
            Fault::GivesEveryoneALease => Duration::ZERO,
            _ => lifetime,
        };
        if self.is(Fault::GivesEveryoneALease) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let lease = self.inner.lease(&name, lifetime).await?;
        if let Some(lease) = &lease {
            self.held.lock().unwrap().insert(name, lease.clone());
        }
        Ok(lease.map(|lease| match self.fault {
            Fault::RepeatsFences => Lease::new(Fence::new(7), lease.holder()),
            _ => lease,
        }))
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        let name = self.name(name);
        match self.fault {
            Fault::NeverReleases => Ok(()),
            Fault::LetsAnyoneRelease => {
                let held = self.held.lock().unwrap().remove(&name);
                match held {
                    Some(held) => self.inner.release(&name, held).await,
                    None => Ok(()),
                }
            }
            _ => self.inner.release(&name, lease).await,
        }
    }
}

#[test]
fn store_suite_names_the_broken_fact() {
    assert_eq!(found(Fault::None), None);
    for (fault, fact) in FAULTS {
        let found = found(*fault).unwrap_or_default();
        assert!(found.contains(fact), "{fault:?}: {found:?}");
    }
}

/// Returns the message of the suite's panic. The suite runs on a separate thread to catch it.
fn found(fault: Fault) -> Option<String> {
    let suite = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let shared = MemoryStore::new();
        let held = Arc::default();
        runtime.block_on(store_suite(async || FaultyStore {
            inner: match fault {
                Fault::SharesNothing => MemoryStore::new(),
                _ => shared.clone(),
            },
            held: Arc::clone(&held),
            fault,
        }));
    };
    let thread = std::thread::Builder::new().name(format!("{fault:?}"));
    let panic = thread.spawn(suite).unwrap().join().err()?;
    let message = panic.downcast_ref::<&str>().map(ToString::to_string);
    message.or_else(|| panic.downcast_ref::<String>().cloned())
}
