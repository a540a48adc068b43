//! This module builds requests to OAuth providers and reads their responses and challenges. All functions are pure: they use no
//! clock and no I/O.
//!
//! | file | content |
//! |---|---|
//! | `endpoint_url` | configured URLs of a provider, which may contain `{tenant}` |
//! | `metadata` | authorization server metadata |
//! | `token_request` | the form and the headers of a token request |
//! | `client_auth` | client authentication in a token request |
//! | `basic` | client id and secret in `Authorization: Basic` |
//! | `assertion` | the claims of a client assertion |
//! | `claims` | the `claims` parameter |
//! | `redactor` | removal of secrets that a provider echoes |
//! | `endpoint_response` | a response before its body is parsed, and its headers |
//! | `token_response` | successful token responses |
//! | `error_response` | error responses |
//! | `challenge` | `WWW-Authenticate` headers |
//! | `text` | cleaning of texts that a provider sends |

#[cfg(feature = "jwt")]
mod assertion;
mod basic;
mod challenge;
mod claims;
mod client_auth;
mod endpoint_response;
mod endpoint_url;
mod error_response;
mod metadata;
mod redactor;
mod text;
mod token_request;
mod token_response;
#[cfg(test)]
mod token_response_tests;

#[cfg(feature = "jwt")]
pub(crate) use assertion::client_claims;
pub(crate) use challenge::{Challenge, challenges};
pub(crate) use claims::claims_parameter;
pub(crate) use client_auth::PreparedClientAuth;
pub(crate) use endpoint_response::EndpointResponse;
pub(crate) use endpoint_url::EndpointUrl;
pub(crate) use metadata::{Metadata, metadata, well_known};
pub(crate) use redactor::Redactor;
pub(crate) use token_request::{Form, document_request, token_request};
pub(crate) use token_response::{TokenResponse, token_response};
