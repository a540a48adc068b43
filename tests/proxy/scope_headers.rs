//! Tests `x-token-scope` and `x-token-resource`.

use crate::support::{Fixture, Response, upstream};

const ROUTE: &str = "resource = 'https://stock.example'\naudience = 'stock'\nallow_scopes = ['write', 'admin']\nallow_resources = ['urn:other']";
const ANY: &str = "allow_scopes = ['*']\nallow_resources = ['*']";

/// Sends a request with headers, which are separated by ` ; `.
async fn get(fixture: &Fixture, headers: &str) -> Response {
    let headers = headers
        .split(" ; ")
        .filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.collect();
    fixture.proxy.get_with("/api/x", &headers).await
}

/// Returns the status of the response, and the scopes, resources and audience of the token request.
async fn requested(fixture: &Fixture, headers: &str) -> (u16, String) {
    fixture.login.reset_counts();
    let answer = get(fixture, headers).await;
    let call = fixture.login.requests().pop();
    let form = call.map(|call| call.form).unwrap_or_default();
    let form = form
        .iter()
        .filter(|(name, _)| matches!(&**name, "scope" | "resource" | "audience"));
    let form: Vec<_> = form
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    (answer.status, form.join("&"))
}

#[tokio::test]
async fn scope_headers_replace_only_their_part_of_the_spec() {
    let fixture = Fixture::with(ROUTE, "").await;
    for (headers, scope, resource) in [
        ("", "read", "https://stock.example"),
        ("x-token-scope: write", "write", "https://stock.example"),
        (
            "X-Token-Scope: write read",
            "read write",
            "https://stock.example",
        ),
        ("x-token-resource: urn:other", "read", "urn:other"),
        (
            "x-token-resource: urn:other ; x-token-scope: admin",
            "admin",
            "urn:other",
        ),
    ] {
        let expected = format!("scope={scope}&resource={resource}&audience=stock");
        assert_eq!(
            requested(&fixture, headers).await,
            (200, expected),
            "{headers}"
        );
        let seen = fixture.api.requests().pop().unwrap();
        let mut names = seen.headers.keys().map(|name| name.as_str());
        assert!(names.all(|name| !name.starts_with("x-token-")), "{headers}");
    }
    // The route's own scopes and resources are allowed, and the token is already cached.
    for headers in [
        "x-token-scope: read",
        "x-token-resource: https://stock.example",
    ] {
        assert_eq!(requested(&fixture, headers).await, (200, String::new()));
    }
}

#[tokio::test]
async fn disallowed_scope_or_resource_is_403() {
    for (route, headers) in [
        (ROUTE, "x-token-scope: root"),
        (ROUTE, "x-token-scope: write root"),
        (ROUTE, "x-token-scope: WRITE"),
        (ROUTE, "x-token-scope: *"),
        (ROUTE, "x-token-resource: urn:else"),
        (ROUTE, "x-token-resource: https://stock.example/"),
        ("", "x-token-scope: write"),
        ("", "x-token-resource: urn:x"),
    ] {
        let fixture = Fixture::with(route, "").await;
        get(&fixture, headers)
            .await
            .assert_problem(403, "forbidden");
        assert_eq!(fixture.login.counts().requests, 0);
        assert_eq!(fixture.api.counts().requests, 0);
    }
}

#[tokio::test]
async fn route_without_allowed_scopes_accepts_its_own() {
    let fixture = Fixture::new().await;
    assert_eq!(requested(&fixture, "x-token-scope: read").await.0, 200);
}

#[tokio::test]
async fn star_allows_any_scope_and_resource() {
    let fixture = Fixture::with(ANY, "").await;
    let headers = "x-token-scope: what ever ; x-token-resource: https://any.example/x?y";
    let expected = "scope=ever what&resource=https://any.example/x?y".to_owned();
    assert_eq!(requested(&fixture, headers).await, (200, expected));
}

#[tokio::test]
async fn scope_headers_without_a_route_are_403() {
    let fixture = Fixture::unprotected(|api| upstream("/api", &api.url())).await;
    for headers in ["x-token-scope: read", "x-token-resource: urn:x"] {
        get(&fixture, headers)
            .await
            .assert_problem(403, "forbidden");
    }
    assert_eq!(fixture.api.counts().requests, 0);
}

#[tokio::test]
async fn repeated_or_invalid_scope_header_is_400() {
    let fixture = Fixture::with(ANY, "").await;
    for headers in [
        "x-token-scope: a ; x-token-scope: a",
        "x-token-resource: urn:a ; X-Token-Resource: urn:a",
        "x-token-scope: ",
        "x-token-scope: a\"b",
        "x-token-scope: a\\b",
        "x-token-scope: é",
        "x-token-scope: a  b",
        "x-token-scope: a\tb",
        "x-token-resource: ",
        "x-token-resource: /relative",
        "x-token-resource: stock",
        "x-token-resource: https://a.example/#f",
        "x-token-resource: https://a.example#",
        "x-token-resource: https://a.example https://b.example",
        "x-token-resource: https://a.example/\"",
        "x-token-resource: https://",
    ] {
        get(&fixture, headers)
            .await
            .assert_problem(400, "bad_request");
    }
    assert_eq!(fixture.login.counts().requests, 0);
    assert_eq!(fixture.api.counts().requests, 0);
}
