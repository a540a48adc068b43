//! Which requests can be sent twice.
//!
//! A body that can be had twice cheaply is recognised by its type, so nothing is asked of the body's type: an unknown one
//! is simply not sent twice. A request is copied before the token is put on it, and only if its body can be.

use std::any::Any;

use bytes::Bytes;
use http_body_util::{Empty, Full};

use crate::message::Outgoing;

/// How a layer goes about sending a request twice. [`Twice`] and [`Once`] are the ways there are.
pub trait Replay: Clone {
    /// What is kept of a request until its response is judged.
    type Spare<S, Req>;

    /// Keeps what is needed to send the request again, if it can be.
    fn keep<S: Clone, Req: Outgoing>(&self, service: &S, request: &Req) -> Self::Spare<S, Req>;

    /// The service and the request to send, if they were kept.
    fn take<S, Req>(spare: &mut Self::Spare<S, Req>) -> Option<(S, Req)>;
}

/// Requests are sent again after a 401, where their bodies can be had twice. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twice;

impl Replay for Twice {
    type Spare<S, Req> = Option<(S, Req)>;

    #[inline]
    fn keep<S: Clone, Req: Outgoing>(&self, service: &S, request: &Req) -> Self::Spare<S, Req> {
        let twin = request.twin()?;
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
    fn keep<S: Clone, Req: Outgoing>(&self, _: &S, _: &Req) -> Self::Spare<S, Req> {}

    fn take<S, Req>((): &mut Self::Spare<S, Req>) -> Option<(S, Req)> {
        None
    }
}

/// A second body like this one, if its type is one that can be had twice cheaply.
#[inline]
pub(crate) fn twin<B: 'static>(body: &B) -> Option<B> {
    // The comparisons are between constants: for each `B`, one branch is left of all these.
    twin_as::<(), B>(body)
        .or_else(|| twin_as::<Empty<Bytes>, B>(body))
        .or_else(|| twin_as::<Full<Bytes>, B>(body))
        .or_else(|| twin_as::<Bytes, B>(body))
        .or_else(|| twin_as::<&'static str, B>(body))
        .or_else(|| twin_as::<&'static [u8], B>(body))
        .or_else(|| twin_as::<String, B>(body))
        .or_else(|| twin_as::<Full<&'static [u8]>, B>(body))
        .or_else(|| twin_as::<Vec<u8>, B>(body))
}

#[inline]
fn twin_as<Known: Clone + 'static, B: 'static>(body: &B) -> Option<B> {
    let known = (body as &dyn Any).downcast_ref::<Known>()?;
    let mut twin = Some(known.clone());
    let same: &mut dyn Any = &mut twin;
    same.downcast_mut::<Option<B>>()?.take()
}

#[cfg(test)]
mod tests {
    use http_body_util::{StreamBody, combinators::UnsyncBoxBody};

    use super::*;

    #[test]
    fn bodies_in_memory_can_be_had_twice() {
        assert!(twin(&()).is_some());
        assert!(twin(&Empty::<Bytes>::new()).is_some());
        assert!(twin(&Full::new(Bytes::from("abc"))).is_some());
        assert_eq!(twin(&Bytes::from("abc")), Some(Bytes::from("abc")));
        assert_eq!(twin(&"abc"), Some("abc"));
        assert_eq!(twin(&String::from("abc")), Some(String::from("abc")));
        assert_eq!(twin(&vec![1u8, 2]), Some(vec![1, 2]));
    }

    #[test]
    fn bodies_that_are_read_once_can_not() {
        struct Mine;
        assert!(twin(&Mine).is_none());
        assert!(twin(&StreamBody::new(Mine)).is_none());
        assert!(twin(&UnsyncBoxBody::new(Full::new(Bytes::new()))).is_none());
    }
}
