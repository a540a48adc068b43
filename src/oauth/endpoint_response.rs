//! This module holds the response of a provider before its body is parsed, and reads its headers.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, StatusCode,
    header::{AsHeaderName, CONTENT_TYPE, DATE, RETRY_AFTER},
};

/// The longest accepted `Retry-After`. The cache applies a shorter limit.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(366 * 24 * 3600);

/// A response of a token endpoint or a metadata URL.
pub(crate) struct EndpointResponse<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The local time at which the response arrived.
    pub(crate) now: SystemTime,
}

impl EndpointResponse<'_> {
    /// Returns the time to wait before the next request, if the provider requires one.
    // RFC 9110 §10.2.3: Retry-After = HTTP-date / delay-seconds
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER)?.trim();
        let wait = if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
            Duration::from_secs(text.parse().unwrap_or(u64::MAX))
        } else {
            let time = httpdate::parse_http_date(text).ok()?;
            time.duration_since(self.provider_time())
                .unwrap_or_default()
        };
        Some(wait.min(MAX_RETRY_AFTER))
    }

    /// Returns the time of the header `Date`, otherwise the local time.
    pub(super) fn provider_time(&self) -> SystemTime {
        self.header(DATE)
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or(self.now)
    }

    /// Returns the media type without its parameters.
    pub(super) fn content_type(&self) -> &str {
        let value = self.header(CONTENT_TYPE).unwrap_or_default();
        value
            .split_once(';')
            .map_or(value, |(media, _)| media)
            .trim()
    }

    /// Returns a header if it is printable ASCII.
    pub(super) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
