//! Serves the API: reads each request, authorizes it and echoes its body.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::api_call::{ApiCall, ApiCounts};
use super::claims::RequiredClaims;
use super::endpoint::Endpoint;
use super::issuer::Issuer;
use super::protection::{Decision, PresentedToken, Protection};
use super::recorder::Recorder;
use super::response::with_status;
use super::response_body::ResponseBody;
use super::server::{Connection, Handler};

#[derive(Debug)]
pub(super) struct ApiService {
    pub(super) endpoint: Endpoint,
    pub(super) calls: Recorder<ApiCall>,
    pub(super) always_unauthorized: AtomicBool,
    /// The claims that a token must have been requested with.
    required_claims: RwLock<Option<RequiredClaims>>,
    issuer: Arc<Issuer>,
    protection: Protection,
    counts: Mutex<ApiCounts>,
}

impl ApiService {
    pub(super) fn new(issuer: Arc<Issuer>, protection: Protection) -> Self {
        Self {
            endpoint: Endpoint::default(),
            calls: Recorder::new(),
            always_unauthorized: AtomicBool::new(false),
            required_claims: RwLock::default(),
            issuer,
            protection,
            counts: Mutex::default(),
        }
    }

    pub(super) fn require_claims(&self, required_claims: Option<RequiredClaims>) {
        *self
            .required_claims
            .write()
            .unwrap_or_else(PoisonError::into_inner) = required_claims;
    }

    pub(super) fn counts(&self) -> ApiCounts {
        ApiCounts {
            requests: self.endpoint.requests(),
            faulted: self.endpoint.faulted(),
            ..*self.counts_mut()
        }
    }

    pub(super) fn reset(&self) {
        self.endpoint.reset();
        self.calls.clear();
        *self.counts_mut() = ApiCounts::default();
    }

    /// Authorizes the request when the response is due, not when the request arrives.
    fn normal_response(&self, parts: &Parts, body: Bytes) -> Response<ResponseBody> {
        let presented = PresentedToken::of(&parts.headers);
        match self.authorize(parts, &presented) {
            Decision::Pass => {
                let mut response = Response::new(ResponseBody::from(body));
                if let Some(content_type) = parts.headers.get(CONTENT_TYPE) {
                    response
                        .headers_mut()
                        .insert(CONTENT_TYPE, content_type.clone());
                }
                response
            }
            // RFC 6750, section 3.1: "If the request lacks any authentication information [...], the resource server SHOULD NOT
            // include an error code or other error information."
            Decision::NoToken => challenge(StatusCode::UNAUTHORIZED, "Bearer"),
            Decision::InvalidToken => {
                challenge(StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\"")
            }
            Decision::InsufficientScope(scope) => challenge(
                StatusCode::FORBIDDEN,
                &format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""),
            ),
            Decision::InsufficientClaims(claims) => challenge(
                StatusCode::UNAUTHORIZED,
                &format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\""),
            ),
        }
    }

    fn authorize(&self, parts: &Parts, presented: &PresentedToken<'_>) -> Decision {
        if self.always_unauthorized.load(Ordering::Relaxed) {
            return match presented {
                PresentedToken::Nothing => Decision::NoToken,
                _ => Decision::InvalidToken,
            };
        }
        self.protection.authorize(
            parts.uri.path(),
            presented,
            &self.issuer.tokens(),
            self.required_claims
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref(),
            Instant::now(),
        )
    }

    fn record(&self, parts: &Parts, connection: &Connection) -> ApiCall {
        ApiCall {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers: parts.headers.clone(),
            body: Bytes::new(),
            token: match PresentedToken::of(&parts.headers) {
                PresentedToken::Bearer(token) => Some(token.to_owned()),
                _ => None,
            },
            connection: connection.id(),
            status: None,
        }
    }

    fn count_answer(&self, status: StatusCode) {
        let mut counts = self.counts_mut();
        match status {
            StatusCode::UNAUTHORIZED => counts.unauthorized += 1,
            StatusCode::FORBIDDEN => counts.forbidden += 1,
            status if status.is_success() => counts.ok += 1,
            _ => {}
        }
    }

    /// Locks the counters. Those of the endpoint are counted there.
    fn counts_mut(&self) -> MutexGuard<'_, ApiCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for ApiService {
    fn connected(&self) {
        self.counts_mut().connections += 1;
    }

    /// Counts the request as arrived before its body is read.
    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        match parts.headers.contains_key(AUTHORIZATION) {
            true => self.counts_mut().with_token += 1,
            false => self.counts_mut().without_token += 1,
        }
        let entry = self.calls.add(|| self.record(&parts, connection));
        let fault = self.endpoint.receive();

        // An unread body is dropped only after the response is built: dropping it earlier would drain or reset the stream.
        let mut unread = Some(body);
        let mut read = Bytes::new();
        if fault.as_ref().is_none_or(|fault| fault.reads_body())
            && let Some(body) = unread.take()
        {
            let Ok(body) = body.collect().await else {
                return challenge(StatusCode::BAD_REQUEST, "Bearer error=\"invalid_request\"");
            };
            read = body.to_bytes();
            self.counts_mut().body_bytes += read.len() as u64;
            if !read.is_empty() {
                self.calls.update(entry, |call| call.body = read.clone());
            }
        }

        let normal = async { self.normal_response(&parts, read) };
        let response = self
            .endpoint
            .respond(fault.as_deref(), connection, normal)
            .await;
        self.count_answer(response.status());
        self.calls
            .update(entry, |call| call.status = Some(response.status()));
        response
    }
}

fn challenge(status: StatusCode, challenge: &str) -> Response<ResponseBody> {
    let mut response = with_status(status, ResponseBody::empty());
    // Fails only if the test requires a scope that is not a valid header value.
    if let Ok(challenge) = HeaderValue::from_str(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
