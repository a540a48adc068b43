//! A token, and what a source hands over when it has got one.
//!
//! [`NewToken`] is what a source knows: the text and what the provider said about it. [`Token`] is what the cache
//! makes of it: the same with deadlines, a generation, and the header value, built once.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    secret::wiped,
    token::{FetchReason, Times, TokenInner, TokenMeta, TokenOrigin, TokenSpec},
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

    /// Adds what the cache knows of the token.
    pub(crate) fn into_token(self, spec: TokenSpec, times: Times, meta: TokenMeta) -> Token {
        let inner = TokenInner::new(self.header, self.further, self.scopes, times, meta);
        Token { inner, spec }
    }

    /// Whether this is the very same token as that one.
    pub(crate) fn same_text(&self, token: &Token) -> bool {
        self.header == *token.header_value()
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

/// An access token in a cache: its header value and its times. A clone costs two reference counts.
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
pub struct Token {
    inner: Arc<TokenInner>,
    spec: TokenSpec,
}

impl Token {
    pub(crate) fn new(inner: Arc<TokenInner>, spec: TokenSpec) -> Self {
        Self { inner, spec }
    }

    pub(crate) fn inner(&self) -> &Arc<TokenInner> {
        &self.inner
    }

    pub(crate) fn times(&self) -> &Times {
        self.inner.times()
    }

    /// Whether another is due.
    pub(crate) fn is_stale(&self, now: Moment) -> bool {
        self.times().refresh_at().is_past(now)
    }

    /// The first generation of this slot that had this very text: the source may give the same one again.
    pub(crate) fn same_since(&self) -> u64 {
        self.inner.same_since()
    }

    /// Whether its text is another than that of the slot's token of this generation.
    pub(crate) fn differs_from(&self, generation: u64) -> bool {
        // The token of a wider spec may be older than the one that was sent.
        generation < self.same_since() || generation > self.generation()
    }

    /// A header value with memory of its own, so that two threads don't share a reference count.
    pub(crate) fn private_header(&self) -> HeaderValue {
        let header = self.header_value();
        sensitive(header.as_bytes().into()).unwrap_or_else(|_| header.clone())
    }

    pub(crate) fn further_headers(&self) -> &[(HeaderName, HeaderValue)] {
        self.inner.further_headers()
    }

    /// The token itself, in the clear.
    #[must_use]
    pub fn expose(&self) -> &str {
        text_of(self.header_value())
    }

    /// The value for `Authorization`, marked sensitive.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        self.inner.header()
    }

    /// Puts the token's headers on a request of one's own.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.header_value().clone());
        for (name, value) in self.further_headers() {
            headers.insert(name, value.clone());
        }
    }

    /// The spec that it was fetched for. What a server wanted beside it is not in it.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// The scopes that were granted, where the provider named them.
    pub fn granted_scopes(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.inner.scopes()?.split_ascii_whitespace())
    }

    /// Grows with every token that the caches of this process get, and is never given twice.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation()
    }

    /// How long it lives by the provider's word, or by the cache's assumption.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.times()
            .expires_at()
            .remaining(self.times().requested_at())
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> TokenOrigin {
        self.inner.origin()
    }

    /// Why it was fetched.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.inner.reason()
    }

    /// When it was asked for.
    #[must_use]
    pub fn requested_at(&self) -> SystemTime {
        self.times().requested_at().system_time()
    }

    /// When it is due for refresh.
    #[must_use]
    pub fn refresh_at(&self) -> SystemTime {
        self.times().refresh_at().system_time()
    }

    /// When it ends by the provider's word. The cache stops sending it a little earlier.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.times().expires_at().system_time()
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
