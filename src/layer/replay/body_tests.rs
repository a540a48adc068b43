use std::collections::VecDeque;

use http::HeaderValue;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};

use super::*;

/// A body that yields what it is told to, when it is told to.
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
        script.go_on(steps);
        script
    }

    fn go_on(&self, steps: impl IntoIterator<Item = Step>) {
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
            Some(Step::Panic) => panic!("a body may do that"),
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

fn tee(steps: impl IntoIterator<Item = Step>) -> (ReplayBody<Script>, Held<Script>, Script) {
    let script = Script::of(steps);
    let (tee, held) = ReplayBody::new(script.clone(), LIMIT);
    (tee, held, script)
}

/// The next frame, which must be there.
fn next(tee: &mut ReplayBody<Script>) -> Option<Result<Frame<Bytes>, BoxError>> {
    assert_ready!(task::spawn(tee.frame()).poll())
}

fn data(tee: &mut ReplayBody<Script>) -> Bytes {
    next(tee).unwrap().unwrap().into_data().unwrap()
}

fn all(tee: ReplayBody<Script>) -> (Bytes, Option<HeaderMap>) {
    let collected = assert_ready!(task::spawn(tee.collect()).poll()).unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}

#[test]
fn what_was_sent_to_the_end_is_sent_again_with_its_trailers() {
    let (first, held, _) = tee([
        Step::Data(b"ab"),
        Step::Data(b"cd"),
        Step::Trailers,
        Step::End,
    ]);
    assert_eq!(all(first), ("abcd".into(), Some(trailers())));
    let again = held.take_back().unwrap();
    assert_eq!(again.size_hint().exact(), Some(4));
    assert_eq!(all(again), ("abcd".into(), Some(trailers())));
}

#[test]
fn frames_are_handed_on_as_they_come() {
    let (mut first, _held, _) = tee([
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
fn a_body_that_was_answered_half_way_is_sent_again_from_its_start_to_its_end() {
    let (mut first, held, script) = tee([Step::Data(b"ab")]);
    assert_eq!(data(&mut first), "ab");
    let mut again = held.take_back().unwrap();
    assert_eq!(data(&mut again), "ab");
    assert_pending!(task::spawn(again.frame()).poll());
    script.go_on([Step::Data(b"cd"), Step::End]);
    assert_eq!(data(&mut again), "cd");
    assert!(next(&mut again).is_none());
}

#[test]
fn the_first_sending_gets_an_error_and_no_end_once_the_body_is_taken_away() {
    let (mut first, held, _) = tee([Step::Data(b"ab")]);
    assert_eq!(data(&mut first), "ab");
    let mut waiting = task::spawn(first.frame());
    assert_pending!(waiting.poll());
    let _again = held.take_back().unwrap();
    assert!(waiting.is_woken());
    let error = assert_ready!(waiting.poll()).unwrap().unwrap_err();
    assert!(error.is::<TakenAway>(), "{error}");
    drop(waiting);
    assert!(!first.is_end_stream());
}

#[test]
fn a_paused_sending_waits_and_goes_on_if_nothing_is_sent_again() {
    let (mut first, mut held, _) = tee([Step::Data(b"ab"), Step::Data(b"cd"), Step::End]);
    assert_eq!(data(&mut first), "ab");
    assert!(held.pause());
    let mut waiting = task::spawn(first.frame());
    assert_pending!(waiting.poll());
    drop(held);
    assert!(waiting.is_woken());
    let frame = assert_ready!(waiting.poll()).unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "cd");
    drop(waiting);
    assert!(next(&mut first).is_none());
}

#[test]
fn a_paused_sending_gets_its_error_once_the_body_is_taken_away() {
    let (mut first, mut held, _) = tee([Step::Data(b"ab"), Step::Data(b"cd"), Step::End]);
    assert_eq!(data(&mut first), "ab");
    assert!(held.pause());
    let mut waiting = task::spawn(first.frame());
    assert_pending!(waiting.poll());
    let again = held.take_back().unwrap();
    assert!(waiting.is_woken());
    let error = assert_ready!(waiting.poll()).unwrap().unwrap_err();
    assert!(error.is::<TakenAway>(), "{error}");
    assert_eq!(all(again).0, "abcd");
}

#[test]
fn what_can_not_be_sent_again_is_not_paused() {
    let (mut first, mut held, _) = tee([
        Step::Data(b"012345678901234567890"),
        Step::Data(b"ab"),
        Step::End,
    ]);
    assert_eq!(data(&mut first).len(), LIMIT + 1);
    assert!(!held.pause());
    assert_eq!(data(&mut first), "ab");
}

#[test]
fn beyond_the_limit_it_is_sent_on_and_not_again() {
    let (mut first, held, _) = tee([
        Step::Data(b"01234567890123456789"),
        Step::Data(b"8"),
        Step::Data(b"9"),
        Step::End,
    ]);
    assert_eq!(data(&mut first), "01234567890123456789");
    assert_eq!(lock(&held.well).kept.capacity(), LIMIT);
    assert_eq!(data(&mut first), "8");
    assert_eq!(lock(&held.well).kept.capacity(), 0);
    assert!(held.take_back().is_none());
    assert_eq!(all(first).0, "9");
}

#[test]
fn trailers_count_towards_the_limit() {
    let (first, held, _) = tee([Step::Data(b"0123456"), Step::Trailers, Step::End]);
    assert_eq!(all(first), ("0123456".into(), Some(trailers())));
    assert!(held.take_back().is_none());
}

#[test]
fn a_body_that_failed_is_not_sent_again() {
    let (mut first, held, _) = tee([Step::Data(b"ab"), Step::Failure]);
    assert_eq!(data(&mut first), "ab");
    let error = next(&mut first).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "disk on fire");
    assert!(held.take_back().is_none());
}

#[test]
fn a_body_that_panicked_is_not_sent_again() {
    let (mut first, held, _) = tee([Step::Panic]);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut first)));
    assert!(panic.is_err());
    assert!(held.take_back().is_none());
}

#[test]
fn nothing_is_kept_once_nobody_can_send_it_again() {
    let (mut first, held, _) = tee([Step::Data(b"ab"), Step::Data(b"cd"), Step::End]);
    drop(held);
    assert_eq!(data(&mut first), "ab");
    assert!(matches!(first.0, Side::Alone(_)));
    assert_eq!(all(first).0, "cd");
}

proptest! {
    /// However the body is cut, and wherever it is answered: both sendings are the same bytes, or there is no second.
    #[test]
    fn both_sendings_are_the_same(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..12),
        answered_after in 0usize..12,
        limit in 0usize..120,
    ) {
        let whole: Vec<u8> = frames.concat();
        let steps = frames.iter().map(|frame| Step::Data(Box::leak(frame.clone().into_boxed_slice())));
        let script = Script::of(steps.chain([Step::End]));
        let (mut first, held) = ReplayBody::new(script, limit);
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
        prop_assert!(lock(&held.well).kept.capacity() <= limit);
        match held.take_back() {
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
