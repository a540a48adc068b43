//! Tests valid and rejected tokens, with bodies in memory.

use bytes::Bytes;
use http::Version;
use tonic::Code;
use tower_bearer::{ErrorKind, layer::Recovery, testing::Fault};

use super::{
    bodies::{MEBIBYTE, digest, pattern},
    client::{KINDS, Payload},
    fixture::Fixture,
};
use crate::fixture::oauth_error;

#[tokio::test]
async fn valid_token_is_fetched_once() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        for _ in 0..3 {
            let response = fixture.send(5_000, (200, "none")).await;
            assert_eq!(response.body, digest(5_000), "{kind:?}");
            let code = kind.is_tonic().then_some(Code::Ok);
            assert_eq!(response.code, code, "{kind:?}");
        }
        assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 3], "{kind:?}");
        assert_eq!(fixture.api.counts().connections, 1, "{kind:?}");
        let version = match kind.is_http2() {
            true => Version::HTTP_2,
            false => Version::HTTP_11,
        };
        assert_eq!(fixture.api.requests()[0].version, version, "{kind:?}");
    }
}

#[tokio::test]
async fn revoked_token_costs_one_fetch_and_one_replay() {
    for &kind in KINDS {
        for size in [0, 5_000, MEBIBYTE] {
            let fixture = Fixture::warm(kind).await;
            fixture.login.revoke_all();
            let response = fixture.send(size, (200, "recovered")).await;
            assert_eq!(response.body, digest(size), "{kind:?}");
            assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
            assert_eq!(fixture.bodies(), vec![digest(size); 2], "{kind:?}");
            let calls = fixture.api.requests();
            assert_ne!(calls[0].token, calls[1].token, "{kind:?}");
            let stats = fixture.cache.stats();
            assert_eq!((stats.rejections, stats.replays), (1, 1), "{kind:?}");
            fixture.send(size, (200, "none")).await;
            assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn second_401_is_returned() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        fixture.api.always_unauthorized(true);
        let response = fixture.send(5_000, (401, "rejected_again")).await;
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
        let code = kind.is_tonic().then_some(Code::Unauthenticated);
        assert_eq!(response.code, code, "{kind:?}");
        // The second rejection did not drop the second token.
        fixture.api.always_unauthorized(false);
        fixture.send(0, (200, "none")).await;
        assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn rejected_requests_do_not_cost_a_fetch_each() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        fixture.api.always_unauthorized(true);
        for _ in 0..20 {
            let response = fixture.post(Payload::Whole(pattern(5_000))).await.unwrap();
            assert_eq!(response.status, 401, "{kind:?}");
        }
        fixture.send(5_000, (401, "rejection_limit_reached")).await;
        assert_eq!(fixture.login.counts().requests, 6, "{kind:?}");
    }
}

#[tokio::test]
async fn without_replay_returns_the_401_and_drops_the_token() {
    for &kind in KINDS {
        let fixture = Fixture::without_replay(kind).await;
        fixture.login.revoke_all();
        fixture.send(5_000, (401, "not_replayable")).await;
        assert_eq!(fixture.api.counts().requests, 1, "{kind:?}");
        fixture.send(5_000, (200, "none")).await;
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn failed_fetch_returns_the_first_401() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        fixture.login.revoke_all();
        fixture.login.fault(oauth_error(400, "invalid_scope"));
        let response = fixture.send(5_000, (401, "no_token")).await;
        let Some(Recovery::NoToken(error)) = response.recovery else {
            panic!("{kind:?}: {:?}", response.recovery);
        };
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{kind:?}");
        // The next call returns the cached error without a request.
        let error = fixture
            .post(Payload::Whole(Bytes::new()))
            .await
            .unwrap_err();
        let kind_of_error = error.token().map(|error| error.kind());
        assert_eq!(kind_of_error, Some(ErrorKind::InvalidScope), "{kind:?}");
        assert_eq!(fixture.api.counts().requests, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn same_token_is_not_replayed() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        fixture.login.repeat_token(true);
        fixture.warm_up().await;
        fixture.login.revoke_all();
        fixture.send(5_000, (401, "same_token")).await;
        assert_eq!(fixture.counts(), (1, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn grpc_status_16_is_a_rejection_and_7_is_not() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        let code = |code| kind.is_tonic().then_some(code);
        fixture.api.fault(Fault::grpc_status(16));
        let response = fixture.send(5_000, (200, "recovered")).await;
        assert_eq!(response.code, code(Code::Ok), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
        fixture.api.fault_times(2, Fault::grpc_status(16));
        let response = fixture.send(5_000, (200, "rejected_again")).await;
        assert_eq!(response.code, code(Code::Unauthenticated), "{kind:?}");
        assert_eq!(fixture.counts(), (4, 2), "{kind:?}");
        fixture.api.fault(Fault::grpc_status(7));
        let response = fixture.send(5_000, (200, "none")).await;
        assert_eq!(response.code, code(Code::PermissionDenied), "{kind:?}");
        assert_eq!(fixture.counts(), (5, 2), "{kind:?}");
    }
}
