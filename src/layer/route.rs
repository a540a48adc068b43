//! [`Route`] names an origin and an optional path prefix that may receive a token.

use std::fmt;

use url::{Host, Url};

use crate::{error::TokenError, token::TokenSpec, util::loopback::is_loopback};

/// An origin with an optional path prefix, and the [`TokenSpec`] of its requests.
///
/// ```
/// use tower_bearer::{Route, TokenSpec};
///
/// let spec = TokenSpec::scopes(["api://stock/.default"]);
/// assert!(Route::new("https://stock.internal/v2", spec.clone()).check().is_ok());
///
/// // A token must not be sent unencrypted to another machine, unless the route allows it.
/// let plain = Route::new("http://stock.internal", spec);
/// assert!(plain.check().unwrap_err().to_string().contains("with_plain_http"));
/// assert!(plain.with_plain_http().check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Route {
    pub(super) location: Result<OriginPrefix, TokenError>,
    spec: TokenSpec,
    pub(super) allowed_scopes: Box<[Box<str>]>,
    plain_http: bool,
}

impl Route {
    /// Creates a route for a URL: `https://host`, optionally with a port and a path.
    ///
    /// A path is a prefix of whole segments: `/v2` matches `/v2` and `/v2/items`, but not `/v20`. If several routes match a request,
    /// the one with the longest prefix is used. [`check`](Self::check) and [`AuthLayer::with_route`](crate::AuthLayer::with_route)
    /// return an error if the URL is invalid.
    #[must_use]
    pub fn new(url: impl AsRef<str>, spec: TokenSpec) -> Self {
        Self {
            location: OriginPrefix::parse(url.as_ref()),
            spec,
            allowed_scopes: Box::default(),
            plain_http: false,
        }
    }

    /// Allows the server to require these scopes in addition to those of the spec, by `insufficient_scope` (RFC 6750 §3.1). `"*"`
    /// allows all scopes. By default, no scope is added.
    ///
    /// If the server requires an allowed scope, a token with the scopes of the spec and the required ones is fetched, and the request
    /// is replayed with it. What later requests get depends on where the spec comes from:
    ///
    /// - The route keeps the wider spec, so its later requests get the token with these scopes. Other routes with the same spec do
    ///   not change.
    /// - A [`TokenSpec`] in the extensions of a request belongs to the caller and does not change. The wider token stays cached,
    ///   but the next request with this spec is sent with the narrower token, gets the 403, and is replayed. To avoid that, add the
    ///   scopes to the spec.
    ///
    /// ```
    /// use tower_bearer::{Route, TokenSpec};
    ///
    /// let route = Route::new("https://files.internal", TokenSpec::scopes(["files:read"]))
    ///     .with_allowed_scopes(["files:write"]);
    /// # assert!(route.check().is_ok());
    /// ```
    #[must_use]
    pub fn with_allowed_scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let scopes = scopes.into_iter();
        self.allowed_scopes = scopes.map(|scope| scope.as_ref().into()).collect();
        self
    }

    /// Allows plain `http://` to other machines. The token can then be read on the network. Loopback addresses are always allowed.
    #[must_use]
    pub fn with_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Checks the URL and the spec.
    ///
    /// # Errors
    /// Returns an error if the URL is not valid, if it has a query, a fragment or userinfo, if it is plain `http://` to another
    /// machine without [`with_plain_http`](Self::with_plain_http), or if the spec is invalid.
    pub fn check(&self) -> Result<(), TokenError> {
        let location = self.location.as_ref().map_err(TokenError::clone)?;
        if !location.origin.https && !location.origin.is_loopback() && !self.plain_http {
            return Err(TokenError::configuration(format!(
                "the route {location} would send tokens in the clear: use https, or allow it with Route::with_plain_http"
            )));
        }
        self.spec.check()
    }

    /// Returns the spec of the route.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Ok(location) => location.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// An origin in canonical spelling: `host[:port]` is in lower case, without the default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteOrigin {
    pub(super) https: bool,
    pub(super) authority: Box<str>,
}

impl RouteOrigin {
    /// Parses a URL without a path.
    pub(crate) fn parse(url: &str) -> Result<Self, TokenError> {
        let location = OriginPrefix::parse(url)?;
        if location.prefix.is_empty() {
            return Ok(location.origin);
        }
        Err(TokenError::configuration(format!(
            "the origin {location} has a path: remove it"
        )))
    }

    fn is_loopback(&self) -> bool {
        self.authority
            .get(..end_of_host(&self.authority))
            .is_some_and(is_loopback)
    }
}

impl fmt::Display for RouteOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// An origin and a path prefix, which is empty for the whole origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OriginPrefix {
    pub(super) origin: RouteOrigin,
    pub(super) prefix: Box<str>,
}

impl OriginPrefix {
    fn parse(text: &str) -> Result<Self, TokenError> {
        let url = Url::parse(text).map_err(|fault| {
            // Text with an @ may contain a password.
            let shown = if text.contains('@') { "" } else { text };
            TokenError::configuration(format!(
                "the route {shown:?} is not a valid URL ({fault}): write it as https://host/path"
            ))
        })?;
        let has_userinfo = !url.username().is_empty() || url.password().is_some();
        let fault = match url.scheme() {
            _ if has_userinfo => Some("has userinfo: remove the part before the @"),
            _ if url.query().is_some() => Some("has a query: remove the part from the ? on"),
            _ if url.fragment().is_some() => Some("has a fragment: remove the part from the # on"),
            "https" | "http" => None,
            _ => Some("is neither https nor http"),
        };
        if let Some(fault) = fault {
            let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
            return Err(TokenError::configuration(format!(
                "the route to {scheme}://{host} {fault}"
            )));
        }
        let https = url.scheme() == "https";
        let origin = canonical(https, url.authority())
            .ok_or_else(|| TokenError::configuration(format!("the route {text:?} has no host")))?;
        Ok(Self {
            origin,
            prefix: url.path().trim_end_matches('/').into(),
        })
    }
}

impl fmt::Display for OriginPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

/// Returns the origin of an authority in canonical spelling, or `None` if the authority is invalid.
pub(super) fn canonical(https: bool, authority: &str) -> Option<RouteOrigin> {
    // RFC 3986 §3.2: authority = [ userinfo "@" ] host [ ":" port ]
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, rest)| rest);
    let (host, port) = host_and_port.split_at_checked(end_of_host(host_and_port))?;
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        // RFC 3986 §6.2.3: an empty port is the default one.
        Some("") => None,
        Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok()?)
        }
        _ => return None,
    };
    let host = match Host::parse(host).ok()? {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(&name).to_owned(),
        address => address.to_string(),
    };
    if host.is_empty() {
        return None;
    }
    let default = if https { 443 } else { 80 };
    let authority = match port {
        Some(port) if port != default => format!("{host}:{port}"),
        _ => host,
    };
    Some(RouteOrigin {
        https,
        authority: authority.into(),
    })
}

fn end_of_host(host_and_port: &str) -> usize {
    match host_and_port.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host_and_port.find(':').unwrap_or(host_and_port.len()),
    }
}
