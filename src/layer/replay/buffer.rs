//! [`BufferBody`]: bodies that can't be had twice by themselves are kept while they are sent.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use http::{Request, request::Parts};
use http_body::Body;

use super::{
    body::{Held, ReplayBody},
    policy::ReplayPolicy,
};
use crate::layer::HttpRequest;

/// Requests are sent again after a refusal, with any body, up to a limit; made by
/// [`AuthLayer::with_body_buffer`](crate::AuthLayer::with_body_buffer).
pub struct BufferBody<B, W> {
    limit: usize,
    wrap: W,
    body: PhantomData<fn(B) -> B>,
}

/// What is kept of a request.
pub struct Kept<S, Req, B, W> {
    service: S,
    request: KeptRequest<Req, B, W>,
}

enum KeptRequest<Req, B, W> {
    Twin(Req),
    /// All but its body, and the way to get that back.
    Split(Req, Withheld<B, W>),
}

/// A body whose first sending is paused, if it is that far, until it is known whether there is a second one.
pub struct Withheld<B, W> {
    held: Held<B>,
    wrap: W,
}

impl<B, W: Fn(ReplayBody<B>) -> B> Withheld<B, W> {
    /// The body, taken away from its first sending.
    fn take_back(&self) -> Option<B> {
        self.held.take_back().map(&self.wrap)
    }
}

impl<Req, B, W> KeptRequest<Req, B, W> {
    fn take(self) -> Option<(Req, Option<Withheld<B, W>>)> {
        match self {
            Self::Twin(twin) => Some((twin, None)),
            Self::Split(head, mut body) => body.held.pause().then_some((head, Some(body))),
        }
    }
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

impl<B, W> BufferBody<B, W>
where
    B: Body<Data = Bytes> + 'static,
    W: Fn(ReplayBody<B>) -> B + Clone,
{
    /// The body as it is sent now, and the way to get it back; the body itself if it is longer than the limit.
    fn split(&self, body: B) -> Result<(B, Withheld<B, W>), B> {
        if body.size_hint().lower() > self.limit as u64 {
            return Err(body);
        }
        let (tee, held) = ReplayBody::new(body, self.limit);
        let wrap = self.wrap.clone();
        Ok(((self.wrap)(tee), Withheld { held, wrap }))
    }
}

impl<B, W> ReplayPolicy<Request<B>> for BufferBody<B, W>
where
    B: Body<Data = Bytes> + Default + 'static,
    W: Fn(ReplayBody<B>) -> B + Clone,
{
    type Spare<S> = Option<Kept<S, Request<B>, B, W>>;
    type Rest = Option<Withheld<B, W>>;

    fn keep<S: Clone>(&self, service: &S, request: &mut Request<B>) -> Self::Spare<S> {
        let kept = match request.try_clone() {
            Some(twin) => KeptRequest::Twin(twin),
            // Nothing to keep, as with nearly every GET.
            None if request.body().is_end_stream() => {
                KeptRequest::Twin(Request::from_parts(parts_of(request), B::default()))
            }
            None => {
                let body = std::mem::take(request.body_mut());
                let (body, held) = match self.split(body) {
                    Ok(split) => split,
                    Err(body) => {
                        *request.body_mut() = body;
                        return None;
                    }
                };
                *request.body_mut() = body;
                let head = Request::from_parts(parts_of(request), B::default());
                KeptRequest::Split(head, held)
            }
        };
        Some(Kept {
            service: service.clone(),
            request: kept,
        })
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, Request<B>, Self::Rest)> {
        let Kept { service, request } = spare.take()?;
        let (request, rest) = request.take()?;
        Some((service, request, rest))
    }

    fn complete(request: &mut Request<B>, rest: Self::Rest) {
        if let Some(body) = rest.and_then(|rest| rest.take_back()) {
            *request.body_mut() = body;
        }
    }
}

fn parts_of<B>(request: &Request<B>) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts.extensions = request.extensions().clone();
    parts
}

#[cfg(feature = "reqwest")]
impl<W> ReplayPolicy<reqwest::Request> for BufferBody<reqwest::Body, W>
where
    W: Fn(ReplayBody<reqwest::Body>) -> reqwest::Body + Clone,
{
    type Spare<S> = Option<Kept<S, reqwest::Request, reqwest::Body, W>>;
    type Rest = Option<Withheld<reqwest::Body, W>>;

    fn keep<S: Clone>(&self, service: &S, request: &mut reqwest::Request) -> Self::Spare<S> {
        let kept = match request.try_clone() {
            Some(twin) => KeptRequest::Twin(twin),
            None => {
                let body = request.body_mut().take()?;
                // Without a body, a request of reqwest's can be had twice.
                let head = request.try_clone();
                let (body, held) = match self.split(body) {
                    Ok(split) => split,
                    Err(body) => {
                        *request.body_mut() = Some(body);
                        return None;
                    }
                };
                *request.body_mut() = Some(body);
                KeptRequest::Split(head?, held)
            }
        };
        Some(Kept {
            service: service.clone(),
            request: kept,
        })
    }

    fn take<S>(spare: &mut Self::Spare<S>) -> Option<(S, reqwest::Request, Self::Rest)> {
        let Kept { service, request } = spare.take()?;
        let (request, rest) = request.take()?;
        Some((service, request, rest))
    }

    fn complete(request: &mut reqwest::Request, rest: Self::Rest) {
        if let Some(rest) = rest {
            *request.body_mut() = rest.take_back();
        }
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

impl<B, W> fmt::Debug for Withheld<B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Withheld(_)")
    }
}

impl<S, Req, B, W> fmt::Debug for Kept<S, Req, B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(_)")
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

    /// What is sent, and what is sent again.
    async fn both(request: Request<Boxed>) -> [Bytes; 2] {
        let policy = BufferBody::new(8, |tee: ReplayBody<Boxed>| tee.boxed_unsync());
        let mut request = request;
        let mut spare = policy.keep(&(), &mut request);
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        let ((), mut again, rest) = take_of(&policy, &mut spare).unwrap();
        complete_of(&policy, &mut again, rest);
        assert_eq!(again.headers()["x"], "1");
        let again = again.into_body().collect().await.unwrap().to_bytes();
        [sent, again]
    }

    type Taken<P> = Option<(
        (),
        Request<Boxed>,
        <P as ReplayPolicy<Request<Boxed>>>::Rest,
    )>;

    fn take_of<P: ReplayPolicy<Request<Boxed>>>(_: &P, spare: &mut P::Spare<()>) -> Taken<P> {
        P::take(spare)
    }

    fn complete_of<P: ReplayPolicy<Request<Boxed>>>(
        _: &P,
        request: &mut Request<Boxed>,
        rest: P::Rest,
    ) {
        P::complete(request, rest);
    }

    fn request(body: Boxed) -> Request<Boxed> {
        Request::builder().header("x", "1").body(body).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_sent_again_as_it_was() {
        assert_eq!(both(request(boxed("abc"))).await, ["abc", "abc"]);
    }

    #[tokio::test]
    async fn a_body_at_its_end_is_sent_again_as_the_empty_one() {
        assert_eq!(both(request(boxed(""))).await, ["", ""]);
    }
}
