//! Reading on what nobody will read, for the sake of its connection.
//!
//! An HTTP/1.1 connection can be used again once its last answer was read to the end. An answer that is replaced is short,
//! nearly always, and has arrived already, so that costs less than a connection; what is long or slow is given up.

use std::{any::Any, pin::Pin, time::Duration};

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;

use crate::util::timer;

/// More than this is not worth a connection.
const MOST_BYTES: u64 = 64 << 10;
/// Nor is a longer wait.
const PATIENCE: Duration = Duration::from_millis(50);

/// The reading to the end of what is left of an answer.
pub(crate) type Draining = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads the body to its end, if that is near.
pub(super) async fn drain<B: Body + Unpin>(body: B) {
    let near = |body: &B| body.size_hint().lower() <= MOST_BYTES;
    let whole = async {
        let mut body = body;
        let mut read = 0;
        while near(&body) && read <= MOST_BYTES {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            read += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
    };
    timer::within(PATIENCE, whole).await;
}

/// The same for a body of a kind that is known here; others go as they are, and their connections with them.
pub(super) fn drain_known<B: 'static>(body: B) -> Option<Draining> {
    let mut body = Some(body);
    let body: &mut dyn Any = &mut body;
    known::<http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>>(body)
        .or_else(|| known::<http_body_util::combinators::BoxBody<bytes::Bytes, BoxError>>(body))
        .or_else(|| {
            #[cfg(feature = "hyper")]
            return known::<hyper::body::Incoming>(body);
            #[cfg(not(feature = "hyper"))]
            None
        })
        .or_else(|| {
            #[cfg(feature = "reqwest")]
            return known::<reqwest::Body>(body);
            #[cfg(not(feature = "reqwest"))]
            None
        })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn known<B: Body + Send + Unpin + 'static>(body: &mut dyn Any) -> Option<Draining>
where
    B::Data: Send,
{
    let body = body.downcast_mut::<Option<B>>()?.take()?;
    Some(Box::pin(drain(body)))
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        task::Poll,
    };

    use bytes::Bytes;
    use http_body::Frame;

    use super::*;

    /// A body of frames of 1 KiB, and how much was read of it.
    fn kibibytes(count: u64) -> (impl Body<Data = Bytes> + Unpin, Arc<AtomicU64>) {
        let read = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&read);
        let left = Cell::new(count);
        let body = Frames(move || {
            left.set(left.get().checked_sub(1)?);
            counter.fetch_add(1, Ordering::Relaxed);
            Some(Bytes::from_static(&[0; 1024]))
        });
        (body, read)
    }

    struct Frames<F>(F);

    impl<F: FnMut() -> Option<Bytes> + Unpin> Body for Frames<F> {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready((self.0)().map(|data| Ok(Frame::data(data))))
        }
    }

    #[tokio::test]
    async fn a_short_answer_is_read_to_its_end() {
        let (body, read) = kibibytes(10);
        drain(body).await;
        assert_eq!(read.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (body, read) = kibibytes(u64::MAX);
        drain(body).await;
        assert_eq!(read.load(Ordering::Relaxed), 65);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stalls_is_given_up() {
        struct Stalled;
        impl Body for Stalled {
            type Data = Bytes;
            type Error = Infallible;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Pending
            }
        }
        drain(Stalled).await;
    }
}
