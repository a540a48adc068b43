//! Defines [`NewToken`], which a source returns, and [`Token`], which the cache makes of it by adding times and a generation.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    secret::wiped,
    token::{
        FetchReason, Times, TokenInner, TokenMeta, TokenOrigin, TokenSpec, inner::ExtraHeaders,
    },
};

const SCHEME: &str = "Bearer ";

/// An access token as a [`TokenSource`](crate::TokenSource) returns it.
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
    pub(crate) extra_headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) scopes: Option<Box<str>>,
}

impl NewToken {
    /// Creates a bearer token with this text and an unknown lifetime.
    ///
    /// # Errors
    /// Returns an error if the text is empty, starts or ends with a space, or contains characters other than printable ASCII (RFC 6749,
    /// appendix A.12). The error does not contain the text.
    pub fn bearer(text: &str) -> Result<Self, TokenError> {
        // RFC 6749 A.12: access-token = 1*VSCHAR; VSCHAR = %x20-7E.
        // HTTP removes spaces at both ends of field values.
        let printable = text.bytes().all(|c| matches!(c, 0x20..=0x7e));
        if text.is_empty() || !printable || text.trim_matches(' ').len() != text.len() {
            return Err(TokenError::new(
                ErrorKind::Malformed,
                "the token is empty or contains characters that are not allowed in a header: check the provider's token response",
            ));
        }
        // The capacity equals the length, so boxing makes no second copy of the token.
        let bytes = [SCHEME.as_bytes(), text.as_bytes()].concat();
        Ok(Self {
            header: sensitive(bytes.into())?,
            extra_headers: Vec::new(),
            lifetime: None,
            refresh_in: None,
            scopes: None,
        })
    }

    /// Sets the lifetime, which counts from before the token was requested. If it is not set, the cache
    /// [assumes](crate::cache::CacheBuilder::with_assumed_lifetime) one.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sets after which time the token should be refreshed, counted from before the token was requested.
    ///
    /// The cache refreshes a token after 10 seconds or a quarter of its lifetime at the earliest, whichever is less.
    #[must_use]
    pub fn with_refresh_in(mut self, refresh_in: Duration) -> Self {
        self.refresh_in = Some(refresh_in);
        self
    }

    /// Sets the scopes that the provider granted, separated by spaces.
    #[must_use]
    pub fn with_granted_scopes(mut self, scopes: &str) -> Self {
        self.scopes = Some(scopes.into());
        self
    }

    /// Adds a header that is sent with the token, for example the project to bill.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.extra_headers.push((name, value));
        self
    }

    /// Returns the token's text.
    #[cfg(feature = "store")]
    pub(crate) fn expose(&self) -> &str {
        text_of(&self.header)
    }

    /// Adds the spec, the times and the metadata.
    pub(crate) fn into_token(self, spec: TokenSpec, times: Times, meta: TokenMeta) -> Token {
        let same_for = meta.generation.saturating_sub(meta.same_since);
        let inner = TokenInner {
            header: self.header,
            extra_headers: (!self.extra_headers.is_empty())
                .then(|| Box::new(ExtraHeaders(self.extra_headers))),
            generation: meta.generation,
            times,
            scopes: self.scopes,
            same_for: u32::try_from(same_for).unwrap_or(u32::MAX),
            reason: meta.reason,
            origin: meta.origin,
        };
        Token::new(Arc::new(inner), spec)
    }

    /// Returns `true` if both tokens have the same text.
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

/// An access token of a cache, with its header value and its times. Cloning is cheap.
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
        &self.inner.times
    }

    /// Returns `true` if the token is due for refresh.
    pub(crate) fn is_stale(&self, now: Moment) -> bool {
        self.times().refresh_at().is_past(now)
    }

    /// Returns the first generation of the slot with the same text, because a source may return the same token again.
    pub(crate) fn same_since(&self) -> u64 {
        self.inner.generation - u64::from(self.inner.same_for)
    }

    /// Returns `true` if the slot's token of this generation had another text.
    pub(crate) fn differs_from(&self, generation: u64) -> bool {
        // The token of a wider spec may be older than the one that was sent.
        generation < self.same_since() || generation > self.generation()
    }

    /// Returns a copy of the header value that shares no reference count with other threads.
    pub(crate) fn private_header(&self) -> HeaderValue {
        let header = self.header_value();
        sensitive(header.as_bytes().into()).unwrap_or_else(|_| header.clone())
    }

    /// Returns the token's text, unredacted.
    #[must_use]
    pub fn expose(&self) -> &str {
        text_of(self.header_value())
    }

    /// Returns the value of the `Authorization` header, which is marked sensitive.
    #[must_use]
    pub fn header_value(&self) -> &HeaderValue {
        &self.inner.header
    }

    /// Inserts the token's headers, for requests that are sent without [`AuthLayer`](crate::AuthLayer).
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.header_value().clone());
        for (name, value) in self.inner.extra_headers() {
            headers.insert(name, value.clone());
        }
    }

    /// Returns the spec that the token was fetched for. Claims that a server required are not part of it.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// Returns the scopes that the provider granted, or `None` if its response did not name them.
    pub fn granted_scopes(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.inner.scopes.as_ref()?.split_ascii_whitespace())
    }

    /// Returns the token's generation: a number that is unique in this process and larger than those of earlier tokens.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// Returns the lifetime that the provider sent, or the one that the cache assumes.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        let times = self.times();
        times.expires_at().remaining(times.requested_at())
    }

    /// Returns whether the token came from the provider or from a store.
    #[must_use]
    pub fn origin(&self) -> TokenOrigin {
        self.inner.origin
    }

    /// Returns why the token was fetched.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.inner.reason
    }

    /// Returns when the token was requested.
    #[must_use]
    pub fn requested_at(&self) -> SystemTime {
        self.times().requested_at().system_time()
    }

    /// Returns when the token is due for refresh.
    #[must_use]
    pub fn refresh_at(&self) -> SystemTime {
        self.times().refresh_at().system_time()
    }

    /// Returns when the token expires. The cache stops using it up to 10 seconds earlier.
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
    let mut value = HeaderValue::from_maybe_shared(wiped(Zeroizing::new(bytes))).map_err(|_| {
        TokenError::new(
            ErrorKind::Malformed,
            "the token contains characters that are not allowed in a header",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
