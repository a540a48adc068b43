//! [`ReplayBody`] buffers a body while it is sent, so that it can be sent a second time.
//!
//! The body is behind a lock that its first sending and the saved request share. The first sending reads frame after frame, and
//! stores a copy of each, up to the limit. A replay takes the body over: it sends the buffered frames, and then reads the frames that
//! the first sending has not read. So it does not matter how much the first sending has read, nor whether the client has dropped
//! it. From then on the first sending returns an error, so that its server can't mistake it for a complete body.
//!
//! After a rejection, the first sending is paused until the next token is available. If there is none, it continues, and the caller
//! gets the whole first response.
//!
//! A body that exceeds the limit is moved to its first sending, and the buffer is dropped.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::chunks::Chunks;

type BoxError = Box<dyn Error + Send + Sync>;

/// A body that is buffered while it is sent. [`AuthLayer::with_body_buffer`](crate::AuthLayer::with_body_buffer) wraps the client's
/// body type in it.
///
/// Frames are passed on as they arrive, including trailers. Errors are those of the wrapped body.
pub struct ReplayBody<B>(Repr<B>);

enum Repr<B> {
    /// The first sending, which is buffered.
    First(Arc<Mutex<SharedBody<B>>>),
    /// The first sending of a body that can't be replayed.
    Unbuffered(Pin<Box<B>>),
    /// The second sending.
    Replay(BufferedFrames<B>),
}

/// The state that the first sending shares with the saved request.
struct SharedBody<B> {
    /// `None` if it was taken over by a replay, or can't be replayed.
    body: Option<Pin<Box<B>>>,
    limit: usize,
    chunks: Chunks,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Whether the first sending waits until it is known whether the request is replayed.
    paused: bool,
    /// The waker of the first sending.
    waker: Option<Waker>,
}

/// The frames that the first sending has read, and those that it has not read.
struct BufferedFrames<B> {
    chunks: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// `None` if the first sending has read the body to its end.
    rest: Option<Pin<Box<B>>>,
}

/// The part of a saved request that pauses its body and takes it over.
pub(super) struct BodyHandle<B> {
    shared: Arc<Mutex<SharedBody<B>>>,
    /// Whether this handle has paused the first sending.
    paused: bool,
}

impl<B> ReplayBody<B> {
    /// Returns the body to send, and the handle to replay it.
    pub(super) fn new(body: B, limit: usize) -> (Self, BodyHandle<B>) {
        let shared = Arc::new(Mutex::new(SharedBody {
            body: Some(Box::pin(body)),
            limit,
            chunks: Chunks::default(),
            trailers: None,
            ended: false,
            paused: false,
            waker: None,
        }));
        let handle = BodyHandle {
            shared: Arc::clone(&shared),
            paused: false,
        };
        (Self(Repr::First(shared)), handle)
    }
}

impl<B> BodyHandle<B> {
    /// Pauses the first sending until the handle is dropped. Returns `false` if the body can't be replayed, because it exceeds the
    /// limit or has failed.
    pub(super) fn pause(&mut self) -> bool {
        let mut shared = lock(&self.shared);
        shared.paused = shared.body.is_some();
        self.paused = shared.paused;
        self.paused
    }

    /// Takes the body over from its first sending. Returns `None` if it can't be replayed.
    pub(super) fn take_back(&self) -> Option<ReplayBody<B>> {
        let mut shared = lock(&self.shared);
        let body = shared.body.take()?;
        let frames = BufferedFrames {
            chunks: mem::take(&mut shared.chunks).into_chunks(),
            trailers: shared.trailers.take(),
            rest: (!shared.ended).then_some(body),
        };
        resume(shared);
        Some(ReplayBody(Repr::Replay(frames)))
    }
}

impl<B> Drop for BodyHandle<B> {
    fn drop(&mut self) {
        if self.paused {
            resume(lock(&self.shared));
        }
    }
}

/// Ends the pause of the first sending.
fn resume<B>(mut shared: MutexGuard<'_, SharedBody<B>>) {
    shared.paused = false;
    let waker = shared.waker.take();
    drop(shared);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<B>(shared: &Mutex<SharedBody<B>>) -> MutexGuard<'_, SharedBody<B>> {
    // After a panic in the body, the state contains no body: see `poll_frame`.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

type PollFrame = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

impl<B> SharedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// Returns the next frame of the first sending. A body that fails or panics is dropped.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PollFrame {
        if self.paused {
            return self.wait(cx);
        }
        let Some(mut body) = self.body.take() else {
            return Poll::Ready(Some(Err(BodyTakenOver.into())));
        };
        let frame = body.as_mut().poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = frame {
            self.clear_buffer();
            return Poll::Ready(Some(Err(error.into())));
        }
        self.body = Some(body);
        self.ended |= matches!(frame, Poll::Ready(None));
        match frame {
            Poll::Pending => self.wait(cx),
            frame => frame.map_err(Into::into),
        }
    }

    fn wait(&mut self, cx: &Context<'_>) -> PollFrame {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<B> SharedBody<B> {
    /// Stores a copy of a frame. Returns `false` if it exceeds the limit.
    fn buffer(&mut self, frame: &Frame<Bytes>) -> bool {
        let (data, trailers) = (frame.data_ref(), frame.trailers_ref());
        let fields = trailers.into_iter().flatten();
        let size = data.map_or(0, Bytes::len)
            + fields
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum::<usize>();
        if self.chunks.len() + size > self.limit {
            return false;
        }
        if let Some(data) = data {
            self.chunks.push(data, self.limit);
        }
        if trailers.is_some() {
            self.trailers = trailers.cloned();
        }
        true
    }

    fn clear_buffer(&mut self) {
        self.chunks = Chunks::default();
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollFrame {
        let shared = match &mut self.0 {
            Repr::First(shared) => shared,
            Repr::Unbuffered(body) => return body.as_mut().poll_frame(cx).map_err(Into::into),
            Repr::Replay(frames) => return frames.poll_frame(cx),
        };
        // The saved request was dropped, because the response has been returned to the caller.
        let is_only = Arc::strong_count(shared) == 1;
        let mut shared = lock(shared);
        let frame = ready!(shared.poll_frame(cx));
        if let Some(Ok(sent)) = &frame
            && (is_only || !shared.buffer(sent))
        {
            shared.clear_buffer();
            let body = shared.body.take();
            drop(shared);
            if let Some(body) = body {
                self.0 = Repr::Unbuffered(body);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::First(shared) => {
                let shared = lock(shared);
                let body = shared.body.as_ref();
                shared.ended || body.is_some_and(|body| body.is_end_stream())
            }
            Repr::Unbuffered(body) => body.is_end_stream(),
            Repr::Replay(frames) => {
                let rest = frames.rest.as_ref();
                let rest_ended = rest.is_none_or(|rest| rest.is_end_stream());
                frames.chunks.is_empty() && frames.trailers.is_none() && rest_ended
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::First(shared) => {
                let shared = lock(shared);
                let body = shared.body.as_ref();
                body.map_or_else(SizeHint::default, |body| body.size_hint())
            }
            Repr::Unbuffered(body) => body.size_hint(),
            Repr::Replay(frames) => frames.size_hint(),
        }
    }
}

impl<B> BufferedFrames<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PollFrame {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
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
        let buffered = self.chunks.iter().map(Bytes::len).sum::<usize>() as u64;
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(buffered);
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(buffered));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(buffered));
        }
        hint
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayBody(_)")
    }
}

/// The error of the first sending after a replay has taken the body over.
#[derive(Debug)]
struct BodyTakenOver;

impl fmt::Display for BodyTakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server rejected the token before the body was sent, and the request is replayed with the body")
    }
}

impl Error for BodyTakenOver {}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
