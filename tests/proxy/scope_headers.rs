//! Tests `x-token-scope` and `x-token-resource`.

use crate::support::{Fixture, upstream};

const ROUTE: &str = "resource = 'https://stock.example'\naudience = 'stock'\nallow_scopes = ['write', 'admin']\nallow_resources = ['urn:other']";

/// Returns the status of the response, and the scopes, resources and audience of the token request.
async fn requested(fixture: &Fixture, headers: &[(&str, &str)]) -> (u16, Vec<(String, String)>) {
    fixture.login.reset_counts();
    let answer = fixture.proxy.get_with("/api/x", headers).await;
    let call = fixture.login.requests().pop();
    let form = call.map(|call| call.form).unwrap_or_default();
    let named = |name: &str| matches!(name, "scope" | "resource" | "audience");
    let pairs = form.into_iter().filter(|(name, _)| named(name));
    (answer.status, pairs.collect())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    pairs.collect()
}

#[tokio::test]
async fn scope_headers_replace_only_their_part_of_the_spec() {
    let fixture = Fixture::with(ROUTE, "").await;
    let (stock, audience) = (("resource", "https://stock.example"), ("audience", "stock"));
    for (headers, expected) in [
        (&[][..], [("scope", "read"), stock, audience]),
        (
            &[("x-token-scope", "write")],
            [("scope", "write"), stock, audience],
        ),
        (
            &[("X-Token-Scope", "write read")],
            [("scope", "read write"), stock, audience],
        ),
        (
            &[("x-token-resource", "urn:other")],
            [("scope", "read"), ("resource", "urn:other"), audience],
        ),
        (
            &[
                ("x-token-resource", "urn:other"),
                ("x-token-scope", "admin"),
            ],
            [("scope", "admin"), ("resource", "urn:other"), audience],
        ),
    ] {
        let expected = (200, pairs(&expected));
        assert_eq!(requested(&fixture, headers).await, expected, "{headers:?}");
        let seen = fixture.api.requests().pop().unwrap();
        let mut names = seen.headers.keys().map(|name| name.as_str());
        assert!(
            names.all(|name| !name.starts_with("x-token-")),
            "{headers:?}"
        );
    }
    // The route's own scopes and resources are allowed, and the token is already cached.
    for header in [
        ("x-token-scope", "read"),
        ("x-token-resource", "https://stock.example"),
    ] {
        assert_eq!(requested(&fixture, &[header]).await, (200, vec![]));
    }
}

#[tokio::test]
async fn disallowed_scope_or_resource_is_403() {
    let fixture = Fixture::with(ROUTE, "").await;
    for headers in [
        [("x-token-scope", "root")],
        [("x-token-scope", "write root")],
        [("x-token-scope", "WRITE")],
        [("x-token-resource", "urn:else")],
        [("x-token-resource", "https://stock.example/")],
        [("x-token-scope", "*")],
    ] {
        let answer = fixture.proxy.get_with("/api/x", &headers).await;
        answer.assert_problem(403, "forbidden");
    }
    assert_eq!(
        (
            fixture.login.counts().requests,
            fixture.api.counts().requests
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn undeclared_scopes_and_resources_are_403() {
    let fixture = Fixture::new().await;
    assert_eq!(
        requested(&fixture, &[("x-token-scope", "write")]).await.0,
        403
    );
    assert_eq!(
        requested(&fixture, &[("x-token-resource", "urn:x")])
            .await
            .0,
        403
    );
    assert_eq!(
        requested(&fixture, &[("x-token-scope", "read")]).await.0,
        200
    );
}

#[tokio::test]
async fn star_allows_any_scope_and_resource() {
    let fixture = Fixture::with("allow_scopes = ['*']\nallow_resources = ['*']", "").await;
    let headers = [
        ("x-token-scope", "what ever"),
        ("x-token-resource", "https://any.example/x?y"),
    ];
    let expected = pairs(&[
        ("scope", "ever what"),
        ("resource", "https://any.example/x?y"),
    ]);
    assert_eq!(requested(&fixture, &headers).await, (200, expected));
}

#[tokio::test]
async fn scope_headers_without_a_route_are_403() {
    let Fixture { api, proxy, .. } = Fixture::unprotected(|api| upstream("/a", &api.url())).await;
    for header in [("x-token-scope", "read"), ("x-token-resource", "urn:x")] {
        let answer = proxy.get_with("/a/x", &[header]).await;
        answer.assert_problem(403, "forbidden");
    }
    assert_eq!(api.counts().requests, 0);
}

#[tokio::test]
async fn repeated_or_invalid_scope_header_is_400() {
    let fixture = Fixture::with("allow_scopes = ['*']\nallow_resources = ['*']", "").await;
    for headers in [
        &[("x-token-scope", "a"), ("x-token-scope", "a")][..],
        &[("x-token-resource", "urn:a"), ("X-Token-Resource", "urn:a")],
        &[("x-token-scope", "")],
        &[("x-token-scope", "a\"b")],
        &[("x-token-scope", "a\\b")],
        &[("x-token-scope", "é")],
        &[("x-token-scope", "a  b")],
        &[("x-token-scope", "a\tb")],
        &[("x-token-resource", "")],
        &[("x-token-resource", "/relative")],
        &[("x-token-resource", "stock")],
        &[("x-token-resource", "https://a.example/#f")],
        &[("x-token-resource", "https://a.example#")],
        &[("x-token-resource", "https://a.example https://b.example")],
        &[("x-token-resource", "https://a.example/\"")],
        &[("x-token-resource", "https://")],
    ] {
        let answer = fixture.proxy.get_with("/api/x", headers).await;
        answer.assert_problem(400, "bad_request");
    }
    assert_eq!(
        (
            fixture.login.counts().requests,
            fixture.api.counts().requests
        ),
        (0, 0)
    );
}
