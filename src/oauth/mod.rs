//! What goes over the wire, as pure functions from bytes to meaning and back; nothing here reads a clock or a socket.
//!
//! | file | direction |
//! |---|---|
//! | `address` | where a provider is, with its tenant |
//! | `metadata` | what a provider says of itself |
//! | `token_request` | the form of a request to a token endpoint |
//! | `client_auth` | how the client proves itself in it |
//! | `basic` | its id and secret in a header |
//! | `assertion` | what the client says of itself when it signs that |
//! | `claims` | what a server wants of the token, and the client can handle |
//! | `sent` | what of a request must not be seen in an answer |
//! | `token_response` | what the endpoint answered |
//! | `challenge` | what an API demands in `WWW-Authenticate` |
//! | `json` | what stands around JSON |

mod address;
#[cfg(feature = "jwt")]
mod assertion;
mod basic;
mod challenge;
mod claims;
mod client_auth;
mod json;
mod metadata;
mod sent;
mod token_request;
mod token_response;

pub(crate) use address::Address;
#[cfg(feature = "jwt")]
pub(crate) use assertion::client_claims;
pub(crate) use challenge::{Challenge, challenges};
pub(crate) use claims::claims_parameter;
pub(crate) use client_auth::ClientAuthParams;
pub(crate) use metadata::{Metadata, metadata, well_known};
pub(crate) use sent::Sent;
pub(crate) use token_request::{Form, document_request, token_request};
pub(crate) use token_response::{Answer, TokenResponse, retry_after, token_response};
