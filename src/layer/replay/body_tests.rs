use std::collections::VecDeque;

use http::HeaderValue;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;

/// A body whose frames are scripted by the test.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    steps: VecDeque<Step>,
    waker: Option<Waker>,
}

enum Step {
    Data(&'static [u8]),
    Trailers,
    Failure,
    Panic,
    End,
}

impl Script {
    fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        let script = Self::default();
        script.push(steps);
        script
    }

    fn push(&self, steps: impl IntoIterator<Item = Step>) {
        let mut state = self.0.lock().unwrap();
        state.steps.extend(steps);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.steps.pop_front() {
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data))))),
            Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers())))),
            Some(Step::Failure) => Poll::Ready(Some(Err(std::io::Error::other("disk on fire")))),
            Some(Step::Panic) => panic!("the body panics"),
            Some(Step::End) => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", HeaderValue::from_static("c0ffee"));
    trailers
}

const LIMIT: usize = 20;

fn replay_body(
    steps: impl IntoIterator<Item = Step>,
) -> (ReplayBody<Script>, BodyHandle<Script>, Script) {
    let script = Script::of(steps);
    let (body, handle) = ReplayBody::new(script.clone(), LIMIT);
    (body, handle, script)
}

/// Returns the next frame, which must be available.
fn next(body: &mut ReplayBody<Script>) -> Option<Result<Frame<Bytes>, BoxError>> {
    assert_ready!(task::spawn(body.frame()).poll())
}

fn data(body: &mut ReplayBody<Script>) -> Bytes {
    next(body).unwrap().unwrap().into_data().unwrap()
}

fn all(body: ReplayBody<Script>) -> (Bytes, Option<HeaderMap>) {
    let collected = assert_ready!(task::spawn(body.collect()).poll()).unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}

#[test]
fn completely_sent_body_is_replayed_with_its_trailers() {
    let (first, handle, _) = replay_body([
        Step::Data(b"ab"),
        Step::Data(b"cd"),
        Step::Trailers,
        Step::End,
    ]);
    assert_eq!(all(first), ("abcd".into(), Some(trailers())));
    let again = handle.take_back().unwrap();
    assert_eq!(again.size_hint().exact(), Some(4));
    assert_eq!(all(again), ("abcd".into(), Some(trailers())));
}

#[test]
fn frames_are_passed_on_as_they_arrive() {
    let (mut first, _held, _) = replay_body([
        Step::Data(b"ab"),
        Step::Data(b"c"),
        Step::Trailers,
        Step::End,
    ]);
    assert_eq!(data(&mut first), "ab");
    assert_eq!(data(&mut first), "c");
    let last = next(&mut first).unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap(), trailers());
    assert!(next(&mut first).is_none() && first.is_end_stream());
}

#[test]
fn partly_sent_body_is_replayed_completely() {
    let (mut first, handle, script) = replay_body([Step::Data(b"ab")]);
    assert_eq!(data(&mut first), "ab");
    let mut again = handle.take_back().unwrap();
    assert_eq!(data(&mut again), "ab");
    assert_pending!(task::spawn(again.frame()).poll());
    script.push([Step::Data(b"cd"), Step::End]);
    assert_eq!(data(&mut again), "cd");
    assert!(next(&mut again).is_none());
}

#[test]
fn first_sending_fails_once_the_body_is_taken_over() {
    let (mut first, handle, _) = replay_body([Step::Data(b"ab")]);
    assert_eq!(data(&mut first), "ab");
    let mut waiting = task::spawn(first.frame());
    assert_pending!(waiting.poll());
    let _again = handle.take_back().unwrap();
    assert!(waiting.is_woken());
    let error = assert_ready!(waiting.poll()).unwrap().unwrap_err();
    assert!(error.is::<BodyTakenOver>(), "{error}");
    drop(waiting);
    assert!(!first.is_end_stream());
}

#[test]
fn paused_sending_continues_without_a_replay() {
    let (mut first, mut handle, _) = replay_body([Step::Data(b"ab"), Step::Data(b"cd"), Step::End]);
    assert_eq!(data(&mut first), "ab");
    assert!(handle.pause());
    let mut waiting = task::spawn(first.frame());
    assert_pending!(waiting.poll());
    drop(handle);
    assert!(waiting.is_woken());
    let frame = assert_ready!(waiting.poll()).unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "cd");
    drop(waiting);
    assert!(next(&mut first).is_none());
}

#[test]
fn paused_sending_fails_once_the_body_is_taken_over() {
    let (mut first, mut handle, _) = replay_body([Step::Data(b"ab"), Step::Data(b"cd"), Step::End]);
    assert_eq!(data(&mut first), "ab");
    assert!(handle.pause());
    let mut waiting = task::spawn(first.frame());
    assert_pending!(waiting.poll());
    let again = handle.take_back().unwrap();
    assert!(waiting.is_woken());
    let error = assert_ready!(waiting.poll()).unwrap().unwrap_err();
    assert!(error.is::<BodyTakenOver>(), "{error}");
    assert_eq!(all(again).0, "abcd");
}

#[test]
fn body_that_cannot_be_replayed_is_not_paused() {
    let (mut first, mut handle, _) = replay_body([
        Step::Data(b"012345678901234567890"),
        Step::Data(b"ab"),
        Step::End,
    ]);
    assert_eq!(data(&mut first).len(), LIMIT + 1);
    assert!(!handle.pause());
    assert_eq!(data(&mut first), "ab");
}

#[test]
fn body_beyond_the_limit_is_sent_but_not_replayed() {
    let (mut first, handle, _) = replay_body([
        Step::Data(b"01234567890123456789"),
        Step::Data(b"8"),
        Step::Data(b"9"),
        Step::End,
    ]);
    assert_eq!(data(&mut first), "01234567890123456789");
    assert_eq!(lock(&handle.shared).chunks.capacity(), LIMIT);
    assert_eq!(data(&mut first), "8");
    assert_eq!(lock(&handle.shared).chunks.capacity(), 0);
    assert!(handle.take_back().is_none());
    assert_eq!(all(first).0, "9");
}

#[test]
fn trailers_count_towards_the_limit() {
    let (first, handle, _) = replay_body([Step::Data(b"0123456"), Step::Trailers, Step::End]);
    assert_eq!(all(first), ("0123456".into(), Some(trailers())));
    assert!(handle.take_back().is_none());
}

#[test]
fn failed_body_is_not_replayed() {
    let (mut first, handle, _) = replay_body([Step::Data(b"ab"), Step::Failure]);
    assert_eq!(data(&mut first), "ab");
    let error = next(&mut first).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "disk on fire");
    assert!(handle.take_back().is_none());
}

#[test]
fn panicked_body_is_not_replayed() {
    let (mut first, handle, _) = replay_body([Step::Panic]);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut first)));
    assert!(panic.is_err());
    assert!(handle.take_back().is_none());
}

#[test]
fn buffering_stops_once_the_saved_request_is_dropped() {
    let (mut first, handle, _) = replay_body([Step::Data(b"ab"), Step::Data(b"cd"), Step::End]);
    drop(handle);
    assert_eq!(data(&mut first), "ab");
    assert!(matches!(first.0, Repr::Unbuffered(_)));
    assert_eq!(all(first).0, "cd");
}

proptest! {
    /// Both sendings have the same bytes, or there is no second one, for all frames and for a response after any frame.
    #[test]
    fn replayed_bytes_are_those_of_the_body(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..12),
        answered_after in 0usize..12,
        limit in 0usize..120,
    ) {
        let whole: Vec<u8> = frames.concat();
        let steps = frames.iter().map(|frame| Step::Data(Box::leak(frame.clone().into_boxed_slice())));
        let script = Script::of(steps.chain([Step::End]));
        let (mut first, handle) = ReplayBody::new(script, limit);
        let mut sent = Vec::new();
        let mut ended = false;
        for _ in 0..answered_after {
            match next(&mut first) {
                Some(frame) => sent.extend_from_slice(&frame.unwrap().into_data().unwrap()),
                None => {
                    ended = true;
                    break;
                }
            }
        }
        prop_assert!(whole.starts_with(&sent));
        prop_assert!(lock(&handle.shared).chunks.capacity() <= limit);
        match handle.take_back() {
            Some(again) => prop_assert_eq!(all(again).0, whole),
            None => {
                prop_assert!(sent.len() > limit);
                if !ended {
                    sent.extend_from_slice(&all(first).0);
                }
                prop_assert_eq!(sent, whole);
            }
        }
    }
}
