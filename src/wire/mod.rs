//! What goes over the wire, as pure functions from bytes to meaning and back; nothing here reads a clock or a socket.
//!
//! | file | direction |
//! |---|---|
//! | `address` | where a provider is, with its tenant |
//! | `metadata` | what a provider says of itself |
//! | `token_request` | the form of a request to a token endpoint |
//! | `client_auth` | how the client proves itself in it |
//! | `assertion` | what the client says of itself when it signs that |
//! | `token_response` | what the endpoint answered |
//! | `challenge` | what an API demands in `WWW-Authenticate` |
//! | `json` | what stands around JSON |

mod address;
#[cfg(feature = "jwt")]
mod assertion;
mod challenge;
mod client_auth;
mod json;
mod metadata;
mod token_request;
mod token_response;

pub(crate) use address::Address;
#[cfg(feature = "jwt")]
pub(crate) use assertion::client_claims;
pub(crate) use challenge::{Challenge, challenges};
pub(crate) use client_auth::Proof;
pub(crate) use metadata::{Metadata, metadata, well_known};
pub(crate) use token_request::{Form, document_request, token_request};
pub(crate) use token_response::{Answer, Sent, TokenResponse, retry_after, token_response};
