//! The task that fetches a slot's token, and the wait for it.
//!
//! A flight is a task of its own with its own deadline. It outlives every caller: who gives up ends only its own wait.
//! All who wait share its outcome, an error too. A flight that dies without one wakes those who wait, and one of them
//! starts another, in the runtime where it stands.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Instant},
};
use tracing::Instrument;

#[cfg(feature = "store")]
use super::second_level;
use super::{
    backoff::{self, Hold},
    fetch_limit::Place,
    provider::{Brought, from_provider},
    shared::{Core, Works, chance},
    slot::{Answer, Fetched, Landing, Outcome, Slot, Takeoff},
    stats::count,
};
use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    telemetry::{Telemetry, TokenEvent},
    token::{Token, TokenOrigin},
    util::timer,
};

/// How many flights may die under a waiter before it gives up.
const DEATHS: u32 = 3;
/// While the provider is left alone, a key looks into the store no more often than this.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// A token without waiting, if there is one; sees to it that a stale one is refreshed.
pub(super) fn without_waiting(core: &Core, slot: &Arc<Slot>, now: Moment) -> Option<Token> {
    let usable = slot.usable(now);
    usable
        .map(|token| Token::new(token, slot.spec().clone()))
        .or_else(|| at_once(core, slot, now, Slot::ask))
}

/// The same, if the token was asked for with all that servers want by now.
pub(super) fn wished_without_waiting(core: &Core, slot: &Arc<Slot>, now: Moment) -> Option<Token> {
    at_once(core, slot, now, Slot::ask_as_wished)
}

fn at_once(core: &Core, slot: &Arc<Slot>, now: Moment, ask: Ask) -> Option<Token> {
    let works = &core.works;
    match ask(slot, now, works.overdue(now), works.held_for_all(now)) {
        Answer::Have(token) => Some(token),
        Answer::HaveAndFetch(token, takeoff) => {
            launch(core, takeoff);
            Some(token)
        }
        Answer::Fetch(takeoff, _) => {
            // Whoever asked will wait for it.
            launch(core, takeoff);
            None
        }
        Answer::Wait(_) | Answer::Held(_) => None,
    }
}

/// A token, waited for if need be.
pub(super) async fn wait(core: &Core, slot: &Arc<Slot>) -> Outcome {
    wait_after(core, slot, Slot::ask).await
}

/// A token that is fetched now, however good the one in service is.
pub(super) async fn wait_anew(core: &Core, slot: &Arc<Slot>) -> Outcome {
    wait_after(core, slot, Slot::ask_anew).await
}

/// The same, counted as a miss and timed.
pub(super) async fn wait_as_a_miss(core: &Core, slot: &Arc<Slot>) -> Outcome {
    counted(core, slot, Slot::ask).await
}

/// A token that was asked for with all that servers want by now; counted as a miss and timed.
pub(super) async fn wait_as_wished(core: &Core, slot: &Arc<Slot>) -> Outcome {
    counted(core, slot, Slot::ask_as_wished).await
}

async fn counted(core: &Core, slot: &Arc<Slot>, ask: Ask) -> Outcome {
    let start = Instant::now();
    count(&core.works.counters.misses);
    Telemetry::miss();
    let outcome = wait_after(core, slot, ask).await;
    core.works.settings.telemetry.tell(&TokenEvent::Waited {
        spec: slot.spec(),
        elapsed: start.elapsed(),
    });
    outcome
}

type Ask = fn(&Arc<Slot>, Moment, Moment, Option<TokenError>) -> Answer;

/// Asks the slot, and waits and asks again until there is an outcome.
async fn wait_after(core: &Core, slot: &Arc<Slot>, ask: Ask) -> Outcome {
    let works = &core.works;
    let mut deaths = 0;
    loop {
        let now = works.now();
        let landing = match ask(slot, now, works.overdue(now), works.held_for_all(now)) {
            Answer::Have(token) => return Ok(token),
            Answer::HaveAndFetch(token, takeoff) => {
                launch(core, takeoff);
                return Ok(token);
            }
            Answer::Held(error) => return Err(error),
            Answer::Wait(landing) => landing,
            Answer::Fetch(takeoff, landing) => {
                launch(core, takeoff);
                landing
            }
        };
        match arrival(works, slot, landing).await {
            Arrival::Outcome(outcome) => return outcome,
            Arrival::Nothing => {}
            Arrival::Death => deaths += 1,
        }
        if deaths == DEATHS {
            return Err(died());
        }
    }
}

enum Arrival {
    Outcome(Outcome),
    /// Nothing that could be sent, or nothing yet: ask again.
    Nothing,
    Death,
}

async fn arrival(works: &Works, slot: &Slot, mut landing: Landing) -> Arrival {
    let patience = landing.patience(works.now());
    let outcome = landing.outcome();
    match timer::within(patience, outcome).await {
        // It may have been rejected, or have expired, since it landed. If it was only forgotten, it is still good.
        Some(Some(Ok(token))) if slot.is_over(&token, works.now()) => Arrival::Nothing,
        Some(Some(outcome)) => Arrival::Outcome(outcome),
        Some(None) => Arrival::Death,
        None => Arrival::Nothing,
    }
}

fn died() -> TokenError {
    TokenError::new(
        ErrorKind::Unavailable,
        "the token source ended without an answer, three times: it panics, or its runtime was shut down",
    )
}

fn launch(core: &Core, takeoff: Takeoff) {
    let Ok(runtime) = Handle::try_current() else {
        let error = TokenError::configuration(
            "a token is fetched by a Tokio task, and there is no Tokio runtime here: call from inside one",
        );
        return takeoff.fail(error, Moment::default(), |_| None);
    };
    let works = Arc::clone(&core.works);
    if timer::after(Duration::ZERO).is_none() {
        let error = TokenError::configuration(
            "a fetch has a deadline, and this Tokio runtime has no timers: build it with enable_time or enable_all",
        );
        return takeoff.fail(error, Moment::default(), |_| None);
    }
    let mut alive = core.alive();
    let span = Telemetry::fetch_span(takeoff.slot().spec(), takeoff.reason());
    // Where there is a store, the flight may end there.
    let asked = !works.has_store();
    if asked {
        count(&works.counters.fetches);
    }
    // Made here and not in the task: if the runtime never polls it, its drop still wakes those who wait.
    let flight = Flight {
        works,
        takeoff: Some(takeoff),
        asked,
    };
    let task = async move {
        tokio::select! {
            biased;
            // The last handle is gone, and with it everybody who could wait.
            _ = alive.changed() => {}
            () = flight.fly() => {}
        }
    };
    runtime.spawn(task.instrument(span));
}

struct Flight {
    works: Arc<Works>,
    takeoff: Option<Takeoff>,
    /// It counts as one to the provider.
    asked: bool,
}

impl Flight {
    async fn fly(mut self) {
        let Some(takeoff) = &self.takeoff else {
            return;
        };
        let works = Arc::clone(&self.works);
        let _place = queue(&works, takeoff).await;
        let start = Instant::now();
        let brought = self.bring().await;
        let (Some(brought), Some(takeoff)) = (brought, self.takeoff.take()) else {
            return;
        };
        match brought {
            Brought::Token(fetched) => land(&works, takeoff, fetched, start.elapsed()),
            Brought::Failure(error) => fail(&works, takeoff, error, start.elapsed()),
            Brought::Held(error) => give_up(&works, takeoff, error),
        }
    }

    /// A token from the store if there is one behind the cache, else from the provider. Nothing if the flight stepped back.
    async fn bring(&mut self) -> Option<Brought> {
        let works = &*self.works;
        #[cfg(feature = "store")]
        if let Some(fleet) = &works.fleet {
            // Boxed: who has no store need not carry it.
            let brought =
                second_level::load_or_fetch(works, fleet, &mut self.takeoff, &mut self.asked);
            return Box::pin(brought).await;
        }
        Some(from_provider(works, self.takeoff.as_ref()?, &mut self.asked).await)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.takeoff.is_some() && self.asked {
            count(&self.works.counters.fetch_failures);
        }
    }
}

/// Waits for one of the places that fetches share; the deadline starts after that.
async fn queue<'a>(works: &'a Works, takeoff: &Takeoff) -> Place<'a> {
    let now = works.now();
    if let Some(place) = works.places.take(now, works.overdue(now)) {
        return place;
    }
    loop {
        // In line before the look, so that none given back in between is missed.
        let mut returned = pin!(works.places.returned());
        returned.as_mut().enable();
        let now = works.now();
        let overdue = works.overdue(now);
        takeoff.delayed(overdue);
        if let Some(place) = works.places.take(now, overdue) {
            return place;
        }
        // The timer is for a place that nobody gives back.
        let _ = time::timeout(works.settings.fetch_timeout, returned).await;
    }
}

fn land(works: &Works, takeoff: Takeoff, fetched: Fetched, elapsed: Duration) {
    if fetched.origin == TokenOrigin::Provider {
        works.release_source(works.now());
    }
    takeoff.land(fetched, |slot, token| {
        works.map.weigh(slot);
        let event = match token.origin() {
            TokenOrigin::Provider => TokenEvent::Fetched { token, elapsed },
            TokenOrigin::Store => TokenEvent::Loaded { token, elapsed },
        };
        works.settings.telemetry.tell(&event);
        works
            .map
            .sweep_if_due(works.now(), works.settings.idle_time);
        works.publish_metrics();
    });
}

fn fail(works: &Works, takeoff: Takeoff, error: TokenError, elapsed: Duration) {
    let now = works.now();
    count(&works.counters.fetch_failures);
    works.settings.telemetry.tell(&TokenEvent::FetchFailed {
        spec: takeoff.slot().spec(),
        reason: takeoff.reason(),
        error: &error,
        elapsed,
    });
    if backoff::concerns_the_source(&error) {
        let quiet = works.hold_source(&error, now);
        takeoff.fail(error, quiet, |_| None);
    } else {
        let kept = error.clone();
        takeoff.fail(error, now, |before| {
            Some(Hold::after(before, kept, now, chance()))
        });
    }
}

/// The provider was left alone.
fn give_up(works: &Works, takeoff: Takeoff, error: TokenError) {
    let now = works.now();
    count(&works.counters.fetch_failures);
    let quiet = now + error.retry_after().unwrap_or_default();
    // Whoever asks is told so before it takes off; but where there is a store, each key looks there, once a second.
    let until_next_look = works.has_store().then(|| {
        let error = error.clone().with_retry_after(LOOKS_APART);
        Hold::after(None, error, now, 0.0)
    });
    takeoff.fail(error, quiet, |_| until_next_look);
}
