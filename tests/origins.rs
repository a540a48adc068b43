//! Tests that no token is sent to an origin without a route, in any spelling of the URL.

use std::{cell::Cell, convert::Infallible, future::ready};

use http::{Request, Response, Uri, header::AUTHORIZATION};
use proptest::prelude::*;
use tokio::runtime::Builder;
use tower::{Layer, ServiceExt};
use tower_bearer::{AuthLayer, ErrorKind, NewToken, TokenCache, TokenSpec, source};

/// The tenant whose token a request carried, if any, or the error.
type Outcome = Result<Option<String>, ErrorKind>;

/// Returns a client whose tokens are the names of the tenants of their routes.
fn client(
    routes: &[(&str, &str)],
    default_origin: Option<&str>,
) -> impl Fn(Request<()>) -> Outcome {
    let source = source::from_fn(async |request| {
        NewToken::bearer(request.spec().tenant().unwrap_or("none"))
    });
    let mut layer = AuthLayer::new(TokenCache::new(source));
    for (url, tenant) in routes {
        let spec = TokenSpec::default().with_tenant(tenant);
        layer = layer.route(url, spec).unwrap();
    }
    if let Some(origin) = default_origin {
        layer = layer.with_default_origin(origin).unwrap();
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    move |request| {
        let arrived = Cell::new(None);
        let service = tower::service_fn(|request: Request<()>| {
            arrived.set(Some(request.headers().get(AUTHORIZATION).cloned()));
            ready(Ok::<_, Infallible>(Response::new(())))
        });
        match runtime.block_on(layer.layer(service).oneshot(request)) {
            Ok(_) => {
                let header = arrived.take().unwrap();
                Ok(header.map(|value| value.to_str().unwrap()["Bearer ".len()..].to_owned()))
            }
            Err(error) => {
                assert!(arrived.take().is_none(), "a refused request was sent");
                Err(error.token().unwrap().kind())
            }
        }
    }
}

fn get(url: &str) -> Option<Request<()>> {
    Request::get(url.parse::<Uri>().ok()?).body(()).ok()
}

const LISTED: &[(&str, &str)] = &[
    ("https://api.example.com", "api"),
    ("https://api.example.com:8443", "other-port"),
    ("https://stock.internal:9443/v2", "stock"),
    ("https://stock.internal:9443/v2/admin", "admin"),
    ("https://[2001:db8::1]", "six"),
    ("https://192.0.2.7", "four"),
    ("https://bücher.example", "idn"),
    ("http://127.0.0.1:8080", "loopback"),
];

#[test]
fn every_spelling_of_a_listed_origin_gets_its_token() {
    let send = client(LISTED, None);
    for (url, tenant) in [
        ("https://api.example.com", "api"),
        ("https://api.example.com/", "api"),
        ("https://API.Example.COM/x?y", "api"),
        ("HTTPS://api.example.com/", "api"),
        ("https://api.example.com:443/", "api"),
        ("https://api.example.com:0443/", "api"),
        ("https://api.example.com:/", "api"),
        ("https://api.example.com./", "api"),
        ("https://user:word@api.example.com/", "api"),
        ("https://evil.example@api.example.com/", "api"),
        ("https://api.example.com:8443/", "other-port"),
        ("https://stock.internal:9443/v2", "stock"),
        ("https://stock.internal:9443/v2?q", "stock"),
        ("https://stock.internal:9443/v2/items", "stock"),
        ("https://stock.internal:9443/v2/a.b/..c/.d/e..", "stock"),
        ("https://stock.internal:9443/v2/admin", "admin"),
        ("https://stock.internal:9443/v2/admin/x", "admin"),
        ("https://stock.internal:9443/v2/administrator", "stock"),
        ("https://[2001:db8::1]/", "six"),
        ("https://[2001:DB8:0:0::0:1]:443/", "six"),
        ("https://192.0.2.7/", "four"),
        ("https://xn--bcher-kva.example/", "idn"),
        ("https://XN--BCHER-KVA.example:443/", "idn"),
        ("http://127.0.0.1:8080/", "loopback"),
    ] {
        let got = send(get(url).expect(url));
        assert_eq!(got, Ok(Some(tenant.to_owned())), "{url}");
    }
}

#[test]
fn lookalike_of_a_listed_origin_gets_no_token() {
    let send = client(LISTED, None);
    let lookalikes = "http://api.example.com/ https://api.example.com:444/ https://api.example.com:80/ \
        https://api.example.com.evil.example/ https://evil-api.example.com/ \
        https://api.example.co/ https://api.example.com@evil.example/ \
        https://api.example.com:443@evil.example/ https://api.example.com..evil.example/ \
        https://api.example.com../ https://stock.internal/v2 https://stock.internal:9443/ \
        https://stock.internal:9443/v20 https://stock.internal:9443/V2/items \
        https://stock.internal:9443/%76%32/items https://stock.internal:9443//v2/items \
        https://[2001:db8::2]/ https://[::ffff:192.0.2.7]/ https://xn--bcher-kvb.example/ \
        https://bucher.example/ http://127.0.0.1/ http://127.0.0.2:8080/ \
        http://localhost:8080/ ftp://api.example.com/ wss://api.example.com/";
    for url in lookalikes.split(' ') {
        let got = send(get(url).expect(url));
        assert_eq!(got, Ok(None), "{url}");
    }
}

#[test]
fn path_with_dot_segments_is_refused() {
    let send = client(LISTED, None);
    let paths = "/v2/../admin /v2/./items /v2/.. /v2/. /v2/%2e%2e/admin /v2/%2E./admin \
                 /v2/..%2fadmin /v2/x%2f..%2fadmin /v2/..%5cadmin /v2/..;x=y/admin \
                 /x/../v2/items /../v2";
    for path in paths.split(' ') {
        let url = format!("https://stock.internal:9443{path}");
        let got = send(get(&url).expect(&url));
        assert_eq!(got, Err(ErrorKind::Configuration), "{url}");
    }
    // A route to the whole origin accepts dot segments.
    let request = get("https://api.example.com/a/../b").unwrap();
    let got = send(request);
    assert_eq!(got, Ok(Some("api".to_owned())));
}

#[test]
fn request_without_authority_needs_a_default_origin() {
    for (default, expected) in [
        (None, Err(ErrorKind::Configuration)),
        (Some("https://API.example.com:443/"), Ok(Some("api".into()))),
    ] {
        let send = client(LISTED, default);
        let request = get("/grpc.health.v1.Health/Check").unwrap();
        assert_eq!(send(request), expected);
    }
}

#[test]
fn connect_request_gets_no_token() {
    let send = client(LISTED, Some("https://api.example.com"));
    let request = Request::connect("api.example.com:443").body(()).unwrap();
    assert_eq!(send(request), Ok(None));
}

#[test]
fn spec_on_an_unlisted_origin_is_an_error() {
    let send = client(LISTED, None);
    let mut request = get("https://evil.example/").unwrap();
    request.extensions_mut().insert(TokenSpec::scopes(["read"]));
    let got = send(request);
    assert_eq!(got, Err(ErrorKind::Configuration));
}

#[test]
fn authorization_header_of_the_caller_is_kept() {
    let send = client(LISTED, None);
    for url in [
        "https://api.example.com/",
        "/path/only",
        "https://stock.internal:9443/v2/../x",
    ] {
        let mut request = get(url).unwrap();
        let value = "Bearer mine".parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
        let got = send(request);
        assert_eq!(got, Ok(Some("mine".to_owned())), "{url}");
    }
}

#[test]
fn invalid_route_url_is_an_error() {
    let spec = TokenSpec::default;
    let route = |url: &str| {
        let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("t")));
        let error = AuthLayer::new(cache).route(url, spec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    };
    for (url, part) in [
        ("api.example.com", "is not a valid URL"),
        ("", "is not a valid URL"),
        ("/v2", "is not a valid URL"),
        ("https://", "is not a valid URL"),
        ("https://api.example.com?a", "has a query"),
        ("https://api.example.com#a", "has a fragment"),
        ("https://user:hunter2@api.example.com", "has userinfo"),
        ("https://user@api.example.com", "has userinfo"),
        ("ftp://api.example.com", "neither https nor http"),
        ("http://api.example.com", "in the clear"),
        ("http://192.168.0.1:80", "in the clear"),
        ("http://localhost.example.com", "in the clear"),
    ] {
        let message = route(url);
        assert!(message.contains(part), "{url}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(!route("https://user:hunter2@[bad/").contains("hunter2"));
}

/// Generates spellings of a listed origin.
fn same_origin() -> impl Strategy<Value = (String, &'static str)> {
    let user = prop::option::of("[a-z]{1,8}(:[a-z0-9.]{0,8})?");
    let port = prop::sample::select(vec!["", ":443", ":", ":00443"]);
    let dot = prop::sample::select(vec!["", "."]);
    (user, port, dot, any::<u64>()).prop_map(|(user, port, dot, case)| {
        let letters = "api.example.com".chars().enumerate();
        let host: String = letters
            .map(|(i, c)| match case >> i & 1 {
                1 => c.to_ascii_uppercase(),
                _ => c,
            })
            .collect();
        let user = user.map(|user| user + "@").unwrap_or_default();
        (format!("https://{user}{host}{dot}{port}"), "api")
    })
}

/// Generates origins that resemble a listed one.
fn other_origin() -> impl Strategy<Value = String> {
    let listed = "api.example.com";
    let tricks = prop_oneof![
        "[a-z]{1,5}".prop_map(move |name| format!("{listed}.{name}.test")),
        "[a-z]{1,5}".prop_map(move |name| format!("{name}{listed}")),
        "[a-z]{1,5}".prop_map(move |name| format!("{name}.{listed}")),
        "[a-z]{1,5}".prop_map(move |name| format!("{listed}@{name}.test")),
        "[a-z]{1,5}".prop_map(move |name| format!("{listed}:443@{name}.test")),
        (1u16..)
            .prop_filter("listed", |port| ![443, 8443].contains(port))
            .prop_map(move |port| format!("{listed}:{port}")),
        (0..listed.len()).prop_map(move |at| {
            // The listed origin does not contain a z.
            let mut changed = listed.to_owned();
            changed.replace_range(at..=at, "z");
            changed
        }),
        (0..listed.len() - 1).prop_map(move |at| {
            let mut changed = listed.to_owned();
            changed.remove(at);
            changed
        }),
    ];
    tricks.prop_map(|authority| format!("https://{authority}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_spelling_of_a_listed_origin_gets_its_token((url, tenant) in same_origin(), path in "(/[a-z0-9._-]{0,6}){0,3}") {
        let send = client(LISTED, None);
        let Some(request) = get(&format!("{url}{path}")) else { return Ok(()) };
        prop_assert_eq!(send(request), Ok(Some(tenant.to_owned())));
    }

    #[test]
    fn random_other_origin_gets_no_token(url in other_origin(), path in "(/[a-z0-9._-]{0,6}){0,3}") {
        let send = client(LISTED, None);
        let Some(request) = get(&format!("{url}{path}")) else { return Ok(()) };
        prop_assert_eq!(send(request), Ok(None), "{}", url);
    }

    #[test]
    fn token_receivers_are_listed_as_parsed_by_the_url_standard(
        text in "(https?|HTTPS|ftp)?(://|:/|//)?[a-zA-Z0-9@:.\\[\\]%_~-]{0,12}(api\\.example\\.com|stock\\.internal:9443|192\\.0\\.2\\.7)[a-zA-Z0-9@:.\\[\\]%_~-]{0,6}(/[a-zA-Z0-9.%;_-]{0,6}){0,4}(\\?[a-z/.]{0,4})?"
    ) {
        let send = client(LISTED, None);
        let Some(request) = get(&text) else { return Ok(()) };
        let Ok(Some(tenant)) = send(request) else { return Ok(()) };
        let read = url::Url::parse(&text).unwrap();
        let host = read.host_str().unwrap().trim_end_matches('.');
        let origin = (read.scheme(), host, read.port_or_known_default().unwrap());
        let expected = match tenant.as_str() {
            "api" => ("https", "api.example.com", 443),
            "other-port" => ("https", "api.example.com", 8443),
            "stock" | "admin" => ("https", "stock.internal", 9443),
            "four" => ("https", "192.0.2.7", 443),
            other => panic!("{other} for {text}"),
        };
        prop_assert_eq!(origin, expected, "{}", text);
        if expected.1 == "stock.internal" {
            let path = read.path();
            prop_assert!(path == "/v2" || path.starts_with("/v2/"), "{}", text);
        }
    }
}
