//! Defines [`RouteConfig`], an entry `[[route]]`.

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::error::ConfigError;
use crate::{layer::Route, token::TokenSpec};

/// An entry `[[route]]`: a URL that receives tokens, and the spec of these tokens.
///
/// | key | value |
/// |---|---|
/// | `url` | an origin and an optional path prefix; the longest prefix wins |
/// | `scopes` | the scopes of the token |
/// | `resource` | the resource that the token is for (RFC 8707), or a list of resources |
/// | `audience` | the audience, for providers that support it |
/// | `tenant` | the replacement for `{tenant}` in the provider's URL |
/// | `allow_scopes` | additional scopes that may be requested; `["*"]` for any |
/// | `allow_resources` | additional resources that may be requested; `["*"]` for any |
/// | `allow_http` | `true` to send tokens over plain `http://` to another machine |
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
    /// An origin and an optional path prefix.
    pub url: String,
    /// The scopes of the token.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The resources that the token is for.
    #[serde(default, deserialize_with = "one_or_many")]
    pub resource: Vec<String>,
    /// The audience.
    pub audience: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Additional scopes that may be requested.
    #[serde(default)]
    pub allow_scopes: Vec<String>,
    /// Additional resources that may be requested.
    #[serde(default)]
    pub allow_resources: Vec<String>,
    /// Whether tokens may be sent over plain `http://` to another machine.
    #[serde(default)]
    pub allow_http: bool,
}

/// Allows any scope or resource.
const ANY: &str = "*";

impl RouteConfig {
    /// Returns the spec of the tokens for this route.
    #[must_use]
    pub fn spec(&self) -> TokenSpec {
        let spec = TokenSpec::scopes(&self.scopes);
        let mut spec = self.resource.iter().fold(spec, TokenSpec::with_resource);
        if let Some(audience) = &self.audience {
            spec = spec.with_audience(audience);
        }
        if let Some(tenant) = &self.tenant {
            spec = spec.with_tenant(tenant);
        }
        spec
    }

    /// Returns `true` if a token for this route may have this scope.
    #[must_use]
    pub fn allows_scope(&self, scope: &str) -> bool {
        covers(&self.scopes, &self.allow_scopes, scope)
    }

    /// Returns `true` if a token for this route may be for this resource.
    #[must_use]
    pub fn allows_resource(&self, resource: &str) -> bool {
        covers(&self.resource, &self.allow_resources, resource)
    }

    /// Creates the route.
    ///
    /// # Errors
    /// Returns an error in the same cases as [`Route::check`], with the key at fault.
    pub fn route(&self) -> Result<Route, ConfigError> {
        self.check()?;
        let mut route = Route::new(&self.url, self.spec()).with_allowed_scopes(&self.allow_scopes);
        if self.allow_http {
            route = route.with_plain_http();
        }
        match route.check() {
            Ok(()) => Ok(route),
            Err(_) if route.with_plain_http().check().is_ok() => Err(ConfigError::new(
                "url",
                "tokens would be sent unencrypted over http:// to another machine: use https://, or set allow_http = true",
            )),
            Err(error) => Err(ConfigError::at("url")(error)),
        }
    }

    /// Checks everything except the URL.
    fn check(&self) -> Result<(), ConfigError> {
        let resources = |all: &[String]| {
            let resources = all.iter().filter(|resource| *resource != ANY);
            resources.fold(TokenSpec::default(), TokenSpec::with_resource)
        };
        let allowed_scopes = self.allow_scopes.iter().filter(|scope| *scope != ANY);
        for (key, spec) in [
            ("scopes", TokenSpec::scopes(&self.scopes)),
            ("resource", resources(&self.resource)),
            ("allow_scopes", TokenSpec::scopes(allowed_scopes)),
            ("allow_resources", resources(&self.allow_resources)),
            // The rest of the spec has been checked, so this error is about the tenant.
            ("tenant", self.spec()),
        ] {
            spec.check().map_err(ConfigError::at(key))?;
        }
        Ok(())
    }
}

fn covers(own: &[String], allowed: &[String], requested: &str) -> bool {
    let mut all = own.iter().chain(allowed);
    allowed.iter().any(|one| one == ANY) || all.any(|one| one == requested)
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Reader;

    impl<'de> Visitor<'de> for Reader {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("text in quotes, or a list of texts")
        }

        fn visit_str<E: Error>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(entries))
        }
    }

    deserializer.deserialize_any(Reader)
}
