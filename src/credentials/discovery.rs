//! Where a provider's token endpoint is, by the provider's own metadata.
//!
//! The metadata of each tenant are fetched when they are needed first, by one for all who wait, and anew once a day. A
//! failed fetch never displaces what is known: it is used on, and the next try is due in five minutes. Nobody waits longer
//! than three seconds for metadata that are only due again.

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

/// Metadata seldom change, and a provider that moves keeps the old address for a while.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Between two tries to get them anew.
const PAUSE: Duration = Duration::from_secs(5 * 60);
/// How long a try may hold up those who could go on with the old ones.
const PATIENCE: Duration = Duration::from_secs(3);
/// Tenants whose metadata are kept.
const TENANTS: usize = 1000;

/// The metadata of an issuer, for each tenant of it.
pub(crate) struct Discovery {
    issuer: EndpointUrl,
    tenants: Cache<String, Arc<Document>>,
}

/// What one issuer says of itself.
#[derive(Default)]
struct Document {
    known: std::sync::Mutex<Option<Known>>,
    /// Held by the one who asks.
    asking: tokio::sync::Mutex<Option<TokenError>>,
    /// How many have asked.
    rounds: AtomicU64,
}

#[derive(Clone)]
struct Known {
    metadata: Arc<Metadata>,
    /// Where they were found.
    place: String,
    /// Before they were asked for.
    since: Instant,
    due: Instant,
}

impl Discovery {
    pub(crate) fn new(issuer: &str) -> Self {
        Self {
            issuer: EndpointUrl::issuer(issuer),
            tenants: Cache::new(TENANTS),
        }
    }

    pub(crate) fn issuer(&self) -> &EndpointUrl {
        &self.issuer
    }

    /// The metadata for this tenant.
    pub(crate) async fn metadata(
        &self,
        transport: &Transport,
        tenant: Option<&str>,
    ) -> Result<Arc<Metadata>, TokenError> {
        let issuer = self.issuer.expand(tenant)?;
        let made = || Ok::<_, TokenError>(Arc::default());
        let document = self.tenants.get_or_insert_with(issuer.as_str(), made)?;
        document.metadata(transport, &issuer).await
    }

    /// An error of the endpoint that the metadata name, with what they can say about it.
    pub(crate) fn commented(&self, error: TokenError, tenant: Option<&str>) -> TokenError {
        let document = self.issuer.expand(tenant).ok();
        let document = document.and_then(|issuer| self.tenants.get(issuer.as_str()));
        let Some(document) = document else {
            return error;
        };
        match error.kind() {
            // It may have moved.
            ErrorKind::Network | ErrorKind::Malformed | ErrorKind::Refused => document.doubt(),
            ErrorKind::InvalidClient => {
                let known = document.known();
                let methods = known.map(|known| known.metadata.auth_methods.join(", "));
                if let Some(methods) = methods.filter(|methods| !methods.is_empty()) {
                    let said = error.description().map(|said| format!("{said}; "));
                    let said = said.unwrap_or_default();
                    let hint =
                        format!("{said}its metadata admit the authentication methods {methods}");
                    return error.with_description(hint);
                }
            }
            _ => {}
        }
        error
    }
}

impl Document {
    async fn metadata(
        &self,
        transport: &Transport,
        issuer: &str,
    ) -> Result<Arc<Metadata>, TokenError> {
        let Some(known) = self.known() else {
            return self.first(transport, issuer).await;
        };
        if Instant::now() < known.due {
            return Ok(known.metadata);
        }
        // Noted before anybody asks, so that the others go on, and a hung provider holds up one of them alone.
        self.put_off();
        let asked = ask(transport, issuer, Some(&known.place));
        match timer::within(PATIENCE, asked).await {
            Some(Ok(found)) => Ok(self.keep(found)),
            Some(Err(error)) => {
                warn!(target: "tower_bearer::credentials", issuer, %error, "metadata not refreshed: the old ones stay");
                Ok(known.metadata)
            }
            None => {
                warn!(target: "tower_bearer::credentials", issuer, "metadata not refreshed in time: the old ones stay");
                Ok(known.metadata)
            }
        }
    }

    /// Asks for what nobody knows yet; those who wait meanwhile share what comes of it.
    async fn first(
        &self,
        transport: &Transport,
        issuer: &str,
    ) -> Result<Arc<Metadata>, TokenError> {
        let round = self.rounds.load(Ordering::Acquire);
        let mut failed = self.asking.lock().await;
        if let Some(known) = self.known() {
            return Ok(known.metadata);
        }
        // Another has asked since this one came.
        if let Some(error) = &*failed
            && self.rounds.load(Ordering::Acquire) != round
        {
            return Err(error.clone());
        }
        let outcome = ask(transport, issuer, None).await;
        self.rounds.fetch_add(1, Ordering::Release);
        match outcome {
            Ok(found) => Ok(self.keep(found)),
            Err(error) => {
                *failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn known(&self) -> Option<Known> {
        self.lock().clone()
    }

    fn keep(&self, known: Known) -> Arc<Metadata> {
        let metadata = known.metadata.clone();
        *self.lock() = Some(known);
        metadata
    }

    fn put_off(&self) {
        if let Some(known) = &mut *self.lock() {
            known.due = Instant::now() + PAUSE;
        }
    }

    /// The address that they name is no good, perhaps: they are due again, unless they are quite new.
    fn doubt(&self) {
        if let Some(known) = &mut *self.lock() {
            known.due = known.due.min(known.since + PAUSE);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks each place where the metadata may be, beginning with that of the last time.
async fn ask(transport: &Transport, issuer: &str, last: Option<&str>) -> Result<Known, TokenError> {
    let mut places = well_known(issuer);
    places.sort_by_key(|place| Some(place.as_str()) != last);
    let since = Instant::now();
    let mut worst: Option<TokenError> = None;
    for place in places {
        let error = match ask_at(transport, issuer, &place).await {
            Ok(metadata) => {
                debug!(target: "tower_bearer::credentials", place, "metadata found");
                return Ok(Known {
                    metadata: Arc::new(metadata),
                    place,
                    since,
                    due: since + LIFETIME,
                });
            }
            Err(error) => error,
        };
        // All places are on one host: what can't be reached, or must be left alone, is so for all of them.
        if matches!(
            error.kind(),
            ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Throttled
        ) {
            return Err(error);
        }
        // A document that is no good says more than a place where there is none.
        if worst
            .as_ref()
            .is_none_or(|worst| rank(&error) > rank(worst))
        {
            worst = Some(error);
        }
    }
    Err(worst.unwrap_or_else(|| TokenError::configuration("the issuer has no place for metadata")))
}

/// How much an error says about why there are no metadata.
fn rank(error: &TokenError) -> u8 {
    match error.kind() {
        ErrorKind::Refused => 0,
        ErrorKind::Unavailable => 1,
        ErrorKind::Malformed => 2,
        _ => 3,
    }
}

async fn ask_at(transport: &Transport, issuer: &str, place: &str) -> Result<Metadata, TokenError> {
    let uri = Uri::try_from(place).map_err(|_| {
        TokenError::configuration("the issuer has characters in it that can't be sent")
    })?;
    require_tls(&uri)?;
    let answer = transport.send(document_request(uri)).await?;
    if !answer.status().is_success() {
        return Err(no_document(&answer, place));
    }
    metadata(answer.body(), issuer)
        .map_err(|error| error.with_description(format!("asked {place}")))
}

fn no_document(answer: &Response<Bytes>, place: &str) -> TokenError {
    let status = answer.status();
    let (kind, remedy) = match status {
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Throttled, "share one source, and wait"),
        _ if status.is_server_error() => (ErrorKind::Unavailable, "try again later"),
        // One that led elsewhere could lead to anybody's.
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
            "no metadata of the provider at {place} ({}): {remedy}",
            status.as_u16()
        ),
    );
    let answer = EndpointResponse {
        status,
        headers: answer.headers(),
        body: answer.body(),
        now: SystemTime::now(),
    };
    match answer.retry_after() {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}
