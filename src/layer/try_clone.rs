//! A second request like the first, where that is cheap.
//!
//! A body that can be had twice cheaply is recognised by its type, so nothing is asked of the body's type: an unknown one
//! is simply not sent twice.

use std::any::Any;

use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full};

/// A second request like this one, if its body is of a type that can be had twice cheaply.
#[inline]
pub(super) fn try_clone<B: 'static>(request: &mut Request<B>) -> Option<Request<B>> {
    // The comparisons are between constants: for each `B`, one branch is left of all these.
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

/// A body of reqwest's can be had twice only inside one of its requests: it goes there for a moment.
#[cfg(feature = "reqwest")]
fn clone_of_reqwest<B: 'static>(request: &mut Request<B>) -> Option<Request<B>> {
    use std::{mem, sync::LazyLock};

    static SOMEWHERE: LazyLock<Option<url::Url>> =
        LazyLock::new(|| url::Url::parse("http://localhost").ok());

    let request: &mut dyn Any = request;
    let request = request.downcast_mut::<Request<reqwest::Body>>()?;
    let mut carrier = reqwest::Request::new(http::Method::GET, SOMEWHERE.clone()?);
    *carrier.body_mut() = Some(mem::take(request.body_mut()));
    let clone = carrier.try_clone();
    *request.body_mut() = carrier.body_mut().take().unwrap_or_default();
    let body = clone?.body_mut().take().unwrap_or_default();
    let mut clone = Request::new(body);
    *clone.method_mut() = request.method().clone();
    *clone.uri_mut() = request.uri().clone();
    *clone.version_mut() = request.version();
    *clone.headers_mut() = request.headers().clone();
    *clone.extensions_mut() = request.extensions().clone();
    let mut clone = Some(clone);
    let same: &mut dyn Any = &mut clone;
    same.downcast_mut::<Option<Request<B>>>()?.take()
}

#[cfg(test)]
mod tests {
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};

    use super::*;

    fn body_twice<B: 'static>(body: B) -> Option<B> {
        try_clone(&mut Request::new(body)).map(Request::into_body)
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

    #[cfg(feature = "reqwest")]
    #[test]
    fn a_body_of_reqwest_that_is_in_memory_can_be_had_twice_and_stays() {
        let mut request = Request::new(reqwest::Body::from("abc"));
        let clone = try_clone(&mut request).unwrap();
        assert_eq!(request.body().as_bytes(), Some(&b"abc"[..]));
        assert_eq!(clone.body().as_bytes(), Some(&b"abc"[..]));
        let stream = reqwest::Body::wrap(Full::new(Bytes::from("abc")));
        assert!(body_twice(stream).is_none());
    }

    #[test]
    fn a_clone_is_the_same_request() {
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
