//! Reads `x-token-scope` and `x-token-resource`, with which a request replaces parts of its route's spec.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, StatusCode};
use tower_bearer::{Route, TokenSpec, config::RouteConfig};

/// The scopes and the resource that a request asks for in the place of its route's.
#[derive(Default)]
pub(crate) struct RequestedSpec {
    scopes: Option<Vec<String>>,
    resource: Option<String>,
    fault: Option<&'static str>,
}

/// The status and the reason of a refused request.
pub(crate) type Refusal = (StatusCode, &'static str);

const SCOPE: &str = "x-token-scope";
const RESOURCE: &str = "x-token-resource";

const NO_SCOPES: &str =
    "x-token-scope is repeated, or is not a space-separated list of scopes: correct it";
const NO_RESOURCE: &str =
    "x-token-resource is repeated, or is not an absolute URI without a fragment: correct it";

impl RequestedSpec {
    /// Removes the headers from the request and parses them. Only [`Self::spec`] reports invalid headers.
    pub(crate) fn take(headers: &mut HeaderMap) -> Self {
        let mut requested = Self::default();
        if headers.contains_key(SCOPE) {
            requested.scopes = single(headers, SCOPE).and_then(read_scopes);
            requested.fault = requested.scopes.is_none().then_some(NO_SCOPES);
        }
        if headers.contains_key(RESOURCE) {
            requested.resource = single(headers, RESOURCE).and_then(read_resource);
            let fault = requested.resource.is_none().then_some(NO_RESOURCE);
            requested.fault = requested.fault.or(fault);
        }
        let ours = |name: &&HeaderName| name.as_str().starts_with("x-token-");
        let ours: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
        requested
    }

    /// Returns the request's own spec, if it asks for one and the route allows it.
    pub(crate) fn spec(
        self,
        route: Option<&Route>,
        routes: &Allowed,
    ) -> Result<Option<TokenSpec>, Refusal> {
        if let Some(fault) = self.fault {
            return Err((StatusCode::BAD_REQUEST, fault));
        }
        if self.scopes.is_none() && self.resource.is_none() {
            return Ok(None);
        }
        let forbidden = |why| Err((StatusCode::FORBIDDEN, why));
        let known = route.and_then(|route| Some((route, routes.of(route)?)));
        let Some((route, allowed)) = known else {
            return forbidden(
                "the request asks for a token, but no route covers its URL: add a route",
            );
        };
        let mut spec = route.spec().clone();
        if let Some(scopes) = self.scopes {
            if !scopes.iter().all(|scope| allowed.allows_scope(scope)) {
                return forbidden(
                    "x-token-scope contains scopes that the route does not allow: add them to its allow_scopes",
                );
            }
            spec = spec.without_scopes().with_scopes(scopes);
        }
        if let Some(resource) = self.resource {
            if !allowed.allows_resource(&resource) {
                return forbidden(
                    "x-token-resource is not allowed by the route: add it to its allow_resources",
                );
            }
            spec = spec.without_resources().with_resource(resource);
        }
        Ok(Some(spec))
    }
}

/// What each route allows.
pub(crate) struct Allowed(HashMap<String, RouteConfig>);

impl Allowed {
    pub(crate) fn new(routes: Vec<RouteConfig>) -> Self {
        let routes = routes.into_iter().map(|route| {
            // The layer's routes are looked up by this text.
            let key = Route::new(&route.url, TokenSpec::default()).to_string();
            (key, route)
        });
        Self(routes.collect())
    }

    fn of(&self, route: &Route) -> Option<&RouteConfig> {
        self.0.get(&route.to_string())
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    value.to_str().ok()
}

// RFC 6749 §3.3: scope = scope-token *( SP scope-token )
fn read_scopes(text: &str) -> Option<Vec<String>> {
    let scopes: Vec<String> = text.split(' ').map(str::to_owned).collect();
    TokenSpec::scopes(&scopes).check().ok()?;
    Some(scopes)
}

// RFC 8707 §2: "an absolute URI, as specified by Section 4.3 of [RFC3986] … The URI MUST NOT include a fragment component."
fn read_resource(text: &str) -> Option<String> {
    let uri = |c: u8| c.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&c);
    TokenSpec::default().with_resource(text).check().ok()?;
    text.bytes().all(uri).then(|| text.to_owned())
}
