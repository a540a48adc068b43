//! Which route a request is on: origin and path, and no trick in either. Pure.
//!
//! An origin that is spelled as we spell it ourselves is found by its bytes alone. Everything else (letter case, default
//! ports, userinfo, IPv6 and IPv4 in odd forms, a trailing dot) goes through the URL standard's host parser on a cold
//! path, and is compared as what it means. What can't be read means no origin that we know, and gets no token.

use std::borrow::Cow;

use super::route::{Route, RouteOrigin, canonical};
use crate::error::TokenError;

/// All routes of a layer, arranged to be found.
#[derive(Debug)]
pub(crate) struct RouteTable {
    origins: Box<[OriginEntry]>,
    /// For each fingerprint, the origins that have it. Its length is a power of two.
    buckets: Box<[Box<[u16]>]>,
    default_origin: Option<RouteOrigin>,
    /// Where it stands among the origins.
    default_listed: Option<u16>,
}

#[derive(Debug)]
struct OriginEntry {
    origin: RouteOrigin,
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
pub(crate) enum RouteMatch {
    /// On the route of this number.
    Route(u32),
    /// On none: it gets no token.
    None,
    /// It must not be sent with a token, nor pass for one without.
    Ambiguous(TokenError),
}

impl RouteTable {
    /// Arranges routes that were [checked](Route::check); a number is a route's place in the list.
    pub(crate) fn new(routes: &[Route], default_origin: Option<RouteOrigin>) -> Self {
        let mut origins: Vec<OriginEntry> = Vec::new();
        for (number, route) in (0..).zip(routes) {
            let Ok(place) = &route.prefix else { continue };
            let known = origins
                .iter()
                .position(|listed| listed.origin == place.origin);
            let index = known.unwrap_or(origins.len());
            if known.is_none() {
                origins.push(OriginEntry {
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
    pub(crate) fn has_duplicate(routes: &[Route], route: &Route) -> bool {
        let place = route.prefix.as_ref().ok();
        routes
            .iter()
            .any(|other| other.prefix.as_ref().ok() == place)
    }

    /// Whether any route is on this origin.
    pub(crate) fn has_origin(routes: &[Route], origin: &RouteOrigin) -> bool {
        let mut places = routes.iter().filter_map(|route| route.prefix.as_ref().ok());
        places.any(|place| place.origin == *origin)
    }

    /// The route that a request is on, if the request is spelled as we would spell it; else see [`find`](Self::find). The
    /// path is asked for only where it matters.
    #[inline(always)]
    pub(crate) fn find_canonical<'a>(
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
    pub(crate) fn find(&self, target: &RequestTarget<'_>) -> RouteMatch {
        let origin = match (target.scheme, target.scheme.https(), target.authority) {
            (_, Some(https), Some(authority)) => {
                if let Some(listed) = self.listed(https, authority) {
                    return listed.route(target.path);
                }
                if is_plain(authority) {
                    return RouteMatch::None;
                }
                canonical(https, authority).map(Cow::Owned)
            }
            (RequestScheme::None, _, None) => match &self.default_origin {
                Some(origin) => Some(Cow::Borrowed(origin)),
                None => return RouteMatch::Ambiguous(no_authority()),
            },
            // Another scheme, or an authority alone (CONNECT): no origin that a route could name.
            _ => return RouteMatch::None,
        };
        match origin.and_then(|origin| self.listed(origin.https, &origin.authority)) {
            Some(listed) => listed.route(target.path),
            None => RouteMatch::None,
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
    fn listed(&self, https: bool, authority: &str) -> Option<&OriginEntry> {
        let same = |listed: &&OriginEntry| {
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

impl OriginEntry {
    fn route(&self, path: &str) -> RouteMatch {
        if self.is_narrow() && climbs(path) {
            return RouteMatch::Ambiguous(climbing(&self.origin));
        }
        self.narrowed(path)
            .map_or(RouteMatch::None, RouteMatch::Route)
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

fn climbing(origin: &RouteOrigin) -> TokenError {
    TokenError::configuration(format!(
        "the request's path on {origin} has dot segments, which could lead out of the route: normalise it first"
    ))
}
