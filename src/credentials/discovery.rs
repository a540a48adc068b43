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
use http::{Response, StatusCode, Uri};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    error::{ErrorKind, TokenError},
    oauth::{EndpointResponse, EndpointUrl, Metadata, document_request, metadata, well_known},
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

/// The metadata of an issuer, per tenant.
pub(super) struct Discovery {
    issuer: EndpointUrl,
    tenants: Cache<String, Arc<TenantMetadata>>,
}

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
    pub(super) fn new(issuer: &str) -> Self {
        Self {
            issuer: EndpointUrl::issuer(issuer),
            tenants: Cache::new(MAX_TENANTS),
        }
    }

    pub(super) fn issuer(&self) -> &EndpointUrl {
        &self.issuer
    }

    /// Returns the metadata for this tenant.
    pub(super) async fn metadata(
        &self,
        transport: &Transport,
        tenant: Option<&str>,
    ) -> Result<Arc<Metadata>, TokenError> {
        let issuer = self.issuer.expand(tenant)?;
        let create = || Ok::<_, TokenError>(Arc::default());
        let tenant_metadata = self.tenants.get_or_insert_with(issuer.as_str(), create)?;
        tenant_metadata.metadata(transport, &issuer).await
    }

    /// Adds what the metadata says about an error of the token endpoint.
    pub(super) fn explain(&self, error: TokenError, tenant: Option<&str>) -> TokenError {
        let issuer = self.issuer.expand(tenant).ok();
        let tenant_metadata = issuer.and_then(|issuer| self.tenants.get(issuer.as_str()));
        let Some(tenant_metadata) = tenant_metadata else {
            return error;
        };
        match error.kind() {
            // The token endpoint may have moved.
            ErrorKind::Network | ErrorKind::Malformed | ErrorKind::Refused => {
                tenant_metadata.mark_stale();
            }
            ErrorKind::InvalidClient => {
                let cached = tenant_metadata.cached();
                let methods = cached.map(|cached| cached.metadata.auth_methods.join(", "));
                if let Some(methods) = methods.filter(|methods| !methods.is_empty()) {
                    let reason = error.description().map(|reason| format!("{reason}; "));
                    let reason = reason.unwrap_or_default();
                    let hint =
                        format!("{reason}its metadata lists the authentication methods {methods}");
                    return error.with_description(hint);
                }
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
        if Instant::now() < cached.refresh_at {
            return Ok(cached.metadata);
        }
        // Other callers use the cached metadata from now on, so that at most one caller waits for a slow provider.
        self.postpone();
        let fetched = fetch(transport, issuer, Some(&cached.url));
        match timer::within(REFRESH_TIMEOUT, fetched).await {
            Some(Ok(fetched)) => Ok(self.store(fetched)),
            Some(Err(error)) => {
                warn!(target: "tower_bearer::credentials", issuer, %error, "failed to refresh the provider's metadata: using the cached metadata");
                Ok(cached.metadata)
            }
            None => {
                warn!(target: "tower_bearer::credentials", issuer, "timed out refreshing the provider's metadata: using the cached metadata");
                Ok(cached.metadata)
            }
        }
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
        match outcome {
            Ok(fetched) => Ok(self.store(fetched)),
            Err(error) => {
                *failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn cached(&self) -> Option<CachedMetadata> {
        self.lock().clone()
    }

    fn store(&self, cached: CachedMetadata) -> Arc<Metadata> {
        let metadata = cached.metadata.clone();
        *self.lock() = Some(cached);
        metadata
    }

    fn postpone(&self) {
        if let Some(cached) = &mut *self.lock() {
            cached.refresh_at = Instant::now() + RETRY_INTERVAL;
        }
    }

    /// Makes a refresh due, unless the metadata is less than five minutes old: the token URL may be outdated.
    fn mark_stale(&self) {
        if let Some(cached) = &mut *self.lock() {
            let earliest = cached.requested_at + RETRY_INTERVAL;
            cached.refresh_at = cached.refresh_at.min(earliest);
        }
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
    let mut worst: Option<TokenError> = None;
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
        // An invalid document is a better hint than a missing one.
        if worst
            .as_ref()
            .is_none_or(|worst| rank(&error) > rank(worst))
        {
            worst = Some(error);
        }
    }
    Err(worst.unwrap_or_else(|| {
        TokenError::configuration(
            "the issuer has no metadata URL: check the issuer, or configure the token URL itself",
        )
    }))
}

/// Ranks errors by how well they explain why there is no metadata.
fn rank(error: &TokenError) -> u8 {
    match error.kind() {
        ErrorKind::Refused => 0,
        ErrorKind::Unavailable => 1,
        ErrorKind::Malformed => 2,
        _ => 3,
    }
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
    let (kind, remedy) = match status {
        StatusCode::TOO_MANY_REQUESTS => (
            ErrorKind::Throttled,
            "share one source, and try again later",
        ),
        _ if status.is_server_error() => (ErrorKind::Unavailable, "try again later"),
        // A redirect could lead to another party's server.
        _ if status.is_redirection() => (
            ErrorKind::Malformed,
            "a redirect is never followed: check the issuer, or configure the token URL itself",
        ),
        _ => (
            ErrorKind::Refused,
            "check the issuer, or configure the token URL itself",
        ),
    };
    let error = TokenError::new(
        kind,
        format!(
            "the provider has no metadata at {url} (status {}): {remedy}",
            status.as_u16()
        ),
    );
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
