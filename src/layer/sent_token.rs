//! [`SentToken`] classifies the response to a request, and rejects the token that the request was sent with.

use std::sync::Arc;

use super::{Recovery, Verdict, handle::SharedPointer, response::HttpResponse};
use crate::{
    cache::{Rejection, Slot},
    telemetry::TokenEvent,
    token::TokenSpec,
    verdict,
};

/// The maximum number of scopes that challenges may add to the spec of a route or of a request.
const MAX_EXTRA_SCOPES: usize = 64;

/// The token that a request was sent with. It names the token by its generation and holds no slot: a request in flight keeps
/// no entry of the cache from being evicted.
#[derive(Clone)]
pub(super) struct SentToken {
    pub(super) shared: Arc<SharedPointer>,
    pub(super) route: u32,
    /// Zero if the request has not been sent yet.
    pub(super) generation: u64,
    /// The request's own spec, if it has one.
    pub(super) own: Option<TokenSpec>,
}

/// The token that a replay replaces. A replay that is accepted refunds the rejection to its slot.
#[derive(Clone)]
pub(super) struct RejectedToken {
    pub(super) slot: Arc<Slot>,
    pub(super) generation: u64,
}

impl SentToken {
    /// Returns what the response says about the token. For most responses, this only checks the status.
    #[inline]
    pub(super) fn classify<Res: HttpResponse>(&self, response: &Res) -> Verdict {
        let concerns_token = verdict::concerns_the_token(response.status(), response.headers());
        if !concerns_token && !self.shared.has_classifier {
            return Verdict::Pass;
        }
        self.classify_fully(response)
    }

    #[cold]
    fn classify_fully<Res: HttpResponse>(&self, response: &Res) -> Verdict {
        let (status, headers) = (response.status(), response.headers());
        let layer = &self.shared.layer;
        let verdict = layer
            .classifier
            .as_ref()
            .and_then(|classifier| classifier(status, headers))
            .unwrap_or_else(|| verdict::classify(status, headers));
        // The client may have followed a redirect. Another origin's response says nothing about the token.
        let is_foreign = || {
            let from = response.from();
            from.is_some_and(|from| !layer.routes.is_origin_of(self.route, &from))
        };
        if matches!(verdict, Verdict::Pass) || is_foreign() {
            return Verdict::Pass;
        }
        verdict
    }

    /// Rejects the token. Returns the slot of the next token, and the rejected token. Returns an error if there is no next token.
    pub(super) fn reject(&self, verdict: Verdict) -> Result<(Arc<Slot>, RejectedToken), Recovery> {
        let layer = &self.shared.layer;
        let slot = layer.slot(self.route, self.own.as_ref());
        let slot = slot.map_err(Recovery::NoToken)?;
        let reject = |claims| {
            let rejection = layer
                .cache
                .reject_generation(&slot, self.generation, claims);
            Some((Arc::clone(&slot), Arc::clone(&slot), rejection))
        };
        let rejected = match &verdict {
            Verdict::Rejected => reject(None),
            Verdict::ClaimsRequired(claims) => reject(Some(claims)),
            Verdict::ScopesRequired(scopes) => self.require_scopes(&slot, scopes),
            Verdict::Pass | Verdict::StepUp { .. } | Verdict::DpopNonce => None,
        };
        match rejected {
            None => Err(Recovery::Unsatisfiable(verdict)),
            Some((_, _, Rejection::LimitReached { .. })) => Err(Recovery::RejectionLimitReached),
            Some((next, payer, Rejection::Applied | Rejection::Superseded)) => {
                let generation = self.generation;
                let slot = payer;
                Ok((next, RejectedToken { slot, generation }))
            }
        }
    }

    /// Returns the slot of the spec with these scopes in addition, if the route allows them and the token lacks any; and the slot
    /// whose rejection budget pays for it. That is the one of the spec without extra scopes, so that an API which requires
    /// other scopes each time does not get a new budget with each.
    fn require_scopes(
        &self,
        slot: &Arc<Slot>,
        scopes: &[String],
    ) -> Option<(Arc<Slot>, Arc<Slot>, Rejection)> {
        let layer = &self.shared.layer;
        if !layer.allows(self.route, scopes) {
            return None;
        }
        let wider = slot.spec().clone().with_scopes(scopes);
        if wider == *slot.spec() {
            // The current token was requested with these scopes. Another one may have been sent.
            let is_current = slot.current_generation() == self.generation;
            return (!is_current)
                .then(|| (Arc::clone(slot), Arc::clone(slot), Rejection::Superseded));
        }
        let base = self.spec()?;
        let max_scopes = base.iter_scopes().count() + MAX_EXTRA_SCOPES;
        if wider.check().is_err() || wider.iter_scopes().count() > max_scopes {
            return None;
        }
        let cache = &layer.cache;
        let payer = cache.slot(base).ok()?;
        let has_token = |slot: &Arc<Slot>| slot.usable(cache.now()).is_some();
        if let Some(wider_slot) = cache.known_slot(&wider).filter(has_token) {
            // Also if the request is not replayed: the route would be challenged forever.
            self.use_for_route(&wider_slot);
            return Some((wider_slot, payer, Rejection::Superseded));
        }
        let rejection = cache.spend_on_scopes(&payer, self.generation, &wider);
        let wider_slot = cache.slot(&wider).ok()?;
        wider_slot.inherit_claims(slot);
        Some((wider_slot, payer, rejection))
    }

    /// Makes the slot's token the one of the route, if a challenge required its scopes and the request had no spec of its own.
    pub(super) fn use_for_route(&self, slot: &Arc<Slot>) {
        if self.own.is_none() {
            self.shared.layer.widen(self.route, slot);
        }
    }

    /// Returns the request's own spec, or the one that its route was configured with.
    pub(super) fn spec(&self) -> Option<&TokenSpec> {
        let of_route = || self.shared.layer.spec(self.route);
        self.own.as_ref().or_else(of_route)
    }

    /// Reports to the caller and to the log what was done about a rejection.
    pub(super) fn report<Res: HttpResponse>(&self, response: &mut Res, recovery: Recovery) {
        if let Some(spec) = self.spec() {
            self.shared.layer.cache.emit(&TokenEvent::RecoveryFinished {
                spec,
                generation: self.generation,
                recovery: &recovery,
            });
        }
        response.set_recovery(recovery);
    }
}
