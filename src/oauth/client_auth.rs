//! This module adds client authentication to a token request.

use http::{HeaderMap, header::AUTHORIZATION};

use super::{basic::basic_header, redactor::Redactor, token_request::Form};
use crate::{error::TokenError, secret::Exposed};

/// Client authentication that was prepared for one token request.
pub(crate) enum PreparedClientAuth {
    /// `client_secret_basic`: id and secret in the header `Authorization: Basic`.
    Basic(Exposed),
    /// `client_secret_post`: id and secret as parameters of the form.
    Post(Exposed),
    /// A client assertion, and the secret that it was signed with, if any. That secret is not sent.
    Assertion(Exposed, Option<Exposed>),
    /// Only the client id: the client is public, or authenticates with its TLS certificate.
    Id,
}

impl PreparedClientAuth {
    /// Adds the client authentication to the form or the headers.
    pub(crate) fn apply<'a>(
        &'a self,
        id: &'a str,
        form: &mut Form<'a>,
        headers: &mut HeaderMap,
    ) -> Result<(), TokenError> {
        match self {
            Self::Basic(secret) => {
                headers.insert(AUTHORIZATION, basic_header(id, secret.as_str())?);
            }
            Self::Post(secret) => {
                form.push("client_id", id);
                form.push("client_secret", secret.as_str());
            }
            Self::Assertion(assertion, _) => {
                // RFC 7521 §4.2: "The "client_id" is unnecessary for client assertion authentication because the client
                // is identified by the subject within the assertion. If present, the value of the "client_id" parameter
                // MUST identify the same client". Microsoft Entra ID requires it.
                form.push("client_id", id);
                form.push("client_assertion_type", JWT_BEARER);
                form.push("client_assertion", assertion.as_str());
            }
            // RFC 8705 §2: "For all requests to the authorization server utilizing mutual-TLS client authentication, the
            // client MUST include the "client_id" parameter".
            Self::Id => form.push("client_id", id),
        }
        Ok(())
    }

    /// Returns a redactor for the secrets that this authentication uses.
    pub(crate) fn redactor(&self, id: &str) -> Redactor {
        let mut redactor = Redactor::default();
        let secret = match self {
            Self::Basic(secret) | Self::Post(secret) => Some(secret),
            Self::Assertion(assertion, secret) => {
                redactor.add(assertion.as_str());
                // The provider knows the secret too, so it could be in a response.
                secret.as_ref()
            }
            Self::Id => None,
        };
        if let Some(secret) = secret {
            redactor.add_client(id, secret.as_str());
        }
        redactor
    }
}

/// RFC 7523 §2.2: "The value of the "client_assertion_type" is
/// "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"."
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
