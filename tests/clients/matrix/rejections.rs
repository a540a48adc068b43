//! Tokens that are good, and tokens that are refused, with bodies that are in memory.

use bytes::Bytes;
use tonic::Code;
use tower_bearer::testing::Fault;

use super::{
    bodies::{MEBIBYTE, digest, some},
    client::{KINDS, Payload},
    fixture::Fixture,
};

#[tokio::test]
async fn a_good_token_costs_one_fetch_and_one_send_each() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        for _ in 0..3 {
            let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
            assert_eq!(answer.body, digest(5_000), "{kind:?}");
            assert_eq!(answer.code, kind.is_tonic().then_some(Code::Ok), "{kind:?}");
        }
        assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 3], "{kind:?}");
        assert_eq!(fixture.api.counts().connections, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_revoked_token_costs_one_fetch_and_one_more_send_of_the_same_bytes() {
    for &kind in KINDS {
        for size in [0, 5_000, MEBIBYTE] {
            let fixture = Fixture::new(kind).await;
            fixture.warm_up().await;
            fixture.login.revoke_all();
            let answer = fixture.post(Payload::Whole(some(size))).await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
            assert_eq!(answer.body, digest(size), "{kind:?}");
            assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
            assert_eq!(fixture.bodies(), vec![digest(size); 2], "{kind:?}");
            let calls = fixture.api.requests();
            assert_ne!(calls[0].token, calls[1].token, "{kind:?}");
            let stats = fixture.cache.stats();
            assert_eq!((stats.rejections, stats.replays), (1, 1), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_second_refusal_is_the_callers_as_it_came() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        fixture.warm_up().await;
        fixture.api.always_unauthorized(true);
        let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (401, "rejected_again"), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
        let code = kind.is_tonic().then_some(Code::Unauthenticated);
        assert_eq!(answer.code, code, "{kind:?}");
        // The second token was not taken out of service by the same request.
        fixture.api.always_unauthorized(false);
        let answer = fixture.post(Payload::Whole(Bytes::new())).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn without_replay_a_refusal_is_the_callers_and_the_token_goes() {
    for &kind in KINDS {
        let fixture = Fixture::without_replay(kind).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (401, "not_replayable"), "{kind:?}");
        assert_eq!(fixture.api.counts().requests, 1, "{kind:?}");
        let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn grpc_status_16_without_a_body_is_a_refusal_and_7_is_none() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        fixture.warm_up().await;
        fixture.api.fault(Fault::grpc_status(16));
        let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.code, kind.is_tonic().then_some(Code::Ok), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
        fixture.api.fault_times(2, Fault::grpc_status(16));
        let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "rejected_again"), "{kind:?}");
        let code = kind.is_tonic().then_some(Code::Unauthenticated);
        assert_eq!(answer.code, code, "{kind:?}");
        assert_eq!(fixture.counts(), (4, 2), "{kind:?}");
        fixture.api.fault(Fault::grpc_status(7));
        let answer = fixture.post(Payload::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        let code = kind.is_tonic().then_some(Code::PermissionDenied);
        assert_eq!(answer.code, code, "{kind:?}");
        assert_eq!(fixture.counts(), (5, 2), "{kind:?}");
    }
}
