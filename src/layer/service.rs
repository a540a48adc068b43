//! The way of a request, top to bottom: [`Auth::call`] sends it with its token, [`ResponseFuture`] sees what comes of it.
//!
//! A request whose token is at hand takes one state, [`State::Sent`], which holds the client's own future and what is
//! needed to send once more. Everything else, waiting for a token and recovering from a refusal, happens in a
//! [`Detour`], behind a pointer, so that the usual way stays slim.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, header::AUTHORIZATION};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    drain::Draining,
    handle::{AvailableToken, HandleState, LayerShared, SharedPointer},
    replay::{CloneBody, ReplayPolicy},
    request::HttpRequest,
    response::HttpResponse,
    route_table::Found,
};
use crate::{
    cache::{Rejection, Slot, Waiting, Wish},
    error::{Error, TokenError},
    telemetry::TokenEvent,
    token::{Token, TokenSpec},
    verdict::{self, Recovery, Verdict},
};

/// A client whose requests bear the tokens they need; made by [`AuthLayer`](crate::AuthLayer).
///
/// It takes the requests that the client takes: `http::Request<B>` with any body, and `reqwest::Request`. A clone is
/// cheap. Each handle keeps a copy of the header value it used last, so a handle that is kept is faster than one that
/// is cloned for every request.
#[derive(Clone)]
pub struct Auth<S, R = CloneBody> {
    inner: S,
    handle: HandleState,
    replay: R,
}

/// With which token a request was sent.
#[derive(Clone)]
struct Sent {
    shared: Arc<SharedPointer>,
    route: u32,
    generation: u64,
    /// The request's own spec, if it had one.
    own: Option<TokenSpec>,
}

impl<S, R> Auth<S, R> {
    pub(crate) fn new(inner: S, layer: Arc<LayerShared>, replay: R) -> Self {
        Self {
            inner,
            handle: HandleState::new(layer),
            replay,
        }
    }

    /// The client.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The client, to change.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The client, without its tokens.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Auth<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("inner", &self.inner)
            .field("cache", &self.handle.layer().cache)
            .finish_non_exhaustive()
    }
}

impl<S, R, B> Service<http::Request<B>> for Auth<S, R>
where
    S: Service<http::Request<B>> + Clone,
    S::Response: HttpResponse,
    R: ReplayPolicy<http::Request<B>>,
    B: 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, http::Request<B>, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.send(request)
    }
}

#[cfg(feature = "reqwest")]
impl<S, R> Service<reqwest::Request> for Auth<S, R>
where
    S: Service<reqwest::Request> + Clone,
    S::Response: HttpResponse,
    R: ReplayPolicy<reqwest::Request>,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, reqwest::Request, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: reqwest::Request) -> Self::Future {
        self.send(request)
    }
}

impl<S, R> Auth<S, R> {
    /// Sends a request with the token it needs: at once if that is at hand, else when it is.
    #[inline(always)]
    pub(crate) fn send<Req>(&mut self, mut request: Req) -> ResponseFuture<S, Req, R>
    where
        S: Service<Req> + Clone,
        Req: HttpRequest,
        R: ReplayPolicy<Req>,
    {
        let routes = &self.handle.layer().routes;
        let found = routes.find_plain(request.scheme(), request.authority(), || request.path());
        let Some(route) = found else {
            return self.send_otherwise(request);
        };
        let own = request.spec();
        let available = match own {
            None => self.handle.token_of_route(route),
            Some(spec) => self.handle.token_of_spec(spec),
        };
        let Some(AvailableToken { header, generation }) = available else {
            return self.send_otherwise(request);
        };
        let sent = self.sent(route, generation, own.cloned());
        let spare = self.replay.keep(&self.inner, &mut request);
        // One look at the map for both questions: is there one, and where does it go.
        if request.headers_mut().append(AUTHORIZATION, header) {
            take_back(&mut request);
            return ResponseFuture::plain(self.inner.call(request));
        }
        // The service as it is: it was made ready for this.
        ResponseFuture::sent(self.inner.call(request), sent, spare)
    }

    /// The ways that are not the usual one.
    #[cold]
    fn send_otherwise<Req>(&mut self, mut request: Req) -> ResponseFuture<S, Req, R>
    where
        S: Service<Req> + Clone,
        Req: HttpRequest,
        R: ReplayPolicy<Req>,
    {
        let found = self.handle.layer().routes.find(&request.target());
        // The caller's own header, or a place that no route names: hands off, and its 401 is the caller's.
        let listed = !matches!(found, Found::Unlisted) || request.spec().is_some();
        if !listed || request.headers().contains_key(AUTHORIZATION) {
            return ResponseFuture::plain(self.inner.call(request));
        }
        let (route, slot) = match self.place(&request, found) {
            Ok(place) => place,
            Err(error) => {
                self.give_back();
                return ResponseFuture::failed(error);
            }
        };
        let own = request.spec().cloned();
        let cache = &self.handle.layer().cache;
        let now = cache.now();
        if let Some(token) = cache.without_waiting(&slot, now) {
            cache.count_hit(token.is_stale(now));
            let sent = self.sent(route, token.generation(), own);
            let spare = self.replay.keep(&self.inner, &mut request);
            token.apply(request.headers_mut());
            return ResponseFuture::sent(self.inner.call(request), sent, spare);
        }
        // Nothing holds a reserved slot while a token is fetched.
        let waiting = cache.waiting(slot, None);
        self.give_back();
        ResponseFuture::detour(Detour {
            step: Step::Fetch(waiting),
            service: self.inner.clone(),
            request: Some(request),
            sent: self.sent(route, 0, own),
            trip: Trip::First(self.replay.clone()),
        })
    }

    /// Gives back what the client reserved for a request that is not sent now: a clone takes its place.
    fn give_back(&mut self)
    where
        S: Clone,
    {
        let unready = self.inner.clone();
        drop(mem::replace(&mut self.inner, unready));
    }

    /// Which route a request is on, and which slot has its token.
    fn place<Req: HttpRequest>(
        &self,
        request: &Req,
        found: Found,
    ) -> Result<(u32, Arc<Slot>), TokenError> {
        let shared = self.handle.layer();
        match (found, request.spec()) {
            (Found::Refused(error), _) => Err(error),
            (Found::Unlisted, _) => Err(TokenError::configuration(
                "the request asks for a token, and no route names its origin: add a route, or take the spec off",
            )),
            (Found::Route(route), Some(spec)) => Ok((route, shared.cache.slot(spec)?)),
            (Found::Route(route), None) => Ok((route, Arc::clone(shared.slot(route)?))),
        }
    }

    #[inline]
    fn sent(&self, route: u32, generation: u64, own: Option<TokenSpec>) -> Sent {
        Sent {
            shared: Arc::clone(self.handle.pointer()),
            route,
            generation,
            own,
        }
    }
}

impl Sent {
    /// The slot of the token, made if there is none: nothing keeps it while a request is under way.
    fn slot(&self) -> Result<Arc<Slot>, TokenError> {
        let layer = &self.shared.layer;
        match &self.own {
            Some(spec) => layer.cache.slot(spec),
            None => layer.slot(self.route).cloned(),
        }
    }

    /// The slot of the token, if there is one.
    fn known_slot(&self) -> Option<Arc<Slot>> {
        let layer = &self.shared.layer;
        match &self.own {
            Some(spec) => layer.cache.known_slot(spec),
            None => layer.slot(self.route).ok().cloned(),
        }
    }

    fn spec(&self) -> Option<&TokenSpec> {
        let of_route = || self.shared.layer.spec(self.route);
        self.own.as_ref().or_else(of_route)
    }

    /// Whether the response says nothing about the token, as nearly all do; then the token was accepted.
    #[inline]
    fn accepted_by<Res: HttpResponse>(&self, response: &Res) -> bool {
        let concerned = verdict::concerns_the_token(response.status(), response.headers());
        !concerned && !self.shared.has_classifier
    }

    /// What the response says about the token, if it comes from where the token went.
    #[cold]
    fn judge<Res: HttpResponse>(&self, response: &Res) -> Verdict {
        if self.accepted_by(response) {
            return Verdict::Pass;
        }
        let (status, headers) = (response.status(), response.headers());
        let own = self.shared.layer.judge.as_ref();
        let verdict = own
            .and_then(|judge| judge(status, headers))
            .unwrap_or_else(|| verdict::judge(status, headers));
        // A redirect that the client followed may lead elsewhere; what is said there is nothing to us.
        let foreign = response
            .from()
            .is_some_and(|from| !self.shared.layer.routes.is_origin_of(self.route, &from));
        if foreign { Verdict::Pass } else { verdict }
    }

    /// Whether another token of the same source can have what is wanted.
    fn can_meet(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Rejected | Verdict::ClaimsRequired(_) => true,
            Verdict::ScopesRequired(scopes) => self.shared.layer.allows(self.route, scopes),
            Verdict::Pass | Verdict::StepUp { .. } | Verdict::DpopNonce => false,
        }
    }

    /// What came of it was good: the refusal of that token was a true one, and costs nothing.
    fn vindicate(&self, refused: u64) {
        if let Some(slot) = self.known_slot() {
            slot.vindicate(refused);
        }
    }

    /// Tells the caller, and the log, what was done about a refusal.
    fn note<Res: HttpResponse>(&self, response: &mut Res, recovery: Recovery) {
        if let Some(spec) = self.spec() {
            self.shared.layer.cache.tell(&TokenEvent::Refused {
                spec,
                generation: self.generation,
                recovery: &recovery,
            });
        }
        response.note(recovery);
    }
}

/// Takes our header off again: the caller had put one there.
#[cold]
fn take_back<Req: HttpRequest>(request: &mut Req) {
    let headers = request.headers_mut();
    let mut values: Vec<HeaderValue> = headers.get_all(AUTHORIZATION).iter().cloned().collect();
    values.pop();
    headers.remove(AUTHORIZATION);
    for value in values {
        headers.append(AUTHORIZATION, value);
    }
}

pin_project! {
    /// The response to come, of a request that bears its token.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<S, Req, R = CloneBody>
    where
        S: Service<Req>,
        R: ReplayPolicy<Req>,
    {
        #[pin]
        state: State<S::Future, R::Spare<S>, Box<Detour<S, Req, S::Response, R, R::Rest>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, Spare, Detour> {
        // The request is with the client. Without `with`, it bears no token of ours.
        Sent {
            #[pin]
            future: F,
            with: Option<(Sent, Spare)>,
        },
        // It waits for a token, its first or its second, and then for the client to be ready.
        Detour {
            detour: Detour,
        },
        // It is with the client for the second time.
        SentAgain {
            #[pin]
            future: F,
            sent: Sent,
            // The token that was refused the first time.
            refused: u64,
        },
        // It must not be sent.
        Failed {
            error: Option<TokenError>,
        },
    }
}

/// A request that can't be sent before there is a token.
struct Detour<S, Req, Res, R, Rest> {
    step: Step,
    service: S,
    request: Option<Req>,
    sent: Sent,
    trip: Trip<Res, R, Rest>,
}

enum Step {
    /// The token is on its way.
    Fetch(Waiting),
    /// It is here. The first answer is read to its end, so that its connection is free.
    Drain(Draining, Token),
    /// The client is not ready yet.
    Ready(Token),
}

enum Trip<Res, R, Rest> {
    /// The request was not sent yet.
    First(R),
    /// It was refused; the first answer is kept for as long as there may be no second one, and so is what the second sending
    /// takes away from the first.
    Again(Option<(Res, Rest)>),
}

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
                StateProjection::Sent { future, with } => {
                    // An error of the client's own says nothing about the token.
                    let mut response = ready!(future.poll(cx)).map_err(Error::Inner)?;
                    let Some((sent, spare)) = with else {
                        return Poll::Ready(Ok(response));
                    };
                    if sent.accepted_by(&response) {
                        return Poll::Ready(Ok(response));
                    }
                    let verdict = sent.judge(&response);
                    if matches!(verdict, Verdict::Pass) {
                        return Poll::Ready(Ok(response));
                    }
                    if !sent.can_meet(&verdict) {
                        sent.note(&mut response, Recovery::Unsatisfiable(verdict));
                        return Poll::Ready(Ok(response));
                    }
                    match recover(response, sent, verdict, R::take(spare)) {
                        // The client's future goes here, and the permits that it may hold.
                        Ok(detour) => State::Detour { detour },
                        Err(response) => return Poll::Ready(Ok(response)),
                    }
                }

                StateProjection::Detour { detour } => match &mut detour.step {
                    Step::Fetch(waiting) => {
                        let outcome = ready!(waiting.as_mut().poll(cx));
                        if let Err(end) = detour.arrived(outcome) {
                            return Poll::Ready(end.map_err(Error::Token));
                        }
                        continue;
                    }
                    Step::Drain(drained, token) => {
                        ready!(drained.as_mut().poll(cx));
                        detour.step = Step::Ready(token.clone());
                        continue;
                    }
                    Step::Ready(_) => {
                        ready!(detour.service.poll_ready(cx)).map_err(Error::Inner)?;
                        // That may have taken longer than the token serves.
                        if let Err(error) = detour.keep_fresh() {
                            return Poll::Ready(Err(Error::Token(error)));
                        }
                        if matches!(detour.step, Step::Fetch(_)) {
                            continue;
                        }
                        detour.send().unwrap_or_else(State::failed)
                    }
                },

                StateProjection::SentAgain {
                    future,
                    sent,
                    refused,
                } => {
                    let mut response = ready!(future.poll(cx)).map_err(Error::Inner)?;
                    // At most once: whatever this answer says is the caller's.
                    let recovery = match sent.judge(&response) {
                        Verdict::Pass => {
                            sent.vindicate(*refused);
                            Recovery::Recovered
                        }
                        Verdict::Rejected => Recovery::RejectedAgain,
                        wanted => Recovery::Unsatisfiable(wanted),
                    };
                    sent.note(&mut response, recovery);
                    return Poll::Ready(Ok(response));
                }

                StateProjection::Failed { error } => {
                    return Poll::Ready(Err(Error::Token(error.take().unwrap_or_else(spent))));
                }
            };
            state.set(next);
        }
    }
}

type DetourOf<S, Req, R> =
    Detour<S, Req, <S as Service<Req>>::Response, R, <R as ReplayPolicy<Req>>::Rest>;
type StateOf<S, Req, R> = State<
    <S as Service<Req>>::Future,
    <R as ReplayPolicy<Req>>::Spare<S>,
    Box<DetourOf<S, Req, R>>,
>;

/// Takes the refused token out of service, or notes what is wanted of the next, and sets out for that; or hands the refusal
/// on, with the reason.
fn recover<S, Req, R>(
    mut response: S::Response,
    sent: &Sent,
    verdict: Verdict,
    kept: Option<(S, Req, R::Rest)>,
) -> Result<Box<DetourOf<S, Req, R>>, S::Response>
where
    S: Service<Req>,
    S::Response: HttpResponse,
    R: ReplayPolicy<Req>,
{
    let cache = &sent.shared.layer.cache;
    let Ok(slot) = sent.slot() else {
        return Err(response);
    };
    let wish = match &verdict {
        Verdict::ClaimsRequired(claims) => Some(Wish::Claims(claims)),
        Verdict::ScopesRequired(scopes) => Some(Wish::Scopes(scopes)),
        _ => None,
    };
    match cache.reject_generation(&slot, sent.generation, wish) {
        Rejection::Dropped | Rejection::Outdated | Rejection::Superseded => {}
        Rejection::Disbelieved { .. } => {
            sent.note(&mut response, Recovery::RejectionLimitReached);
            return Err(response);
        }
        // It has these scopes, as far as its provider was asked, and they don't do.
        Rejection::Vain => {
            sent.note(&mut response, Recovery::Unsatisfiable(verdict));
            return Err(response);
        }
    }
    // If there is none at hand, this sets out for one, so that whoever comes next waits less.
    let at_hand = match wish {
        Some(Wish::Scopes(_)) => cache.wished_without_waiting(&slot),
        _ => cache.without_waiting(&slot, cache.now()),
    };
    let Some((service, request, rest)) = kept else {
        sent.note(&mut response, Recovery::NotReplayable);
        return Err(response);
    };
    let waiting = match wish {
        Some(Wish::Scopes(_)) if at_hand.is_none() => cache.waiting_as_wished(slot),
        _ => cache.waiting(slot, at_hand.as_ref()),
    };
    let mut detour = Box::new(Detour {
        step: Step::Fetch(waiting),
        service,
        request: Some(request),
        sent: sent.clone(),
        trip: Trip::Again(Some((response, rest))),
    });
    let Some(token) = at_hand else {
        return Ok(detour);
    };
    match detour.arrived(Ok(token)) {
        Ok(()) => Ok(detour),
        Err(Ok(response)) => Err(response),
        Err(Err(_)) => Ok(detour),
    }
}

impl<S, Req, Res: HttpResponse, R: ReplayPolicy<Req>> Detour<S, Req, Res, R, R::Rest> {
    /// The wait for the token is over. An error is the end of the way, with what the caller gets.
    fn arrived(
        &mut self,
        outcome: Result<Token, TokenError>,
    ) -> Result<(), Result<Res, TokenError>> {
        let refused = match &mut self.trip {
            Trip::First(_) => None,
            Trip::Again(refused) => refused.take(),
        };
        let Some((mut response, rest)) = refused else {
            self.step = Step::Ready(outcome.map_err(Err)?);
            return Ok(());
        };
        let reason = match outcome {
            Ok(token) if token.differs_from(self.sent.generation) => {
                if let Some(request) = &mut self.request {
                    R::complete(request, rest);
                }
                // What is left of the first answer goes before the client is asked again: its connection is in it.
                self.step = match response.drain() {
                    Some(draining) => Step::Drain(draining, token),
                    None => Step::Ready(token),
                };
                return Ok(());
            }
            Ok(_) => Recovery::SameToken,
            Err(error) => Recovery::NoToken(error),
        };
        self.sent.note(&mut response, reason);
        Err(Ok(response))
    }
}

impl<S, Req, R> DetourOf<S, Req, R>
where
    S: Service<Req> + Clone,
    Req: HttpRequest,
    R: ReplayPolicy<Req>,
{
    /// Sees to another token if the one that is here has expired meanwhile.
    fn keep_fresh(&mut self) -> Result<(), TokenError> {
        let cache = &self.sent.shared.layer.cache;
        let now = cache.now();
        match &self.step {
            Step::Ready(token) if token.times().end().is_past(now) => {}
            Step::Ready(_) | Step::Drain(..) | Step::Fetch(_) => return Ok(()),
        }
        let slot = self.sent.slot()?;
        self.step = match cache.without_waiting(&slot, now) {
            Some(token) => Step::Ready(token),
            None => {
                // Nothing holds a reserved slot while a token is fetched.
                self.service = self.service.clone();
                Step::Fetch(cache.waiting(slot, None))
            }
        };
        Ok(())
    }

    /// The token is here and the client is ready.
    fn send(&mut self) -> Result<StateOf<S, Req, R>, TokenError> {
        let (Step::Ready(token), Some(mut request)) = (&self.step, self.request.take()) else {
            return Err(spent());
        };
        let mut sent = self.sent.clone();
        sent.generation = token.generation();
        match &self.trip {
            Trip::First(replay) => {
                let spare = replay.keep(&self.service, &mut request);
                token.apply(request.headers_mut());
                let future = self.service.call(request);
                let with = Some((sent, spare));
                Ok(State::Sent { future, with })
            }
            Trip::Again(_) => {
                let refused = self.sent.generation;
                token.apply(request.headers_mut());
                sent.shared.layer.cache.count_replay();
                let future = self.service.call(request);
                Ok(State::SentAgain {
                    future,
                    sent,
                    refused,
                })
            }
        }
    }
}

impl<F, Spare, Detour> State<F, Spare, Detour> {
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
    #[inline]
    fn sent(future: S::Future, sent: Sent, spare: R::Spare<S>) -> Self {
        let with = Some((sent, spare));
        let state = State::Sent { future, with };
        Self { state }
    }

    fn plain(future: S::Future) -> Self {
        let state = State::Sent { future, with: None };
        Self { state }
    }

    fn detour(detour: DetourOf<S, Req, R>) -> Self {
        let detour = Box::new(detour);
        let state = State::Detour { detour };
        Self { state }
    }

    fn failed(error: TokenError) -> Self {
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

fn spent() -> TokenError {
    TokenError::configuration("the response future was polled again after its end: poll it once")
}
