//! What goes over the wire, as pure functions from bytes to meaning and back; nothing here reads a clock or a socket.
//!
//! | file | direction |
//! |---|---|
//! | `token_request` | the form and the address of a request to a token endpoint |
//! | `client_auth` | how the client proves itself in it |
//! | `assertion` | what the client says of itself when it signs that |
//! | `token_response` | what the endpoint answered |
//! | `challenge` | what an API demands in `WWW-Authenticate` |

#[cfg(feature = "jwt")]
mod assertion;
mod challenge;
mod client_auth;
mod token_request;
mod token_response;

#[cfg(feature = "jwt")]
pub(crate) use assertion::client_claims;
pub(crate) use challenge::{Challenge, challenges};
pub(crate) use client_auth::Proof;
pub(crate) use token_request::{Form, TokenUrl, token_request};
pub(crate) use token_response::{Answer, Sent, TokenResponse, token_response};
