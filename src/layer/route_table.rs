//! [`RouteTable`] finds the route of a request by its origin and path. No I/O.
//!
//! An origin in canonical spelling is found by comparing its bytes. All other spellings (letter case, default ports, userinfo, unusual
//! forms of IP addresses, a trailing dot) are first converted by the host parser of the URL standard, on a cold path. An origin that
//! can't be parsed matches no route, so its request gets no token.

use super::route::{Route, RouteOrigin, canonical};
use crate::error::TokenError;

/// The routes of a layer, indexed by origin.
#[derive(Debug)]
pub(crate) struct RouteTable {
    origins: Box<[OriginEntry]>,
    /// For each fingerprint, the origins that have it. The length is a power of two.
    buckets: Box<[Box<[u16]>]>,
    /// The index of the default origin.
    default_origin: Option<u16>,
}

#[derive(Debug)]
struct OriginEntry {
    origin: RouteOrigin,
    /// The path prefixes with the numbers of their routes, the longest first.
    prefixes: Vec<(Box<str>, u32)>,
    /// The route of the whole origin, if it is the only one.
    whole: Option<u32>,
}

/// The URL of a request, in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTarget<'a> {
    pub(crate) scheme: RequestScheme,
    pub(crate) authority: Option<&'a str>,
    pub(crate) path: &'a str,
}

/// The scheme of a request's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestScheme {
    Https,
    Http,
    Other,
    /// The URL is only a path, or only an authority.
    None,
}

impl RequestScheme {
    #[inline(always)]
    pub(crate) fn read(scheme: Option<&str>) -> Self {
        match scheme {
            Some("https") => Self::Https,
            Some("http") => Self::Http,
            Some(_) => Self::Other,
            None => Self::None,
        }
    }

    #[inline]
    fn https(self) -> Option<bool> {
        match self {
            Self::Https => Some(true),
            Self::Http => Some(false),
            Self::Other | Self::None => None,
        }
    }
}

/// The result of a search for a request's route.
#[derive(Debug)]
pub(crate) enum RouteMatch {
    /// The number of the route.
    Route(u32),
    /// The request matches no route, and is sent without a token.
    None,
    /// It is not certain which route the request matches, so it must not be sent.
    Ambiguous(TokenError),
}

impl RouteTable {
    /// The maximum number of routes.
    pub(crate) const MAX_ROUTES: usize = u16::MAX as usize;

    /// Indexes routes that were [checked](Route::check). The number of a route is its index in the list.
    pub(crate) fn new(routes: &[Route], default_origin: Option<&RouteOrigin>) -> Self {
        let mut origins: Vec<OriginEntry> = Vec::new();
        for (number, route) in (0..).zip(routes) {
            let Ok(location) = &route.location else {
                continue;
            };
            let prefix = (location.prefix.clone(), number);
            let mut known = origins.iter_mut();
            match known.find(|entry| entry.origin == location.origin) {
                Some(entry) => entry.prefixes.push(prefix),
                None => origins.push(OriginEntry {
                    origin: location.origin.clone(),
                    prefixes: vec![prefix],
                    whole: None,
                }),
            }
        }
        let mut buckets = vec![Vec::new(); (origins.len() * 2).next_power_of_two()];
        let mask = buckets.len() - 1;
        let mut default = None;
        for (index, entry) in (0u16..).zip(&mut origins) {
            let prefixes = &mut entry.prefixes;
            prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            entry.whole = match &**prefixes {
                [(prefix, number)] if prefix.is_empty() => Some(*number),
                _ => None,
            };
            let at = fingerprint(entry.origin.https, &entry.origin.authority) & mask;
            if let Some(bucket) = buckets.get_mut(at) {
                bucket.push(index);
            }
            if default_origin == Some(&entry.origin) {
                default = Some(index);
            }
        }
        Self {
            origins: origins.into(),
            buckets: buckets.into_iter().map(Vec::into_boxed_slice).collect(),
            default_origin: default,
        }
    }

    /// Returns the route of a request whose origin is in canonical spelling. In all other cases see [`find`](Self::find). The path is
    /// only read if a route has a path prefix.
    #[inline(always)]
    pub(crate) fn find_canonical<'a>(
        &self,
        scheme: RequestScheme,
        authority: Option<&str>,
        path: impl FnOnce() -> &'a str,
    ) -> Option<u32> {
        let entry = match authority {
            Some(authority) => self.entry(scheme.https()?, authority)?,
            None if scheme == RequestScheme::None => self.default_entry()?,
            None => return None,
        };
        match entry.whole {
            Some(route) => Some(route),
            None => entry.longest_match(path()),
        }
    }

    /// Finds the route of a request in any spelling.
    pub(crate) fn find(&self, target: &RequestTarget<'_>) -> RouteMatch {
        let entry = match (target.scheme, target.scheme.https(), target.authority) {
            (_, Some(https), Some(authority)) => self
                .entry(https, authority)
                .or_else(|| self.entry_of_other_spelling(https, authority)),
            (RequestScheme::None, _, None) => match self.default_entry() {
                Some(entry) => Some(entry),
                None => return RouteMatch::Ambiguous(no_authority()),
            },
            // A URL with another scheme, or only an authority (CONNECT), is not on the origin of a route.
            _ => None,
        };
        let Some(entry) = entry else {
            return RouteMatch::None;
        };
        match entry.longest_match(target.path) {
            Some(route) => RouteMatch::Route(route),
            None if entry.is_ambiguous(target.path) => {
                RouteMatch::Ambiguous(ambiguous_path(&entry.origin))
            }
            None => RouteMatch::None,
        }
    }

    /// Returns `true` if a URL is on the origin of a route.
    pub(crate) fn is_origin_of(&self, route: u32, url: &RequestTarget<'_>) -> bool {
        let (Some(https), Some(authority)) = (url.scheme.https(), url.authority) else {
            return false;
        };
        let has_route = |entry: &&OriginEntry| entry.prefixes.iter().any(|(_, it)| *it == route);
        let entry = self.origins.iter().find(has_route);
        entry.is_some_and(|entry| canonical(https, authority).as_ref() == Some(&entry.origin))
    }

    #[inline(always)]
    fn entry(&self, https: bool, authority: &str) -> Option<&OriginEntry> {
        let is_same = |entry: &&OriginEntry| {
            entry.origin.https == https && *entry.origin.authority == *authority
        };
        if let [only] = &*self.origins {
            return Some(only).filter(is_same);
        }
        let at = fingerprint(https, authority) & (self.buckets.len() - 1);
        let mut bucket = self.buckets.get(at)?.iter();
        bucket.find_map(|&index| self.origins.get(usize::from(index)).filter(is_same))
    }

    #[inline(always)]
    fn default_entry(&self) -> Option<&OriginEntry> {
        self.origins.get(usize::from(self.default_origin?))
    }

    fn entry_of_other_spelling(&self, https: bool, authority: &str) -> Option<&OriginEntry> {
        if is_canonical(authority) {
            return None;
        }
        let origin = canonical(https, authority)?;
        self.entry(https, &origin.authority)
    }
}

impl OriginEntry {
    /// Returns the route with the longest prefix of the path. Returns `None` if the path is ambiguous.
    fn longest_match(&self, path: &str) -> Option<u32> {
        if self.is_ambiguous(path) {
            return None;
        }
        let mut routes = self.prefixes.iter();
        let (_, route) = routes.find(|(prefix, _)| covers(prefix, path))?;
        Some(*route)
    }

    /// Returns `true` if a route has a path prefix, and the path has dot segments.
    fn is_ambiguous(&self, path: &str) -> bool {
        self.prefixes.iter().any(|(prefix, _)| !prefix.is_empty()) && has_dot_segments(path)
    }
}

#[inline]
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Returns `true` if a server could normalize the path to a different one. It has a segment `.` or `..`, plain or encoded, between
/// plain or encoded slashes or backslashes, and the segment may have a path parameter (`..;x`).
fn has_dot_segments(path: &str) -> bool {
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

/// Decodes `%` and two hexadecimal digits. If they are not digits, returns a letter, which is no part of a dot segment.
fn decoded(high: u8, low: u8) -> u8 {
    let digit = |c: u8| char::from(c).to_digit(16);
    let (Some(high), Some(low)) = (digit(high), digit(low)) else {
        return b'x';
    };
    (high << 4 | low) as u8
}

/// Returns `true` if an authority is certainly in canonical spelling.
fn is_canonical(authority: &str) -> bool {
    authority.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        // With a letter at the end, it is not an IP address, and has no port and no trailing dot.
        && authority.ends_with(|c: char| c.is_ascii_lowercase())
        && !authority.contains("0x")
}

/// A cheap hash of an origin. Origins with the same fingerprint are compared in full.
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
        "the request has only a path: set the origin of such requests with AuthLayer::with_default_origin",
    )
}

fn ambiguous_path(origin: &RouteOrigin) -> TokenError {
    TokenError::configuration(format!(
        "the path of the request to {origin} has dot segments, which could lead out of the route: normalize the path"
    ))
}
