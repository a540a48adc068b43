//! Connections that are lost.

use bytes::Bytes;
use tower_bearer::testing::Fault;

use super::{
    bodies::{some, sum},
    client::{KINDS, Load},
    fixture::Stage,
};

#[tokio::test]
async fn a_connection_that_is_lost_during_the_replay_is_the_callers_error() {
    for &kind in KINDS {
        let stage = Stage::new(kind).await;
        stage.warm_up().await;
        stage.login.revoke_all();
        stage.api.fault(Fault::none());
        stage.api.fault(Fault::drop_connection());
        let error = stage.post(Load::Whole(some(5_000))).await.unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        assert_eq!(stage.counts(), (2, 1), "{kind:?}");
        assert_eq!(stage.bodies(), vec![sum(5_000); 2], "{kind:?}");
        // Nobody refused the second token.
        let answer = stage.post(Load::Whole(Bytes::new())).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(stage.counts(), (3, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_during_a_streams_replay_is_the_callers_error() {
    for &kind in KINDS {
        let stage = Stage::keeping(kind, 64 << 10).await;
        stage.warm_up().await;
        stage.login.revoke_all();
        stage.api.fault(Fault::none());
        stage.api.fault(Fault::drop_connection());
        let error = stage.post(Load::in_parts(some(50_000))).await.unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        assert_eq!(stage.counts(), (2, 1), "{kind:?}");
        assert_eq!(stage.cache.stats().rejections, 1, "{kind:?}");
    }
}
