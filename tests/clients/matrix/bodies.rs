//! Bodies of every kind under a refusal: in memory, read once, streamed, kept up to a limit and beyond it.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tower_bearer::testing::Fault;

use super::{
    client::{Digest, KINDS, Payload},
    fixture::Fixture,
};

pub(super) const MEBIBYTE: usize = 1 << 20;
const PART: usize = 16 << 10;

/// So many bytes, of every kind there is, and not the same in any two parts of a stream.
pub(super) fn some(size: usize) -> Bytes {
    (0..size).map(|i| (i % 251) as u8).collect()
}

pub(super) fn digest(size: usize) -> Digest {
    Digest::of(&some(size))
}

#[tokio::test]
async fn a_body_that_is_read_once_goes_once_and_the_refusal_is_the_callers() {
    for &kind in KINDS {
        let fixture = Fixture::plain(kind).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        let answer = fixture.post(Payload::Once(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (401, "not_replayable"), "{kind:?}");
        assert_eq!(fixture.bodies(), [digest(5_000)], "{kind:?}");
        let answer = fixture.post(Payload::Once(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn with_a_buffer_a_body_that_is_read_once_goes_twice() {
    for &kind in KINDS {
        let fixture = Fixture::keeping(kind, 8 << 10).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        let answer = fixture.post(Payload::Once(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.body, digest(5_000), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
    }
}

#[tokio::test]
async fn a_stream_within_the_limit_goes_twice_to_the_last_byte() {
    for &kind in KINDS {
        let fixture = Fixture::keeping(kind, 2 * MEBIBYTE).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        let answer = fixture
            .post(Payload::in_parts(some(MEBIBYTE)))
            .await
            .unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(MEBIBYTE); 2], "{kind:?}");
    }
}

#[tokio::test]
async fn a_stream_beyond_the_limit_goes_once_to_the_last_byte() {
    for &kind in KINDS {
        let fixture = Fixture::keeping(kind, MEBIBYTE / 2).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        let answer = fixture
            .post(Payload::in_parts(some(MEBIBYTE)))
            .await
            .unwrap();
        assert_eq!(answer.outcome(), (401, "not_replayable"), "{kind:?}");
        assert_eq!(fixture.bodies(), [digest(MEBIBYTE)], "{kind:?}");
        let answer = fixture
            .post(Payload::in_parts(some(MEBIBYTE)))
            .await
            .unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(MEBIBYTE); 2], "{kind:?}");
    }
}

/// A 401 that does not wait for the body, and that is longer than what the sockets hold.
fn early() -> Fault {
    let challenge = "Bearer error=\"invalid_token\"";
    let refused = Fault::status(401).with_header("www-authenticate", challenge);
    let why = some(REASON);
    refused.with_body("text/plain", why).before_body()
}

const REASON: usize = 8 * MEBIBYTE;

/// A stream that yields its first part, and the rest when it is told to.
fn held(size: usize) -> (Payload, oneshot::Sender<()>) {
    let (sender, parts) = mpsc::channel(1);
    let (go_on, told) = oneshot::channel();
    let mut rest = some(size);
    tokio::spawn(async move {
        let first = rest.split_to(rest.len().min(PART));
        sender.send(first).await.unwrap();
        let _ = told.await;
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART));
            if sender.send(part).await.is_err() {
                return;
            }
        }
    });
    (Payload::Stream(parts), go_on)
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_is_recovered_from_with_the_rest_of_the_stream() {
    for &kind in KINDS {
        // Not even a buffer for all of it is needed: what was not yet sent goes once.
        let fixture = Fixture::keeping(kind, MEBIBYTE / 2).await;
        fixture.warm_up().await;
        fixture.api.fault(early());
        let (payload, go_on) = held(MEBIBYTE);
        let again = async {
            fixture.api.wait_for_requests(2).await;
            go_on.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(fixture.post(payload), again);
        assert_eq!(answer.unwrap().outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies()[1], digest(MEBIBYTE), "{kind:?}");
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_reaches_the_caller_whole_if_there_is_no_other_token()
{
    for &kind in KINDS {
        let fixture = Fixture::keeping(kind, 2 * MEBIBYTE).await;
        fixture.warm_up().await;
        fixture.api.fault(early());
        let refused = Fault::answer(
            400,
            Some("application/json"),
            r#"{"error":"invalid_grant"}"#,
        );
        fixture.login.fault(refused);
        let (payload, _held) = held(MEBIBYTE);
        let answer = fixture.post(payload).await.unwrap();
        assert_eq!(answer.outcome(), (401, "no_token"), "{kind:?}");
        if !kind.is_tonic() {
            assert_eq!(answer.body, digest(REASON), "{kind:?}");
        }
        assert_eq!(fixture.counts(), (1, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn a_refusal_too_many_before_the_end_of_the_body_does_not_cut_the_stream() {
    for &kind in KINDS {
        let fixture = Fixture::keeping(kind, 2 * MEBIBYTE).await;
        fixture.warm_up().await;
        fixture.api.always_unauthorized(true);
        for _ in 0..5 {
            let answer = fixture.post(Payload::Whole(some(9))).await.unwrap();
            assert_eq!(answer.outcome(), (401, "rejected_again"), "{kind:?}");
        }
        fixture.api.reset_counts();
        fixture.api.fault(early());
        let (payload, _held) = held(MEBIBYTE);
        let answer = fixture.post(payload).await.unwrap();
        assert_eq!(
            answer.outcome(),
            (401, "rejection_limit_reached"),
            "{kind:?}"
        );
        if !kind.is_tonic() {
            assert_eq!(answer.body, digest(REASON), "{kind:?}");
        }
        assert_eq!(fixture.api.counts().requests, 1, "{kind:?}");
    }
}
