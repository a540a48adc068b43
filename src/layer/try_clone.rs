//! This module clones requests whose bodies are cheap to clone.
//!
//! Such a body is recognized by its type, so the layer accepts any body type without a trait bound.

use std::any::Any;

use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full};

/// Clones a request if its body type is one of those listed here.
#[inline]
pub(super) fn try_clone<B: 'static>(request: &mut Request<B>) -> Option<Request<B>> {
    // The types are compared at compile time: for each `B`, at most one of these branches remains.
    let known = clone_as::<(), B>(request)
        .or_else(|| clone_as::<Empty<Bytes>, B>(request))
        .or_else(|| clone_as::<Full<Bytes>, B>(request))
        .or_else(|| clone_as::<Bytes, B>(request))
        .or_else(|| clone_as::<&'static str, B>(request))
        .or_else(|| clone_as::<&'static [u8], B>(request))
        .or_else(|| clone_as::<String, B>(request))
        .or_else(|| clone_as::<Full<&'static [u8]>, B>(request))
        .or_else(|| clone_as::<Vec<u8>, B>(request));
    #[cfg(feature = "reqwest")]
    let known = known.or_else(|| clone_of_reqwest(request));
    known
}

#[inline]
fn clone_as<Known: Clone + 'static, B: 'static>(request: &mut Request<B>) -> Option<Request<B>> {
    let request: &dyn Any = request;
    let mut clone = Some(request.downcast_ref::<Request<Known>>()?.clone());
    let same: &mut dyn Any = &mut clone;
    same.downcast_mut::<Option<Request<B>>>()?.take()
}

/// Clones the body inside a request of reqwest, because a `reqwest::Body` can only be cloned there.
#[cfg(feature = "reqwest")]
fn clone_of_reqwest<B: 'static>(request: &mut Request<B>) -> Option<Request<B>> {
    use std::{mem, sync::LazyLock};

    static CARRIER_URL: LazyLock<Option<url::Url>> =
        LazyLock::new(|| url::Url::parse("http://localhost").ok());

    let request: &mut dyn Any = request;
    let request: &mut Request<reqwest::Body> = request.downcast_mut()?;
    let mut carrier = reqwest::Request::new(http::Method::GET, CARRIER_URL.clone()?);
    let (parts, body) = mem::take(request).into_parts();
    *carrier.body_mut() = Some(body);
    let clone = carrier.try_clone();
    let body = carrier.body_mut().take().unwrap_or_default();
    *request = Request::from_parts(parts.clone(), body);
    let clone = clone?.body_mut().take().unwrap_or_default();
    let mut clone = Some(Request::from_parts(parts, clone));
    let same: &mut dyn Any = &mut clone;
    same.downcast_mut::<Option<Request<B>>>()?.take()
}

#[cfg(test)]
mod tests {
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};

    use super::*;

    fn clone_body<B: 'static>(body: B) -> Option<B> {
        try_clone(&mut Request::new(body)).map(Request::into_body)
    }

    #[test]
    fn bodies_in_memory_are_cloned() {
        assert!(clone_body(()).is_some());
        assert!(clone_body(Empty::<Bytes>::new()).is_some());
        assert!(clone_body(Full::new(Bytes::from("abc"))).is_some());
        assert_eq!(clone_body(Bytes::from("abc")), Some(Bytes::from("abc")));
        assert_eq!(clone_body("abc"), Some("abc"));
        assert_eq!(clone_body(String::from("abc")), Some(String::from("abc")));
        assert_eq!(clone_body(vec![1u8, 2]), Some(vec![1, 2]));
    }

    #[test]
    fn streaming_bodies_are_not_cloned() {
        struct CustomBody;
        assert!(clone_body(CustomBody).is_none());
        assert!(clone_body(StreamBody::new(CustomBody)).is_none());
        assert!(clone_body(UnsyncBoxBody::new(Full::new(Bytes::new()))).is_none());
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn reqwest_body_in_memory_is_cloned_and_stays() {
        let mut request = Request::new(reqwest::Body::from("abc"));
        let clone = try_clone(&mut request).unwrap();
        assert_eq!(request.body().as_bytes(), Some(&b"abc"[..]));
        assert_eq!(clone.body().as_bytes(), Some(&b"abc"[..]));
        let stream = reqwest::Body::wrap(Full::new(Bytes::from("abc")));
        assert!(clone_body(stream).is_none());
    }

    #[test]
    fn clone_equals_the_request() {
        let mut request = Request::put("https://api.example.com/items?a=b")
            .version(http::Version::HTTP_2)
            .header("x", "1")
            .header("x", "2")
            .extension(7u8)
            .body("abc")
            .unwrap();
        let clone = try_clone(&mut request).unwrap();
        assert_eq!(format!("{clone:?}"), format!("{request:?}"));
        assert_eq!(clone.extensions().get(), Some(&7u8));
    }
}
