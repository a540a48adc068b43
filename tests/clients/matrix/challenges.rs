//! Servers that ask for claims and for scopes.

use base64::{Engine, engine::general_purpose::STANDARD};
use tonic::Code;
use tower_bearer::{
    layer::{Recovery, Verdict},
    testing::Fault,
};

use super::{
    bodies::{some, sum},
    client::{KINDS, Load},
    stage::Stage,
};

const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;

fn wanting_claims() -> Fault {
    let claims = STANDARD.encode(CLAIMS);
    let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
    Fault::status(401).with_header("www-authenticate", challenge)
}

#[tokio::test]
async fn claims_go_into_the_next_token_request_and_into_later_ones() {
    for &kind in KINDS {
        let stage = Stage::new(kind).await;
        stage.warm_up().await;
        stage.api.fault(wanting_claims());
        let answer = stage.post(Load::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.body, sum(5_000), "{kind:?}");
        assert_eq!(stage.counts(), (2, 1), "{kind:?}");
        stage.login.revoke_all();
        stage.post(Load::Whole(some(5_000))).await.unwrap();
        let with_claims = ("read".to_owned(), Some(CLAIMS.to_owned()));
        assert_eq!(stage.asked(), vec![with_claims; 2], "{kind:?}");
        assert_eq!(stage.counts(), (4, 2), "{kind:?}");
        assert_eq!(stage.bodies(), vec![sum(5_000); 4], "{kind:?}");
    }
}

#[tokio::test]
async fn claims_that_are_wanted_again_are_the_callers_to_see() {
    for &kind in KINDS {
        let stage = Stage::new(kind).await;
        stage.warm_up().await;
        stage.api.fault_times(2, wanting_claims());
        let answer = stage.post(Load::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (401, "unsatisfiable"), "{kind:?}");
        let Some(Recovery::Unsatisfiable(Verdict::ClaimsRequired(claims))) = answer.recovery else {
            panic!("{kind:?}: {:?}", answer.recovery);
        };
        assert_eq!(&*claims, CLAIMS, "{kind:?}");
        assert_eq!(stage.counts(), (2, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn scopes_that_the_route_allows_are_asked_for_once_and_remembered() {
    for &kind in KINDS {
        let stage = Stage::new(kind).await;
        stage.warm_up().await;
        let answer = stage.post_to("/write", Load::Whole(some(5_000))).await;
        let answer = answer.unwrap();
        assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        assert_eq!(answer.body, sum(5_000), "{kind:?}");
        assert_eq!(stage.api.counts().forbidden, 1, "{kind:?}");
        assert_eq!(stage.counts(), (2, 1), "{kind:?}");
        // The next one goes with the wider token at once, and so does one to a place that had enough of the old one.
        for path in ["/write", "/echo"] {
            let answer = stage.post_to(path, Load::Whole(some(5_000))).await.unwrap();
            assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
        }
        assert_eq!(stage.counts(), (4, 1), "{kind:?}");
        assert_eq!(stage.asked(), [("read write".to_owned(), None)], "{kind:?}");
        assert_eq!(stage.bodies(), vec![sum(5_000); 4], "{kind:?}");
        assert_eq!(stage.cache.stats().rejections, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn scopes_beyond_what_the_route_allows_are_the_callers_to_see() {
    for &kind in KINDS {
        let stage = Stage::new(kind).await;
        stage.warm_up().await;
        for _ in 0..3 {
            let answer = stage.post_to("/admin", Load::Whole(some(5_000))).await;
            let answer = answer.unwrap();
            assert_eq!(answer.outcome(), (403, "unsatisfiable"), "{kind:?}");
            let Some(Recovery::Unsatisfiable(Verdict::ScopesRequired(scopes))) = &answer.recovery
            else {
                panic!("{kind:?}: {:?}", answer.recovery);
            };
            assert_eq!(scopes[..], ["admin"], "{kind:?}");
            let code = kind.is_tonic().then_some(Code::PermissionDenied);
            assert_eq!(answer.code, code, "{kind:?}");
        }
        assert_eq!(stage.counts(), (3, 0), "{kind:?}");
        // The token is as good as before.
        let answer = stage.post(Load::Whole(some(5_000))).await.unwrap();
        assert_eq!(answer.outcome(), (200, "none"), "{kind:?}");
    }
}
