//! Tests how bodies are replayed: not clonable, streamed, within the buffer's limit and beyond it.

use bytes::Bytes;
use tower_bearer::testing::Fault;

use super::{
    client::{Digest, KINDS, Payload},
    fixture::Fixture,
};
use crate::fixture::oauth_error;

pub(super) const MEBIBYTE: usize = 1 << 20;

/// Returns `size` bytes that include every value and differ between the parts of a stream.
pub(super) fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| (i % 257) as u8).collect()
}

pub(super) fn digest(size: usize) -> Digest {
    Digest::of(&pattern(size))
}

#[tokio::test]
async fn body_that_cannot_be_cloned_is_not_replayed() {
    for &kind in KINDS {
        let fixture = Fixture::plain(kind).await;
        fixture.login.revoke_all();
        let once = || Payload::Once(pattern(5_000));
        fixture.send_payload(once(), (401, "not_replayable")).await;
        assert_eq!(fixture.bodies(), [digest(5_000)], "{kind:?}");
        assert_eq!(fixture.cache.stats().rejections, 1, "{kind:?}");
        let response = fixture.send_payload(once(), (200, "none")).await;
        assert_eq!(response.body, digest(5_000), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn buffered_body_is_replayed_whole() {
    for &kind in KINDS {
        for (limit, payload, size) in [
            (8 << 10, Payload::Once(pattern(5_000)), 5_000),
            (2 * MEBIBYTE, Payload::in_parts(pattern(MEBIBYTE)), MEBIBYTE),
        ] {
            let fixture = Fixture::buffering(kind, limit).await;
            fixture.login.revoke_all();
            let response = fixture.send_payload(payload, (200, "recovered")).await;
            // The response to a stream has several messages, of which tonic returns the first.
            if size < MEBIBYTE {
                assert_eq!(response.body, digest(size), "{kind:?}");
            }
            assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
            assert_eq!(fixture.bodies(), vec![digest(size); 2], "{kind:?}");
        }
    }
}

#[tokio::test]
async fn stream_beyond_the_limit_is_sent_whole_and_not_replayed() {
    for &kind in KINDS {
        let fixture = Fixture::buffering(kind, MEBIBYTE / 2).await;
        fixture.login.revoke_all();
        let stream = || Payload::in_parts(pattern(MEBIBYTE));
        fixture
            .send_payload(stream(), (401, "not_replayable"))
            .await;
        assert_eq!(fixture.bodies(), [digest(MEBIBYTE)], "{kind:?}");
        fixture.send_payload(stream(), (200, "none")).await;
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(MEBIBYTE); 2], "{kind:?}");
    }
}

/// A 401 that does not wait for the body, and whose own body is larger than the socket buffers.
fn early_401() -> Fault {
    let challenge = "Bearer error=\"invalid_token\"";
    let refused = Fault::status(401).with_header("www-authenticate", challenge);
    let why = pattern(RESPONSE_SIZE);
    refused.with_body("text/plain", why).before_body()
}

const RESPONSE_SIZE: usize = 8 * MEBIBYTE;

#[tokio::test]
async fn early_401_replays_with_the_rest_of_the_stream() {
    for &kind in KINDS {
        // The buffer is smaller than the body: the part that was not yet sent needs no buffer.
        let fixture = Fixture::buffering(kind, MEBIBYTE / 2).await;
        fixture.api.fault(early_401());
        let (payload, resume) = Payload::paused(pattern(MEBIBYTE));
        let again = async {
            fixture.api.wait_for_requests(2).await;
            resume.send(()).unwrap();
        };
        tokio::join!(fixture.send_payload(payload, (200, "recovered")), again);
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies()[1], digest(MEBIBYTE), "{kind:?}");
    }
}

#[tokio::test]
async fn early_401_passes_whole_without_a_new_token() {
    for &kind in KINDS {
        let fixture = Fixture::buffering(kind, 2 * MEBIBYTE).await;
        fixture.api.fault(early_401());
        fixture.login.fault(oauth_error(400, "invalid_grant"));
        let (payload, _rest) = Payload::paused(pattern(MEBIBYTE));
        let response = fixture.send_payload(payload, (401, "no_token")).await;
        if !kind.is_tonic() {
            assert_eq!(response.body, digest(RESPONSE_SIZE), "{kind:?}");
        }
        assert_eq!(fixture.counts(), (1, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn early_401_beyond_the_rejection_limit_passes_whole() {
    for &kind in KINDS {
        let fixture = Fixture::buffering(kind, 2 * MEBIBYTE).await;
        fixture.api.always_unauthorized(true);
        for _ in 0..5 {
            fixture.send(9, (401, "rejected_again")).await;
        }
        fixture.api.reset_counts();
        fixture.api.fault(early_401());
        let (payload, _rest) = Payload::paused(pattern(MEBIBYTE));
        let outcome = (401, "rejection_limit_reached");
        let response = fixture.send_payload(payload, outcome).await;
        if !kind.is_tonic() {
            assert_eq!(response.body, digest(RESPONSE_SIZE), "{kind:?}");
        }
        assert_eq!(fixture.api.counts().requests, 1, "{kind:?}");
    }
}
