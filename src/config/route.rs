//! [`RouteConfig`]: where tokens go, and which.

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::error::ConfigError;
use crate::{layer::Route, token::TokenSpec};

/// One entry `[[route]]`: a place that receives tokens, and which.
///
/// | key | what it holds |
/// |---|---|
/// | `url` | an origin, and perhaps a path prefix; the longest prefix wins |
/// | `scopes` | what to ask for |
/// | `resource` | the resource that the token is for (RFC 8707), or a list of them |
/// | `audience` | the audience, in the providers that have one |
/// | `tenant` | what stands for `{tenant}` in the provider's address |
/// | `allow_scopes` | further scopes that may be asked for here; `["*"]` for any |
/// | `allow_resources` | further resources that may be asked for here; `["*"]` for any |
/// | `allow_http` | `true`: tokens may go over plain `http://` to another machine |
///
/// ```
/// use tower_bearer::{TokenSpec, config::RouteConfig};
///
/// let route: RouteConfig = toml::from_str(r#"
///     url = "https://graph.microsoft.com/v1.0"
///     scopes = ["https://graph.microsoft.com/.default"]
///     resource = "https://graph.microsoft.com"
///     allow_scopes = ["https://graph.microsoft.com/Mail.Send"]
/// "#)?;
/// let spec = TokenSpec::scopes(["https://graph.microsoft.com/.default"]);
/// assert_eq!(route.spec(), spec.with_resource("https://graph.microsoft.com"));
/// assert!(route.allows_scope("https://graph.microsoft.com/Mail.Send"));
/// assert!(!route.allows_scope("https://graph.microsoft.com/Mail.Read"));
/// # Ok::<_, toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct RouteConfig {
    /// An origin, and perhaps a path prefix.
    pub url: String,
    /// What to ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The resources that the token is for.
    #[serde(default, deserialize_with = "one_or_many")]
    pub resource: Vec<String>,
    /// The audience.
    pub audience: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Further scopes that may be asked for.
    #[serde(default)]
    pub allow_scopes: Vec<String>,
    /// Further resources that may be asked for.
    #[serde(default)]
    pub allow_resources: Vec<String>,
    /// Whether tokens may go over plain `http://` to another machine.
    #[serde(default)]
    pub allow_http: bool,
}

/// Stands for any scope or resource.
const ANY: &str = "*";

impl RouteConfig {
    /// Which token goes there.
    #[must_use]
    pub fn spec(&self) -> TokenSpec {
        let mut spec = TokenSpec::scopes(&self.scopes);
        for resource in &self.resource {
            spec = spec.with_resource(resource);
        }
        if let Some(audience) = &self.audience {
            spec = spec.with_audience(audience);
        }
        if let Some(tenant) = &self.tenant {
            spec = spec.with_tenant(tenant);
        }
        spec
    }

    /// Whether a token for there may have this scope: it is one of the route's own, or allowed beside them.
    #[must_use]
    pub fn allows_scope(&self, scope: &str) -> bool {
        covers(&self.scopes, &self.allow_scopes, scope)
    }

    /// Whether a token for there may be for this resource: it is one of the route's own, or allowed beside them.
    #[must_use]
    pub fn allows_resource(&self, resource: &str) -> bool {
        covers(&self.resource, &self.allow_resources, resource)
    }

    /// The route, if it can work.
    ///
    /// # Errors
    /// As [`Route::check`], by the key that is at fault.
    pub fn route(&self) -> Result<Route, ConfigError> {
        self.check()?;
        let route = Route::new(&self.url, self.spec()).with_allowed_scopes(&self.allow_scopes);
        if self.allow_http {
            let route = route.with_plain_http();
            return at("url", route.check()).map(|()| route);
        }
        if route.check().is_err() && route.clone().with_plain_http().check().is_ok() {
            return Err(ConfigError::new(
                "url",
                "tokens would go there in the clear, by plain http:// to another machine: use https://, or set allow_http = true",
            ));
        }
        at("url", route.check())?;
        Ok(route)
    }

    /// Everything but the address.
    fn check(&self) -> Result<(), ConfigError> {
        let scopes = |scopes: &[String]| {
            let scopes = scopes.iter().filter(|scope| *scope != ANY);
            TokenSpec::scopes(scopes).check()
        };
        let resources = |resources: &[String]| {
            let resources = resources.iter().filter(|resource| *resource != ANY);
            let each = |spec: TokenSpec, resource| spec.with_resource(resource);
            resources.fold(TokenSpec::default(), each).check()
        };
        at("scopes", TokenSpec::scopes(&self.scopes).check())?;
        at("resource", resources(&self.resource))?;
        at("allow_scopes", scopes(&self.allow_scopes))?;
        at("allow_resources", resources(&self.allow_resources))?;
        // All that is left of the spec to be wrong.
        at("tenant", self.spec().check())
    }
}

fn covers(own: &[String], allowed: &[String], wanted: &str) -> bool {
    let mut all = own.iter().chain(allowed);
    allowed.iter().any(|one| one == ANY) || all.any(|one| one == wanted)
}

fn at(key: &str, outcome: Result<(), crate::error::TokenError>) -> Result<(), ConfigError> {
    outcome.map_err(|error| ConfigError::token(key, error))
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("text in quotes, or a list of such")
        }

        fn visit_str<E: Error>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<String>, A::Error> {
            let mut many = Vec::new();
            while let Some(one) = entries.next_element()? {
                many.push(one);
            }
            Ok(many)
        }
    }

    deserializer.deserialize_any(Reader)
}
