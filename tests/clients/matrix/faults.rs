//! Tests lost and refused connections.

use tower_bearer::testing::{Api, Fault};

use super::{
    bodies::{digest, pattern},
    client::{KINDS, Payload},
    fixture::{Fixture, spec},
};

#[tokio::test]
async fn connection_lost_during_replay_is_an_error() {
    for &kind in KINDS {
        for streamed in [false, true] {
            let fixture = match streamed {
                true => Fixture::buffering(kind, 64 << 10).await,
                false => Fixture::warm(kind).await,
            };
            fixture.login.revoke_all();
            fixture.api.fault(Fault::none());
            fixture.api.fault(Fault::drop_connection());
            let payload = match streamed {
                true => Payload::in_parts(pattern(50_000)),
                false => Payload::Whole(pattern(5_000)),
            };
            let error = fixture.post(payload).await.unwrap_err();
            assert!(error.token().is_none(), "{kind:?}: {error}");
            assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
            assert_eq!(fixture.cache.stats().rejections, 1, "{kind:?}");
            if !streamed {
                assert_eq!(fixture.bodies(), vec![digest(5_000); 2], "{kind:?}");
            }
            // The second token was not rejected.
            fixture.send(0, (200, "none")).await;
            assert_eq!(fixture.counts(), (3, 1), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn unreachable_api_is_not_a_rejection() {
    for &kind in KINDS {
        let mut fixture = Fixture::new(kind).await;
        // This drops the last handle of the first API, which closes its port.
        fixture.api = Api::start(&fixture.login).await.unwrap();
        let error = fixture.post(Payload::Whole(pattern(9))).await.unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        assert_eq!(fixture.counts(), (0, 1), "{kind:?}");
        assert_eq!(fixture.cache.stats().rejections, 0, "{kind:?}");
        assert!(fixture.cache.peek(&spec()).is_some(), "{kind:?}");
    }
}
