//! Which route a request is on: origin and path, and no trick in either. Pure.
//!
//! An origin that is spelled as we spell it ourselves is found by its bytes alone. Everything else (letter case, default
//! ports, userinfo, IPv6 and IPv4 in odd forms, a trailing dot) goes through the URL standard's host parser on a cold
//! path, and is compared as what it means. What can't be read means no origin that we know, and gets no token.

use std::{borrow::Cow, fmt};

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
    place: Result<Place, TokenError>,
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
            place: Place::read(url.as_ref()),
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
        let place = self.place.as_ref().map_err(TokenError::clone)?;
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
        match &self.place {
            Ok(place) => place.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// An origin in the one spelling that we compare: `https`, and `host[:port]` in lower case without the default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    https: bool,
    authority: Box<str>,
}

impl Origin {
    /// The origin that the URL names.
    pub(crate) fn read(url: &str) -> Result<Self, TokenError> {
        let place = Place::read(url)?;
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

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// An origin and a path prefix; no prefix for the whole origin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    origin: Origin,
    prefix: Box<str>,
}

impl Place {
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

/// All routes of a layer, arranged to be found.
#[derive(Debug)]
pub(crate) struct Routes {
    origins: Box<[Listed]>,
    /// For each fingerprint, the origins that have it. Its length is a power of two.
    buckets: Box<[Box<[u16]>]>,
    default_origin: Option<Origin>,
    /// Where it stands among the origins.
    default_listed: Option<u16>,
}

#[derive(Debug)]
struct Listed {
    origin: Origin,
    /// The longest first; the number is the route's.
    prefixes: Vec<(Box<str>, u32)>,
    /// The route of the whole origin, if there is no other.
    whole: Option<u32>,
}

/// Where a request goes, in pieces.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    pub(crate) scheme: RequestScheme,
    pub(crate) authority: Option<&'a str>,
    pub(crate) path: &'a str,
}

/// A request's scheme, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestScheme {
    /// `https`
    Https,
    /// `http`
    Http,
    /// Another one.
    Foreign,
    /// None: the request names a path alone, or an authority alone.
    None,
}

impl RequestScheme {
    #[inline(always)]
    pub(crate) fn read(scheme: Option<&str>) -> Self {
        match scheme {
            Some("https") => Self::Https,
            Some("http") => Self::Http,
            Some(_) => Self::Foreign,
            None => Self::None,
        }
    }

    #[inline]
    fn https(self) -> Option<bool> {
        match self {
            Self::Https => Some(true),
            Self::Http => Some(false),
            Self::Foreign | Self::None => None,
        }
    }
}

/// Where a request belongs.
#[derive(Debug)]
pub(crate) enum Found {
    /// On the route of this number.
    Route(u32),
    /// On none: it gets no token.
    Unlisted,
    /// It must not be sent with a token, nor pass for one without.
    Refused(TokenError),
}

impl Routes {
    /// Arranges routes that were [checked](Route::check); a number is a route's place in the list.
    pub(crate) fn arrange(routes: &[Route], default_origin: Option<Origin>) -> Self {
        let mut origins: Vec<Listed> = Vec::new();
        for (number, route) in (0..).zip(routes) {
            let Ok(place) = &route.place else { continue };
            let known = origins
                .iter()
                .position(|listed| listed.origin == place.origin);
            let index = known.unwrap_or(origins.len());
            if known.is_none() {
                origins.push(Listed {
                    origin: place.origin.clone(),
                    prefixes: Vec::new(),
                    whole: None,
                });
            }
            if let Some(listed) = origins.get_mut(index) {
                listed.prefixes.push((place.prefix.clone(), number));
            }
        }
        for listed in &mut origins {
            listed
                .prefixes
                .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            listed.whole = match &*listed.prefixes {
                [(prefix, number)] if prefix.is_empty() => Some(*number),
                _ => None,
            };
        }
        let mut buckets = vec![Vec::new(); (origins.len() * 2).next_power_of_two()];
        let mask = buckets.len() - 1;
        for (index, listed) in (0u16..).zip(&origins) {
            let at = fingerprint(listed.origin.https, &listed.origin.authority) & mask;
            if let Some(bucket) = buckets.get_mut(at) {
                bucket.push(index);
            }
        }
        let default_listed = (0u16..)
            .zip(&origins)
            .find(|(_, listed)| default_origin.as_ref() == Some(&listed.origin))
            .map(|(index, _)| index);
        Self {
            default_listed,
            origins: origins.into(),
            buckets: buckets.into_iter().map(Vec::into_boxed_slice).collect(),
            default_origin,
        }
    }

    /// How many there can be.
    pub(crate) const MOST: usize = u16::MAX as usize;

    /// Whether the list has a route with the same origin and prefix.
    pub(crate) fn has_twin(routes: &[Route], route: &Route) -> bool {
        let place = route.place.as_ref().ok();
        routes
            .iter()
            .any(|other| other.place.as_ref().ok() == place)
    }

    /// Whether any route is on this origin.
    pub(crate) fn name(routes: &[Route], origin: &Origin) -> bool {
        let mut places = routes.iter().filter_map(|route| route.place.as_ref().ok());
        places.any(|place| place.origin == *origin)
    }

    /// The route that a request is on, if the request is spelled as we would spell it; else see [`find`](Self::find). The
    /// path is asked for only where it matters.
    #[inline(always)]
    pub(crate) fn find_plain<'a>(
        &self,
        scheme: RequestScheme,
        authority: Option<&str>,
        path: impl FnOnce() -> &'a str,
    ) -> Option<u32> {
        let listed = match authority {
            Some(authority) => self.listed(scheme.https()?, authority)?,
            None if scheme == RequestScheme::None => {
                self.origins.get(usize::from(self.default_listed?))?
            }
            None => return None,
        };
        match listed.whole {
            Some(route) => Some(route),
            None => listed.narrowed(path()),
        }
    }

    /// The route that a request is on, however it is spelled.
    pub(crate) fn find(&self, target: &RequestTarget<'_>) -> Found {
        let origin = match (target.scheme, target.scheme.https(), target.authority) {
            (_, Some(https), Some(authority)) => {
                if let Some(listed) = self.listed(https, authority) {
                    return listed.route(target.path);
                }
                if is_plain(authority) {
                    return Found::Unlisted;
                }
                canonical(https, authority).map(Cow::Owned)
            }
            (RequestScheme::None, _, None) => match &self.default_origin {
                Some(origin) => Some(Cow::Borrowed(origin)),
                None => return Found::Refused(no_authority()),
            },
            // Another scheme, or an authority alone (CONNECT): no origin that a route could name.
            _ => return Found::Unlisted,
        };
        match origin.and_then(|origin| self.listed(origin.https, &origin.authority)) {
            Some(listed) => listed.route(target.path),
            None => Found::Unlisted,
        }
    }

    /// Whether an answer from there is an answer of the route's own origin.
    pub(crate) fn is_origin_of(&self, route: u32, target: &RequestTarget<'_>) -> bool {
        let there = match (target.scheme.https(), target.authority) {
            (Some(https), Some(authority)) => canonical(https, authority),
            _ => None,
        };
        let listed = self
            .origins
            .iter()
            .find(|listed| listed.prefixes.iter().any(|(_, number)| *number == route));
        listed.map(|listed| &listed.origin) == there.as_ref()
    }

    #[inline(always)]
    fn listed(&self, https: bool, authority: &str) -> Option<&Listed> {
        let same = |listed: &&Listed| {
            listed.origin.https == https && *listed.origin.authority == *authority
        };
        if let [only] = &*self.origins {
            return Some(only).filter(same);
        }
        let at = fingerprint(https, authority) & (self.buckets.len() - 1);
        let mut bucket = self.buckets.get(at)?.iter();
        bucket.find_map(|&index| self.origins.get(usize::from(index)).filter(same))
    }
}

impl Listed {
    fn route(&self, path: &str) -> Found {
        if self.is_narrow() && climbs(path) {
            return Found::Refused(climbing(&self.origin));
        }
        self.narrowed(path).map_or(Found::Unlisted, Found::Route)
    }

    /// Whether any prefix is more than the whole origin.
    fn is_narrow(&self) -> bool {
        self.prefixes.iter().any(|(prefix, _)| !prefix.is_empty())
    }

    /// The route with the longest prefix that covers the path; none if the path is not what it seems.
    fn narrowed(&self, path: &str) -> Option<u32> {
        if self.is_narrow() && climbs(path) {
            return None;
        }
        let mut routes = self.prefixes.iter();
        let (_, number) = routes.find(|(prefix, _)| covers(prefix, path))?;
        Some(*number)
    }
}

#[inline]
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Whether a server could read another path out of this one: a segment that is `.` or `..`, plain or encoded, set off by
/// a slash or a backslash, plain or encoded, perhaps with a path parameter behind it (`..;x`).
fn climbs(path: &str) -> bool {
    if !path.bytes().any(|c| matches!(c, b'.' | b'%')) {
        return false;
    }
    let mut rest = path.as_bytes();
    let (mut dots, mut others, mut parameter) = (0, 0, false);
    loop {
        let (byte, length) = match rest {
            [] => return dots > 0 && dots <= 2 && others == 0,
            [b'%', high, low, ..] => (decoded(*high, *low), 3),
            [byte, ..] => (*byte, 1),
        };
        rest = rest.get(length..).unwrap_or_default();
        match byte {
            b'/' | b'\\' => {
                if dots > 0 && dots <= 2 && others == 0 {
                    return true;
                }
                (dots, others, parameter) = (0, 0, false);
            }
            b';' => parameter = true,
            _ if parameter => {}
            b'.' => dots += 1,
            _ => others += 1,
        }
    }
}

/// What `%` and these two stand for; a letter, if it is nothing that matters here.
fn decoded(high: u8, low: u8) -> u8 {
    let digit = |c: u8| {
        (c as char)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => high << 4 | low,
        _ => b'x',
    }
}

/// Whether an authority is spelled as we would: it means what its bytes say.
fn is_plain(authority: &str) -> bool {
    let mut bytes = authority.bytes();
    let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    bytes.by_ref().all(plain)
        // A name that ends in a letter is no address in disguise, and has no port and no trailing dot.
        && authority.bytes().last().is_some_and(|c| c.is_ascii_lowercase())
        && !authority.contains("0x")
}

/// The origin that an authority means, in our spelling; none if it can't be read.
fn canonical(https: bool, authority: &str) -> Option<Origin> {
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
    Some(Origin {
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

/// Tells origins apart cheaply; a full comparison stands behind it.
#[inline]
fn fingerprint(https: bool, authority: &str) -> usize {
    let bytes = authority.as_bytes();
    let first = bytes.first().map_or(0, |&c| usize::from(c));
    let last = bytes.last().map_or(0, |&c| usize::from(c));
    let sum = bytes.len() * 0x9e37 + first * 0x85eb + last * 0xc2b3 + usize::from(https);
    sum ^ (sum >> 7)
}

fn no_authority() -> TokenError {
    TokenError::configuration(
        "the request has a path and no authority, so nobody knows where it goes: name the place with AuthLayer::with_default_origin",
    )
}

fn climbing(origin: &Origin) -> TokenError {
    TokenError::configuration(format!(
        "the request's path on {origin} has dot segments, which could lead out of the route: normalise it first"
    ))
}
