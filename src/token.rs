//! A token, and what a source hands over when it has got one.
//!
//! [`NewToken`] is what a source knows: the text and what the provider said about it. [`Token`] is what the cache
//! makes of it: the same with deadlines, a generation, and the header value, built once.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use crate::{
    clock::{Moment, Nanos},
    error::{ErrorKind, TokenError},
    secret::wiped,
    spec::TokenSpec,
};

const SCHEME: &str = "Bearer ";

/// A token as its source got it.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::NewToken;
///
/// let token = NewToken::bearer("eyJhbGciOi")?.with_lifetime(Duration::from_secs(3600));
/// assert!(!format!("{token:?}").contains("eyJhbGciOi"));
///
/// let error = NewToken::bearer("line\nbreak").unwrap_err();
/// assert!(!error.to_string().contains("line"));
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct NewToken {
    header: HeaderValue,
    further: Vec<(HeaderName, HeaderValue)>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    scopes: Option<Box<str>>,
}

impl NewToken {
    /// A bearer token with this text, of unknown lifetime.
    ///
    /// # Errors
    /// The text is empty or holds what can't stand in a header (RFC 6749 A.12: 1*VSCHAR). It is not echoed.
    pub fn bearer(text: &str) -> Result<Self, TokenError> {
        // RFC 6749 A.12: access-token = 1*VSCHAR; VSCHAR = %x20-7E.
        // A blank at either end would not arrive: HTTP trims field values.
        let printable = text.bytes().all(|c| matches!(c, 0x20..=0x7e));
        if text.is_empty() || !printable || text.trim_matches(' ').len() != text.len() {
            return Err(TokenError::new(
                ErrorKind::Malformed,
                "the token is empty or can't stand in a header: ask the provider for one of printable ASCII",
            ));
        }
        // As long as its memory, so boxing it leaves no copy behind.
        let bytes = [SCHEME.as_bytes(), text.as_bytes()].concat();
        Ok(Self {
            header: sensitive(bytes.into())?,
            further: Vec::new(),
            lifetime: None,
            refresh_in: None,
            scopes: None,
        })
    }

    /// How long it lives, counted from before it was asked for. Without, the cache assumes a lifetime.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// When the provider wants it to be refreshed, counted from before it was asked for.
    ///
    /// The cache waits at least 10 seconds, or a quarter of the lifetime if that is less: a zero does not make a loop.
    #[must_use]
    pub fn with_refresh_in(mut self, refresh_in: Duration) -> Self {
        self.refresh_in = Some(refresh_in);
        self
    }

    /// The scopes that were granted, where the provider named them, separated by blanks.
    #[must_use]
    pub fn with_granted_scopes(mut self, scopes: &str) -> Self {
        self.scopes = Some(scopes.into());
        self
    }

    /// A further header that goes with the token, such as the project that is billed.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.further.push((name, value));
        self
    }

    /// The token itself.
    #[cfg(feature = "store")]
    pub(crate) fn expose(&self) -> &str {
        text_of(&self.header)
    }

    /// The headers that go with it.
    #[cfg(feature = "store")]
    pub(crate) fn further_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.further
    }

    /// The scopes that were granted, as the provider wrote them.
    #[cfg(feature = "store")]
    pub(crate) fn granted(&self) -> Option<&str> {
        self.scopes.as_deref()
    }

    /// Whether this is the very same token as that one.
    pub(crate) fn same_text(&self, token: &Token) -> bool {
        self.header == token.0.header
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewToken")
            .field("text", &format_args!("redacted"))
            .field("lifetime", &self.lifetime)
            .field("refresh_in", &self.refresh_in)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// An access token in a cache: its header value and its times. A clone costs one reference count.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// let token = cache.get(&TokenSpec::scopes(["read"])).await?;
/// assert_eq!(token.expose(), "abc");
/// assert!(token.header_value().is_sensitive());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Token(Arc<TokenParts>);

/// What a token is made of; shared by all its clones.
pub(crate) struct TokenParts {
    header: HeaderValue,
    further: Option<Box<Further>>,
    scopes: Option<Box<str>>,
    times: Times,
    stamp: Stamp,
    spec: TokenSpec,
}

/// The headers that go with a token; nearly none has any.
struct Further(Vec<(HeaderName, HeaderValue)>);

impl Further {
    fn new(headers: Vec<(HeaderName, HeaderValue)>) -> Option<Box<Self>> {
        (!headers.is_empty()).then(|| Box::new(Self(headers)))
    }
}

/// A token's times, on the cache's clock. All but the first are kept as spans: there may be very many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    obtained: Moment,
    refresh: Nanos,
    end: Nanos,
    expiry: Nanos,
}

impl Times {
    /// The times of a token that was asked for then, and these spans later is due for refresh, is no longer sent, expires.
    pub(crate) fn new(
        obtained: Moment,
        refresh: Duration,
        end: Duration,
        expiry: Duration,
    ) -> Self {
        Self {
            obtained,
            refresh: refresh.into(),
            end: end.into(),
            expiry: expiry.into(),
        }
    }

    /// Before it was asked for.
    pub(crate) fn obtained(&self) -> Moment {
        self.obtained
    }

    /// From here on it is stale: served, and refreshed behind the scenes.
    pub(crate) fn refresh(&self) -> Moment {
        self.obtained + self.refresh
    }

    /// From here on it is not sent any more: a margin before the provider's end.
    pub(crate) fn end(&self) -> Moment {
        self.obtained + self.end
    }

    /// The provider's end.
    pub(crate) fn expiry(&self) -> Moment {
        self.obtained + self.expiry
    }
}

/// What tells one token of a cache from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Unique in the process, and growing.
    pub(crate) generation: u64,
    /// The first generation of this slot that had this very text: the source may give the same one again.
    pub(crate) same_since: u64,
    /// Why it was fetched.
    pub(crate) reason: Reason,
    /// From where.
    pub(crate) origin: Origin,
}

/// Where a token came from.
///
/// ```
/// assert_eq!(tower_bearer::Origin::Provider.as_str(), "provider");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// From the cache's source.
    Provider,
    /// From the store behind the cache: another process, or an earlier run, asked for it.
    Store,
}

impl Origin {
    /// The origin's name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Store => "store",
        }
    }
}

/// Why a token was fetched.
///
/// ```
/// assert_eq!(tower_bearer::Reason::Stale.as_str(), "stale");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There was none.
    Missing,
    /// The one there was went past its refresh point.
    Stale,
    /// The one there was expired.
    Expired,
    /// The one there was had been rejected.
    Rejected,
    /// Somebody asked for a new one.
    Forced,
    /// A server wanted one with further scopes.
    Widened,
}

impl Reason {
    /// The reason's name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Forced => "forced",
            Self::Widened => "widened",
        }
    }
}

impl TokenParts {
    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    pub(crate) fn generation(&self) -> u64 {
        self.stamp.generation
    }

    /// The value for `Authorization`, unless there are further headers.
    pub(crate) fn only_header(&self) -> Option<&HeaderValue> {
        self.further.is_none().then_some(&self.header)
    }
}

impl Token {
    pub(crate) fn seal(new: NewToken, spec: TokenSpec, times: Times, stamp: Stamp) -> Self {
        Self(Arc::new(TokenParts {
            header: new.header,
            further: Further::new(new.further),
            scopes: new.scopes,
            times,
            stamp,
            spec,
        }))
    }

    pub(crate) fn from_parts(parts: Arc<TokenParts>) -> Self {
        Self(parts)
    }

    pub(crate) fn into_parts(self) -> Arc<TokenParts> {
        self.0
    }

    pub(crate) fn times(&self) -> &Times {
        &self.0.times
    }

    /// Whether another is due.
    pub(crate) fn is_stale(&self, now: Moment) -> bool {
        self.times().refresh().has_come(now)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.0.stamp
    }

    /// Whether its text is another than that of the slot's token of this generation.
    pub(crate) fn differs_from(&self, generation: u64) -> bool {
        generation < self.0.stamp.same_since
    }

    /// A header value with memory of its own, so that two threads don't share a reference count.
    pub(crate) fn private_header(&self) -> HeaderValue {
        sensitive(self.0.header.as_bytes().into()).unwrap_or_else(|_| self.0.header.clone())
    }

    pub(crate) fn further_headers(&self) -> &[(HeaderName, HeaderValue)] {
        self.0
            .further
            .as_ref()
            .map_or(&[], |further| further.0.as_slice())
    }

    /// Bytes of memory that this token holds, for the cache's bound.
    pub(crate) fn weight(&self) -> usize {
        let further = self
            .further_headers()
            .iter()
            .map(|(n, v)| n.as_str().len() + v.len());
        size_of::<TokenParts>()
            + self.0.header.len()
            + self.0.scopes.as_deref().map_or(0, str::len)
            + further.sum::<usize>()
    }

    /// The token itself, in the clear.
    #[must_use]
    pub fn expose(&self) -> &str {
        text_of(&self.0.header)
    }

    /// The value for `Authorization`, marked sensitive.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.0.header
    }

    /// Puts the token's headers on a request of one's own.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.0.header.clone());
        for (name, value) in self.further_headers() {
            headers.insert(name, value.clone());
        }
    }

    /// The spec that it was fetched for. What a server wanted beside it is not in it.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.0.spec
    }

    /// The scopes that were granted, where the provider named them.
    pub fn granted_scopes(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.0.scopes.as_deref()?.split_ascii_whitespace())
    }

    /// Grows with every token that the caches of this process get, and is never given twice.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.stamp.generation
    }

    /// How long it lives by the provider's word, or by the cache's assumption.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.0.times.expiry().left(self.0.times.obtained())
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.stamp.origin
    }

    /// Why it was fetched.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.stamp.reason
    }

    /// When it was asked for.
    #[must_use]
    pub fn obtained_at(&self) -> SystemTime {
        self.0.times.obtained().system_time()
    }

    /// When it is due for refresh.
    #[must_use]
    pub fn refresh_at(&self) -> SystemTime {
        self.0.times.refresh().system_time()
    }

    /// When it ends by the provider's word. The cache stops sending it a little earlier.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.0.times.expiry().system_time()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("text", &format_args!("redacted"))
            .field("generation", &self.generation())
            .field("reason", &self.reason())
            .field("spec", self.spec())
            .finish_non_exhaustive()
    }
}

fn text_of(header: &HeaderValue) -> &str {
    let text = header.as_bytes().strip_prefix(SCHEME.as_bytes());
    text.and_then(|text| str::from_utf8(text).ok())
        .unwrap_or_default()
}

fn sensitive(bytes: Box<[u8]>) -> Result<HeaderValue, TokenError> {
    let mut value = HeaderValue::from_maybe_shared(wiped(Zeroizing::new(bytes)))
        .map_err(|_| TokenError::new(ErrorKind::Malformed, "the token can't stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
