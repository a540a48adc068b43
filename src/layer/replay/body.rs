//! A body that is sent and kept, so that it can be sent once more.
//!
//! The body itself stands behind a lock that its first sending and whoever keeps it share. The first sending takes frame
//! after frame from it, and keeps a copy of each, up to the limit. To send again is to take the body away: what was kept goes
//! first, and then the rest, which nobody has seen yet. So it does not matter how far the first sending came, nor whether
//! the client has let go of it yet: from then on it gets an error, and never what would look like an end.
//!
//! Between the refusal and the next token nobody knows yet which it will be. Until then the first sending is paused: what is
//! kept stays whole, and if there is no other token, it goes on, and the first answer reaches the caller whole.
//!
//! Beyond the limit the first sending takes the body for itself, and what was kept is dropped.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::chunks::Copies;

type BoxError = Box<dyn Error + Send + Sync>;

/// A body that can be sent twice; what [`AuthLayer::with_body_buffer`](crate::AuthLayer::with_body_buffer) puts around the client's own.
///
/// Frames and trailers are handed on as they come. Its errors are those of the body inside, boxed.
pub struct ReplayBody<B>(Side<B>);

enum Side<B> {
    /// It is sent for the first time, and kept.
    First(Arc<Mutex<Well<B>>>),
    /// It is sent, and will not be sent again.
    Alone(Pin<Box<B>>),
    /// It is sent again: what was kept, and then the rest.
    Again(Again<B>),
}

/// Where the first sending draws from.
struct Well<B> {
    /// None once it was taken away, or nobody can send it again.
    body: Option<Pin<Box<B>>>,
    limit: usize,
    kept: Copies,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Whether the first sending waits until it is known whether there is a second one.
    paused: bool,
    /// Of the first sending, if it waits for the body.
    waiting: Option<Waker>,
}

struct Again<B> {
    kept: VecDeque<Bytes>,
    /// None: it had been read to its end.
    rest: Option<Pin<Box<B>>>,
    trailers: Option<HeaderMap>,
}

/// The other end of a tee: who has it can send again.
pub(super) struct Held<B> {
    well: Arc<Mutex<Well<B>>>,
    /// Whether this has paused the first sending.
    paused: bool,
}

impl<B> ReplayBody<B> {
    /// The body to send, and the way to send it again.
    pub(super) fn new(body: B, limit: usize) -> (Self, Held<B>) {
        let well = Arc::new(Mutex::new(Well {
            body: Some(Box::pin(body)),
            limit,
            kept: Copies::default(),
            trailers: None,
            ended: false,
            paused: false,
            waiting: None,
        }));
        let held = Held {
            well: Arc::clone(&well),
            paused: false,
        };
        (Self(Side::First(well)), held)
    }
}

impl<B> Held<B> {
    /// Pauses the first sending, for as long as this is there; false if it can't be repeated: more came of the body than the
    /// limit, or an error.
    pub(super) fn pause(&mut self) -> bool {
        let mut well = lock(&self.well);
        well.paused = well.body.is_some();
        self.paused = well.paused;
        self.paused
    }

    /// Takes the body away from its first sending; none if that can't be repeated.
    pub(super) fn take_back(&self) -> Option<ReplayBody<B>> {
        let mut well = lock(&self.well);
        let body = well.body.take()?;
        let again = Again {
            kept: std::mem::take(&mut well.kept).into_pieces(),
            rest: (!well.ended).then_some(body),
            trailers: well.trailers.take(),
        };
        go_on(well);
        Some(ReplayBody(Side::Again(again)))
    }
}

impl<B> Drop for Held<B> {
    fn drop(&mut self) {
        if self.paused {
            go_on(lock(&self.well));
        }
    }
}

/// Ends the pause of the first sending, if there is one.
fn go_on<B>(mut well: MutexGuard<'_, Well<B>>) {
    well.paused = false;
    let waiting = well.waiting.take();
    drop(well);
    if let Some(first) = waiting {
        first.wake();
    }
}

fn lock<B>(well: &Mutex<Well<B>>) -> MutexGuard<'_, Well<B>> {
    // A body that panics half way has no body to send again: see `draw`.
    well.lock().unwrap_or_else(PoisonError::into_inner)
}

type Drawn = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B> Well<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// The next frame for the first sending. The body is not put back if it failed, and not by a panic.
    fn draw(&mut self, cx: &mut Context<'_>) -> Drawn {
        if self.paused {
            self.wait(cx);
            return Poll::Pending;
        }
        let Some(mut body) = self.body.take() else {
            return Poll::Ready(Some(Err(TakenAway.into())));
        };
        let frame = match body.as_mut().poll_frame(cx) {
            Poll::Pending => {
                self.body = Some(body);
                self.wait(cx);
                return Poll::Pending;
            }
            Poll::Ready(Some(Err(error))) => {
                self.forget();
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(frame) => frame.transpose().ok().flatten(),
        };
        self.body = Some(body);
        self.ended |= frame.is_none();
        Poll::Ready(frame.map(Ok))
    }

    /// Keeps a frame that is sent. It answers whether there was room.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            if self.kept.len() + data.len() > self.limit {
                return false;
            }
            self.kept.push(data, self.limit);
        } else if let Some(trailers) = frame.trailers_ref() {
            let length = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                name.as_str().len() + value.len()
            };
            let needed: usize = trailers.iter().map(length).sum();
            if self.kept.len() + needed > self.limit {
                return false;
            }
            self.trailers = Some(trailers.clone());
        }
        true
    }
}

impl<B> Well<B> {
    fn wait(&mut self, cx: &Context<'_>) {
        let same = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.waiting.as_ref().is_some_and(same) {
            self.waiting = Some(cx.waker().clone());
        }
    }

    fn forget(&mut self) {
        self.kept = Copies::default();
        self.trailers = None;
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Drawn {
        let well = match &mut self.0 {
            Side::First(well) => well,
            Side::Alone(body) => return body.as_mut().poll_frame(cx).map_err(Into::into),
            Side::Again(again) => return again.poll_frame(cx),
        };
        // The answer is there and was handed on: nobody can send it again.
        let unwatched = Arc::strong_count(well) == 1;
        let mut drawing = lock(well);
        let frame = ready!(drawing.draw(cx));
        let Some(Ok(sent)) = &frame else {
            return Poll::Ready(frame);
        };
        if unwatched || !drawing.keep(sent) {
            drawing.forget();
            let body = drawing.body.take();
            drop(drawing);
            if let Some(body) = body {
                self.0 = Side::Alone(body);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Side::First(well) => {
                let well = lock(well);
                well.ended || well.body.as_ref().is_some_and(|body| body.is_end_stream())
            }
            Side::Alone(body) => body.is_end_stream(),
            Side::Again(again) => {
                let rest_ended = again.rest.as_ref().is_none_or(|rest| rest.is_end_stream());
                again.kept.is_empty() && again.trailers.is_none() && rest_ended
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Side::First(well) => {
                let well = lock(well);
                let body = well.body.as_ref();
                body.map_or_else(SizeHint::default, |body| body.size_hint())
            }
            Side::Alone(body) => body.size_hint(),
            Side::Again(again) => again.size_hint(),
        }
    }
}

impl<B> Again<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Drawn {
        if let Some(kept) = self.kept.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(kept))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut self.rest {
            Some(rest) => rest.as_mut().poll_frame(cx).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.iter().map(Bytes::len).sum::<usize>() as u64;
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(kept);
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Side::First(_) => "ReplayBody(first)",
            Side::Alone(_) => "ReplayBody(alone)",
            Side::Again(_) => "ReplayBody(again)",
        })
    }
}

/// What the first sending gets from then on.
#[derive(Debug)]
struct TakenAway;

impl fmt::Display for TakenAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was answered before its body was sent to the end, and is sent again: the rest goes with that")
    }
}

impl Error for TakenAway {}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
