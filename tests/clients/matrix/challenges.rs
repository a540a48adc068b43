//! Tests servers whose challenges require claims or scopes.

use base64::{Engine, engine::general_purpose::STANDARD};
use tonic::Code;
use tower_bearer::{
    layer::{Recovery, Verdict},
    testing::Fault,
};

use super::{bodies::digest, client::KINDS, fixture::Fixture};

const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;

fn claims_challenge() -> Fault {
    let claims = STANDARD.encode(CLAIMS);
    let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
    Fault::status(401).with_header("www-authenticate", challenge)
}

#[tokio::test]
async fn required_claims_are_requested_from_then_on() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        fixture.api.fault(claims_challenge());
        let response = fixture.send(5_000, (200, "recovered")).await;
        assert_eq!(response.body, digest(5_000), "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        fixture.login.revoke_all();
        fixture.send(5_000, (200, "recovered")).await;
        let with_claims = ("read".to_owned(), Some(CLAIMS.to_owned()));
        assert_eq!(fixture.token_requests(), vec![with_claims; 2], "{kind:?}");
        assert_eq!(fixture.counts(), (4, 2), "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 4], "{kind:?}");
    }
}

#[tokio::test]
async fn repeated_claims_challenge_is_unsatisfiable() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        fixture.api.fault_times(2, claims_challenge());
        let response = fixture.send(5_000, (401, "unsatisfiable")).await;
        let Some(Recovery::Unsatisfiable(Verdict::ClaimsRequired(claims))) = response.recovery
        else {
            panic!("{kind:?}: {:?}", response.recovery);
        };
        assert_eq!(&*claims, CLAIMS, "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn allowed_scopes_are_requested_once() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        let response = fixture.send_to("/write", 5_000, (200, "recovered")).await;
        assert_eq!(response.body, digest(5_000), "{kind:?}");
        assert_eq!(fixture.api.counts().forbidden, 1, "{kind:?}");
        assert_eq!(fixture.counts(), (2, 1), "{kind:?}");
        // Later requests use the wider token, including those that do not need it.
        for path in ["/write", "/echo"] {
            fixture.send_to(path, 5_000, (200, "none")).await;
        }
        assert_eq!(fixture.counts(), (4, 1), "{kind:?}");
        let wider = [("read write".to_owned(), None)];
        assert_eq!(fixture.token_requests(), wider, "{kind:?}");
        assert_eq!(fixture.bodies(), vec![digest(5_000); 4], "{kind:?}");
        assert_eq!(fixture.cache.stats().rejections, 0, "{kind:?}");
    }
}

#[tokio::test]
async fn disallowed_scopes_are_unsatisfiable() {
    for &kind in KINDS {
        let fixture = Fixture::warm(kind).await;
        for _ in 0..3 {
            let response = fixture
                .send_to("/admin", 5_000, (403, "unsatisfiable"))
                .await;
            let Some(Recovery::Unsatisfiable(Verdict::ScopesRequired(scopes))) = &response.recovery
            else {
                panic!("{kind:?}: {:?}", response.recovery);
            };
            assert_eq!(scopes[..], ["admin"], "{kind:?}");
            let code = kind.is_tonic().then_some(Code::PermissionDenied);
            assert_eq!(response.code, code, "{kind:?}");
        }
        assert_eq!(fixture.counts(), (3, 0), "{kind:?}");
        // The token is still valid.
        fixture.send(5_000, (200, "none")).await;
    }
}
