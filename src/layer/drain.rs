//! This module drains the body of a discarded response so that its connection can be reused.
//!
//! An HTTP/1.1 connection can be reused once the last response was read completely. Most rejections are short and have already
//! arrived, so reading them is cheaper than a new connection. A long or slow body is dropped instead.

use std::{any::Any, pin::Pin, time::Duration};

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;

use crate::util::timer;

/// The maximum number of bytes to read.
const MAX_BYTES: u64 = 64 << 10;
/// The maximum time to wait.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// A future that drains a body.
pub(crate) type Draining = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads the body to its end, within the limits.
pub(super) async fn drain<B: Body + Unpin>(mut body: B) {
    let read_all = async {
        let mut read = 0;
        while read <= MAX_BYTES && body.size_hint().lower() <= MAX_BYTES {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            read += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
    };
    timer::within(MAX_WAIT, read_all).await;
}

/// Drains a body if its type is one of those listed here. Others are dropped with their connection.
pub(super) fn drain_known<B: 'static>(body: B) -> Option<Draining> {
    use http_body_util::combinators::{BoxBody, UnsyncBoxBody};

    let body: &mut dyn Any = &mut Some(body);
    let draining = drain_as::<UnsyncBoxBody<bytes::Bytes, BoxError>>(body)
        .or_else(|| drain_as::<BoxBody<bytes::Bytes, BoxError>>(body));
    #[cfg(feature = "hyper")]
    let draining = draining.or_else(|| drain_as::<hyper::body::Incoming>(body));
    #[cfg(feature = "reqwest")]
    let draining = draining.or_else(|| drain_as::<reqwest::Body>(body));
    draining
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn drain_as<B: Body + Send + Unpin + 'static>(body: &mut dyn Any) -> Option<Draining>
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

    /// Returns a body with frames of 1 KiB, and the number of frames that were read.
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
    async fn short_body_is_read_to_its_end() {
        let (body, read) = kibibytes(10);
        drain(body).await;
        assert_eq!(read.load(Ordering::Relaxed), 10);
    }

    #[tokio::test]
    async fn endless_body_is_read_up_to_the_limit() {
        let (body, read) = kibibytes(u64::MAX);
        drain(body).await;
        assert_eq!(read.load(Ordering::Relaxed), 65);
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_body_is_dropped_after_the_limit() {
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
        let start = tokio::time::Instant::now();
        drain(Stalled).await;
        assert_eq!(start.elapsed(), MAX_WAIT);
    }
}
