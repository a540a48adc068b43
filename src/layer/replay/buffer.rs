//! [`BufferBody`] buffers a body while it is sent, so that a request whose body can't be cloned can be replayed.

use std::{fmt, marker::PhantomData, mem};

use bytes::Bytes;
use http::Request;
use http_body::Body;

use super::{
    body::{BodyHandle, ReplayBody},
    policy::{ReplayPolicy, SealedPolicy},
};
use crate::layer::HttpRequest;

/// Replays requests with any body, up to a limit. Created by [`AuthLayer::with_body_buffer`](crate::AuthLayer::with_body_buffer).
pub struct BufferBody<B, W> {
    limit: usize,
    wrap: W,
    body: PhantomData<fn(B) -> B>,
}

/// The buffered body of a request that [`BufferBody`] may replay.
pub struct BufferedBody<B, W> {
    handle: BodyHandle<B>,
    wrap: W,
}

/// A request that can be copied without its body.
pub(crate) trait SplitRequest: HttpRequest {
    type Body;

    /// Takes the body out of the request. Returns it with a copy of the request without a body.
    fn split(&mut self) -> Option<(Self, Self::Body)>;

    fn set_body(&mut self, body: Self::Body);
}

impl<B, W> BufferBody<B, W> {
    pub(crate) fn new(limit: usize, wrap: W) -> Self {
        Self {
            limit,
            wrap,
            body: PhantomData,
        }
    }
}

impl<B, W> SealedPolicy for BufferBody<B, W> {}

impl<Req, B, W> ReplayPolicy<Req> for BufferBody<B, W>
where
    Req: SplitRequest<Body = B>,
    B: Body<Data = Bytes>,
    W: Fn(ReplayBody<B>) -> B + Clone,
{
    type Saved<S> = Option<(S, Req, Option<BufferedBody<B, W>>)>;
    type PausedBody = Option<BufferedBody<B, W>>;

    fn save<S: Clone>(&self, service: &S, request: &mut Req) -> Self::Saved<S> {
        if let Some(copy) = request.try_clone() {
            return Some((service.clone(), copy, None));
        }
        let (copy, body) = request.split()?;
        // Nearly every GET has an empty body.
        if body.is_end_stream() {
            request.set_body(body);
            return Some((service.clone(), copy, None));
        }
        if body.size_hint().lower() > self.limit as u64 {
            request.set_body(body);
            return None;
        }
        let (body, handle) = ReplayBody::new(body, self.limit);
        request.set_body((self.wrap)(body));
        let wrap = self.wrap.clone();
        Some((service.clone(), copy, Some(BufferedBody { handle, wrap })))
    }

    fn take<S>(saved: &mut Self::Saved<S>) -> Option<(S, Req, Self::PausedBody)> {
        let (service, request, mut body) = saved.take()?;
        let can_replay = body.as_mut().is_none_or(|body| body.handle.pause());
        can_replay.then_some((service, request, body))
    }

    fn complete(request: &mut Req, paused: Self::PausedBody) {
        if let Some(BufferedBody { handle, wrap }) = paused
            && let Some(body) = handle.take_back()
        {
            request.set_body(wrap(body));
        }
    }
}

impl<B: Default + 'static> SplitRequest for Request<B> {
    type Body = B;

    fn split(&mut self) -> Option<(Self, B)> {
        let (parts, body) = mem::take(self).into_parts();
        *self = Self::from_parts(parts.clone(), B::default());
        Some((Self::from_parts(parts, B::default()), body))
    }

    fn set_body(&mut self, body: B) {
        *self.body_mut() = body;
    }
}

#[cfg(feature = "reqwest")]
impl SplitRequest for reqwest::Request {
    type Body = reqwest::Body;

    fn split(&mut self) -> Option<(Self, reqwest::Body)> {
        let body = self.body_mut().take()?;
        let Some(copy) = Self::try_clone(self) else {
            self.set_body(body);
            return None;
        };
        Some((copy, body))
    }

    fn set_body(&mut self, body: reqwest::Body) {
        *self.body_mut() = Some(body);
    }
}

impl<B, W: Clone> Clone for BufferBody<B, W> {
    fn clone(&self) -> Self {
        Self::new(self.limit, self.wrap.clone())
    }
}

impl<B, W> fmt::Debug for BufferBody<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferBody")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<B, W> fmt::Debug for BufferedBody<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BufferedBody(_)")
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

    use super::*;

    type Boxed = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn boxed(text: &'static str) -> Boxed {
        let body = Full::new(Bytes::from_static(text.as_bytes()));
        body.map_err(|never| match never {}).boxed_unsync()
    }

    /// Returns the body that is sent, and the one that is replayed.
    async fn both(body: Boxed) -> [Bytes; 2] {
        let policy = BufferBody::new(8, |body: ReplayBody<Boxed>| body.boxed_unsync());
        let mut request = Request::builder().header("x", "1").body(body).unwrap();
        let mut saved = policy.save(&(), &mut request);
        assert_eq!(request.headers()["x"], "1");
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        let ((), again) = replay_of(&policy, &mut saved).unwrap();
        assert_eq!(again.headers()["x"], "1");
        let again = again.into_body().collect().await.unwrap().to_bytes();
        [sent, again]
    }

    fn replay_of<P>(_: &P, saved: &mut P::Saved<()>) -> Option<((), Request<Boxed>)>
    where
        P: ReplayPolicy<Request<Boxed>>,
    {
        let ((), mut request, paused) = P::take(saved)?;
        P::complete(&mut request, paused);
        Some(((), request))
    }

    #[tokio::test]
    async fn replayed_body_is_the_same() {
        assert_eq!(both(boxed("abc")).await, ["abc", "abc"]);
    }

    #[tokio::test]
    async fn ended_body_is_replayed_as_an_empty_one() {
        assert_eq!(both(boxed("")).await, ["", ""]);
    }
}
