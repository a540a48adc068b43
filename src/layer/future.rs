//! [`ResponseFuture`]: sends a request, and recovers once if the server rejects its token.
//!
//! A request whose token is available takes one state, [`State::Sent`], which holds the client's future and what is needed to
//! send the request again. A request that waits for a token, its first or its second, is a [`Deferred`] request behind a
//! pointer, so that the common future stays small.

use std::{
    fmt, future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Error, Recovery, Verdict,
    drain::Draining,
    replay::{CloneBody, ReplayPolicy},
    request::HttpRequest,
    response::HttpResponse,
    sent_token::{RejectedToken, SentToken},
};
use crate::{
    cache::{Lookup, Need, Outcome, Slot, Waiter},
    error::TokenError,
    token::Token,
};

pin_project! {
    /// The response future of [`Auth`](super::Auth).
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<S, Req, R = CloneBody>
    where
        S: Service<Req>,
        R: ReplayPolicy<Req>,
    {
        #[pin]
        state: State<S::Future, R::Saved<S>, Box<Deferred<S, Req, S::Response, R, R::PausedBody>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, Saved, Deferred> {
        // The request is with the client. Without `token`, it carries no token of the layer.
        Sent {
            #[pin]
            future: F,
            token: Option<(SentToken, Saved)>,
        },
        // The request waits for a token, its first or its second, and then for the client to be ready.
        Deferred {
            request: Deferred,
        },
        // The request is with the client for the second time.
        Replayed {
            #[pin]
            future: F,
            sent: SentToken,
            rejected: RejectedToken,
        },
        // The request must not be sent.
        Failed {
            error: Option<TokenError>,
        },
    }
}

/// A request that is sent once there is a token.
struct Deferred<S, Req, Res, R, Paused> {
    step: Step,
    service: S,
    request: Option<Req>,
    /// The token that was rejected. Its generation is zero on the first attempt.
    sent: SentToken,
    /// The slot of the token to send next.
    slot: Arc<Slot>,
    attempt: Attempt<Res, R, Paused>,
}

enum Step {
    /// The token is being fetched.
    WaitForToken(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// The token is there. The rejected response is read to its end, so that its connection can be reused.
    Drain(Draining, Token),
    /// The client is not ready yet.
    WaitForClient(Token),
}

enum Attempt<Res, R, Paused> {
    /// The request has not been sent yet.
    First(R),
    Replay {
        rejected: RejectedToken,
        /// The rejected response, which is returned if there is no other token, and the paused first sending of the body.
        first: Option<(Res, Paused)>,
    },
}

/// What follows when a deferred request has got its token.
enum Arrived<Res> {
    Continue,
    Return(Res),
    Fail(TokenError),
}

type DeferredOf<S, Req, R> =
    Deferred<S, Req, <S as Service<Req>>::Response, R, <R as ReplayPolicy<Req>>::PausedBody>;
type StateOf<S, Req, R> = State<
    <S as Service<Req>>::Future,
    <R as ReplayPolicy<Req>>::Saved<S>,
    Box<DeferredOf<S, Req, R>>,
>;

impl<S, Req, R> Future for ResponseFuture<S, Req, R>
where
    S: Service<Req> + Clone,
    S::Response: HttpResponse,
    Req: HttpRequest,
    R: ReplayPolicy<Req>,
{
    type Output = Result<S::Response, Error<S::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Sent { future, token } => {
                    // An error of the client says nothing about the token.
                    let response = ready!(future.poll(cx)).map_err(Error::Inner)?;
                    let Some((sent, saved)) = token else {
                        return Poll::Ready(Ok(response));
                    };
                    let verdict = sent.classify(&response);
                    if matches!(verdict, Verdict::Pass) {
                        return Poll::Ready(Ok(response));
                    }
                    match recover(response, sent, verdict, R::take(saved)) {
                        // This drops the client's future, and the permits that it may hold.
                        Ok(request) => State::Deferred { request },
                        Err(response) => return Poll::Ready(Ok(response)),
                    }
                }

                StateProjection::Deferred { request } => match &mut request.step {
                    Step::WaitForToken(waiter) => {
                        let outcome = ready!(waiter.as_mut().poll(cx));
                        match request.token_arrived(outcome) {
                            Arrived::Continue => continue,
                            Arrived::Return(response) => return Poll::Ready(Ok(response)),
                            Arrived::Fail(error) => return Poll::Ready(Err(Error::Token(error))),
                        }
                    }
                    Step::Drain(draining, token) => {
                        ready!(draining.as_mut().poll(cx));
                        request.step = Step::WaitForClient(token.clone());
                        continue;
                    }
                    Step::WaitForClient(_) => {
                        ready!(request.service.poll_ready(cx)).map_err(Error::Inner)?;
                        // The token may have expired while the client was not ready.
                        request.replace_expired_token();
                        if matches!(request.step, Step::WaitForToken(_)) {
                            continue;
                        }
                        request.send().unwrap_or_else(State::failed)
                    }
                },

                StateProjection::Replayed {
                    future,
                    sent,
                    rejected,
                } => {
                    let mut response = ready!(future.poll(cx)).map_err(Error::Inner)?;
                    // A request is replayed at most once, so this response is returned whatever it says.
                    let recovery = match sent.classify(&response) {
                        Verdict::Pass => {
                            rejected.slot.refund(rejected.generation);
                            Recovery::Recovered
                        }
                        Verdict::Rejected => Recovery::RejectedAgain,
                        verdict => Recovery::Unsatisfiable(verdict),
                    };
                    sent.report(&mut response, recovery);
                    return Poll::Ready(Ok(response));
                }

                StateProjection::Failed { error } => {
                    let error = error.take().unwrap_or_else(polled_after_completion);
                    return Poll::Ready(Err(Error::Token(error)));
                }
            };
            state.set(next);
        }
    }
}

/// Rejects the token and defers the request until there is another; or returns the response, with the reason in its
/// extensions.
fn recover<S, Req, R>(
    mut response: S::Response,
    sent: &SentToken,
    verdict: Verdict,
    saved: Option<(S, Req, R::PausedBody)>,
) -> Result<Box<DeferredOf<S, Req, R>>, S::Response>
where
    S: Service<Req>,
    S::Response: HttpResponse,
    R: ReplayPolicy<Req>,
{
    let (slot, rejected) = match sent.reject(verdict) {
        Ok(next) => next,
        Err(recovery) => {
            sent.report(&mut response, recovery);
            return Err(response);
        }
    };
    let cache = &sent.shared.layer.cache;
    // Also without a replay, so that the fetch for the next request starts now.
    let lookup = cache.lookup(&slot, Need::Usable);
    let Some((service, request, paused)) = saved else {
        sent.report(&mut response, Recovery::NotReplayable);
        return Err(response);
    };
    let step = match lookup {
        Lookup::Ready(token) => {
            cache.count_hit(token.is_stale(cache.now()));
            Step::WaitForToken(Box::pin(future::ready(Ok(token))))
        }
        Lookup::Wait(waiter) => Step::wait_for(waiter),
    };
    Ok(Box::new(Deferred {
        step,
        service,
        request: Some(request),
        sent: sent.clone(),
        slot,
        attempt: Attempt::Replay {
            rejected,
            first: Some((response, paused)),
        },
    }))
}

impl Step {
    fn wait_for(waiter: Waiter) -> Self {
        Self::WaitForToken(Box::pin(waiter.wait_as_miss()))
    }
}

impl<S, Req, Res: HttpResponse, R: ReplayPolicy<Req>> Deferred<S, Req, Res, R, R::PausedBody> {
    /// Goes on with the token, or returns what the caller gets if there is none.
    fn token_arrived(&mut self, outcome: Outcome) -> Arrived<Res> {
        let rejected = match &mut self.attempt {
            Attempt::First(_) => None,
            Attempt::Replay { first, rejected } => first.take().map(|first| (first, rejected)),
        };
        let Some(((mut response, paused), rejected)) = rejected else {
            return match outcome {
                Ok(token) => {
                    self.step = Step::WaitForClient(token);
                    Arrived::Continue
                }
                Err(error) => Arrived::Fail(error),
            };
        };
        let reason = match outcome {
            Ok(token) if token.differs_from(self.sent.generation) => {
                if !Arc::ptr_eq(&self.slot, &rejected.slot) {
                    self.sent.use_for_route(&self.slot);
                }
                if let Some(request) = &mut self.request {
                    R::complete(request, paused);
                }
                self.step = match response.drain() {
                    Some(draining) => Step::Drain(draining, token),
                    None => Step::WaitForClient(token),
                };
                return Arrived::Continue;
            }
            Ok(_) => Recovery::SameToken,
            Err(error) => Recovery::NoToken(error),
        };
        self.sent.report(&mut response, reason);
        Arrived::Return(response)
    }
}

impl<S, Req, R> DeferredOf<S, Req, R>
where
    S: Service<Req> + Clone,
    Req: HttpRequest,
    R: ReplayPolicy<Req>,
{
    fn replace_expired_token(&mut self) {
        let cache = &self.sent.shared.layer.cache;
        match &self.step {
            Step::WaitForClient(token) if token.times().unusable_at().is_past(cache.now()) => {}
            Step::WaitForClient(_) | Step::Drain(..) | Step::WaitForToken(_) => return,
        }
        self.step = match cache.lookup(&self.slot, Need::Usable) {
            Lookup::Ready(token) => Step::WaitForClient(token),
            Lookup::Wait(waiter) => {
                // While the token is fetched, the request holds none of the client's permits.
                self.service = self.service.clone();
                Step::wait_for(waiter)
            }
        };
    }

    /// Sends the request. The token is there, and the client is ready.
    fn send(&mut self) -> Result<StateOf<S, Req, R>, TokenError> {
        let (Step::WaitForClient(token), Some(mut request)) = (&self.step, self.request.take())
        else {
            return Err(polled_after_completion());
        };
        let mut sent = self.sent.clone();
        sent.generation = token.generation();
        match &self.attempt {
            Attempt::First(replay) => {
                let saved = replay.save(&self.service, &mut request);
                token.apply(request.headers_mut());
                Ok(State::Sent {
                    future: self.service.call(request),
                    token: Some((sent, saved)),
                })
            }
            Attempt::Replay { rejected, .. } => {
                token.apply(request.headers_mut());
                sent.shared.layer.cache.count_replay();
                Ok(State::Replayed {
                    future: self.service.call(request),
                    sent,
                    rejected: rejected.clone(),
                })
            }
        }
    }
}

impl<F, Saved, Deferred> State<F, Saved, Deferred> {
    fn failed(error: TokenError) -> Self {
        let error = Some(error);
        Self::Failed { error }
    }
}

impl<S, Req, R> ResponseFuture<S, Req, R>
where
    S: Service<Req>,
    R: ReplayPolicy<Req>,
{
    /// Returns the future of a request that was sent, with what is needed to recover. Without that, the response is passed through.
    #[inline]
    pub(super) fn sent(future: S::Future, token: Option<(SentToken, R::Saved<S>)>) -> Self {
        let state = State::Sent { future, token };
        Self { state }
    }

    pub(super) fn wait_for_token(
        service: S,
        request: Req,
        sent: SentToken,
        slot: Arc<Slot>,
        waiter: Waiter,
        replay: R,
    ) -> Self {
        let request = Box::new(Deferred {
            step: Step::wait_for(waiter),
            service,
            request: Some(request),
            sent,
            slot,
            attempt: Attempt::First(replay),
        });
        let state = State::Deferred { request };
        Self { state }
    }

    pub(super) fn failed(error: TokenError) -> Self {
        let state = State::failed(error);
        Self { state }
    }
}

impl<S, Req, R> fmt::Debug for ResponseFuture<S, Req, R>
where
    S: Service<Req>,
    R: ReplayPolicy<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture(_)")
    }
}

fn polled_after_completion() -> TokenError {
    TokenError::configuration("the response future was polled after its completion: poll it once")
}
