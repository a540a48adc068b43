//! The API over HTTP: reads, judges, echoes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer_body::AnswerBody;
use super::api_call::{ApiCall, ApiCounts};
use super::claims::Demand;
use super::issuer::Issuer;
use super::json_answer::answer;
use super::protection::{Judgement, Presented, Protection};
use super::recorder::Recorder;
use super::server::{App, Connection};
use super::stage::Stage;

#[derive(Debug)]
pub(super) struct ApiService {
    pub(super) stage: Stage,
    pub(super) calls: Recorder<ApiCall>,
    pub(super) always_unauthorized: AtomicBool,
    /// What tokens must have been asked for with.
    demand: RwLock<Option<Demand>>,
    issuer: Arc<Issuer>,
    protection: Protection,
    counts: Mutex<ApiCounts>,
}

impl ApiService {
    pub(super) fn new(issuer: Arc<Issuer>, protection: Protection) -> Self {
        Self {
            stage: Stage::default(),
            calls: Recorder::new(),
            always_unauthorized: AtomicBool::new(false),
            demand: RwLock::default(),
            issuer,
            protection,
            counts: Mutex::default(),
        }
    }

    pub(super) fn demand(&self, demand: Option<Demand>) {
        *self.demand.write().unwrap_or_else(PoisonError::into_inner) = demand;
    }

    pub(super) fn counts(&self) -> ApiCounts {
        ApiCounts {
            requests: self.stage.requests(),
            faulted: self.stage.faulted(),
            ..*self.counts_mut()
        }
    }

    pub(super) fn reset(&self) {
        self.stage.reset();
        self.calls.clear();
        *self.counts_mut() = ApiCounts::default();
    }

    /// The token is judged when the answer is due, not when the request arrives.
    fn answer(&self, parts: &Parts, body: Bytes) -> Response<AnswerBody> {
        let presented = Presented::of(&parts.headers);
        match self.judge(parts, &presented) {
            Judgement::Pass => {
                let mut response = Response::new(AnswerBody::from(body));
                if let Some(content_type) = parts.headers.get(CONTENT_TYPE) {
                    response
                        .headers_mut()
                        .insert(CONTENT_TYPE, content_type.clone());
                }
                response
            }
            // RFC 6750, section 3.1: "If the request lacks any authentication information [...], the resource server SHOULD NOT
            // include an error code or other error information."
            Judgement::NoToken => challenge(StatusCode::UNAUTHORIZED, "Bearer"),
            Judgement::InvalidToken => {
                challenge(StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\"")
            }
            Judgement::InsufficientScope(scope) => challenge(
                StatusCode::FORBIDDEN,
                &format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""),
            ),
            Judgement::InsufficientClaims(claims) => challenge(
                StatusCode::UNAUTHORIZED,
                &format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\""),
            ),
        }
    }

    fn judge(&self, parts: &Parts, presented: &Presented<'_>) -> Judgement {
        if self.always_unauthorized.load(Ordering::Relaxed) {
            return match presented {
                Presented::Nothing => Judgement::NoToken,
                _ => Judgement::InvalidToken,
            };
        }
        self.protection.judge(
            parts.uri.path(),
            presented,
            &self.issuer.tokens(),
            self.demand
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
            token: match Presented::of(&parts.headers) {
                Presented::Bearer(token) => Some(token.to_owned()),
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

    /// The counters but for those of the stage.
    fn counts_mut(&self) -> MutexGuard<'_, ApiCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App for ApiService {
    fn connected(&self) {
        self.counts_mut().connections += 1;
    }

    /// A request has arrived with its head; the body may take its time.
    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        match parts.headers.contains_key(AUTHORIZATION) {
            true => self.counts_mut().with_token += 1,
            false => self.counts_mut().without_token += 1,
        }
        let entry = self.calls.add(|| self.record(&parts, connection));
        let fault = self.stage.arrive();

        // An unread body is kept until the answer stands: dropped earlier, it would be drained or cut off.
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
                self.calls.amend(entry, |call| call.body = read.clone());
            }
        }

        let proper = async { self.answer(&parts, read) };
        let response = self
            .stage
            .perform(fault.as_deref(), connection, proper)
            .await;
        self.count_answer(response.status());
        self.calls
            .amend(entry, |call| call.status = Some(response.status()));
        response
    }
}

fn challenge(status: StatusCode, challenge: &str) -> Response<AnswerBody> {
    let mut response = answer(status, AnswerBody::empty());
    // Only a scope that no header can carry, set by the test, fails here.
    if let Ok(challenge) = HeaderValue::from_str(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
