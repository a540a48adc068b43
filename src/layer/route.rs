//! [`Route`]: an origin and an optional path prefix that may receive a token.

use std::fmt;

use url::{Host, Url};

use crate::{error::TokenError, token::TokenSpec, util::loopback::is_loopback};

/// An origin, and perhaps a path prefix, that may receive a token, and which one.
///
/// ```
/// use tower_bearer::{Route, TokenSpec};
///
/// let spec = TokenSpec::scopes(["api://stock/.default"]);
/// assert!(Route::new("https://stock.internal/v2", spec.clone()).check().is_ok());
///
/// // A token in the clear is refused, unless the machine is this one or it was asked for.
/// let plain = Route::new("http://stock.internal", spec);
/// assert!(plain.check().unwrap_err().to_string().contains("with_plain_http"));
/// assert!(plain.with_plain_http().check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Route {
    pub(super) prefix: Result<OriginPrefix, TokenError>,
    spec: TokenSpec,
    allowed_scopes: Box<[Box<str>]>,
    plain_http: bool,
}

impl Route {
    /// A route to this URL: `https://host`, perhaps with a port and a path.
    ///
    /// A path is a prefix of whole segments: `/v2` covers `/v2` and `/v2/items`, and not `/v20`. Where several routes
    /// cover a request, the longest prefix decides. What is wrong with the URL is told by [`check`](Self::check) and by
    /// [`AuthLayer::with_route`](crate::AuthLayer::with_route).
    #[must_use]
    pub fn new(url: impl AsRef<str>, spec: TokenSpec) -> Self {
        Self {
            prefix: OriginPrefix::read(url.as_ref()),
            spec,
            allowed_scopes: Box::default(),
            plain_http: false,
        }
    }

    /// Scopes that this place may ask for beside those of the spec: by a 403 with `insufficient_scope` (RFC 6750 §3.1). `"*"`
    /// stands for any. Without, it gets no scope that the program has not named.
    ///
    /// The next token then has the scopes of the spec and those that were asked for, and so have all later ones: also those for
    /// other routes with the very same spec, which share them.
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

    /// Lets the token go over plain `http://` to a machine other than this one. Everybody on the way can read it.
    #[must_use]
    pub fn with_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Whether tokens can be sent there.
    ///
    /// # Errors
    /// It is no URL, or has a query, a fragment or userinfo, or is plain `http://` to another machine without leave;
    /// or its spec can't be asked for. The message says which.
    pub fn check(&self) -> Result<(), TokenError> {
        let place = self.prefix.as_ref().map_err(TokenError::clone)?;
        if !place.origin.https && !place.origin.is_loopback() && !self.plain_http {
            return Err(TokenError::configuration(format!(
                "the route {place} would send tokens in the clear: use https, or allow it with Route::with_plain_http"
            )));
        }
        self.spec.check()
    }

    /// Which token goes there.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    pub(crate) fn allowed_scopes(&self) -> &[Box<str>] {
        &self.allowed_scopes
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Ok(place) => place.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// An origin in the one spelling that we compare: `https`, and `host[:port]` in lower case without the default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteOrigin {
    pub(super) https: bool,
    pub(super) authority: Box<str>,
}

impl RouteOrigin {
    /// The origin that the URL names.
    pub(crate) fn read(url: &str) -> Result<Self, TokenError> {
        let place = OriginPrefix::read(url)?;
        if place.prefix.is_empty() {
            return Ok(place.origin);
        }
        Err(TokenError::configuration(format!(
            "the origin {place} has a path: leave it out"
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

/// An origin and a path prefix; no prefix for the whole origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OriginPrefix {
    pub(super) origin: RouteOrigin,
    pub(super) prefix: Box<str>,
}

impl OriginPrefix {
    fn read(text: &str) -> Result<Self, TokenError> {
        let url = Url::parse(text).map_err(|fault| {
            // With an @ in it, it may hold a password.
            let shown = if text.contains('@') { "" } else { text };
            TokenError::configuration(format!(
                "the route {shown:?} is no URL ({fault}): write it as https://host/path"
            ))
        })?;
        let fault = if !url.username().is_empty() || url.password().is_some() {
            Some("has userinfo: leave out what stands before the @")
        } else if url.query().is_some() {
            Some("has a query: leave out what stands from the ? on")
        } else if url.fragment().is_some() {
            Some("has a fragment: leave out what stands from the # on")
        } else if !matches!(url.scheme(), "https" | "http") {
            Some("is neither https nor http")
        } else {
            None
        };
        if let Some(fault) = fault {
            let host = url.host_str().unwrap_or_default();
            let scheme = url.scheme();
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

/// The origin that an authority means, in our spelling; none if it can't be read.
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
