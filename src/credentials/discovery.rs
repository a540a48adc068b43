//! Implements discovery of the token endpoint from a provider's metadata.
//!
//! The metadata of each tenant is fetched on first use, with concurrent callers sharing one fetch, and refreshed daily. If a
//! refresh fails, the cached metadata stays in use, and the next attempt follows after five minutes. A caller waits for a
//! refresh for at most three seconds.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Response, Uri};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    error::{ErrorKind, TokenError},
    oauth::{EndpointResponse, Metadata, document_request, metadata, well_known},
    transport::{Transport, require_tls},
    util::timer,
};

/// Metadata rarely changes, and a provider that moves its token endpoint serves the old URL for a while.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The time between two attempts to refresh metadata.
const RETRY_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How long a caller waits for a refresh.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(3);
/// The number of tenants whose metadata is cached.
const MAX_TENANTS: usize = 1000;

/// The metadata of a provider, by issuer. With `{tenant}` in the configured issuer, each tenant has an issuer.
pub(super) struct Discovery(Cache<String, Arc<TenantMetadata>>);

/// The cached metadata of one tenant.
#[derive(Default)]
struct TenantMetadata {
    latest: std::sync::Mutex<Option<CachedMetadata>>,
    /// Locked during the first fetch; holds its error.
    first_fetch: tokio::sync::Mutex<Option<TokenError>>,
    /// The number of first fetches that ended.
    first_fetches: AtomicU64,
}

#[derive(Clone)]
struct CachedMetadata {
    metadata: Arc<Metadata>,
    /// The URL that it was fetched from.
    url: String,
    /// When the request for it was sent.
    requested_at: Instant,
    refresh_at: Instant,
}

impl Discovery {
    pub(super) fn new() -> Self {
        Self(Cache::new(MAX_TENANTS))
    }

    /// Returns the metadata of this issuer.
    pub(super) async fn metadata(
        &self,
        transport: &Transport,
        issuer: &str,
    ) -> Result<Arc<Metadata>, TokenError> {
        let create = || Ok::<_, TokenError>(Arc::default());
        let tenant_metadata = self.0.get_or_insert_with(issuer, create)?;
        tenant_metadata.metadata(transport, issuer).await
    }

    /// Adds what the metadata of this issuer says about an error of the token endpoint.
    pub(super) fn explain(&self, error: TokenError, issuer: &str) -> TokenError {
        let tenant_metadata = self.0.get(issuer).unwrap_or_default();
        let Some(cached) = &mut *tenant_metadata.lock() else {
            return error;
        };
        match error.kind() {
            // The token endpoint may have moved: a refresh is due, unless the metadata is less than five minutes old.
            ErrorKind::Network | ErrorKind::Malformed | ErrorKind::Refused => {
                let earliest = cached.requested_at + RETRY_INTERVAL;
                cached.refresh_at = cached.refresh_at.min(earliest);
            }
            ErrorKind::InvalidClient if !cached.metadata.auth_methods.is_empty() => {
                let methods = cached.metadata.auth_methods.join(", ");
                let mut hint = format!("its metadata lists the authentication methods {methods}");
                if let Some(reason) = error.description() {
                    hint = format!("{reason}; {hint}");
                }
                return error.with_description(hint);
            }
            _ => {}
        }
        error
    }
}

impl TenantMetadata {
    async fn metadata(
        &self,
        transport: &Transport,
        issuer: &str,
    ) -> Result<Arc<Metadata>, TokenError> {
        let Some(cached) = self.cached() else {
            return self.first(transport, issuer).await;
        };
        let now = Instant::now();
        if now < cached.refresh_at {
            return Ok(cached.metadata);
        }
        // Other callers use the cached metadata from now on, so that at most one caller waits for a slow provider.
        if let Some(cached) = &mut *self.lock() {
            cached.refresh_at = now + RETRY_INTERVAL;
        }
        let fetched = fetch(transport, issuer, Some(&cached.url));
        let error = match timer::within(REFRESH_TIMEOUT, fetched).await {
            Some(Ok(fetched)) => return Ok(self.store(fetched)),
            Some(Err(error)) => error.to_string(),
            None => "the provider did not answer in time".to_owned(),
        };
        warn!(target: "tower_bearer::credentials", issuer, error, "failed to refresh the provider's metadata: using the cached metadata");
        Ok(cached.metadata)
    }

    /// Fetches metadata for the first time. Callers that wait meanwhile share the result.
    async fn first(
        &self,
        transport: &Transport,
        issuer: &str,
    ) -> Result<Arc<Metadata>, TokenError> {
        let count = self.first_fetches.load(Ordering::Acquire);
        let mut failed = self.first_fetch.lock().await;
        if let Some(cached) = self.cached() {
            return Ok(cached.metadata);
        }
        // Another caller's fetch failed while this one waited.
        if let Some(error) = &*failed
            && self.first_fetches.load(Ordering::Acquire) != count
        {
            return Err(error.clone());
        }
        let outcome = fetch(transport, issuer, None).await;
        self.first_fetches.fetch_add(1, Ordering::Release);
        *failed = outcome.as_ref().err().cloned();
        outcome.map(|fetched| self.store(fetched))
    }

    fn cached(&self) -> Option<CachedMetadata> {
        self.lock().clone()
    }

    fn store(&self, cached: CachedMetadata) -> Arc<Metadata> {
        let metadata = cached.metadata.clone();
        *self.lock() = Some(cached);
        metadata
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<CachedMetadata>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches metadata from the first well-known URL that has it, beginning with the one that had it last.
async fn fetch(
    transport: &Transport,
    issuer: &str,
    last: Option<&str>,
) -> Result<CachedMetadata, TokenError> {
    let mut urls = well_known(issuer);
    urls.sort_by_key(|url| Some(url.as_str()) != last);
    let requested_at = Instant::now();
    let mut errors = Vec::new();
    for url in urls {
        let error = match fetch_from(transport, issuer, &url).await {
            Ok(metadata) => {
                debug!(target: "tower_bearer::credentials", url, "fetched the provider's metadata");
                return Ok(CachedMetadata {
                    metadata: Arc::new(metadata),
                    url,
                    requested_at,
                    refresh_at: requested_at + LIFETIME,
                });
            }
            Err(error) => error,
        };
        // All URLs are on one host, so these errors apply to all of them.
        if matches!(
            error.kind(),
            ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Throttled
        ) {
            return Err(error);
        }
        errors.push(error);
    }
    // The first of the errors that explain best why there is no metadata.
    Err(errors.into_iter().rev().max_by_key(rank).unwrap_or_else(|| {
        TokenError::configuration(
            "the issuer has no metadata URL: check the issuer, or configure the token URL itself",
        )
    }))
}

/// Ranks errors by how well they explain why there is no metadata: an invalid document is a better hint than a missing one.
fn rank(error: &TokenError) -> usize {
    let ranks = [
        ErrorKind::Refused,
        ErrorKind::Unavailable,
        ErrorKind::Malformed,
    ];
    let rank = ranks.iter().position(|kind| *kind == error.kind());
    rank.unwrap_or(ranks.len())
}

async fn fetch_from(
    transport: &Transport,
    issuer: &str,
    url: &str,
) -> Result<Metadata, TokenError> {
    let uri = Uri::try_from(url).map_err(|_| {
        TokenError::configuration(
            "the issuer is not a valid URL: check the issuer, or configure the token URL itself",
        )
    })?;
    require_tls(&uri)?;
    let response = transport.send(document_request(uri)).await?;
    if !response.status().is_success() {
        return Err(missing_metadata(&response, url));
    }
    metadata(response.body(), issuer)
        .map_err(|error| error.with_description(format!("fetched from {url}")))
}

fn missing_metadata(response: &Response<Bytes>, url: &str) -> TokenError {
    let status = response.status();
    let (kind, remedy) = match status.as_u16() {
        429 => (
            ErrorKind::Throttled,
            "share one source, and try again later",
        ),
        500..600 => (ErrorKind::Unavailable, "try again later"),
        // A redirect could lead to another party's server.
        300..400 => (
            ErrorKind::Malformed,
            "a redirect is never followed: check the issuer, or configure the token URL itself",
        ),
        _ => (
            ErrorKind::Refused,
            "check the issuer, or configure the token URL itself",
        ),
    };
    let status_code = status.as_u16();
    let message = format!("the provider has no metadata at {url} (status {status_code}): {remedy}");
    let error = TokenError::new(kind, message);
    let answer = EndpointResponse {
        status,
        headers: response.headers(),
        body: response.body(),
        now: SystemTime::now(),
    };
    match answer.retry_after() {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}
