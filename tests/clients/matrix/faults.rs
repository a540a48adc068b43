//! Connections that are lost.

use bytes::Bytes;
use tower_bearer::testing::Fault;

use super::{
    bodies::{digest, some},
    client::{KINDS, Payload},
    fixture::Fixture,
};

#[tokio::test]
async fn a_connection_that_is_lost_during_the_replay_is_the_callers_error() {
    for &kind in KINDS {
        let fixture = Fixture::new(kind).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        fixture.api.fault(Fault::none());
        fixture.api.fault(Fault::drop_connection());
        let error = fixture.post(Payload::Whole(some(5_000))).await.unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
        // Nobody refused the second token.
        let answer = fixture.post(Payload::Whole(Bytes::new())).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_during_a_streams_replay_is_the_callers_error() {
    for &kind in KINDS {
        let fixture = Fixture::keeping(kind, 64 << 10).await;
        fixture.warm_up().await;
        fixture.login.revoke_all();
        fixture.api.fault(Fault::none());
        fixture.api.fault(Fault::drop_connection());
        let error = fixture
            .post(Payload::in_parts(some(50_000)))
            .await
            .unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        assert_eq!(fixture.cache.stats().rejections, 1, "{kind:?}");
    }
}
