//! What goes over the wire, as pure functions from bytes to meaning and back; nothing here reads a clock or a socket.
//!
//! | file | direction |
//! |---|---|
//! | `endpoint_url` | where a provider is, with its tenant |
//! | `metadata` | what a provider says of itself |
//! | `token_request` | the form of a request to a token endpoint |
//! | `client_auth` | how the client proves itself in it |
//! | `basic` | its id and secret in a header |
//! | `assertion` | what the client says of itself when it signs that |
//! | `claims` | what a server wants of the token, and the client can handle |
//! | `redactor` | what of a request must not be seen in an answer |
//! | `endpoint_response` | what came back, before its body is read |
//! | `token_response` | the token in it |
//! | `error_response` | whose fault it is that there is none |
//! | `challenge` | what an API demands in `WWW-Authenticate` |
//! | `json` | what stands around JSON |

#[cfg(feature = "jwt")]
mod assertion;
mod basic;
mod challenge;
mod claims;
mod client_auth;
mod endpoint_response;
mod endpoint_url;
mod error_response;
mod json;
mod metadata;
mod redactor;
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
