//! Serves the endpoints of the authorization server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{CONTENT_TYPE, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::client_auth::{AuthMethod, RequestContext};
use super::endpoint::Endpoint;
use super::form::Form;
use super::grants;
use super::issuer::Issuer;
use super::metadata::{MetadataStandard, parse_path};
use super::oauth_error::OAuthError;
use super::recorder::Recorder;
use super::response::{json_response, with_status};
use super::response_body::ResponseBody;
use super::server::{Connection, Handler};
use super::token_call::{TokenCall, TokenCounts};

#[derive(Debug)]
pub(super) struct TokenService {
    pub(super) issuer: Arc<Issuer>,
    pub(super) origin: String,
    pub(super) endpoint: Endpoint,
    /// Metadata requests have separate faults and counters.
    pub(super) metadata_endpoint: Endpoint,
    pub(super) calls: Recorder<TokenCall>,
    counts: Mutex<TokenCounts>,
}

impl TokenService {
    pub(super) fn new(issuer: Arc<Issuer>, origin: String) -> Self {
        Self {
            issuer,
            origin,
            endpoint: Endpoint::default(),
            metadata_endpoint: Endpoint::default(),
            calls: Recorder::new(),
            counts: Mutex::default(),
        }
    }

    pub(super) fn counts(&self) -> TokenCounts {
        TokenCounts {
            requests: self.endpoint.requests(),
            faulted: self.endpoint.faulted(),
            ..self.counts_mut().clone()
        }
    }

    pub(super) fn reset(&self) {
        self.endpoint.reset();
        self.metadata_endpoint.reset();
        self.calls.clear();
        *self.counts_mut() = TokenCounts::default();
    }

    /// Counts the request as arrived after recording it, so that a test that waited for it finds it in the record.
    async fn token(
        &self,
        parts: &Parts,
        form: &Form,
        connection: &Connection,
    ) -> Response<ResponseBody> {
        let entry = self.calls.add(|| TokenCall {
            form: form.clone().into_pairs(),
            auth: AuthMethod::of(self.context(parts, connection), form),
            headers: parts.headers.clone(),
            version: parts.version,
            connection: connection.id(),
            status: None,
        });
        if let Ok(Some(grant)) = form.one("grant_type") {
            let mut counts = self.counts_mut();
            *counts.grants.entry(grant.to_owned()).or_default() += 1;
        }
        let fault = self.endpoint.receive();
        let context = self.context(parts, connection);
        let normal = async { self.issue(parts, context, form) };
        let response = self
            .endpoint
            .respond(fault.as_deref(), connection, normal)
            .await;
        self.calls
            .update(entry, |call| call.status = Some(response.status()));
        response
    }

    /// Locks the counters. Those of the endpoint are counted there.
    fn counts_mut(&self) -> MutexGuard<'_, TokenCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn context<'a>(&'a self, parts: &'a Parts, connection: &'a Connection) -> RequestContext<'a> {
        RequestContext {
            headers: &parts.headers,
            certificate: connection.certificate(),
            origin: &self.origin,
            path: parts.uri.path(),
        }
    }

    fn issue(
        &self,
        parts: &Parts,
        context: RequestContext<'_>,
        form: &Form,
    ) -> Response<ResponseBody> {
        let response = require_form_post(parts).and_then(|()| self.issuer.token(context, form));
        match response {
            Ok(_) => self.counts_mut().issued += 1,
            Err(_) => self.counts_mut().refused += 1,
        }
        into_response(response)
    }

    async fn document(
        &self,
        parts: &Parts,
        standard: MetadataStandard,
        issuer: &str,
        connection: &Connection,
    ) -> Response<ResponseBody> {
        let fault = self.metadata_endpoint.receive();
        let (oauth, openid) = self.issuer.settings().metadata;
        let exists = match standard {
            MetadataStandard::OAuth => oauth,
            MetadataStandard::OpenId => openid,
        };
        let normal = async {
            match parts.method {
                _ if !exists => empty(StatusCode::NOT_FOUND),
                Method::GET | Method::HEAD => json_response(StatusCode::OK, &self.metadata(issuer)),
                _ => empty(StatusCode::METHOD_NOT_ALLOWED),
            }
        };
        self.metadata_endpoint
            .respond(fault.as_deref(), connection, normal)
            .await
    }

    /// Returns the metadata of the issuer with this path: RFC 8414, and what OpenID Connect Discovery has in common with it.
    fn metadata(&self, path: &str) -> Value {
        let origin = &self.origin;
        let methods = json!([
            "client_secret_basic",
            "client_secret_post",
            "client_secret_jwt",
            "private_key_jwt",
            "tls_client_auth",
        ]);
        let mut metadata = json!({
            "issuer": format!("{origin}{path}"),
            "token_endpoint": format!("{origin}{path}{TOKEN}", path = path.trim_end_matches('/')),
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": SIGNATURES,
            "introspection_endpoint": format!("{origin}{INTROSPECT}"),
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint": format!("{origin}{REVOKE}"),
            "revocation_endpoint_auth_methods_supported": methods,
            "grant_types_supported": grants::NAMES,
            "response_types_supported": [],
        });
        if let Some(scopes) = &self.issuer.settings().allowed_scopes {
            metadata["scopes_supported"] = json!(scopes);
        }
        metadata
    }
}

impl Handler for TokenService {
    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_FORM).collect().await else {
            return OAuthError::invalid_request("the body is too long or incomplete")
                .into_response();
        };
        let body = body.to_bytes();
        let (context, form) = (self.context(&parts, connection), || Form::parse(&body));
        let path = parts.uri.path();
        if let Some((standard, issuer)) = parse_path(path) {
            return self.document(&parts, standard, issuer, connection).await;
        }
        match path {
            // Issuers with a path have a token endpoint too.
            path if path.ends_with(TOKEN) => self.token(&parts, &form(), connection).await,
            INTROSPECT => into_response(
                require_form_post(&parts).and_then(|()| self.issuer.introspect(context, &form())),
            ),
            REVOKE => into_response(
                require_form_post(&parts).and_then(|()| self.issuer.revocation(context, &form())),
            ),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }
}

/// Returns an error unless the request is a form sent by POST.
fn require_form_post(parts: &Parts) -> Result<(), OAuthError> {
    if parts.method != Method::POST {
        return Err(OAuthError::wrong_method());
    }
    if !is_form(&parts.headers) {
        return Err(OAuthError::invalid_request(
            "the content type must be application/x-www-form-urlencoded",
        ));
    }
    Ok(())
}

fn into_response(response: Result<Value, OAuthError>) -> Response<ResponseBody> {
    match response {
        Ok(response) => json_response(StatusCode::OK, &response),
        Err(error) => error.into_response(),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    essence
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn empty(status: StatusCode) -> Response<ResponseBody> {
    with_status(status, ResponseBody::empty())
}

pub(super) const TOKEN: &str = "/token";
const INTROSPECT: &str = "/introspect";
const REVOKE: &str = "/revoke";
const SIGNATURES: [&str; 10] = [
    "HS256", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];
const MAX_FORM: usize = 1 << 20;
