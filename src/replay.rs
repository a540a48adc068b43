//! Which requests can be sent twice.
//!
//! A body that can be had twice cheaply is recognised by its type, so nothing is asked of the body's type: an unknown one
//! is simply not sent twice. A request is copied before the token is put on it, and only if its body can be.

use std::any::Any;

use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full};

/// How a layer goes about sending a request twice. [`Twice`] and [`Once`] are the ways there are.
pub trait Replay: Clone {
    /// What is kept of a request until its response is judged.
    type Spare<S, Req>;

    /// Keeps what is needed to send the request again; `twin` makes a second one like it, if it can be had.
    fn keep<S: Clone, Req>(
        &self,
        service: &S,
        twin: impl FnOnce() -> Option<Req>,
    ) -> Self::Spare<S, Req>;

    /// The service and the request to send, if they were kept.
    fn take<S, Req>(spare: &mut Self::Spare<S, Req>) -> Option<(S, Req)>;
}

/// Requests are sent again after a 401, where their bodies can be had twice. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twice;

impl Replay for Twice {
    type Spare<S, Req> = Option<(S, Req)>;

    #[inline]
    fn keep<S: Clone, Req>(
        &self,
        service: &S,
        twin: impl FnOnce() -> Option<Req>,
    ) -> Self::Spare<S, Req> {
        let twin = twin()?;
        Some((service.clone(), twin))
    }

    fn take<S, Req>(spare: &mut Self::Spare<S, Req>) -> Option<(S, Req)> {
        spare.take()
    }
}

/// No request is sent again; made by [`AuthLayer::without_replay`](crate::AuthLayer::without_replay).
#[derive(Clone, Copy, Debug, Default)]
pub struct Once;

impl Replay for Once {
    type Spare<S, Req> = ();

    #[inline]
    fn keep<S: Clone, Req>(&self, _: &S, _: impl FnOnce() -> Option<Req>) -> Self::Spare<S, Req> {}

    fn take<S, Req>((): &mut Self::Spare<S, Req>) -> Option<(S, Req)> {
        None
    }
}

/// A second request like this one, if its body is of a type that can be had twice cheaply.
#[inline]
pub(crate) fn twin<B: 'static>(request: &Request<B>) -> Option<Request<B>> {
    // The comparisons are between constants: for each `B`, one branch is left of all these.
    twin_as::<(), B>(request)
        .or_else(|| twin_as::<Empty<Bytes>, B>(request))
        .or_else(|| twin_as::<Full<Bytes>, B>(request))
        .or_else(|| twin_as::<Bytes, B>(request))
        .or_else(|| twin_as::<&'static str, B>(request))
        .or_else(|| twin_as::<&'static [u8], B>(request))
        .or_else(|| twin_as::<String, B>(request))
        .or_else(|| twin_as::<Full<&'static [u8]>, B>(request))
        .or_else(|| twin_as::<Vec<u8>, B>(request))
}

#[inline]
fn twin_as<Known: Clone + 'static, B: 'static>(request: &Request<B>) -> Option<Request<B>> {
    let request: &dyn Any = request;
    let mut twin = Some(request.downcast_ref::<Request<Known>>()?.clone());
    let same: &mut dyn Any = &mut twin;
    same.downcast_mut::<Option<Request<B>>>()?.take()
}

#[cfg(test)]
mod tests {
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};

    use super::*;

    fn body_twice<B: 'static>(body: B) -> Option<B> {
        twin(&Request::new(body)).map(Request::into_body)
    }

    #[test]
    fn bodies_in_memory_can_be_had_twice() {
        assert!(body_twice(()).is_some());
        assert!(body_twice(Empty::<Bytes>::new()).is_some());
        assert!(body_twice(Full::new(Bytes::from("abc"))).is_some());
        assert_eq!(body_twice(Bytes::from("abc")), Some(Bytes::from("abc")));
        assert_eq!(body_twice("abc"), Some("abc"));
        assert_eq!(body_twice(String::from("abc")), Some(String::from("abc")));
        assert_eq!(body_twice(vec![1u8, 2]), Some(vec![1, 2]));
    }

    #[test]
    fn bodies_that_are_read_once_can_not() {
        struct Mine;
        assert!(body_twice(Mine).is_none());
        assert!(body_twice(StreamBody::new(Mine)).is_none());
        assert!(body_twice(UnsyncBoxBody::new(Full::new(Bytes::new()))).is_none());
    }

    #[test]
    fn a_twin_is_the_same_request() {
        let request = Request::put("https://api.example.com/items?a=b")
            .version(http::Version::HTTP_2)
            .header("x", "1")
            .header("x", "2")
            .extension(7u8)
            .body("abc")
            .unwrap();
        let twin = twin(&request).unwrap();
        assert_eq!(format!("{twin:?}"), format!("{request:?}"));
        assert_eq!(twin.extensions().get(), Some(&7u8));
    }
}
