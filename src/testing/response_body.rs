//! Implements response bodies that are sent at once, byte by byte, or as a given number of spaces.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

#[derive(Debug)]
pub(super) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Drip {
        left: Bytes,
        pause: Duration,
        timer: Option<Pin<Box<Sleep>>>,
    },
    Spaces {
        left: u64,
    },
}

impl ResponseBody {
    pub(super) fn empty() -> Self {
        Self::from(Bytes::new())
    }

    /// Creates a body of `count` spaces without a declared length. JSON may begin with spaces, so clients have to read all of it.
    pub(super) fn spaces(count: u64) -> Self {
        Self(Kind::Spaces { left: count })
    }

    /// Sends the bytes one at a time, with a pause before each.
    pub(super) fn dripping(self, pause: Duration) -> Self {
        match self.0 {
            Kind::Whole(left) => Self(Kind::Drip {
                left,
                pause,
                timer: None,
            }),
            other => Self(other),
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole(bytes))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut self.0 {
            Kind::Whole(bytes) => std::mem::take(bytes),
            Kind::Drip { left, .. } if left.is_empty() => Bytes::new(),
            Kind::Drip { left, pause, timer } => {
                ready!(
                    timer
                        .get_or_insert_with(|| Box::pin(sleep(*pause)))
                        .as_mut()
                        .poll(context)
                );
                *timer = None;
                left.split_to(1)
            }
            Kind::Spaces { left } => {
                let chunk = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(SPACES.len());
                *left -= chunk as u64;
                Bytes::from_static(&SPACES[..chunk])
            }
        };
        if data.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(left) | Kind::Drip { left, .. } => left.is_empty(),
            Kind::Spaces { left } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(left) | Kind::Drip { left, .. } => SizeHint::with_exact(left.len() as u64),
            Kind::Spaces { .. } => SizeHint::default(),
        }
    }
}

static SPACES: [u8; 16 << 10] = [b' '; 16 << 10];

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn each_kind_of_body_has_the_expected_length() {
        let bytes = Bytes::from_static(b"abc");
        let whole = ResponseBody::from(bytes.clone())
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let drip = ResponseBody::from(bytes.clone()).dripping(Duration::from_millis(1));
        assert_eq!(drip.size_hint().exact(), Some(3));
        let drip = drip.collect().await.unwrap().to_bytes();
        let huge = ResponseBody::spaces(40_000)
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert_eq!((whole, drip, huge.len()), (bytes.clone(), bytes, 40_000));
        assert!(ResponseBody::empty().is_end_stream());
    }
}
