//! One request at a time, over every client: good and refused tokens, and what goes wrong on the way.

use bytes::Bytes;
use http::Version;
use tower_bearer::{ErrorKind, layer::Recovery, testing::Fault};

use crate::caller::{Caller, KINDS, Kind};

/// Every byte there is, several times over.
fn body() -> Bytes {
    (0..=255u8).cycle().take(5_000).collect()
}

#[tokio::test]
async fn a_good_token_goes_with_every_request() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        for _ in 0..3 {
            let answer = caller.post(body()).await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
            assert_eq!(answer.body, body(), "{kind:?}");
            let version = match kind {
                Kind::Reqwest | Kind::Http1 => Version::HTTP_11,
                Kind::Http2 | Kind::HyperTls | Kind::ReqwestTls => Version::HTTP_2,
            };
            assert_eq!(answer.version, version, "{kind:?}");
        }
        assert_eq!(
            (caller.api.counts().ok, caller.fetches()),
            (3, 1),
            "{kind:?}"
        );
        assert_eq!(caller.bodies(), [body(), body(), body()], "{kind:?}");
    }
}

#[tokio::test]
async fn a_revoked_token_costs_one_fetch_and_the_body_goes_twice() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.post(Bytes::new()).await.unwrap();
        caller.login.revoke_all();
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.body, body(), "{kind:?}");
        let counts = caller.api.counts();
        assert_eq!((counts.requests, counts.unauthorized), (3, 1), "{kind:?}");
        assert_eq!(caller.fetches(), 2, "{kind:?}");
        assert_eq!(caller.bodies()[1..], [body(), body()], "{kind:?}");
        let calls = caller.api.requests();
        assert_eq!(calls[0].token, calls[1].token, "{kind:?}");
        assert_ne!(calls[1].token, calls[2].token, "{kind:?}");
        let stats = caller.cache.stats();
        assert_eq!((stats.rejections, stats.replays), (1, 1), "{kind:?}");
        // It stays in service.
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(caller.fetches(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_second_refusal_is_the_callers() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.api.always_unauthorized(true);
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (401, "rejected_again"), "{kind:?}");
        assert_eq!(
            (caller.api.counts().requests, caller.fetches()),
            (2, 2),
            "{kind:?}"
        );
        assert_eq!(caller.bodies(), [body(), body()], "{kind:?}");
    }
}

#[tokio::test]
async fn an_api_that_refuses_every_token_does_not_cost_a_fetch_per_request() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.api.always_unauthorized(true);
        for _ in 0..20 {
            assert_eq!(caller.post(body()).await.unwrap().status, 401, "{kind:?}");
        }
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(
            answer.outcome(),
            (401, "rejection_limit_reached"),
            "{kind:?}"
        );
        assert_eq!(caller.fetches(), 6, "{kind:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_read_once_goes_once_and_its_token_is_dropped() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        let answer = caller.post_once(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(answer.body, body(), "{kind:?}");
        caller.login.revoke_all();
        let answer = caller.post_once(body()).await.unwrap();
        assert_eq!(answer.outcome(), (401, "not_replayable"), "{kind:?}");
        assert_eq!(caller.api.counts().requests, 2, "{kind:?}");
        assert_eq!(caller.cache.stats().rejections, 1, "{kind:?}");
        let answer = caller.post_once(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(caller.fetches(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_connection_that_drops_under_the_replay_is_the_callers_error() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.post(Bytes::new()).await.unwrap();
        caller.login.revoke_all();
        caller.api.fault(Fault::none());
        caller.api.fault(Fault::drop_connection());
        let error = caller.post(body()).await.unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        let counts = caller.api.counts();
        assert_eq!((counts.requests, caller.fetches()), (3, 2), "{kind:?}");
        // Nobody refused the second token.
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(caller.fetches(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn grpc_status_16_in_the_headers_is_a_refusal_and_others_are_none() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.api.fault(Fault::grpc_status(16));
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.body, body(), "{kind:?}");
        assert_eq!(
            (caller.api.counts().requests, caller.fetches()),
            (2, 2),
            "{kind:?}"
        );
        caller.api.fault(Fault::grpc_status(7));
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        assert_eq!(caller.fetches(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_is_the_callers_error_and_no_refusal() {
    for kind in KINDS {
        let mut caller = Caller::new(kind).await;
        let gone = caller.post(body());
        // The handle was the last one: the port closes.
        caller.api = tower_bearer::testing::Api::start(&caller.login)
            .await
            .unwrap();
        let error = gone.await.unwrap_err();
        assert!(error.token().is_none(), "{kind:?}: {error}");
        assert_eq!(caller.fetches(), 1, "{kind:?}");
        assert_eq!(caller.cache.stats().rejections, 0, "{kind:?}");
        assert!(caller.cache.peek(&caller.spec).is_some(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_provider_that_is_out_of_order_leaves_the_caller_the_first_401() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.post(Bytes::new()).await.unwrap();
        caller.login.revoke_all();
        let fault = Fault::answer(
            400,
            Some("application/json"),
            r#"{"error":"invalid_scope"}"#,
        );
        caller.login.fault(fault);
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (401, "no_token"), "{kind:?}");
        let Some(Recovery::NoToken(error)) = answer.recovery else {
            unreachable!("it was just compared");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidScope, "{kind:?}");
        // And from then on, the error itself, without a request.
        let error = caller.post(body()).await.unwrap_err();
        assert_eq!(
            error.token().map(|error| error.kind()),
            Some(ErrorKind::InvalidScope)
        );
        assert_eq!(caller.api.counts().requests, 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_provider_that_repeats_its_token_is_asked_once_and_nothing_is_sent_again() {
    for kind in KINDS {
        let caller = Caller::new(kind).await;
        caller.login.repeat_token(true);
        caller.post(Bytes::new()).await.unwrap();
        caller.login.revoke_all();
        let answer = caller.post(body()).await.unwrap();
        assert_eq!(answer.outcome(), (401, "same_token"), "{kind:?}");
        assert_eq!(
            (caller.api.counts().requests, caller.fetches()),
            (2, 2),
            "{kind:?}"
        );
    }
}
